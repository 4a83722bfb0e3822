"""The last two minutes of each figure, one a second, ready to be drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.sampling.figures import GpuSample, HostSample, Sample

SECONDS = 120
_HOLDS = 6.0  # so long a figure stands for the seconds after it: paused, one comes every five

_Figure = TypeVar("_Figure", int, float)


@dataclass(frozen=True)
class GpuHistory:
    """`SECONDS` figures of each kind, the oldest first, the newest last; None where a second has none."""

    used_bytes: tuple[int | None, ...]
    utilization: tuple[int | None, ...]
    power_w: tuple[float | None, ...]
    temperature_c: tuple[int | None, ...]


@dataclass(frozen=True)
class HostHistory:
    """The same of the host: RAM in use, and how busy its CPUs are."""

    ram_used_bytes: tuple[int | None, ...]
    cpu_percent: tuple[float | None, ...]


class Rings:
    """The samples of the last two minutes. One thread adds, any may read."""

    def __init__(self) -> None:
        self._kept: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        self._kept.append(sample)
        while sample.time - self._kept[0].time > SECONDS + _HOLDS:
            self._kept.popleft()

    def gpu(self, uuid: str) -> GpuHistory:
        """Of one device; all None where none of that UUID was seen."""
        seconds = self._seconds()
        found = [next((gpu for gpu in sample.gpus if gpu.uuid == uuid), None) if sample else None for sample in seconds]

        def of(figure: Callable[[GpuSample], _Figure | None]) -> tuple[_Figure | None, ...]:
            return tuple(None if gpu is None else figure(gpu) for gpu in found)

        return GpuHistory(
            used_bytes=of(lambda gpu: gpu.used_bytes),
            utilization=of(lambda gpu: gpu.utilization),
            power_w=of(lambda gpu: gpu.power_w),
            temperature_c=of(lambda gpu: gpu.temperature_c),
        )

    def host(self) -> HostHistory:
        hosts = [sample.host if sample else HostSample() for sample in self._seconds()]
        return HostHistory(
            ram_used_bytes=tuple(host.ram_used_bytes for host in hosts),
            cpu_percent=tuple(host.cpu_percent for host in hosts),
        )

    def _seconds(self) -> list[Sample | None]:
        """For each of the last seconds the sample that stands for it."""
        kept: Sequence[Sample] = tuple(self._kept)  # at once: the other thread goes on adding
        if not kept:
            return [None] * SECONDS
        chosen: list[Sample | None] = []
        place = len(kept) - 1
        for ago in range(SECONDS):
            end = kept[-1].time - ago + 0.5  # samples do not come at the very second
            while place >= 0 and kept[place].time > end:
                place -= 1
            stands = place >= 0 and end - kept[place].time <= _HOLDS
            chosen.append(kept[place] if stands else None)
        return chosen[::-1]
