"""Joint windows: the plain clip where one window does, one window in memory where it does not, a prompt a segment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from engine.compat.folder import family_of, open_folder
from engine.control import Control
from engine.errors import Cancelled, ModelError
from engine.events import Bus, Progress
from engine.job import Job, Memory, Segment
from engine.memory.windows import Layout, grid, layout
from engine.pipelines.assemble import assemble
from engine.pipelines.components import Components, place
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.joint import Clip, Jointly, noise
from engine.pipelines.prompts import encode_prompts
from engine.pipelines.resume import Course
from engine.voice import Voice
from tests.ears import Ears, Stops

pytestmark = pytest.mark.sampled(3)

TinyModel = Callable[[str], Path]
JOB = Job(prompt="a cat", width=64, height=64, frames=97, steps=3, guidance=4.0, flow_shift=3.0, seed=3)
SHORT = Memory(window=33, overlap=12)


def components(folder: Path, control: Control | None = None, bus: Bus | None = None) -> Components:
    voice = Voice(bus or Bus(), "j", lambda: (None, None))
    return Components(open_folder(folder), place("cpu"), control or Control(), voice)


def run(held: Components, job: Job, course: Course | None = None) -> torch.Tensor:
    how = recipe(family_of(held.folder), job.task)
    if held.folder.boundary_ratio is not None:
        job = replace(job, guidance_2=3.0)
    texts = [segment.prompt for segment in job.segments]
    prompts = encode_prompts(held, how.pipeline, job.prompt, "gray" if (job.guidance or 0) > 1 else None, texts)
    return denoise(held, how, job, prompts, course)


def seen_by(held: Components, job: Job, name: str = "transformer") -> list[dict[str, Any]]:
    """What an expert is given from now on, call after call. Prompts are encoded before, so that it may stay."""
    given: list[dict[str, Any]] = []
    for text in (job.prompt, *(part.prompt for part in job.segments)):
        encode_prompts(held, "WanPipeline", text, "gray")
    held.bring(name).register_forward_pre_hook(lambda _, args, more: given.append(more), with_kwargs=True)
    return given


class Framewise(nn.Module):
    """A transformer whose prediction for a token follows from that token and its timestep alone."""

    config = None
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cache_context(self, name: str, **more: Any) -> Any:
        return nullcontext()

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
        self.given.append((hidden_states, encoder_hidden_states))
        times = timestep.view(-1, 1, 1, 1, 1)
        if timestep.ndim == 2:
            times = timestep.view(1, 1, hidden_states.shape[2], 1, -1)[..., :1]
        return (hidden_states * times + 1,)


# --- the same as without windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "window"), [("t2v", 121), ("t2v-two", 97), ("ti2v", 97)])
@pytest.mark.sampled(3)
def test_a_clip_no_longer_than_a_window_is_the_plain_one_bit_by_bit(
    kind: str, window: int, tiny_model: TinyModel
) -> None:
    plain = run(components(tiny_model(kind)), JOB)
    assert torch.equal(run(components(tiny_model(kind)), replace(JOB, memory=Memory(window=window))), plain)
    one = replace(JOB, prompt="", segments=(Segment(97, "a cat"),), memory=Memory(window=97))
    assert torch.equal(run(components(tiny_model(kind)), one), plain)


@pytest.mark.parametrize("tokens", [False, True])
def test_windows_of_what_looks_at_no_neighbour_blend_to_the_whole(tokens: bool) -> None:
    """Every latent, timestep and share is at its place, and anchors are dropped."""
    torch.manual_seed(0)
    latents, inner = torch.randn(1, 2, 101, 2, 4), Framewise()
    stand_in = Jointly(inner, Layout(101, 21, 4), (), lambda: None)
    for now in (999.0, 750.0, 3.0):
        inner.given.clear()
        timestep = torch.tensor([now])
        if tokens:
            timestep = torch.rand(1, 101, 1).expand(1, 101, 2).flatten(1) * now
        (blended,) = stand_in(latents, timestep, torch.zeros(1))
        (whole,) = Framewise()(latents, timestep, torch.zeros(1))
        torch.testing.assert_close(blended, whole, rtol=1e-5, atol=1e-4 * now)
        later = [given for given, _ in inner.given[1:]]
        assert len(later) == 5 and all(torch.equal(given[:, :, :1], latents[:, :, :1]) for given in later)
    assert blended.dtype == latents.dtype


# --- a long clip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["t2v", "t2v-two", "ti2v"])
@pytest.mark.sampled(3)
def test_the_model_never_sees_more_than_a_window(kind: str, tiny_model: TinyModel) -> None:
    held = components(tiny_model(kind))
    given = seen_by(held, JOB)
    latents = run(held, replace(JOB, guidance=1.0, memory=SHORT))
    assert latents.shape[2] == 25 and latents.isfinite().all()
    found = layout(replace(JOB, memory=SHORT))
    sizes = [call["hidden_states"].shape[2] for call in given]
    assert max(sizes) == found.window == 9
    assert len(sizes) % len(grid(found, 0)) == 0
    if kind != "t2v-two":
        assert len(sizes) == 3 * len(grid(found, 0))
    assert torch.equal(latents, run(components(tiny_model(kind)), replace(JOB, guidance=1.0, memory=SHORT)))


def test_first_noise_is_the_pipelines_and_later_windows_shuffle_it(tiny_model: TinyModel) -> None:
    held, job = components(tiny_model("t2v")), replace(JOB, frames=401, memory=Memory(window=81, overlap=16))
    pipe = assemble(held, "WanPipeline", without=("tokenizer", "text_encoder"))
    generator = torch.Generator("cpu").manual_seed(3)
    clip = Clip(pipe, lambda: torch.empty(0), Course(), job, layout(job), (), generator, lambda: None)
    made = noise(clip)
    assert made.shape == (1, 16, 101, 8, 8) and made.dtype == torch.float32
    own = pipe.prepare_latents(
        1, 16, 64, 64, 81, torch.float32, torch.device("cpu"), torch.Generator("cpu").manual_seed(3)
    )
    assert torch.equal(made[:, :, :21], own)
    kinds = [next(i for i in range(21) if torch.equal(made[:, :, at], own[:, :, i])) for at in range(101)]
    assert kinds[:21] == list(range(21))
    for start in range(0, 101 - 21, 17):  # every window apart by window less overlap has each latent of noise once
        assert sorted(kinds[start : start + 21]) == list(range(21))
    assert kinds[21:38] != sorted(kinds[21:38])


def test_each_window_has_the_prompt_of_its_segment(tiny_model: TinyModel) -> None:
    parts = (Segment(33, "a cat"), Segment(33, "a dog"), Segment(33, "a red star"))
    job = replace(JOB, prompt="", segments=parts)
    held = components(tiny_model("t2v"))
    texts = [encode_prompts(held, "WanPipeline", part.prompt, "gray") for part in parts]
    given = seen_by(held, job)
    long = run(held, job)
    wanted = [*(text.prompt for text in texts), texts[0].negative]
    named = [_which(call["encoder_hidden_states"], wanted) for call in given]
    half = len(grid(layout(job), 0))
    for step in range(3):
        cond, uncond = named[2 * half * step :][:half], named[2 * half * step :][half : 2 * half]
        assert cond == sorted(cond) and set(cond) == {0, 1, 2}
        assert set(uncond) == {3}
    one = run(components(tiny_model("t2v")), replace(job, segments=(Segment(97, "a cat"),), memory=Memory(window=33)))
    assert not torch.equal(one, long)
    assert torch.equal(run(components(tiny_model("t2v")), replace(job, memory=Memory(window=33))), long)


def _which(text: torch.Tensor, among: list[Any]) -> int:
    return next(i for i, other in enumerate(among) if torch.equal(text, other))


def test_progress_is_in_steps_of_the_whole_clip(tiny_model: TinyModel) -> None:
    ears = Ears()
    run(components(tiny_model("t2v"), bus=ears), replace(JOB, memory=SHORT))
    assert [(e.done, e.total) for e in ears.heard if isinstance(e, Progress)] == [(1, 3), (2, 3), (3, 3)]


def test_a_cancel_takes_effect_at_the_next_window(tiny_model: TinyModel) -> None:
    control = Control()
    held = components(tiny_model("t2v"), control)
    given = seen_by(held, JOB)
    held.bring("transformer").register_forward_hook(lambda *_: control.cancel() if len(given) == 2 else None)
    with pytest.raises(Cancelled):
        run(held, replace(JOB, memory=SHORT))
    assert len(given) == 2


@pytest.mark.parametrize(("kind", "after"), [("t2v", 1), ("t2v-two", 2)])
@pytest.mark.sampled(2)
def test_a_run_that_stopped_goes_on_to_the_same_latents(kind: str, after: int, tiny_model: TinyModel) -> None:
    job, course = replace(JOB, memory=SHORT), Course()
    undisturbed = run(components(tiny_model(kind)), job)
    control = Control()
    with pytest.raises(Cancelled):
        run(components(tiny_model(kind), control, Stops(control, after)), job, course)
    assert course.done == after
    assert torch.equal(run(components(tiny_model(kind)), job, course), undisturbed)


def test_a_pipeline_that_came_with_the_model_gets_no_windows(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = components(tiny_model("t2v"))
    how = recipe("t2v", "text")
    prompts = encode_prompts(held, how.pipeline, "a cat", "gray")
    monkeypatch.setattr(type(held.folder), "pipeline_module", "mine")
    with pytest.raises(ModelError, match="windows are made with"):
        denoise(held, how, replace(JOB, memory=SHORT), prompts)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_the_transformer_takes_the_memory_of_one_window(tiny_model: TinyModel) -> None:
    """The CPU allocator's own record, within the calls of the transformer: 401 frames beside 81."""
    short, long = (peak_of_a_call(tiny_model("t2v"), frames) for frames in (81, 401))
    assert short > 1_000_000
    assert long <= 1.1 * short


def peak_of_a_call(folder: Path, frames: int) -> int:
    """The most that any call of the transformer had allocated at once, in bytes, beside what was there before it."""
    held = components(folder)
    seen_by(held, JOB)
    expert = held.bring("transformer")
    open_calls: list[Any] = []
    expert.register_forward_pre_hook(lambda *_: open_calls.append(record_function("a call").__enter__()))
    expert.register_forward_hook(lambda *_: open_calls.pop().__exit__(None, None, None))
    job = replace(JOB, width=128, height=128, frames=frames, steps=2, memory=Memory(window=81))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run(held, job)
    events = sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    calls = [(event.start_ns(), event.end_ns()) for event in events if event.name() == "a call"]
    sizes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    assert len(calls) == (2 if frames == 81 else 12) * 2
    return max(_peak([size for when, size in sizes if begin <= when <= end]) for begin, end in calls)


def _peak(sizes: list[int]) -> int:
    now = most = 0
    for size in sizes:
        now += size
        most = max(most, now)
    return most
