"""A device in one line, in two, or in full with its last two minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.sampling.figures import GpuSample
from engine.sampling.history import GpuHistory
from wan_tui.cli.gpu import device_label
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.monitor_figures import age, curve, known, measure, memory, shares
from wan_tui.screens.monitor_lines import Line, Piece
from wan_tui.widgets.listing import fitted

ONE, TWO, FULL = 0, 1, 2  # levels of detail; FULL and above have that many rows of curves less one
_IN = "   "
_NOTE = 17  # cells for `slowed: power cap`
_MEMORY = {False: "VRAM", True: "shared (system) memory"}


@dataclass(frozen=True)
class Seen:
    """A device to show. `gpu` has the figures last known, `old` how many seconds ago that was when it is away; `works`
    while the job runs on it. `phase` is the second of the newest figure of its history."""

    gpu: GpuSample
    history: GpuHistory
    phase: int = 0
    old: float | None = None
    lost: bool = False
    works: bool = False
    split: bool = False  # what computes are its parts


def height(card: Seen, level: int) -> int:
    return level + 1 if level <= TWO else 2 if card.gpu.mig_parent or card.split else level + 2


def card_lines(card: Seen, level: int, width: int, *, at: bool) -> list[Line]:
    """The device in `height(card, level)` lines; `at` it the cursor stands."""
    mark: Piece = ("▸", "accent") if at else " "
    if level == ONE:
        return [(mark, *_in_one(card, width - 1))]
    if level == TWO or height(card, level) == 2:
        return [(mark, *_first_of_two(card, width - 1)), (_IN, *_second_of_two(card, width - len(_IN)))]
    lines: list[Line] = [(mark, *_named(card, width - 1)), (_IN, *_room(card, width - len(_IN)))]
    lines.append((_IN, *_state(card, width - len(_IN))))
    return lines + _curves(card, width, level - FULL + 1)


def label(gpu: GpuSample) -> str:
    return f"└ {device_label(gpu)}" if gpu.mig_parent else device_label(gpu)


def _name(gpu: GpuSample) -> str:
    """Without what all of them begin with; of a part, what parts differ in."""
    if gpu.mig_parent and " MIG " in gpu.name:
        return "MIG " + gpu.name.rpartition(" MIG ")[2]
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _tag(card: Seen) -> Piece:
    """What is special about it."""
    if card.lost:
        return (f"lost, figures {age(card.old)} old" if card.old is not None else "lost", "bad")
    if card.gpu.hidden:
        return ("not for jobs here", "dim")
    return ("▶ the job", "accent") if card.works else ""


def _text(piece: Piece) -> str:
    return piece if isinstance(piece, str) else piece[0]


def _in_one(card: Seen, width: int) -> Line:
    gpu = card.gpu
    room = f"{known(gpu.used_bytes):>8} of {known(gpu.total_bytes):>8}"
    figures = f"{measure(gpu.utilization, '%'):>5} {measure(gpu.temperature_c, '°C'):>6}"
    if width >= 70:
        figures += f" {measure(gpu.power_w, 'W'):>5}"
    tail = _text(_tag(card)) or ", ".join(gpu.throttle or ())
    tone = "dim" if card.lost else ""
    cells = width - 8 - len(room) - len(figures) - 3
    name = 12 if cells >= 40 else 0
    bar = (cells - name) // 2
    note = cells - name - bar if width < 100 else 18
    drawn = curve(card.history.utilization, cells - name - bar - note - 1, 100, phase=card.phase)[0]
    return (
        (fitted(label(gpu), 8), tone),
        (fitted(_name(gpu), name), tone),
        *(shares(bar, gpu.total_bytes, gpu.used_bytes, gpu.our_bytes)),
        (f" {room} {figures} ", tone),
        (fitted(tail, note), "bad" if card.lost else "accent" if card.works else "warn"),
        (f" {drawn}", "good"),
    )


def _first_of_two(card: Seen, width: int) -> Line:
    """Who it is, and what it does now."""
    gpu, tag = card.gpu, "" if card.works and not card.lost else _tag(card)
    told = 2 + len(_text(tag)) if tag else 0
    name = 12 if width < 100 else 24
    figures = _figures(gpu, max(0, width - 9 - name - 14 - told))
    left = width - 9 - len(figures) - 2 - told
    cells = 0 if card.split else max(0, min(60, left - name - 2))
    drawn = curve(card.history.utilization, cells, 100, phase=card.phase)[0]
    tone = "dim" if card.lost else ""
    return (
        (f"{label(gpu):<8} ", tone or "accent"),
        (fitted(("▶ " if card.works else "") + _name(gpu), max(0, left - cells - 2)), "accent" if card.works else tone),
        "  " if tag else "",
        tag,
        "  ",
        (f"{drawn}  " if cells else "  ", "good"),
        (figures, tone),
    )


def _second_of_two(card: Seen, width: int) -> Line:
    """Its memory, and what is wrong with it."""
    gpu = card.gpu
    if gpu.problem:
        return ((fitted(gpu.problem, width), "bad" if card.lost else "warn"),)
    told = memory(gpu.total_bytes, gpu.used_bytes, gpu.free_bytes, gpu.our_bytes, short=width < 100)
    bar = max(6, min(40, width - sum(len(_text(piece)) for piece in told) - 4 - _NOTE))
    shown = shares(bar, gpu.total_bytes, gpu.used_bytes, gpu.our_bytes)
    note = _slowed(gpu) or (("shared memory", "dim") if gpu.shared_memory else "")
    room = max(0, width - bar - 4 - sum(len(_text(piece)) for piece in told))
    return (*shown, "  ", *told, "  ", (fitted(_text(note), room), note[1] if isinstance(note, tuple) else ""))


def _named(card: Seen, width: int) -> Line:
    gpu, tag = card.gpu, _tag(card)
    shared = _MEMORY[True] if gpu.shared_memory else None
    where = " · ".join(filter(None, (shared, gpu.uuid[:12], gpu.bus_id if width >= 90 else None)))
    name = fitted(gpu.name, max(0, width - 9 - len(where) - len(_text(tag)) - 3))
    tone = "dim" if card.lost else ""
    return (f"{label(gpu):<8} ", "accent"), (name, tone or "title"), " ", tag, "  ", (where, "dim")


def _room(card: Seen, width: int) -> Line:
    gpu = card.gpu
    if gpu.total_bytes is None and gpu.problem:
        return ((fitted(gpu.problem, width), "bad" if card.lost else "warn"),)
    told = memory(gpu.total_bytes, gpu.used_bytes, gpu.free_bytes, gpu.our_bytes, short=width < 74)
    what = "RAM " if gpu.shared_memory else "VRAM"
    bar = max(6, min(60, width - 5 - 2 - sum(len(_text(piece)) for piece in told)))
    return ((f"{what} ", "dim"), *shares(bar, gpu.total_bytes, gpu.used_bytes, gpu.our_bytes), "  ", *told)


def _state(card: Seen, width: int) -> Line:
    """Its figures; what slows it down comes before the lesser of them."""
    gpu = card.gpu
    note = _slowed(gpu)
    figures = _figures(gpu, width - (min(len(_text(note)), 24) + 3 if note else 0))
    left = width - len(figures) - 3
    tone = "dim" if card.lost else ""
    if not note:
        return ((figures, tone),)
    return (figures, tone), "   ", (fitted(_text(note), left), note[1] if isinstance(note, tuple) else "")


def _slowed(gpu: GpuSample) -> Piece:
    return (f"slowed: {', '.join(gpu.throttle)}", "warn") if gpu.throttle else ""


def _figures(gpu: GpuSample, width: int) -> str:
    """As many of its figures as there is room for, the weightiest first."""
    power = f"{measure(gpu.power_w, 'W')} of {measure(gpu.power_limit_w, 'W')}"
    fields = (
        (0, f"busy {measure(gpu.utilization, '%'):>5}"),
        (4, f"memory bus {measure(gpu.memory_utilization, '%'):>5}"),
        (1, f"{measure(gpu.temperature_c, '°C'):>6}"),
        (2, f"{power:>14}"),
        (3, f"{measure(gpu.clock_mhz, 'MHz'):>8}"),
        (5, f"{UNKNOWN if gpu.pstate is None else f'P{gpu.pstate}':>3}"),
    )
    for least in range(len(fields), 0, -1):
        told = "  ".join(text for weight, text in fields if weight < least)
        if len(told) <= width:
            return told
    return ""


def _curves(card: Seen, width: int, rows: int) -> list[Line]:
    """How busy it was, and its memory, side by side."""
    each = (width - len(_IN) - 3) // 2 - 6
    busy = curve(card.history.utilization, each, 100, rows=rows, phase=card.phase)
    used = curve(card.history.used_bytes, each, card.gpu.total_bytes, rows=rows, phase=card.phase)
    what = "RAM" if card.gpu.shared_memory else "VRAM"
    heads = [("busy", what), *[("", "")] * (rows - 1)]
    return [
        (_IN, (f"{first:<5}", "dim"), (one, "good"), "   ", (f"{second:<5}", "dim"), (other, "others"))
        for (first, second), one, other in zip(heads, busy, used, strict=True)
    ]


def in_full(card: Seen, driver: Sequence[str], width: int, rows: int) -> list[Line]:
    """All there is to tell of one device; curves of so many rows."""
    gpu = card.gpu
    facts = _facts(gpu, driver)
    lines: list[Line] = [((f" {label(gpu)}  ", "accent"), (gpu.name, "title"), "  ", _tag(card))]
    if gpu.problem:
        lines.append(((f" {gpu.problem}", "bad" if card.lost else "warn"),))
    if gpu.hidden:
        lines.append(((" CUDA_VISIBLE_DEVICES leaves it out: jobs do not use it.", "dim"),))
    cells = max(len(name) for name, _ in facts) if gpu.shared_memory else 8
    lines += [((f" {name:<{cells}} ", "dim"), text) for name, text in facts]
    return [*lines, (), *_all_curves(card, width, rows)]


def _facts(gpu: GpuSample, driver: Sequence[str]) -> list[tuple[str, str]]:
    power = f"{measure(gpu.power_w, 'W')} of {measure(gpu.power_limit_w, 'W')}"
    pstate = UNKNOWN if gpu.pstate is None else f"P{gpu.pstate}"
    slowed = UNKNOWN if gpu.throttle is None else f"by {', '.join(gpu.throttle) or 'nothing'}"
    held, free, total = known(gpu.used_bytes), known(gpu.free_bytes), known(gpu.total_bytes)
    torch = (known(gpu.torch_allocated_bytes), known(gpu.torch_reserved_bytes), known(gpu.torch_peak_bytes))
    facts = [
        ("id", gpu.uuid),
        ("bus", gpu.bus_id or UNKNOWN),
        ("driver", ", ".join(driver) or UNKNOWN),
        ("compute", ".".join(map(str, gpu.capability)) if gpu.capability else UNKNOWN),
        (_MEMORY[gpu.shared_memory], f"{held} used, {free} free of {total}; ours {known(gpu.our_bytes)}"),
        ("torch", "{} in use, {} reserved, peak {}".format(*torch)),
        ("load", f"busy {measure(gpu.utilization, '%')}, memory bus {measure(gpu.memory_utilization, '%')}"),
        ("state", f"{measure(gpu.temperature_c, '°C')}, {power}, {measure(gpu.clock_mhz, 'MHz')}, {pstate}"),
        ("slowed", slowed),
    ]
    return [*facts, ("part of", gpu.mig_parent)] if gpu.mig_parent else facts


def _all_curves(card: Seen, width: int, rows: int) -> list[Line]:
    past = card.history
    heat = [value for value in past.temperature_c if value is not None]
    kinds = (
        ("busy", "100 %", past.utilization, 100.0, "good"),
        ("memory", known(card.gpu.total_bytes), past.used_bytes, card.gpu.total_bytes, "others"),
        ("power", measure(card.gpu.power_limit_w, "W"), past.power_w, card.gpu.power_limit_w, "accent"),
        ("heat", "100 °C", past.temperature_c, max([100.0, *heat]), "warn"),
    )
    lines: list[Line] = []
    for name, top, values, most, tone in kinds:
        drawn = curve(values, min(120, width - 11), most, rows=rows, phase=card.phase)
        heads = (name, top) if rows > 1 else (name,)
        lines += [
            ((f" {heads[row] if row < len(heads) else '':<9} ", "dim"), (text, tone)) for row, text in enumerate(drawn)
        ]
    return lines
