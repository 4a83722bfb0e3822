"""What a sample holds. A figure that is not known is None, never 0; bytes are bytes, load is in percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuSample:
    """A GPU, or a part of a split one (MIG), at one moment. `uuid` is what it goes by everywhere.

    A split card is listed before its parts; they name it in `mig_parent`, and only they are computed on.
    """

    uuid: str
    name: str
    torch_index: int | None = None  # the N of cuda:N; None where hidden, or where the driver's order does not tell it
    hidden: bool = False  # CUDA_VISIBLE_DEVICES leaves it out
    bus_id: str | None = None
    capability: tuple[int, int] | None = None
    mig_parent: str | None = None
    shared_memory: bool = False  # it has none of its own: the memory figures are the host's
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    our_bytes: int | None = None  # of this process, as the driver counts: with what CUDA itself takes
    torch_allocated_bytes: int | None = None  # the torch figures are None until this process has used CUDA
    torch_reserved_bytes: int | None = None
    torch_peak_bytes: int | None = None  # the most reserved since the job began
    utilization: int | None = None
    memory_utilization: int | None = None  # how busy its memory bus is
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    clock_mhz: int | None = None
    pstate: int | None = None  # 0 is the fastest
    throttle: tuple[str, ...] | None = None  # what holds the clocks down, in words; () nothing, None unknown
    lost: bool = False  # it was there, and does not answer any more
    problem: str | None = None  # a sentence: why figures are missing


@dataclass(frozen=True)
class HostSample:
    """The host. RAM is what this process may use: within its cgroup."""

    ram_total_bytes: int | None = None
    ram_available_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_used_bytes: int | None = None
    rss_bytes: int | None = None  # of this process
    load: float | None = None  # processes that want to run, averaged over a minute
    cpu_percent: float | None = None  # of all CPUs together, since the sample before; None in the first
    cpus: int | None = None

    @property
    def ram_used_bytes(self) -> int | None:
        if self.ram_total_bytes is None or self.ram_available_bytes is None:
            return None
        return self.ram_total_bytes - self.ram_available_bytes


@dataclass(frozen=True)
class DiskSample:
    """The disk under a folder, which need not be there yet. `what` is `models` or `working folder`."""

    what: str
    path: str
    free_bytes: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Sample:
    """Everything at one moment. `time` is `time.monotonic()`.

    `notice` is a sentence or two about the whole box, None when there is nothing to tell: no driver, a driver that does
    not answer, no permission, no device, a container that hides whose memory it is. Samples that come while a driver is
    away still list its devices, `lost`.
    """

    time: float
    gpus: tuple[GpuSample, ...]
    host: HostSample
    disks: tuple[DiskSample, ...]
    driver: str | None
    cuda: str | None  # the newest CUDA that the driver runs
    notice: str | None
