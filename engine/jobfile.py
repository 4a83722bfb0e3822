"""Reading job files: every check that needs no model.

Each key has one rule, which returns the value or refuses it with the nearest valid one.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.job import MAX_SEED, Inputs, Job, Memory, Output, Segment
from engine.tomltext import loads

PROMPT_BYTES = 100_000
FILE_BYTES = 4_000_000
PROFILES = ("auto", "resident", "staged", "streamed", "leaf", "windows", "cpu")


class Refused(Exception):
    """A value that will not do: what is wrong with it and, where there is one, the nearest that would."""

    def __init__(self, problem: str, nearest: object = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.nearest = nearest


Rule = Callable[[Any, Path], Any]


def whole(low: int, high: int) -> Rule:
    def rule(value: Any, folder: Path) -> int:
        if isinstance(value, float) and value.is_integer():
            raise Refused("must be a whole number, written without a point", int(value))
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused(f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            raise Refused(f"must lie between {low} and {high}", min(max(value, low), high))
        return value

    return rule


def number(low: float, high: float, *, above: bool = False) -> Rule:
    def rule(value: Any, folder: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"must be a number, not {_kind(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused("must be a finite number")
        if above and value <= low:
            raise Refused(f"must be greater than {low:g}, at most {high:g}")
        if not low <= value <= high:
            raise Refused(f"must lie between {low:g} and {high:g}", min(max(value, low), high))
        return float(value)

    return rule


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def text(limit: int, *, lines: bool = False) -> Rule:
    def rule(value: Any, folder: Path) -> str:
        if not isinstance(value, str):
            raise Refused(f"must be a text in quotes, not {_kind(value)}")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise Refused("is not valid UTF-8") from None
        if size > limit:
            raise Refused(f"is {size} bytes long; at most {limit} are taken")
        if found := (_CONTROL_IN_LINES if lines else _CONTROL).search(value):
            allowed = "; only newline and tab are taken" if lines else ""
            raise Refused(f"holds the control character U+{ord(found[0]):04X}{allowed}")
        return value

    return rule


def choice(*options: str) -> Rule:
    def rule(value: Any, folder: Path) -> str:
        if value not in options or not isinstance(value, str):
            near = difflib.get_close_matches(str(value), options, 1, 0.4)
            raise Refused("must be one of " + ", ".join(options), near[0] if near else None)
        return value

    return rule


def flag(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"must be true or false, not {_kind(value)}")
    return value


def four_k_plus_one(low: int, high: int) -> Rule:
    def rule(value: Any, folder: Path) -> int:
        count: int = whole(1, high)(value, folder)
        if count % 4 != 1 or count < low:
            raise Refused(
                "must be 4k+1 (the VAE packs frames by four after the first)", max(low, nearest_frames(count))
            )
        return count

    return rule


def nearest_frames(count: int) -> int:
    """The nearest number of frames of the form 4k+1."""
    return max(1, round((count - 1) / 4) * 4 + 1)


def path(value: Any, folder: Path) -> Path:
    name: str = text(4096)(value, folder)
    if not name.strip():
        raise Refused("is empty")
    return folder / os.path.expanduser(name)  # an unknown ~user stays as it is


def paths(value: Any, folder: Path) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise Refused(f"must be a list of paths, not {_kind(value)}")
    return tuple(path(item, folder) for item in value)


_UNITS = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size_in_bytes(value: Any, folder: Path) -> int:
    """`"12GiB"` (or MiB, GB, MB, …) in bytes."""
    match = re.fullmatch(r"\s*(\d{1,16}(?:\.\d{1,6})?)\s*([KMGT]?i?B)\s*", str(value), re.IGNORECASE)
    if isinstance(value, bool | list | dict) or not match or match[2].lower() not in _UNITS:
        raise Refused('must be a size with its unit, such as "12GiB"')
    size = int(float(match[1]) * _UNITS[match[2].lower()])
    if not 1 <= size <= 2**50:  # what a device can do with a small one, the plan says
        raise Refused("must be more than nothing, and 1024TiB at most")
    return size


def device_name(value: Any, folder: Path) -> str:
    name: str = text(100)(value, folder)
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?|(GPU|MIG)-[0-9A-Za-z/-]+", name):
        raise Refused('must be "auto", "cpu", "cuda", "cuda:1" or the UUID of a GPU', "auto")
    return name


def size(value: Any, folder: Path) -> tuple[int, int]:
    """`"832*480"` as width and height."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[*xX×]\s*(\d{1,6})\s*", value) if isinstance(value, str) else None
    if not match:
        raise Refused('must be "width*height", such as "832*480"')
    return _SIDE(int(match[1]), folder), _SIDE(int(match[2]), folder)


_SIDE = whole(16, 8192)
_FRAMES = four_k_plus_one(5, 100_001)
_ONE_FRAME_TOO = four_k_plus_one(1, 100_001)

_TOP: dict[str, Rule] = {
    "model": text(4096),
    "prompt": text(PROMPT_BYTES, lines=True),
    "negative_prompt": text(PROMPT_BYTES, lines=True),
    "width": _SIDE,
    "height": _SIDE,
    "frames": _ONE_FRAME_TOO,
    "fps": whole(1, 240),
    "steps": whole(1, 1000),
    "guidance": number(0, 100),
    "guidance_2": number(0, 100),
    "flow_shift": number(0, 100, above=True),
    "seed": whole(0, MAX_SEED),
    "count": whole(1, 1000),
    "strength": number(0, 1, above=True),
    "conditioning_scale": number(0, 10),
    "device": device_name,
}
_TABLES: dict[str, dict[str, Rule]] = {
    "inputs": {f.name: paths if f.name == "references" else path for f in fields(Inputs)},
    "memory": {
        "profile": choice(*PROFILES),
        "vram_limit": size_in_bytes,
        "allow_lossy": flag,
        "window": _FRAMES,
        "overlap": whole(1, 100_000),
    },
    "output": {"path": path, "crf": whole(0, 63)},
}
_SEGMENT: dict[str, Rule] = {"frames": _FRAMES, "prompt": text(PROMPT_BYTES, lines=True)}
_MAKES: dict[str, type] = {"inputs": Inputs, "memory": Memory, "output": Output}
_TOP_NAMES = (*_TOP, "size", "segments", "recorded", *_TABLES)

RULES: Mapping[str, Rule] = (
    _TOP | {"size": size} | {f"{table}.{key}": rule for table, rules in _TABLES.items() for key, rule in rules.items()}
)
"""The rule of each key that holds one value; those of a table are dotted."""


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "a table" if isinstance(value, dict) else f"a {type(value).__name__}")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_job(file: Path, overrides: Sequence[str] = ()) -> Job:
    """Read, override (`key=value`, dotted keys) and check one job file.

    Raises `JobError` with the file, the key, its line where known, the value and the nearest valid one.
    """
    table, source = read_table(file)
    for override in overrides:
        _apply(override, table)
    _one_size(table, {override.partition("=")[0].strip() for override in overrides})
    return job_from_table(table, file, source)


def read_table(file: Path) -> tuple[dict[str, Any], str]:
    """The TOML of a file, not yet checked, and its source. Raises `JobError`."""
    source = _read_text(file)
    try:
        return loads(source), source
    except tomllib.TOMLDecodeError as error:
        raise JobError("bad-toml", f"{file} is not valid TOML: {error}.", suggestions=_toml_hints(source)) from None
    except ValueError:  # a number of thousands of digits
        raise JobError("bad-toml", f"{file} holds a number with too many digits.") from None
    except RecursionError:
        raise JobError("bad-toml", f"{file} is nested too deeply to be a job file.") from None


def job_from_table(table: Mapping[str, Any], file: Path, source: str = "") -> Job:
    """Check a parsed job; relative paths are taken from the folder of `file`."""
    check = _Checker(file, source)
    job = _each_key(table, check)
    check.together(job, table)
    return job


def job_of_keys(table: Mapping[str, Any], file: Path, source: str = "") -> Job:
    """A job of which each key is right by itself: `conflicts` may have more to say, and the prompt may be missing."""
    return _each_key(table, _Checker(file, source))


def _each_key(table: Mapping[str, Any], check: _Checker) -> Job:
    check.names("", table, _TOP_NAMES)
    values = check.values("", {k: v for k, v in table.items() if k in _TOP}, _TOP)
    if "size" in table:
        values |= check.size(table)
    for name, rules in _TABLES.items():
        if name in table:
            values[name] = _MAKES[name](**check.table(name, table[name], rules))
    if "segments" in table:
        values["segments"] = check.segments(table["segments"])
    return Job(**values)


def _read_text(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise JobError("bad-job-file", f"{file} is {what}.", suggestions=["Name a job file in TOML."])
        if file.stat().st_size > FILE_BYTES:
            raise JobError("bad-job-file", f"{file} is larger than {FILE_BYTES // 10**6} MB: it is not a job file.")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise JobError(
            "bad-job-file", f"{file} is not UTF-8 (line {line}).", suggestions=["Save the file as UTF-8."]
        ) from None
    except FileNotFoundError:
        raise JobError("bad-job-file", f"{file} does not exist.", suggestions=["Check the path."]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise JobError("bad-job-file", f"{str(file)!r} cannot be read: {reason}.") from None


def _toml_hints(source: str) -> list[str]:
    for name in ("prompt", "negative_prompt", "model"):
        if re.search(rf"(?m)^\s*{name}\s*=\s*[^\s\"'\[{{]", source):
            return [f'Put the text of {name} in quotes: {name} = "…".']
    return ["See the job file in the README for the form."]


def _apply(override: str, table: dict[str, Any]) -> None:
    """Lay one `key=value` over the table. The value is TOML; what is not is taken as text."""
    dotted, equals, raw = override.partition("=")
    names = [name.strip() for name in dotted.split(".")]
    if not equals or not all(names) or len(names) > 2:
        raise JobError(
            "bad-override", f"--set {override!r} is not key=value.", suggestions=["Write it as --set steps=20."]
        )
    target: Any = table
    for name in names[:-1]:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise JobError("bad-override", f"--set {override!r}: {name} is not a table.")
    target[names[-1]] = _override_value(names, raw)


def _one_size(table: dict[str, Any], overridden: set[str]) -> None:
    """A size given over the file's is the whole of it, however either is written."""
    if "size" in overridden and not {"width", "height"} & overridden:
        table.pop("width", None)
        table.pop("height", None)
    elif {"width", "height"} <= overridden and "size" not in overridden:
        table.pop("size", None)


def _override_value(names: list[str], raw: str) -> Any:
    if names[-1] in ("prompt", "negative_prompt", "model", "device") or names == ["output", "path"]:
        return raw
    return literal(raw)


def literal(raw: str) -> Any:
    """A value as TOML writes it; what is not TOML is a text."""
    try:
        parsed = loads(f"v = {raw}")
    except (ValueError, RecursionError):
        return raw
    return parsed["v"] if set(parsed) == {"v"} else raw


@dataclass(frozen=True)
class _Checker:
    """Applies rules to tables and says where a value stood."""

    file: Path
    source: str

    def names(self, table: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for key in given:
            if key not in allowed:
                raise self._unknown(table, key, allowed)

    def table(self, name: str, given: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self.refusal(name, given, Refused(f"must be a table, [{name}], not {_kind(given)}"))
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
            values = self.table("segments", item, _SEGMENT)
            if missing := [key for key in _SEGMENT if key not in values]:
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
        return JobError("bad-value", f"{self.file}{self._line(key)}: {problem}", suggestions=hints)

    def _unknown(self, table: str, key: str, allowed: Sequence[str]) -> JobError:
        full = f"{table}.{key}" if table else key
        homes = [home for home, rules in _TABLES.items() if key in rules and home != table]
        homes += [""] if key in _TOP and table else []
        near = difflib.get_close_matches(key, allowed, 1, 0.5)
        if homes:
            hint = f"{key} belongs under [{homes[0]}]." if homes[0] else f"{key} stands at the top, before any [table]."
        else:
            hint = f"Did you mean {near[0]}?" if near else "Known keys here: " + ", ".join(allowed) + "."
        return JobError(
            "unknown-key",
            f"{self.file}{self._line(full)}: {_show_key(full)} is not a key of a job.",
            suggestions=[hint],
        )

    def _line(self, key: str) -> str:
        """`, line N` when the key's place in the source is plain to see."""
        table, _, name = key.rpartition(".")
        current = ""
        for at, line in enumerate(self.source.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([\w.\"'-]+)\s*\]+", line):
                current = header[1].strip("\"'")
                if not table and current == name:
                    return f", line {at}"
                continue
            if match := re.match(r"\s*([\w.\"'-]+?)\s*=", line):
                written = match[1].replace('"', "").replace("'", "")
                if (current, written) == (table, name) or (not current and written == key):
                    return f", line {at}"
        return ""


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


def refusal_words(key: str, value: Any, refused: Refused) -> tuple[str, list[str]]:
    """A refusal in words, and the nearest valid value as a hint where there is one."""
    hints = [] if refused.nearest is None else [f"The nearest valid value is {_show(refused.nearest)}."]
    return f"{key} = {_show(value)} {refused.problem}.", hints


def _show(value: Any) -> str:
    """A value as a person would know it again: short, on one line, without control characters."""
    shown = str(value) if isinstance(value, Path) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"


def _show_key(key: str) -> str:
    shown = repr(key)[1:-1]
    return shown if len(shown) <= 80 else shown[:60] + "…"
