"""The rules applied to a table: what is wrong, and where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.job import MAX_SEED, Job, Segment
from engine.jobfile.keys import SEGMENT, TABLES, TOP
from engine.jobfile.refusal import Refused, kind, refusal_words, show_key
from engine.jobfile.rules import Rule, size
from engine.jobfile.source import line_of


@dataclass(frozen=True)
class Checker:
    """Applies rules to tables and says where a value stood."""

    file: Path
    source: str

    def names(self, table: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for key in given:
            if key not in allowed:
                raise self._unknown(table, key, allowed)

    def table(self, name: str, given: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self.refusal(name, given, Refused(f"must be a table, [{name}], not {kind(given)}"))
        self.names(name, given, tuple(rules))
        return self.values(name, given, rules)

    def values(self, table: str, given: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
        checked = {}
        for key, value in given.items():
            try:
                checked[key] = rules[key](value, self.file.parent)
            except Refused as refused:
                raise self.refusal(f"{table}.{key}" if table else key, value, refused) from None
        return checked

    def size(self, table: Mapping[str, Any]) -> dict[str, int]:
        value = table["size"]
        if "width" in table or "height" in table:
            raise self.refusal("size", value, Refused("stands beside width or height: give one or the other"))
        try:
            return dict(zip(("width", "height"), size(value, self.file.parent), strict=True))
        except Refused as refused:
            raise self.refusal("size", value, refused) from None

    def segments(self, given: Any) -> tuple[Segment, ...]:
        if not isinstance(given, list) or not given:
            raise self.refusal("segments", given, Refused("must be [[segments]] tables with frames and prompt"))
        made = []
        for item in given:
            values = self.table("segments", item, SEGMENT)
            if missing := [key for key in SEGMENT if key not in values]:
                raise self.refusal("segments", item, Refused(f"lacks {' and '.join(missing)}"))
            made.append(Segment(**values))
        return tuple(made)

    def together(self, job: Job, table: Mapping[str, Any]) -> None:
        """What one key alone cannot show."""
        if "prompt" not in table and not job.segments:
            raise JobError(
                "bad-value",
                f"{self.file}: prompt is missing.",
                suggestions=['Add prompt = "…", saying what is to be seen.'],
            )
        for key, value, refused in conflicts(job):
            raise self.refusal(key, value, refused)

    def refusal(self, key: str, value: Any, refused: Refused) -> JobError:
        problem, hints = refusal_words(key, value, refused)
        return JobError("bad-value", f"{self.file}{line_of(key, self.source)}: {problem}", suggestions=hints)

    def _unknown(self, table: str, key: str, allowed: Sequence[str]) -> JobError:
        full = f"{table}.{key}" if table else key
        homes = [home for home, rules in TABLES.items() if key in rules and home != table]
        homes += [""] if key in TOP and table else []
        near = difflib.get_close_matches(key, allowed, 1, 0.5)
        if homes:
            hint = f"{key} belongs under [{homes[0]}]." if homes[0] else f"{key} stands at the top, before any [table]."
        else:
            hint = f"Did you mean {near[0]}?" if near else "Known keys here: " + ", ".join(allowed) + "."
        return JobError(
            "unknown-key",
            f"{self.file}{line_of(full, self.source)}: {show_key(full)} is not a key of a job.",
            suggestions=[hint],
        )


def conflicts(job: Job) -> Iterator[tuple[str, Any, Refused]]:
    """What one key alone cannot show: the key at fault, its value, and why."""
    if (job.width is None) != (job.height is None):
        lone, other = ("width", "height") if job.width else ("height", "width")
        yield lone, getattr(job, lone), Refused(f"is given without {other}: give both or neither")
    if job.guidance is not None and job.guidance <= 1 and (job.guidance_2 or 0) > 1:
        problem = "is above 1 while guidance is 1 or less, which switches guidance off for both experts"
        yield "guidance_2", job.guidance_2, Refused(problem, 1.0)
    if job.inputs.last_image and not job.inputs.image:
        yield "inputs.last_image", job.inputs.last_image, Refused("needs inputs.image beside it")
    if job.memory.overlap and job.memory.window and job.memory.overlap >= job.memory.window:
        yield "memory.overlap", job.memory.overlap, Refused("must be less than memory.window")
    if job.seed is not None and job.seed + job.count - 1 > MAX_SEED:
        yield "count", job.count, Refused("takes seeds beyond 2^63-1", 1)
