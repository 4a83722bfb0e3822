"""What the constants of `engine.memory.predict` should be, from what was measured; arithmetic alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from engine.memory.predict import CONTEXT, FRAGMENTATION, HOST, HOST_OF_CUDA, SEGMENT, WORKSPACES

Row = Mapping[str, Any]
_MIB = 2**20


@dataclass(frozen=True)
class Constants:
    """As in `engine.memory.predict`; `context` None where the driver did not tell."""

    context: int | None
    workspaces: int
    fragmentation: float

    def reserved(self, row: Row) -> int:
        """The peak that torch's allocator is predicted to reserve with them."""
        weights, activations = row["predicted"]["weights"], row["predicted"]["activations"]
        taken = weights + round(activations * (1 + self.fragmentation))
        return int(self.workspaces + -(-taken // SEGMENT) * SEGMENT)


TODAY = Constants(CONTEXT, WORKSPACES, FRAGMENTATION)


def usable(rows: Iterable[Row]) -> list[Row]:
    """Rows that were measured on a GPU and predicted."""
    return [row for row in rows if row.get("reserved") and row.get("predicted") and row["outcome"] == "ok"]


def fit(rows: Iterable[Row]) -> Constants | None:
    """The constants with the least squares of relative errors. None where fewer than two rows tell.

    reserved = weights + workspaces + (1 + fragmentation) * activations, both constants at least 0; every row counts
    by its share, not by its size. The context is the most that was seen.
    """
    told = usable(rows)
    if len(told) < 2:
        return None
    over = [row["reserved"] - row["predicted"]["weights"] for row in told]
    by = [row["predicted"]["activations"] for row in told]
    workspaces, slope = _line(by, over, [1 / row["reserved"] ** 2 for row in told])
    contexts = [row["context"] for row in told if row["context"] is not None]
    return Constants(max(contexts, default=None), max(0, round(workspaces)), max(0.0, slope - 1))


def _line(x: Sequence[float], y: Sequence[float], w: Sequence[float]) -> tuple[float, float]:
    """(a, b) of y = a + b * x with weights, a >= 0 and b >= 1: at the border where the best lies beyond it."""
    one, sx, sy = sum(w), _dot(w, x), _dot(w, y)
    sxx, sxy = _dot(w, x, x), _dot(w, x, y)
    below = one * sxx - sx * sx
    b = (one * sxy - sx * sy) / below if below > 1e-12 * one * sxx else 1.0
    a = (sy - b * sx) / one
    if a < 0:
        a, b = 0.0, sxy / sxx if sxx else 1.0
    if b < 1:
        a, b = max(0.0, (sy - sx) / one), 1.0
    return a, b


def _dot(*lists: Sequence[float]) -> float:
    total = 0.0
    for values in zip(*lists, strict=True):
        product = 1.0
        for value in values:
            product *= value
        total += product
    return total


def error(predicted: float | None, measured: float | None) -> float | None:
    """Percent by which a prediction is over what was measured; below 0 it was too little."""
    return None if not measured or predicted is None else 100 * (predicted / measured - 1)


def errors(rows: Iterable[Row], constants: Constants) -> list[float]:
    """Of the reserved peaks."""
    found = [error(constants.reserved(row), row["reserved"]) for row in usable(rows)]
    return [one for one in found if one is not None]


def told(rows: Iterable[Row]) -> list[str]:
    """Sentences: today's constants and what they should be, with their errors."""
    rows = usable(rows)
    found = fit(rows)
    if found is None:
        return ["Too little was measured to tell what the constants should be."]
    context = "unknown" if found.context is None else f"{found.context / _MIB:.0f} MiB"
    lines = [
        f"CONTEXT        now {CONTEXT / _MIB:6.0f} MiB, should be {context}",
        f"WORKSPACES     now {WORKSPACES / _MIB:6.0f} MiB, should be {found.workspaces / _MIB:.0f} MiB",
        f"FRAGMENTATION  now {FRAGMENTATION:6.3f}    , should be {found.fragmentation:.3f}",
    ]
    for name, constants in (("now", TODAY), ("then", found)):
        share = errors(rows, constants)
        off = sorted(map(abs, share))
        lines.append(
            f"errors of reserved peaks {name:<4}: median {median(off):.1f} %, worst {off[-1]:.1f} % "
            f"(from {min(share):+.1f} to {max(share):+.1f} %, {len(off)} peaks)"
        )
    return lines


def told_of_host(about: Mapping[str, Any]) -> list[str]:
    """The program's own RAM: with its libraries loaded, and what CUDA added when it was woken and had computed."""
    return [
        f"{name:<14} now {now / _MIB:6.0f} MiB, measured {about[name] / _MIB:.0f} MiB"
        for name, now in (("HOST", HOST), ("HOST_OF_CUDA", HOST_OF_CUDA))
        if name in about
    ]
