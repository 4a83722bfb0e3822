"""The way of a job: checked → planned → encoded → denoised → decoded and written → recorded.

Torch is loaded here and not before.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.compat.examine import admit
from engine.compat.folder import ModelFolder
from engine.control import Control
from engine.errors import RunError, WanError
from engine.events import Bus, JobFinished, JobStarted, PlanMade
from engine.hardware import PeakMemory, choose_device
from engine.library.digest import file_digest
from engine.memory.plan import Plan, make_plan
from engine.runtime.heavy import load_libraries
from engine.runtime.locks import device_lock
from engine.runtime.prepare import Checked
from engine.runtime.record import input_digests, sidecar
from engine.video.write import open_writer
from engine.voice import Voice

if TYPE_CHECKING:
    import torch

    from engine.pipelines.components import Components

Note = Callable[..., None]


@dataclass(frozen=True)
class Traveller:
    """What goes the way: a checked job with its id, its stop switch and the bus it speaks on.

    `note` records columns of the job's journal row.
    """

    asked: Checked
    id: str
    control: Control
    bus: Bus
    note: Note


def travel(job: Traveller) -> JobFinished:
    """Run a job from check to record. Raises `WanError` or `Cancelled`; then nothing stands under a final name."""
    since = time.monotonic()
    load_libraries()
    device, why = choose_device(job.asked.job.device)
    peak = PeakMemory(device)
    voice = Voice(job.bus, job.id, peak.figures)
    plan = make_plan(job.asked.job, device, (*job.asked.reasons, f"{device.name}: {why}"))

    def waiting(sentence: str) -> None:
        voice.warn("waiting-for-device", sentence)

    with device_lock(device.uuid, waiting, job.control, job=job.id):
        voice.say(JobStarted, device=device.name)
        job.note(device=device.uuid)
        output = _stages(job, plan, voice)
    return _finished(job, output, since, peak)


def rehearse(asked: Checked, bus: Bus) -> None:
    """Check and plan a job without running it. Raises `WanError`."""
    load_libraries()
    device, why = choose_device(asked.job.device)
    voice = Voice(bus, asked.file.name, lambda: (None, None))
    voice.enter("check")
    if asked.folder:
        _checked_folder(asked, asked.folder, voice)
    voice.leave()
    say_plan(voice, make_plan(asked.job, device, (*asked.reasons, f"{device.name}: {why}")))
    voice.say(JobFinished, output=None, dry_run=True)


def _checked_folder(asked: Checked, path: Path, voice: Voice) -> ModelFolder:
    """The folder as it is now; what does not stop the run is told."""
    admitted = admit(asked.item, path, asked.recipe.components)
    for finding in admitted.warnings:
        voice.warn(finding.code, finding.message)
    return admitted.folder


def _stages(job: Traveller, plan: Plan, voice: Voice) -> Path:
    from engine.pipelines.components import Components, place
    from engine.pipelines.denoise import denoise
    from engine.pipelines.prompts import encode_prompts

    asked, request = job.asked, job.asked.job
    started = datetime.now(UTC).isoformat(timespec="seconds")
    voice.enter("check")
    folder = _checked_folder(asked, asked.folder or _built_in(asked, voice), voice)
    if asked.spec.builtin and asked.spec.note:
        voice.warn("model-note", asked.spec.note)
    say_plan(voice, plan)
    inputs = input_digests(request)
    placement = place(plan.device.torch_name)
    limit_memory(plan, request.memory.vram_limit)
    components = Components(folder, placement, job.control, voice)
    try:
        voice.enter("encode")
        negative = request.negative_prompt if (request.guidance or 0) > 1 else None
        embeddings = encode_prompts(components, asked.recipe.pipeline, request.prompt, negative)
        latents = denoise(components, asked.recipe, request, embeddings)
        voice.leave()
        dtype = str(placement.dtype).removeprefix("torch.")
        text = sidecar(asked, plan, started, inputs, voice.seconds, dtype)
        output = _decode_and_write(job, components, latents, text)
    except BaseException as error:
        _forget_frames(error)
        raise
    finally:
        components.release()
    voice.leave()
    return output


def _forget_frames(error: BaseException) -> None:
    """Drop the frames of a failure: they hold weights that would still be there when the next job loads its own.

    Where they were stays readable, as a note.
    """
    if isinstance(error, Exception) and not isinstance(error, WanError):
        error.add_note("".join(traceback.format_exception(error)))
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def say_plan(voice: Voice, plan: Plan) -> None:
    voice.say(
        PlanMade,
        profile=plan.profile,
        fits=plan.fits,
        device=plan.device.as_dict(),
        vram_bytes=plan.vram_bytes,
        ram_bytes=plan.ram_bytes,
        seconds=plan.seconds,
        reasons=plan.reasons,
    )


def _built_in(asked: Checked, voice: Voice) -> Path:
    from engine.pipelines.demo import make_demo

    with voice.during("load", asked.spec.id):
        return make_demo(asked.spec.id)


def limit_memory(plan: Plan, limit: int | None) -> None:
    """Make `vram_limit` a hard cap: torch refuses to allocate beyond it."""
    device = plan.device
    if not device.torch_name.startswith("cuda"):
        return
    import torch

    total = torch.cuda.get_device_properties(device.torch_name).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (limit or total) / total), device.torch_name)


def _decode_and_write(job: Traveller, components: Components, latents: torch.Tensor, text: str) -> Path:
    """Stream frames into the file; when the encoder fails, decode again into a folder of PNGs."""
    path = job.asked.job.output.path
    assert path  # a checked job has one
    try:
        return _write(job, components, latents, text, path)
    except RunError as error:
        if error.code not in ("encoding-failed", "ffmpeg-missing") or not path.suffix:
            raise
        folder = path.with_suffix("")
        components.voice.warn(
            "encoding-failed", f"{error.message} {error.cause or ''} The frames are kept as PNGs in a folder instead."
        )
        return _write(job, components, latents, text, folder)


def _write(job: Traveller, components: Components, latents: torch.Tensor, text: str, path: Path) -> Path:
    from engine.video.decode import pixels

    request, voice = job.asked.job, components.voice
    shape: dict[str, Any] = {"width": request.width, "height": request.height, "fps": request.fps}
    if request.output.crf is not None:
        shape["crf"] = request.output.crf
    voice.enter("decode")
    components.bring("vae")
    with (
        voice.during("write"),
        open_writer(path, **shape, metadata=text) as writer,
    ):
        job.note(scratch=str(writer.scratch))
        done = 0
        for group in _decoded(components, latents):
            frames = pixels(group)
            writer.write(frames)
            done += len(frames)
            voice.progress(done, request.frames or 0)
        job.control.check()
        return writer.finish(lambda _: text)


def _decoded(components: Components, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    from engine.video.decode import frame_groups

    with components.at_work("decodes the frames"):  # what is done with a frame does not come in here
        yield from frame_groups(components.bring("vae"), latents, components.control.check)


def _finished(job: Traveller, output: Path, since: float, peak: PeakMemory) -> JobFinished:
    request = job.asked.job
    vram, rss = peak.peaks()
    return JobFinished(
        job=job.id,
        output=str(output),
        frames=request.frames,
        width=request.width,
        height=request.height,
        fps=request.fps,
        seed=request.seed,
        seconds=round(time.monotonic() - since, 3),
        peak_vram_bytes=vram,
        peak_rss_bytes=rss,
        output_sha256=file_digest(output) if output.is_file() else None,
    )
