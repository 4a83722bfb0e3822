"""The model library beside the Hugging Face client, from a loopback Hub: `python -m benchmarks.library`.

1. Verifying: ours against `HfApi().verify_repo_checksums`, and as a share of what the cores and the disk can do.
2. Downloading, hashed as it comes, against `snapshot_download` (over HTTP): at a served rate, and at none.
3. Memory of a download, of a small and of a large file.
4. How long a download takes to stop: while bytes flow, in a stalled body, before there is any answer.
5. `wan-tui models list` with a thousand files on disk.

What is compared runs in turns, each time in a process of its own, timed after its imports. A turn during which other
programs took the cores is taken again, up to three of a part; what they took is printed where one stayed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.local_hub import Remote, spawn

MB = 10**6
BLOCK = 8 << 20
FREE = 0.06  # of all cores: what others may take of them in a turn that counts
AGAIN = 3
ROUNDS = 15
REPOS, FILES = 40, 25
STALL_AT = 8 * MB
PARTS = ("verify", "download", "memory", "cancel", "list")
UNSET = ("MODELS_ROOT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
QUIET = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")
OURS, THEIRS = "ours", "huggingface_hub"
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description="Measure the model library.")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--pairs", type=int, default=5, help="turns of verifying (%(default)s)")
    parser.add_argument("--verify-mb", type=int, default=1000, help="size of each of two files (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of downloading (%(default)s)")
    parser.add_argument("--download-mb", type=int, default=400, help="size of each of four files (%(default)s)")
    parser.add_argument("--rate", type=float, default=200, help="MB/s served (%(default)g)")
    parser.add_argument("--memory-mb", type=int, nargs=2, default=[200, 1600], help="sizes of one file (200 1600)")
    parser.add_argument("--tries", type=int, default=20, help="cancels of each kind (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the files go, removed after; some 8 GB are needed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for part in args.only or PARTS:
            bench = Bench(Path(folder) / part)
            since = time.monotonic()
            globals()[f"_{part}"](bench, args)
            print(f"  ({time.monotonic() - since:.0f} s)\n", flush=True)
            shutil.rmtree(bench.folder)


@dataclass(frozen=True)
class Bench:
    """A folder of repositories to serve, and homes of their own for the processes that are measured."""

    folder: Path

    def repo(self, name: str, sizes: list[int]) -> None:
        """A repository of random weights, and of small files as every model has them."""
        root = self.folder / "served" / "bench" / name
        for number, size in enumerate(sizes):
            _random(root / "transformer" / f"part-{number}.safetensors", size)
        (root / "model_index.json").write_text("{}")
        (root / "transformer" / "config.json").write_text("{}")
        for number in range(12):
            _random(root / "tokenizer" / f"small-{number}.json", 5_000 * (number + 1))

    def home(self, hub: Remote | None = None) -> dict[str, str]:
        """A fresh home, as an environment; the model `NAME` of the manifest is the repository `bench/NAME`."""
        home = Path(tempfile.mkdtemp(dir=self.folder, prefix="home-"))
        manifest = home / "models.toml"
        names = sorted(path.name for path in (self.folder / "served" / "bench").glob("*"))
        manifest.write_text("".join(_entry(name) for name in names))
        env = {name: value for name, value in os.environ.items() if name not in UNSET}
        env |= {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "HF_HOME")}
        env |= dict.fromkeys(QUIET, "1") | {"HOME": str(home), "WAN_MODELS_MANIFEST": str(manifest)}
        return env | ({"HF_ENDPOINT": hub.url} if hub else {})


def _entry(name: str) -> str:
    return f'[models."{name}"]\ntitle = "Bench"\nfamily = "t2v"\nrepo = "bench/{name}"\nrequired = ["transformer"]\n'


def _random(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for begin in range(0, size, BLOCK):
            stream.write(os.urandom(min(BLOCK, size - begin)))


def _drop(env: dict[str, str]) -> None:
    shutil.rmtree(env["HOME"])


# --- what is measured -------------------------------------------------------------------------------------------------


def _verify(bench: Bench, args: argparse.Namespace) -> None:
    bench.repo("weights", [args.verify_mb * MB] * 2)
    with spawn(bench.folder / "served") as hub:
        env = bench.home(hub)
        _child("download", OURS, "weights", env=env)
        os.sync()
        files = sorted((Path(env["HF_HOME"]) / "hub" / "models--bench--weights" / "blobs").iterdir())
        tasks = {name: partial(_child, "verify", name, "weights", env=env) for name in (OURS, THEIRS)}
        # Read first in each turn: a kernel may drop from its cache what was not touched for a while.
        taken = _turns({"rates": partial(_child, "rates", *files, env=env), **tasks}, args.pairs)
    total = 2 * args.verify_mb * MB
    print(f"verify, 2 x {args.verify_mb} MB in the page cache, {args.pairs} turns")
    best = _versus(taken, total)
    hashing, reading, file = (max(one[key] for one in taken["rates"]) for key in ("hash", "read", "file"))
    for name in (OURS, THEIRS):
        print(f"  {name:<16} {min(one['cpu'] for one in taken[name]):.2f} s of CPU")
    cores = len(os.sched_getaffinity(0))
    rate = total / best[OURS]
    print(
        f"  one thread reads {reading / MB:.0f} MB/s, hashes {hashing / MB:.0f} in memory, {file / MB:.0f} of a file;"
    )
    print(f"  ours is {rate / min(cores * file, reading):.1%} of min(read, {cores} x hash of a file),", end=" ")
    print(f"{rate / min(cores * hashing, reading):.1%} of min(read, {cores} x hash in memory)")


def _download(bench: Bench, args: argparse.Namespace) -> None:
    bench.repo("weights", [args.download_mb * MB] * 4)
    with spawn(bench.folder / "served") as hub:

        def one(who: str) -> Figures:
            env = bench.home(hub)
            try:
                return _child("download", who, "weights", env=env)
            finally:
                _drop(env)
                os.sync()

        one(OURS)  # the hub counts its digests
        for rate in (args.rate * MB, None):
            hub.set(rate=rate)
            said = f"served at {rate / MB:.0f} MB/s" if rate else "not throttled"
            taken = _turns({name: partial(one, name) for name in (OURS, THEIRS)}, args.turns)
            print(f"download, 4 x {args.download_mb} MB and 12 small files, {said}, {args.turns} turns")
            _versus(taken, 4 * args.download_mb * MB)
            for name in (OURS, THEIRS):
                print(f"  {name:<16} {min(one['cpu'] for one in taken[name]):.2f} s of CPU")


def _memory(bench: Bench, args: argparse.Namespace) -> None:
    print("memory of a download: peak RSS above what the process had after its imports")
    for size in args.memory_mb:
        bench.repo(f"one-{size}", [size * MB])
    with spawn(bench.folder / "served") as hub:
        for size in args.memory_mb:
            env = bench.home(hub)
            figures = _child("download", OURS, f"one-{size}", env=env)
            print(f"  {size:>5} MB file: {figures['peak'] / MB:.1f} MB above {figures['base'] / MB:.1f} MB")
            _drop(env)


def _cancel(bench: Bench, args: argparse.Namespace) -> None:
    bench.repo("weights", [1000 * MB])
    print(f"from cancel() to the return of download(), {args.tries} tries each")
    with spawn(bench.folder / "served", rate=args.rate * MB) as hub:
        weights = "*.safetensors"
        for state in ("flowing", "stalled in the body", "stalled before the status line"):
            hub.clear_faults()
            if state == "stalled in the body":
                hub.fault(weights, stall_after=STALL_AT)
            elif state != "flowing":
                hub.fault(weights, ranged=False, drop_after=STALL_AT)
                hub.fault(weights, ranged=True, stall_in="status")
            env = bench.home(hub)
            figures = _child("cancel", "weights", args.tries, env=env)
            print(
                f"  {state:<32} median {figures['median'] * 1e3:.0f} ms, worst {figures['worst'] * 1e3:.0f} ms;"
                f" part kept {figures['kept']:.0f} of {args.tries} times, {figures['part'] / MB:.1f} MB at least"
            )
            _drop(env)


def _list(bench: Bench, args: argparse.Namespace) -> None:
    for number in range(REPOS):
        (bench.folder / "served" / "bench" / f"model-{number}").mkdir(parents=True)
    full, empty = bench.home(), bench.home()
    _child("fill", env=full)
    program = str(Path(sys.executable).with_name("wan-tui"))

    def one(env: dict[str, str]) -> Figures:
        since = time.perf_counter()
        subprocess.run([program, "models", "list"], stdout=subprocess.DEVNULL, env=env, check=True)
        return {"seconds": time.perf_counter() - since}

    one(full), one(empty)
    taken = _turns({"empty": partial(one, empty), "full": partial(one, full)}, ROUNDS)
    print(f"models list, {REPOS} models of {FILES} files, lock files and digests ({ROUNDS} turns)")
    median = {name: statistics.median(one["seconds"] for one in figures) for name, figures in taken.items()}
    for name, seconds in median.items():
        print(f"  {name:<16} {seconds * 1e3:.1f} ms   {seconds / median['empty']:.2f}x")


# --- turns ------------------------------------------------------------------------------------------------------------


def _turns(tasks: dict[str, Callable[[], Figures]], count: int) -> dict[str, list[Figures]]:
    """Each task `count` times, one after another, so that a slow moment of the machine meets them all."""
    taken: dict[str, list[Figures]] = {name: [] for name in tasks}
    again = AGAIN
    for _ in range(count):
        while True:
            with _others() as others:
                turn = {name: task() for name, task in tasks.items()}
            if others[0] <= FREE or not again:
                break
            again -= 1
        if others[0] > FREE:
            print(f"  (other programs took {others[0]:.0%} of the cores in this turn)", flush=True)
        for name, figures in turn.items():
            taken[name].append(figures)
    return taken


def _versus(taken: dict[str, list[Figures]], size: int) -> dict[str, float]:
    """Print ours beside theirs; the best time of each."""
    best = {}
    for name in (OURS, THEIRS):
        times = [one["seconds"] for one in taken[name]]
        best[name] = min(times)
        print(f"  {name:<16} {best[name]:.2f} s ({size / best[name] / MB:.0f} MB/s), at worst {max(times):.2f} s")
    pairs = [b["seconds"] / a["seconds"] for a, b in zip(taken[OURS], taken[THEIRS], strict=True)]
    turns = ", ".join(f"{ratio:.2f}" for ratio in pairs)
    print(f"  theirs / ours: {best[THEIRS] / best[OURS]:.3f}x of the best; turn by turn {turns}")
    return best


@contextmanager
def _others() -> Iterator[list[float]]:
    """The share of all cores that went to other programs, or was withheld by the host, during the block."""
    share = [0.0]
    before, since = _taken_by_others(), time.monotonic()
    yield share
    spent = (time.monotonic() - since) * (os.cpu_count() or 1)
    share[0] = (_taken_by_others() - before) / spent


def _taken_by_others() -> float:
    """CPU seconds of this box less those of our process group: what ran, in it and out of it, since they began."""
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    ours = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == os.getpgrp() or fields[1] == "2":  # the kernel's threads write what we wrote to disk
            ours += sum(map(int, fields[11:15]))  # of itself, and of its children that ended
    return (user + nice + system + irq + soft + steal - ours) / tick


def _child(task: str, *arguments: object, env: dict[str, str]) -> Figures:
    """Run one task of this file in a fresh process; what it measured."""
    command = [sys.executable, "-m", "benchmarks.library", "--task", task, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(done.stdout))


# --- the tasks, each in its own process -------------------------------------------------------------------------------


@contextmanager
def _timed() -> Iterator[Figures]:
    """Wall and CPU seconds of the block, and how far memory rose in it."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    figures: Figures = {"base": _memory_of("VmRSS")}
    cpu, since = _cpu(), time.perf_counter()
    yield figures
    figures["seconds"] = time.perf_counter() - since
    figures["cpu"] = _cpu() - cpu
    figures["peak"] = _memory_of("VmHWM") - figures["base"]


def _memory_of(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{name}:"))


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def task_verify(who: str, model: str) -> Figures:
    from huggingface_hub import HfApi

    from engine.catalog import load_catalog
    from engine.control import Control
    from engine.events import Bus
    from engine.library.item import Item
    from engine.library.verify import verify

    item = Item(*load_catalog().find(model))
    api = HfApi()
    api.model_info  # noqa: B018  (its module is loaded by now)
    for _ in range(2):  # the second counts: a virtual machine is slow to give a new process its second core
        with _timed() as figures:
            if who == OURS:
                good = verify(item, Bus(), Control()).state == "verified"
            else:
                found = api.verify_repo_checksums(f"bench/{model}")
                good = not found.mismatches and not found.missing_paths
        assert good
    return figures


def task_download(who: str, model: str) -> Figures:
    import httpx2  # noqa: F401
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # noqa: F401

    from engine.catalog import load_catalog
    from engine.control import Control
    from engine.events import Bus
    from engine.library.download import download
    from engine.library.item import Item

    item = Item(*load_catalog().find(model))
    with _timed() as figures:
        if who == OURS:
            good = download(item, Bus(), Control()).state == "verified"
        else:
            good = Path(snapshot_download(f"bench/{model}")).is_dir()
    assert good
    return figures


def task_rates(*files: str) -> Figures:
    """Bytes/s of one thread: hashing what is in memory, reading files from the page cache, and both at once."""
    buffer = memoryview(bytearray(os.urandom(BLOCK)))
    since, sha = time.perf_counter(), hashlib.sha256()
    for _ in range(64):
        sha.update(buffer)
    hashed = 64 * BLOCK / (time.perf_counter() - since)
    for _ in range(2):  # the first brings them into the cache
        size, since = 0, time.perf_counter()
        for file in files:
            with open(file, "rb", buffering=0) as stream:
                while read := stream.readinto(buffer):
                    size += read
        reading = size / (time.perf_counter() - since)
    size, since, sha = 0, time.perf_counter(), hashlib.sha256()
    with open(max(files, key=os.path.getsize), "rb", buffering=0) as stream:
        small = buffer[: 1 << 20]
        while read := stream.readinto(small):
            sha.update(small[:read])
            size += read
    return {"hash": hashed, "read": reading, "file": size / (time.perf_counter() - since)}


def task_cancel(model: str, tries: str) -> Figures:
    from engine.catalog import load_catalog
    from engine.control import Control
    from engine.errors import Cancelled
    from engine.events import Bus
    from engine.library.download import download
    from engine.library.item import Item
    from engine.paths import hub_cache

    item = Item(*load_catalog().find(model))
    dice = random.Random(1)
    times, parts = [], []

    def part() -> int:
        """What is there of the largest file."""
        sizes = [0]
        for path in hub_cache().glob("*/.wan-tui/parts/*"):
            with suppress(FileNotFoundError):  # a small file is whole by now
                sizes.append(path.stat().st_size)
        return max(sizes)

    def stop(control: Control, at: list[float]) -> None:
        until = time.monotonic() + 20
        while part() < STALL_AT * 0.9 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2 + dice.random() * 0.3)  # beyond the first pause before a retry
        at.append(time.perf_counter())
        control.cancel()

    for _ in range(int(tries)):
        control, at = Control(), list[float]()
        thread = threading.Thread(target=stop, args=(control, at))
        thread.start()
        try:
            download(item, Bus(), control)
            raise AssertionError("it came to its end")
        except Cancelled:
            times.append(time.perf_counter() - at[0])
        thread.join()
        parts.append(part())
        shutil.rmtree(hub_cache())
    kept = sum(size > 0 for size in parts)
    return {"median": statistics.median(times), "worst": max(times), "kept": kept, "part": min(parts)}


def task_fill() -> Figures:
    """A library as downloads leave it: blobs, links, lock files, and every digest remembered."""
    from engine.library.digest import Digest, Digests
    from engine.library.listing import File, Listing
    from engine.library.place import cached_place
    from engine.library.store import link

    digests = Digests()
    for number in range(REPOS):
        repo = f"bench/model-{number}"
        place = cached_place(repo, hashlib.sha1(repo.encode()).hexdigest())
        files = []
        for index in range(FILES):
            data = os.urandom(2_000)
            files.append(File(f"transformer/part-{index}.safetensors", len(data), hashlib.sha256(data).hexdigest()))
            store = place.store(files[-1])
            place.make_parents(store)
            store.write_bytes(data)
            link(place, files[-1])
            digests.learn(store, Digest(files[-1].etag), store.stat())
        Listing(repo, place.commit or "", tuple(files), "main").save(place.lock)
    digests.save()
    return {}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--task", task, *rest]:
            print(json.dumps(globals()[f"task_{task}"](*rest)))
        case _:
            main()
