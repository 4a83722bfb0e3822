"""One device of the NVIDIA driver: what it is, asked once, and its figures, asked again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.sampling.figures import GpuSample

SLOW_SECONDS = 2.0  # temperature, power and clocks change slowly, and cost more to ask
NO_PERMISSION = 4
_NOT_SUPPORTED, _FUNCTION_NOT_FOUND = 3, 13
_NEVER = (2, _NOT_SUPPORTED, _FUNCTION_NOT_FOUND, 25)  # 2: no question for a part of a card; 25: newer than the driver
LOST = (15, 16)  # fell off the bus; wants a reset
GONE = (1, 9, 12, 18)  # the driver itself: not initialised, not loaded, no library, another version than its library
_HOLDS = (  # bit, and what holds the clocks down
    (0x04, "power cap"),
    (0x20 | 0x40, "thermal"),
    (0x80, "power brake"),
    (0x08, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x02, "clocks set by hand"),
    (0x100, "display clocks"),
)


class Lost(Exception):
    """The device does not answer any more."""


class DriverGone(Exception):
    """The driver does not answer any more. `value` is the code it said last, as in NVML's own errors."""

    def __init__(self, value: int, text: str) -> None:
        super().__init__(text)
        self.value = value


class Card:
    """A device behind a handle of `nvml`. `about` is what it is; its figures are None."""

    def __init__(self, nvml: Any, handle: Any, parent: GpuSample | None = None) -> None:
        self._nvml, self._handle = nvml, handle
        self._mute: dict[tuple[Any, ...], int] = {}  # what it will never answer, and why
        self._refused = 0  # why the question before was not answered
        self._slow: dict[str, Any] = {}
        self._slow_due = 0.0
        pci = self.ask("nvmlDeviceGetPciInfo")
        self.about = GpuSample(
            uuid=str(nvml.nvmlDeviceGetUUID(handle)),
            name=str(self.ask("nvmlDeviceGetName") or "GPU"),
            bus_id=_text(pci.busId) if pci else parent.bus_id if parent else None,
            capability=parent.capability if parent else self.ask("nvmlDeviceGetCudaComputeCapability"),
            mig_parent=parent.uuid if parent else None,
        )

    def ask(self, question: str, *more: Any) -> Any:
        """The answer, None where there is none. Raises `Lost` and `DriverGone`."""
        self._refused = self._mute.get((question, *more), 0)
        if self._refused:
            return None
        try:
            return getattr(self._nvml, question)(self._handle, *more)
        except self._nvml.NVMLError as error:
            self._refused = int(error.value)
            if self._refused in LOST:
                raise Lost from error
            if self._refused in GONE:
                raise DriverGone(self._refused, str(error)) from error
            if self._refused in _NEVER:
                self._mute[question, *more] = self._refused
            return None

    def parts(self) -> list[Card]:
        """The parts of a split card (MIG)."""
        mode = self.ask("nvmlDeviceGetMigMode")
        if not mode or not mode[0]:
            return []
        handles = []
        for number in range(self.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
            try:
                handles.append(self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, number))
            except self._nvml.NVMLError:
                continue  # a place that no part has taken
        return [Card(self._nvml, handle, self.about) for handle in handles]

    def read(self, now: float, host: tuple[int | None, int | None]) -> GpuSample:
        """Its figures. `host` is (total, available) bytes of RAM, for a device without memory of its own."""
        figures = self._memory(host)
        load = self.ask("nvmlDeviceGetUtilizationRates")
        if now >= self._slow_due:
            self._slow, self._slow_due = self._changing_slowly(), now + SLOW_SECONDS - 0.1
        return replace(
            self.about,
            **figures,
            **self._slow,
            utilization=int(load.gpu) if load else None,
            memory_utilization=int(load.memory) if load else None,
        )

    def processes(self) -> Sequence[tuple[int, int | None]] | None:
        """(pid, bytes) of what computes on it, None where the driver does not tell."""
        # The name without a number asks for this one too, but raises no NVMLError where the driver is older.
        found = self.ask("nvmlDeviceGetComputeRunningProcesses_v3")
        return None if found is None else [(int(one.pid), one.usedGpuMemory) for one in found]

    def _memory(self, host: tuple[int | None, int | None]) -> dict[str, Any]:
        memory = self.ask("nvmlDeviceGetMemoryInfo", self._nvml.nvmlMemory_v2)
        if memory is None and self._refused in _NEVER:
            memory = self.ask("nvmlDeviceGetMemoryInfo")  # as drivers before 510 have it
        if memory and memory.total:
            return {
                "total_bytes": int(memory.total),
                "used_bytes": int(memory.used),
                "free_bytes": int(memory.free),
            }
        if memory or self._refused == _NOT_SUPPORTED:
            total, free = host
            used = None if total is None or free is None else total - free
            return {"total_bytes": total, "used_bytes": used, "free_bytes": free, "shared_memory": True}
        return {"problem": self._why()}

    def _why(self) -> str:
        if self._refused == NO_PERMISSION:
            return "The driver does not let this user see its memory."
        return f"The driver does not tell its memory: {self._nvml.NVMLError(self._refused)}."

    def _changing_slowly(self) -> dict[str, Any]:
        nvml = self._nvml
        power, limit = self.ask("nvmlDeviceGetPowerUsage"), self.ask("nvmlDeviceGetEnforcedPowerLimit")
        state = self.ask("nvmlDeviceGetPerformanceState")
        holds = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if holds is None:  # what drivers before 535 call it
            holds = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return {
            "temperature_c": self.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
            "power_limit_w": None if limit is None else limit / 1000,
            "clock_mhz": self.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "pstate": state if state is not None and 0 <= state <= 15 else None,  # 32 is its word for unknown
            "throttle": None if holds is None else tuple(word for bits, word in _HOLDS if holds & bits),
        }


def _text(raw: str | bytes) -> str:
    return raw.decode("ascii", "replace") if isinstance(raw, bytes) else str(raw)
