"""Windows in turn: the first is the plain clip, what is handed on arrives bit by bit, and stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from engine.compat.folder import family_of
from engine.control import Control
from engine.errors import Cancelled
from engine.events import Progress, Stage
from engine.job import Inputs, Job, Memory, Segment
from engine.memory.windows import layout, turns
from engine.pipelines.assemble import assemble
from engine.pipelines.components import Components
from engine.pipelines.families import recipe
from engine.pipelines.handoff import OnceEncoded, Prefixed
from engine.pipelines.joint import Around
from engine.pipelines.prompts import encode_prompts
from engine.pipelines.resume import Course
from tests.ears import Ears, Stops
from tests.test_joint import TinyModel, components, run

pytestmark = pytest.mark.sampled(2)

KINDS = ("i2v-clip", "i2v-two", "ti2v")
WINDOW = Memory(window=33, overlap=12)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    picture = Image.effect_mandelbrot((64, 64), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    picture.save(tmp_path / "first.png")
    return Job(
        prompt="a cat",
        width=64,
        height=64,
        frames=89,
        steps=2,
        guidance=4.0,
        flow_shift=3.0,
        seed=3,
        inputs=Inputs(image=tmp_path / "first.png"),
        memory=WINDOW,
    )


def given_to(folder: Path, job: Job) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """The clip, and all that the experts were given for it."""
    given: list[dict[str, Any]] = []

    class Listening(Components):
        def _load(self, name: str) -> Any:
            module = super()._load(name)
            if name.startswith("transformer"):
                module.register_forward_pre_hook(lambda _, args, call: given.append(call), with_kwargs=True)
            return module

    plain = components(folder)
    held = Listening(plain.folder, plain.placement, plain.control, plain.voice)
    return run(held, job), given


def lead(kind: str) -> int:
    return 0 if kind == "ti2v" else 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.sampled(3)
def test_a_clip_no_longer_than_a_window_is_the_plain_one_bit_by_bit(kind: str, job: Job, tiny_model: TinyModel) -> None:
    job = replace(job, frames=33)
    plain = run(components(tiny_model(kind)), replace(job, memory=Memory()))
    assert torch.equal(run(components(tiny_model(kind)), replace(job, memory=Memory(window=33))), plain)


@pytest.mark.parametrize("kind", [pytest.param("i2v-clip", marks=pytest.mark.soak), "i2v-two", "ti2v"])
def test_the_first_window_of_a_long_clip_is_the_plain_clip(kind: str, job: Job, tiny_model: TinyModel) -> None:
    long = run(components(tiny_model(kind)), job)
    short = run(components(tiny_model(kind)), replace(job, frames=33, memory=Memory()))
    assert long.shape[2] == 23 and long.isfinite().all()
    assert torch.equal(long[:, :, :9], short)
    assert long[:, :, 9:].std() > 0.1 and not torch.equal(long[:, :, 9:12], long[:, :, 12:15])


@pytest.mark.parametrize("kind", [pytest.param("i2v-clip", marks=pytest.mark.soak), "i2v-two", "ti2v"])
def test_handed_latents_arrive_bit_by_bit_and_stay(kind: str, job: Job, tiny_model: TinyModel) -> None:
    """What a later window is told of the clip is what the clip holds at its end, at every step of both experts."""
    long, given = given_to(tiny_model(kind), replace(job, guidance=1.0, steps=4))
    windows = turns(layout(job), lead(kind))
    assert [call["hidden_states"].shape[2] for call in given] == [
        window.stop - window.start + (lead(kind) if window.known else 0) for window in windows for _ in range(4)
    ]
    for number, window in enumerate(windows[1:], 1):
        handed = long[:, :, window.start : window.start + window.known]
        assert handed.shape[2] == 3 - lead(kind)
        for call in given[4 * number : 4 * number + 4]:
            states, times = call["hidden_states"], call["timestep"]
            if kind == "ti2v":
                assert torch.equal(states[:, :, : window.known], handed)
                tokens = times.view(states.shape[2], -1)
                assert not tokens[: window.known].any() and (tokens[window.known :] > 0).all()
            else:
                told, mask = states[:, -16:], states[:, 16:20]
                assert torch.equal(told[:, :, 1 : 1 + window.known], handed)
                assert (mask[:, :, : 1 + window.known] == 1).all() and not mask[:, :, 1 + window.known :].any()
                anchor = given[0]["hidden_states"][:, -16:]  # the picture, and what the VAE makes of empty frames
                assert torch.equal(told[:, :, 0], anchor[:, :, 0])
                empty = slice(1 + window.known, states.shape[2])
                assert torch.equal(told[:, :, empty], anchor[:, :, empty])


def test_a_prefix_of_one_latent_is_what_diffusers_does_bit_by_bit(job: Job, tiny_model: TinyModel) -> None:
    job = replace(job, frames=33, memory=Memory())
    plain = run(components(tiny_model("ti2v")), job)
    held = components(tiny_model("ti2v"))
    how = recipe(family_of(held.folder), "image")
    prompts = encode_prompts(held, how.pipeline, job.prompt, "gray")
    pipe = assemble(held, how.pipeline, without=("tokenizer", "text_encoder"))
    picture = plain[:, :, :1]  # which the pipeline puts back at the end
    pipe.transformer = Spoilt(Prefixed(pipe.transformer, picture))
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, flow_shift=3.0)
    ours = pipe(
        **how.arguments(job),
        prompt_embeds=prompts.prompt,
        negative_prompt_embeds=prompts.negative,
        width=64,
        height=64,
        num_frames=33,
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="latent",
    ).frames
    assert torch.equal(ours, plain)


class Spoilt(Around):
    """Takes away from what is behind it the picture and the timesteps that the pipeline gave for it."""

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **more: Any) -> Any:
        states = hidden_states.clone()
        states[:, :, 0] = 7.0
        return self.inner(hidden_states=states, timestep=torch.full_like(timestep, float(timestep.max())), **more)


def test_fewer_empty_frames_encode_to_the_beginning_of_what_more_give(tiny_model: TinyModel) -> None:
    held = components(tiny_model("i2v-two"))
    vae = held.bring("vae")
    pixels = torch.zeros(1, 3, 33, 64, 96)
    pixels[:, :, 0] = torch.rand(3, 64, 96) * 2 - 1
    once = OnceEncoded(held.stand_in("vae"))
    with torch.no_grad():
        for frames in (33, 25, 9, 1):
            fresh = vae.encode(pixels[:, :, :frames]).latent_dist.mode()
            torch.testing.assert_close(once.encode(pixels[:, :, :frames]).latent_dist.mode(), fresh, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["i2v-clip", "ti2v"])
def test_the_picture_is_encoded_once(kind: str, job: Job, tiny_model: TinyModel) -> None:
    ears = Ears()
    run(components(tiny_model(kind), bus=ears), job)
    loads = [e.component for e in ears.heard if isinstance(e, Stage) and e.name == "load" and e.state == "finished"]
    assert loads.count("vae") == loads.count("transformer") == 1
    assert loads.count("image_encoder") == (1 if kind == "i2v-clip" else 0)


def test_each_window_has_the_prompt_of_its_segment(job: Job, tiny_model: TinyModel) -> None:
    parts = (Segment(33, "a cat"), Segment(57, "a dog"))
    held = components(tiny_model("ti2v"))
    texts = [encode_prompts(held, "WanPipeline", part.prompt, None).prompt for part in parts]
    job = replace(job, prompt="", segments=parts, guidance=1.0)
    _, given = given_to(tiny_model("ti2v"), job)
    named = [next(i for i, t in enumerate(texts) if torch.equal(t, call["encoder_hidden_states"])) for call in given]
    assert named == [0, 0] + [1, 1] * (len(turns(layout(job), 0)) - 1)


def test_progress_counts_the_steps_of_all_windows(job: Job, tiny_model: TinyModel) -> None:
    ears = Ears()
    run(components(tiny_model("ti2v"), bus=ears), job)
    steps = 2 * len(turns(layout(job), 0))
    heard = [(e.done, e.total) for e in ears.heard if isinstance(e, Progress)]
    assert heard == [(done, steps) for done in range(1, steps + 1)]


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("i2v-two", 5),
        ("ti2v", 1),
        ("ti2v", 2),
        ("ti2v", 5),
        *(pytest.param(kind, after, marks=pytest.mark.soak) for kind in ("i2v-two", "i2v-clip") for after in (1, 2, 3)),
    ],
)
@pytest.mark.sampled(2)
def test_a_run_that_stopped_goes_on_to_the_same_latents(kind: str, after: int, job: Job, tiny_model: TinyModel) -> None:
    undisturbed = run(components(tiny_model(kind)), job)
    control, course = Control(), Course()
    with pytest.raises(Cancelled):
        run(components(tiny_model(kind), control, Stops(control, after)), job, course)
    ears = Ears()
    assert torch.equal(run(components(tiny_model(kind), bus=ears), job, course), undisturbed)
    assert next(e.done for e in ears.heard if isinstance(e, Progress)) == after + 1
