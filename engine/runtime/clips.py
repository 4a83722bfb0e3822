"""Finished clips: those of the journal, and those whose sidecars lie in folders asked about. Newest first.

Sidecars may be anybody's. To list them only a few lines of each are read; the whole is parsed when one is asked for.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.jobfile import FILE_BYTES
from engine.regular import regular_bytes
from engine.runtime.journal import JobRow, Journal, State
from engine.tomltext import loads
from engine.video.place import SIDECAR_SUFFIX, sidecar_path
from engine.video.probe import read_metadata

SUFFIXES = (".mp4", ".webm", ".gif")
FRAME_NAME = re.compile(r"\d{5,}\.png")  # in a folder of frames
_TEXT = 1000  # characters of a prompt that a list has use for
_LARGEST = 10**19  # no figure of a job is larger

# As every sidecar is written here. One with texts of several lines, by hand, is parsed as a whole.
_FIGURE = re.compile(r"^(width|height|frames|fps|seed) = (\d{1,19})$", re.MULTILINE)
_WORD = re.compile(r'^(model|prompt|task|started|path) = "(?:[^"\\\n]|\\.)*"$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished video, or a folder of frames. None is unknown; `prompt` is its beginning.

    `created` is in epoch seconds, `seconds` is how long it took to make. `exists` is False when its file is gone;
    `sidecar` is None when there is none.
    """

    path: Path
    job_id: str | None
    created: float
    model: str
    task: str
    prompt: str
    width: int | None
    height: int | None
    frames: int | None
    fps: int | None
    seed: int | None
    seconds: float | None
    bytes: int | None
    sidecar: Path | None
    exists: bool


def find_clips(journal: Journal | None, folders: Iterable[Path] = ()) -> list[Clip]:
    """All clips, newest first. A folder that is not there, or may not be listed, holds none.

    Where two jobs wrote to one name, the later one's clip is what lies there, and the only one told.

    Raises the errors of `Journal`.
    """
    place = _places()
    rows = journal.rows(states=[State.FINISHED]) if journal else []
    clips: dict[str, Clip] = {}
    for row in sorted(rows, key=lambda row: row.finished or "", reverse=True):
        if row.output and (key := place(row.output)) not in clips:
            clips[key] = _of_row(row)
    known = {place(str(sidecar_path(clip.path))) for clip in clips.values()}
    for folder in folders:
        for clip in _in_folder(folder.absolute(), lambda sidecar: place(sidecar) in known):
            clips.setdefault(place(str(clip.path)), clip)
    return sorted(clips.values(), key=lambda clip: clip.created, reverse=True)


def settings(clip: Clip, journal: Journal | None) -> dict[str, Any]:
    """The job of a clip as its TOML has it, unchecked: `jobfile.job_from_table` checks it.

    From the sidecar, else the journal, else the video itself; `[recorded]` is there where it was kept.

    Raises JobError `no-settings` when none of them tells, and the errors of `Journal`.
    """
    for text in _tellings(clip, journal):
        if table := _parsed(text):
            return table
    raise JobError(
        "no-settings",
        f"How {str(clip.path)!r} was made is not known.",
        cause="No readable job lies beside it, in the journal or in the file.",
        suggestions=["Write a new job."],
    )


def _tellings(clip: Clip, journal: Journal | None) -> Iterator[str]:
    if clip.sidecar and (text := _text(clip.sidecar)):
        yield text
    if clip.job_id and journal:
        with suppress(JobError):  # a journal that was begun anew
            yield journal.row(clip.job_id).job_toml
    if clip.path.suffix:
        with suppress(JobError):  # gone, or no video
            yield read_metadata(clip.path) or ""


# From the journal


def _of_row(row: JobRow) -> Clip:
    path = Path(row.output or "")
    figures = _figures(row.job_toml)
    recorded = row.recorded or {}
    beside = sidecar_path(path)
    size = size_on_disk(path)
    return Clip(
        path=path,
        job_id=row.id,
        created=_epoch(row.finished) or _epoch(row.created) or 0.0,
        model=row.model,
        task=row.task,
        prompt=row.prompt[:_TEXT],
        width=figures.get("width"),
        height=figures.get("height"),
        frames=_figure(recorded.get("frames")) or figures.get("frames"),
        fps=figures.get("fps"),
        seed=figures.get("seed"),
        seconds=row.seconds,
        bytes=size,
        sidecar=beside if beside.is_file() else None,
        exists=size is not None,
    )


# From sidecars


def _in_folder(folder: Path, known: Callable[[str], bool]) -> Iterator[Clip]:
    try:
        names = set(os.listdir(folder))
    except OSError:
        return
    for name in names:
        stem = name.removesuffix(SIDECAR_SUFFIX)
        # What begins with a dot is unfinished, or leads out of the folder.
        if stem == name or stem.startswith(".") or not stem or known(f"{folder}/{name}"):
            continue
        if (text := _text(folder / name)) is not None:
            yield _of_sidecar(folder / name, stem, text, names)


def _of_sidecar(sidecar: Path, stem: str, text: str, names: set[str]) -> Clip:
    job, output, recorded = _outline(text)
    asked = Path(_word(output.get("path"))).suffix
    suffixes = [*([asked] if asked.lower() in SUFFIXES else []), *SUFFIXES, ""]
    name = next((stem + suffix for suffix in suffixes if stem + suffix in names), stem + suffixes[0])
    path = sidecar.with_name(name)
    size = size_on_disk(path)
    return Clip(
        path=path,
        job_id=None,
        created=_epoch(recorded.get("started")) or _modified(path if size is not None else sidecar),
        model=_word(job.get("model")),
        task=_word(recorded.get("task")),
        prompt=_word(job.get("prompt"))[:_TEXT],
        width=_figure(job.get("width")),
        height=_figure(job.get("height")),
        frames=_figure(job.get("frames")),
        fps=_figure(job.get("fps")),
        seed=_figure(job.get("seed")),
        seconds=None,
        bytes=size,
        sidecar=sidecar,
        exists=size is not None,
    )


def _text(sidecar: Path) -> str | None:
    """A sidecar's text; None when it cannot be one."""
    try:
        return regular_bytes(sidecar, FILE_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, ValueError):
        return None


def _outline(text: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What a list shows of a job, of its `[output]` and of what was `[recorded]`."""
    if '"""' in text or "'''" in text:
        table = _parsed(text)
        parts = (table, table.get("output"), table.get("recorded"))
    else:
        parts = (
            _lines(text.partition("\n[")[0]),
            _lines(text.partition("\n[output]\n")[2].partition("\n[")[0]),
            _lines(text.partition("\n[recorded]\n")[2].partition("\n[")[0]),
        )
    job, output, recorded = (part if isinstance(part, dict) else {} for part in parts)
    return job, output, recorded


def _lines(section: str) -> dict[str, Any]:
    return _parsed("\n".join(match[0] for match in _WORD.finditer(section))) | _figures(section)


def _figures(text: str) -> dict[str, int]:
    """The whole numbers at the top of a job written here."""
    return {match[1]: int(match[2]) for match in _FIGURE.finditer(text.partition("\n[")[0])}


def _parsed(text: str) -> dict[str, Any]:
    """TOML; empty when it is none."""
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return {}


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _figure(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


# What lies on disk


def size_on_disk(path: Path) -> int | None:
    """Bytes of a video, or of all frames in a folder; None when there is no such thing."""
    try:
        info = path.stat()
        if stat.S_ISREG(info.st_mode):
            return info.st_size if path.suffix.lower() in SUFFIXES else None
        if not stat.S_ISDIR(info.st_mode) or path.suffix:
            return None
        with os.scandir(path) as entries:
            return sum(entry.stat().st_size for entry in entries if FRAME_NAME.fullmatch(entry.name))
    except (OSError, ValueError):
        return None


def _places() -> Callable[[str], str]:
    """One name for a file however its folder is reached; each folder is looked up once."""
    real: dict[str, str] = {}

    def place(path: str) -> str:
        folder, name = os.path.split(path)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        return f"{real[folder]}/{name}"

    return place


def _epoch(moment: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 text; None when it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else None
    except (ValueError, OverflowError, OSError):
        return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
