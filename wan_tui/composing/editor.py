"""A text in the user's own editor: here its file is made and read; who has the terminal to lend runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.jobfile import PROMPT_BYTES
from engine.regular import regular_bytes


@dataclass(frozen=True)
class Edited:
    """The text as it came back, or as it was and a sentence why it did not change."""

    text: str
    problem: str | None = None


def edit(text: str, environ: Mapping[str, str], run: Callable[[Sequence[str]], int]) -> Edited:
    """Open `text` in $VISUAL or $EDITOR and wait for it. `run` does a command line and gives its status, or `OSError`.

    The file is the user's alone, and gone afterwards with whatever the editor left beside it.
    """
    command, problem = _command(environ)
    if problem:
        return Edited(text, problem)
    try:
        folder = Path(tempfile.mkdtemp(prefix="wan-tui-"))  # for this user alone
    except OSError as error:
        return Edited(text, f"There is no place for a temporary file: {error.strerror}.")
    try:
        return _edited(text, command, folder / "prompt.txt", run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(environ: Mapping[str, str]) -> tuple[list[str], str | None]:
    for name in ("VISUAL", "EDITOR"):
        if line := environ.get(name, "").strip():
            try:
                return shlex.split(line), None
            except ValueError as error:
                return [], f"{name} cannot be read as a command: {error}."
    return [], "No editor is set: put its command into the variable EDITOR, such as EDITOR=nano."


def _edited(text: str, command: list[str], file: Path, run: Callable[[Sequence[str]], int]) -> Edited:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode(errors="replace"))
        status = run([*command, str(file)])
    except OSError as error:
        return Edited(text, f"The editor {command[0]} cannot be run: {error.strerror}. The prompt is as it was.")
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        return Edited(text, f"The editor ended with {how}. The prompt is as it was.")
    return _read_back(text, file)


def _read_back(text: str, file: Path) -> Edited:
    try:
        data = regular_bytes(file, 2 * PROMPT_BYTES)
        found = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return Edited(text, "What the editor saved is not UTF-8. The prompt is as it was.")
    except OSError:
        return Edited(text, "The editor left no file. The prompt is as it was.")
    except ValueError:
        return Edited(text, f"What the editor saved cannot be a prompt: at most {PROMPT_BYTES} bytes are taken.")
    if not text.endswith("\n"):  # editors end the last line
        found = found.removesuffix("\n")
    if len(found.encode()) > PROMPT_BYTES:
        return Edited(text, f"The text has more than {PROMPT_BYTES} bytes. The prompt is as it was.")
    return Edited(found)
