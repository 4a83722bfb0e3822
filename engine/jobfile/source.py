"""The text of a job file: read, parsed, and where a key stands in it."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.tomltext import loads

FILE_BYTES = 4_000_000


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


def line_of(key: str, source: str) -> str:
    """`, line N` when the key's place in the source is plain to see."""
    table, _, name = key.rpartition(".")
    current = ""
    for at, line in enumerate(source.splitlines(), 1):
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
