"""A plan in words, for the command line and the screen alike, from the shape it has as JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from engine.memory.why import LACKING, UNTIMED
from engine.units import counted, size

Told = Mapping[str, Any]
"""What `Plan.as_dict` makes, and what the event of a plan holds."""

_FORMS = {"tiled": "the VAE in tiles", "small-tiles": "the VAE in small tiles", "vae-on-cpu": "the VAE on the CPU"}
_STORED = {"fp8": "lossy: weights in fp8"}
_BEGINS = (LACKING, UNTIMED)  # of reasons that stand in rows of their own


def lines(told: Told) -> Iterator[str]:
    """A plan for people: the answer, its figures, why it is so, and what else would do."""
    yield answer(told)
    for label, texts in rows(told):
        for text in texts:
            yield f"{label:<8} {text}"
    for other in told["alternatives"]:
        yield f"instead  {other['says']}"
        yield f"  do:  {settings(other['set'])}"
    if most := largest(told):
        yield f"most     {most}"


def brief(told: Told) -> Iterator[str]:
    """The same in two lines, for whom a run tells of it."""
    vram, ram, seconds = (told[key] for key in ("vram_bytes", "ram_bytes", "seconds"))
    figures = [f"{size(vram)} of VRAM"] if vram else []
    figures += [f"{size(ram)} of RAM"] if ram is not None else []
    figures += [about(seconds)] if seconds is not None else []
    yield "; ".join((f"plan     {answer(told)}", *figures))
    yield f"because  {'; '.join(_because(told))}"


def answer(told: Told) -> str:
    """Whether it fits, how the model is held, and on what."""
    more = [_FORMS.get(told["form"]), _STORED.get(told.get("storage", ""))]
    ways = [told["profile"], *filter(None, more)]
    way = ", ".join(ways) + ("," if len(ways) > 1 else "")
    where = f"{way} on {'the CPU' if told['device']['uuid'] == 'cpu' else told['device']['name']}"
    if told["fits"]:
        return f"fits: {where}"
    if told["fits"] is None:
        return f"not known whether it fits: {where}"
    why = "; ".join(_begun(told, LACKING))
    return f"does not fit: {where}: {why}" if why else f"does not fit: {where}"


def rows(told: Told) -> Iterator[tuple[str, list[str]]]:
    """What a plan tells, by labels; unknown figures are a dash."""
    room = told["room"] or {}
    yield "memory", [_of(told["vram_bytes"], room.get("vram_bytes"))] if _on_device(told) else []
    yield "RAM", [_of(told["ram_bytes"], room.get("ram_bytes"))]
    yield "disk", [f"up to {_of(told['disk_bytes'], room.get('disk_bytes'))}"] if told["disk_bytes"] else []
    yield "time", [_time(told)]
    yield "stage", list(_stages(told))
    if windows := told["windows"]:
        yield "windows", [f"{windows['count']} of {windows['frames']} frames each"]
    yield "because", _because(told)


def settings(changes: Mapping[str, Any]) -> str:
    """The keys of a job that make an alternative, as arguments of the command line."""
    return " ".join(f"--set {shlex.quote(f'{key}={as_written(value)}')}" for key, value in changes.items())


def as_written(value: Any) -> Any:
    """A value as a job file has it, words without their quotes."""
    return str(value).lower() if isinstance(value, bool) else value


def largest(told: Told) -> str | None:
    """The longest clip and the largest picture that fit; None while that is not known."""
    frames, sides = told["max_frames"], told["max_size"]
    if frames is None:
        return None
    longest = f"{counted(frames, 'frame')} at this size" if frames else "not one frame at this size"
    return f"{longest}, {sides[0]}x{sides[1]} at these frames" if sides else f"{longest}, and no size at these frames"


def duration(seconds: float | None) -> str:
    """How long, as exactly as is foreseen: 40 s, 12 min, 3.5 h, 4 days."""
    if seconds is None:
        return "—"
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    minutes = seconds / 60
    if minutes < 100:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 72 * 60 else f"{minutes / 1440:.0f} days"


def about(seconds: float) -> str:
    """A duration in a sentence: about 12 min."""
    return f"about {duration(seconds)}" if seconds >= 1 else duration(seconds)


# --- figures ----------------------------------------------------------------------------------------------------------


def _of(taken: int | None, there: int | None) -> str:
    """What is taken, and of what that is there."""
    text = "—" if taken is None else size(taken)
    return text if there is None else f"{text} of {size(there)} free"


def _time(told: Told) -> str:
    if told["seconds"] is None:
        return next((f"not known: {why}" for why in _begun(told, UNTIMED)), "—")
    basis = "at a pace measured on this device"
    if told["runs"]:
        basis += f", corrected by {counted(told['runs'], 'run')} on it"
    return f"{about(told['seconds'])}, {basis}"


def _stages(told: Told) -> Iterator[str]:
    names = Counter(stage["name"] for stage in told["stages"])
    titles = [one["component"] if names[one["name"]] > 1 else one["name"] for one in told["stages"]]
    width = max(map(len, titles), default=0)
    kind = ("vram_bytes", "VRAM") if _on_device(told) else ("ram_bytes", "RAM")
    for title, stage in zip(titles, told["stages"], strict=True):
        weights, work, taken = (size(stage[key]) for key in ("weights_bytes", "activations_bytes", kind[0]))
        text = f"{title:<{width}} {weights:>8} weights, {work:>8} work: {taken:>8} {kind[1]}"
        yield text if stage["seconds"] is None else f"{text}, {duration(stage['seconds'])}"


def _on_device(told: Told) -> bool:
    """Whether memory of a GPU is spoken of, not the host's."""
    return bool(told["rung"] != "cpu" and told["device"]["uuid"] != "cpu")


# --- reasons ----------------------------------------------------------------------------------------------------------


def _begun(told: Told, with_what: str) -> Iterator[str]:
    return (reason.removeprefix(with_what) for reason in told["reasons"] if reason.startswith(with_what))


def _because(told: Told) -> list[str]:
    return [reason for reason in told["reasons"] if not reason.startswith(_BEGINS)]
