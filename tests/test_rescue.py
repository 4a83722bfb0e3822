"""A job that runs out of memory finishes all the same, one rung lower: exactly, from where it was, and it says so.

Memory runs out for real as far as the code can tell: `torch.OutOfMemoryError` comes out of a module that is called, out
of weights that move, or out of torch's own allocator. What a CPU cannot show is whether the lower rung needs less.
"""

from __future__ import annotations

import gc
import random
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, FitError
from engine.events import Bus, Event, Fallback, JobFinished, PlanMade, Progress, Stage
from engine.hardware import cpu
from engine.job import Inputs, Job, Memory, Output
from engine.memory.ladder import EXACT, FP8
from engine.memory.plan import Plan
from engine.pipelines import denoise as denoising
from engine.runtime import way
from engine.runtime.foresee import foresee
from engine.runtime.prepare import prepare
from engine.runtime.way import Traveller, travel

pytestmark = pytest.mark.sampled(3)

TinyModel = Callable[[str], Path]
FAMILIES = {"t2v": "t2v", "t2v-two": "t2v-two", "i2v": "i2v-clip", "i2v-two": "i2v-two", "ti2v": "ti2v"}
STEPS = 5

_SOAK = pytest.mark.soak


@dataclass
class Ran:
    """What came of a job, and what it said meanwhile."""

    told: list[Event] = field(default_factory=list)
    latents: torch.Tensor | None = None
    done: JobFinished | None = None
    folder: Path = Path()
    noted: dict[str, Any] = field(default_factory=dict)

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def steps_down(self) -> list[tuple[str, str, str]]:
        return [(event.stage, event.from_, event.to) for event in self.all(Fallback)]


class Calls:
    """Counts the modules that are called; at some of them memory runs out, or something else is done."""

    def __init__(self, kind: str | None = None, at: tuple[int, ...] = ()) -> None:
        self.kind, self.at = kind, at
        self.then: Callable[[], None] = self.run_out
        self.count = 0
        self.modules: list[weakref.ref[Any]] = []

    @staticmethod
    def run_out() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        if self.kind is None or type(module).__name__ == self.kind:
            self.count += 1
            self.modules.append(weakref.ref(module))
            if self.count in self.at or -1 in self.at:
                self.then()

    @contextmanager
    def listening(self) -> Iterator[None]:
        handle = register_module_forward_pre_hook(self)
        try:
            yield
        finally:
            handle.remove()


@pytest.fixture
def run(tiny_model: TinyModel, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`run(family, calls, profile=…)` makes a clip with no prompt in the cache, in a folder of its own.

    With a `storage` precision may be lost, and the plan is one that stores the weights so, as if there were no room.
    """
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    real = denoising.denoise
    number = 0

    def go(
        family: str,
        calls: Calls | None = None,
        profile: str = "auto",
        control: Control | None = None,
        storage: str | None = None,
        **more: Any,
    ) -> Ran:
        nonlocal number
        number += 1
        ran = Ran(folder=tmp_path / f"run-{number}")
        shutil.rmtree(own_home / "cache" / "wan-tui" / "prompts", ignore_errors=True)
        two = {"guidance_2": 3.0} if family.endswith("two") else {}
        seen = Inputs(image=tmp_path / "a.png") if family not in ("t2v", "t2v-two") else Inputs()
        job = Job(
            model=str(tiny_model(FAMILIES[family])), prompt="a cat", negative_prompt="gray", width=64, height=64,
            frames=9, steps=STEPS, guidance=4.0, flow_shift=3.0, seed=1, device="cpu", inputs=seen,
            memory=Memory(profile=profile, allow_lossy=storage is not None),
            output=Output(ran.folder / "clip.mp4"), **two, **more,
        )  # fmt: skip

        def recorded(*args: Any, **kwargs: Any) -> torch.Tensor:
            ran.latents = real(*args, **kwargs)
            return ran.latents

        def note(**columns: Any) -> None:
            ran.noted.update(columns.get("recorded", {}))

        def planned(*args: Any, **kwargs: Any) -> Plan:
            plan = foresee(*args, **kwargs)
            return replace(plan, storage=storage) if storage else plan

        bus = Bus()
        monkeypatch.setattr(bus, "publish", ran.told.append)
        monkeypatch.setattr(way, "foresee", planned)
        monkeypatch.setattr(denoising, "denoise", recorded)
        asked = prepare(job, tmp_path / "job.toml", load_catalog())
        foresee(asked, cpu(), ())  # a model that is new is traced, and that calls modules as well
        with ExitStack() as stack:
            if calls:
                stack.enter_context(calls.listening())
            ran.done = travel(Traveller(asked, "job", control or Control(), bus, note))
        return ran

    return go


@pytest.mark.soak
def test_every_way_of_holding_a_model_gives_the_same_video(run: Callable[..., Ran]) -> None:
    plain = run("t2v-two")
    for profile in ("resident", "staged", "streamed", "leaf", "cpu"):
        other = run("t2v-two", profile=profile)
        assert torch.equal(other.latents, plain.latents)
        assert other.done.output_sha256 != "" and other.steps_down == []
        assert f'profile = "{profile}"' in sidecar(other)
        loads = [event.component for event in other.all(Stage) if event.name == "load" and event.state == "started"]
        assert loads.count("text_encoder") == 1


@pytest.mark.soak
def test_resident_brings_each_component_once(run: Callable[..., Ran]) -> None:
    def weights(ran: Ran) -> list[str]:
        loads = [event.component for event in ran.all(Stage) if event.name == "load" and event.state == "started"]
        return [name for name in loads if name not in ("scheduler", "tokenizer", "image_processor")]

    assert sorted(weights(run("ti2v", profile="resident"))) == ["text_encoder", "transformer", "vae"]
    assert sorted(weights(run("ti2v"))) == ["text_encoder", "transformer", "vae", "vae"]


@pytest.mark.parametrize(
    ("family", "kind", "nth", "stage", "first"),
    [
        ("t2v", "UMT5Block", 3, "encode", ("staged", "streamed")),
        ("t2v-two", "WanTransformerBlock", 14, "denoise", ("staged", "streamed")),
        ("i2v", "CLIPEncoderLayer", 2, "denoise", ("staged", "streamed")),
        pytest.param("t2v", "WanTransformerBlock", 11, "denoise", ("staged", "streamed"), marks=_SOAK),
        pytest.param("t2v", "WanTransformer3DModel", 1, "denoise", ("staged", "streamed"), marks=_SOAK),
        pytest.param("i2v", "WanTransformerBlock", 11, "denoise", ("staged", "streamed"), marks=_SOAK),
        pytest.param("ti2v", "WanTransformerBlock", 11, "denoise", ("staged", "streamed"), marks=_SOAK),
        ("i2v", "WanEncoder3d", 2, "denoise", ("whole", "tiled")),
        ("t2v", "WanDecoder3d", 2, "decode", ("whole", "tiled")),
    ],
)
@pytest.mark.sampled(3)
def test_a_stage_that_runs_out_of_memory_once(
    family: str, kind: str, nth: int, stage: str, first: tuple[str, str], run: Callable[..., Ran]
) -> None:
    plain, ran = run(family), run(family, Calls(kind, (nth,)))
    assert ran.steps_down == [(stage, *first)]
    assert torch.equal(ran.latents, plain.latents)
    assert output_of(ran) == output_of(plain)
    (told,) = ran.all(Fallback)
    assert first[0] in told.message and first[1] in told.message
    assert told.reason == "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert told.as_dict()["from"] == first[0] and told.message in sidecar(ran)
    assert f'profile = "{first[1] if first[1] == "streamed" else "staged"}"' in sidecar(ran)


def test_denoising_goes_on_after_its_last_step(run: Callable[..., Ran]) -> None:
    """Two blocks, twice a step for guidance: call 15 is in the fourth step."""
    plain, calls = run("t2v"), Calls("WanTransformerBlock", (15,))
    ran = run("t2v", calls)
    assert torch.equal(ran.latents, plain.latents)
    assert calls.count == 4 * STEPS + 3  # three calls of the fourth step were for nothing
    steps = [event.done for event in ran.all(Progress) if event.stage == "denoise"]
    assert steps == [1, 2, 3, 4, 5]


def test_a_run_keeps_the_storage_of_its_plan(run: Callable[..., Ran]) -> None:
    exact, lossy = run("t2v", storage=EXACT), run("t2v", storage=FP8)
    stepped = run("t2v", Calls("WanTransformerBlock", (15,)), storage=FP8)
    assert torch.equal(exact.latents, run("t2v").latents)
    assert lossy.latents.isfinite().all() and not torch.equal(lossy.latents, exact.latents)
    assert stepped.steps_down == [("denoise", "staged", "streamed")] and torch.equal(stepped.latents, lossy.latents)
    for ran in (lossy, stepped):
        assert 'storage = "fp8"' in sidecar(ran) and "allow_lossy = true" in sidecar(ran)
        assert ran.noted["plan"]["storage"] == FP8 and {event.storage for event in ran.all(PlanMade)} == {FP8}
    assert 'storage = "exact"' in sidecar(exact) and "allow_lossy = true" not in sidecar(exact)  # nor when run again


@pytest.mark.parametrize("family", ["i2v", *(pytest.param(one, marks=_SOAK) for one in ("i2v-two", "ti2v"))])
@pytest.mark.soak
def test_a_picture_is_encoded_once(family: str, run: Callable[..., Ran]) -> None:
    """Were it done again, and found no room then, the rest of the steps would get another condition."""
    ran = run(family, Calls("WanTransformerBlock", (5, 15)))
    assert len(ran.steps_down) == 2
    loads = [event.component for event in ran.all(Stage) if event.name == "load" and event.state == "started"]
    assert loads.count("vae") == 2  # for the picture, and for the frames
    assert loads.count("image_encoder") == (family == "i2v")


def test_what_failed_at_its_end_is_not_done_again(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out after the last step, too: nothing is left to do but to hand the latents over."""
    plain = run("ti2v")
    real, asked = denoising._check_latents, []

    def check(*args: Any) -> None:
        asked.append(args)
        if len(asked) == STEPS:
            Calls.run_out()
        real(*args)

    monkeypatch.setattr(denoising, "_check_latents", check)
    calls = Calls("WanTransformerBlock")
    ran = run("ti2v", calls)
    assert torch.equal(ran.latents, plain.latents)
    assert calls.count == 4 * STEPS


@pytest.mark.parametrize("name", ["transformer", *(pytest.param(one, marks=_SOAK) for one in ("text_encoder", "vae"))])
def test_weights_that_find_no_room(name: str, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator of the CPU says no, in its own words, while a component moves to its device."""
    from engine.pipelines import components

    plain = run("t2v")
    real, refused = components.Components._load, []

    def load(self: Any, wanted: str) -> Any:
        if wanted == name and not refused:
            refused.append(wanted)
            torch.empty(2**60, dtype=torch.uint8)
        return real(self, wanted)

    monkeypatch.setattr(components.Components, "_load", load)
    ran = run("t2v")
    stage = {"text_encoder": "encode", "transformer": "denoise", "vae": "decode"}[name]
    assert [step[0] for step in ran.steps_down] == [stage]
    assert torch.equal(ran.latents, plain.latents)
    assert "allocate" in ran.all(Fallback)[0].reason


def test_the_whole_ladder(run: Callable[..., Ran]) -> None:
    """Again and again, until the CPU has no lower rung: each step down is told, and the last one is exact."""
    plain = run("t2v")
    ran = run("t2v", Calls("WanTransformerBlock", (3, 10, 17)), profile="resident")
    names = ["resident", "staged", "streamed", "leaf"]
    assert ran.steps_down == [("denoise", a, b) for a, b in pairwise(names)]
    assert torch.equal(ran.latents, plain.latents)
    assert 'profile = "leaf"' in sidecar(ran)
    assert [(step["component"], step["rung"]) for step in ran.noted["fallbacks"]] == [
        ("transformer", name) for name in names[1:]
    ]
    assert "fallbacks" not in plain.noted and plain.noted["plan"]["profile"] == "staged"


def test_at_the_bottom_the_job_fails_and_says_what_would_fit(run: Callable[..., Ran], tmp_path: Path) -> None:
    calls = Calls("WanTransformerBlock", (-1,))
    gc.disable()
    try:
        with pytest.raises(FitError) as caught:
            run("t2v", calls)
        assert [one() for one in calls.modules] == [None] * 3  # on three rungs; nothing of them is left
    finally:
        gc.enable()
    assert caught.value.code == "out-of-memory"
    assert "fewer frames" in caught.value.suggestions[0]
    assert not list(tmp_path.glob("run-*/*"))


def test_decoding_has_no_form_left(run: Callable[..., Ran], tmp_path: Path) -> None:
    calls = Calls("WanDecoder3d", (-1,))
    with pytest.raises(FitError, match="decoding the frames"):
        run("t2v", calls)
    assert calls.count == 3  # whole, tiled, small tiles; the device is a CPU
    assert not list(tmp_path.glob("run-*/*"))


@pytest.fixture
def like_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU in bf16 plays a card: there is a rung `cpu` below it, in fp32."""
    from engine.pipelines import components
    from engine.runtime import rescue

    real_place, real_below, placed = components.place, rescue.below, []

    def place(device: str) -> components.Placement:
        placed.append(device)
        if len(placed) == 1:
            return components.Placement(torch.device("cpu"), torch.bfloat16)
        return real_place(device)

    monkeypatch.setattr(components, "place", place)
    monkeypatch.setattr(rescue, "below", lambda held, name, on_cpu: real_below(held, name, on_cpu=False))


def test_the_cpu_takes_over_where_a_card_has_no_room(like_a_card: None, run: Callable[..., Ran]) -> None:
    """Steps that are done are kept; the numbers of the rest are others, which the sidecar tells."""
    ran = run("t2v-two", Calls("WanTransformerBlock", (3, 10, 17)))
    assert [step[2] for step in ran.steps_down] == ["streamed", "leaf", "cpu"]
    assert ran.latents is not None and ran.latents.isfinite().all()
    assert 'profile = "cpu"' in sidecar(ran)
    steps = [event.done for event in ran.all(Progress) if event.stage == "denoise"]
    assert steps == [1, 2, 3, 4, 5]


def test_a_prompt_that_only_the_cpu_has_room_for_does_not_keep_the_steps_there(
    like_a_card: None, run: Callable[..., Ran]
) -> None:
    seen: list[torch.dtype] = []

    class Looks(Calls):
        def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
            if type(module).__name__ in ("UMT5Block", "WanTransformerBlock"):
                seen.append(next(weights.dtype for weights in module.parameters() if weights.ndim == 2))
            super().__call__(module, inputs)

    ran = run("t2v", Looks("UMT5Block", (1, 2, 3)))
    assert [step[2] for step in ran.steps_down] == ["streamed", "leaf", "cpu"]
    assert seen == [torch.bfloat16] * 3 + [torch.float32] * 4 + [torch.bfloat16] * (4 * STEPS)


def test_the_cpu_is_no_way_out_without_the_ram(
    like_a_card: None, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would end the process, and tell nobody."""
    from engine.runtime import rescue

    monkeypatch.setattr(rescue, "host_memory", lambda: (2**30, 1000))
    with pytest.raises(FitError, match="while denoising") as caught:
        run("t2v", Calls("WanTransformerBlock", (-1,)))
    assert caught.value.suggestions[0].startswith("Ask for fewer frames")


@pytest.mark.parametrize(
    "kind",
    ["WanTransformerBlock", *(pytest.param(one, marks=_SOAK) for one in ("UMT5Block", "WanDecoder3d"))],
)
def test_a_cancel_on_a_lower_rung_stops_within_one_block(kind: str, run: Callable[..., Ran], tmp_path: Path) -> None:
    control = Control()
    calls = Calls(kind, (2, 4))

    def then() -> None:
        if calls.count == 2:
            calls.run_out()
        control.cancel()

    calls.then = then
    gc.disable()
    try:
        with pytest.raises(Cancelled):
            run("t2v", calls, control=control)
        assert {one() for one in calls.modules} == {None}
    finally:
        gc.enable()
    assert calls.count == 4
    assert not list(tmp_path.glob("run-*/*"))


@pytest.mark.soak
def test_a_few_random_calls(run: Callable[..., Ran]) -> None:
    for family in ("t2v-two", "ti2v"):
        assert random_calls(run, family, 1, random.Random(6))


@pytest.mark.soak
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_random_calls(family: str, run: Callable[..., Ran]) -> None:
    print(family, *random_calls(run, family, 20, random.Random(family)), sep="\n  ")


def random_calls(run: Callable[..., Ran], family: str, times: int, chance: random.Random) -> list[str]:
    """Memory runs out at random calls of modules, once or several times a job; what each job went through."""
    calls = Calls()
    plain = run(family, calls)
    went = []
    for _ in range(times):
        at = tuple(sorted(chance.sample(range(1, calls.count), chance.choice((1, 1, 2)))))
        ran = run(family, Calls(None, at))
        steps = ", ".join(f"{stage}: {a} to {b}" for stage, a, b in ran.steps_down)
        went.append(f"calls {at} of {calls.count}: {steps}")
        assert ran.steps_down, went[-1]
        assert torch.equal(ran.latents, plain.latents), went[-1]
        assert output_of(ran) == output_of(plain), went[-1]
        done = [event.done for event in ran.all(Progress) if event.stage == "denoise"]
        assert done == list(range(1, STEPS + 1)), went[-1]
    return went


def sidecar(ran: Ran) -> str:
    return (ran.folder / "clip.job.toml").read_text(encoding="utf-8")


def output_of(ran: Ran) -> bytes:
    """The frames of the clip; its metadata tells of the steps down."""
    from engine.video.ffmpeg import read_with_ffmpeg

    return read_with_ffmpeg(ran.folder / "clip.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
