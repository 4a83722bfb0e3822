"""What every known model takes, at two sizes and three lengths, on every rung: the rows of `plan --table`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.catalog import ModelSpec
from engine.memory.choice import with_margin
from engine.memory.figures import Figures
from engine.memory.ladder import FORMS, RUNGS, Hold
from engine.memory.parts import PRECISIONS, Clip, model_of_spec
from engine.memory.predict import can_predict, predicted
from engine.memory.room import Room

SIZES = ((832, 480), (1280, 720))  # 480p and 720p, on the grid of a model
FRAMES = (49, 81, 121)
_TILED = FORMS[1]  # over whole pictures the VAE takes so much that the rungs could hardly be told apart


@dataclass(frozen=True)
class Row:
    """One clip on one rung, at the model's own steps, in bytes. `fits` says whether it goes into the memory asked for,
    with the margin of a plan; None where no device's memory was."""

    model: str
    width: int
    height: int
    frames: int
    rung: str
    vram_bytes: int
    ram_bytes: int
    flops: int
    fits: bool | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(
    models: Iterable[ModelSpec], vram: int | None = None, ram: int | None = None, *, half: bool = True
) -> tuple[Row, ...]:
    """The rows of the models that can be predicted from what is kept, on a GPU of `vram` bytes that computes in bf16,
    or not (`half`), beside `ram` bytes; the VAE goes over pictures in tiles."""
    return tuple(row for spec in models for row in _rows(spec, Room(vram, ram, None), half))


def _rows(spec: ModelSpec, room: Room, half: bool) -> Iterator[Row]:
    model = model_of_spec(spec)
    if not can_predict(model):
        return
    figures = Figures(model, PRECISIONS[0 if half else 1], trace=False)
    clip = Clip(0, 0, 0, "text" not in spec.tasks, spec.defaults.guidance > 1, spec.defaults.steps)
    for sides in SIZES:
        width, height = (side // spec.grid * spec.grid for side in sides)
        for frames in FRAMES:
            for rung in RUNGS:
                found = predicted(figures, replace(clip, width=width, height=height, frames=frames), Hold(rung, _TILED))
                if found:
                    fits = None if room.vram is None else with_margin(found.vram_bytes) <= room.vram
                    fits = fits and (room.ram is None or with_margin(found.ram_bytes) <= room.ram)
                    taken = (found.vram_bytes, found.ram_bytes, found.flops)
                    yield Row(spec.id, width, height, frames, rung.name, *taken, fits)
