"""The ffmpeg that ships with imageio-ffmpeg: as an encoder fed through a pipe, and as a reader of files."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING, Self

from engine.errors import RunError
from engine.video.disk import disk_full, says_no_room

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")


def _executable() -> str:
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise _missing(error) from error


def _missing(error: Exception) -> RunError:
    return RunError(
        "ffmpeg-missing",
        "No ffmpeg can be started, and videos are written with it.",
        cause=str(error),
        suggestions=["Reinstall imageio-ffmpeg, or name an ffmpeg in the variable IMAGEIO_FFMPEG_EXE."],
    )


@functools.cache
def check_ffmpeg() -> None:
    """Start ffmpeg once, before hours of work rely on it. Raises RunError `ffmpeg-missing`."""
    try:
        subprocess.run([_executable(), "-version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise _missing(error) from error


class Encoder:
    """One ffmpeg that takes raw bytes on its standard input. Leaving its context kills it if it still runs.

    It runs inside the folder `scratch`, so that `arguments` can name files without any quoting.
    """

    def __init__(self, arguments: Sequence[str], scratch: Path) -> None:
        self._scratch = scratch
        try:
            self._process = subprocess.Popen(
                [_executable(), *_QUIET, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=scratch,
                start_new_session=True,  # a Ctrl-C at the terminal is for us, not for it
                restore_signals=False,  # with SIGXFSZ ignored it reports a file too large instead of dying of it
            )
        except OSError as error:
            raise _missing(error) from error
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        self._lines: deque[bytes] = deque(maxlen=20)
        self._drain = threading.Thread(target=self._keep_errors, daemon=True)
        self._drain.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._reap()

    def write(self, data: memoryview) -> None:
        """Hand over all of `data`, a flat view of bytes.

        Raises:
            RunError: `disk-full` or `encoding-failed`, when ffmpeg is gone.
        """
        try:
            while data:
                data = data[self._stdin.write(data) :]
        except BrokenPipeError:
            self._reap()
            raise self._failure() from None

    def close(self) -> None:
        """End the input and wait until the file is complete. Raises as `write` does."""
        self._reap()
        if self._process.returncode != 0:
            raise self._failure()

    def _keep_errors(self) -> None:
        # Read as they come, for a full pipe would stop ffmpeg; into memory, for the disk may be what is full.
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            self._lines.extend(errors)

    def _reap(self) -> None:
        self._stdin.close()
        self._process.wait()
        self._drain.join()

    def _failure(self) -> RunError:
        lines = [_unprefixed(line) for line in self._lines]
        # The first line tells what went wrong, the last what became of it; those between repeat them.
        cause = "; ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))
        if says_no_room(cause):
            return disk_full(self._scratch.parent, cause)
        return RunError(
            "encoding-failed",
            "ffmpeg stopped before the video was complete.",
            cause=cause or _ending(self._process.returncode),
            suggestions=["Run the job again; if it fails again, try another output format."],
        )


def _unprefixed(line: bytes) -> str:
    """An ffmpeg message without the name and address of the part that says it."""
    return re.sub(r"^(\[[^]]*] )+", "", line.decode(errors="replace").strip())


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"it was killed by signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"it ended with status {returncode}"


def read_with_ffmpeg(path: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg over the file `path`; its answer is on standard output, what it has to say on standard error."""
    command = [_executable(), "-nostdin", "-hide_banner", "-i", f"file:{path}", *arguments]
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
        )
    except OSError as error:
        raise _missing(error) from error
