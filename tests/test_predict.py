"""Predictions: whole, growing with what is asked and with the rung, and quick without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import load_catalog
from engine.compat.folder import open_folder
from engine.memory import fitted, traced
from engine.memory.ladder import FORMS, RUNGS, hold
from engine.memory.parts import PRECISIONS, Clip, Model, Part, model_of_folder, model_of_spec
from engine.memory.predict import Prediction, can_predict, predict
from engine.memory.traced import key_of
from tests.giant import giant

BF16, FP32, CPU = PRECISIONS
CATALOG = load_catalog().models
KNOWN = [spec for spec in CATALOG if can_predict(model_of_spec(spec))]
SIZES = ((480, 256), (832, 480), (960, 544), (1280, 704), (1920, 1088))
FRAMES = (1, 5, 9, 49, 81, 121, 401)


def clips_of(spec: Any) -> list[Clip]:
    images = [task != "text" for task in spec.tasks if task in ("text", "image", "first-last")]
    return [Clip(832, 480, 81, image, guided) for image in images for guided in (True, False)]


def predicted(model: Model, clip: Clip, rung: str = "staged", precision: Any = BF16, **more: Any) -> Prediction:
    found = predict(model, clip, replace(hold(rung), **more), precision, trace=False)
    assert found
    return found


@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.id)
@pytest.mark.parametrize("precision", PRECISIONS, ids=lambda one: f"{one.dtype}-{one.kernels}")
@pytest.mark.sampled(8)
def test_larger_and_longer_takes_no_less(spec: Any, precision: Any) -> None:
    model = model_of_spec(spec)
    for base in clips_of(spec):
        for rung in RUNGS:
            for form in FORMS:
                if precision.kernels == "cpu" and form.on_cpu:
                    continue
                grid = [
                    [
                        predicted(
                            model,
                            replace(base, width=w, height=h, frames=frames),
                            rung.name,
                            precision,
                            form=form,
                        )
                        for frames in FRAMES
                    ]
                    for w, h in SIZES
                ]
                for line in (*grid, *zip(*grid, strict=True)):
                    for less, more in pairwise(line):
                        for figure in ("vram_bytes", "ram_bytes", "flops"):
                            assert getattr(less, figure) <= getattr(more, figure), (rung.name, form.name, figure)


@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.id)
def test_a_lower_rung_takes_no_more_of_the_device(spec: Any) -> None:
    model = model_of_spec(spec)
    for clip in clips_of(spec):
        for precision in (BF16, FP32):
            taken = [predicted(model, clip, rung.name, precision) for rung in RUNGS]
            assert all(above.vram_bytes >= below.vram_bytes for above, below in pairwise(taken))
            assert taken[-1].vram_bytes == 0
            stay = [predicted(model, clip, "streamed", precision, resident_bytes=n << 30) for n in (0, 4, 8, 999)]
            assert all(less.vram_bytes <= more.vram_bytes for less, more in pairwise(stay))
            assert stay[-1].vram_bytes <= taken[1].vram_bytes
            forms = [predicted(model, clip, precision=precision, form=form).stages[-1].vram_bytes for form in FORMS]
            assert all(above >= below for above, below in pairwise(forms))


def test_operations_follow_steps_and_guidance() -> None:
    model = model_of_spec(next(spec for spec in KNOWN if spec.id.startswith("t2v-A14B")))
    clip = Clip(1280, 720, 81, steps=40)
    whole, none, half = (predicted(model, one) for one in (clip, replace(clip, guided=False), replace(clip, steps=20)))
    denoising = [[stage.flops for stage in one.stages if stage.name == "denoise"] for one in (whole, none, half)]
    assert len(denoising[0]) == 2 and denoising[0][0] == denoising[0][1]
    assert sum(denoising[0]) == 2 * sum(denoising[1]) == 2 * sum(denoising[2])
    assert whole.seconds(1e15) == pytest.approx(whole.flops / 1e15)


def test_what_is_pinned_counts_as_ram() -> None:
    model = model_of_spec(next(spec for spec in KNOWN if spec.id.startswith("ti2v")))
    clip = Clip(1280, 704, 121)
    staged, streamed = predicted(model, clip), predicted(model, clip, "streamed")
    stage = [next(one for one in found.stages if one.name == "denoise") for found in (staged, streamed)]
    weights = fitted.weights(model.parts["transformer"], BF16, trace=False)
    assert weights and stage[1].ram_bytes - stage[0].ram_bytes == weights.pinned >= sum(weights.blocks)
    assert stage[0].vram_bytes - stage[1].vram_bytes >= 0.8 * sum(weights.blocks)


def test_other_families_are_not_guessed_at() -> None:
    others = [spec for spec in CATALOG if spec not in KNOWN]
    assert {spec.family for spec in others} >= {"vace", "animate", "s2v"}
    for spec in others:
        assert predict(model_of_spec(spec), Clip(832, 480, 81), hold("staged"), BF16) is None


def test_a_folder_is_predicted_as_its_entry_in_the_catalog(tmp_path: Path) -> None:
    for id in ("t2v-A14B@2.2.0", "ti2v-5B@2.2.0", "i2v-14B-480P@2.1.0"):
        spec = next(spec for spec in KNOWN if spec.id == id)
        model = model_of_folder(open_folder(giant(spec, tmp_path / spec.id)))
        clip = Clip(832, 480, 81, image="image" in spec.tasks)
        assert predicted(model, clip) == predicted(model_of_spec(spec), clip)


@pytest.mark.soak
def test_what_was_never_traced_is_not_known_until_it_is(tiny_model: Any) -> None:
    model, clip = model_of_folder(open_folder(tiny_model("i2v-clip"))), Clip(64, 64, 9, image=True)
    assert predict(model, clip, hold("staged"), BF16, trace=False) is None
    found = predict(model, clip, hold("staged"), BF16)
    assert found and [stage.name for stage in found.stages] == ["text", "image", "condition", "denoise", "decode"]
    assert predict(model, clip, hold("staged"), BF16, trace=False) == found
    assert predict(model, replace(clip, width=128), hold("leaf"), BF16, trace=False)


def test_a_plan_of_a_known_model_needs_no_torch() -> None:
    code = """
import sys
from engine.catalog import load_catalog
from engine.memory.ladder import hold
from engine.memory.parts import PRECISIONS, Clip, model_of_spec
from engine.memory.predict import can_predict, predict
for spec in load_catalog().models:
    model = model_of_spec(spec)
    if can_predict(model):
        clip = Clip(1280, 704, 81, image="text" not in spec.tasks)
        print(predict(model, clip, hold("staged"), PRECISIONS[0], trace=False).vram_bytes)
assert not {"torch", "diffusers", "transformers", "numpy"} & sys.modules.keys()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.split()) == len(KNOWN)


@pytest.mark.parametrize(
    ("library", "version", "used"),
    [("diffusers", "0.0", False), ("diffusers", "{0}.{1}.99", True), ("transformers", "4.57.1", False),
     ("transformers", "{0}.99", True)],
)  # fmt: skip
def test_figures_made_with_other_libraries_are_not_used(
    library: str, version: str, used: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, clip = model_of_spec(KNOWN[0]), Clip(832, 480, 81)
    table = json.loads(traced._KNOWN.read_bytes())
    table["versions"][library] = version.format(*traced.versions()[library].split("."))
    (tmp_path / "known.json").write_text(json.dumps(table))
    monkeypatch.setattr(traced, "_KNOWN", tmp_path / "known.json")
    traced.shipped.cache_clear()
    try:
        assert (predict(model, clip, hold("staged"), BF16, trace=False) is not None) is used
    finally:
        traced.shipped.cache_clear()


@pytest.mark.soak
@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.id)
def test_the_figures_that_ship_are_those_of_a_trace(spec: Any) -> None:
    from engine.memory import trace

    model = model_of_spec(spec)
    for precision in PRECISIONS:
        part: Part = model.parts["transformer"]
        shipped = fitted.step(part, precision, per_token=model.expand_timesteps, trace=False)
        direct = trace.step(part, precision, (21, 60, 104), per_token=model.expand_timesteps)
        tokens = trace.tokens(part, (21, 60, 104))
        assert shipped and shipped.activation(tokens) == pytest.approx(direct.activation_bytes, rel=0.01)
        assert shipped.flops(tokens) == pytest.approx(direct.flops, rel=1e-9)
        pictures = fitted.decode(model.parts["vae"], precision, 4, trace=False)
        whole = trace.decode(model.parts["vae"], precision, (4, 60, 104))
        assert pictures and pictures.activation(60 * 104, 4) == pytest.approx(whole.activation_bytes, rel=0.01)


@pytest.mark.soak
def test_a_published_folder_is_known_like_its_entry_in_the_catalog() -> None:
    """By the configurations that the libraries themselves save, which hold more than was given."""
    import diffusers
    import torch
    import transformers

    parts = {key_of(part.identity): part for spec in CATALOG for part in model_of_spec(spec).parts.values()}
    seen = set()
    for part in parts.values():
        if part.kind in dir(diffusers):
            with torch.device("meta"):
                saved = dict(getattr(diffusers, part.kind).from_config(dict(part.config)).config)
        elif part.kind in dir(transformers):
            saved = getattr(transformers, part.kind).config_class(**part.config).to_dict()
        else:
            continue
        seen.add(part.kind)
        assert Part(part.name, part.kind, saved).identity == part.identity
    assert seen >= {"WanTransformer3DModel", "AutoencoderKLWan", "UMT5EncoderModel"}
