"""Which rung of the ladder a clip takes, and which form its VAE: the fastest that fits with a margin.

The form is chosen first, by the VAE's own stages: these are the same on every rung below `resident`, and a tile less
is worth more than a rung. `resident` is for a VAE that goes over whole pictures: beside tiles it would gain nothing.
Windows come last, because they change the video. With the job's leave the experts' weights are stored in fp8, where
nothing exact fits in one piece, or where that keeps weights on the device that would have to stream.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from engine.job import Job
from engine.memory.figures import Figures
from engine.memory.ladder import EXACT, FORMS, FP8, NAMES, RUNGS, Form, Hold, hold
from engine.memory.parts import Clip
from engine.memory.predict import CONTEXT, FRAGMENTATION, SEGMENT, WORKSPACES, Prediction, predicted
from engine.memory.room import Room
from engine.memory.windows import WINDOW, in_windows, layout

MARGIN = 0.05  # of a prediction: what it must leave free
WINDOWED = ("text", "image")  # the tasks that windows are made of
TOP = (NAMES[0], FORMS[0].name)
_WHOLE = FORMS[0]


@dataclass(frozen=True)
class Terms:
    """What a choice is made on. `vram_factor` is what earlier runs took of the device over what was predicted.

    `begin` is the highest rung and form that may be taken, by their names: those above ran out of memory before.
    `storage` is that of the experts' weights in what is tried; `lossy_from` is the highest rung that may be taken in
    fp8, None where the device does not cast from it.
    """

    figures: Figures
    room: Room
    on_cpu: bool
    vram_factor: float = 1.0
    begin: tuple[str, str] = TOP
    storage: str = EXACT
    lossy_from: str | None = NAMES[0]

    @property
    def highest(self) -> str:
        """The rung to begin with in this storage."""
        return self.lossy_from if self.storage == FP8 and self.lossy_from else self.begin[0]

    def vram_of(self, predicted: int) -> int:
        return round(predicted * self.vram_factor)


@dataclass(frozen=True)
class Choice:
    """A way to make a clip, and what it takes. `windows`: by the rung of that name."""

    terms: Terms
    held: Hold
    clip: Clip
    found: Prediction
    windows: bool = False

    @property
    def profile(self) -> str:
        return "windows" if self.windows else self.held.rung.name

    @property
    def slowness(self) -> int:
        """Its place in the order of the ladder."""
        return len(RUNGS) if self.windows else RUNGS.index(self.held.rung)

    @property
    def vram_bytes(self) -> int:
        return self.terms.vram_of(self.found.vram_bytes)

    @cached_property
    def lacks(self) -> tuple[int, int]:
        """Bytes of the device's memory and of RAM that are missing; unknown room lacks nothing."""
        room = self.terms.room
        vram = None if self.terms.on_cpu else room.vram
        return _over(self.vram_bytes, vram), _over(self.found.ram_bytes, room.ram)

    @property
    def fits(self) -> bool | None:
        """None while nobody knows the device's memory."""
        if not self.terms.on_cpu and self.terms.room.vram is None:
            return None
        return self.lacks == (0, 0)


def with_margin(taken: int) -> int:
    return round(taken * (1 + MARGIN))


def _over(taken: int, there: int | None) -> int:
    return 0 if there is None else max(0, with_margin(taken) - there)


def clip_of(job: Job) -> Clip:
    """What a complete job asks for."""
    assert job.width and job.height and job.frames
    return Clip(
        job.width,
        job.height,
        job.frames,
        image=job.task in ("image", "first-last"),
        guided=(job.guidance or 0) > 1,
        steps=job.steps or 1,
        layout=layout(job) if in_windows(job) else None,
    )


def in_one_piece(terms: Terms, job: Job) -> Choice | None:
    """The same without the rung `windows`; None where it cannot be predicted."""
    profile = job.memory.profile
    return _best(terms, clip_of(job)) if profile in ("auto", "windows") else _named(terms, clip_of(job), profile)


def choose(terms: Terms, job: Job) -> Choice | None:
    """How a complete job is done. Where nothing fits, what lacks least; None where it cannot be predicted."""
    exact = stored(terms, job, EXACT)
    if exact is None or exact.fits is None or FP8 not in storages(terms, job):
        return exact
    lossy = stored(terms, job, FP8)
    return lossy if lossy and lossy.fits and _gains(lossy, exact) else exact


def stored(terms: Terms, job: Job, storage: str) -> Choice | None:
    """The same with the experts' weights stored so, whatever the job permits."""
    return _chosen(replace(terms, storage=storage), job)


def if_lossy(job: Job, chosen: Choice) -> Choice | None:
    """How a job that does not fit would, if it permitted less precision; None where that is no help."""
    if chosen.fits is not False or job.memory.allow_lossy or not chosen.terms.lossy_from:
        return None
    one = stored(chosen.terms, job, FP8)
    return one if one and one.fits else None


def _gains(lossy: Choice, exact: Choice) -> bool:
    """Whether fp8 is worth what it loses. To be resident instead of staged would save loading, and no step."""
    if not exact.fits:
        return True
    return lossy.slowness < exact.slowness and exact.profile not in ("resident", "staged")


def _chosen(terms: Terms, job: Job) -> Choice | None:
    if job.memory.profile == "windows":
        found = _best(terms, replace(clip_of(job), layout=layout(job)))
        return found and replace(found, windows=True)
    first = in_one_piece(terms, job)
    if first is None or first.fits is not False or job.memory.profile != "auto" or not can_window(job):
        return first
    memory = replace(job.memory, window=WINDOW)
    last = _best(terms, clip_of(replace(job, memory=memory)))
    return replace(last, windows=True) if last and last.fits else first


def storages(terms: Terms, job: Job) -> tuple[str, ...]:
    """How the experts' weights may be stored."""
    return (EXACT, FP8) if job.memory.allow_lossy and terms.lossy_from else (EXACT,)


def can_window(job: Job) -> bool:
    """Whether windows would make less of a job that did not ask for them."""
    return job.task in WINDOWED and not in_windows(job) and (job.frames or 0) > WINDOW


def alike(chosen: Choice, rung: str, form: Form) -> Choice | None:
    """The same clip held in another way."""
    return _judged(chosen.terms, chosen.clip, replace(hold(rung), form=form))


def least_vram(chosen: Choice) -> int:
    """The least of the device's memory with which the same clip fits, held as it may be."""
    ways = (alike(chosen, NAMES[-2], form) for form in FORMS)
    return min(with_margin(one.vram_bytes) for one in ways if one)


def _best(terms: Terms, clip: Clip) -> Choice | None:
    """The fastest way that fits, else the one that lacks least. While the room is unknown: the rung `staged`."""
    staged = _with_form(terms, clip, hold("staged"))
    if staged is None or staged.fits is None:
        return staged
    tried = []
    for name in _rungs(terms):
        if name == "resident" and staged.held.form != _WHOLE:
            continue
        one = staged if name == "staged" else _judged(terms, clip, replace(hold(name), form=staged.held.form))
        one = _filled(one) if one else None
        if one is None or one.fits:
            return one
        tried.append(one)
    return min(tried, key=lambda one: sum(one.lacks))


def _named(terms: Terms, clip: Clip, rung: str) -> Choice | None:
    found = _with_form(terms, clip, hold(rung))
    return _filled(found) if found else None


def _rungs(terms: Terms) -> tuple[str, ...]:
    """Those that may be chosen, the fastest first. On a CPU one component is there at a time, and nothing streams."""
    names = ("staged",) if terms.on_cpu else NAMES[:-1]
    begin = min(NAMES.index(terms.highest), NAMES.index(names[-1]))
    return tuple(name for name in names if NAMES.index(name) >= begin)


def _with_form(terms: Terms, clip: Clip, held: Hold) -> Choice | None:
    """A rung with the least form of the VAE that makes its own stages fit, else with the one that lacks least."""
    names = [form.name for form in FORMS]
    forms = [form for form in FORMS[names.index(terms.begin[1]) :] if not (form.on_cpu and terms.on_cpu)]
    tried = []
    for form in forms or FORMS[-2:-1]:
        one = _judged(terms, clip, replace(held, form=form))
        if one is None or not (lack := _vae_lacks(one)):
            return one
        tried.append((lack, one))
    return min(tried, key=lambda pair: pair[0])[1]


def _vae_lacks(one: Choice) -> int:
    """What the VAE's own stages lack."""
    stages = tuple(stage for stage in one.found.stages if stage.component == "vae")
    return sum(replace(one, found=replace(one.found, stages=stages)).lacks)


def _filled(one: Choice) -> Choice:
    """Of a rung that streams blocks as many stay on the device as there is room for."""
    terms = one.terms
    if one.held.rung.level != "block_level" or terms.on_cpu or terms.room.vram is None:
        return one
    within = int(terms.room.vram / (1 + MARGIN) / terms.vram_factor) - 1
    stay = resident_room(terms.figures, one.found, within)
    return _judged(terms, one.clip, replace(one.held, resident_bytes=stay)) or one


def resident_room(figures: Figures, found: Prediction, vram: int) -> int:
    """How many bytes of blocks may stay on the device in every stage of a streamed run that is to take `vram` at most.

    A component that goes in as a whole sets no bound; less than the smallest block is nothing.
    """
    bounds: list[int] = []
    blocks: list[int] = []
    most = 0
    segments = (vram - CONTEXT - WORKSPACES) // SEGMENT
    for stage in found.stages:
        there = figures.weights(stage.component, found.storage)
        if stage.component == "vae" or there is None:
            continue
        allowed = segments * SEGMENT - round(stage.activations_bytes * (1 + FRAGMENTATION)) - there.buffers
        if allowed < there.parameters:
            bounds.append(allowed - there.outside - 2 * max(there.blocks, default=0))
        blocks += there.blocks
        most = max(most, sum(there.blocks))
    stay = min(bounds, default=most)
    return stay if stay >= min(blocks, default=0) else 0


def _judged(terms: Terms, clip: Clip, held: Hold) -> Choice | None:
    held = replace(held, storage=terms.storage)
    found = predicted(terms.figures, clip, held)
    return Choice(terms, held, clip, found) if found else None
