"""A few frames of a finished clip, side by side under what was told of it, for whoever looks at a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from engine.control import Control
from engine.errors import WanError
from engine.video.thumbnail import Frame, frames
from wan_tui.printing import Outlet

FRAMES = 4
_WIDEST = 32  # cells of a frame
_NARROWEST = 8
_TALLEST = 64  # pixels


def show(path: Path, fps: float) -> None:
    """Frames of the clip `path`, from its first to its last, on standard error where that is a terminal in colours."""
    room = (shutil.get_terminal_size().columns - (FRAMES - 1)) // FRAMES
    if not sys.stderr or not sys.stderr.isatty() or os.environ.get("NO_COLOR") or room < _NARROWEST:
        return
    with suppress(WanError):  # the clip is made, and told of
        clip = list(frames(path, min(room, _WIDEST), _TALLEST, fps, Control()))
        picked = [clip[round(number * (len(clip) - 1) / (FRAMES - 1))] for number in range(FRAMES)]
        Outlet(2).write(side_by_side(picked, sys.stderr))


def side_by_side(pictures: Sequence[Frame], stream: TextIO) -> str:
    """Pictures of one size as lines of half blocks in the colours of `stream`; of ASCII where it has no such signs."""
    from rich.console import Console
    from rich.segment import Segment
    from textual.strip import Strip

    from wan_tui.pictures import colours_for, half_blocks

    console = Console(file=stream)
    blocks = (stream.encoding or "").lower().replace("-", "") == "utf8"
    colours = colours_for(console.color_system, blocks=blocks)
    columns = [half_blocks(one.rgb, one.width, one.height, colours) for one in pictures]
    gap = Strip([Segment(" ")], 1)
    lines = [Strip.join([part for strip in row for part in (strip, gap)]) for row in zip(*columns, strict=True)]
    return "".join(f"{line.render(console).rstrip(' ')}\n" for line in lines)
