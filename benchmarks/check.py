"""Knowing a folder, beside bare Python: `python -m benchmarks.check`.

The folders have the real configurations and headers of published models, and holes where the tensors would be.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from engine.catalog import load_catalog
from engine.compat.anatomy import read_anatomy
from engine.compat.rules import judge
from tests.giant import giant

ROUNDS = 15
MODELS = ("t2v-A14B@2.2.0", "i2v-14B-480P@2.1.0", "ti2v-5B@2.2.0")
PROGRAM = str(Path(sys.executable).with_name("wan-tui"))


def main() -> None:
    catalog = load_catalog()
    with tempfile.TemporaryDirectory() as folder:
        places = {id: giant(catalog.find(id)[0], Path(folder, id)) for id in MODELS}
        for id, place in places.items():
            spec = catalog.find(id)[0]
            taken = _timed(lambda place=place, spec=spec: judge(read_anatomy(place), spec.required, spec.forbidden))
            print(f"detect and judge {id:<20} {_shown(taken)}")
        bare = _timed(lambda: _run(sys.executable, "-c", "pass"))
        print(f"bare python {'':<25} {_shown(bare)}")
        for id, place in places.items():
            taken = _timed(lambda place=place: _run(PROGRAM, "check", str(place)))
            ratio = statistics.median(taken) / statistics.median(bare)
            print(f"wan-tui check {id:<23} {_shown(taken)}   {ratio:5.1f}x bare python")
    print("torch imported by detection:", "torch" in sys.modules)


def _run(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _timed(work: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(ROUNDS + 1):
        since = time.perf_counter()
        work()
        taken.append(time.perf_counter() - since)
    return taken[1:]  # the first is a warm-up


def _shown(taken: list[float]) -> str:
    return f"{statistics.median(taken) * 1e3:7.1f} ms   [{min(taken) * 1e3:.1f}–{max(taken) * 1e3:.1f}]"


if __name__ == "__main__":
    main()
