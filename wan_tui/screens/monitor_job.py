"""The job that runs, or the last that did: its stages, what is left, its memory, what it said."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import chop_cells

from engine.events import JobCancelled, JobFailed, JobFinished
from wan_tui.drawing import UNKNOWN, bar, clock
from wan_tui.live import Live
from wan_tui.now import JobNow, Spell
from wan_tui.screens.monitor_figures import known
from wan_tui.screens.monitor_lines import Line, Piece
from wan_tui.text import one_line
from wan_tui.widgets.listing import fitted

STAGES = ("check", "encode", "denoise", "decode", "write")
_UNITS = {"denoise": "step", "decode": "frame"}
_IN = "   "
_STOPPED = {"user": "Stopped on request.", "terminated": "Stopped with the program."}


@dataclass(frozen=True)
class Around:
    """What is known beside the job: its prompt, None where that is not known; how many wait; keys by actions."""

    prompt: str | None
    waiting: int
    keys: Mapping[str, str]
    now: float


def current(live: Live, waiting: Sequence[str]) -> JobNow | None:
    """The job that runs, or is about to; else the one that was over last."""
    over = [job for job in live.jobs.values() if job.end]
    return live.at_work(waiting) or max(over, key=lambda job: job.end.time if job.end else 0.0, default=None)


def job_lines(job: JobNow | None, around: Around, width: int) -> list[Line]:
    """A title, then what is known, the weightiest first."""
    if job is None:
        compose, demo = (around.keys.get(name, "the palette") for name in ("app.composer", "app.demo"))
        waits = f" {around.waiting} wait." if around.waiting else ""
        return [
            ((" Job", "title"),),
            (f"{_IN}Nothing runs.{waits}",),
            ((f"{_IN}{compose} asks for a video, {demo} renders the demo.", "dim"),),
        ]
    lines = [
        _title(job, around, width),
        ((f"{_IN}{_prompt(around, width - 6)}", "dim"),),
        _stages(job, around.now, width),
    ]
    lines += _result(job, width) if job.end else _doing(job, around.now, width)
    lines.append(_memory(job, width))
    lines += _warnings(job, width)
    return lines


def _prompt(around: Around, width: int) -> str:
    if around.prompt is None:
        return UNKNOWN
    return fitted(around.prompt, width).rstrip() or "no prompt"


def _title(job: JobNow, around: Around, width: int) -> Line:
    sign: dict[str, Piece] = {
        "finished": ("✓ finished", "good"),
        "failed": ("✗ failed", "bad"),
        "cancelled": ("– cancelled", "dim"),
    }
    state = sign.get(job.state, ("▶ runs" if job.started else "▶ starts", "accent"))
    since, until = job.started, job.end.time if job.end else around.now
    took = job.end.seconds if isinstance(job.end, JobFinished) else None  # as the queue and the clip tell it
    parts = [clock(took if took is not None else until - since) if since else "", job.device or "", job.id]
    tail = " · ".join(filter(None, (*parts, f"{around.waiting} more waiting" if around.waiting else "")))
    name = one_line(job.model)
    room = width - 7 - len(state[0]) - 2 - len(name) - 3
    return (" Job   ", "title"), state, "  ", name, "   ", (fitted(tail, max(0, room)).rstrip(), "dim")


# Its stages


def _stages(job: JobNow, now: float, width: int) -> Line:
    last: dict[str, Spell] = {spell.name: spell for spell in job.spells}
    line: list[Piece] = [_IN]
    for name in STAGES:
        spell = last.get(name)
        if spell is None:
            line.append((f"· {name}  ", "dim"))
        elif spell.seconds is not None:
            line += [("✓ ", "good"), f"{name} {_seconds(spell.seconds)}  " if width >= 72 else f"{name}  "]
        elif job.end:
            line.append((f"✗ {name}  ", "bad") if job.state == "failed" else (f"– {name}  ", "dim"))
        else:
            line += [("▶ ", "accent"), (f"{name} ", "title"), f"{clock(now - spell.since)}  "]
    return tuple(line)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


# What it does


def _doing(job: JobNow, now: float, width: int) -> list[Line]:
    """Two lines: how far the stage is, and how long all of it will take yet."""
    progress = job.progress
    if job.component:
        note = " (the screen may stand still for a moment)" if job.component == "tokenizer" else ""
        return [(_IN, ("▶ ", "accent"), (f"load {job.component}", "title"), note), _left(job, now)]
    if progress is None:
        held = job.warnings[-1].message if job.warnings and job.stage is None else ""
        text = held or (f"{job.stage} has begun" if job.stage else "loading the libraries")
        return [(f"{_IN}{fitted(text, width - 6).rstrip()}",), _left(job, now)]
    unit = _UNITS.get(progress.stage, "unit")
    pace = progress.seconds_per_unit
    told = f"{unit} {progress.done:>{len(str(progress.total))}} of {progress.total}"
    told += f"   {UNKNOWN if pace is None else f'{pace:.2f}'} s a {unit}"
    share = progress.done / progress.total if progress.total else None
    return [(_IN, (bar(share, max(6, min(60, width - len(told) - 8))), "ours"), f"  {told}"), _left(job, now)]


def _left(job: JobNow, now: float) -> Line:
    """What follows from figures that are known: those of stages that have not begun are the plan's."""
    stage, planned = job.stage or "start", _planned(job)
    eta = job.progress.eta_s if job.progress else None
    ahead = [name for name in STAGES[1:4] if name not in {spell.name for spell in job.spells}]
    rest = _sum([_rest(job, planned, eta, now), *(planned.get(name) for name in ahead)])
    plan = job.plan.seconds if job.plan else None
    predicted = f"   predicted: {clock(plan)}" if plan is not None else ""
    first = f"{_IN}{stage}: {_still(eta)}   in all: {_still(rest)}{predicted}"
    then = [f"{name} {clock(planned[name])}" for name in ahead if planned.get(name) is not None]
    unknown = [name for name in ahead if planned.get(name) is None]
    told = [f"   {', '.join(then)}"] if then else []
    told += [f"   {', '.join(unknown)} not known yet"] if unknown else []
    return first, ("".join(told), "dim")


def _rest(job: JobNow, planned: Mapping[str, float | None], eta: float | None, now: float) -> float | None:
    """Seconds that the stage under way will take yet: as it goes, else as it was planned."""
    if eta is not None or job.stage in (None, "check"):
        return eta or 0.0
    spell = next((spell for spell in reversed(job.spells) if spell.name == job.stage), None)
    if spell is None or spell.seconds is not None:
        return 0.0
    whole = planned.get(spell.name)
    return None if whole is None else max(0.0, whole - (now - spell.since))


def _planned(job: JobNow) -> dict[str, float | None]:
    """Seconds of encode, denoise and decode by the plan, whose stages are finer."""
    found: dict[str, list[float | None]] = {}
    for stage in job.plan.stages if job.plan else ():
        name = stage["name"] if stage["name"] in STAGES else "encode"
        found.setdefault(name, []).append(stage["seconds"])
    return {name: _sum(parts) for name, parts in found.items()}


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _still(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{clock(seconds)} left"


def _result(job: JobNow, width: int) -> list[Line]:
    room = width - 6
    match job.end:
        case JobFinished() as end:
            facts = [f"{end.frames} frames" if end.frames else "", f"{end.width}x{end.height}" if end.width else ""]
            facts += [f"seed {end.seed}" if end.seed is not None else "", _seconds(end.seconds) if end.seconds else ""]
            return [(_IN, (fitted(end.output or "no video", room, keep="end").strip(), "good")),
                    (f"{_IN}{'   '.join(filter(None, facts))}",)]  # fmt: skip
        case JobFailed() as end:
            return [(_IN, (fitted(end.message, room).rstrip(), "bad")), (_IN, (f"[{one_line(end.code)}]", "dim"))]
        case JobCancelled() as end:
            return [(f"{_IN}{_STOPPED.get(end.reason, fitted(end.reason, room).rstrip())}",)]
    return []


def _memory(job: JobNow, width: int) -> Line:
    """What the plan expects beside what it took."""
    plan = job.plan
    vram, ram = (plan.vram_bytes, plan.ram_bytes) if plan else (None, None)
    on_cpu = (job.device or "").upper() == "CPU"
    peaks = [] if on_cpu else [("VRAM", job.peak_vram_bytes, vram)]
    peaks.append(("RAM", job.peak_rss_bytes, ram))
    text = "   ".join(f"{what} peak {known(peak):>8}, predicted {known(most)}" for what, peak, most in peaks)
    if len(text) + 4 > width:
        text = "   ".join(f"{what} {known(peak)} (predicted {known(most)})" for what, peak, most in peaks)
    return (f"{_IN}{text}",)


def _warnings(job: JobNow, width: int) -> list[Line]:
    if not job.warnings:
        return []
    more = f" ({len(job.warnings) - 1} more in the log)" if job.warnings[1:] else ""
    return [(_IN, (f"! {fitted(job.warnings[-1].message, width - 6 - len(more)).rstrip()}{more}", "warn"))]


# What it said


def log_lines(job: JobNow | None, width: int | None = None) -> list[Line]:
    """A line each; with `width`, as many as it needs."""
    lines: list[Line] = []
    for at, said in job.log if job else ():
        when = time.strftime("   %H:%M:%S  ", time.localtime(at))
        first, *more = chop_cells(one_line(said), width - 15) if width else [one_line(said)]
        lines.append(((when, "dim"), first))
        lines += [(" " * len(when), rest) for rest in more]
    return lines
