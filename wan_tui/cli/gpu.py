"""`wan-tui gpu`: the devices and what they do right now, with RAM and disk. Works without torch and without a GPU."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from engine.errors import Exit
from engine.sampling.figures import DiskSample, GpuSample, HostSample, Sample
from engine.sampling.reader import sample_once
from engine.units import size
from wan_tui.cli.errors import answered
from wan_tui.cli.layout import for_terminal

# Of this process, which uses none: the screen of the app shows these.
_OURS = ("our_bytes", "torch_allocated_bytes", "torch_reserved_bytes", "torch_peak_bytes")


def command(args: argparse.Namespace) -> int:
    sample = sample_once()
    if args.json:
        return answered(json.dumps(_answer(sample), indent=2), Exit.DONE)
    return answered(for_terminal(_lines(sample)), Exit.DONE)


def _answer(sample: Sample) -> dict[str, Any]:
    host = sample.host
    devices = [{key: value for key, value in asdict(gpu).items() if key not in _OURS} for gpu in sample.gpus]
    return {
        "devices": devices,
        "driver": sample.driver,
        "cuda": sample.cuda,
        "ram": {
            "total_bytes": host.ram_total_bytes,
            "available_bytes": host.ram_available_bytes,
            "used_bytes": host.ram_used_bytes,
            "swap_total_bytes": host.swap_total_bytes,
            "swap_used_bytes": host.swap_used_bytes,
        },
        "disk": [asdict(disk) for disk in sample.disks],
        "cpus": host.cpus,
        "load": host.load,
        "notice": sample.notice,
    }


def _lines(sample: Sample) -> Iterator[str]:
    if sample.driver:
        yield f"driver   {sample.driver}, CUDA up to {_known(sample.cuda)}"
    if sample.notice:
        yield f"note     {sample.notice}"
    for gpu in sample.gpus:
        yield ""
        yield from _device(gpu)
    if sample.gpus:
        yield ""
    yield from _host(sample.host)
    for disk in sample.disks:
        yield _disk(disk)


def _device(gpu: GpuSample) -> Iterator[str]:
    yield f"{device_label(gpu):<8} {gpu.name}"
    yield "id       " + ", ".join(filter(None, (gpu.uuid, gpu.bus_id)))
    if gpu.hidden:
        yield "note     CUDA_VISIBLE_DEVICES leaves it out: jobs do not use it."
    if gpu.mig_parent:
        yield f"part of  {gpu.mig_parent}"
    if gpu.problem:
        yield f"note     {gpu.problem}"
    if gpu.lost:
        return
    free = f"{_size(gpu.used_bytes)} of {_size(gpu.total_bytes)} used, {_size(gpu.free_bytes)} free"
    yield f"memory   {free}{', shared with the CPU' if gpu.shared_memory else ''}"
    yield f"load     {_in(gpu.utilization, '%')}, memory bus {_in(gpu.memory_utilization, '%')}"
    power = f"{_in(gpu.power_w, 'W')} of {_in(gpu.power_limit_w, 'W')}"
    state = "P—" if gpu.pstate is None else f"P{gpu.pstate}"
    yield f"state    {_in(gpu.temperature_c, '°C')}, {power}, {_in(gpu.clock_mhz, 'MHz')}, {state}"
    if gpu.throttle:
        yield f"slowed   {', '.join(gpu.throttle)}"


def device_label(gpu: GpuSample) -> str:
    """What a job calls a device where that is known."""
    if gpu.torch_index is not None:
        return f"cuda:{gpu.torch_index}"
    return "lost" if gpu.lost else "part" if gpu.mig_parent else "GPU"


def _host(host: HostSample) -> Iterator[str]:
    used, total = _size(host.ram_used_bytes), _size(host.ram_total_bytes)
    yield f"RAM      {used} of {total} used, {_size(host.ram_available_bytes)} free"
    swap = (
        "none"
        if host.swap_total_bytes == 0
        else f"{_size(host.swap_used_bytes)} of {_size(host.swap_total_bytes)} used"
    )
    yield f"swap     {swap}"
    yield f"CPUs     {_known(host.cpus)}, load {'—' if host.load is None else f'{host.load:.1f}'}"


def _disk(disk: DiskSample) -> str:
    return f"disk     {_size(disk.free_bytes)} of {_size(disk.total_bytes)} free, {disk.what}: {disk.path}"


def _size(count: int | None) -> str:
    return "—" if count is None else size(count)


def _in(figure: float | None, unit: str) -> str:
    return "—" if figure is None else f"{figure:.0f} {unit}"


def _known(figure: object) -> str:
    return "—" if figure is None else str(figure)
