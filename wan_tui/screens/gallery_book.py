"""What the gallery knows: every clip with its row, made in a thread, since there may be thousands."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import WanError
from wan_tui.drawing import UNKNOWN
from wan_tui.widgets.listing import Cell, Column, Row

if TYPE_CHECKING:
    from engine.runtime.clips import Clip
    from engine.runtime.journal import Journal

COLUMNS = (
    Column("", 1),
    Column("MADE", 11),
    Column("MODEL", 12, keep="end", drop=1),
    Column("PROMPT", least=24, share=3),
    Column("SIZE", 9, right=True, drop=2),
    Column("FRAMES", 6, right=True, drop=3),
    Column("SEED", 12, right=True, keep="end", drop=4),
    Column("FILE", least=18, share=2, keep="end", drop=5),
)
MARK, GONE = "●", "✗"
_MANY = 500


@dataclass(frozen=True)
class Found:
    """`clips` by their rows' keys, newest first, and `rows` in the same order; `bytes` is what they take on the disk.

    `problem` is why the journal could not be asked: then `clips` are those of the folders alone.
    """

    clips: Mapping[str, Clip]
    rows: tuple[Row, ...]
    bytes: int
    problem: WanError | None = None

    @property
    def gone(self) -> int:
        return sum(not clip.exists for clip in self.clips.values())

    def shown(self, *, gone: bool, marked: str | None) -> list[Row]:
        """The rows of clips that are there, or of all; the marked one carries its sign."""
        rows = self.rows if gone else [row for row in self.rows if self.clips[row.key].exists]
        return [with_sign(row, (MARK, "accent")) if row.key == marked else row for row in rows]


def look(journal: Callable[[], Journal], folders: Sequence[Path], before: Found | None) -> Found:
    """Find all clips. What is as it was `before` stays the same object: little is then new to the screen."""
    with _no_collections():
        return _look(journal, folders, before)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Thousands of clips set off full garbage collections, which hold up the screen (70 ms each, measured)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _look(journal: Callable[[], Journal], folders: Sequence[Path], before: Found | None) -> Found:
    from engine.runtime.clips import find_clips

    problem = None
    try:
        found = find_clips(journal(), folders)
    except WanError as error:
        problem, found = error, find_clips(None, folders)
    known = {row.key: (before.clips[row.key], row) for row in before.rows} if before else {}
    clips: dict[str, Clip] = {}
    rows = []
    for clip in found:
        old, row = known.get(str(clip.path), (None, None))
        kept = old if old is not None and old == clip else clip
        rows.append(row if row is not None and kept is old else clip_row(kept))
        clips[rows[-1].key] = kept
    if len(clips) - len(known) > _MANY:
        gc.freeze()  # they stay: later collections need not look at them
    return Found(clips, tuple(rows), sum(clip.bytes or 0 for clip in found), problem)


def without(found: Found, gone: Clip, now: Clip | None) -> Found:
    """The same after a clip was deleted; `now` is what is left to tell of it."""
    key = str(gone.path)
    clips = {k: (now if k == key and now else clip) for k, clip in found.clips.items() if k != key or now}
    rows = tuple(clip_row(now) if row.key == key and now else row for row in found.rows if row.key in clips)
    return Found(clips, rows, sum(clip.bytes or 0 for clip in clips.values()), found.problem)


def clip_row(clip: Clip) -> Row:
    cells: tuple[Cell, ...] = (
        "" if clip.exists else (GONE, "warn"),
        (moment(clip.created), "dim"),
        short_model(clip.model) or UNKNOWN,
        clip.prompt or ("no prompt", "dim"),
        picture_size(clip.width, clip.height),
        shown(clip.frames),
        shown(clip.seed),
        (clip.path.name, "dim"),
    )
    if not clip.exists:
        cells = tuple((cell, "dim") if isinstance(cell, str) else cell for cell in cells)
    return Row(str(clip.path), cells, words=f"{clip.path} {clip.model} {clip.task}")


def with_sign(row: Row, sign: Cell) -> Row:
    return Row(row.key, (sign, *row.cells[1:]), row.words)


def folders(output: Path) -> tuple[Path, ...]:
    """Where clips are looked for besides the journal's: where the app writes, and where jobs do by themselves."""
    here = Path.cwd()
    return tuple(dict.fromkeys([here / output, here / "outputs"]))


# In words


def moment(epoch: float, *, full: bool = False) -> str:
    """`11-21 09:14` in local time; the year where it is another one. No clip was made in 1970."""
    try:
        local = time.localtime(epoch)
    except (ValueError, OverflowError, OSError):
        return UNKNOWN
    if not epoch:
        return UNKNOWN
    if full:
        return time.strftime("%Y-%m-%d %H:%M", local)
    return time.strftime("%m-%d %H:%M" if local.tm_year == time.localtime().tm_year else "%Y-%m-%d", local)


def short_model(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]


def picture_size(width: object, height: object) -> str:
    return UNKNOWN if width is None or height is None else f"{width}x{height}"


def shown(value: object) -> str:
    return UNKNOWN if value is None else str(value)
