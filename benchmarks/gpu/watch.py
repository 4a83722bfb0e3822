"""Components that are watched: what each takes while it is the one at work, and how long its calls take."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

import torch
from torch import nn

from engine.hardware import Device, PeakMemory
from engine.pipelines.components import Components
from engine.sampling.figures import GpuSample
from engine.sampling.reader import Reader


@dataclass(frozen=True)
class Taken:
    """What was measured of a component at work: bytes, None without a GPU, and seconds.

    `allocated` and `reserved` are the peaks of torch's allocator, `context` what the driver counts of this process
    beside it; `ram` is the peak of the whole process, pages of mapped files among it. `seconds` are without `loading`;
    `calls` are those of the module as a whole, none for the VAE.
    """

    component: str
    allocated: int | None
    reserved: int | None
    context: int | None
    ram: int | None
    seconds: float
    loading: float
    calls: tuple[float, ...]

    @property
    def driver(self) -> int | None:
        """The peak as the driver counts it."""
        return None if self.reserved is None or self.context is None else self.reserved + self.context


class Gauge:
    """A device's memory beside torch's allocator, as the driver tells it.

    Where the driver does not tell whose memory is whose, all beyond what was in use `before` is taken for ours.
    """

    def __init__(self, device: Device, before: int | None = None) -> None:
        self.device = device
        self._before = before
        self._reader = Reader()

    def context(self) -> int | None:
        """What this process has on the device beside what the allocator has reserved now."""
        found = self._sample()
        ours = self._ours(found)
        return None if ours is None or found is None else max(0, ours - (found.torch_reserved_bytes or 0))

    def driver(self) -> int | None:
        """All that this process has on the device now."""
        return self._ours(self._sample())

    def _ours(self, found: GpuSample | None) -> int | None:
        if found is None:
            return None
        if found.our_bytes is not None:
            return found.our_bytes
        if found.used_bytes is None or self._before is None:
            return None
        return max(0, found.used_bytes - self._before)

    def _sample(self) -> GpuSample | None:
        found = self._reader.read(monotonic()).gpus
        return next((gpu for gpu in found if gpu.uuid == self.device.uuid), None)

    def close(self) -> None:
        self._reader.close()


@dataclass
class _Turn:
    """A component that is at work now."""

    component: str
    peak: PeakMemory
    began: float
    loaded: float = 0.0
    calls: list[float] = field(default_factory=list)
    hooks: list[Any] = field(default_factory=list)


class Watched(Components):
    """Components of which each stretch of work of one is measured; `taken` are those that are over."""

    def __init__(self, *given: Any, gauge: Gauge) -> None:
        super().__init__(*given)
        self.taken: list[Taken] = []
        self._gauge = gauge
        self._turn: _Turn | None = None

    def bring(self, name: str) -> nn.Module:
        if self._turn and self._turn.component == name:
            return super().bring(name)
        self.close()
        if self.held.rung.name != "resident":
            self.release()  # what was there before is no part of this one's peak
        turn = self._turn = _Turn(name, PeakMemory(self._gauge.device), perf_counter())
        module = super().bring(name)
        self._wait()
        turn.loaded = perf_counter()
        turn.hooks = [
            module.register_forward_pre_hook(lambda *_: turn.calls.append(-self._now())),
            module.register_forward_hook(lambda *_: turn.calls.append(self._now() + turn.calls.pop())),
        ]
        return module

    def close(self) -> None:
        """The component at work is done."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        for hook in turn.hooks:
            hook.remove()
        now, (reserved, ram), on_cuda = self._now(), turn.peak.peaks(), self._on_cuda
        loaded = turn.loaded or now
        self.taken.append(
            Taken(
                component=turn.component,
                allocated=torch.cuda.max_memory_allocated(self.placement.device) if on_cuda else None,
                reserved=reserved,
                context=self._gauge.context(),
                ram=ram,
                seconds=now - loaded,
                loading=loaded - turn.began,
                calls=tuple(call for call in turn.calls if call >= 0),
            )
        )

    @property
    def _on_cuda(self) -> bool:
        return self.placement.device.type == "cuda"

    def _now(self) -> float:
        self._wait()
        return perf_counter()

    def _wait(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize(self.placement.device)
