"""From prompt embeddings to latents: one call of diffusers' own pipeline."""

from __future__ import annotations

from typing import Any

import torch

from engine.job import Job
from engine.pipelines.assemble import assemble, shifted
from engine.pipelines.components import Components
from engine.pipelines.families import Recipe
from engine.pipelines.prompts import Embeddings


def denoise(components: Components, recipe: Recipe, job: Job, embeddings: Embeddings) -> torch.Tensor:
    """Run every step of a checked job; latents of shape (1, channels, latent frames, height/f, width/f), fp32.

    The seed's generator lives on the CPU, so that a seed means the same noise on every device.
    """
    pipe = assemble(components, recipe.pipeline, without=("tokenizer", "text_encoder"))
    pipe.scheduler = shifted(pipe.scheduler, job.flow_shift)
    voice = components.voice

    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        voice.progress(step + 1, job.steps or 0)
        components.control.check()
        return {}

    settings: dict[str, Any] = dict(recipe.arguments(job))
    if components.folder.boundary_ratio is not None:
        settings["guidance_scale_2"] = job.guidance_2
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
    return latents
