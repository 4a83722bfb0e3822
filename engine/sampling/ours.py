"""What of a device's memory is this process's own: by torch's counters, and by the driver's list of processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.hardware import driver_uuid

_FIRST_NAMESPACE = 0xEFFFFFFC  # the kernel's number for the namespace of processes that is no container's


@dataclass(frozen=True)
class TorchMemory:
    """A device as torch sees it: its number, and the bytes its allocator holds there."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    allocated_bytes: int | None
    reserved_bytes: int | None
    peak_bytes: int | None


def torch_memory() -> tuple[TorchMemory, ...]:
    """What torch holds on each device. Never imports torch and never wakes CUDA: nothing until a job has used it."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)  # none while another thread is still importing it
    if cuda is None or is_initialized is None or not is_initialized():
        return ()
    return tuple(_memory(cuda, index) for index in range(cuda.device_count()))


def _memory(cuda: Any, index: int) -> TorchMemory:
    properties, stats = cuda.get_device_properties(index), cuda.memory_stats(index)
    return TorchMemory(
        index,
        driver_uuid(getattr(properties, "uuid", index)),
        str(properties.name),
        int(properties.total_memory),
        stats.get("allocated_bytes.all.current"),
        stats.get("reserved_bytes.all.current"),
        stats.get("reserved_bytes.all.peak"),
    )


def torch_is_rocm() -> bool:
    """Whether the torch that is loaded computes on AMD's cards."""
    return bool(getattr(getattr(sys.modules.get("torch"), "version", None), "hip", None))


def driver_knows_us(namespace: Path = Path("/proc/self/ns/pid")) -> bool:
    """Whether the driver numbers processes as this one does: not in a container, where it tells the host's numbers."""
    try:
        return namespace.stat().st_ino == _FIRST_NAMESPACE
    except OSError:
        return False


def our_share(processes: Sequence[tuple[int, int | None]] | None, known: bool, reserved: int | None) -> int | None:
    """The bytes of this process among a device's (pid, bytes), None where the list cannot tell.

    Where the driver numbers processes otherwise (not `known`), an entry of our number may be a stranger's: it is ours
    only when it holds at least what torch has reserved there.
    """
    if processes is None:
        return None
    ours = [held for pid, held in processes if pid == os.getpid()]
    if known:
        return sum(held for held in ours if held is not None) if None not in ours else None
    held = ours[0] if ours else None
    return held if held is not None and reserved and held >= reserved else None
