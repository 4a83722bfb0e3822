"""Which fields a model takes, in their order on the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from engine.catalog import FAMILY_TASKS, Defaults, ModelSpec
from engine.job import MAX_SEED
from engine.jobfile import Refused, size
from engine.memory.plan import RUNGS
from wan_tui.composing.entries import Kind as FileKind
from wan_tui.composing.form import Form
from wan_tui.composing.support import task_runs

Kind: TypeAlias = Literal["text", "number", "whole", "size", "choice", "path", "paths", "seed", "bytes"]
Section: TypeAlias = Literal["prompt", "inputs", "video", "sampling", "seed", "memory", "output"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field. `default` is what stands there while nothing is typed; None where it is not known.

    `choices` are offered; where `free`, anything else may be typed too. `low` and `high` belong to the range, unless
    `above`, where `low` does not. `files` is what a picker shows for a path. `runs` is whether this version runs what
    the field is for.
    """

    key: str
    label: str
    section: Section
    kind: Kind
    help: str
    default: str | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    free: bool = True
    files: FileKind = "any"
    required: bool = False
    runs: bool = True


@dataclass(frozen=True)
class Fitted:
    """A form with only what its model takes, and the fields that were set aside."""

    form: Form
    aside: tuple[str, ...]


def fields(spec: ModelSpec | None, form: Form) -> tuple[Field, ...]:
    """The fields of a model, those that depend on others as the form is now.

    No `spec` stands for model = "auto", which is chosen by what is given: there any field that is filled is shown.
    """
    defaults = spec.defaults if spec else None
    return (
        *_prompts(defaults),
        *_inputs(spec, form),
        *_video(spec, defaults, form),
        *_sampling(spec, defaults, form),
        *_seeds(),
        *_memory(),
        *_output(spec, form),
    )


def fitted(form: Form, spec: ModelSpec | None) -> Fitted:
    """What of a form is asked of a model: what was typed for another waits, and comes back with that one."""
    taken = {"model", *(one.key for one in fields(spec, form))}
    aside = tuple(key for key in form.texts if key not in taken)
    return Fitted(form.without(aside), aside)


# --- the parts of a form ----------------------------------------------------------------------------------------------


def _prompts(defaults: Defaults | None) -> Iterator[Field]:
    help = "What is to be seen, and how it moves. Words beyond 512 tokens are dropped, with a warning."
    yield Field(key="prompt", label="Prompt", section="prompt", kind="text", help=help, required=True)
    yield Field(
        key="negative_prompt",
        label="Negative prompt",
        section="prompt",
        kind="text",
        help="What is to be kept out. It counts only while guidance is above 1.",
        default=defaults.negative_prompt if defaults else None,
    )


_INPUT: dict[str, tuple[str, FileKind, str]] = {
    "image": ("Image", "image", "The video begins from this picture, scaled to cover the size and cropped."),
    "last_image": ("Last image", "image", "The video ends with this picture."),
    "video": ("Video", "video", "The video that is changed; the clip takes its length."),
    "mask": ("Mask", "any", "White where the model may draw, black where the video stays."),
    "references": ("References", "image", "Pictures of what is to appear, one path a line."),
    "pose_video": ("Pose video", "video", "How the body moves."),
    "face_video": ("Face video", "video", "How the face moves."),
    "background_video": ("Background video", "video", "The scene in which the figure is replaced."),
    "mask_video": ("Mask video", "video", "Where in the scene the figure is replaced."),
    "audio": ("Audio", "audio", "The speech the figure says."),
}
_TASK_INPUTS: dict[str, tuple[str, ...]] = {
    "text": (),
    "image": ("image",),
    "first-last": ("image", "last_image"),
    "video": ("video",),
    "vace": ("video", "mask", "references"),
    "animate": ("image", "pose_video", "face_video"),
    "replace": ("image", "pose_video", "face_video", "background_video", "mask_video"),
    "speech": ("image", "audio"),
}
_ONE_WILL_DO = ("vace",)  # none of its inputs is needed for itself


def _inputs(spec: ModelSpec | None, form: Form) -> Iterator[Field]:
    families = {spec.family: spec.tasks} if spec else FAMILY_TASKS
    asked = [(task, task_runs(family, task)) for family, tasks in families.items() for task in tasks]
    for name, (label, files, help) in _INPUT.items():
        takers = [runs for task, runs in asked if name in _TASK_INPUTS[task]]
        if any(takers) or (takers if spec else f"inputs.{name}" in form.texts):
            always = all(name in _TASK_INPUTS[task] and task not in _ONE_WILL_DO for task, _ in asked)
            yield Field(
                key=f"inputs.{name}",
                label=label,
                section="inputs",
                kind="paths" if name == "references" else "path",
                help=help if any(takers) else f"{help} This version does not run that yet.",
                files=files,
                required=always,
                runs=any(takers),
            )


def _video(spec: ModelSpec | None, defaults: Defaults | None, form: Form) -> Iterator[Field]:
    grid = f"multiples of {spec.grid}" if spec else "multiples of the model's grid"
    pictured = "inputs.image" in form.texts or "inputs.video" in form.texts
    yield Field(
        key="size",
        label="Size",
        section="video",
        kind="size",
        help=f"Width and height, {grid}. Without one, a clip from a picture takes the picture's shape.",
        default="as the input" if pictured else _size_text((defaults.width, defaults.height)) if defaults else None,
        unit="pixels",
        low=16,
        high=8192,
        choices=tuple(map(_size_text, spec.sizes)) if spec else (),
    )
    yield _whole("frames", "Frames", "video", "4k+1: 5, 9, … 81.", defaults.frames if defaults else None, 1, 100_001)
    help = "Frames a second of the finished clip."
    yield _whole("fps", "Rate", "video", help, defaults.fps if defaults else None, 1, 240, "fps")


def _sampling(spec: ModelSpec | None, defaults: Defaults | None, form: Form) -> Iterator[Field]:
    help = "More steps take longer, and draw finer up to a point."
    yield _whole("steps", "Steps", "sampling", help, defaults.steps if defaults else None, 1, 1000)
    two = bool(spec and spec.two_experts)
    help = "How closely the prompt is followed; 1 or less switches guidance off and halves the time."
    expert = " This is that of the high-noise expert." if two else ""
    yield _number("guidance", "Guidance", help + expert, defaults.guidance if defaults else None, 0, 100)
    if two or (spec is None and "guidance_2" in form.texts):
        second = _second(defaults) if defaults else None
        yield _number("guidance_2", "Guidance 2", "The same for the low-noise expert.", second, 0, 100)
    help = "Above 1, more of the steps go to the coarse shape of the scene; larger sizes want more."
    yield _number("flow_shift", "Flow shift", help, _shift(defaults, form), 0, 100, above=True)
    if ("video" in spec.tasks and form.task == "video") if spec else "strength" in form.texts:
        help = "How much of the video is drawn anew: 1 is all of it."
        yield _number("strength", "Strength", help, None, 0, 1, above=True)
    if "vace" in spec.tasks if spec else "conditioning_scale" in form.texts:
        help = "How strongly the video, mask and references steer."
        yield _number("conditioning_scale", "Conditioning", help, None, 0, 10)


def _seeds() -> Iterator[Field]:
    yield Field(
        key="seed",
        label="Seed",
        section="seed",
        kind="seed",
        help="The same seed and settings give the same clip. Random draws one at each start; increment counts on.",
        default="random",
        low=0,
        high=MAX_SEED,
    )
    yield _whole("count", "Clips", "seed", "How many. Their seeds are the seed, the seed + 1 and so on.", 1, 1, 1000)


def _memory() -> Iterator[Field]:
    yield Field(
        key="device",
        label="Device",
        section="memory",
        kind="choice",
        help="auto takes the card with most free memory, else the CPU. Also cuda:1, or the UUID of a GPU.",
        default="auto",
        choices=("auto", "cpu"),
    )
    yield Field(
        key="memory.profile",
        label="Memory profile",
        section="memory",
        kind="choice",
        help="How the model is held in memory. staged: one component at a time.",
        default="auto",
        choices=("auto", *RUNGS),
        free=False,
    )
    yield Field(
        key="memory.vram_limit",
        label="VRAM limit",
        section="memory",
        kind="bytes",
        help="A hard cap on what the run takes of a CUDA card, such as 12GiB.",
        default="none",
        low=2**20,
        high=2**50,
    )


def _output(spec: ModelSpec | None, form: Form) -> Iterator[Field]:
    yield Field(
        key="output.path",
        label="Output",
        section="output",
        kind="path",
        help=".mp4, .webm or .gif; without a suffix, a folder of PNG frames. A file that is there is kept: clip-2.mp4.",
        default=f"outputs/{spec.id if spec else '<model>'}-{form.texts.get('seed', '<seed>')}.mp4",
        files="folder",
    )
    help = "Lower looks better and takes more room: up to 51 in .mp4, 63 in .webm."
    yield _whole("output.crf", "Quality (crf)", "output", help, None, 0, 63)


def _second(defaults: Defaults) -> float:
    return defaults.guidance if defaults.guidance_2 is None else defaults.guidance_2


def _shift(defaults: Defaults | None, form: Form) -> float | None:
    if defaults is None:
        return None
    try:
        width, height = size(form.texts.get("size"), Path())
    except Refused:
        width, height = defaults.width, defaults.height
    return defaults.shift_for(width, height)


def _size_text(sides: tuple[int, int]) -> str:
    return f"{sides[0]}*{sides[1]}"


def _whole(
    key: str, label: str, section: Section, help: str, default: int | None, low: int, high: int, unit: str = ""
) -> Field:
    shown = None if default is None else str(default)
    return Field(
        key=key, label=label, section=section, kind="whole", help=help, default=shown, unit=unit, low=low, high=high
    )


def _number(
    key: str, label: str, help: str, default: float | None, low: float, high: float, *, above: bool = False
) -> Field:
    shown = None if default is None else str(default)
    return Field(
        key=key,
        label=label,
        section="sampling",
        kind="number",
        help=help,
        default=shown,
        low=low,
        high=high,
        above=above,
    )
