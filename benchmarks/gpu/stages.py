"""The stages of a run, by the very functions a run calls, each beside its prediction."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from benchmarks.gpu.grid import DENOISE, TEXT, Point
from benchmarks.gpu.watch import Gauge, Taken, Watched
from engine.catalog import ModelSpec
from engine.compat.folder import ModelFolder
from engine.control import Control
from engine.errors import WanError
from engine.events import Bus
from engine.hardware import Device
from engine.job import Job
from engine.memory.figures import Figures
from engine.memory.ladder import ran_out
from engine.memory.pace import Pace, work_seconds
from engine.memory.parts import PRECISIONS, TOKENS, Clip, Precision
from engine.memory.predict import CONTEXT, Prediction, Stage, predicted, size_of
from engine.memory.room import Room
from engine.pipelines.components import Components, Placement, place
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.prompts import Embeddings, encode_prompts
from engine.runtime.failure import first_line
from engine.runtime.frames import _decoded
from engine.runtime.rescue import forget_frames
from engine.voice import Voice

NEGATIVE = "blurry, still, low quality"
_prompt = count(1)


@dataclass(frozen=True)
class Bench:
    """A model on a device, and what its predictions are made of."""

    spec: ModelSpec
    folder: ModelFolder
    device: Device
    gauge: Gauge
    figures: Figures
    pace: Pace | None

    @property
    def placement(self) -> Placement:
        return place(self.device.torch_name)


def precision_on(device: Device) -> Precision:
    """That of the transformers of a run on this device."""
    placement = place(device.torch_name)
    if placement.device.type == "cpu":
        return PRECISIONS[2]
    return PRECISIONS[0 if placement.dtype == torch.bfloat16 else 1]


def job_of(spec: ModelSpec, clip: Clip) -> Job:
    """With guidance, and a shift at which each of two experts has half of the steps. No prompt was ever seen before."""
    return Job(
        prompt=f"a red circle moving right, number {next(_prompt)}",
        negative_prompt=f"{NEGATIVE}, number {next(_prompt)}",
        width=clip.width,
        height=clip.height,
        frames=clip.frames,
        fps=spec.defaults.fps,
        steps=clip.steps,
        guidance=5.0,
        guidance_2=5.0 if spec.two_experts else None,
        flow_shift=3.0,
        seed=1,
    )


def measured(bench: Bench, point: Point) -> Iterator[dict[str, Any]]:
    """A row for each component at work in the stages of a point; one that says why where that failed."""
    expected = predicted(bench.figures, point.clip, point.held)
    components = Watched(
        bench.folder, bench.placement, Control(), Voice(Bus(), "bench", lambda: (None, None)), point.held,
        gauge=bench.gauge,
    )  # fmt: skip
    latents = None
    try:
        for stage in point.stages:
            before = len(components.taken)
            latents = _run(bench, components, point, stage, latents)
            components.close()
            for taken in components.taken[before:]:
                yield row(bench, point, stage, taken, expected)
    except (RuntimeError, MemoryError, OSError, WanError) as error:  # the other points can be measured all the same
        yield _failed(bench, point, stage, error)
        forget_frames(error)
    finally:
        del latents
        components.close()
        components.release()
        gc.collect()


def _run(bench: Bench, components: Components, point: Point, stage: str, latents: Any) -> Any:
    """One stage; what it leaves for the next."""
    job, how = job_of(bench.spec, point.clip), recipe(bench.spec.family, "text")
    if stage == TEXT:
        encode_prompts(components, how.pipeline, job.prompt, job.negative_prompt)
        return None
    if stage == DENOISE:
        return denoise(components, how, job, _embeddings(bench))
    if latents is None:
        model, seed = bench.figures.model, torch.Generator().manual_seed(1)
        noise = torch.randn((1, model.parts["vae"].get("z_dim"), *size_of(model, point.clip)), generator=seed)
        latents = noise.to(bench.placement.device)
    components.bring("vae")
    for _ in _decoded(components, latents, point.clip.frames):
        pass
    return None


def _embeddings(bench: Bench) -> Embeddings:
    """Random ones: that of a text is measured by itself, and says nothing on random weights."""
    model = bench.figures.model
    width = model.parts[model.experts[0]].get("text_dim")
    one, other = torch.randn(2, 1, TOKENS, width, generator=torch.Generator().manual_seed(2))
    dtype = bench.placement.dtype_of("text_encoder")
    return Embeddings((one.to(dtype),), other.to(dtype))


# --- rows ------------------------------------------------------------------------------------------------------------


def about(bench: Bench, point: Point, stage: str, component: str) -> dict[str, Any]:
    """What names a row."""
    return {
        "model": bench.spec.name,
        "clip": point.size,
        "rung": point.held.rung.name,
        "form": point.held.form.name,
        "stage": stage,
        "component": component,
    }


def row(bench: Bench, point: Point, stage: str, taken: Taken, expected: Prediction | None) -> dict[str, Any]:
    """Predicted beside measured: bytes and seconds."""
    found = stage_of(expected, stage, taken.component)
    calls = sorted(taken.calls)
    branches = 1 + point.clip.guided
    return {
        **about(bench, point, stage, taken.component),
        "outcome": "ok",
        "predicted": _prediction(found, bench.pace) if found else None,
        "allocated": taken.allocated,
        "reserved": taken.reserved,
        "context": taken.context,
        "driver": taken.driver,
        "ram": taken.ram,
        "seconds": round(taken.seconds, 4),
        "loading": round(taken.loading, 4),
        "step_seconds": round(branches * calls[len(calls) // 2], 4) if calls and stage == DENOISE else None,
        "copied_per_second": _copied(found, taken) if found and point.held.rung.level else None,
    }


def stage_of(expected: Prediction | None, stage: str, component: str) -> Stage | None:
    found = expected.stages if expected else ()
    return next((one for one in found if (one.name, one.component) == (stage, component)), None)


def _prediction(found: Stage, pace: Pace | None) -> dict[str, Any]:
    return {
        "weights": found.weights_bytes,
        "activations": found.activations_bytes,
        "reserved": max(0, found.vram_bytes - CONTEXT),
        "driver": found.vram_bytes,
        "ram": found.ram_bytes,
        "seconds": None if pace is None else round(work_seconds(found, pace), 4),
    }


def _copied(found: Stage, taken: Taken) -> float | None:
    """Bytes a second from RAM to the device while weights stream, at least: copies wait for what is computed, too."""
    return found.moved_bytes / taken.seconds if taken.seconds and found.component != "vae" else None


def _failed(bench: Bench, point: Point, stage: str, error: Exception) -> dict[str, Any]:
    says = "out of memory" if ran_out(error) else f"{type(error).__name__}: {first_line(error)}"
    return {**about(bench, point, stage, ""), "outcome": says}


def too_large(bench: Bench, point: Point, there: Room) -> str | None:
    """Why a point is not begun: it would not fit, or end this process for want of RAM. None where it may."""
    expected = predicted(bench.figures, point.clip, point.held)
    if expected is None:
        return None
    stages = [stage for stage in expected.stages if stage.name in point.stages]
    vram, host = max(stage.vram_bytes for stage in stages), max(stage.ram_bytes for stage in stages)
    if there.vram is not None and vram > there.vram:
        return f"predicted {vram / 1e9:.1f} GB, the card has {there.vram / 1e9:.1f} GB free"
    if there.ram is not None and host > there.ram:
        return f"predicted {host / 1e9:.1f} GB of RAM, {there.ram / 1e9:.1f} GB are there"
    return None
