"""The host beside the devices: memory, CPUs, disks; and what is said where there is no device."""

from __future__ import annotations

from engine.sampling.figures import DiskSample, HostSample, Sample
from engine.sampling.history import HostHistory
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.monitor_figures import curve, known, measure, memory, shares
from wan_tui.screens.monitor_lines import Line


def host_lines(sample: Sample, history: HostHistory, width: int, *, rows: int) -> list[Line]:
    """A title, memory, CPUs and disks; with `rows`, curves of that many rows below."""
    host, phase = sample.host, int(sample.time)
    told = memory(host.ram_total_bytes, host.ram_used_bytes, host.ram_available_bytes, host.rss_bytes, short=width < 77)
    bar = max(6, min(60, width - 11 - sum(len(piece if isinstance(piece, str) else piece[0]) for piece in told)))
    lines: list[Line] = [
        ((" Host", "title"),),
        (("   RAM  ", "dim"), *shares(bar, host.ram_total_bytes, host.ram_used_bytes, host.rss_bytes), "  ", *told),
        _cpus(host, history, width, phase, drawn=not rows),
        (("   disk ", "dim"), _disks(sample.disks, width - 9)),
    ]
    if rows:
        lines += _curves(sample, history, width, rows)
    return lines


def _cpus(host: HostSample, history: HostHistory, width: int, phase: int, *, drawn: bool) -> Line:
    load = UNKNOWN if host.load is None else f"{host.load:.1f}"
    count = UNKNOWN if host.cpus is None else str(host.cpus)
    busy = f"busy {measure(host.cpu_percent, '%'):>5}  load {load:>5} of {count} CPUs"
    swap = "none" if host.swap_total_bytes == 0 else f"{known(host.swap_used_bytes)} of {known(host.swap_total_bytes)}"
    text = f"{busy}  swap {swap}"
    cells = min(60, width - 9 - len(text) - 2)
    curve_text = curve(history.cpu_percent, cells, 100, phase=phase)[0] if drawn and cells >= 8 else ""
    return ("   CPU  ", "dim"), text, "  ", (curve_text, "good")


def _disks(disks: tuple[DiskSample, ...], width: int) -> str:
    """Free room at each place; places with the same figures lie on one disk."""
    places: dict[tuple[int | None, int | None], list[str]] = {}
    for disk in disks:
        places.setdefault((disk.free_bytes, disk.total_bytes), []).append(disk.what)
    told = [(f"{known(free)} free of {known(total)}", whats) for (free, total), whats in places.items()]
    text = "   ".join(f"{room}: {', '.join(whats)}" for room, whats in told)
    if len(text) <= width:
        return text
    return "  ".join(f"{known(free)} free: {', '.join(whats)}" for (free, _), whats in places.items())


def _curves(sample: Sample, history: HostHistory, width: int, rows: int) -> list[Line]:
    each = (width - 6) // 2 - 6
    busy = curve(history.cpu_percent, each, 100, rows=rows, phase=int(sample.time))
    used = curve(history.ram_used_bytes, each, sample.host.ram_total_bytes, rows=rows, phase=int(sample.time))
    heads = [("CPU", "RAM"), *[("", "")] * (rows - 1)]
    return [
        ((f"   {first:<5}", "dim"), (one, "good"), "   ", (f"{second:<5}", "dim"), (other, "others"))
        for (first, second), one, other in zip(heads, busy, used, strict=True)
    ]


def wrapped(text: str, width: int, tone: str = "") -> list[Line]:
    """A sentence over as many lines as it needs."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width - 4:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [((f"   {one}", tone),) for one in (*lines, line) if one]
