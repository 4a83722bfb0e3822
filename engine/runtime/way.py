"""The way of a job: checked → planned → encoded → denoised → decoded and written → recorded.

Torch is loaded here and not before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.compat.examine import admit
from engine.compat.folder import ModelFolder
from engine.control import Control
from engine.events import Bus, JobFinished, JobStarted, PlanMade
from engine.hardware import Device, PeakMemory, choose_device
from engine.library.digest import file_digest
from engine.memory.ladder import EXACT
from engine.memory.plan import LEAST_WINDOW, Plan
from engine.runtime.cap import limit_memory
from engine.runtime.failure import does_not_fit
from engine.runtime.foresee import foresee, learn_pace
from engine.runtime.frames import Film, decode_and_write
from engine.runtime.heavy import load_libraries
from engine.runtime.locks import device_lock
from engine.runtime.prepare import Checked
from engine.runtime.record import input_digests, planned, sidecar
from engine.runtime.rescue import Rescue, forget_frames
from engine.voice import Voice

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
    device, why = _device(job.asked)
    voice = Voice(job.bus, job.id, PeakMemory(device).figures)

    def waiting(sentence: str) -> None:
        voice.warn("waiting-for-device", sentence)

    with device_lock(device.uuid, waiting, job.control, job=job.id):
        voice.say(JobStarted, device=device.name)
        job.note(device=device.uuid)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        voice.enter("check")
        folder = _checked_folder(job.asked, voice)
        plan = _planned(job.asked, device.uuid, why, voice, measure=True)
        job.note(recorded={"plan": planned(plan, job.asked.spec.family)})
        peak = PeakMemory(plan.device)  # what planning took is over
        output = _stages(replace(job, asked=_as_planned(job.asked, plan)), folder, plan, started, voice)
        job.note(recorded={"seconds": dict(voice.seconds), "loading": dict(voice.loading)})
    return _finished(job, output, since, peak)


def rehearse(asked: Checked, bus: Bus) -> None:
    """Check and plan a job without running it. Raises `WanError`."""
    load_libraries()
    device, why = _device(asked)
    voice = Voice(bus, asked.file.name, lambda: (None, None))
    voice.enter("check")
    _checked_folder(asked, voice)
    voice.leave()
    learn_pace(device)
    _planned(asked, device.uuid, why, voice, measure=False)
    voice.say(JobFinished, output=None, dry_run=True)


def _device(asked: Checked) -> tuple[Device, str]:
    """The device of the job, and why: the rung `cpu` is one, too."""
    return choose_device("cpu" if asked.job.memory.profile == "cpu" else asked.job.device)


def _checked_folder(asked: Checked, voice: Voice) -> ModelFolder:
    """The folder as it is now; what does not stop the run is told."""
    assert asked.folder  # only a plan does without
    admitted = admit(asked.item, asked.folder, asked.recipe.components)
    for finding in admitted.warnings:
        voice.warn(finding.code, finding.message)
    return admitted.folder


def _planned(asked: Checked, device: str, why: str, voice: Voice, *, measure: bool) -> Plan:
    """The plan, made with what is free now and told. Raises `FitError` (`does-not-fit`) for a job that it rules out.

    `measure`: the device is ours, and how fast it is may be measured where that is not known.
    """
    now, _ = choose_device(device)
    plan = foresee(asked, now, (*asked.reasons, f"{now.name}: {why}"), measure=measure)
    voice.say(PlanMade, **_told(plan))
    if plan.fits is False:
        raise does_not_fit(plan)
    return plan


def _told(plan: Plan) -> dict[str, Any]:
    """The fields of a plan's event."""
    figures = plan.as_dict()
    return {field.name: figures[field.name] for field in fields(PlanMade) if field.name not in ("job", "time")}


def _as_planned(asked: Checked, plan: Plan) -> Checked:
    """The job as it will run: an exact plan has no leave to lose precision; one in windows asks for those."""
    memory = replace(asked.job.memory, allow_lossy=plan.storage != EXACT)
    asked = replace(asked, job=replace(asked.job, memory=memory))
    if not plan.windows:
        return asked
    window = memory.window or max(LEAST_WINDOW, plan.windows["frames"])
    overlap = None if memory.overlap is None else min(memory.overlap, window - 1)
    return replace(asked, job=replace(asked.job, memory=replace(memory, window=window, overlap=overlap)))


def _stages(job: Traveller, folder: ModelFolder, plan: Plan, started: str, voice: Voice) -> Path:
    from engine.pipelines.components import Components, place
    from engine.pipelines.denoise import denoise
    from engine.pipelines.prompts import encode_prompts
    from engine.pipelines.resume import Course

    asked, request = job.asked, job.asked.job
    inputs = input_digests(request)
    limit_memory(plan.device, request.memory.vram_limit)
    placement = place(plan.device.torch_name)
    components = Components(folder, placement, job.control, voice, plan.hold)
    rescue, course = Rescue(components, plan, request.memory.vram_limit, job.note), Course()
    pipeline, texts = asked.recipe.pipeline, [segment.prompt for segment in request.segments]
    negative = request.negative_prompt if (request.guidance or 0) > 1 else None
    known = asked.spec.note if asked.spec.builtin else None
    if texts and request.prompt:
        voice.warn("prompt-unused", "The job's prompt is not used: each of its [[segments]] has its own.")

    def text(drift: tuple[float, ...]) -> str:
        dtype = str(components.placement.dtype).removeprefix("torch.")
        return sidecar(asked, rescue.plan, started, inputs, voice.seconds, dtype, {"drift": drift})

    try:
        voice.enter("encode")
        embeddings = rescue.run(
            "encode", lambda: encode_prompts(components, pipeline, request.prompt, negative, texts, known)
        )
        latents = rescue.run("denoise", lambda: denoise(components, asked.recipe, request, embeddings, course))
        voice.leave()
        output = decode_and_write(Film(request, asked.recipe, text, job.note), components, latents, rescue)
    except BaseException as error:
        forget_frames(error)
        raise
    finally:
        components.release()
    voice.leave()
    return output


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
