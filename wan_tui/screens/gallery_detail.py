"""A clip in words: its figures, then its prompts in full, then where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.content import Content

from engine.errors import WanError
from engine.units import size
from wan_tui.drawing import UNKNOWN, clock
from wan_tui.screens.gallery_book import moment, picture_size, short_model, shown
from wan_tui.text import one_line
from wan_tui.widgets.ask import plain_lines

if TYPE_CHECKING:
    from engine.runtime.clips import Clip
    from engine.runtime.journal import Journal

Part = Content | tuple[str, str] | str
_NOT_ASKED = ("recorded", "output", "device", "memory")  # how it was made here, not what was asked for


@dataclass(frozen=True)
class Told:
    """A clip and its job as TOML has it, unchecked; None where it is not known (yet), and then `problem` is why."""

    clip: Clip
    job: Mapping[str, Any] | None = None
    problem: str = ""

    def value(self, name: str) -> Any:
        """A setting; from the list's few where the job is not known."""
        return self.job.get(name) if self.job is not None else getattr(self.clip, name, None)


def read_told(clip: Clip, journal: Callable[[], Journal]) -> Told:
    """All that is known of a clip. Reads files; a journal that cannot be read is done without."""
    from engine.runtime.clips import settings

    try:
        try:
            return Told(clip, settings(clip, journal()))
        except WanError as error:
            if error.code == "no-settings":
                raise
            return Told(clip, settings(clip, None))
    except WanError as error:
        return Told(clip, problem=error.message)


def described(told: Told, *, airy: bool) -> Content:
    """`airy` where there is room for a blank line above the prompt."""
    clip = told.clip
    parts: list[Part] = [(one_line(clip.path.name), "bold $primary"), "\n"]
    if not clip.exists:
        parts.append(("Its file is gone.\n", "$warning"))
    parts += _table(_figures(told))
    parts += [
        "\n" * airy,
        ("Prompt\n", "bold $primary"),
        plain_lines(_text(told.value("prompt"))) or ("none", "$foreground-muted"),
    ]
    if negative := _text(told.value("negative_prompt")):
        parts += [("\n\nNegative prompt\n", "bold $primary"), plain_lines(negative)]
    for name, value in _inputs(told):
        parts += [(f"\n\nInput {name}\n", "bold $primary"), one_line(value)]
    parts += [("\n\nPath\n", "bold $primary"), one_line(str(clip.path))]
    if told.problem:
        parts += ["\n\n", (plain_lines(told.problem), "$warning")]
    return Content.assemble(*parts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _figures(told: Told) -> list[tuple[str, str]]:
    clip = told.clip
    frames, fps = clip.frames if clip.frames is not None else told.value("frames"), told.value("fps")
    lasts = f", {frames / fps:.1f} s" if isinstance(frames, int) and isinstance(fps, int) and fps > 0 else ""
    steps = shown(told.value("steps"))
    if (guidance := told.value("guidance")) is not None:
        low = told.value("guidance_2")
        steps += f", guidance {guidance}" + ("" if low is None else f" / {low}")
    took = clip.seconds if clip.seconds is not None else _stages(told.job)
    return [
        ("model", short_model(shown(told.value("model") or clip.model or None))),
        ("size", f"{picture_size(told.value('width'), told.value('height'))}, {shown(frames)} frames"),
        ("pace", f"{shown(fps)} fps{lasts}"),
        ("steps", steps),
        ("seed", shown(told.value("seed"))),
        ("made", moment(clip.created, full=True)),
        (
            "file",
            (UNKNOWN if clip.bytes is None else size(clip.bytes)) + ("" if took is None else f", took {clock(took)}"),
        ),
    ]


def _stages(job: Mapping[str, Any] | None) -> float | None:
    """Seconds of all stages, as a sidecar recorded them."""
    recorded = (job or {}).get("recorded")
    stages = recorded.get("seconds") if isinstance(recorded, dict) else None
    values = stages.values() if isinstance(stages, dict) else []
    known = [value for value in values if isinstance(value, int | float)]
    return float(sum(known)) if known else None


def _inputs(told: Told) -> list[tuple[str, str]]:
    inputs = (told.job or {}).get("inputs")
    if not isinstance(inputs, dict):
        return []
    return [(one_line(name), ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for name, v in inputs.items()]


def _table(pairs: list[tuple[str, str]]) -> list[Part]:
    parts: list[Part] = []
    for name, value in pairs:
        parts += [(f"{name:<7}", "$foreground-muted"), one_line(value), "\n"]
    return parts


# Two of them


def differences(one: Told, other: Told) -> list[tuple[str, str, str]]:
    """Settings in which two clips differ: the name, and both values."""
    left, right = (_asked(told) for told in (one, other))
    return [
        (name, shown(left.get(name)), shown(right.get(name)))
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]


def _asked(told: Told) -> dict[str, Any]:
    job = told.job
    if job is None:
        few = ("model", "prompt", "width", "height", "frames", "fps", "seed")
        job = {name: getattr(told.clip, name) for name in few}
    return dict(_flat({name: value for name, value in job.items() if name not in _NOT_ASKED}))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def from_difference(one: str, other: str, before: int = 12) -> tuple[str, str]:
    """Both texts from shortly before they differ, where they begin alike at length."""
    alike = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if alike <= before * 2:
        return one, other
    return "…" + one[alike - before :], "…" + other[alike - before :]
