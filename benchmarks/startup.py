"""What starting costs, beside the bare argument parser: `python -m benchmarks.startup`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
PROGRAM = str(Path(sys.executable).with_name("wan-tui"))
COMMANDS = {
    "bare argparse": [sys.executable, "-c", "import argparse; argparse.ArgumentParser().parse_args([])"],
    "--version": [PROGRAM, "--version"],
    "--help": [PROGRAM, "--help"],
    "models list": [PROGRAM, "models", "list"],
    "jobs list": [PROGRAM, "jobs", "list"],
}


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(ROUNDS + 1):  # one after another, so that a slow moment of the machine meets them all
        for name, command in COMMANDS.items():
            since = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if turn:  # the first is a warm-up
                taken[name].append(time.perf_counter() - since)
    base = statistics.median(taken["bare argparse"])
    for name, times in taken.items():
        median = statistics.median(times)
        span = f"[{min(times) * 1e3:.1f}–{max(times) * 1e3:.1f}]"
        print(f"{name:<14} {median * 1e3:6.1f} ms   {median / base:5.2f}x   {span}")


if __name__ == "__main__":
    main()
