"""From prompt embeddings to latents: one call of diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import ModelError
from engine.finite import is_finite, not_finite
from engine.job import Job
from engine.memory.windows import in_windows, layout
from engine.pipelines.assemble import assemble, shifted
from engine.pipelines.components import Components
from engine.pipelines.families import Recipe
from engine.pipelines.handoff import OnceEncoded, OnceSeen, in_turn, turns_of
from engine.pipelines.joint import Clip, jointly
from engine.pipelines.prompts import Embeddings
from engine.pipelines.resume import Course, Remaining

_LOOK_EVERY = 5  # steps, where a look makes the host wait for the device


def denoise(
    components: Components, recipe: Recipe, job: Job, embeddings: Embeddings, course: Course | None = None
) -> torch.Tensor:
    """Run every step of a checked job that `course` has not; latents (1, channels, latent frames, h/f, w/f), fp32.

    The seed's generator lives on the CPU, so that a seed means the same noise on every device. Raises `RunError`
    (`not-finite`) rather than going on with numbers of which no picture comes.
    """
    way = _window_way(components, recipe) if in_windows(job) else None
    _check_embeddings(components, *embeddings.prompts, embeddings.negative)
    device = components.placement.device  # where embeddings were made may be another
    prompts = tuple(text.to(device) for text in embeddings.prompts)
    with components.at_work("is put together"):
        pipe = assemble(components, recipe.pipeline, without=("tokenizer", "text_encoder"))
        scheduler = shifted(pipe.scheduler, job.flow_shift)
    settings: dict[str, Any] = dict(recipe.arguments(job))
    if components.folder.boundary_ratio is not None:
        settings["guidance_scale_2"] = job.guidance_2
    call = _Call(components, job, pipe, scheduler, embeddings.negative, settings)
    course = course or Course()
    if recipe.pipeline == "WanImageToVideoPipeline" and components.folder.pipeline_module is None:
        _see_once(pipe, course, str(components.placement.device))
    generator = torch.Generator("cpu").manual_seed(job.seed or 0)
    with components.at_work("denoises"):
        if way:
            latents = way(Clip(pipe, call, course, job, layout(job), prompts, generator, components.control.check))
        else:
            latents = call(course, prompt_embeds=prompts[0], num_frames=job.frames, generator=generator)
    _check_latents(components, latents, f"After the last of {job.steps} steps the latents are")
    return latents


def _window_way(components: Components, recipe: Recipe) -> Callable[[Clip], torch.Tensor]:
    if components.folder.pipeline_module is not None:  # what such a pipeline asks of its transformer is not known
        raise ModelError(
            "no-windows",
            f"{components.folder.path} brings a pipeline of its own, and windows are made with those of diffusers.",
            suggestions=["Ask for one clip: leave memory.window and [[segments]] out."],
        )
    return {"WanPipeline": jointly, "WanImageToVideoPipeline": in_turn}[recipe.pipeline]


@dataclass(frozen=True)
class _Call:
    """One call of the pipeline: the steps of a whole clip, or of one window of windows in turn."""

    components: Components
    job: Job
    pipe: Any
    scheduler: Any
    negative: torch.Tensor | None
    settings: Mapping[str, Any]

    def __call__(self, course: Course, turn: int = 0, **of_a_clip: Any) -> torch.Tensor:
        """Every step that `course` has not; `turn` is the number of the window where they are made in turn."""
        components, job, pipe = self.components, self.job, self.pipe
        on_host = components.placement.device.type == "cpu"
        turns, steps = turns_of(job, pipe), job.steps or 0
        total, window = turns * steps, (turn + 1, turns) if turns > 1 else ()

        def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            course.keep(tensors["latents"], pipe.scheduler)
            done = turn * steps + course.done
            components.voice.progress(done, total, *window)
            components.control.check()
            if on_host or done % _LOOK_EVERY == 0:
                _check_latents(components, tensors["latents"], f"After step {done} of {total} the latents are")
            return {}

        pipe.scheduler = Remaining(self.scheduler, course)
        if course.latents is not None:
            of_a_clip["latents"] = course.latents
        latents: torch.Tensor = pipe(
            negative_prompt_embeds=None if self.negative is None else self.negative.to(components.placement.device),
            width=job.width,
            height=job.height,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            callback_on_step_end=after_step,
            output_type="latent",
            **self.settings,
            **of_a_clip,
        ).frames
        return latents


def _see_once(pipe: Any, course: Course, device: str) -> None:
    """A picture is encoded once, however often memory runs out afterwards: the condition stays the very same."""
    for name, once in (("vae", OnceEncoded), ("image_encoder", OnceSeen)):
        if (component := getattr(pipe, name, None)) is not None:
            setattr(pipe, name, course.seen.setdefault((name, device), once(component)))


def _check_embeddings(components: Components, *embeddings: torch.Tensor | None) -> None:
    for tensor in embeddings:
        if tensor is not None and not is_finite(tensor):
            module = components.bring("text_encoder")
            dtype = components.placement.dtype_of("text_encoder")
            raise not_finite("The embeddings of the prompt are", "text_encoder", module, "the text is odd", dtype)


def _check_latents(components: Components, latents: torch.Tensor, what: str) -> None:
    if is_finite(latents):
        return
    name, module = components.present or ("transformer", None)
    given = "what it was given was not (the text, or a picture by way of the VAE)"
    dtype = components.placement.dtype_of(name)
    more = ('Compute in fp32: device = "cpu".',) if dtype != torch.float32 else ()
    raise not_finite(what, name, module, given, dtype, *more)
