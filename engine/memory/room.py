"""How much a run may take: of the device's memory, of RAM, of the disk its video goes to."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.hardware import Device
from engine.host import host_memory
from engine.memory.predict import CONTEXT


@dataclass(frozen=True)
class Room:
    """Bytes a run may take, those this process has already among them; None where unknown, or of no account (the
    device's memory, on a CPU)."""

    vram: int | None
    ram: int | None
    disk: int | None


def room(device: Device, limit: int | None, output: Path | None) -> Room:
    """What is free now. `limit` is of the device's memory; `output` the file or folder that will be made."""
    vram = None
    if device.torch_name != "cpu" and device.free_bytes is not None:
        vram = device.free_bytes + held_here(device)
        vram = vram if limit is None else min(vram, limit)
    return Room(vram, host_memory()[1] + _own_memory(), _free_at(output))


def held_here(device: Device) -> int:
    """What this very process has on a device: torch's allocator keeps what earlier jobs left, and gives it again."""
    torch = sys.modules.get("torch")
    if torch is None or not device.torch_name.startswith("cuda") or not torch.cuda.is_initialized():
        return 0
    reserved = int(torch.cuda.memory_reserved(device.torch_name))
    return reserved + CONTEXT if reserved else 0


def _own_memory() -> int:
    """This process's RAM, less the pages of files, which the system counts as available."""
    memory = psutil.Process().memory_info()
    return max(0, int(memory.rss) - int(getattr(memory, "shared", 0)))


def _free_at(output: Path | None) -> int | None:
    """Bytes free where a file is, or will be made."""
    for place in (output.absolute(), *output.absolute().parents) if output else ():
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
