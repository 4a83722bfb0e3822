"""The tasks that are measured, each in a process of its own: `python -m benchmarks.library.tasks TASK …`.

What was measured is printed as JSON.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MB = 10**6
BLOCK = 8 << 20
REPOS, FILES = 40, 25
STALL_AT = 8 * MB
OURS, THEIRS = "ours", "huggingface_hub"
Figures = dict[str, float]


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


def verifying(who: str, model: str) -> Figures:
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


def downloading(who: str, model: str) -> Figures:
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


def rates(*files: str) -> Figures:
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


def cancelling(model: str, tries: str) -> Figures:
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

    def stop(control: Control, at: list[float]) -> None:
        until = time.monotonic() + 20
        while _part(hub_cache()) < STALL_AT * 0.9 and time.monotonic() < until:
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
        parts.append(_part(hub_cache()))
        shutil.rmtree(hub_cache())
    kept = sum(size > 0 for size in parts)
    return {"median": statistics.median(times), "worst": max(times), "kept": kept, "part": min(parts)}


def _part(cache: Path) -> int:
    """What is there of the largest file under way."""
    sizes = [0]
    for path in cache.glob("*/.wan-tui/parts/*"):
        with suppress(FileNotFoundError):  # a small file is whole by now
            sizes.append(path.stat().st_size)
    return max(sizes)


def filling() -> Figures:
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


TASKS: dict[str, Callable[..., Figures]] = {
    "verify": verifying,
    "download": downloading,
    "rates": rates,
    "cancel": cancelling,
    "fill": filling,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
