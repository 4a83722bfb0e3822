"""What is left when a model cannot run: components that load on their own, and other models for the same task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.catalog import ModelSpec
from engine.compat.anatomy import Anatomy
from engine.compat.finding import Finding
from engine.compat.identify import parameters

_MOST = 3


@dataclass(frozen=True)
class Alternative:
    """Another model for the same task; `lost` is what it does not do, or does less well, and `command` gets it."""

    id: str
    on_disk: bool
    fits: bool | None
    lost: tuple[str, ...]
    command: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "on_disk": self.on_disk,
            "fits": self.fits,
            "lost": list(self.lost),
            "command": self.command,
        }


def usable_components(anatomy: Anatomy, findings: Iterable[Finding]) -> tuple[str, ...]:
    """The components with weights that nothing is wrong with: another model may take them."""
    broken = {finding.component for finding in findings if finding.severity == "error"}
    return tuple(
        name
        for name, part in anatomy.components.items()
        if part.tensors and name not in broken and all(file.exists() for file in part.files)
    )


def alternatives(
    tasks: Sequence[str],
    instead_of: ModelSpec | None,
    candidates: Iterable[tuple[ModelSpec, bool]],
    fits: Callable[[ModelSpec], bool | None],
) -> tuple[Alternative, ...]:
    """Models that do the first of `tasks` and fit here, those on disk and the larger ones first.

    `candidates` are models this version runs, and whether each is on disk; `fits` is None where that is unknown.
    """
    if not tasks:
        return ()
    ranked = []
    for spec, on_disk in candidates:
        if tasks[0] not in spec.tasks or spec.builtin or (instead_of and spec.id == instead_of.id):
            continue
        counts = parameters(spec)
        room = fits(spec)
        if room is False:
            continue
        verb = "show" if on_disk else "download"
        command = f"wan-tui models {verb} {spec.id}"
        found = Alternative(spec.id, on_disk, room, tuple(_lost(spec, tasks, instead_of)), command)
        ranked.append((not on_disk, -counts.get("transformer", 0), spec.id, found))
    return tuple(row[-1] for row in sorted(ranked, key=lambda row: row[:3])[:_MOST])


def _lost(spec: ModelSpec, tasks: Sequence[str], instead_of: ModelSpec | None) -> Iterable[str]:
    for task in tasks:
        if task not in spec.tasks:
            yield f"does not do {task}"
    if instead_of is None:
        return
    here, there = (parameters(one).get("transformer", 0) for one in (spec, instead_of))
    if 0 < here < there:
        yield f"{here / 1e9:.1f} instead of {there / 1e9:.1f} billion parameters"
    if instead_of.two_experts and not spec.two_experts:
        yield "one expert instead of two"
    most, wanted = (max((w * h for w, h in one.sizes), default=0) for one in (spec, instead_of))
    if 0 < most < wanted:
        width, height = max(spec.sizes, key=lambda size: size[0] * size[1])
        yield f"sizes up to {width}x{height}"
