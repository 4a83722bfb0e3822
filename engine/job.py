"""What is asked: one frozen `Job`, its task and its TOML. None means: the model's default."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Inputs:
    """Files a video is made from."""

    image: Path | None = None
    last_image: Path | None = None
    video: Path | None = None
    mask: Path | None = None
    references: tuple[Path, ...] = ()
    audio: Path | None = None
    pose_video: Path | None = None
    face_video: Path | None = None
    background_video: Path | None = None
    mask_video: Path | None = None

    def given(self) -> tuple[str, ...]:
        """The names of the inputs that are there."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))


@dataclass(frozen=True)
class Memory:
    """How much memory the run may take, and how; `vram_limit` in bytes."""

    profile: str = "auto"
    vram_limit: int | None = None
    allow_lossy: bool = False
    window: int | None = None
    overlap: int | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of a long video with its own prompt."""

    frames: int
    prompt: str


@dataclass(frozen=True)
class Output:
    path: Path | None = None
    crf: int | None = None


@dataclass(frozen=True)
class Job:
    """One request for a video. None means: the model's default."""

    model: str = "auto"
    prompt: str = ""
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: int | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    flow_shift: float | None = None
    seed: int | None = None
    count: int = 1
    strength: float | None = None
    conditioning_scale: float | None = None
    device: str = "auto"
    inputs: Inputs = field(default_factory=Inputs)
    memory: Memory = field(default_factory=Memory)
    segments: tuple[Segment, ...] = ()
    output: Output = field(default_factory=Output)

    @property
    def task(self) -> str:
        """What the inputs ask for: text, image, first-last, video, vace, animate, replace or speech."""
        given = set(self.inputs.given())
        if given & {"background_video", "mask_video"}:
            return "replace"
        if given & {"pose_video", "face_video"}:
            return "animate"
        if "audio" in given:
            return "speech"
        if given & {"mask", "references"} or {"video", "image"} <= given:
            return "vace"
        if "video" in given:
            return "video"
        if "last_image" in given:
            return "first-last"
        return "image" if "image" in given else "text"

    def toml(self, recorded: Mapping[str, Any] | None = None) -> str:
        """The job as TOML, absent values left out, with what was recorded of its run."""
        import tomli_w  # only a finished run writes TOML

        table = _plain(self)
        if self.memory.vram_limit:
            table["memory"]["vram_limit"] = f"{self.memory.vram_limit}B"
        if recorded:
            table["recorded"] = _plain(recorded)
        return tomli_w.dumps(table)


def _plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as TOML knows them; None and empty tables left out."""
    if hasattr(value, "__dataclass_fields__"):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        plain = {str(key): _plain(item) for key, item in value.items()}
        return {key: item for key, item in plain.items() if item is not None and item != {} and item != []}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def expand(job: Job) -> list[Job]:
    """One job a video: `count` videos have seeds seed, seed+1, …; a seed is drawn when absent."""
    first = job.seed if job.seed is not None else draw_seed(job.count)
    return [replace(job, seed=first + i, count=1) for i in range(job.count)]


def draw_seed(count: int = 1) -> int:
    """A seed short enough to be typed again."""
    return secrets.randbelow(2**32 - count)
