"""Asked → checked: a job with every value filled in from its model, or one message why not.

A bad job is refused in milliseconds and before anything is written. Torch is loaded only to find a GPU asked for by
name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import read_anatomy
from engine.compat.copy import judge_copy
from engine.compat.examine import admit, folder_in
from engine.compat.finding import refuse
from engine.compat.folder import ModelFolder, open_folder
from engine.compat.identify import folder_item
from engine.compat.schema import INDEX
from engine.errors import JobError, ModelError
from engine.hardware import choose_device
from engine.host import host_memory
from engine.job import Inputs, Job, Output
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import OnDisk, locate, look
from engine.memory.plan import check_memory
from engine.memory.windows import frames_of_segments
from engine.pipelines.families import Recipe, recipe
from engine.video.ffmpeg import check_ffmpeg
from engine.video.image import image_size, open_image, size_for_aspect
from engine.video.write import check_output

DEFAULT_CRF = {".mp4": 18, ".webm": 31}
_MP4_MAX_CRF = 51
_LARGEST_SHIFT = 1e6
_GIF_MAX_FPS = 100  # players take a shorter frame for a mistake
_USED_BY = {"strength": ("video",), "conditioning_scale": ("vace",)}


@dataclass(frozen=True)
class Checked:
    """A job that may run: complete, with its model and its folder (None in a plan of a model that is not here)."""

    job: Job
    file: Path
    item: Item
    folder: Path | None
    revision: str | None
    recipe: Recipe
    reasons: tuple[str, ...]

    @property
    def spec(self) -> ModelSpec:
        return self.item.spec


def prepare(
    job: Job, file: Path, catalog: Catalog, output: Path | None = None, *, need_not_be_here: bool = False
) -> Checked:
    """Check a job against its model and complete it. `file` is the job file, `output` a folder that overrides its own.

    With `need_not_be_here` a model of the catalog that is absent, or here in part, is taken as the catalog has it.

    Raises `JobError` (status 2) when the job is wrong, `ModelError` (3) when the model is absent or cannot do it.
    """
    if job.segments and job.frames is None:
        job = replace(job, frames=frames_of_segments(job.segments))
    check_memory(job)
    if job.device not in ("auto", "cpu"):
        choose_device(job.device)
    item, reasons = _model(job, file, catalog)
    spec = item.spec
    _check_task(job, spec, catalog)
    disk = look(item, Digests())
    if disk.state == "corrupt":
        refuse(judge_copy(item, disk))
    from_catalog = need_not_be_here and not disk.whole and bool(spec.architecture)
    folder = None if from_catalog else _folder(spec, disk)
    complete = _complete(job, item, folder, file, output)
    _check_text(complete, file)
    how = recipe(spec.family, job.task)
    if folder:
        admit(item, folder.path, how.components)
    elif not from_catalog:
        refuse(replace(finding, severity="error") for finding in judge_copy(item, disk))
    return Checked(complete, file, item, folder.path if folder else None, disk.revision, how, reasons)


# --- the model --------------------------------------------------------------------------------------------------------


def _model(job: Job, file: Path, catalog: Catalog) -> tuple[Item, tuple[str, ...]]:
    if job.model == "auto":
        return _choose(job, catalog)
    as_path = file.parent / os.path.expanduser(job.model)
    if "/" in job.model or job.model.startswith((".", "~")):
        if not os.path.exists(as_path) and (same := [spec for spec in catalog.models if spec.repo == job.model]):
            raise JobError(
                "unknown-model",
                f"model = {job.model!r} names a repository, where an id or a folder is due.",
                suggestions=[f'Use model = "{same[0].id}".'],
            )
        anatomy = read_anatomy(Path(os.path.realpath(as_path)))
        return folder_item(folder_in(anatomy), catalog), ()
    spec, variant = catalog.find(job.model)
    if variant is not None and not variant.runnable:
        raise ModelError(
            "not-yet",
            f"This version of wan-tui does not run the variant {variant.name} of {spec.id} yet.",
            suggestions=[f'Use model = "{spec.id}".'],
        )
    return Item(spec, variant), ()


def _choose(job: Job, catalog: Catalog) -> tuple[Item, tuple[str, ...]]:
    """The first model of the catalog that does the task, is on disk, and whose largest component fits in memory."""
    able = [spec for spec in catalog.models if job.task in spec.tasks and not spec.builtin]
    present = [spec for spec in able if locate(spec).whole and _runs(spec, job.task)]
    if not present:
        raise ModelError(
            "no-model",
            f'model = "auto": no model that does {job.task} is on disk.',
            suggestions=[
                f"Models that do: {_names(able)}.",
                "Download one, or try the built-in model: wan-tui demo.",
            ],
        )
    memory = host_memory()[0]
    fitting = [spec for spec in present if _largest(spec) <= memory]
    chosen = (fitting or sorted(present, key=_largest))[0]
    why = f"it does {job.task}, is on disk" + (
        " and fits in memory" if fitting else "; none of those on disk is sure to fit"
    )
    return Item(chosen), (f"auto chose {chosen.id}: {why}",)


def _runs(spec: ModelSpec, task: str) -> bool:
    try:
        recipe(spec.family, task)
    except ModelError:
        return False
    return True


def _largest(spec: ModelSpec) -> int:
    """Bytes of the largest component on disk."""
    path = locate(spec).path
    parts = [p for p in path.iterdir() if p.is_dir()] if path else []
    return max((sum(f.stat().st_size for f in part.glob("*.safetensors")) for part in parts), default=0)


def _check_task(job: Job, spec: ModelSpec, catalog: Catalog) -> None:
    for key, tasks in _USED_BY.items():
        if getattr(job, key) is not None and job.task not in tasks:
            raise JobError(
                "unused-key",
                f"{key} is given, but {job.task} does not use it.",
                suggestions=[f"Leave {key} out."],
            )
    if job.task in spec.tasks:
        return
    given = ", ".join(job.inputs.given()) or "no inputs"
    able = [other for other in catalog.models if job.task in other.tasks]
    raise JobError(
        "wrong-task",
        f"{spec.id} does not do what the inputs ask for ({given}: {job.task}); it does {', '.join(spec.tasks)}.",
        suggestions=[f"Models that do {job.task}: {_names(able)}."],
    )


def _check_text(job: Job, file: Path) -> None:
    """Sidecar and journal are UTF-8: a path that is not would fail them after hours of work."""
    try:
        f"{file}\n{job.toml()}".encode()
    except UnicodeEncodeError:
        raise JobError(
            "bad-path",
            "The job file, an input or the model lies at a path that is not valid UTF-8.",
            suggestions=["Rename that file or folder."],
        ) from None


def _folder(spec: ModelSpec, disk: OnDisk) -> ModelFolder | None:
    """The model's folder where there is enough of it to tell what it is. Raises `ModelError`."""
    if spec.path:
        return folder_in(read_anatomy(spec.path)) if os.path.lexists(spec.path) else None
    return open_folder(disk.path) if disk.path and (disk.path / INDEX).is_file() else None


def _names(specs: Iterable[ModelSpec]) -> str:
    return ", ".join(spec.id for spec in specs) or "none"


# --- the values -------------------------------------------------------------------------------------------------------


def _complete(job: Job, item: Item, folder: ModelFolder | None, file: Path, output: Path | None) -> Job:
    spec, defaults = item.spec, item.spec.defaults
    inputs = _inputs(job)
    width, height = _size(job, spec, folder)
    guidance = defaults.guidance if job.guidance is None else job.guidance
    shift = job.flow_shift or defaults.shift_for(width, height) or _saved_shift(folder)
    done = replace(
        job,
        model=str(spec.path) if spec.path else item.id,
        negative_prompt=defaults.negative_prompt if job.negative_prompt is None else job.negative_prompt,
        width=width,
        height=height,
        frames=job.frames or defaults.frames,
        fps=job.fps or defaults.fps,
        steps=job.steps or defaults.steps,
        guidance=guidance,
        guidance_2=_guidance_2(job, spec, folder, guidance),
        flow_shift=shift,
        inputs=inputs,
    )
    return replace(done, output=_output(done, file, output))


def _inputs(job: Job) -> Inputs:
    """Inputs as absolute paths, every file looked at before anything starts."""
    for name in ("image", "last_image"):
        if picture := getattr(job.inputs, name):
            open_image(picture)
    others = {name: getattr(job.inputs, name) for name in job.inputs.given() if "image" not in name}
    for name, value in others.items():
        for path in value if isinstance(value, tuple) else (value,):
            _regular_file(name, path)
    absolute: dict[str, Any] = {
        name: tuple(p.resolve() for p in value) if isinstance(value, tuple) else value.resolve()
        for name in job.inputs.given()
        for value in (getattr(job.inputs, name),)
    }
    return Inputs(**absolute)


def _regular_file(name: str, path: Path) -> None:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise JobError("bad-input", f"inputs.{name}: {path} cannot be read: {error.strerror}.") from None
    if not regular:
        raise JobError("bad-input", f"inputs.{name}: {path} is not a regular file.")


def _size(job: Job, spec: ModelSpec, folder: ModelFolder | None) -> tuple[int, int]:
    """The job's size, checked; else that of its image's aspect at the default's area; else the default."""
    grid = folder.grid if folder else spec.grid
    if job.width and job.height:
        for name, value in (("width", job.width), ("height", job.height)):
            if value % grid:
                near = max(grid, round(value / grid) * grid)
                raise JobError(
                    "off-grid",
                    f"{name} = {value} is not a multiple of {grid}, the grid of {spec.id}.",
                    suggestions=[f"The nearest valid value is {near}."],
                )
        return job.width, job.height
    area = spec.defaults.width * spec.defaults.height
    if job.inputs.image:
        return size_for_aspect(*image_size(job.inputs.image), area, grid)
    return spec.defaults.width, spec.defaults.height


def _guidance_2(job: Job, spec: ModelSpec, folder: ModelFolder | None, guidance: float) -> float | None:
    two = folder.boundary_ratio is not None if folder else spec.boundary_ratio is not None
    if not two:
        if job.guidance_2 is not None:
            raise JobError(
                "one-expert",
                f"guidance_2 = {job.guidance_2:g} is given, but {spec.id} has one expert.",
                suggestions=["Leave guidance_2 out; guidance is what counts."],
            )
        return None
    if guidance <= 1:
        if (job.guidance_2 or 0) > 1:
            raise JobError(
                "bad-value",
                f"guidance_2 = {job.guidance_2:g} is above 1 while guidance is {guidance:g}, which switches guidance "
                "off for both experts.",
                suggestions=["Raise guidance above 1, or leave guidance_2 out."],
            )
        return 1.0 if job.guidance_2 is None else job.guidance_2
    if job.guidance_2 is not None:
        return job.guidance_2
    return guidance if spec.defaults.guidance_2 is None else spec.defaults.guidance_2


def _saved_shift(folder: ModelFolder | None) -> float | None:
    config = folder.config("scheduler") if folder else {}
    value = config.get("flow_shift", config.get("shift"))
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST_SHIFT:
        return None  # the rules of the folder have their say on it
    return float(value)


def _output(job: Job, file: Path, folder: Path | None) -> Output:
    name = f"{Path(job.model).name.replace(':', '-')}-{job.seed}.mp4"
    path = job.output.path or file.parent / "outputs" / name
    if folder:
        path = folder / path.name
    path = path.absolute()
    crf = job.output.crf
    suffix = path.suffix.lower()
    if suffix == ".gif" and (job.fps or 0) > _GIF_MAX_FPS:
        raise JobError(
            "bad-value",
            f"fps = {job.fps} is beyond what a gif can show.",
            suggestions=[f"The nearest valid value is {_GIF_MAX_FPS}."],
        )
    if suffix == ".mp4" and (crf or 0) > _MP4_MAX_CRF:
        raise JobError(
            "bad-value",
            f"output.crf = {crf} is beyond what H.264 takes.",
            suggestions=[f"The nearest valid value is {_MP4_MAX_CRF}."],
        )
    check_output(path)
    if suffix:
        check_ffmpeg()
    return replace(job.output, path=path, crf=DEFAULT_CRF.get(suffix) if crf is None else crf)
