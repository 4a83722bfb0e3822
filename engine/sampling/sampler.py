"""The thread that samples: once a second while somebody looks, every five seconds otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from engine.sampling.figures import Sample
from engine.sampling.history import GpuHistory, HostHistory, Rings
from engine.sampling.reader import Reader

PERIOD_SECONDS = 1.0
PAUSED_SECONDS = 5.0


class Sampler:
    """Samples in one daemon thread, which alone talks to the driver. Everything here returns at once.

    `on_sample` is called in that thread with every sample while not paused: hand it on (`post_message`) and return.
    Paused, it is not called, and samples come every five seconds, so that the history has no hole when the screen comes
    back; `resume` takes one at once. Make it paused with `paused=True` where no screen shows it yet.

    The driver of a dying card, or a disk behind a network, may hold the thread up for long: `latest` then stays what it
    was. Compare `latest.time` with `time.monotonic()`, and say how old the figures are once that is over a few seconds.
    """

    def __init__(
        self,
        on_sample: Callable[[Sample], None] | None = None,
        *,
        paused: bool = False,
        period: float = PERIOD_SECONDS,
    ) -> None:
        self.latest: Sample | None = None  # None until the first is there
        self._on_sample = on_sample
        self._period = period
        self._rings = Rings()
        self._paused = paused
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin; once in its life."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples. Does not wait for one that is being taken; it is not handed on."""
        self._stopped = True
        self._wake.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended. Not on a UI thread."""
        self._thread.join(timeout)

    def pause(self) -> None:
        """Nobody looks: sample for the history alone, and tell nobody."""
        self._paused = True

    def resume(self) -> None:
        """Somebody looks again: the next sample comes at once."""
        self._paused = False
        self._wake.set()

    def history(self, uuid: str) -> GpuHistory:
        """The last 120 seconds of a device, one figure a second up to `latest`."""
        return self._rings.gpu(uuid)

    def host_history(self) -> HostHistory:
        """The last 120 seconds of the host's RAM and CPUs."""
        return self._rings.host()

    def _run(self) -> None:
        reader = Reader()
        due = time.monotonic()
        while not self._stopped:
            self._wake.clear()
            sample = reader.read(time.monotonic())
            self._rings.add(sample)
            self.latest = sample
            if self._on_sample and not self._paused and not self._stopped:
                self._on_sample(sample)
            due = max(due + (PAUSED_SECONDS if self._paused else self._period), time.monotonic())
            if self._wake.wait(due - time.monotonic()):
                due = time.monotonic()
        reader.close()
