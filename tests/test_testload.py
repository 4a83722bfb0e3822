"""`test-load`: what it tells of whole and of damaged models; and that no run goes on with numbers that are none."""

from __future__ import annotations

import gc
import hashlib
import json
import signal
import subprocess
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import engine.runtime.testload as testload
from engine.catalog import load_catalog
from engine.compat.folder import open_folder
from engine.compat.machine import this_machine
from engine.control import Control
from engine.errors import Cancelled, Exit, FitError, JobError, ModelError, RunError
from engine.events import Bus
from engine.finite import is_finite, look_over
from engine.job import Inputs, Job, Output
from engine.library.item import Item
from engine.pipelines.components import Components
from engine.runtime import smoke
from engine.runtime.check import check, subject
from engine.runtime.journal import Journal
from engine.runtime.prepare import prepare
from engine.runtime.testload import LoadTest, loadable, try_load
from engine.runtime.way import Traveller, travel
from engine.video.probe import probe
from tests.damage import change, copy, spoil
from tests.runs import PROGRAM, environment, events, job_file, wan_tui
from tests.test_layers import HEAVY, _loaded_by
from wan_tui.cli.test_load import lines

pytestmark = pytest.mark.sampled(3)

TinyModel = Callable[[str], Path]
ROW = {
    "name", "class", "state", "seconds", "parameters", "dtypes", "peak_rss_bytes", "peak_vram_bytes", "finite",
    "warnings", "error",
}  # fmt: skip


def tried(
    model: Path | str, smoke_to: Path | None = None, control: Control | None = None, device: str = "cpu"
) -> LoadTest:
    catalog = load_catalog()
    about = subject(str(model), catalog)
    report = check(about, catalog)
    item = loadable(about, report, catalog)
    return try_load(item, report, catalog, Bus(), control or Control(), device=device, smoke_to=smoke_to)


def states(done: LoadTest) -> dict[str, str]:
    return {part.name: part.state for part in done.components}


# --- whole models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "side", "heavy"),
    [
        ("t2v", 64, ["text_encoder", "transformer", "vae"]),
        ("t2v-two", 64, ["text_encoder", "transformer", "transformer_2", "vae"]),
        ("i2v-clip", 64, ["text_encoder", "image_encoder", "vae", "transformer", "vae"]),
        ("i2v-two", 64, ["text_encoder", "vae", "transformer", "transformer_2", "vae"]),
        ("ti2v", 128, ["text_encoder", "transformer", "vae"]),
    ],
)
@pytest.mark.sampled(4)
def test_every_kind_loads_and_renders(
    kind: str, side: int, heavy: list[str], tiny_model: TinyModel, tmp_path: Path
) -> None:
    done = tried(tiny_model(kind), tmp_path / "out")
    assert (done.status, done.failed, done.verdict) == (Exit.DONE, (), "runs")
    assert set(states(done)) == open_folder(tiny_model(kind)).components.keys()
    for part in done.components:
        assert (part.peak_rss_bytes or 0) > 10**8
        if part.name in ("tokenizer", "scheduler", "image_processor"):
            assert (part.parameters, part.finite) == (None, None)
        else:
            assert (part.finite, part.dtypes, part.warnings) == (True, ("float32",), ())
            assert part.parameters
    clip = done.smoke
    assert clip and clip.done and clip.done.output
    assert (clip.state, clip.error, clip.steps) == ("done", None, 2)
    assert [name for name in clip.loaded if name in heavy] == heavy
    output = Path(clip.done.output)
    assert output == tmp_path / "out" / f"{kind}_smoke.mp4"
    found = probe(output)
    assert (found.width, found.height, found.frames) == (side, side, 5)
    assert clip.done.output_sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert Journal().rows() == []


def test_the_built_in_model_loads() -> None:
    done = tried("demo@1")
    assert (done.name, done.status, done.smoke) == ("demo@1", Exit.DONE, None)
    assert len(done.components) == 5


def test_both_experts_get_a_step_whatever_the_shift(tiny_model: TinyModel) -> None:
    folder = open_folder(tiny_model("t2v-two"))
    assert [smoke._steps(folder, shift) for shift in (1.0, 3.0, 12.0, 100.0)] == [2, 2, 3, 16]
    assert smoke._steps(open_folder(tiny_model("t2v")), 12.0) == 2


def test_from_the_outside(tiny_model: TinyModel, tmp_path: Path) -> None:
    arguments = ("test-load", tiny_model("t2v-two"), "--smoke-test", "--json")
    done = wan_tui(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert set(told) == {"ok", "status", "name", "verdict", "device", "components", "smoke", "seconds"}
    assert (told["ok"], told["status"]) == (True, 0)
    assert all(set(row) == ROW for row in told["components"])
    assert (told["device"]["uuid"], told["smoke"]["state"]) == ("cpu", "done")
    again = list(lines(tried(tiny_model("t2v-two"), tmp_path / "diagnostics")))
    assert again[0] == "t2v-two: every component loads, and it renders"
    assert again[-1].startswith("took     ") and again[-1].endswith(" s on CPU")
    assert sorted(file.name for file in (tmp_path / "diagnostics").iterdir()) == [
        "t2v-two_smoke-2.job.toml", "t2v-two_smoke-2.mp4", "t2v-two_smoke.job.toml", "t2v-two_smoke.mp4"
    ]  # fmt: skip


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_run_or_is_absent_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    absent = wan_tui("test-load", "t2v-1.3B", "--json")
    error = json.loads(absent.stdout)
    assert (absent.returncode, error["code"], error["actions"]) == (3, "model-absent", ["download"])
    model = copy(tiny_model("t2v"), tmp_path / "model")
    next((model / "vae").glob("*.safetensors")).unlink()
    lacking = wan_tui("test-load", model, "--smoke-test")
    assert (lacking.returncode, lacking.stdout) == (3, "")
    assert "lacks vae" in lacking.stderr
    with pytest.raises(ModelError, match="nothing at"):
        tried(tmp_path / "nothing")
    with pytest.raises(JobError, match="cuda:9"):
        tried(tiny_model("t2v"), device="cuda:9")


def test_a_component_without_room_is_not_begun(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testload, "host_memory", lambda: (10**5, 10**5))
    monkeypatch.setattr(Components, "bring", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(FitError, match=r"vae takes 283\.2 kB in fp32, and there are 100\.0 kB"):
        tried(tiny_model("t2v"))


# --- damaged models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "tensor", "value"),
    [
        ("text_encoder", "SelfAttention.k", float("nan")),
        ("transformer_2", "blocks.1.ffn", float("inf")),
        ("vae", "decoder.conv_out.bias", float("-inf")),
    ],
)
def test_a_number_that_is_none_is_named(
    component: str, tensor: str, value: float, tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = copy(tiny_model("t2v-two"), tmp_path / "model")
    name = spoil(model, component, tensor, value)
    done = tried(model, tmp_path / "out")
    (bad,) = done.failed
    assert (bad.name, bad.state, bad.finite, done.status) == (component, "failed", False, Exit.MODEL)
    assert bad.error and bad.error.code == "weights-not-finite"
    assert f"{component} holds 1 number that is NaN or infinite, in {name}." in bad.error.message
    assert list(states(done).values()).count("loaded") == 5
    assert done.smoke and done.smoke.state == "skipped"
    assert not (tmp_path / "out").exists()


def test_a_matrix_of_one_number_is_a_warning(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    name = change(model, "transformer", "attn1.to_q.weight", torch.Tensor.zero_)
    done = tried(model)
    (warned,) = (part for part in done.components if part.warnings)
    assert (warned.name, warned.state, done.status) == ("transformer", "loaded", Exit.DONE)
    assert name in warned.warnings[0]


def test_one_that_fails_does_not_hold_up_the_others(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    (model / "tokenizer" / "tokenizer.json").write_text('{"model": 5}')
    done = wan_tui("test-load", model, "--json")
    answer = json.loads(done.stdout)
    rows = {row["name"]: row for row in answer["components"]}
    assert (done.returncode, answer["ok"], answer["status"]) == (3, False, 3)
    assert rows["tokenizer"]["state"] == "failed"
    assert rows["tokenizer"]["error"]["code"] == "bad-component"
    assert [name for name, row in rows.items() if row["state"] == "loaded"] == [
        "text_encoder", "transformer", "vae", "scheduler"
    ]  # fmt: skip
    told = list(lines(tried(model, tmp_path / "out")))
    assert told[0] == "model: 1 of 5 components fails: tokenizer"
    assert told[1].startswith("failed   tokenizer")
    assert "warning: No clip was rendered." in told
    assert not [line for line in told if "not load" in line]


def test_what_helps_depends_on_where_the_model_comes_from(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    (model / "tokenizer" / "tokenizer.json").write_text('{"model": 5}')
    (bad,) = tried(model).failed
    assert bad.error and bad.error.code == "bad-component"
    assert bad.error.suggestions == (
        f"Compare {model / 'tokenizer'} with the same folder of the model it was made from.",
    )
    spec, _ = load_catalog().find("t2v-1.3B")
    mended = testload._mendable(bad, Item(spec), model)
    assert mended.error and mended.error.suggestions == ("wan-tui models verify t2v-1.3B@2.1.0 --repair",)
    assert mended.error.actions == ("repair",)


@pytest.mark.parametrize(
    ("wanted", "torch_for", "known"),
    [
        ("auto", None, True),
        ("cpu", "cpu", True),
        ("mps", "cpu", True),
        ("x", "cpu", False),
        ("x", "cuda", False),
        ("cuda", "cpu", False),
        ("cuda:9", "cuda", True),  # torch counts them
        ("GPU-0a1b-2c", "hip", True),
        ("", "cuda", False),
    ],
)
def test_no_device_is_refused_before_torch(wanted: str, torch_for: str | None, known: bool) -> None:
    machine = replace(this_machine(), torch_for=torch_for)
    if known:
        testload.check_device(wanted, machine)
        return
    with pytest.raises(JobError) as caught:
        testload.check_device(wanted, machine)
    assert (caught.value.code, caught.value.suggestions) == (
        "no-such-device", ("Give --device auto, or --device cpu.",)
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["test-load", "diagnose"])
def test_no_device_is_said_in_words_of_the_command_line(verb: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    arguments = [verb, str(tiny_model("t2v")), "--device", "x", "--output", str(tmp_path / "out")]
    assert _loaded_by(f"from wan_tui.cli import main; assert main({arguments!r}) == 2", HEAVY) == []
    assert not (tmp_path / "out").exists()


def test_a_device_torch_does_not_see_is_said_so_too(tiny_model: TinyModel) -> None:
    with pytest.raises(JobError, match="no device 'cuda:9' here") as caught:
        tried(tiny_model("t2v"), device="cuda:9")
    assert "device =" not in f"{caught.value.cause} {caught.value.suggestions}"


@pytest.mark.parametrize("verb", ["check", "test-load", "diagnose"])
@pytest.mark.sampled(3)
def test_an_empty_name_is_refused(verb: str, tmp_path: Path) -> None:
    done = wan_tui(verb, "", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No model is named." in done.stderr
    if verb != "check":
        done = wan_tui(verb, "demo", "--output", "", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
    assert not list(tmp_path.glob("*_compat.json")) and not (tmp_path / "diagnostics").exists()


def test_a_tokenizer_of_another_model_is_found(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    file = model / "tokenizer" / "tokenizer.json"
    table = json.loads(file.read_text())
    table["model"]["vocab"][3:3] = [[f"▁zzz{i}", -50.0] for i in range(500)]
    file.write_text(json.dumps(table))
    (bad,) = tried(model).failed
    assert bad.name == "tokenizer"
    assert bad.error and bad.error.cause and "the text encoder knows 138" in bad.error.cause


def test_a_component_that_runs_out_of_memory_is_told_and_gone(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[Any]] = []
    load = Components._load

    def full(self: Components, name: str) -> Any:
        module = load(self, name)
        models.append(weakref.ref(module))
        if name == "transformer":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return module

    monkeypatch.setattr(Components, "_load", full)
    done = tried(tiny_model("t2v"))
    (bad,) = done.failed
    assert (bad.name, done.status) == ("transformer", Exit.DOES_NOT_FIT)
    assert bad.error and bad.error.code == "out-of-memory"
    gc.collect()
    assert [model() for model in models] == [None, None, None]


@pytest.mark.soak
def test_a_clip_of_one_color_is_a_failure(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        change(model, "vae", name, torch.Tensor.zero_)
    done = tried(model, tmp_path / "out")
    assert (done.failed, done.status) == ((), Exit.FAILED)
    assert done.smoke and done.smoke.error
    assert (done.smoke.state, done.smoke.error.code) == ("failed", "smoke-constant")


def test_a_smoke_test_that_cannot_be_written_says_so(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    done = tried(tiny_model("t2v"), tmp_path / "out")
    assert done.smoke and done.smoke.error
    assert (done.smoke.error.code, done.status) == ("smoke-bad-output", Exit.FAILED)


# --- cancel -----------------------------------------------------------------------------------------------------------


def test_a_cancel_is_heard_between_tensors(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()
    ends: list[str] = []

    def look(module: Any, check: Callable[[], None]) -> Any:
        control.cancel()
        try:
            return look_over(module, check)
        except Cancelled:
            ends.append("cancelled")
            raise

    monkeypatch.setattr(testload, "look_over", look)
    with pytest.raises(Cancelled):
        tried(tiny_model("t2v"), control=control)
    assert ends == ["cancelled"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
@pytest.mark.soak
def test_a_signal_ends_it_and_leaves_nothing(
    number: signal.Signals, status: int, tiny_model: TinyModel, tmp_path: Path
) -> None:
    command = [*PROGRAM, "test-load", str(tiny_model("slow")), "--smoke-test", "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr
    while "encode" not in (line := process.stderr.readline()):
        assert line, "it ended before"
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, "")
    assert not list(tmp_path.rglob("*smoke*"))


# --- every run --------------------------------------------------------------------------------------------------------


def run(model: Path, folder: Path, image: Path | None = None) -> str:
    job = Job(
        model=str(model), prompt="a cat", width=64, height=64, frames=9, steps=2, seed=1, device="cpu",
        inputs=Inputs(image=image), output=Output(folder / "clip.mp4"),
    )  # fmt: skip
    asked = prepare(job, folder / "job.toml", load_catalog())
    done = travel(Traveller(asked, "job", Control(), Bus(), lambda **_: None))
    assert done.output
    return done.output


@pytest.mark.parametrize(
    ("component", "tensor", "value", "says"),
    [
        ("text_encoder", "SelfAttention.k", float("nan"), "The embeddings of the prompt are not finite"),
        ("transformer", "blocks.0.ffn", float("nan"), "After step 1 of 2 the latents are not finite"),
        ("transformer_2", "blocks.0.ffn", float("nan"), "After step 2 of 2 the latents are not finite"),
        ("vae", "decoder.conv_in", float("nan"), "At latent frame 1 of 3 the decoded pictures are not finite"),
        ("vae", "decoder.conv_out.bias", float("inf"), "At latent frame 1 of 3 the decoded pictures are not finite"),
    ],
)
def test_no_video_comes_of_numbers_that_are_none(
    component: str, tensor: str, value: float, says: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = copy(tiny_model("t2v-two"), tmp_path / "model")
    name = spoil(model, component, tensor, value)
    (tmp_path / "out").mkdir()
    with pytest.raises(RunError, match=says) as caught:
        run(model, tmp_path / "out")
    assert caught.value.code == "not-finite"
    assert caught.value.cause == f"{component} holds 1 number that is NaN or infinite, in {name}."
    assert list((tmp_path / "out").iterdir()) == []


def test_numbers_that_overflow_with_sound_weights_are_told_so(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    change(model, "transformer", "proj_out.weight", lambda weights: weights.mul_(1e38))
    with pytest.raises(RunError) as caught:
        run(model, tmp_path)
    assert caught.value.cause and caught.value.cause.startswith("The weights of transformer are finite: ")


def test_a_run_from_the_outside_fails_with_a_name(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    spoil(model, "vae", "decoder.conv_in")
    done = wan_tui("--run", job_file(tmp_path, model, output={"path": "out/clip.mp4"}), "--json")
    last = events(done.stdout)[-1]
    assert (done.returncode, last["event"], last["code"]) == (1, "job-failed", "not-finite")
    assert "wan-tui test-load MODEL" in last["suggestions"][0]
    assert not list(tmp_path.rglob("*.mp4")) and not list(tmp_path.rglob("*.part"))


# --- the look itself --------------------------------------------------------------------------------------------------


def kinds_of_tensors() -> Iterable[torch.Tensor]:
    yield torch.zeros(0)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn):
        yield torch.linspace(-1, 1, 99).to(dtype).view(9, 11).T


def test_finite_numbers_of_every_kind_are_finite_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.finite._CHUNK", 10)
    for tensor in kinds_of_tensors():
        assert is_finite(tensor)
        for place in (0, 50, 98) if tensor.numel() else ():
            odd = tensor.float().clone()
            odd[divmod(place, 9)] = float("nan")
            assert not is_finite(odd.to(tensor.dtype))


def test_a_module_is_looked_over_buffers_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.finite._CHUNK", 7)
    module = torch.nn.Linear(5, 5)
    module.register_buffer("table", torch.tensor([1.0, float("nan"), float("inf")]))
    module.register_buffer("count", torch.tensor([1, 2]))
    with torch.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(0.0)
    found = look_over(module)
    assert (found.bad, found.bad_numbers, found.flat, found.finite) == (("table",), 2, ("weight",), False)


def test_an_error_of_the_report_is_that_of_the_refusal(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    (model / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "UniPCMultistepScheduler"}')
    with pytest.raises(ModelError) as caught:
        tried(model)
    assert caught.value.code == "scheduler-not-flow"
