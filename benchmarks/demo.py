"""What the first minute costs: `wan-tui demo` as it is installed, in a home of its own: `python -m benchmarks.demo`.

Seconds are from the start of the program to its end, imports and the writing of the mp4 included; memory is the most
that its process had resident. The first run of three finds nothing kept: no embedding, no pace of the box.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("wan-tui"))
RUNS = 3
DUE_S, DUE_BYTES = 20.0, 1.5e9


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wan-tui-") as folder:
        places = ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "WAN_TUI_LOCKS")
        home = {**os.environ, **dict.fromkeys(places, folder)}
        found = [_run(folder, home) for _ in range(RUNS)]
    print(f"demo on {len(os.sched_getaffinity(0))} cores")
    for (seconds, resident), which in zip(found, ("first", "again", "again"), strict=True):
        print(f"  {which}  {seconds:5.1f} s   {resident / 1e9:.2f} GB resident")
    kept = max(seconds for seconds, _ in found) < DUE_S and max(resident for _, resident in found) < DUE_BYTES
    print(f"  due    {DUE_S:5.1f} s   {DUE_BYTES / 1e9:.2f} GB: {'kept' if kept else 'MISSED'}")


def _run(folder: str, home: dict[str, str]) -> tuple[float, int]:
    """Seconds, and the most bytes that were resident."""
    since = time.perf_counter()
    process = subprocess.Popen([PROGRAM, "demo", "--quiet"], cwd=folder, env=home, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - since
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the demo failed")
    return seconds, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
