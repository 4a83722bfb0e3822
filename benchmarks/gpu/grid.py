"""What is measured: clips of a model, on which rung and form, and which stages of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.catalog import ModelSpec
from engine.memory.ladder import FORMS, NAMES, Hold, hold
from engine.memory.parts import Clip

TEXT, DENOISE, DECODE = STAGES = ("text", "denoise", "decode")
RUNGS = NAMES[:-1]  # those on a GPU
PROOFS = {"ti2v-5B": (1280, 704, 121), "t2v-A14B": (832, 480, 81), "t2v-1.3B": (832, 480, 81)}
_SIZES, _FRAMES = ((832, 480), (1280, 720)), (49, 81, 121)


@dataclass(frozen=True)
class Point:
    """Stages of one clip, its model held so."""

    clip: Clip
    held: Hold
    stages: tuple[str, ...] = STAGES

    @property
    def size(self) -> str:
        return f"{self.clip.width}x{self.clip.height}x{self.clip.frames}"


def points(spec: ModelSpec, grid: str, steps: int) -> Iterator[Point]:
    """The points of a grid, those first that tell most. `steps` are those of each expert."""
    yield from _small(_clip(spec, *_SIZES[0], _FRAMES[0], steps), proof(spec, steps))
    if grid == "small":
        return
    for frames in _FRAMES:
        for size in _SIZES:
            clip = _clip(spec, *size, frames, steps)
            for rung in RUNGS:
                yield Point(clip, hold(rung), STAGES if rung in ("resident", "staged") else (TEXT, DENOISE))
            for form in FORMS[1:3]:
                yield Point(clip, replace(hold("staged"), form=form), (DECODE,))


def _small(short: Clip, long: Clip) -> Iterator[Point]:
    """Long clips tell of activations, short ones of what is there in any case."""
    yield Point(long, hold("staged"))
    yield Point(long, hold("streamed"), (TEXT, DENOISE))
    yield Point(long, hold("leaf"), (TEXT, DENOISE))
    for form in FORMS[1:3]:
        yield Point(short, replace(hold("staged"), form=form), (DECODE,))
    yield Point(short, hold("staged"), (DENOISE, DECODE))
    yield Point(short, hold("resident"))


def proof(spec: ModelSpec, steps: int) -> Clip:
    """The clip that is to be made under caps."""
    own = spec.defaults
    return _clip(spec, *PROOFS.get(spec.name, (own.width, own.height, own.frames)), steps)


def _clip(spec: ModelSpec, width: int, height: int, frames: int, steps: int) -> Clip:
    width, height = (side // spec.grid * spec.grid for side in (width, height))
    return Clip(width, height, frames, steps=steps * (2 if spec.two_experts else 1))
