"""The GPUs a driver tells of, as CUDA would see them. The driver is a stand-in that answers as NVML documents it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import hardware
from engine.compat.fit import judge_device, judge_memory
from engine.compat.machine import Machine
from engine.hardware import cards


class NVMLError(Exception):
    pass


@dataclass
class Driver:
    """Cards by number: a name and UUID, None for one that fell off the bus, or a list of MIG parts."""

    places: list[Any]
    broken: bool = False
    NVMLError: type[Exception] = field(default=NVMLError, init=False)

    def nvmlDeviceGetCount(self) -> int:
        if self.broken:
            raise NVMLError
        return len(self.places)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        if self.places[index] is None:
            raise NVMLError
        return self.places[index]

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:
        if not isinstance(handle, list):
            raise NVMLError
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: list[Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: list[str], number: int) -> str:
        if number >= len(handle):
            raise NVMLError
        return handle[number]

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return "GPU-split" if isinstance(handle, list) else handle

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return "card"

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        if isinstance(handle, str) and handle.startswith("GPU-unified"):
            raise NVMLError
        return SimpleNamespace(total=10 * 2**30 if str(handle).startswith("MIG") else 80 * 2**30, free=2**30)

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> tuple[int, int]:
        if str(handle).startswith("MIG"):
            raise NVMLError
        return (9, 0)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    found = Driver(["GPU-aa", "GPU-bb", "GPU-ab"])

    @contextlib.contextmanager
    def present() -> Iterator[Driver]:
        yield found

    monkeypatch.setattr(hardware, "_nvml", present)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


def uuids() -> list[str]:
    return [card.uuid for card in cards()[0]]


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ["GPU-aa", "GPU-bb", "GPU-ab"]),
        ("", []),
        ("-1", []),
        ("1", ["GPU-bb"]),
        ("2,0", ["GPU-ab", "GPU-aa"]),
        (" 0 , 1 ", ["GPU-aa", "GPU-bb"]),
        ("0,0", ["GPU-aa"]),
        ("0,7,1", ["GPU-aa"]),
        ("GPU-b", ["GPU-bb"]),
        ("GPU-ab,GPU-aa", ["GPU-ab", "GPU-aa"]),
        ("nonsense,0", []),
    ],
)
def test_what_cuda_may_see(
    driver: Driver, visible: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert uuids() == seen


def test_a_lost_card_keeps_its_number(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.places = ["GPU-aa", None, "GPU-cc"]
    assert uuids() == ["GPU-aa", "GPU-cc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert uuids() == ["GPU-cc"]


def test_a_split_card_is_its_parts(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.places = [["MIG-1", "MIG-2"], "GPU-bb"]
    found = cards()[0]
    assert [(card.uuid, card.total_bytes, card.has_bf16) for card in found] == [
        ("MIG-1", 10 * 2**30, True),
        ("MIG-2", 10 * 2**30, True),
        ("GPU-bb", 80 * 2**30, True),
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert uuids() == ["MIG-2"]


def test_a_driver_that_went_away_is_no_driver(driver: Driver) -> None:
    driver.broken = True
    assert cards() == ((), None)


def test_memory_that_is_not_told_is_unknown(driver: Driver) -> None:
    driver.places = ["GPU-unified"]
    (card,), _ = cards()
    assert (card.total_bytes, card.free_bytes) == (None, None)


def test_rocm_is_not_called_a_box_without_gpu() -> None:
    box = Machine((), None, 16 * 2**30, 8 * 2**30, None, Path("/"), "hip", {})
    found = [*judge_device(box), *judge_memory({"transformer": 14 * 10**9}, box)]
    assert [finding.code for finding in found] == ["rocm", "ram-low"]
    assert box.has_bf16
