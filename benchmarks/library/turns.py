"""What is compared runs in turns, and only in those that other programs leave alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.library.tasks import MB, OURS, THEIRS, Figures

FREE = 0.06  # of all cores: what others may take of them in a turn that counts
AGAIN = 3


def turns(tasks: dict[str, Callable[[], Figures]], count: int) -> dict[str, list[Figures]]:
    """Each task `count` times, one after another, so that a slow moment of the machine meets them all."""
    taken: dict[str, list[Figures]] = {name: [] for name in tasks}
    again = AGAIN
    for _ in range(count):
        while True:
            with _others() as others:
                turn = {name: task() for name, task in tasks.items()}
            if others[0] <= FREE or not again:
                break
            again -= 1
        if others[0] > FREE:
            print(f"  (other programs took {others[0]:.0%} of the cores in this turn)", flush=True)
        for name, figures in turn.items():
            taken[name].append(figures)
    return taken


def versus(taken: dict[str, list[Figures]], size: int) -> dict[str, float]:
    """Print ours beside theirs; the best time of each."""
    best = {}
    for name in (OURS, THEIRS):
        times = [one["seconds"] for one in taken[name]]
        best[name] = min(times)
        print(f"  {name:<16} {best[name]:.2f} s ({size / best[name] / MB:.0f} MB/s), at worst {max(times):.2f} s")
    pairs = [b["seconds"] / a["seconds"] for a, b in zip(taken[OURS], taken[THEIRS], strict=True)]
    told = ", ".join(f"{ratio:.2f}" for ratio in pairs)
    print(f"  theirs / ours: {best[THEIRS] / best[OURS]:.3f}x of the best; turn by turn {told}")
    return best


@contextmanager
def _others() -> Iterator[list[float]]:
    """The share of all cores that went to other programs, or was withheld by the host, during the block."""
    share = [0.0]
    before, since = _taken_by_others(), time.monotonic()
    yield share
    spent = (time.monotonic() - since) * (os.cpu_count() or 1)
    share[0] = (_taken_by_others() - before) / spent


def _taken_by_others() -> float:
    """CPU seconds of this box less those of our process group: what ran, in it and out of it, since they began."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    ours = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == os.getpgrp() or fields[1] == "2":  # the kernel's threads write what we wrote to disk
            ours += sum(map(int, fields[11:15]))  # of itself, and of its children that ended
    return (user + nice + system + irq + soft + steal - ours) / tick
