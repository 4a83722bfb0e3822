"""Starting the program the way a user does, and reading what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "wan_tui"]


def wan_tui(*arguments: object, cwd: Path | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run `wan-tui` to its end."""
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


class Running:
    """A run in the background whose events are read as they come."""

    def __init__(self, *arguments: object, cwd: Path | None = None) -> None:
        command = [*PROGRAM, *map(str, arguments), "--json"]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.told: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any]:
        """The next event; AssertionError when the run has ended."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the run has ended; told: {self.told[-3:]}, {self.process.communicate()[1]}"
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
        assert self.process.stdout
        assert self.process.stderr
        self.told += events(self.process.stdout.read())  # communicate() would lose what is buffered here
        self.errors = self.process.stderr.read()
        return self.process.wait(timeout=120)
