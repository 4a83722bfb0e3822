"""One component in memory at a time, in the precision its publishers run it in; embeddings kept within bounds."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch

from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import ModelError
from engine.events import Bus, Event, Stage
from engine.job import Job
from engine.pipelines import prompts
from engine.pipelines.components import Components, Placement
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.prompts import encode_prompts
from engine.voice import Voice
from tests import tiny

TinyModel = Callable[[str], Path]
BF16 = Placement(torch.device("cpu"), torch.bfloat16)
FP32 = Placement(torch.device("cpu"), torch.float32)
HOW = recipe("t2v", "text")


def components(folder: Path, placement: Placement = FP32) -> Components:
    return Components(open_folder(folder), placement, Control(), Voice(Bus(), "j", lambda: (None, None)))


def test_one_component_leaves_before_the_next_comes(tiny_model: TinyModel) -> None:
    gone: list[bool] = []

    class Ears(Bus):
        def publish(self, event: Event) -> None:
            if isinstance(event, Stage) and event.state == "started":
                gone.append(before() is None)

    held = components(tiny_model("t2v-two"))
    held.voice = Voice(Ears(), "j", lambda: (None, None))
    before: Callable[[], object] = lambda: None  # noqa: E731
    for name in ("text_encoder", "transformer", "transformer_2", "vae"):
        module = held.bring(name)
        assert held.bring(name) is module  # brought once
        before = weakref.ref(module)
        del module
    held.release()
    assert before() is None
    assert gone == [True] * 4


def test_a_large_vocabulary_is_announced_long_enough_to_be_painted(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Reading one lets no other thread run."""
    order: list[object] = []

    class Ears(Bus):
        def publish(self, event: Event) -> None:
            order.append(event.state if isinstance(event, Stage) else event)

    class Patient(Control):
        def wait(self, seconds: float) -> None:
            order.append(seconds >= 0.2)

    def load(folder: Path) -> list[object]:
        order.clear()
        held = components(folder)
        held.voice, held.control = Voice(Ears(), "j", lambda: (None, None)), Patient()
        held.small("tokenizer")
        return order

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("t2v"), folder)
    assert load(folder) == ["started", "finished"]
    (folder / "tokenizer" / "large.json").write_bytes(b" " * 3_000_000)
    assert load(folder) == ["started", True, "finished"]


def test_a_stand_in_knows_what_its_component_will_be(tiny_model: TinyModel) -> None:
    held = components(tiny_model("ti2v"), BF16)
    for name in ("text_encoder", "transformer", "vae"):
        stand_in = held.stand_in(name)
        assert stand_in is not None
        assert list(stand_in.parameters()) == []
        module = held.bring(name)
        assert stand_in.dtype == module.dtype
        assert stand_in.device == module.device
        if name != "text_encoder":
            assert {k: v for k, v in module.config.items() if not k.startswith("_")}.items() <= stand_in.config.items()


def test_an_older_folder_gets_the_defaults_of_newer_keys(tiny_model: TinyModel, tmp_path: Path) -> None:
    config = tmp_path / "vae" / "config.json"
    config.parent.mkdir()
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "WanPipeline", "vae": ["diffusers", "AutoencoderKLWan"]}'
    )
    config.write_text('{"_class_name": "AutoencoderKLWan", "z_dim": 16}')
    stand_in = components(tmp_path).stand_in("vae")
    assert stand_in is not None
    assert (stand_in.config.scale_factor_spatial, stand_in.config.scale_factor_temporal) == (8, 4)


@pytest.mark.soak
def test_bf16_is_as_from_pretrained_gives_it(tiny_model: TinyModel) -> None:
    """Weights, kept fp32 modules and results: those of a plain pipeline in bf16 with its VAE in fp32."""
    folder = tiny_model("t2v-two")
    held = components(folder, BF16)
    kept = {name: weights.dtype for name, weights in held.bring("transformer").named_parameters()}
    assert kept["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert kept["blocks.0.scale_shift_table"] == torch.float32
    assert kept["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert held.bring("vae").dtype == torch.float32
    assert held.bring("text_encoder").dtype == torch.bfloat16

    job = Job(
        prompt="a cat", width=64, height=64, frames=9, steps=3, guidance=4.0, guidance_2=3.0, flow_shift=3.0, seed=3
    )
    ours = denoise(held, HOW, job, encode_prompts(held, HOW.pipeline, "a cat", "gray"))
    vae = diffusers.AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32)
    pipe = diffusers.WanPipeline.from_pretrained(folder, vae=vae, dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe(
        "a cat",
        negative_prompt="gray",
        width=64,
        height=64,
        num_frames=9,
        num_inference_steps=3,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
        generator=torch.Generator("cpu").manual_seed(3),
        output_type="latent",
    ).frames
    assert torch.equal(ours, plain)


def test_embeddings_are_kept_apart_by_what_decides_their_bits(tiny_model: TinyModel, own_home: Path) -> None:
    kept = own_home / "cache" / "wan-tui" / "prompts"

    def count(kind: str, placement: Placement, text: str) -> int:
        encode_prompts(components(tiny_model(kind), placement), HOW.pipeline, text, None)
        return len(list(kept.iterdir()))

    assert count("t2v", FP32, "a cat") == 1
    assert count("t2v", FP32, "  a   cat ") == 1  # cleaned to the same text
    assert count("t2v-two", FP32, "a cat") == 1  # another model with the same encoder
    assert count("t2v", BF16, "a cat") == 2
    assert count("t2v", FP32, "a dog") == 3


def test_the_oldest_embeddings_go(tiny_model: TinyModel, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = components(tiny_model("t2v"))
    kept = own_home / "cache" / "wan-tui" / "prompts"
    encode_prompts(held, HOW.pipeline, "first", None)
    (first,) = kept.iterdir()
    monkeypatch.setattr(prompts, "KEPT_BYTES", 3 * first.stat().st_size)
    for age, text in enumerate(("second", "third")):
        encode_prompts(held, HOW.pipeline, text, None)
        for file in kept.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9 * (3 - age)))
    encode_prompts(held, HOW.pipeline, "first", None)  # used again: no longer the oldest
    encode_prompts(held, HOW.pipeline, "fourth", None)
    assert len(list(kept.iterdir())) == 3
    assert first.exists()


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('{"_class_name": "WanPipeline", "vae": ["diffusers", "system"]}', "not one this program loads"),
        ('{"_class_name": "WanPipeline", "transformer": ["transformers", "Evil"]}', "not one this program loads"),
        ('{"_class_name": "WanPipeline"}', "lacks tokenizer"),
        ("[]", "no JSON object"),
        ("{", "cannot be read as JSON"),
    ],
)
def test_a_folder_that_asks_for_anything_else_is_refused(index: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelError, match=says):
        tiny.sound(tmp_path, HOW.components)
