"""Why a plan is as it is, in sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.hardware import Device
from engine.job import Job
from engine.memory.choice import MARGIN, Choice, alike, choose, if_lossy, stored, with_margin
from engine.memory.ladder import EXACT, FORMS, FP8, NAMES
from engine.units import size

LACKING = "it does not fit: "  # so begins a reason why not
UNTIMED = "time is not known: "  # and one why nobody knows how long it takes
_MUCH = 10**9  # bytes of a card that others have, from which on they are named


def why(job: Job, device: Device, chosen: Choice, windows: int) -> Iterator[str]:
    """What was chosen, why nothing faster, and where the limit comes from. `windows` is how many there are."""
    yield _what(chosen, windows)
    if chosen.windows and job.memory.profile == "auto":
        yield f"in one piece nothing fits: {chosen.clip.frames} frames in windows are another video than in one piece"
    elif job.memory.profile == "auto":
        yield from _why_not_faster(chosen)
    else:
        yield f"the job asks for {job.memory.profile}"
    yield from _form(chosen)
    yield from _storage(job, chosen)
    yield from _limits(job, device, chosen)
    if chosen.fits is False:
        yield from _lacking(job, chosen)
    elif chosen.fits is None:
        yield "how much memory the device has is not known: whether it fits is not either"


def _what(chosen: Choice, windows: int) -> str:
    says = chosen.held.rung.says
    if chosen.held.resident_bytes:
        says += f", and {size(chosen.held.resident_bytes)} of each stay on the device"
    if not windows:
        return f"{chosen.held.rung.name}: {says}"
    made = f"made in {windows} windows" if windows > 1 else "made in one window"
    return f"{chosen.profile}: the clip is {made}; {says}"


def _why_not_faster(chosen: Choice) -> Iterator[str]:
    """What the next faster rung lacks."""
    rung = chosen.held.rung.name
    if chosen.terms.on_cpu or rung == NAMES[0] or chosen.fits is None:
        return
    faster = NAMES[NAMES.index(rung) - 1]
    if NAMES.index(faster) < NAMES.index(chosen.terms.highest):
        yield f"{faster} ran out of memory in an earlier run of such a clip"
        return
    form = FORMS[0] if faster == "resident" else chosen.held.form
    other = alike(chosen, faster, form)
    if other and any(other.lacks):
        yield f"{faster} would take {_lack(other)}"


def _lack(one: Choice) -> str:
    """What is lacking of the kind of memory that lacks more."""
    room, (vram, ram) = one.terms.room, one.lacks
    if vram >= ram:
        return f"{size(with_margin(one.vram_bytes))} of VRAM with its margin, and {size(room.vram)} can be had"
    return f"{size(with_margin(one.found.ram_bytes))} of RAM with its margin, and {size(room.ram)} can be had"


def _form(chosen: Choice) -> Iterator[str]:
    form = chosen.held.form
    if form == FORMS[0]:
        return
    whole = alike(chosen, chosen.held.rung.name, FORMS[0])
    if whole is None:
        return
    if FORMS.index(form) <= [one.name for one in FORMS].index(chosen.terms.begin[1]):
        yield f"{form.name}: {form.says}, because more ran out of memory in an earlier run of such a clip"
        return
    stage = max((one for one in whole.found.stages if one.component == "vae"), key=lambda one: one.vram_bytes)
    taken = stage.ram_bytes if chosen.terms.on_cpu else chosen.terms.vram_of(stage.vram_bytes)
    yield f"{form.name}: {form.says}; whole ones would take {size(taken)}"


def _storage(job: Job, chosen: Choice) -> Iterator[str]:
    """What was made of the leave to lose precision."""
    if chosen.held.storage == FP8:
        yield from _stored(job, chosen)
    elif job.memory.allow_lossy and not chosen.terms.lossy_from:
        yield "allow_lossy is of no use here: this device does not cast weights from fp8"
    elif job.memory.allow_lossy and chosen.fits:
        yield "allow_lossy is not used: exact weights fit, and fp8 would keep no weights from streaming"


def _stored(job: Job, chosen: Choice) -> Iterator[str]:
    """How much less fp8 is, that it changes the video, and what exact weights would come to."""
    figures = chosen.terms.figures
    ways = [[figures.weights(name, how) for name in figures.model.experts] for how in (EXACT, FP8)]
    before, after = (size(max(one.parameters for one in way if one)) for way in ways)
    yield (
        f"lossy: as allow_lossy permits, the transformers' weights are stored in fp8, {after} instead of {before}, and "
        "cast layer by layer; the video differs from that of exact weights"
    )
    exact = stored(chosen.terms, job, EXACT)
    if exact and exact.fits:
        yield f"exact weights would go {exact.profile}"
    elif exact:
        yield f"exact weights do not fit: {exact.profile} would take {_lack(exact)}"


def _limits(job: Job, device: Device, chosen: Choice) -> Iterator[str]:
    limit, room = job.memory.vram_limit, chosen.terms.room
    if chosen.terms.on_cpu:
        if limit is not None:
            yield "vram_limit is of no account on the CPU"
        return
    total, free = device.total_bytes, device.free_bytes
    if limit is not None and total is not None and limit > total:
        yield f"vram_limit is {size(limit)}, and {device.name} has {size(total)}: the card counts"
    elif limit is not None and limit == room.vram:
        yield f"vram_limit leaves it {size(limit)}"
    if total is not None and room.vram is not None and room.vram != limit and total - room.vram > _MUCH:
        yield f"of the {size(total)} of {device.name} {size(total - room.vram)} are used by others"
    elif free is not None and room.vram is not None and limit is None:
        yield f"{size(room.vram)} of VRAM can be had"


def _lacking(job: Job, chosen: Choice) -> Iterator[str]:
    room, (vram, ram) = chosen.terms.room, chosen.lacks
    margin = f"with a margin of {MARGIN:.0%}"
    if vram:
        needed = size(with_margin(chosen.vram_bytes))
        yield f"{LACKING}it takes {needed} of VRAM {margin}, {size(vram)} more than the {size(room.vram)} there"
    if ram:
        needed = size(with_margin(chosen.found.ram_bytes))
        yield f"{LACKING}it takes {needed} of RAM {margin}, {size(ram)} more than the {size(room.ram)} there"
    if job.memory.profile != "auto":
        other = choose(chosen.terms, replace(job, memory=replace(job.memory, profile="auto")))
        if other and other.fits:
            yield f"{other.profile} would fit"
    if other := if_lossy(job, chosen):
        taken = f"{size(other.found.ram_bytes)} of RAM" if other.terms.on_cpu else size(other.vram_bytes)
        yield f"allow_lossy = true would fit: {taken}, {other.profile} with the transformers' weights in fp8"
    elif job.memory.allow_lossy and chosen.terms.lossy_from and (other := stored(chosen.terms, job, FP8)):
        yield f"in fp8, as allow_lossy permits, {other.profile} would take {_lack(other)}"
