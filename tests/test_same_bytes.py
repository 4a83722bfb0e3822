"""Our latents and frames are those of the plain diffusers pipeline, bit for bit, for every family and mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from engine.compat.folder import family_of, open_folder
from engine.control import Control
from engine.events import Bus
from engine.job import Inputs, Job
from engine.pipelines.components import Components, place
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.prompts import encode_prompts
from engine.video.decode import frame_groups, pixels
from engine.video.image import fit_image, open_image
from engine.voice import Voice
from tests import tiny

W, H = 96, 64


@dataclass(frozen=True)
class Case:
    kind: str
    frames: int
    steps: int
    guidance: float
    guidance_2: float | None = None
    image: bool = False

    def __str__(self) -> str:
        mode = "image" if self.image else "text"
        return f"{self.kind}-{mode}-{self.frames}f-{self.steps}s-g{self.guidance:g}"


CASES = [
    Case("t2v", 17, 5, 5.0),
    Case("t2v", 33, 4, 1.0),
    Case("t2v-two", 17, 7, 4.0, 3.0),
    Case("t2v-two", 33, 5, 1.0, 1.0),
    Case("i2v-clip", 17, 3, 5.0, image=True),
    Case("i2v-clip", 33, 4, 1.0, image=True),
    Case("i2v-two", 33, 7, 3.5, 3.5, image=True),
    Case("i2v-two", 17, 6, 1.0, 1.0, image=True),
    Case("ti2v", 17, 5, 5.0),
    Case("ti2v", 33, 4, 1.0),
    Case("ti2v", 17, 3, 5.0, image=True),
    Case("ti2v", 33, 4, 1.0, image=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.sampled(3)
def test_latents_and_frames_equal_plain_diffusers(
    case: Case, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, job = tiny_model(case.kind), _job(case, tmp_path)
    latents, frames = _ours(folder, job)
    plain_latents, plain_frames = _plain(folder, job)
    assert torch.equal(latents, plain_latents)
    assert frames.shape == (case.frames, H, W, 3)
    assert np.array_equal(frames, plain_frames)
    assert frames.std() > 10  # not a flat picture, on which any two ways agree


def test_a_kept_embedding_gives_the_same_latents(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    job = _job(CASES[0], tmp_path)
    first, _ = _ours(tiny_model("t2v"), job)
    again, _ = _ours(tiny_model("t2v"), job)
    other, _ = _ours(tiny_model("t2v"), replace(job, prompt="two boxers fight"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["t2v", "ti2v"])
def test_streamed_decode_equals_the_public_decode(kind: str, tiny_model: Callable[[str], Path]) -> None:
    vae = diffusers.AutoencoderKLWan.from_pretrained(tiny_model(kind) / "vae").eval()
    config = vae.config
    latents = torch.randn(1, config.z_dim, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
    std = 1.0 / torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        whole = vae.decode(latents / std + mean).sample
    groups = list(frame_groups(vae, latents, lambda: None))
    assert [group.shape[2] for group in groups] == [1, 4, 4, 4, 4]
    assert torch.equal(torch.cat(groups, dim=2), whole)


def _job(case: Case, tmp_path: Path) -> Job:
    picture = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(picture)
    return Job(
        prompt="a red circle moving right",
        negative_prompt="blurry, gray",
        width=W,
        height=H,
        frames=case.frames,
        fps=16,
        steps=case.steps,
        guidance=case.guidance,
        guidance_2=case.guidance_2,
        flow_shift=5.0,
        seed=7,
        inputs=Inputs(image=picture if case.image else None),
    )


def _ours(path: Path, job: Job) -> tuple[torch.Tensor, Any]:
    folder = open_folder(path)
    how = recipe(family_of(folder), job.task)
    tiny.sound(path, how.components)
    voice = Voice(Bus(), "job", lambda: (None, None))
    components = Components(folder, place("cpu"), Control(), voice)
    negative = job.negative_prompt if (job.guidance or 0) > 1 else None
    latents = denoise(components, how, job, encode_prompts(components, how.pipeline, job.prompt, negative))
    groups = frame_groups(components.bring("vae"), latents, lambda: None)
    return latents, np.concatenate([pixels(group) for group in groups])


def _plain(path: Path, job: Job) -> tuple[torch.Tensor, Any]:
    kind = recipe(family_of(open_folder(path)), job.task).pipeline
    pipe = getattr(diffusers, kind).from_pretrained(path, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=job.flow_shift)
    more: dict[str, Any] = {}
    if job.inputs.image:
        more["image"] = fit_image(open_image(job.inputs.image), W, H)
    if job.guidance_2 is not None:
        more["guidance_scale_2"] = job.guidance_2

    def call(output: str) -> Any:
        return pipe(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            width=W,
            height=H,
            num_frames=job.frames,
            num_inference_steps=job.steps,
            guidance_scale=job.guidance,
            generator=torch.Generator("cpu").manual_seed(job.seed or 0),
            output_type=output,
            **more,
        ).frames

    return call("latent"), np.stack([np.asarray(frame) for frame in call("pil")[0]])
