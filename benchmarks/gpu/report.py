"""What was measured, as a table, and kept under the card's name: JSON to go on from, Markdown to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.fit import error, told, told_of_host

_OF_A_STAGE = ("model", "clip", "rung", "form", "stage", "component")
_OF_A_CAP = ("model", "clip", "cap")
_STAGE_HEAD = (
    "model", "clip", "rung", "form", "stage", "component", "predicted GB", "allocated", "reserved", "error %",
    "driver GB", "error %", "RAM GB", "predicted", "step s", "predicted s", "stage s", "load s", "copied GB/s",
    "outcome",
)  # fmt: skip
_CAP_HEAD = (
    "model", "clip", "cap GiB", "plan", "predicted GB", "reserved GB", "error %", "driver GB", "cap held", "fallbacks",
    "predicted s", "seconds", "outcome",
)  # fmt: skip


def file_of(folder: Path, card: str) -> Path:
    """Where the results of a card are kept."""
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-') or 'card'}.json"


def merged(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of earlier calls and of this one: of the same thing the last."""
    found = {_name(row): dict(row) for row in (*old, *new)}
    return list(found.values())


def _name(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in (_OF_A_CAP if "cap" in row else _OF_A_STAGE))


def read(file: Path) -> dict[str, Any]:
    """What an earlier call kept; empty where none did."""
    return dict(json.loads(file.read_text())) if file.exists() else {"rows": [], "caps": []}


def keep(folder: Path, about: Mapping[str, Any], rows: Sequence[Any], caps: Sequence[Any]) -> Path:
    """Write both files, with what earlier calls measured; the JSON one."""
    folder.mkdir(parents=True, exist_ok=True)
    file = file_of(folder, about["card"])
    before = read(file)
    found = {"about": about, "rows": merged(before["rows"], rows), "caps": merged(before["caps"], caps)}
    file.write_text(json.dumps(found, indent=1) + "\n")
    file.with_suffix(".md").write_text(markdown(found))
    return file


def there(found: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """(model, clip, rung, form, stage) of what was measured well before."""
    return {tuple(row[key] for key in _OF_A_STAGE[:-1]) for row in found["rows"] if row["outcome"] == "ok"}


def stage_cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table of stages."""
    name = [str(row[key]) for key in _OF_A_STAGE]
    if row["outcome"] != "ok":
        return [*name, *["-"] * (len(_STAGE_HEAD) - len(name) - 1), row["outcome"]]
    said = row["predicted"] or dict.fromkeys(("reserved", "driver", "ram", "seconds"))
    return [
        *name,
        gb(said["reserved"]), gb(row["allocated"]), gb(row["reserved"]), percent(said["reserved"], row["reserved"]),
        gb(row["driver"]), percent(said["driver"], row["driver"]),
        gb(row["ram"]), gb(said["ram"]),
        seconds(row["step_seconds"]), seconds(said["seconds"]), seconds(row["seconds"]), seconds(row["loading"]),
        gb(row["copied_per_second"]), row["outcome"],
    ]  # fmt: skip


def cap_cells(row: Mapping[str, Any]) -> list[str]:
    """One row of the table of caps."""
    windows = row["windows"]
    plan = (row["profile"] or "-") + (f" x{windows['count']}" if windows else "")
    held = {True: "yes", False: "NO", None: "-"}[row["held"]]
    return [
        row["model"], row["clip"], f"{row['cap'] / 2**30:.0f}", plan, gb(row["predicted"]), gb(row["reserved"]),
        percent(row["predicted"], row["driver"]), gb(row["driver"]), held, ", ".join(row["fallbacks"]) or "-",
        seconds(row["predicted_seconds"]), seconds(row["seconds"]), row["outcome"],
    ]  # fmt: skip


def text(head: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A table in columns."""
    rows = [head, *cells]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, wide)).rstrip() for row in rows)


def tables(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], caps: Sequence[Mapping[str, Any]]) -> str:
    """All that is shown at the end."""
    parts = []
    if rows:
        parts.append(text(_STAGE_HEAD, map(stage_cells, rows)))
    if caps:
        parts.append(text(_CAP_HEAD, map(cap_cells, caps)))
    if rows:
        parts.append("\n".join((*told(rows), *told_of_host(about))))
    return "\n\n".join(parts) or "Nothing was measured."


def markdown(found: Mapping[str, Any]) -> str:
    """The same to be read in a repository."""
    about = found["about"]
    lines = [f"# {about['card']}", "", about["says"], ""]
    for title, head, cells in (
        ("Stages, random weights at real sizes", _STAGE_HEAD, map(stage_cells, found["rows"])),
        ("Whole jobs under a cap", _CAP_HEAD, map(cap_cells, found["caps"])),
    ):
        body = [f"| {' | '.join(row)} |" for row in cells]
        if body:
            lines += [f"## {title}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *body, ""]
    return "\n".join([*lines, "## Constants", "", "```", *told(found["rows"]), *told_of_host(about), "```", ""])


def gb(count: float | None) -> str:
    return "-" if count is None else f"{count / 1e9:.2f}"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def percent(predicted: float | None, measured: float | None) -> str:
    found = error(predicted, measured)
    return "-" if found is None else f"{found:+.1f}"
