"""The NVIDIA driver over time: opened once, opened again after it went away, and what there is to tell about it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from engine.hardware import NoDriver, open_nvml
from engine.sampling.card import GONE, NO_PERMISSION, Card, DriverGone, Lost
from engine.sampling.figures import GpuSample
from engine.sampling.numbers import numbered

RETRY_SECONDS = 10.0  # a driver that is away, or a card that is lost, is looked for again
_MISMATCH = 18
_WHY = {
    None: "No NVIDIA driver was found, so no GPU is shown. In a container: start it with its GPUs (--gpus all).",
    NO_PERMISSION: "This user may not use the NVIDIA driver: /dev/nvidia* must be readable and writable.",
    9: "The NVIDIA driver is installed but not loaded: load it (modprobe nvidia) or restart the box.",
    _MISMATCH: "The NVIDIA driver that runs is not the version that is installed, as after an update: restart the box.",
}
_AWAY = "The NVIDIA driver does not answer any more; it is looked for every 10 seconds."
_NO_DEVICE = "The NVIDIA driver runs, but it sees no GPU."
_LOST = "It does not answer any more, and is looked for every 10 seconds; the kernel's log (dmesg) may say why."
_UNNAMED = "index-"  # the UUID of a device that does not even tell its own
_REFUSED = "The driver does not let this user see it."


class Driver:
    """One NVML session, for one thread. `away` tells why there is none, or no device; None while all is well."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.cuda: str | None = None
        self.away: str | None = None
        self._nvml: Any = None
        self._about: dict[str, GpuSample] = {}  # every device that was ever seen, by UUID
        self._cards: dict[str, Card] = {}  # those that answer
        self._open_due = 0.0

    def read(self, now: float, host: tuple[int | None, int | None]) -> tuple[GpuSample, ...]:
        """Every device with its figures. `now` is a clock in seconds; `host` (total, available) bytes of RAM."""
        if now >= self._open_due and (self._nvml is None or self._misses_cards):
            self._open(now)
        if self._nvml is not None:
            try:
                self._nvml.nvmlDeviceGetCount()  # a driver that is gone says so here
                return tuple(self._read(about, now, host) for about in self._about.values())
            except (DriverGone, self._nvml.NVMLError) as error:
                self._went_away(error.value, str(error), now)
        return tuple(replace(about, lost=True, problem=None) for about in self._about.values())

    def processes(self, uuid: str) -> tuple[tuple[int, int | None], ...] | None:
        """(pid, bytes) of what computes on a device, None where the driver does not tell."""
        with suppress(KeyError, Lost, DriverGone):  # the next reading tells
            found = self._cards[uuid].processes()
            return None if found is None else tuple(found)
        return None

    def close(self) -> None:
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = None
        self._cards = {}

    @property
    def _misses_cards(self) -> bool:
        return any(about.lost for uuid, about in self._about.items() if uuid not in self._cards)

    def _read(self, about: GpuSample, now: float, host: tuple[int | None, int | None]) -> GpuSample:
        with suppress(Lost):
            return self._cards[about.uuid].read(now, host) if about.uuid in self._cards else about
        del self._cards[about.uuid]
        self._open_due = now + RETRY_SECONDS
        self._about[about.uuid] = replace(about, lost=True, problem=_LOST)
        return self._about[about.uuid]

    def _went_away(self, code: int | None, said: str, now: float) -> None:
        self.close()
        self._open_due = now + RETRY_SECONDS
        known = code == _MISMATCH or not self._about
        self.away = _WHY.get(code, f"The NVIDIA driver cannot be used: {said}.") if known else _AWAY

    def _open(self, now: float) -> None:
        self.close()
        try:
            self._nvml = open_nvml()
        except NoDriver as error:
            self._went_away(error.code, str(error), now)
            return
        self._open_due = now + RETRY_SECONDS
        try:
            self._scan()
        except (DriverGone, self._nvml.NVMLError) as error:
            self._went_away(error.value, str(error), now)

    def _scan(self) -> None:
        """What devices there are now. A card that was there and is not stays, lost; parts of a card come and go."""
        nvml = self._nvml
        self.version = str(nvml.nvmlSystemGetDriverVersion())
        with suppress(nvml.NVMLError):
            number = nvml.nvmlSystemGetCudaDriverVersion_v2()
            self.cuda = f"{number // 1000}.{number % 1000 // 10}"
        answers = [self._at(index) for index in range(nvml.nvmlDeviceGetCount())]
        refused = [answer for answer in answers if isinstance(answer, GpuSample) and not answer.lost]
        silent = [answer for answer in answers if isinstance(answer, GpuSample) and answer.lost]
        places = [answer if isinstance(answer, tuple) else () for answer in answers if answer not in refused]
        found = numbered([tuple(card.about for card in cards) for cards in places], self._about)
        gone = [
            replace(about, lost=True, problem=_LOST)
            for uuid, about in self._about.items()
            if uuid not in found and not uuid.startswith(_UNNAMED) and not about.mig_parent
        ]
        found |= {about.uuid: about for about in (*gone, *silent[len(gone) :], *refused)}
        before = list(self._about)
        order = sorted(found, key=lambda uuid: before.index(uuid) if uuid in before else len(before))
        self._about = {uuid: found[uuid] for uuid in order}
        self._cards = {card.about.uuid: card for cards in places for card in cards}
        for uuid, card in self._cards.items():
            card.about = self._about[uuid]
        self.away = None if self._about else _NO_DEVICE

    def _at(self, index: int) -> tuple[Card, ...] | GpuSample:
        """The card of a number and its parts; where it does not answer, one without a name that tells why."""
        unknown = GpuSample(f"{_UNNAMED}{index}", f"GPU {index}", problem=_REFUSED)
        try:
            whole = Card(self._nvml, self._nvml.nvmlDeviceGetHandleByIndex(index))
            return (whole, *whole.parts())
        except Lost:
            return replace(unknown, lost=True, problem=_LOST)
        except self._nvml.NVMLError as error:
            if error.value in GONE:
                raise
            return unknown if error.value == NO_PERMISSION else replace(unknown, lost=True, problem=_LOST)
