"""`wan-tui gpu` and `wan-tui info`: what a person and a script read, on boxes of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nvml import GIB, ROOT, Box, a_4090, build
from tests.runs import PROGRAM, wan_tui


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def box(library: Path, tmp_path: Path) -> Iterator[Box]:
    yield Box(library, tmp_path)


def a_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


def test_a_block_a_device_in_80_columns(box: Box) -> None:
    box.has(*(a_4090(index, a_uuid(index)) for index in range(4)))
    done = box.run("gpu")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    start = lines.index("cuda:1   NVIDIA GeForce RTX 4090")
    assert lines[start : start + 5] == [
        "cuda:1   NVIDIA GeForce RTX 4090",
        f"id       {a_uuid(1)}, 00000000:02:00.0",
        "memory   8.6 GB of 25.8 GB used, 16.1 GB free",
        "load     97 %, memory bus 41 %",
        "state    71 °C, 390 W of 450 W, 2520 MHz, P2",
    ]
    assert lines[start + 5] == "slowed   power cap"
    assert lines[0] == "driver   580.82.07, CUDA up to 13.0"
    assert [line for line in lines if len(line) > 80 and not line.startswith("disk")] == []


def test_the_keys_of_the_contract(box: Box) -> None:
    box.has(a_4090(), a_4090(1, "GPU-lost", handle="!15"))
    answer = json.loads(box.run("gpu", "--json").stdout)
    assert {"devices", "driver", "ram", "disk"} <= set(answer)
    device, lost = answer["devices"]
    expected = {
        "uuid": "GPU-4090",
        "name": "NVIDIA GeForce RTX 4090",
        "total_bytes": 24 * GIB,
        "used_bytes": 8 * GIB,
        "utilization": 97,
        "temperature_c": 71,
        "power_w": 389.5,
    }
    assert {key: device[key] for key in expected} == expected
    assert "torch_index" in device
    assert (lost["lost"], lost["total_bytes"], lost["utilization"]) == (True, None, None)
    assert answer["ram"]["total_bytes"] > answer["ram"]["available_bytes"] > 0
    assert {disk["what"] for disk in answer["disk"]} == {"models", "working folder"}


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "—"), ("ascii", "-"), ("latin-1", "-")])
def test_what_is_unknown_is_no_zero(box: Box, encoding: str, sign: str) -> None:
    box.has({"0.uuid": "GPU-x", "0.memory": "!4", "0.memory_v2": "!4"})
    done = box.run("gpu", PYTHONUTF8="0", PYTHONIOENCODING=encoding)
    assert f"memory   {sign} of {sign} used, {sign} free" in done.stdout
    assert f"load     {sign}, memory bus {sign}" in done.stdout
    assert f"state    {sign}, {sign} of {sign}, {sign}, P{sign}" in done.stdout
    assert "let this user see its memory" in done.stdout
    assert "\\u" not in done.stdout


def test_a_box_without_a_gpu_is_no_failure(box: Box) -> None:
    box.has(count=0)
    done = box.run("gpu")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sees no GPU" in done.stdout
    assert "RAM " in done.stdout
    assert json.loads(box.run("gpu", "--json").stdout)["devices"] == []


def test_names_of_a_driver_do_not_reach_the_terminal_as_they_are(box: Box) -> None:
    box.has(a_4090(name="[/b]\x1b[2J card"))
    done = box.run("gpu")
    assert "\x1b" not in done.stdout
    assert "[/b]\\x1b[2J card" in done.stdout


def test_info_in_words_and_json(box: Box, own_home: Path) -> None:
    box.has(a_4090())
    info = json.loads(box.run("info", "--json", MODELS_ROOT="/models").stdout)
    assert info["versions"]["textual"].startswith("8.")
    assert info["paths"]["config"] == str(own_home / "config" / "wan-tui" / "config.toml")
    assert info["paths"]["models_root"] == info["environment"]["MODELS_ROOT"] == "/models"
    assert [device["uuid"] for device in info["devices"]] == ["GPU-4090"]
    words = box.run("info").stdout
    for value in (*info["versions"].values(), info["paths"]["journal"], "cuda:0", "580.82.07"):
        assert value in words


def test_info_tells_no_secret(box: Box) -> None:
    box.has(count=0)
    secrets = {
        "HF_TOKEN": "hf_abcdefghijklmnop",
        "HF_ENDPOINT": "https://me:pass%40word@hub.example/x",
        "HTTPS_PROXY": "me:password@proxy:3128",
        "TEXTUAL_ANY": "with hf_abcdefghijklmnop",
    }
    for arguments in (["info"], ["info", "--json"]):
        done = box.run(*arguments, **secrets)
        assert done.returncode == 0
        assert not any(part in done.stdout for part in ("abcdefghij", "pass", "me:"))
        assert "hub.example/x" in done.stdout
        assert "(set)" in done.stdout


def test_info_makes_and_loads_nothing(own_home: Path) -> None:
    before = sorted(own_home.rglob("*"))
    heavy = ("torch", "diffusers", "transformers", "huggingface_hub", "textual", "rich", "numpy", "PIL", "sqlite3")
    code = (
        "import sys\nfrom wan_tui.cli import main\n"
        f"for verb in ('gpu', 'info'): main([verb])\nprint('LOADED', [n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("LOADED []\n"), done.stdout + done.stderr
    assert sorted(own_home.rglob("*")) == before


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = f"mkdir {gone} && cd {gone} && rmdir {gone} && {' '.join(PROGRAM)}"
    for verb in ("gpu", "info"):
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", f"{command} {verb}"], capture_output=True, text=True, env=variables)
        assert done.returncode == 0, done.stderr


def test_both_are_in_the_help() -> None:
    told = wan_tui("--help").stdout
    assert "gpu " in told
    assert "info " in told
