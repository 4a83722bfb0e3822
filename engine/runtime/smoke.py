"""The smallest clip a model can make, by the very way of a job, and whether it is one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.catalog import Catalog
from engine.compat.folder import EXPERTS, ModelFolder
from engine.control import Control
from engine.errors import FitError, RunError, WanError
from engine.events import Bus, Event, JobFinished, Stage
from engine.job import Inputs, Job, Output
from engine.library.item import Item
from engine.runtime.check import runnable
from engine.runtime.failure import explain
from engine.runtime.prepare import Checked, prepare
from engine.runtime.way import Traveller, travel
from engine.video.ffmpeg import read_with_ffmpeg
from engine.video.probe import probe
from engine.voice import Voice

PROMPT = "a red circle moving right over a gray background"  # white would be clipped to one value
FRAMES, SEED = 5, 7
_LEAST_SIDE, _LEAST_CELLS = 64, 4
_STEPS, _MOST_STEPS = 2, 50
_GUIDANCE = 5.0  # where the model's own switches guidance off: both branches of the prompt are to run
_LONGEST = 150  # bytes of a file's name that come from a model's


@dataclass(frozen=True)
class Smoke:
    """What came of it: `state` is done, failed or skipped; `loaded` are the components that had to come in, in order
    (a prompt embedded before needs no text encoder). Unknown figures are None."""

    state: str
    task: str | None = None
    steps: int | None = None
    done: JobFinished | None = None
    loaded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: WanError | None = None

    def as_dict(self) -> dict[str, Any]:
        done = self.done
        return {
            "state": self.state,
            "task": self.task,
            "steps": self.steps,
            "output": done and done.output,
            "output_sha256": done and done.output_sha256,
            "frames": done and done.frames,
            "width": done and done.width,
            "height": done and done.height,
            "seconds": done and done.seconds,
            "peak_rss_bytes": done and done.peak_rss_bytes,
            "peak_vram_bytes": done and done.peak_vram_bytes,
            "loaded": list(self.loaded),
            "warnings": list(self.warnings),
            "error": self.error.as_dict() if self.error else None,
        }


def smoke(
    item: Item, folder: ModelFolder, catalog: Catalog, name: str, output: Path, device: str, bus: Bus, control: Control
) -> Smoke:
    """Render a clip into the folder `output`. What fails is told in the answer; `Cancelled` goes through."""
    task = next(iter(runnable(item.spec)))
    overheard = _Overheard(bus)
    asked: Checked | None = None
    done: JobFinished | None = None
    try:
        with _inputs(task) as inputs:
            asked = _prepared(item, folder, catalog, Path(output, f"{file_name(name)}_smoke.mp4"), device, inputs)
            done = travel(Traveller(asked, f"smoke-{file_name(name)}", control, overheard, lambda **_: None))
        warnings = _looked_at(done, folder, overheard.loaded)
    except Exception as error:  # noqa: BLE001  (named and told)
        failure = _named(explain(error))
        steps = asked.job.steps if asked else None
        return Smoke("failed", task, steps, done, tuple(overheard.loaded), (), failure)
    return Smoke("done", task, asked.job.steps, done, tuple(overheard.loaded), warnings)


def file_name(name: str) -> str:
    """A model's name as part of a file's: no separators, nothing hidden, not too long."""
    plain = re.sub(r"[^\w.@+-]", "-", name).lstrip(".-") or "model"
    return plain.encode(errors="ignore")[:_LONGEST].decode(errors="ignore")


class _Overheard(Bus):
    """Passes on what a job says, and remembers which components came in."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus
        self.loaded: list[str] = []

    def publish(self, event: Event) -> None:
        if isinstance(event, Stage) and event.name == "load" and event.state == "finished" and event.component:
            self.loaded.append(event.component)
        self._bus.publish(event)


@contextmanager
def _inputs(task: str) -> Iterator[Inputs]:
    """A made picture for the tasks that need one."""
    if task != "image":
        yield Inputs()
        return
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="wan-tui-") as folder:
        file = Path(folder, "gradient.png")
        rising = Image.linear_gradient("L")
        Image.merge("RGB", (rising, rising.rotate(90), rising.rotate(180))).save(file)
        yield Inputs(image=file)


def _prepared(item: Item, folder: ModelFolder, catalog: Catalog, output: Path, device: str, inputs: Inputs) -> Checked:
    defaults, grid = item.spec.defaults, folder.grid
    side = grid * max(_LEAST_CELLS, -(-_LEAST_SIDE // grid))
    guidance = defaults.guidance if defaults.guidance > 1 else _GUIDANCE
    second = defaults.guidance_2 if (defaults.guidance_2 or 0) > 1 else guidance
    job = Job(
        model=str(item.spec.path) if item.spec.path else item.id,
        prompt=PROMPT,
        width=side,
        height=side,
        frames=FRAMES,
        steps=_STEPS,
        guidance=guidance,
        guidance_2=second if folder.boundary_ratio is not None else None,
        seed=SEED,
        device=device,
        inputs=inputs,
        output=Output(output),
    )
    asked = prepare(job, output.with_suffix(".toml"), catalog)
    return replace(asked, job=replace(asked.job, steps=_steps(folder, asked.job.flow_shift)))


def _steps(folder: ModelFolder, flow_shift: float | None) -> int:
    """As few as let both experts have one: a high shift keeps the first few steps with the one for high noise."""
    if folder.boundary_ratio is None:
        return _STEPS
    from engine.pipelines.assemble import shifted
    from engine.pipelines.components import Components, place

    unheard = Voice(Bus(), "steps", lambda: (None, None))
    scheduler = shifted(Components(folder, place("cpu"), Control(), unheard).small("scheduler"), flow_shift)
    boundary = folder.boundary_ratio * scheduler.config.num_train_timesteps
    for steps in range(_STEPS, _MOST_STEPS + 1):
        scheduler.set_timesteps(steps)
        high = [bool(timestep >= boundary) for timestep in scheduler.timesteps]
        if len(set(high)) == 2:
            return steps
    raise RunError(
        "one-expert-idle",
        f"With boundary_ratio = {folder.boundary_ratio:g} one of the two experts has no step in {_MOST_STEPS}.",
        suggestions=["Restore model_index.json from the repository of the model."],
    )


def _looked_at(done: JobFinished, folder: ModelFolder, loaded: list[str]) -> tuple[str, ...]:
    """Read the file back. Raises `RunError` when it is not the clip asked for; what is odd but may be is returned."""
    import numpy as np

    assert done.output  # travel ends with one
    path = Path(done.output)
    found = probe(path)
    wanted = (done.width, done.height, done.frames)
    if (found.width, found.height, found.frames) != wanted:
        due, has = (f"{w}x{h} in {n} frames" for w, h, n in (wanted, (found.width, found.height, found.frames)))
        raise RunError("wrong-shape", f"{path} was to be {due}, and it is {has}.")
    idle = [name for name in EXPERTS if folder.boundary_ratio is not None and name not in loaded]
    if idle:
        raise RunError("one-expert-idle", f"The expert {idle[0]} had no step.")
    raw = read_with_ffmpeg(path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
    frames = np.frombuffer(raw, np.uint8).reshape(found.frames, found.height, found.width, 3)
    if frames.min() == frames.max():
        raise RunError(
            "constant",
            f"Every point of every frame of {path} is the same ({frames.max()}): it is no picture.",
            suggestions=["Verify the files of the model; its VAE or its transformer may be damaged."],
        )
    warnings = []
    if flat := [i + 1 for i, frame in enumerate(frames) if frame.min() == frame.max()]:
        warnings.append(f"Frames of one colour: {', '.join(map(str, flat))}.")
    if all(np.array_equal(frames[0], frame) for frame in frames[1:]):
        warnings.append("All frames are alike.")
    return tuple(warnings)


def _named(error: WanError) -> WanError:
    """The failure as one of the smoke test, without the frames that hold weights."""
    kind = FitError if isinstance(error, FitError) else RunError
    return kind(
        f"smoke-{error.code}",
        error.message,
        cause=error.cause,
        suggestions=error.suggestions,
        actions=error.actions,
    )
