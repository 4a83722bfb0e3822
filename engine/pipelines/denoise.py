"""From prompt embeddings to latents: one call of diffusers' own pipeline."""

from __future__ import annotations

from typing import Any

import torch

from engine.finite import is_finite, not_finite
from engine.job import Job
from engine.pipelines.assemble import assemble, shifted
from engine.pipelines.components import Components
from engine.pipelines.families import Recipe
from engine.pipelines.prompts import Embeddings

_LOOK_EVERY = 5  # steps, where a look makes the host wait for the device


def denoise(components: Components, recipe: Recipe, job: Job, embeddings: Embeddings) -> torch.Tensor:
    """Run every step of a checked job; latents of shape (1, channels, latent frames, height/f, width/f), fp32.

    The seed's generator lives on the CPU, so that a seed means the same noise on every device. Raises `RunError`
    (`not-finite`) rather than going on with numbers of which no picture comes.
    """
    _check_embeddings(components, embeddings)
    with components.at_work("is put together"):
        pipe = assemble(components, recipe.pipeline, without=("tokenizer", "text_encoder"))
        pipe.scheduler = shifted(pipe.scheduler, job.flow_shift)
    voice, on_host = components.voice, components.placement.device.type == "cpu"

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        voice.progress(step + 1, job.steps or 0)
        components.control.check()
        if on_host or (step + 1) % _LOOK_EVERY == 0:
            _check_latents(components, tensors["latents"], f"After step {step + 1} of {job.steps} the latents are")
        return {}

    settings: dict[str, Any] = dict(recipe.arguments(job))
    if components.folder.boundary_ratio is not None:
        settings["guidance_scale_2"] = job.guidance_2
    with components.at_work("denoises"):
        latents: torch.Tensor = pipe(
            prompt_embeds=embeddings.prompt,
            negative_prompt_embeds=embeddings.negative,
            width=job.width,
            height=job.height,
            num_frames=job.frames,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            generator=torch.Generator("cpu").manual_seed(job.seed or 0),
            callback_on_step_end=after_step,
            output_type="latent",
            **settings,
        ).frames
    _check_latents(components, latents, f"After the last of {job.steps} steps the latents are")
    return latents


def _check_embeddings(components: Components, embeddings: Embeddings) -> None:
    for tensor in (embeddings.prompt, embeddings.negative):
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
