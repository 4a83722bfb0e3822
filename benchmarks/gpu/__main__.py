"""Memory and time on a real GPU beside the predictions: `python -m benchmarks.gpu [--model M] [--grid small|full]`.

1. A model of random weights at its real sizes is built in a temporary place, or taken from where `--place` names.
2. Stages of runs, of clips of real shapes with few steps, on each rung and form: peaks of torch's allocator and of this
   process as the driver counts it, seconds, each beside its prediction.
3. Whole jobs under caps: whether the cap held, whether the plan was right.
4. What the constants of `engine.memory.predict` should be.

Results go to `--results`, named by the card, after every measurement; calls add to one another. What would begin when
`--minutes` are nearly over is left out, and told. Without a CUDA device nothing is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.stages import Bench

MODELS = ("ti2v-5B", "t2v-A14B", "t2v-1.3B")
RUNGS = ("resident", "staged", "streamed", "leaf")
GIB, GB = 2**30, 10**9
_NEEDED = (
    "torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "PIL", "psutil",
    "platformdirs", "packaging", "huggingface_hub", "pynvml",
)  # fmt: skip
_WANTED = ("ftfy", "sentencepiece", "imageio_ffmpeg", "tomli_w")
_FOR_JOBS = ("tomli_w",)  # whole jobs write a sidecar
_SPARE = 2 * GB  # of the disk


def main() -> int:
    given = _arguments()
    if problem := _no_cuda():
        print(f"benchmarks.gpu: {problem}: nothing was measured.")
        return 0
    lacking = [name for name in (*_NEEDED, *_WANTED) if importlib.util.find_spec(name) is None]
    if lacking:
        print(f"missing here: {', '.join(lacking)}")
    if not_there := [name for name in lacking if name in _NEEDED]:
        print(f"Nothing was measured: install {' '.join(not_there)}.")
        return 1
    if lost := [name for name in lacking if name in _FOR_JOBS and given.caps]:
        print(f"Caps are left out: whole jobs need {' '.join(lost)}.")
        given.caps = []
    return Session(given).run()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__, formatter_class=_Plain)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--grid", choices=("small", "full"), default="small")
    parser.add_argument("--rung", choices=RUNGS, action="append", help="only these rungs; may be given again")
    parser.add_argument("--caps", type=_caps, default=_caps("8,12,16,24"), help="in GiB; empty for none")
    parser.add_argument("--steps", type=int, default=2, help="of each expert")
    parser.add_argument("--minutes", type=float, help="7 for the small grid, 9 for the full one")
    parser.add_argument("--go-on", action="store_true", help="leave out the stages that the results have")
    parser.add_argument("--place", type=Path, help="where models are built, and stay for the next call")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    given = parser.parse_args()
    given.minutes = given.minutes or (7 if given.grid == "small" else 9)
    return given


_Plain = argparse.RawDescriptionHelpFormatter


def _caps(text: str) -> list[int]:
    return [round(float(word) * GIB) for word in text.split(",") if word.strip()]


def _no_cuda() -> str | None:
    """Why there is nothing to measure on."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return None if torch.cuda.is_available() else "torch sees no CUDA device here"


class Session:
    """One call: what was asked, what was measured so far, when it ends."""

    def __init__(self, given: argparse.Namespace, device: str = "cuda") -> None:
        self._given, self._device = given, device
        self._ends = monotonic() + 60 * given.minutes
        self._longest = 0.0
        self._rows: list[dict[str, Any]] = []
        self._caps: list[dict[str, Any]] = []
        self._left_out: list[str] = []
        self._about: dict[str, Any] = {}

    def run(self) -> int:
        """Measure all; the exit status."""
        from benchmarks.gpu.report import tables
        from engine.hardware import cards

        before = {card.uuid: (card.total_bytes or 0) - (card.free_bytes or 0) for card in cards()[0]}
        with _place(self._given.place) as place:
            if place is None:
                return 1
            _own_home(place)
            bench = self._bench(place, before)
            if bench is None:
                return 1
            self._measure(bench)
            self._under_caps(bench, place)
            bench.gauge.close()
        print(f"\n{tables(self._about, self._rows, self._caps)}")
        for line in self._left_out:
            print(f"left out: {line}")
        return int(any(row["outcome"] not in ("ok", "out of memory") for row in self._rows))

    def _bench(self, place: Path, before: dict[str, int]) -> Bench | None:
        """The model, built. None where the disk has no room for it, which is said."""
        from benchmarks.gpu.build import build_model, bytes_of
        from benchmarks.gpu.stages import Bench, precision_on
        from benchmarks.gpu.watch import Gauge
        from engine.catalog import load_catalog
        from engine.compat.folder import open_folder
        from engine.hardware import choose_device
        from engine.host import rss_bytes
        from engine.memory.figures import Figures
        from engine.memory.pace import measured_pace
        from engine.memory.parts import model_of_folder, model_of_spec
        from engine.pipelines.families import recipe
        from engine.runtime.heavy import load_libraries

        load_libraries()
        alone = rss_bytes()
        device, _ = choose_device(self._device)
        spec, _ = load_catalog().find(self._given.model)
        model, precision = model_of_spec(spec), precision_on(device)
        pace = measured_pace(device, precision.dtype == "bf16")  # which calls what a run does
        host = {"HOST": alone, "HOST_OF_CUDA": rss_bytes() - alone}
        need, free = bytes_of(model, precision, place), shutil.disk_usage(place).free
        if need and need + _SPARE > free:
            print(
                f"{spec.name} takes {need / GB:.1f} GB, {place} has {free / GB:.1f} GB free: name another with --place."
            )
            return None
        since = monotonic()
        built = build_model(model, recipe(spec.family, "text").pipeline, precision, place, spec.name)
        print(f"{spec.name}, random weights: {need / GB:.1f} GB in {monotonic() - since:.0f} s", flush=True)
        folder = open_folder(built)
        gauge = Gauge(device, before.get(device.uuid))
        bench = Bench(spec, folder, device, gauge, Figures(model_of_folder(folder), precision), pace)
        self._about = _about(bench) | host
        print(self._about["says"], flush=True)
        return bench

    def _measure(self, bench: Bench) -> None:
        from benchmarks.gpu.grid import points
        from benchmarks.gpu.report import stage_cells
        from benchmarks.gpu.stages import measured, too_large
        from engine.hardware import choose_device
        from engine.memory.room import room

        done = self._done()
        for point in points(bench.spec, self._given.grid, self._given.steps):
            name = (bench.spec.name, point.size, point.held.rung.name, point.held.form.name)
            unwanted = self._given.rung and point.held.rung.name not in self._given.rung
            if unwanted or all((*name, stage) in done for stage in point.stages):
                continue
            why = self._no_time() or too_large(bench, point, room(choose_device(self._device)[0], None, None))
            if why:
                self._left_out.append(f"{' '.join(name)}: {why}")
                continue
            with self._timed():
                for row in measured(bench, point):
                    self._rows.append(row)
                    print("  ".join(stage_cells(row)), flush=True)
            self._keep()

    def _under_caps(self, bench: Bench, place: Path) -> None:
        from benchmarks.gpu.caps import under_cap
        from benchmarks.gpu.grid import proof
        from benchmarks.gpu.report import cap_cells

        for cap in self._given.caps:
            if why := self._no_time():
                self._left_out.append(f"a cap of {cap / GIB:.0f} GiB: {why}")
                continue
            with self._timed():
                self._caps.append(under_cap(bench, proof(bench.spec, self._given.steps), cap, place))
            print("  ".join(cap_cells(self._caps[-1])), flush=True)
            self._keep()

    def _done(self) -> set[tuple[str, ...]]:
        """What need not be measured again."""
        from benchmarks.gpu.report import file_of, read, there

        return there(read(file_of(self._given.results, self._about["card"]))) if self._given.go_on else set()

    def _keep(self) -> None:
        from benchmarks.gpu.report import keep

        keep(self._given.results, self._about, self._rows, self._caps)

    def _no_time(self) -> str | None:
        """What is begun may take as long as the longest so far."""
        left = self._ends - monotonic()
        return None if left > self._longest else f"{max(0.0, left):.0f} s are left of the time asked for"

    @contextmanager
    def _timed(self) -> Iterator[None]:
        since = monotonic()
        yield
        self._longest = max(self._longest, monotonic() - since)


@contextmanager
def _place(asked: Path | None) -> Iterator[Path | None]:
    """Where models are built: what was asked for, which stays, or a temporary folder on the disk with most room."""
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        yield asked.absolute()
        return
    root = max({tempfile.gettempdir(), "/var/tmp"}, key=_free)
    with tempfile.TemporaryDirectory(dir=root, prefix="wan-tui-gpu-") as made:
        yield Path(made)


def _free(place: str) -> int:
    return shutil.disk_usage(place).free if os.access(place, os.W_OK) else 0


def _own_home(place: Path) -> None:
    """Nothing of the user's own is read or touched: no journal, no cache."""
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "WAN_TUI_LOCKS"):
        folder = place / "home" / name.lower()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(folder)


def _about(bench: Bench) -> dict[str, Any]:
    """The card, the libraries, the rates that were measured."""
    from importlib.metadata import version

    import torch

    libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    pace, device = bench.pace, bench.device
    says = f"{device.name}, {(device.total_bytes or 0) / GIB:.1f} GiB; Python {sys.version.split()[0]}, " + ", ".join(
        f"{name} {value}" for name, value in libraries.items()
    )
    says += f", CUDA {torch.version.cuda}, {os.cpu_count()} cores."
    if pace:
        copy = "" if pace.copy is None else f", {pace.copy / GB:.1f} GB/s from pinned RAM"
        pictures = (pace.pictures or 0) / 1e12
        says += f" Measured: {pace.flops / 1e12:.3g} TFLOP/s, {pictures:.3g} TFLOP/s of the VAE{copy}."
    return {"card": device.name, "says": says, "libraries": libraries}


if __name__ == "__main__":
    sys.exit(main())
