"""Starting the program the way a user does, and reading what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.nursery import Born, born

PROGRAM = [sys.executable, "-m", "wan_tui"]


HEAVY = ("--run", "demo", "plan", "test-load")  # what imports torch, most of the time: begun in the nursery


def wan_tui(*arguments: object, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `wan-tui` to its end."""
    if str(next(iter(arguments), "")) in HEAVY and not more:
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors, open(os.devnull) as nothing:
            files = [file.fileno() for file in (nothing, said, errors)]
            child = born([*map(str, arguments)], files, cwd, environment())
            status = child.wait(timeout=300)
            told = []
            for file in (said, errors):
                file.seek(0)
                told.append(file.read().decode())
            return subprocess.CompletedProcess([*PROGRAM, *map(str, arguments)], status or 0, *told)
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        **more,
    )


def environment() -> dict[str, str]:
    """This process's environment, with the checkout importable from any folder and errors shown in UTF-8."""
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "PYTHONUTF8": "1"}


def events(output: str) -> list[dict[str, Any]]:
    """The events of `--run --json`; every line has to be one."""
    return [json.loads(line) for line in output.splitlines()]


def job_file(folder: Path, model: Path | str, name: str = "job.toml", **values: Any) -> Path:
    """A small job in a file of its own."""
    import tomli_w

    table = {
        "model": str(model),
        "prompt": "a red circle moving right",
        "width": 64,
        "height": 64,
        "frames": 9,
        "fps": 8,
        "steps": 2,
        "seed": 7,
        "device": "cpu",
        **values,
    }
    file = folder / name
    file.write_text(tomli_w.dumps({k: v for k, v in table.items() if v is not None}), encoding="utf-8")
    return file


def decoders() -> list[psutil.Process]:
    """The ffmpegs this process started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "ffmpeg" in child.name():
                found.append(child)
    return found


def _begun(arguments: list[str], files: list[int], cwd: Path | None) -> Born | subprocess.Popen[bytes]:
    if arguments[0] in HEAVY:
        return born(arguments, files, cwd, environment())
    stdin, stdout, stderr = files
    command = [*PROGRAM, *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdin=stdin, stdout=stdout, stderr=stderr)


class Running:
    """A run in the background whose events are read as they come."""

    def __init__(self, *arguments: object, cwd: Path | None = None) -> None:
        (said, its_said), (errors, its_errors) = os.pipe(), os.pipe()
        with open(os.devnull) as nothing:
            files = [nothing.fileno(), its_said, its_errors]
            self.process = _begun([*map(str, arguments), "--json"], files, cwd)
        os.close(its_said)
        os.close(its_errors)
        self.stdout, self.stderr = os.fdopen(said), os.fdopen(errors)
        self.told: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any]:
        """The next event; AssertionError when the run has ended."""
        line = self.stdout.readline()
        assert line, f"the run has ended; told: {self.told[-3:]}, {self.stderr.read()}"
        self.told.append(json.loads(line))
        return self.told[-1]

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        """Read until an event of this kind and with these fields; AssertionError when the run ends before."""
        while True:
            told = self.next()
            if told["event"] == event and all(told.get(name) == value for name, value in fields.items()):
                return told

    def end(self) -> int:
        """Read the rest and return the exit status."""
        self.told += events(self.stdout.read())
        self.errors = self.stderr.read()
        self.stdout.close()
        self.stderr.close()
        return self.process.wait(timeout=120) or 0
