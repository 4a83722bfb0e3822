"""A job in words: a few lines of it beside the list, or all there is to tell."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from textual.content import Content

from engine.errors import WanError
from engine.units import counted, size
from wan_tui.drawing import UNKNOWN, bar, clock
from wan_tui.now import JobNow
from wan_tui.screens.queue_entry import Entry
from wan_tui.screens.queue_rows import SIGNS, doing, moment, short_model, span
from wan_tui.text import one_line
from wan_tui.widgets.ask import plain_lines
from wan_tui.widgets.trouble import trouble_text

if TYPE_CHECKING:
    from engine.runtime.journal import JobRow, Journal

_DIM = "$foreground-muted"
_TONES = {"accent": "$accent", "good": "$success", "bad": "$error", "warn": "$warning", "dim": _DIM, "": ""}
_NOT_SETTINGS = ("model", "prompt", "negative_prompt")
Part = Content | tuple[str, str] | str


@dataclass(frozen=True)
class Detail:
    """A journal row read in full; `settings` by their names, None where its TOML cannot be read."""

    row: JobRow
    settings: Mapping[str, Any] | None


def read_detail(journal: Journal, id: str) -> Detail:
    """Raises RunError, and JobError where there is no such job (any more)."""
    row = journal.row(id)
    try:
        return Detail(row, tomllib.loads(row.job_toml))
    except tomllib.TOMLDecodeError:
        return Detail(row, None)


def state_text(entry: Entry, now: JobNow | None) -> Content:
    sign, tone = SIGNS.get(entry.state, (entry.state, ""))
    if now and entry.live and now.state == "running":
        sign, tone = SIGNS["running"]
    return Content.styled(one_line(sign), f"bold {_TONES[tone]}")


def strip(entry: Entry, now: JobNow | None, place: int | None) -> Content:
    """Four lines; the prompt comes last, for it may be long."""
    first = Content.assemble(
        state_text(entry, now),
        f"  {one_line(short_model(entry.model))}  ",
        (entry.id, _DIM),
    )
    figures = _figures(entry)
    when = [f"asked {moment(entry.created)}"]
    took = entry.seconds if entry.seconds is not None else span(entry)
    if took is not None:
        when.append(f"took {clock(took)}")
    if not entry.mine and entry.live:
        when.append(entry.owner)
    lines = [
        first,
        _state_line(entry, now, place),
        Content(one_line(" · ".join((*figures, *when)))).stylize(_DIM),
        Content(one_line(entry.prompt)) if entry.prompt else Content.styled("no prompt", _DIM),
    ]
    return Content("\n").join(lines)


def _figures(entry: Entry) -> list[str]:
    has = entry.figures
    figures = [f"{has['width']}x{has['height']}"] if "width" in has and "height" in has else []
    figures += [counted(has[name], name[:-1]) for name in ("frames", "steps") if name in has]
    return figures + ([f"seed {has['seed']}"] if "seed" in has else [])


def _state_line(entry: Entry, now: JobNow | None, place: int | None) -> Content:
    """What matters most about a job in its state."""
    match entry.state:
        case "finished":
            return Content(one_line(entry.output or "The path of the video is not known."))
        case "failed":
            return Content.styled(one_line(entry.problem or "Why is not known."), "$error")
        case "interrupted":
            return Content(one_line(f"Its process ended before it did ({entry.owner}). r runs it again."))
        case "cancelled":
            return Content("It was stopped before it was done.")
    if entry.stopping:
        return Content("It was asked to stop.")
    if now and (now.started or now.warnings):
        return progress_line(now)
    if not entry.mine:
        return Content(one_line(f"It belongs to another program: {entry.owner}."))
    if entry.state == "queued" and place is not None:
        return Content(f"Number {place} in line. K and J move it.")
    return Content("It starts.")


def progress_line(now: JobNow) -> Content:
    """`denoise ███░░░ 12/40 · 0:42 left · 3.1 s a step · 2.1 GB`."""
    if doing(now) == "held up":
        return Content(one_line(now.warnings[-1].message))
    parts = [f"load {now.component}" if now.component else now.stage or "starts"]
    if progress := now.progress:
        share = progress.done / progress.total if progress.total else None
        parts[0] += f" {bar(share, 10)} {progress.done}/{progress.total}"
        if progress.eta_s is not None:
            parts.append(f"{clock(progress.eta_s)} left")
        if progress.seconds_per_unit is not None:
            parts.append(_pace(progress.seconds_per_unit))
        memory = progress.vram_bytes if progress.vram_bytes is not None else progress.rss_bytes
        if memory is not None:
            parts.append(size(memory))
    if now.started:
        parts.append(f"runs {clock(time.time() - now.started)}")
    return Content(one_line(" · ".join(parts)))


def _pace(seconds: float) -> str:
    return f"{seconds:.2f} s each" if seconds >= 0.1 else f"{1 / max(seconds, 1e-6):.0f} a second"


def facts(entry: Entry, now: JobNow | None, place: int | None, detail: Detail | None) -> Content:
    """Everything but what was asked for."""
    row = detail.row if detail else None
    parts: list[Part] = [state_text(entry, now), "\n\n"]
    if row and row.error and entry.state == "failed":
        parts += [trouble_text(_error(row.error)), "\n\n"]
    else:
        parts += [_state_line(entry, now, place), "\n\n"]
    parts += _table(_figures_of_run(entry, now, row))
    for notice in now.warnings if now else ():
        parts += [("warning  ", "$warning"), plain_lines(notice.message), ("  [", _DIM)]
        parts += [(one_line(notice.code), _DIM), ("]\n", _DIM)]
    return Content.assemble(*parts)


def _error(error: Mapping[str, Any]) -> WanError:
    """What a journal holds is data: every piece may be absent."""
    cause = error.get("cause")
    return WanError(
        str(error.get("code") or UNKNOWN),
        str(error.get("message") or "Why is not known."),
        cause=None if cause is None else str(cause),
        suggestions=[str(one) for one in error.get("suggestions") or ()],
    )


def _figures_of_run(entry: Entry, now: JobNow | None, row: JobRow | None) -> list[tuple[str, str]]:
    recorded = (row and row.recorded) or {}
    took = entry.seconds if entry.seconds is not None else span(entry)
    told = [
        ("model", entry.model),
        ("job", entry.id),
        ("device", (now and now.device) or (row and row.device) or UNKNOWN),
        ("asked", _full(entry.created)),
        ("started", _full(entry.started)),
        ("ended", _full(entry.finished)),
        ("took", clock(took)),
    ]
    if now and now.spells:
        spells = (f"{s.name} {f'{s.seconds:.1f} s' if s.seconds is not None else '…'}" for s in now.spells)
        told.append(("stages", " · ".join(spells)))
    vram, rss = recorded.get("peak_vram_bytes"), recorded.get("peak_rss_bytes")
    if now:
        vram, rss = now.peak_vram_bytes or vram, now.peak_rss_bytes or rss
    told += [(name, size(n)) for name, n in (("vram peak", vram), ("ram peak", rss)) if isinstance(n, int)]
    told.append(("output", entry.output or UNKNOWN))
    if recorded.get("output_sha256"):
        told.append(("sha256", str(recorded["output_sha256"])))
    told.append(("owner", entry.owner + (", this program" if entry.mine else "")))
    return told


def _full(stamp: str | None) -> str:
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}" if stamp else UNKNOWN


def asked(detail: Detail) -> Content:
    """What was asked for: the prompt in full, then every setting."""
    row, settings = detail.row, detail.settings
    parts: list[Part] = [("Prompt\n", "bold $primary"), plain_lines(row.prompt) or ("none", _DIM), "\n\n"]
    if settings is None:
        parts += [("Settings, as they were kept\n", "bold $primary"), plain_lines(row.job_toml)]
        return Content.assemble(*parts)
    if negative := settings.get("negative_prompt"):
        parts += [("Negative prompt\n", "bold $primary"), plain_lines(str(negative)), "\n\n"]
    parts.append(("Settings\n", "bold $primary"))
    parts += _table([pair for pair in _flat(settings) if pair[0] not in _NOT_SETTINGS])
    return Content.assemble(*parts)


def _flat(table: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Each value under its dotted name."""
    flat: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{before}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value, 1):
                flat += _flat(one, f"{before}{name}.{number}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            flat.append((before + name, shown))
    return flat


def _table(pairs: list[tuple[str, str]]) -> list[Part]:
    width = max((len(name) for name, _ in pairs), default=0) + 2
    parts: list[Part] = []
    for name, value in pairs:
        parts += [(f"{one_line(name):<{width}}", _DIM), one_line(value), "\n"]
    return parts
