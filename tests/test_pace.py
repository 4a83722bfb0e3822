"""How fast a device is: measured for real, kept, read back, and never trusted when damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware import Device, cpu
from engine.memory import measure as measuring
from engine.memory import pace as pacing
from engine.memory.pace import Pace, known_pace, measured_pace, pace_from, seconds_of, work_seconds
from engine.memory.predict import Stage

CARD = Device("cuda:0", "GPU-1", "Card", 24 << 30, 20 << 30)
BARE = Pace(flops=1e12, copy=1e10, load=1e9, pictures=5e11)
rates = st.floats(1e6, 1e17)
amounts = st.integers(0, 10**20)


@pytest.fixture(autouse=True)
def own_paces(own_home: Path) -> None:
    """No pace is known from other tests."""
    (own_home / "cache" / "wan-tui" / "paces").unlink()


def stage(name: str = "denoise", component: str = "transformer", **more: int) -> Stage:
    return Stage(name, component, 0, 0, **{"flops": 10**13, **more})


def kept(home: Path) -> list[Path]:
    return sorted((home / "cache" / "wan-tui" / "paces").glob("*"))


@pytest.fixture(scope="module")
def measured() -> Any:
    return measuring.measure("cpu", half=False)


@pytest.fixture
def once(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured for one test is measured for others."""
    monkeypatch.setattr(measuring, "measure", lambda *_: measured)


def test_a_measured_pace_is_kept_for_this_device_alone(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_pace(cpu(), half=False) is None
    pace = measured_pace(cpu(), half=False)
    assert pace and pace.copy is None and pace.load == pacing.LOAD and (pace.denoising, pace.others) == (1.0, 1.0)
    assert known_pace(cpu(), half=False) == pace
    assert [file.suffix for file in kept(own_home)] == [".json"]
    assert kept(own_home)[0].stat().st_mode & 0o077 == 0
    assert known_pace(cpu(), half=True) is None
    assert known_pace(CARD, half=False) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert known_pace(cpu(), half=False) is None
    monkeypatch.undo()


def test_another_torch_is_measured_anew(once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_pace(cpu(), half=False)
    monkeypatch.setattr(pacing, "_torch", lambda: "9.9")
    assert known_pace(cpu(), half=False) is None


def test_the_rates_are_those_of_a_real_product(measured: Any) -> None:
    """Orders of magnitude only: others compute on this box meanwhile."""
    import time

    import torch

    a = torch.randn(1024, 1024)
    taken = []
    for _ in range(5):
        since = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - since)
    assert 0.1 < measured.flops / (2 * 1024**3 / min(taken)) < 10
    assert 0.01 < measured.pictures / measured.flops < 10


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00",
        b"[]",
        b'{"of": 1}',
        b"[" * 100_000,
        b"x" * (1 << 17),
        *(
            f'{{"flops": {value}, "load": 1.0}}'.encode()
            for value in ("0", "-1", "NaN", "1e400", "true", '"1"', "null")
        ),
    ],
    ids=lambda damage: repr(damage[:24]),
)
def test_a_damaged_file_is_none(own_home: Path, damage: bytes, once: None) -> None:
    assert measured_pace(cpu(), half=False) and known_pace(cpu(), half=False)
    file = kept(own_home)[0]
    if damage.startswith(b'{"flops'):
        whole = json.loads(file.read_bytes())
        damage = json.dumps({"of": whole["of"], "pace": "PACE"}).replace('"PACE"', damage.decode()).encode()
    file.write_bytes(damage)
    assert known_pace(cpu(), half=False) is None
    file.unlink()
    file.mkdir()
    assert known_pace(cpu(), half=False) is None


def test_a_cache_that_cannot_be_written_costs_nothing_else(own_home: Path, once: None) -> None:
    (own_home / "cache" / "wan-tui" / "paces").write_text("in the way")
    assert known_pace(cpu(), half=False) is None
    assert measured_pace(cpu(), half=False)


def test_a_device_without_memory_is_not_measured(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.functional, "conv3d", full)
    assert measured_pace(cpu(), half=False) is None
    assert kept(own_home) == []


@given(st.builds(Pace, rates, st.none() | rates, rates, st.none() | rates, rates, rates))
def test_a_pace_comes_back_from_json_as_it_was(pace: Pace) -> None:
    assert pace_from(json.loads(json.dumps(asdict(pace)))) == pace


_PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=3)


@given(st.recursive(_PLAIN, lambda inner: st.lists(inner), max_leaves=5))
def test_what_is_no_pace_is_none(value: Any) -> None:
    assert pace_from(value) is None
    assert pace_from({"flops": value, "load": 1.0}) is None or 0 < value < float("inf")
    assert pace_from({"load": 1.0, "copy": value}) is None


def test_what_is_copied_meanwhile_costs_where_it_takes_longer() -> None:
    assert seconds_of(stage(), BARE) == 10
    assert seconds_of(stage(moved_bytes=10**10), BARE) == 10
    assert seconds_of(stage(moved_bytes=10**12), BARE) == 100
    assert seconds_of(stage(moved_bytes=10**12), replace(BARE, copy=None)) == 10
    assert seconds_of(stage(loaded_bytes=3 * 10**9), BARE) == 13
    assert seconds_of(stage("decode", "vae"), BARE) == 20
    assert seconds_of(stage("decode", "vae"), replace(BARE, pictures=None)) == 10


def test_what_runs_taught_counts_for_its_stages() -> None:
    pace = replace(BARE, denoising=2.0, others=0.5)
    assert seconds_of(stage(loaded_bytes=10**9), pace) == 1 + 20
    assert seconds_of(stage("decode", "vae", loaded_bytes=10**9), pace) == 1 + 10
    assert work_seconds(stage(), pace) == 10


@given(amounts, amounts, amounts, amounts, st.builds(Pace, rates, st.none() | rates, rates, st.none() | rates))
def test_more_of_anything_takes_no_less(flops: int, moved: int, loaded: int, more: int, pace: Pace) -> None:
    least = seconds_of(stage(flops=flops, moved_bytes=moved, loaded_bytes=loaded), pace)
    assert least >= 0
    assert least <= seconds_of(stage(flops=flops + more, moved_bytes=moved, loaded_bytes=loaded), pace)
    assert least <= seconds_of(stage(flops=flops, moved_bytes=moved + more, loaded_bytes=loaded), pace)
    assert least <= seconds_of(stage(flops=flops, moved_bytes=moved, loaded_bytes=loaded + more), pace)


def test_a_known_pace_needs_no_torch() -> None:
    code = """
import sys
from engine.hardware import cpu
from engine.memory.pace import known_pace
from engine.runtime.lessons import learned
print(known_pace(cpu(), False), learned("cpu", "m", "t2v"))
assert not {"torch", "diffusers", "transformers", "numpy"} & sys.modules.keys()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
