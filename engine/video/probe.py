"""What a video file holds, as ffmpeg tells it: no ffprobe ships with imageio-ffmpeg."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.video.ffmpeg import read_with_ffmpeg
from engine.video.source import bad_input, check_source

if TYPE_CHECKING:
    from pathlib import Path

    from engine.errors import JobError


@dataclass(frozen=True)
class Probe:
    """A video as it decodes. `fps` is its mean rate; `color` is range and space as ffmpeg tells them: `tv, bt709`."""

    codec: str
    pix_fmt: str
    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    color: str


# `Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709, progressive), 96x64, …`
# Texts of the file itself are printed too, but further to the right.
_STREAM = re.compile(
    r"^  Stream #0:\d+.*?: Video: (?P<codec>\w+).*?, (?P<pix_fmt>\w+)(?:\((?P<color>.*?)\))?, (?P<w>\d+)x(?P<h>\d+)",
    re.MULTILINE,
)
# What follows the colours there: the order of the fields.
_FIELDS = re.compile(r"(^|, )(progressive|top|bottom).*")


def probe(path: Path) -> Probe:
    """Decode the whole of the first video stream of `path` and tell what it is. Sizes are as shown, rotation applied.

    Raises:
        JobError: `bad-input-video`: absent, unreadable, no regular file, or nothing in it decodes as video.
    """
    check_source(path, "video")
    answer = read_with_ffmpeg(path, "-map", "0:V:0", "-progress", "pipe:1", "-nostats", "-f", "null", "-")
    said = answer.stderr.decode(errors="replace")
    streams = list(_STREAM.finditer(said))
    progress = dict(line.split("=", 1) for line in answer.stdout.decode().splitlines() if "=" in line)
    frames = int(progress.get("frame", 0))
    if answer.returncode or len(streams) < 2 or not frames:
        raise _no_video(path, said)
    source, decoded = streams[0], streams[-1]
    seconds = int(progress["out_time_us"]) / 1e6
    return Probe(
        codec=source["codec"],
        pix_fmt=decoded["pix_fmt"],
        width=int(decoded["w"]),
        height=int(decoded["h"]),
        frames=frames,
        fps=frames / seconds,
        seconds=seconds,
        color=_FIELDS.sub("", source["color"] or ""),
    )


def read_metadata(path: Path) -> str | None:
    """The text in the comment of `path`, exactly as it was written, or None when there is none.

    Raises:
        JobError: `bad-input-video`: absent, unreadable, no regular file, or not a file ffmpeg reads.
    """
    check_source(path, "video")
    answer = read_with_ffmpeg(path, "-f", "ffmetadata", "-")
    if answer.returncode:
        raise _no_video(path, answer.stderr.decode(errors="replace"))
    # A line ends at a newline without a backslash before it; sections after the first are of streams and chapters.
    for line in re.findall(rb"((?:\\.|[^\\\n])+)\n", answer.stdout, re.DOTALL):
        key, _, value = line.partition(b"=")
        if key.lower() == b"comment":
            return re.sub(rb"\\(.)", rb"\1", value, flags=re.DOTALL).decode(errors="replace") or None
        if key.startswith(b"["):
            break
    return None


def _no_video(path: Path, said: str) -> JobError:
    unopened = re.search(r"^Error opening input.*: (.+)$", said, re.MULTILINE)
    cause = unopened[1] if unopened else "nothing in it decodes as video"
    return bad_input(path, "video", cause, "Name a video file, such as an .mp4, .webm or .gif.")
