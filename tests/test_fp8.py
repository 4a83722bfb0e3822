"""The experts' weights stored in fp8: what is predicted of them beside the modules, and when a plan takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from engine.compat.folder import open_folder
from engine.control import Control
from engine.events import Bus
from engine.memory import trace
from engine.memory.ladder import EXACT, FP8, hold
from engine.memory.parts import Part, Precision, model_of_folder, model_of_spec
from engine.memory.plan import Plan
from engine.memory.skeleton import build
from engine.memory.storage import can_cast, in_fp8
from engine.pipelines.components import Components, Placement
from engine.pipelines.offload import store
from engine.voice import Voice
from tests.test_ladder import call
from tests.test_plan import A14B, ANY, FIVE, FRAMES, KNOWN, RAM, SIZES, VRAM, job_of, plan, rank, the
from tests.test_trace import MEDIUM, dtype_of, given_to
from tests.witness import peak_bytes
from wan_tui.composing.form import Form
from wan_tui.composing.read import changed
from wan_tui.screens.composer_figures import rung_text
from wan_tui.screens.composer_run import settings_of
from wan_tui.telling_plan import answer
from wan_tui.telling_plan import settings as pasted

BF16, FP32 = Precision("bf16", "cpu"), Precision("fp32", "cpu")
CPU = torch.device("cpu")
NARROW = torch.float8_e4m3fn
HELD = replace(hold("staged"), storage=FP8)


def bytes_of(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# --- what it takes ----------------------------------------------------------------------------------------------------


def as_stored(module: Any, part: Part, precision: Precision) -> None:
    """A module's own bytes are those that are predicted."""
    exact = trace.weights(part, precision)
    expected = in_fp8(part, precision.width, exact)
    store(module, part.name, dtype_of(precision), HELD)
    cast = [layer for layer in module.modules() if getattr(layer, "weight", None) is not None]
    cast = [layer for layer in cast if layer.weight.dtype == NARROW]
    assert cast and expected.parameters == bytes_of(module.parameters())
    assert expected.blocks == tuple(bytes_of(block.parameters()) for block in module.blocks)
    of_blocks = [tensor for block in module.blocks for tensor in block.parameters()]
    assert expected.pinned == sum(1 << (bytes_of([tensor]) - 1).bit_length() for tensor in of_blocks)
    widest = max(sum(tensor.numel() for tensor in layer.parameters()) for layer in cast)
    assert expected.casting == precision.width * widest
    assert expected.loading + expected.parameters == exact.parameters
    assert expected.leaf >= max(bytes_of(layer.parameters(recurse=False)) for layer in module.modules())


@pytest.mark.parametrize("kind", ["t2v", "i2v-clip", "ti2v"])
@pytest.mark.parametrize("precision", [BF16, FP32], ids=["bf16", "fp32"])
@pytest.mark.sampled(2)
def test_the_bytes_of_a_module_that_is_cast_are_those_predicted(
    tiny_model: Callable[[str], Path], kind: str, precision: Precision
) -> None:
    part = model_of_folder(open_folder(tiny_model(kind))).parts["transformer"]
    as_stored(build(part, precision), part, precision)


@pytest.mark.parametrize("spec", [pytest.param(one, marks=() if one.id == FIVE else pytest.mark.soak) for one in KNOWN])
def test_the_bytes_of_published_models_are_exact(spec: Any) -> None:
    part = model_of_spec(spec).parts["transformer"]
    with torch.device("meta"):
        module = build(part, BF16)
    as_stored(module, part, BF16)


def stored_and_called(module: Any, precision: Precision, work: Callable[[], object]) -> int:
    """The most that `work` takes, by the allocator's record, of a module that is stored in fp8."""
    wide = [weights.data for weights in module.parameters()]  # not to go within the record, which never saw them come

    def both() -> None:
        store(module, "transformer", dtype_of(precision), HELD)  # within the record, which so sees go what it saw come
        work()

    peak = peak_bytes(both) - bytes_of(one for one in module.parameters() if one.dtype == NARROW)
    wide.clear()
    return peak


DIT = Part("transformer", "WanTransformer3DModel", MEDIUM["t2v"])


@pytest.mark.parametrize("precision", [BF16, FP32], ids=["bf16", "fp32"])
@pytest.mark.sampled(2)
def test_the_layer_at_work_against_the_allocator(precision: Precision) -> None:
    module = build(DIT, precision)
    layer = module.blocks[0].ffn.net[2]
    given = torch.zeros(1, layer.in_features, dtype=dtype_of(precision))
    witnessed = stored_and_called(module, precision, lambda: layer(given)) - layer.out_features * precision.width
    casting = in_fp8(DIT, precision.width, trace.weights(DIT, precision)).casting
    assert 0.995 * casting <= witnessed <= casting


@pytest.mark.parametrize("precision", [BF16, FP32], ids=["bf16", "fp32"])
@pytest.mark.sampled(2)
def test_a_step_against_the_allocator(precision: Precision) -> None:
    """The largest layer counts beside the peak of the work, which may be elsewhere: what is predicted is no less."""
    size, module = (3, 16, 16), build(DIT, precision)
    numbers = given_to(DIT, size, precision, per_token=False)
    witnessed = stored_and_called(module, precision, lambda: module(**numbers, return_dict=False)[0])
    casting = in_fp8(DIT, precision.width, trace.weights(DIT, precision)).casting
    predicted = trace.step(DIT, precision, size, per_token=False).activation_bytes + casting
    assert witnessed <= predicted <= witnessed + 1.01 * casting


# --- the modules themselves -------------------------------------------------------------------------------------------


def brought(folder: Path, rung: str, storage: str, name: str) -> nn.Module:
    held = replace(hold(rung), storage=storage)
    voice = Voice(Bus(), "test", lambda: (None, None))
    return Components(open_folder(folder), Placement(CPU, torch.float32), Control(), voice, held).bring(name)


def test_every_rung_computes_the_same_with_weights_in_fp8(tiny_model: Callable[[str], Path]) -> None:
    def made(rung: str, storage: str) -> torch.Tensor:
        module = brought(tiny_model("t2v"), rung, storage, "transformer")
        before = [weights.dtype for weights in module.parameters()]
        out = call("transformer", module)
        assert (NARROW in before) is (storage == FP8) and [weights.dtype for weights in module.parameters()] == before
        return out

    exact, lossy = made("staged", EXACT), made("staged", FP8)
    assert lossy.isfinite().all() and 0 < (lossy - exact).norm() < 0.1 * exact.norm()
    for rung in ("resident", "streamed", "leaf"):
        assert torch.equal(made(rung, FP8), lossy), rung


def test_other_components_keep_their_precision(tiny_model: Callable[[str], Path]) -> None:
    for name in ("text_encoder", "vae"):
        module = brought(tiny_model("t2v"), "staged", FP8, name)
        assert {weights.dtype for weights in module.parameters()} == {torch.float32}


def test_a_device_that_does_not_cast_is_found_by_trying() -> None:
    assert can_cast("cpu", True) and can_cast("cpu", False)
    assert not can_cast("meta", True)  # a device of torch's that cannot be read back


# --- when a plan takes it ---------------------------------------------------------------------------------------------


def both(id: str, vram: float, ram: float, **more: Any) -> tuple[Plan, Plan]:
    """Without leave to lose precision, and with it."""
    job = job_of(the(id), **more)
    return plan(id, job, vram, ram), plan(id, replace(job, memory=replace(job.memory, allow_lossy=True)), vram, ram)


@pytest.mark.parametrize(
    ("id", "vram", "ram", "exact", "lossy"),
    [
        (A14B, 16, 64, "leaf", "streamed"),
        (A14B, 32, 64, "streamed", "staged"),
        (FIVE, 13, 64, "streamed", "staged"),
    ],
)
def test_fp8_is_taken_for_a_faster_rung(id: str, vram: float, ram: float, exact: str, lossy: str) -> None:
    before, after = both(id, vram, ram)
    assert (before.profile, before.storage, before.fits) == (exact, EXACT, True)
    assert (after.profile, after.storage, after.fits) == (lossy, FP8, True)
    told = "\n".join(after.reasons)
    assert "lossy: as allow_lossy permits" in told and "differs" in told and f"exact weights would go {exact}" in told
    assert after.hold.storage == after.as_dict()["storage"] == FP8 and before.hold.storage == EXACT


@pytest.mark.parametrize(("id", "vram"), [(A14B, 24), (A14B, 48), (A14B, 141), (FIVE, 24), (FIVE, 80)])
def test_exact_weights_are_better_on_the_same_rung(id: str, vram: float) -> None:
    before, after = both(id, vram, 64)
    assert after.storage == EXACT and after.as_dict() == {**before.as_dict(), "reasons": list(after.reasons)} | {
        key: after.as_dict()[key] for key in ("max_frames", "max_size", "alternatives")
    }
    assert any("allow_lossy is not used" in reason for reason in after.reasons)


@pytest.mark.parametrize("profile", ["staged", "streamed"])
def test_what_would_fit_only_in_fp8_says_so(profile: str) -> None:
    vram, ram = {"staged": (32, 64), "streamed": (16, 40)}[profile]
    before, after = both(A14B, vram, ram, profile=profile)
    assert before.fits is False and before.storage == EXACT
    assert any(reason.startswith("allow_lossy = true would fit: ") and " GB, " in reason for reason in before.reasons)
    assert before.alternatives[-1].set == {"memory.allow_lossy": True}
    assert (after.fits, after.storage, after.profile) == (True, FP8, profile)
    assert any(f"exact weights do not fit: {profile} would take" in reason for reason in after.reasons)


def test_what_fits_in_no_way_stays_exact_and_says_what_fp8_would_take() -> None:
    before, after = both(A14B, 8, 24)
    assert not before.fits and not after.fits and after.storage == EXACT
    assert any(reason.startswith("in fp8, as allow_lossy permits, ") for reason in after.reasons)
    assert not any("allow_lossy" in reason for reason in before.reasons)


def test_what_exact_weights_ran_out_of_is_tried_in_fp8() -> None:
    job = job_of(the(A14B), allow_lossy=True)
    begun = {"begin": ("streamed", "whole")}
    found = plan(A14B, job, 48, 64, **begun)
    assert (found.profile, found.storage) == ("staged", FP8) and "exact weights would go streamed" in found.reasons
    assert plan(A14B, job, 48, 64, **begun, lossy_from="streamed").storage == EXACT


def test_a_device_that_does_not_cast_keeps_to_exact_weights() -> None:
    job = job_of(the(A14B), allow_lossy=True)
    found = plan(A14B, job, 32, 64, lossy_from=None)
    assert found.storage == EXACT and any("of no use here" in reason for reason in found.reasons)
    lacking = plan(A14B, job_of(the(A14B), profile="staged"), 32, 64, lossy_from=None)
    assert not lacking.fits and not any("allow_lossy" in reason for reason in lacking.reasons)


def test_a_lossy_plan_in_words() -> None:
    _, after = both(A14B, 32, 64)
    assert answer(after.as_dict()) == "fits: staged, lossy: weights in fp8, on Card"
    assert rung_text(after) == "staged, lossy: weights in fp8 (fits)"
    leave = {"memory.allow_lossy": True}
    assert pasted(leave) == "--set memory.allow_lossy=true" and settings_of(leave) == "memory.allow_lossy true"
    assert changed(Form(), leave).kept == leave  # what the composer makes of an alternative


@settings(deadline=None, max_examples=12)
@given(ANY, SIZES, FRAMES, VRAM, RAM)
def test_leave_to_lose_precision_never_makes_a_plan_worse(
    spec: Any, size: tuple[int, int], frames: int, vram: int, ram: int
) -> None:
    job = job_of(spec, *size, frames)
    permitted = replace(job, memory=replace(job.memory, allow_lossy=True))
    exact, free = plan(spec.id, job, vram, ram), plan(spec.id, permitted, vram, ram)
    assert exact.storage == EXACT
    assert rank(free) < rank(exact) or (free.storage, free.hold) == (EXACT, exact.hold)
    assert (free.max_frames or 0) >= (exact.max_frames or 0)
