"""Clips made small, for looking at them: one picture, or frame after frame as ffmpeg scales them."""

from __future__ import annotations

import hashlib
import re
import selectors
import subprocess
import time
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.control import Control
from engine.paths import cache_dir, drop_oldest, write_atomic
from engine.regular import regular_bytes
from engine.video.ffmpeg import check_ffmpeg
from engine.video.source import bad_input, check_source

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from engine.errors import JobError

KEPT_BYTES = 64 * 2**20
FOLDER_FPS = 16.0  # a folder of pictures does not tell its own pace
_FIRST = "00001.png"
_PATIENCE_S = 20.0  # a frame that takes longer is not coming
_GLANCE_S = 0.1  # how soon a cancel is seen
_MOST_PIXELS = 8192 * 8192

# What this program writes, and nothing that leads ffmpeg to other files: a playlist may call itself .mp4.
_FORMATS = "mov,matroska,webm,gif"
_PPM = re.compile(rb"P6\n(\d+) (\d+)\n255\n")


@dataclass(frozen=True)
class Frame:
    """One picture: `rgb` holds three bytes a pixel, row after row."""

    width: int
    height: int
    rgb: bytes


def still(path: Path, width: int, height: int, control: Control | None = None) -> Frame:
    """The first frame of the clip `path`, as large as fits in width x height, from the cache where it is kept.

    The first, since it needs no search and is, of a clip made from an image, the picture its user knows.

    Raises as `frames` does.
    """
    kept = _store() / f"{_key(path, width, height)}.ppm"
    if frame := _read(kept):
        return frame
    with closing(_decode(path, width, height, None, control or Control(), FOLDER_FPS)) as pictures:
        frame = next(pictures)
    _keep(kept, frame)
    return frame


def frames(
    path: Path, width: int, height: int, fps: float, control: Control, folder_fps: float = FOLDER_FPS
) -> Generator[Frame]:
    """The clip `path`, a video or a folder of PNG frames, at `fps` and as large as fits in width x height.

    They come as fast as they are taken. ffmpeg is gone once the iterator is closed or at its end. `folder_fps` is how
    many frames of a folder make a second.

    Raises:
        JobError: `bad-input-video`: absent, unreadable, no regular file, or nothing in it decodes as video.
        Cancelled: `control` was asked to stop.
    """
    return _decode(path, width, height, fps, control, folder_fps)


def _decode(
    path: Path, width: int, height: int, fps: float | None, control: Control, folder_fps: float
) -> Generator[Frame]:
    process = _start([*_input(path, folder_fps), *_scaled(width, height, fps)], path)
    with process:
        try:
            said: deque[str] = deque(maxlen=20)
            count = 0
            for frame in _pictures(_chunks(process, path, control, said)):
                count += 1
                yield frame
            if process.wait() or not count:
                raise _undecodable(path, said)
        finally:
            process.kill()


def _input(path: Path, folder_fps: float) -> list[str]:
    if _first_file(path) != path:
        pattern = f"{path.absolute()}/".replace("%", "%%") + "%05d.png"
        return ["-framerate", f"{folder_fps:g}", "-start_number", "1", "-f", "image2", "-i", f"file:{pattern}"]
    return ["-format_whitelist", _FORMATS, "-i", f"file:{path.absolute()}"]


def _first_file(path: Path) -> Path:
    """The video itself, or the first picture of a folder; one that can be opened."""
    first = path / _FIRST if path.is_dir() else path
    if first != path and not first.exists():
        raise bad_input(path, "video", f"it is a folder without {_FIRST}", "Name a video, or a folder of frames.")
    check_source(first, "video")
    return first


def _scaled(width: int, height: int, fps: float | None) -> list[str]:
    """The frames at `fps`, or the first alone. Each says its size, so that it need not be known before."""
    pace, count = (f"fps={fps:g},", []) if fps else ("", ["-frames:v", "1"])
    filters = f"{pace}scale={width}:{height}:force_original_aspect_ratio=decrease"
    return ["-map", "0:v:0", "-vf", filters, "-filter_threads", "1", *count, "-c:v", "ppm", "-f", "image2pipe"]


def _start(arguments: list[str], path: Path) -> subprocess.Popen[bytes]:
    import imageio_ffmpeg

    check_ffmpeg()
    quiet = ("-nostdin", "-hide_banner", "-loglevel", "error")
    limits = ("-threads", "1", "-max_pixels", str(_MOST_PIXELS))  # one thread: beside it a job may be running
    try:
        return subprocess.Popen(
            [imageio_ffmpeg.get_ffmpeg_exe(), *quiet, *limits, *arguments, "pipe:1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C at the terminal is for us, not for it
        )
    except OSError as error:
        raise bad_input(path, "video", f"ffmpeg cannot be started: {error.strerror}", "Try it again.") from error


def _chunks(process: subprocess.Popen[bytes], path: Path, control: Control, said: deque[str]) -> Iterator[bytes]:
    """What ffmpeg writes, as it comes; what it complains of goes to `said`. A cancel is seen at every glance."""
    assert process.stdout and process.stderr
    with selectors.DefaultSelector() as pipes:
        pipes.register(process.stdout, selectors.EVENT_READ)
        pipes.register(process.stderr, selectors.EVENT_READ)
        last = time.monotonic()
        while pipes.get_map():
            control.check()
            ready = pipes.select(_GLANCE_S)
            if not ready and time.monotonic() - last > _PATIENCE_S:
                raise bad_input(path, "video", f"no frame came in {_PATIENCE_S:.0f} s", "Try another file.")
            for pipe, _ in ready:
                data = pipe.fileobj.read(1 << 16)  # type: ignore[union-attr]
                if not data:
                    pipes.unregister(pipe.fileobj)
                elif pipe.fileobj is process.stderr:
                    said.extend(data.decode(errors="replace").splitlines())
                else:
                    yield data
                last = time.monotonic()  # after the frame was used: only ffmpeg's own time counts


def _pictures(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """PPM pictures one after another."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while head := _PPM.match(held):
            width, height = int(head[1]), int(head[2])
            begin = head.end()
            end = begin + 3 * width * height
            if len(held) < end:
                break
            frame = Frame(width, height, bytes(held[begin:end]))
            del held[:end]
            yield frame


def _undecodable(path: Path, said: Iterable[str]) -> JobError:
    unopened = re.search(r"^Error opening input.*?: (.+)$", "\n".join(said), re.MULTILINE)
    cause = unopened[1] if unopened else "nothing in it decodes as video"
    return bad_input(path, "video", cause, "Name a video file, such as an .mp4, .webm or .gif.")


# Stills that were made before


def _key(path: Path, width: int, height: int) -> str:
    """The file as it is now, and the size asked for."""
    info = _first_file(path).stat()
    facts = (str(path.absolute()), info.st_size, info.st_mtime_ns, width, height)
    return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()


def _store() -> Path:
    folder = cache_dir() / "stills"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _read(kept: Path) -> Frame | None:
    """The still kept there; None where nothing usable is: it is made again."""
    try:
        data = regular_bytes(kept, KEPT_BYTES)
        kept.touch()  # the oldest go first
    except (OSError, ValueError):
        return None
    head = _PPM.match(data)
    if not head or len(data) != head.end() + 3 * int(head[1]) * int(head[2]):
        return None
    return Frame(int(head[1]), int(head[2]), data[head.end() :])


def _keep(kept: Path, frame: Frame) -> None:
    """Keep a still, and let the oldest go. A cache that cannot be written costs time later, nothing else."""
    with suppress(OSError):
        write_atomic(kept, b"P6\n%d %d\n255\n" % (frame.width, frame.height) + frame.rgb)
        drop_oldest(kept.parent, "*.ppm", KEPT_BYTES)
