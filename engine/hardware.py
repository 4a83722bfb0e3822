"""What this box has to compute on, and its memory. NVML and /proc; torch is asked only when it is loaded.

Devices are matched between NVML and torch by UUID: their orders differ, and CUDA_VISIBLE_DEVICES renumbers one of them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from engine.errors import JobError
from engine.host import high_water, host_memory, rss_bytes


@dataclass(frozen=True)
class Device:
    """Something to compute on. `torch_name` is what torch calls it here; memory in bytes, None where unknown."""

    torch_name: str
    uuid: str
    name: str
    total_bytes: int | None
    free_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "uuid": self.uuid,
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
        }


def cpu() -> Device:
    total, free = host_memory()
    return Device("cpu", "cpu", "CPU", total, free)


def choose_device(wanted: str) -> tuple[Device, str]:
    """The device a job asks for, and why this one. Loads torch. Raises `JobError` when there is no such device."""
    import torch

    if wanted == "cpu":
        return cpu(), "the job asks for the CPU"
    if wanted.split(":")[0] in ("mps", "xpu"):
        return _untested(wanted)
    cards = cuda_devices()
    if wanted == "auto":
        if not cards:
            return cpu(), "no GPU that torch can use was found"
        card = max(cards, key=lambda d: d.free_bytes or 0)
        return card, "it has the most free memory" if len(cards) > 1 else "it is the only GPU"
    for card in cards:
        if wanted in (card.torch_name, card.uuid) or (wanted == "cuda" and card.torch_name == "cuda:0"):
            return card, f"the job asks for {wanted}"
    found = ", ".join(f"{card.torch_name} ({card.uuid})" for card in cards) or "no GPU"
    built = "" if torch.version.cuda or torch.version.hip else " This torch is built for the CPU alone."
    raise JobError(
        "no-such-device",
        f"device = {wanted!r} is not on this box: torch sees {found}.{built}",
        suggestions=['Use device = "auto" or "cpu".'],
    )


def _untested(wanted: str) -> tuple[Device, str]:
    import torch

    kind = wanted.split(":")[0]
    backend = torch.backends.mps if kind == "mps" else torch.xpu
    if not backend.is_available():
        raise JobError(
            "no-such-device", f"device = {wanted!r} is not on this box.", suggestions=['Use device = "auto".']
        )
    return Device(wanted, wanted, f"{kind.upper()} (untested)", None, None), f"the job asks for {wanted}"


@dataclass(frozen=True)
class Card:
    """A GPU as its driver tells of it, without torch. `capability` is (major, minor); memory in bytes."""

    uuid: str
    name: str
    total_bytes: int | None
    free_bytes: int | None
    capability: tuple[int, int] | None

    @property
    def has_bf16(self) -> bool | None:
        """Whether it computes in bf16 natively: that came with Ampere."""
        return None if self.capability is None else self.capability >= (8, 0)


def cards() -> tuple[tuple[Card, ...], str | None]:
    """The GPUs NVML sees and CUDA_VISIBLE_DEVICES leaves, and the driver's version; none where there is no driver.

    A card that is split (MIG) is its parts: CUDA computes on those alone.
    """
    with _nvml() as nvml:
        if nvml is None:
            return (), None
        try:
            found = [_card_at(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
            driver = str(nvml.nvmlSystemGetDriverVersion())
        except nvml.NVMLError:  # a driver that went away
            return (), None
    return visible(found), driver


def _card_at(nvml: Any, index: int) -> tuple[Card, ...]:
    """The card of a number, its parts where it is split; nothing where it fell off the bus."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        whole = _card(nvml, handle)
    except nvml.NVMLError:
        return ()
    parts = []
    with suppress(nvml.NVMLError):  # most cards know no MIG
        if nvml.nvmlDeviceGetMigMode(handle)[0]:
            for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with suppress(nvml.NVMLError):  # places that no part has taken
                    part = _card(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number))
                    parts.append(replace(part, capability=whole.capability))
            return tuple(parts)
    return (whole,)


def _card(nvml: Any, handle: Any) -> Card:
    def ask(question: str) -> Any:
        with suppress(nvml.NVMLError):  # MIG and unified memory do not answer everything
            return getattr(nvml, question)(handle)
        return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    total, free = (int(memory.total), int(memory.free)) if memory and memory.total else (None, None)
    uuid, name = nvml.nvmlDeviceGetUUID(handle), ask("nvmlDeviceGetName")
    return Card(str(uuid), str(name or "GPU"), total, free, ask("nvmlDeviceGetCudaComputeCapability"))


class Identified(Protocol):
    """Anything that stands for a device of the driver."""

    @property
    def uuid(self) -> str: ...


_Any = TypeVar("_Any", bound=Identified)


def visible(found: Sequence[tuple[_Any, ...]]) -> tuple[_Any, ...]:
    """What CUDA_VISIBLE_DEVICES leaves. Numbers in it count by the order of the bus, which is CUDA's where it is asked
    for (CUDA_DEVICE_ORDER) or the cards are alike."""
    every = tuple(card for parts in found for card in parts)
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return every
    chosen: list[_Any] = []
    for word in (part.strip() for part in wanted.split(",")):
        named = [card for card in every if word and card.uuid.startswith(word)]
        numbered = found[int(word)] if word.isdecimal() and int(word) < len(found) else ()
        if not (named or numbered):
            break  # as CUDA does: what comes after a wrong one is not seen
        chosen += (*named, *numbered)[:1]
    return tuple(dict.fromkeys(chosen))


def cuda_devices() -> list[Device]:
    """The cards torch can use, with the memory other processes leave free. Loads torch."""
    import torch

    cards = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        uuid = driver_uuid(getattr(properties, "uuid", index))
        free, total = _nvml_memory(uuid) or torch.cuda.mem_get_info(index)
        cards.append(Device(f"cuda:{index}", uuid, properties.name, total, free))
    return cards


def driver_uuid(raw: object) -> str:
    """What torch calls a device, as the driver writes it."""
    text = str(raw)
    return text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"


class NoDriver(Exception):
    """NVML cannot be used. `code` is what it answered, None where its library is not installed."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


def open_nvml() -> Any:
    """NVML, initialised; whoever asked shuts it down. Raises `NoDriver`."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # a look costs nothing, the bindings 10 ms
    except OSError as error:
        raise NoDriver(None, str(error)) from error
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoDriver(error.value, str(error)) from error
    return pynvml


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML, or None where there is no driver."""
    try:
        pynvml = open_nvml()
    except NoDriver:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _nvml_memory(uuid: str) -> tuple[int, int] | None:
    """(free, total) bytes of a card, None where NVML cannot say (no driver, MIG, unified memory)."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(uuid))
        except nvml.NVMLError:
            return None
        return (int(memory.free), int(memory.total)) if memory.total else None


class PeakMemory:
    """Peak resident and device memory of this process since it was made; bytes."""

    def __init__(self, device: Device) -> None:
        self._cuda = device.torch_name if device.torch_name.startswith("cuda") else None
        # Writing 5 resets the kernel's high-water mark (proc(5)); where that is forbidden the mark is the process's.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        if self._cuda:
            _torch().cuda.reset_peak_memory_stats(self._cuda)

    def figures(self) -> tuple[int | None, int | None]:
        """(device memory reserved now, resident memory now)."""
        return (_torch().cuda.memory_reserved(self._cuda) if self._cuda else None), rss_bytes()

    def peaks(self) -> tuple[int | None, int | None]:
        """(peak device memory reserved, peak resident memory)."""
        vram = _torch().cuda.max_memory_reserved(self._cuda) if self._cuda else None
        return vram, high_water()


def _torch() -> Any:
    return sys.modules["torch"]
