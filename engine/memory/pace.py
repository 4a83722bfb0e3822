"""How fast a device works, and how long the stages of a run take at that pace.

A pace is measured once for a device, a precision and a version of torch (`engine.memory.measure`), and kept in the
user's cache. One that cannot be read is as good as none: it is measured again.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.hardware import Device
from engine.memory.traced import key_of
from engine.paths import cache_dir, write_atomic
from engine.regular import regular_bytes

if TYPE_CHECKING:
    from engine.memory.measure import Rates

FORMAT = 1  # raised when the same measurement gives other figures
LOAD = 1e9  # bytes/s from disk into modules: less than any NVMe gives. Not measured; runs teach what it is here
_MOST_BYTES, _BEYOND = 1 << 16, 1e30
_CPUINFO = Path("/proc/cpuinfo")
_RATES = ("flops", "copy", "load", "pictures", "denoising", "others")
_PICTURES = "vae"  # the component that runs in fp32, mostly convolutions


class Quantities(Protocol):
    """What of a stage decides its time: a `Stage` of a prediction, or one of a plan."""

    @property
    def name(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def flops(self) -> int: ...
    @property
    def moved_bytes(self) -> int: ...
    @property
    def loaded_bytes(self) -> int: ...


@dataclass(frozen=True)
class Pace:
    """A device's rates a second: `flops` operations of a transformer in the precision of the run, `pictures` those of
    the VAE in fp32, `copy` bytes from pinned memory to the device (None on the CPU), `load` bytes from disk.

    `denoising` and `others` are how many times as long as at these rates denoising and the other stages take: what runs
    taught, 1 before the first.
    """

    flops: float
    copy: float | None
    load: float
    pictures: float | None = None
    denoising: float = 1.0
    others: float = 1.0


def seconds_of(stage: Quantities, pace: Pace) -> float:
    """How long a stage takes: its component is loaded, then it works."""
    factor = pace.denoising if stage.name == "denoise" else pace.others
    return stage.loaded_bytes / pace.load + work_seconds(stage, pace) * factor


def work_seconds(stage: Quantities, pace: Pace) -> float:
    """A stage at the bare rates, its component loaded. What is copied meanwhile costs where it takes longer."""
    rate = pace.pictures if stage.component == _PICTURES and pace.pictures else pace.flops
    return max(stage.flops / rate, stage.moved_bytes / pace.copy if pace.copy else 0.0)


def known_pace(device: Device, half: bool) -> Pace | None:
    """What was measured here before; None where nothing usable is kept. `half`: the run computes in bf16."""
    try:
        row = json.loads(regular_bytes(_file(device, half), _MOST_BYTES))
        return pace_from(row["pace"]) if row["of"] == _what(device, half) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def measured_pace(device: Device, half: bool) -> Pace | None:
    """Measures now, about a second, and keeps it. Loads torch. None where the device has no memory left for it."""
    from engine.memory.measure import measure

    rates: Rates | None = measure(device.torch_name, half)
    if rates is None:
        return None
    pace = Pace(flops=rates.flops, copy=rates.copy, load=LOAD, pictures=rates.pictures)
    keep_pace(device, half, pace)
    return pace


def keep_pace(device: Device, half: bool, pace: Pace) -> None:
    """Keep what was measured. A cache that cannot be written costs a second of the next run."""
    with suppress(OSError):
        row = {"of": _what(device, half), "pace": asdict(pace)}
        write_atomic(_file(device, half), json.dumps(row, indent=1).encode())


def pace_from(table: Any) -> Pace | None:
    """A pace from JSON; None where the table is none."""
    try:
        known = {name: _rate(table[name]) for name in _RATES if table.get(name) is not None}
        return Pace(copy=known.pop("copy", None), **known)
    except (AttributeError, TypeError, ValueError):  # no table, without a rate, or with one that is none
        return None


def _rate(value: Any) -> float:
    """Raises `ValueError` for what is no positive number, or one beyond all."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _BEYOND:
        raise ValueError
    return float(value)


def _what(device: Device, half: bool) -> Mapping[str, str]:
    """All that a pace follows from."""
    what = {"format": str(FORMAT), "device": device.uuid, "precision": "bf16" if half else "fp32", "torch": _torch()}
    if device.torch_name == "cpu":  # which, unlike a card, has no name of its own
        what |= {"name": _cpu_name(), "threads": _threads()}
    return what


@cache  # a process computes with one of them alone
def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "unknown"


def _threads() -> str:
    """What decides on how many threads torch computes, without asking torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{os.environ.get('OMP_NUM_THREADS')} {os.environ.get('MKL_NUM_THREADS')} {cores}"


def _cpu_name() -> str:
    with suppress(OSError), _CPUINFO.open(errors="replace") as lines:
        for line in lines:  # of the first core alone: the kernel asks each
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return f"{platform.node()} {platform.machine()}"  # some processors have no name there


def _file(device: Device, half: bool) -> Path:
    folder = cache_dir() / "paces"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{key_of(_what(device, half))}.json"
