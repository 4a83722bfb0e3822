"""The rungs of memory: their order, what they do to modules, and the decode that holds one tile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import Cancelled, RunError
from engine.events import Bus, Fallback
from engine.memory.ladder import FORMS, NAMES, Hold, below, hold, ran_out, step_names
from engine.pipelines.components import Components, place
from engine.pipelines.offload import lift, settle
from engine.pipelines.resume import Course, Remaining
from engine.video.decode import denormalised, frame_groups, pixels
from engine.video.tiles import Tiles, tiled_frames
from engine.voice import Voice
from tests import tiny

CPU = torch.device("cpu")


def way_down(start: Hold, component: str | None, *, on_cpu: bool) -> list[str]:
    """The names of all steps down."""
    names, now = [], start
    while (after := below(now, component, on_cpu=on_cpu)) is not None:
        names.append(step_names(now, after)[1])
        now = after
    return names


def test_rungs_are_known_without_torch() -> None:
    code = "import engine.memory.ladder, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert NAMES == ("resident", "staged", "streamed", "leaf", "cpu")


@pytest.mark.parametrize(
    ("start", "component", "on_cpu", "names"),
    [
        ("resident", "transformer", False, ["staged", "streamed", "leaf", "cpu"]),
        ("resident", "transformer", True, ["staged", "streamed", "leaf"]),
        ("staged", None, True, ["streamed", "leaf"]),
        ("cpu", "transformer", True, []),
        ("resident", "vae", False, ["staged", "tiled", "small-tiles", "vae-on-cpu"]),
        ("leaf", "vae", True, ["tiled", "small-tiles"]),
    ],
)
def test_the_way_down(start: str, component: str | None, on_cpu: bool, names: list[str]) -> None:
    assert way_down(hold(start), component, on_cpu=on_cpu) == names


def test_blocks_that_stay_go_before_the_rung_does() -> None:
    start = hold("streamed", resident_bytes=10**9)
    after = below(start, "transformer", on_cpu=False)
    assert after == hold("streamed")
    assert step_names(start, after) == (
        "streamed",
        "streamed",
        "the weights come from RAM block by block, and none of them stays",
    )


def test_only_the_cpu_computes_other_numbers() -> None:
    assert [name for name in NAMES if not hold(name).rung.exact] == ["cpu"]


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, is_memory: bool) -> None:
    assert ran_out(error) is is_memory


def test_what_the_allocator_of_the_cpu_really_says() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out(caught.value)


def test_a_fallback_is_told_under_the_names_of_the_contract() -> None:
    event = Fallback(job="j", code="c", message="m", from_="staged", to="leaf", stage="load", reason="r")
    assert {"event": "fallback", "from": "staged", "to": "leaf", "reason": "r"}.items() <= event.as_dict().items()


# --- weights that stream ----------------------------------------------------------------------------------------------


def call(kind: str, module: nn.Module) -> torch.Tensor:
    """One call of a component of this kind, always with the same numbers."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if kind == "text_encoder":
            return module(torch.arange(1, 9).view(1, 8)).last_hidden_state  # type: ignore[no-any-return]
        if kind == "image_encoder":
            return module(torch.randn(1, 3, 30, 30, generator=numbers)).last_hidden_state  # type: ignore[no-any-return]
        latents = torch.randn(1, 16, 3, 8, 8, generator=numbers)
        text = torch.randn(1, 8, tiny.TEXT_DIM, generator=numbers)
        return module(latents, torch.tensor([500]), text, return_dict=False)[0]  # type: ignore[no-any-return]


MAKES: dict[str, Callable[[], nn.Module]] = {
    "text_encoder": lambda: tiny.text_encoder(64),
    "image_encoder": tiny.image_encoder,
    "transformer": lambda: tiny.transformer(0, 16, layers=4).eval(),
}


def hooked(module: nn.Module) -> set[str]:
    """The parts of a module whose weights come and go."""
    return {
        name
        for name, part in module.named_modules()
        if getattr(part, "_diffusers_hook", None) and part._diffusers_hook.hooks
    }


@pytest.mark.parametrize("rung", ["streamed", "leaf"])
@pytest.mark.parametrize("kind", MAKES)
def test_weights_that_stream_compute_the_same_and_leave_no_hook(kind: str, rung: str) -> None:
    module = MAKES[kind]()
    plain, names, forwards = call(kind, module), list(module.state_dict()), [m.forward for m in module.modules()]
    settle(module, CPU, hold(rung))
    assert len(hooked(module)) >= (5 if rung == "streamed" and kind == "transformer" else 2)
    assert list(module.state_dict()) == names
    assert torch.equal(call(kind, module), plain)
    assert torch.equal(call(kind, module), plain)  # on CUDA the first call learns the order of the layers
    lift(module)
    lift(module)
    assert hooked(module) == set()
    assert [m.forward for m in module.modules()] == forwards
    assert torch.equal(call(kind, module), plain)


def test_blocks_that_stay_have_no_hook() -> None:
    module = tiny.transformer(0, 16, layers=4).eval()
    plain = call("transformer", module)
    one = sum(weights.numel() * weights.element_size() for weights in module.blocks[0].parameters())
    settle(module, CPU, hold("streamed", resident_bytes=2 * one + 1))
    assert {name for name in hooked(module) if name.startswith("blocks")} == {"blocks.2", "blocks.3"}
    assert len(module.blocks) == 4
    assert torch.equal(call("transformer", module), plain)


def test_who_still_has_a_module_has_it_without_hooks(tiny_model: Callable[[str], Path]) -> None:
    voice = Voice(Bus(), "j", lambda: (None, None))
    components = Components(open_folder(tiny_model("t2v")), place("cpu"), Control(), voice, hold("leaf"))
    module = components.bring("transformer")
    assert hooked(module)
    components.bring("text_encoder")
    assert hooked(module) == set()


def test_a_call_that_broke_off_leaves_no_hook_either() -> None:
    module = tiny.transformer(0, 16).eval()
    plain = call("transformer", module)
    settle(module, CPU, hold("streamed"))

    def stop(*_: object) -> None:
        raise Cancelled

    handle = module.blocks[1].register_forward_pre_hook(stop)
    with pytest.raises(Cancelled):
        call("transformer", module)
    handle.remove()
    lift(module)
    assert hooked(module) == set()
    assert torch.equal(call("transformer", module), plain)


# --- going on ---------------------------------------------------------------------------------------------------------

SCHEDULERS: dict[str, Callable[[], Any]] = {
    "unipc": lambda: diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
    "unipc-3": lambda: diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=3
    ),
    "euler": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "dpm": lambda: diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ),
}


@pytest.mark.parametrize("sets_begin", [True, False])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_goes_on_at_every_step(kind: str, sets_begin: bool) -> None:
    """As pipelines walk: over `timesteps`, reading `sigmas` by the number of the loop."""
    steps, start = 6, torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def walk(course: Course, until: int) -> torch.Tensor:
        scheduler = Remaining(SCHEDULERS[kind](), course)
        scheduler.set_timesteps(steps)
        if sets_begin:
            scheduler.set_begin_index(0)
        latents = start if course.latents is None else course.latents
        for i, t in enumerate(scheduler.timesteps):
            predicted = torch.sin(3 * latents + scheduler.sigmas[i])
            latents = scheduler.step(predicted, t, latents, return_dict=False)[0]
            if course.done == until:  # memory runs out when the scheduler has changed already
                break
            course.keep(latents, scheduler)
        return latents

    whole = walk(Course(), steps)
    for until in range(steps + 1):
        course = Course()
        walk(course, until)
        assert torch.equal(walk(course, steps), whole)
        assert course.done == steps


def test_parts_in_turn_find_their_noise_again() -> None:
    course, generator = Course(), torch.Generator().manual_seed(3)
    first = course.part(0, generator)
    torch.randn(4, generator=generator)
    course.part(1, generator)
    noise = torch.randn(4, generator=generator)
    generator.manual_seed(99)
    assert course.part(0, generator) is first
    course.part(1, generator)
    assert torch.equal(torch.randn(4, generator=generator), noise)


# --- tiles ------------------------------------------------------------------------------------------------------------


def vae_of(kind: str) -> Any:
    return (tiny.vae_22() if kind == "2.2" else tiny.vae_21()).eval().requires_grad_(False)


def latents_of(vae: Any, frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(1, vae.config.z_dim, frames, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "height", "width", "tiles"),
    [
        ("2.1", 10, 14, Tiles(64, 48)),
        ("2.1", 9, 5, Tiles(48, 32)),
        ("2.1", 6, 20, Tiles(64, 48)),
        ("2.2", 9, 7, Tiles(96, 64)),
        ("2.2", 4, 6, Tiles(64, 48)),
    ],
)
def test_tiles_are_those_of_diffusers(kind: str, height: int, width: int, tiles: Tiles) -> None:
    vae = vae_of(kind)
    latents = latents_of(vae, 3, height, width)
    assert tiles.are_needed(vae, latents)
    heard: list[float] = []
    groups = list(tiled_frames(vae, latents, tiles, heard.append))
    vae.enable_tiling(tiles.side, tiles.side, tiles.stride, tiles.stride)
    with torch.no_grad():
        theirs = pixels(vae.decode(denormalised(vae, latents)).sample)
    assert [len(group) for group in groups] == [1, 4, 4]
    assert np.array_equal(np.concatenate(groups), theirs)
    assert theirs.std() > 1  # not one flat colour, on which any two ways agree
    assert heard == sorted(heard) and heard[0] == 0 and heard[-1] < 1


def test_a_picture_of_one_tile_needs_none() -> None:
    vae = vae_of("2.1")
    latents = latents_of(vae, 2, 8, 8)
    tiles = Tiles(64, 48)
    assert not tiles.are_needed(vae, latents)
    whole = np.concatenate([pixels(group) for group in frame_groups(vae, latents, lambda: None)])
    assert whole.shape == (5, 64, 64, 3)


def test_forms_cover_what_a_latent_covers() -> None:
    """Of both VAEs: 8 and 16 pixels."""
    for form in FORMS[1:]:
        assert form.tile and form.stride and form.tile % 16 == form.stride % 16 == 0 and form.stride < form.tile


def test_a_tile_that_breaks_off_leaves_no_cache() -> None:
    vae = vae_of("2.1")

    def stop(share: float) -> None:
        if share > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(tiled_frames(vae, latents_of(vae, 3, 10, 14), Tiles(64, 48), stop))
    assert set(map(type, vae._feat_map)) == {type(None)}


def test_a_black_tile_is_an_error() -> None:
    vae = vae_of("2.1")
    latents = latents_of(vae, 2, 10, 14)
    latents[0, 0, 1, 9, 13] = float("nan")
    with pytest.raises(RunError) as caught:
        list(tiled_frames(vae, latents, Tiles(64, 48), lambda share: None))
    assert caught.value.code == "not-finite"


def test_a_hold_is_compared_by_value() -> None:
    assert replace(hold("leaf"), form=FORMS[1]) == Hold(hold("leaf").rung, FORMS[1])
