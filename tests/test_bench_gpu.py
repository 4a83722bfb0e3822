"""The proofs on a GPU, as far as a CPU can show them: models of random weights, measuring, arithmetic, the refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import build, grid, report, stages
from benchmarks.gpu.__main__ import Session
from benchmarks.gpu.caps import under_cap
from benchmarks.gpu.fit import TODAY, Constants, error, errors, fit, told
from benchmarks.gpu.watch import Gauge
from engine.catalog import load_catalog
from engine.compat.folder import open_folder
from engine.hardware import cpu
from engine.memory.figures import Figures
from engine.memory.ladder import FORMS, Hold, hold
from engine.memory.parts import PRECISIONS, Clip, model_of_folder, model_of_spec
from engine.memory.room import Room
from engine.pipelines.components import Components, Placement
from tests import tiny

TinyModel = Callable[[str], Path]
MIB = 2**20
CPU = PRECISIONS[2]
BASE = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")

_SOAK = pytest.mark.soak


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["t2v", "t2v-two", "ti2v"])
@pytest.mark.sampled(3)
def test_a_model_of_random_weights_is_a_sound_folder(kind: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    source = open_folder(tiny_model(kind))
    model = model_of_folder(source)
    folder = tiny.sound(build.build_model(model, source.pipeline, CPU, tmp_path, "made"), BASE)
    made, index = model_of_folder(folder), source.index
    assert {name: part.identity for name, part in made.parts.items()} == {
        name: part.identity for name, part in model.parts.items()
    }
    assert (folder.pipeline, folder.boundary_ratio) == (source.pipeline, source.boundary_ratio)
    assert folder.expand_timesteps == source.expand_timesteps and index["tokenizer"] == folder.index["tokenizer"]
    held = Components(folder, Placement(torch.device("cpu"), torch.float32), *_silent())
    for name in model.parts:
        module = held.bring(name)
        assert {k: v.shape for k, v in module.state_dict().items()} == _shapes(source.path / name, module)
        largest = max(module.parameters(), key=torch.numel)
        assert largest.std() > 0 and torch.isfinite(largest).all()


def test_alike_components_are_one_set_of_files(tiny_model: TinyModel, tmp_path: Path) -> None:
    source = open_folder(tiny_model("t2v-two"))
    made = build.build_model(model_of_folder(source), source.pipeline, CPU, tmp_path, "made")
    first, second = (made / name / "diffusion_pytorch_model.safetensors" for name in ("transformer", "transformer_2"))
    assert first.samefile(second)
    before = first.stat().st_mtime_ns
    assert build.build_model(model_of_folder(source), source.pipeline, CPU, tmp_path, "made") == made
    assert first.stat().st_mtime_ns == before  # taken, not made again


def test_shards_are_read_back_as_one(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of_folder(open_folder(tiny_model("t2v")))
    whole = build.build_model(model, "WanPipeline", CPU, tmp_path / "whole", "made")
    monkeypatch.setattr(build, "SHARD", 20_000)
    parts = build.build_model(model, "WanPipeline", CPU, tmp_path / "parts", "made")
    assert len(open_folder(parts).weight_files("transformer")) > 2
    for name in model.parts:
        assert _weights(whole, name).keys() == _weights(parts, name).keys()
        assert {k: v.shape for k, v in _weights(whole, name).items()} == {
            k: v.shape for k, v in _weights(parts, name).items()
        }


@pytest.mark.soak
def test_files_are_as_large_as_said(tiny_model: TinyModel, tmp_path: Path) -> None:
    for precision in (PRECISIONS[0], CPU):
        model, store = model_of_folder(open_folder(tiny_model("t2v-two"))), tmp_path / precision.dtype
        said = build.bytes_of(model, precision, store)
        made = open_folder(build.build_model(model, "WanPipeline", precision, store, "made"))
        assert build.bytes_of(model, precision, store) == 0
        files = {file.stat().st_ino: file for name in model.parts for file in made.weight_files(name)}
        headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files.values())
        assert sum(file.stat().st_size for file in files.values()) - headers == said


@pytest.mark.soak
def test_sizes_are_those_of_the_published_models() -> None:
    """In bf16, with what diffusers keeps in fp32; parameters as counted from the real configurations."""
    model = model_of_spec(load_catalog().find("ti2v-5B")[0])
    found = {name: build.tensors(part, PRECISIONS[0]) for name, part in model.parts.items()}
    counts = {name: sum(torch.Size(tensor.shape).numel() for tensor in made) for name, made in found.items()}
    assert counts == {"transformer": 4_999_787_712, "vae": 704_688_668, "text_encoder": 5_680_910_336}
    for name, made in found.items():
        weights = Figures(model, PRECISIONS[0]).weights(name)
        assert weights and sum(tensor.bytes for tensor in made) == weights.parameters


# --- measuring -------------------------------------------------------------------------------------------------------


def bench(kind: str, tiny_model: TinyModel, tmp_path: Path, *, trace: bool = False) -> stages.Bench:
    """Of random weights, on the CPU; tracing takes longer than all the rest."""
    source = open_folder(tiny_model(kind))
    made = open_folder(build.build_model(model_of_folder(source), source.pipeline, CPU, tmp_path, "made"))
    spec = load_catalog().find({"t2v": "t2v-1.3B", "t2v-two": "t2v-A14B", "ti2v": "ti2v-5B"}[kind])[0]
    device = cpu()
    return stages.Bench(spec, made, device, Gauge(device), Figures(model_of_folder(made), CPU, trace=trace), None)


@pytest.mark.parametrize(
    ("kind", "rung", "components"),
    [
        ("t2v-two", "streamed", ["text_encoder", "transformer", "transformer_2", "vae"]),
        pytest.param("t2v-two", "resident", ["text_encoder", "transformer", "transformer_2", "vae"], marks=_SOAK),
        pytest.param("t2v", "leaf", ["text_encoder", "transformer", "vae"], marks=_SOAK),
    ],
)
@pytest.mark.soak
def test_every_component_of_a_run_is_measured(
    kind: str, rung: str, components: list[str], tiny_model: TinyModel, tmp_path: Path
) -> None:
    steps = 4 if kind == "t2v-two" else 2
    point = grid.Point(Clip(64, 64, 9, steps=steps), hold(rung))
    rows = list(stages.measured(bench(kind, tiny_model, tmp_path), point))
    assert [row["outcome"] for row in rows] == ["ok"] * len(components)
    assert [row["component"] for row in rows] == components
    assert [row["stage"] for row in rows] == ["text", *["denoise"] * (len(components) - 2), "decode"]
    for row in rows:
        assert row["reserved"] is row["driver"] is None and row["ram"] > 0  # there is no GPU
        assert (row["step_seconds"] or 0) > 0 or row["stage"] != "denoise"
        assert len(report.stage_cells(row)) == len(report.stage_cells({**row, "outcome": "out of memory"}))


@pytest.mark.soak
def test_a_decode_alone_in_tiles(tiny_model: TinyModel, tmp_path: Path) -> None:
    held = Hold(hold("staged").rung, FORMS[2])
    (row,) = stages.measured(bench("t2v", tiny_model, tmp_path), grid.Point(Clip(192, 192, 5), held, ("decode",)))
    assert (row["outcome"], row["form"], row["component"]) == ("ok", "small-tiles", "vae")


@pytest.mark.soak
def test_what_fails_is_a_row_and_leaves_nothing(tiny_model: TinyModel, tmp_path: Path) -> None:
    it = bench("t2v", tiny_model, tmp_path)
    (it.folder.path / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    text, failed = stages.measured(it, grid.Point(Clip(64, 64, 5, steps=1), hold("staged")))
    assert text["outcome"] == "ok" and "ModelError" in failed["outcome"]
    assert "ModelError" in report.tables({}, [text, failed], [])


@pytest.mark.soak
def test_a_run_beside_its_prediction_and_a_whole_job_under_a_cap(tiny_model: TinyModel, tmp_path: Path) -> None:
    """A CPU has no cap; all else of the way is there."""
    it, clip = bench("ti2v", tiny_model, tmp_path, trace=True), Clip(64, 64, 5, steps=1)
    point = grid.Point(clip, hold("staged"))
    rows = json.loads(json.dumps(list(stages.measured(it, point))))
    for row in rows:
        part = it.figures.weights(row["component"])
        assert part and row["predicted"]["weights"] == part.parameters + part.buffers
        assert row["predicted"]["activations"] > 0
    assert stages.too_large(it, point, Room(None, None, None)) is None
    assert "of RAM" in str(stages.too_large(it, point, Room(None, 10**6, None)))
    cap = under_cap(it, clip, 2**30, tmp_path)
    assert (cap["outcome"], cap["reserved"], cap["held"]) == ("ok", None, None) and cap["profile"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / name for name in ("components", "home", "made")]
    cells = [[cells.splitlines()] for cells in report.tables({}, rows, [cap]).split("\n\n")]
    assert [len(lines) for (lines,) in cells] == [4, 2, 1]


def test_grids_are_on_the_grid_of_their_model() -> None:
    for name in grid.PROOFS:
        spec = load_catalog().find(name)[0]
        small, full = (list(grid.points(spec, which, 2)) for which in ("small", "full"))
        assert full[: len(small)] == small and len(full) > len(small)
        assert {point.held.rung.name for point in small} == set(grid.RUNGS)
        for point in full:
            assert point.clip.width % spec.grid == point.clip.height % spec.grid == point.clip.frames % 4 - 1 == 0
    five = load_catalog().find("ti2v-5B")[0]
    assert grid.proof(five, 2) == Clip(1280, 704, 121, steps=2)


SPECK = """
[architectures.speck-dit]
base = "dit"
num_layers = 2
num_attention_heads = 2
attention_head_dim = 12
ffn_dim = 64
text_dim = 32
[architectures.speck-vae]
base_dim = 8
z_dim = 16
dim_mult = [1, 1, 1, 1]
num_res_blocks = 1
[architectures.speck-text]
base = "umt5-xxl"
d_model = 32
d_kv = 8
d_ff = 37
num_layers = 2
num_heads = 4
vocab_size = 300
[models."speck@1"]
title = "A speck"
family = "t2v"
path = "nowhere"
architecture = { transformer = "speck-dit", vae = "speck-vae", text_encoder = "speck-text" }
defaults = { width = 64, height = 64, frames = 5 }
"""


@pytest.mark.soak
def test_a_session_from_the_catalog_to_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a very small entry of the catalog, on the CPU; again, it goes on from what is there."""
    (tmp_path / "own.toml").write_text(SPECK)
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(tmp_path / "own.toml"))
    given = Namespace(
        model="speck", grid="small", rung=["streamed"], caps=[2**33], steps=1, minutes=10, place=tmp_path / "place",
        results=tmp_path / "results", go_on=True,
    )  # fmt: skip
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "WAN_TUI_LOCKS"):
        monkeypatch.setenv(name, "")  # the session sets them; they are put back afterwards
    assert Session(given, "cpu").run() == 0
    found = report.read(tmp_path / "results" / "cpu.json")
    assert [row["component"] for row in found["rows"]] == ["text_encoder", "transformer"]
    assert [cap["outcome"] for cap in found["caps"]] == ["ok"] and found["about"]["HOST"] > 0
    assert "64x64x5" in (tmp_path / "results" / "cpu.md").read_text()
    capsys.readouterr()
    given.caps, given.rung = [], ["streamed", "leaf"]
    given.minutes = 0
    assert Session(given, "cpu").run() == 0
    told = capsys.readouterr().out
    assert "left out: speck 64x64x5 leaf whole: 0 s are left" in told and "streamed" not in told


# --- arithmetic ------------------------------------------------------------------------------------------------------


def a_row(weights: int, activations: int, reserved: int, context: int | None = 500 * MIB) -> dict[str, Any]:
    said = {"weights": weights, "activations": activations, "reserved": 0, "driver": 0, "ram": 0, "seconds": None}
    return {"outcome": "ok", "predicted": said, "reserved": reserved, "context": context}


@given(
    st.integers(0, 2**30),
    st.floats(0, 0.5),
    st.lists(st.tuples(st.integers(0, 2**35), st.integers(0, 2**35)), min_size=2, max_size=20),
)
def test_constants_that_made_the_figures_are_found(workspaces: int, share: float, sizes: list[tuple[int, int]]) -> None:
    rows = [a_row(w, a, w + workspaces + round((1 + share) * a) + 1) for w, a in sizes]
    found = fit(rows)
    assert found and found.context == 500 * MIB and found.workspaces >= 0 and found.fragmentation >= 0
    for row in rows:
        linear = row["predicted"]["weights"] + found.workspaces
        linear += (1 + found.fragmentation) * row["predicted"]["activations"]
        assert linear == pytest.approx(row["reserved"], rel=1e-3, abs=4096)


def test_constants_are_never_below_nothing() -> None:
    assert fit([a_row(10**9, 10**9, 15 * 10**8), a_row(10**9, 3 * 10**9, 35 * 10**8)]) == Constants(500 * MIB, 0, 0.0)
    assert fit([a_row(10**9, 10**9, 2 * 10**9)]) is None
    assert fit([a_row(1, 1, 10**9, None)] * 2) == Constants(None, 10**9 - 2, 0.0)


def test_every_row_counts_by_its_share() -> None:
    """Worked out by hand: sums of x / reserved**2 over sums of 1 / reserved**2."""
    found = fit([a_row(10**9, 0, 2 * 10**9), a_row(9 * 10**9, 0, 12 * 10**9)])
    assert found and found.workspaces == pytest.approx((1e9 / 4 + 3e9 / 144) / (1 / 4 + 1 / 144))
    less = fit([a_row(10**9, 10**9, 3 * 10**9), a_row(10**9, 3 * 10**9, 4 * 10**9)])  # less than its activations
    assert less and less.fragmentation == 0 and less.workspaces == pytest.approx((1e9 / 9) / (1 / 9 + 1 / 16))


def test_rows_without_figures_tell_nothing() -> None:
    good, unpredicted = a_row(10**9, 10**9, 2 * 10**9), a_row(1, 1, 1)
    unpredicted["predicted"] = None
    no_gpu = {**a_row(1, 1, 1), "reserved": None}
    assert fit([good, unpredicted, no_gpu, {**good, "outcome": "out of memory"}]) is None
    assert told([good]) == ["Too little was measured to tell what the constants should be."]


def test_an_error_is_how_much_the_prediction_is_over() -> None:
    assert error(11, 10) == pytest.approx(10) and error(9, 10) == pytest.approx(-10)
    assert error(1, None) is error(None, 1) is error(1, 0) is None
    row = a_row(10**9, 10**9, 2 * 10**9)
    assert errors([row], TODAY) == [pytest.approx(100 * (TODAY.reserved(row) / (2 * 10**9) - 1))]
    assert any("WORKSPACES" in line for line in told([row, a_row(10**9, 5 * 10**9, 62 * 10**8)]))


@pytest.mark.soak
def test_todays_constants_are_those_of_the_prediction(tiny_model: TinyModel, tmp_path: Path) -> None:
    from engine.memory.predict import CONTEXT, predict

    model = model_of_spec(load_catalog().find("ti2v-5B")[0])
    for rung in grid.RUNGS:
        found = predict(model, Clip(1280, 704, 121), hold(rung), PRECISIONS[0])
        assert found
        for stage in found.stages:
            row = a_row(stage.weights_bytes, stage.activations_bytes, 1)
            assert TODAY.reserved(row) == stage.vram_bytes - CONTEXT


# --- what is kept and shown ------------------------------------------------------------------------------------------


def test_later_calls_add_to_the_results(tmp_path: Path) -> None:
    name = {"model": "m", "clip": "64x64x5", "form": "whole", "stage": "text", "component": "text_encoder"}
    more = {"allocated": 1, "driver": 3, "ram": 4, "seconds": 1.0, "loading": 1.0, "step_seconds": None}
    more["copied_per_second"] = None
    rows = [{**a_row(1, 1, reserved), **name, **more, "rung": rung} for reserved, rung in ((1, "leaf"), (2, "staged"))]
    about = {"card": "NVIDIA H100 80GB HBM3", "says": "A card.", "HOST": 700 * MIB}
    cap = {"model": "m", "clip": "c", "cap": 8 * 2**30, "profile": "windows", "windows": {"frames": 81, "count": 2},
           "predicted": 1, "reserved": 1, "driver": 1, "held": True, "fallbacks": [], "predicted_seconds": None,
           "seconds": 1.0, "outcome": "ok"}  # fmt: skip
    file = report.keep(tmp_path, about, rows, [cap])
    assert file.name == "nvidia-h100-80gb-hbm3.json"
    report.keep(tmp_path, about, [{**rows[0], "reserved": 7}], [])
    found = report.read(file)
    assert [row["reserved"] for row in found["rows"]] == [7, 2] and len(found["caps"]) == 1
    assert report.there(found) == {("m", "64x64x5", rung, "whole", "text") for rung in ("leaf", "staged")}
    shown = file.with_suffix(".md").read_text()
    assert "| windows x2 |" in shown and "# NVIDIA H100" in shown and "WORKSPACES" in shown and "700 MiB" in shown


def test_without_cuda_one_line_and_nothing_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--grid", "full", "--results", str(tmp_path / "none")]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=hidden)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert "nothing was measured" in done.stdout and not (tmp_path / "none").exists()


# --- helpers ---------------------------------------------------------------------------------------------------------


def _silent() -> tuple[Any, Any]:
    from engine.control import Control
    from engine.events import Bus
    from engine.voice import Voice

    return Control(), Voice(Bus(), "j", lambda: (None, None))


def _shapes(folder: Path, like: Any) -> dict[str, torch.Size]:
    """Of the tensors of a tiny model as saved by the libraries themselves."""
    loaded = type(like).from_pretrained(folder, dtype=torch.float32)
    return {key: value.shape for key, value in loaded.state_dict().items()}


def _weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {key: value for file in open_folder(folder).weight_files(name) for key, value in load_file(file).items()}
