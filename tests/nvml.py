"""A box with NVIDIA cards that are not there: the real bindings over a library of our own, `nvml.c`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.runs import environment

GIB = 2**30
ROOT = Path(__file__).parent.parent
_READ = """
import json, sys
from dataclasses import asdict
from engine.sampling.reader import Reader
reader = Reader(known=sys.argv[1] == "known")
for line in sys.stdin:
    print(json.dumps(asdict(reader.read(float(line)))), flush=True)
reader.close()
"""


def build(folder: Path) -> Path:
    """A folder with the library in it. Skips the test, or all that ask a fixture for it, where there is no compiler."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc) to build the stand-in driver")
    source = Path(__file__).with_name("nvml.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


def a_4090(index: int = 0, uuid: str = "GPU-4090", **other: object) -> dict[str, object]:
    """A card with everything, at work; `other` answers stand in place of its own, None for none."""
    card = {
        "uuid": uuid,
        "name": "NVIDIA GeForce RTX 4090",
        "bus": f"00000000:0{index + 1}:00.0",
        "capability": "8.9",
        "memory": f"{24 * GIB} {9 * GIB} {15 * GIB}",
        "memory_v2": f"{24 * GIB} {8 * GIB} {15 * GIB}",
        "utilization": "97 41",
        "processes": "1:1000 4194999:2000",
        "temperature": 71,
        "power": 389_500,
        "limit": 450_000,
        "clock": 2520,
        "pstate": 2,
        "throttle": "0x4",
        **other,
    }
    return {f"{index}.{question}": answer for question, answer in card.items() if answer is not None}


class Box:
    """A box with what a driver answers in `table`, which may change at any time."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library = library
        self.file = folder / "driver"
        self.variables: dict[str, str] = {}
        self._reader: subprocess.Popen[str] | None = None

    def has(self, *cards: Mapping[str, object], **system: object) -> None:
        """Put these cards in, and say this of the driver."""
        table: dict[str, object] = {"init": 0, "driver": "580.82.07", "cuda": 13000, "count": len(cards), **system}
        for card in cards:
            table |= card
        text = "".join(f"{key} {value}\n" for key, value in table.items())
        whole = self.file.with_suffix(".new")
        whole.write_text(text)
        whole.replace(self.file)  # whoever reads sees the one or the other

    @property
    def environment(self) -> dict[str, str]:
        variables = {key: value for key, value in environment().items() if not key.startswith("CUDA_")}
        return {**variables, "LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.file), **self.variables}

    def read(self, at: float = 0.0, *, known: bool = True) -> dict[str, Any]:
        """The sample that is taken `at` that second; all are taken by one program."""
        if self._reader is None:
            self._reader = subprocess.Popen(
                [sys.executable, "-c", _READ, "known" if known else "container"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._reader.stdin and self._reader.stdout
        self._reader.stdin.write(f"{at}\n")
        self._reader.stdin.flush()
        sample: dict[str, Any] = json.loads(self._reader.stdout.readline())
        return sample

    @property
    def pid(self) -> int:
        """Of the program that reads."""
        assert self._reader
        return self._reader.pid

    def close(self) -> None:
        if self._reader:
            self._reader.communicate()
            assert self._reader.returncode == 0

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `wan-tui` on this box."""
        command = [sys.executable, "-m", "wan_tui", *arguments]
        return subprocess.run(
            command, env={**self.environment, **variables}, capture_output=True, text=True, encoding="utf-8", timeout=60
        )
