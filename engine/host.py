"""RAM: what this process may take of it (within its cgroup), and what it has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def host_memory() -> tuple[int, int]:
    """(total, available) bytes of RAM, within this process's cgroup limit."""
    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    limit, used = cgroup_memory()
    if limit is not None and limit < total:
        return limit, min(available, max(0, limit - (used or 0)))
    return total, available


def cgroup_memory(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> tuple[int | None, int | None]:
    """(limit, used) bytes of the tightest cgroup v2 this process is in; None where unlimited or unknown."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None, None
    relative = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = root / relative.strip("/")
    tightest: tuple[int | None, int | None] = (None, None)
    for place in (folder, *folder.parents):
        limit = _number(place / "memory.max")
        if limit is not None and (tightest[0] is None or limit < tightest[0]):
            tightest = (limit, _used(place))
        if place == root:
            break
    return tightest


def _used(place: Path) -> int | None:
    """Bytes a cgroup holds, without the pages of files, which the kernel drops when memory is short: a model that was
    just read would count twice otherwise."""
    current = _number(place / "memory.current")
    try:
        stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        pages = int(stat["active_file"]) + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):
        return current
    return None if current is None else max(0, current - pages)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def high_water() -> int | None:
    """The most resident memory this process had since the mark was set; None where the kernel does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
