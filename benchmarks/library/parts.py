"""What is measured, a part each: its task in fresh processes, and what came of it, printed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.library.served import Bench, drop
from benchmarks.library.tasks import FILES, MB, OURS, REPOS, STALL_AT, THEIRS, Figures
from benchmarks.library.turns import turns, versus
from tests.local_hub import spawn

ROUNDS = 15


def verify(bench: Bench, args: argparse.Namespace) -> None:
    bench.repo("weights", [args.verify_mb * MB] * 2)
    with spawn(bench.folder / "served") as hub:
        env = bench.home(hub)
        _child("download", OURS, "weights", env=env)
        os.sync()
        files = sorted((Path(env["HF_HOME"]) / "hub" / "models--bench--weights" / "blobs").iterdir())
        tasks = {name: partial(_child, "verify", name, "weights", env=env) for name in (OURS, THEIRS)}
        # Read first in each turn: a kernel may drop from its cache what was not touched for a while.
        taken = turns({"rates": partial(_child, "rates", *files, env=env), **tasks}, args.pairs)
    total = 2 * args.verify_mb * MB
    print(f"verify, 2 x {args.verify_mb} MB in the page cache, {args.pairs} turns")
    best = versus(taken, total)
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


def download(bench: Bench, args: argparse.Namespace) -> None:
    bench.repo("weights", [args.download_mb * MB] * 4)
    with spawn(bench.folder / "served") as hub:

        def one(who: str) -> Figures:
            env = bench.home(hub)
            try:
                return _child("download", who, "weights", env=env)
            finally:
                drop(env)
                os.sync()

        one(OURS)  # the hub counts its digests
        for rate in (args.rate * MB, None):
            hub.set(rate=rate)
            said = f"served at {rate / MB:.0f} MB/s" if rate else "not throttled"
            taken = turns({name: partial(one, name) for name in (OURS, THEIRS)}, args.turns)
            print(f"download, 4 x {args.download_mb} MB and 12 small files, {said}, {args.turns} turns")
            versus(taken, 4 * args.download_mb * MB)
            for name in (OURS, THEIRS):
                print(f"  {name:<16} {min(one['cpu'] for one in taken[name]):.2f} s of CPU")


def memory(bench: Bench, args: argparse.Namespace) -> None:
    print("memory of a download: peak RSS above what the process had after its imports")
    for size in args.memory_mb:
        bench.repo(f"one-{size}", [size * MB])
    with spawn(bench.folder / "served") as hub:
        for size in args.memory_mb:
            env = bench.home(hub)
            figures = _child("download", OURS, f"one-{size}", env=env)
            print(f"  {size:>5} MB file: {figures['peak'] / MB:.1f} MB above {figures['base'] / MB:.1f} MB")
            drop(env)


def cancel(bench: Bench, args: argparse.Namespace) -> None:
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
            drop(env)


def listing(bench: Bench, args: argparse.Namespace) -> None:
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
    taken = turns({"empty": partial(one, empty), "full": partial(one, full)}, ROUNDS)
    print(f"models list, {REPOS} models of {FILES} files, lock files and digests ({ROUNDS} turns)")
    median = {name: statistics.median(one["seconds"] for one in figures) for name, figures in taken.items()}
    for name, seconds in median.items():
        print(f"  {name:<16} {seconds * 1e3:.1f} ms   {seconds / median['empty']:.2f}x")


def _child(task: str, *arguments: object, env: dict[str, str]) -> Figures:
    """Run one of the tasks in a fresh process; what it measured."""
    command = [sys.executable, "-m", "benchmarks.library.tasks", task, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(done.stdout))
