"""The host's side of a sample: memory, load, disks."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

from engine.host import host_memory, rss_bytes
from engine.paths import hub_cache, models_root
from engine.sampling.figures import DiskSample, HostSample


class Host:
    """What `psutil` and /proc tell. CPU load is what happened between two readings: the first has none."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def read(self) -> HostSample:
        figures: dict[str, int | float | None] = {}
        with suppress(OSError):
            figures["ram_total_bytes"], figures["ram_available_bytes"] = host_memory()
        with suppress(OSError):
            swap = psutil.swap_memory()
            figures["swap_total_bytes"], figures["swap_used_bytes"] = int(swap.total), int(swap.used)
        with suppress(OSError, psutil.Error):
            figures["rss_bytes"] = rss_bytes()
        with suppress(OSError):
            figures["load"] = os.getloadavg()[0]
        return HostSample(**figures, cpu_percent=self._cpu(), cpus=os.cpu_count())  # type: ignore[arg-type]

    def _cpu(self) -> float | None:
        before, self._before = self._before, _cpu_seconds()
        if before is None or self._before is None:
            return None
        passed, idle = (after - earlier for after, earlier in zip(self._before, before, strict=True))
        return round(100 * (1 - min(1, max(0, idle) / passed)), 1) if passed > 0 else None


def _cpu_seconds() -> tuple[float, float] | None:
    """(all, idle) seconds of all CPUs since the box started; None where /proc does not tell."""
    with suppress(OSError):
        times = psutil.cpu_times()
        counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return sum(times) - counted_twice, times.idle + getattr(times, "iowait", 0.0)
    return None


def disks() -> tuple[DiskSample, ...]:
    """The disks that matter: where models are written, and where a job puts its videos."""
    with suppress(OSError):  # the working folder was removed
        return _disk("models", models_root() or hub_cache()), _disk("working folder", Path.cwd())
    return (_disk("models", models_root() or hub_cache()),)


def _disk(what: str, folder: Path) -> DiskSample:
    """Of the nearest folder above that is there: the disk it would be made on."""
    for place in (folder, *folder.parents):
        with suppress(OSError):
            usage = shutil.disk_usage(place)
            return DiskSample(what, str(folder), usage.free, usage.total)
    return DiskSample(what, str(folder), None, None)
