"""One sample after another: the host, the disks, the driver's devices, and what of them is ours."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from engine.sampling.driver import Driver
from engine.sampling.figures import DiskSample, GpuSample, Sample
from engine.sampling.host import Host, disks
from engine.sampling.ours import TorchMemory, driver_knows_us, our_share, torch_is_rocm, torch_memory

DISK_SECONDS = 5.0
_HIDES_US = "This container hides whose GPU memory it is, so the driver cannot tell this program's share."
_ROCM = "AMD (ROCm) GPUs run jobs, but this version does not monitor them: only torch's own memory counters are shown."
_APPLE = "Apple GPUs run jobs, but this version does not monitor them."


def sample_once() -> Sample:
    """How things are now, for a command that shows it and ends. CPU load needs two looks and is left out."""
    reader = Reader()
    try:
        return reader.read(time.monotonic())
    finally:
        reader.close()


class Reader:
    """Takes samples, one after another in one thread. It may wait for the driver or a disk: never on a UI thread.

    Nothing here raises for what a box lacks: that is None and, where there is something to say, a sentence.
    """

    def __init__(self, known: bool | None = None) -> None:
        """`known`: whether the driver numbers processes as this one does; by itself it looks whether that is so."""
        self._driver = Driver()
        self._host = Host()
        self._known = driver_knows_us() if known is None else known
        self._disks: tuple[DiskSample, ...] = ()
        self._disks_due = 0.0

    def read(self, now: float) -> Sample:
        """How things are. `now` is `time.monotonic()`: what changes slowly is asked again only when it is due."""
        host = self._host.read()
        torch = torch_memory()
        gpus = self._driver.read(now, (host.ram_total_bytes, host.ram_available_bytes))
        split = {gpu.mig_parent for gpu in gpus}
        gpus = tuple(self._with_ours(gpu, torch, whole=gpu.uuid not in split) for gpu in gpus)
        if not gpus and torch_is_rocm():
            gpus = tuple(_by_torch_alone(device) for device in torch)
        if now >= self._disks_due:
            self._disks, self._disks_due = disks(), now + DISK_SECONDS - 0.1
        return Sample(
            time=now,
            gpus=gpus,
            host=host,
            disks=self._disks,
            driver=self._driver.version,
            cuda=self._driver.cuda,
            notice=self._notice(gpus),
        )

    def close(self) -> None:
        self._driver.close()

    def _with_ours(self, gpu: GpuSample, torch: Sequence[TorchMemory], *, whole: bool) -> GpuSample:
        """The device with this process's share. Once torch counts devices its own numbers are the true ones."""
        mine = next((device for device in torch if device.uuid == gpu.uuid), None)
        ours = our_share(self._driver.processes(gpu.uuid), self._known, mine.reserved_bytes if mine else None)
        if mine is not None:
            return replace(_counted(gpu, mine), our_bytes=ours, hidden=False)
        if torch and whole and not gpu.mig_parent:  # the UUID of a part may be written otherwise there
            return replace(gpu, our_bytes=ours, torch_index=None, hidden=True)
        return replace(gpu, our_bytes=ours)

    def _notice(self, gpus: Sequence[GpuSample]) -> str | None:
        if self._driver.version is None and (torch_is_rocm() or os.path.exists("/dev/kfd")):
            return _ROCM
        if self._driver.version is None and sys.platform == "darwin":
            return _APPLE
        unsure = any(gpu.our_bytes is None and gpu.torch_reserved_bytes and not gpu.lost for gpu in gpus)
        return self._driver.away or (_HIDES_US if unsure and not self._known else None)


def _counted(gpu: GpuSample, device: TorchMemory) -> GpuSample:
    return replace(
        gpu,
        torch_index=device.index,
        torch_allocated_bytes=device.allocated_bytes,
        torch_reserved_bytes=device.reserved_bytes,
        torch_peak_bytes=device.peak_bytes,
    )


def _by_torch_alone(device: TorchMemory) -> GpuSample:
    return _counted(GpuSample(device.uuid, device.name, total_bytes=device.total_bytes), device)
