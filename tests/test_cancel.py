"""A cancel stops within one block, one group of frames, one component; what runs afterwards is as good as new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import Cancelled
from engine.events import Bus, Event, Stage
from engine.job import Job
from engine.pipelines.components import Components, place
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.prompts import encode_prompts
from engine.video.decode import frame_groups
from engine.voice import Voice

TinyModel = Callable[[str], Path]
JOB = Job(
    prompt="a cat",
    negative_prompt="",
    width=64,
    height=64,
    frames=17,
    fps=8,
    steps=3,
    guidance=4.0,
    flow_shift=3.0,
    seed=1,
)
HOW = recipe("t2v", "text")


class Ears(Bus):
    """A bus that calls back at once, in the worker's own thread."""

    def __init__(self, heard: Callable[[Event], None]) -> None:
        super().__init__()
        self.publish = heard  # type: ignore[method-assign]


def components(folder: Path, bus: Bus | None = None) -> Components:
    return Components(open_folder(folder), place("cpu"), Control(), Voice(bus or Bus(), "j", lambda: (None, None)))


@contextmanager
def cancelled_at(nth: int, kind: str, control: Control) -> Iterator[list[str]]:
    """Cancel when the nth module of class `kind` is about to run; yields those that began."""
    began: list[str] = []

    def hook(module: torch.nn.Module, inputs: Any) -> None:
        if type(module).__name__ == kind:
            began.append(kind)
            if len(began) == nth:
                control.cancel()

    handle = register_module_forward_pre_hook(hook)
    try:
        yield began
    finally:
        handle.remove()


@pytest.mark.parametrize("nth", [1, 5, *(pytest.param(nth, marks=pytest.mark.soak) for nth in (2, 11))])
def test_denoise_stops_within_one_block_and_runs_again_exactly(nth: int, tiny_model: TinyModel) -> None:
    held = components(tiny_model("t2v"))
    embeddings = encode_prompts(held, HOW.pipeline, JOB.prompt, "")
    with cancelled_at(nth, "WanTransformerBlock", held.control) as began, pytest.raises(Cancelled):
        denoise(held, HOW, JOB, embeddings)
    assert len(began) == nth  # the block in whose turn the cancel came has not run
    held.release()
    fresh = components(tiny_model("t2v"))
    assert torch.equal(denoise(fresh, HOW, JOB, embeddings), denoise(fresh, HOW, JOB, embeddings))
    held.control = Control()
    assert torch.equal(denoise(held, HOW, JOB, embeddings), denoise(fresh, HOW, JOB, embeddings))


def test_the_text_encoder_stops_within_one_layer(tiny_model: TinyModel) -> None:
    held = components(tiny_model("t2v"))
    with cancelled_at(2, "UMT5Block", held.control) as began, pytest.raises(Cancelled):
        encode_prompts(held, HOW.pipeline, JOB.prompt, None)
    assert len(began) == 2


def test_a_picture_is_encoded_no_further(tiny_model: TinyModel, tmp_path: Path) -> None:
    from PIL import Image

    from engine.job import Inputs

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    job = replace(JOB, inputs=Inputs(image=tmp_path / "a.png"), guidance_2=4.0)
    held = components(tiny_model("i2v-two"))
    embeddings = encode_prompts(held, "WanImageToVideoPipeline", job.prompt, "")
    with cancelled_at(3, "WanResidualBlock", held.control) as began, pytest.raises(Cancelled):
        denoise(held, recipe("i2v", "image"), job, embeddings)
    assert len(began) == 3


def test_decode_stops_within_one_group(tiny_model: TinyModel) -> None:
    held = components(tiny_model("t2v"))
    latents = torch.randn(1, 16, 5, 8, 8)
    groups = []
    with pytest.raises(Cancelled):
        for group in frame_groups(held.bring("vae"), latents, held.control.check):
            groups.append(group.shape[2])
            if len(groups) == 2:
                held.control.cancel()
    assert groups == [1, 4]


@pytest.mark.parametrize("name", ["text_encoder", "transformer", "vae"])
@pytest.mark.sampled(3)
def test_loading_stops_within_one_component(name: str, tiny_model: TinyModel) -> None:
    loads: list[str] = []

    def heard(event: Event) -> None:
        if isinstance(event, Stage) and event.name == "load" and event.state == "started":
            loads.append(str(event.component))
            if event.component == name:
                held.control.cancel()

    held = components(tiny_model("t2v"), Ears(heard))
    with pytest.raises(Cancelled):
        embeddings = encode_prompts(held, HOW.pipeline, JOB.prompt, "")
        latents = denoise(held, HOW, JOB, embeddings)
        list(frame_groups(held.bring("vae"), latents, held.control.check))
    assert loads[-1] == name
