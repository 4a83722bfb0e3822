"""All that is known of one model, as label and value; and how far the work on it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.units import counted, parameters, size
from wan_tui.drawing import UNKNOWN, bar, clock
from wan_tui.screens.library_rows import Now, of, percent, state_of, state_text
from wan_tui.widgets.listing import fitted

if TYPE_CHECKING:
    from engine.catalog import Defaults
    from wan_tui.now import TransferNow
    from wan_tui.screens.library_read import Entry

_DOING = {"download": "Downloading", "verify": "Verifying", "import": "Importing", "convert": "Making"}
_HERE = {"yes": "yes: it comes with the program", "not yet": "not by this version"}


@dataclass(frozen=True)
class Keys:
    """The keys that hints name, as the user has them."""

    download: str
    stop: str
    repair: str
    verify: str
    explain: str


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What the manifest, the disk and this box tell, in the order of what one asks first."""
    spec, copy, variant = entry.item.spec, entry.copy, entry.item.variant
    if variant:
        yield "variant", f"{variant.name}, {variant.kind}" + ("" if variant.runnable else "; not run by this version")
    yield "family", f"{spec.family}: {', '.join(spec.tasks)}"
    if entry.support.sentence and (not variant or variant.runnable):
        yield "runs", entry.support.sentence
    yield "here", here(entry)
    if entry.outlook and entry.here != "not yet":
        from wan_tui.screens.library_outlook import outlook_facts

        yield from outlook_facts(entry.outlook)
    else:
        yield "memory", memory(entry)
    yield "defaults", defaults(spec.defaults)
    yield "sizes", ", ".join(f"{width}x{height}" for width, height in spec.sizes) or UNKNOWN
    counts = ", ".join(f"{parameters(count)} in {name}" for name, count in entry.parameters.items())
    yield "weights", counts or UNKNOWN
    if spec.boundary_ratio is not None:
        yield "experts", f"two: one for high noise, the other below {spec.boundary_ratio:g} of the way"
    yield "on disk", _on_disk(entry)
    yield "licence", spec.licence or UNKNOWN
    yield "from", (variant and variant.repo) or spec.repo or (str(spec.path) if spec.path else "built in")
    yield "revision", copy.revision or (variant or spec).revision or UNKNOWN
    yield "place", str(copy.path) if copy.path else UNKNOWN
    if spec.note:
        yield "note", spec.note


def _on_disk(entry: Entry) -> str:
    if entry.copy.state == "absent":
        return f"nothing; {size(entry.bytes)} when whole" if entry.bytes is not None else "nothing"
    shared = f"; {size(entry.copy.shared_bytes)} shared with others" if entry.copy.shared_bytes else ""
    return of(entry.copy.present_bytes, entry.bytes) + shared


def here(entry: Entry) -> str:
    """Whether it goes onto this box."""
    if entry.outlook and entry.here not in _HERE:
        from wan_tui.telling_outlook import here_text

        return here_text(entry.outlook)
    return _HERE.get(entry.here or "", UNKNOWN)


def _outlook(entry: Entry) -> str:
    if entry.outlook is None or entry.here in _HERE:
        return here(entry)
    from wan_tui.screens.library_outlook import in_short

    return in_short(entry.outlook)


def memory(entry: Entry) -> str:
    """What its largest component takes, and what there is."""
    if entry.need is None:
        return UNKNOWN
    there = f"; this box has {size(entry.room)}" if entry.room is not None else ""
    need = entry.need
    return f"{size(need.bytes)} for its {need.component.replace('_', ' ')} in {need.dtype}{there}"


def defaults(known: Defaults) -> str:
    """`50 steps, guidance 5, shift 3, 81 frames at 16 fps, 832x480`."""
    low = f" and {known.guidance_2:g}" if known.guidance_2 is not None else ""
    shift = f"shift {known.flow_shift:g}, " if known.flow_shift is not None else ""
    return (
        f"{counted(known.steps, 'step')}, guidance {known.guidance:g}{low}, {shift}"
        f"{counted(known.frames, 'frame')} at {known.fps} fps, {known.width}x{known.height}"
    )


def short(entry: Entry) -> tuple[str, ...]:
    """The same in three lines for a small terminal."""
    spec, variant = entry.item.spec, entry.item.variant
    first = [variant.kind] if variant else []
    first += [", ".join(spec.tasks), spec.licence or "licence unknown"]
    first += [", ".join(f"{width}x{height}" for width, height in spec.sizes)] if spec.sizes else []
    last = [_outlook(entry)] if entry.outlook else [memory(entry)] if entry.need else []
    last += [entry.support.sentence] if entry.support.sentence else []
    last += [spec.note] if spec.note else []
    lines = [" · ".join(first), defaults(spec.defaults), " · ".join(last)]
    return tuple([*lines[:2], str(entry.copy.path)] if entry.copy.path else lines)


def hint(entry: Entry, now: Now, keys: Keys) -> str:
    """What to do next about it."""
    if now.running:
        return f"{keys.stop} stops it; what came stays"
    match state_of(entry, now):
        case "failed":
            return f"{keys.explain} tells all of it, {keys.download} tries again"
        case "absent" | "partial" if entry.item.spec.builtin:
            return "it comes with the program: install wan-tui again"
        case "absent" if entry.item.sources or entry.item.made:
            return f"{keys.download} downloads it" if not entry.item.made else f"{keys.download} makes it here"
        case "absent":
            return f"it is not at {entry.item.spec.path}"
        case "partial" | "paused":
            return f"{keys.download} goes on with it"
        case "corrupt":
            return f"{keys.repair} fetches what is damaged again"
        case "complete" if any(file.place for file in entry.copy.files):
            return f"{keys.verify} compares every byte of it"
    return ""


def headline(entry: Entry, now: Now) -> tuple[str, str]:
    """Its state in words, with the bytes; and the tone."""
    if now.running and now.transfer:
        text = _DOING[now.transfer.kind]
        latest = now.transfer.latest
        return (text if latest else f"{text}: looking at what is here"), "$accent"
    text, tone = state_text(entry, now)
    if now.failed and now.transfer and now.transfer.error:
        text = f"✗ {now.transfer.error.message}"
    elif entry.on_disk:
        text += f"  {of(entry.copy.present_bytes, entry.bytes)}" if "%" in text else f"  {size(entry.bytes)}"
    elif entry.bytes is not None:
        text += f"  {size(entry.bytes)}"
    tones = {"good": "$success", "bad": "$error", "warn": "$warning", "dim": "$foreground-muted"}
    return text, tones.get(tone, "$text")


def progress(transfer: TransferNow, width: int, files: int) -> list[str]:
    """A line for the whole and one for each file under way, at most `files`, each `width` cells or fewer."""
    latest = transfer.latest
    if latest is None:
        return [transfer.notice] if transfer.notice else []
    figures = [percent(latest.all_done, latest.all_total), of(latest.all_done, latest.all_total)]
    figures += [f"{size(round(latest.all_rate))}/s"] if latest.all_rate else []
    figures += [f"{clock(latest.eta_s)} left"] if latest.eta_s is not None else []
    told = "  ".join(figures)
    share, cells = latest.all_done / max(1, latest.all_total), min(40, width - len(told) - 2)
    lines = [f"{bar(share, cells)}  {told}"] if cells >= 8 else [bar(share, width), told]
    under_way = list(transfer.files.values())
    for one in under_way[:files]:
        amount = f"{percent(one.done, one.total):>5}  {of(one.done, one.total):>16}"
        rate = f"  {size(round(one.rate))}/s" if one.rate and width >= 70 else ""
        amount += f"{rate:>14}" if width >= 70 else ""
        lines.append(f"{fitted(one.file, max(8, width - len(amount) - 2), keep='end')}  {amount}")
    if more := len(under_way) - files:
        lines += [f"and {counted(more, 'file')} more"] if more > 0 else []
    return lines
