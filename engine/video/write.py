"""Writing a clip: frames go to ffmpeg as they come, and the finished file gets a name of its own at the end."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import JobError
from engine.video.disk import disk_errors
from engine.video.ffmpeg import Encoder
from engine.video.pictures import Pictures
from engine.video.place import SIDECAR_SUFFIX, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class _Format:
    """How ffmpeg writes one kind of output."""

    muxer: str
    encoding: tuple[str, ...]


# swscale turns RGB into BT.601 unless told otherwise, while players take video for BT.709: convert, then say so.
_BT709 = (
    "scale=out_color_matrix=bt709:out_range=limited:flags=accurate_rnd+full_chroma_int,format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"
)
# A palette for each frame: one for the whole clip would hold every frame in memory until the last.
_PALETTES = "split[a][b];[a]palettegen=stats_mode=single[palette];[b][palette]paletteuse=new=1"
# Whole frames: ffmpeg would write differences, and wrong ones where a palette equals the first frame's again.
_GIF = ("-filter_complex", _PALETTES, "-gifflags", "-offsetting-transdiff")
_X264 = ("-vf", _BT709, "-c:v", "libx264", "-crf", "{crf}", "-movflags", "+faststart")
_VP9 = ("-vf", _BT709, "-c:v", "libvpx-vp9", "-crf", "{crf}", "-b:v", "0", "-cpu-used", "2", "-row-mt", "1")

_FORMATS = {
    ".mp4": _Format("mp4", _X264),
    ".webm": _Format("webm", _VP9),
    ".gif": _Format("gif", _GIF),
}
_PART = "video"  # what a file is called until it is complete,
_PICTURES = "frames"  # and a folder of PNG files
_ALLOWED = "Use .mp4, .webm or .gif, or no suffix for a folder of PNG frames."

# The longest name made of the one asked for is the sidecar of its 9999th namesake, or the scratch folder.
_LONGEST_NAME = 255 - max(len(f"-9999{SIDECAR_SUFFIX}"), len("..01234567.part"))


class VideoWriter:
    """Takes the frames of one clip, in order; see `open_writer`.

    `scratch` is the hidden folder that holds everything until `finish`; after a crash it can simply be removed.
    """

    def __init__(
        self, path: Path, scratch: Path, part: Path, encoder: Encoder | Pictures, width: int, height: int
    ) -> None:
        self.scratch = scratch
        self.frames = 0
        self._path = path
        self._part = part
        self._encoder = encoder
        self._shape = (height, width, 3)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append `frames`, RGB of shape (n, height, width, 3). They are with ffmpeg, not kept here, on return.

        Raises:
            RunError: `disk-full` or `encoding-failed`.
        """
        if frames.dtype != "uint8" or frames.shape[1:] != self._shape:
            raise ValueError(f"frames of {frames.dtype} {frames.shape}, where uint8 (n, *{self._shape}) are due")
        self._encoder.write(frames.reshape(-1).data)
        self.frames += len(frames)

    def finish(self, sidecar: Callable[[Path], str]) -> Path:
        """Complete the clip, give it the first free name and put `sidecar(name)` beside it; return the name.

        Raises:
            RunError: `disk-full`, `encoding-failed` or `output-not-writable`; nothing has a final name then.
        """
        if not self.frames:
            raise ValueError("a clip without frames")  # of which some muxers would make an empty file
        self._encoder.close()
        return place(self._part, self._path, sidecar)


@contextmanager
def open_writer(
    path: Path, *, width: int, height: int, fps: float, crf: int = 18, metadata: str | None = None
) -> Iterator[VideoWriter]:
    """Start writing the clip `path`; its suffix chooses the format, and its folder is made when absent.

    `metadata` goes into the container's comment where the format has one (mp4, webm). Leaving the context before
    `finish`, for whatever reason, stops ffmpeg and leaves nothing.

    Raises:
        JobError: `bad-output`, for a suffix no format has.
        RunError: `disk-full`, `output-not-writable` or `ffmpeg-missing`.
    """
    form = _format(path)
    path = path.absolute()
    scratch = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir()
            if metadata:
                (scratch / "metadata").write_bytes(_ffmetadata(metadata))
            if form is None:
                (scratch / _PICTURES).mkdir()
        if form is None:
            with Pictures(scratch / _PICTURES, width, height) as pictures:
                yield VideoWriter(path, scratch, scratch / _PICTURES, pictures, width, height)
        else:
            with Encoder(_arguments(form, width, height, fps, crf, bool(metadata)), scratch) as encoder:
                yield VideoWriter(path, scratch, scratch / _PART, encoder, width, height)
    finally:
        # Errors are ignored: one here would hide the one that brought us here.
        shutil.rmtree(scratch, ignore_errors=True)


def check_output(path: Path) -> None:
    """Say what can be said of an output before the run, writing nothing.

    Raises:
        JobError: `bad-output`: no file name, a name too long or with control characters, an unknown suffix, a
            folder of that name, a parent that is no folder or may not be written.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(path)):
        raise _bad_output(path, "it holds control characters", "Use printable characters only.")
    _format(path)
    if path.name in ("", "..") or path.name.lower() in _FORMATS:
        raise _bad_output(path, "it names no file", "Give the file a name, as in outputs/clip.mp4.")
    if max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise _bad_output(path, f"it has a name longer than {_LONGEST_NAME} bytes", "Use shorter names.")
    # The missing folders will be made in the nearest one above that exists.
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not (os.access(above, os.W_OK | os.X_OK) and above.is_dir()):
        raise _bad_output(path, f"{above} is no folder that may be written to", "Choose another folder.")
    if path.suffix and path.is_dir():
        raise _bad_output(path, "it is a folder", "Use another name, or remove that folder.")


def _format(path: Path) -> _Format | None:
    """How ffmpeg writes this output; None for a folder of pictures."""
    form = _FORMATS.get(path.suffix.lower())
    if form is None and path.suffix:
        raise _bad_output(path, f"no format has the suffix {path.suffix!r}", _ALLOWED)
    return form


def _bad_output(path: Path, cause: str, suggestion: str) -> JobError:
    return JobError("bad-output", f"The output {str(path)!r} cannot be used.", cause=cause, suggestions=[suggestion])


def _arguments(form: _Format, width: int, height: int, fps: float, crf: int, has_text: bool) -> list[str]:
    text = ["-f", "ffmetadata", "-i", "metadata"] if has_text else []
    video = ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", str(fps)]
    encoding = [argument.format(crf=crf) for argument in form.encoding]
    # Bit-exact: no versions and no random ids in the file, so that equal clips are equal files.
    plain = ["-fflags", "+bitexact", "-flags:v", "+bitexact"]
    return [*text, *video, "-i", "pipe:0", *encoding, *plain, "-f", form.muxer, _PART]


def _ffmetadata(text: str) -> bytes:
    """`text` as the comment of an ffmetadata file: an argument of a command could hold 128 KiB at most."""
    # No newline at the end: after a text that ends in a backslash ffmpeg would read it as part of the text.
    return b";FFMETADATA1\ncomment=" + re.sub(r"([=;#\\\r\n])", r"\\\1", text).encode()
