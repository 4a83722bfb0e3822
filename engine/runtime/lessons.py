"""What finished runs teach the next plan: how much longer they took, and how much more memory, than was predicted.

A row of the journal keeps the quantities of its plan beside what was measured. So lessons are drawn against what the
bare rates said, whatever corrections were shown at the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from engine.memory import traced
from engine.memory.pace import Pace, pace_from, work_seconds
from engine.memory.predict import CONTEXT
from engine.runtime.journal import JobRow, State, runs_on

_LOOK = 60  # rows of a device
_RUNS = 20  # of those that teach, the last
_FACTORS = (0.01, 100.0)  # beyond them something else happened than a run of its kind
_MOST_VRAM = 1.5
_LOADS = (1e6, 1e11)  # bytes/s
_LARGE = 1e14  # operations; a run of fewer says nothing of other models: small tensors run far below the rates
_BEYOND = 1e30
# The stages of the way that count, with those of the plan that run within them: a picture is encoded before a step.
WITHIN = {"encode": ("text", "image", "condition"), "denoise": ("denoise",), "decode": ("decode",)}


@dataclass(frozen=True)
class Lessons:
    """Factors, measured over predicted: medians of the last runs. `seconds` is that of denoising without its loading,
    `rest` that of the other stages, `load` bytes/s from disk (None: not known). `runs` is how many taught.
    """

    seconds: float = 1.0
    vram: float = 1.0
    runs: int = 0
    rest: float = 1.0
    load: float | None = None


@dataclass(frozen=True)
class _Run:
    """What one run teaches; None where it does not tell."""

    family: str
    flops: int
    seconds: float | None
    rest: float | None
    load: float | None
    vram: float | None


@dataclass(frozen=True)
class _Stage:
    name: str
    component: str
    flops: int
    moved_bytes: int
    loaded_bytes: int
    foretold: bool  # its time was: not that of a VAE on the CPU beside a GPU


def learned(device: str, model: str, family: str) -> Lessons:
    """What the journal teaches about a model on a device (its uuid); nothing where the journal cannot be read."""
    return lessons(runs_on(device, _LOOK), device, model, family)


def taught(pace: Pace, found: Lessons) -> Pace:
    """A measured pace with what runs taught."""
    return replace(pace, load=found.load or pace.load, denoising=found.seconds, others=found.rest)


def lessons(rows: Iterable[JobRow], device: str, model: str, family: str) -> Lessons:
    """What rows of the journal, newest first, teach about a model on a device.

    Runs of the same model count alone; where there are none, large ones of its family, else large ones of any.
    """
    finished = [row for row in rows if row.state is State.FINISHED and row.device == device]
    runs = (_runs_of(row for row in finished if row.model == model) or _akin(finished, family))[:_RUNS]
    return Lessons(
        seconds=_median([run.seconds for run in runs], _FACTORS) or 1.0,
        vram=_median([run.vram for run in runs], (1.0, _MOST_VRAM)) or 1.0,
        runs=len(runs),
        rest=_median([run.rest for run in runs], _FACTORS) or 1.0,
        load=_median([run.load for run in runs], _LOADS),
    )


def _akin(rows: Iterable[JobRow], family: str) -> list[_Run]:
    large = [run for run in _runs_of(rows) if run.flops >= _LARGE]
    return [run for run in large if run.family == family] or large


def _runs_of(rows: Iterable[JobRow]) -> list[_Run]:
    return [run for row in rows if (run := _run_of(row))]


def _median(values: Iterable[float | None], bounds: tuple[float, float]) -> float | None:
    known = [value for value in values if value is not None]
    return min(max(median(known), bounds[0]), bounds[1]) if known else None


# --- from a row ------------------------------------------------------------------------------------------------------


def _run_of(row: JobRow) -> _Run | None:
    """None for a row that was written by another version, or whose run went down the ladder: parts were done twice."""
    recorded = _table(row.recorded)
    plan, seconds, loading = (_table(recorded.get(name)) for name in ("plan", "seconds", "loading"))
    pace, stages = pace_from(plan.get("pace")), _stages_of(plan.get("stages"))
    if plan.get("format") != traced.FORMAT or pace is None or not stages or recorded.get("fallbacks"):
        return None
    loads = {name: _number(loading.get(name)) or 0.0 for name in WITHIN}
    work = _work(stages, pace)
    took = {name: whole - loads[name] for name in work if (whole := _number(seconds.get(name))) is not None}
    others = [name for name in took if name != "denoise"]
    return _Run(
        str(plan.get("family")),
        sum(stage.flops for stage in stages),
        _ratio(took.get("denoise", 0.0), work.get("denoise", 0.0)),
        _ratio(sum(took[name] for name in others), sum(work[name] for name in others)),
        _ratio(sum(stage.loaded_bytes for stage in stages), sum(loads.values())),
        _vram(recorded, plan),
    )


def _work(stages: tuple[_Stage, ...], pace: Pace) -> dict[str, float]:
    """Seconds of each stage of the way at the bare rates, loading left out."""
    work = {}
    for name, names in WITHIN.items():
        parts = [stage for stage in stages if stage.name in names]
        if all(stage.foretold for stage in parts):
            work[name] = sum(work_seconds(stage, pace) for stage in parts)
    return work


def _vram(recorded: Mapping[str, Any], plan: Mapping[str, Any]) -> float | None:
    """What was reserved, with the context NVML counts as well, over the prediction without its correction."""
    peak, predicted = _number(recorded.get("peak_vram_bytes")), _number(plan.get("vram_bytes"))
    factors = plan.get("lessons")
    before = _number(factors[1]) if isinstance(factors, list) and len(factors) == 2 else None
    return _ratio((peak + CONTEXT) * before, predicted or 0.0) if peak and before else None


def _stages_of(rows: Any) -> tuple[_Stage, ...]:
    """The stages of a plan; none where one of them is of another shape."""
    found = []
    for row in rows if isinstance(rows, list) else ():
        table = _table(row)
        figures = [_number(table.get(name)) for name in ("flops", "moved_bytes", "loaded_bytes")]
        if None in figures:
            return ()
        flops, moved, loaded = (int(figure or 0) for figure in figures)
        foretold = table.get("seconds") is not None
        found.append(_Stage(str(table.get("name")), str(table.get("component")), flops, moved, loaded, foretold))
    return tuple(found)


def _ratio(above: float, below: float) -> float | None:
    return above / below if above > 0 and below > 0 else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    """A number that is none below 0 and not beyond all; None for anything else."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _BEYOND
    return float(value) if good else None
