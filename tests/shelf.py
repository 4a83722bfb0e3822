"""A small library: repositories on a loopback Hub, a manifest that names them, and ways to spoil what came of them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from engine.catalog import load_catalog
from engine.control import Control
from engine.events import Bus, Event
from engine.library.digest import Digests
from engine.library.download import download
from engine.library.hub import Manners
from engine.library.item import Item
from engine.library.locate import FileState, OnDisk, look
from engine.library.verify import Verified, verify
from engine.paths import hub_cache
from tests.local_hub import LocalHub

SHARD = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"
MANNERS = Manners(tries=1, pause_s=0.01, stalled_s=5.0)
VARIANTS: list[dict[str, Any]] = [
    {"name": "fp8", "kind": "fp8-scaled", "repo": "demo/single", "files": ["split/high.safetensors", "split/low.gguf"]},
    {"name": "q4", "kind": "gguf", "repo": "demo/single", "files": ["q4.gguf"]},
    {"name": "light", "kind": "lora-4-steps", "repo": "demo/single", "files": ["lora.safetensors"]},
    {"name": "whole", "kind": "fp16", "repo": "demo/whole"},
]


def rand(seed: object, count: int) -> bytes:
    return random.Random(str(seed)).randbytes(count)


def model_files(seed: str) -> dict[str, bytes]:
    """A repository of the layout pipelines have, with weights of random bytes."""
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"metadata": {}, "weight_map": {"a": shards[0], "b": shards[1]}}
    return {
        "model_index.json": json.dumps({"_class_name": "WanPipeline", "seed": seed}).encode(),
        "scheduler/scheduler_config.json": b'{"flow_shift": 3.0}',
        "text_encoder/config.json": json.dumps({"seed": seed}).encode(),
        "text_encoder/model.safetensors": rand("text", 30_000),  # the same in every model
        "tokenizer/tokenizer.json": b"{}",
        "transformer/config.json": json.dumps({"seed": seed, "layers": 2}).encode(),
        "transformer/diffusion_pytorch_model.safetensors.index.json": json.dumps(index).encode(),
        f"transformer/{shards[0]}": rand(seed + "1", 50_000),
        f"transformer/{shards[1]}": rand(seed + "2", 50_000),
        "vae/config.json": b'{"z_dim": 16}',
        "vae/diffusion_pytorch_model.safetensors": rand(seed + "vae", 20_000),
        "README.md": b"# prose",
        "assets/picture.png": rand("picture", 5_000),
        "old.bin": rand("pickle", 5_000),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@dataclass
class Shelf:
    """A Hub and a manifest with the model `mine@1.0` of demo/one, its variants, and `other@1.0` of demo/two."""

    hub: LocalHub
    manifest: Path

    def item(self, reference: str = "mine") -> Item:
        return Item(*load_catalog().find(reference))

    def look(self, reference: str = "mine") -> OnDisk:
        return look(self.item(reference), Digests())

    def file(self, name: str, reference: str = "mine") -> FileState:
        return next(file for file in self.look(reference).files if file.info.path == name)

    def download(self, reference: str = "mine", **more: Any) -> OnDisk:
        return download(self.item(reference), Bus(), Control(), manners=MANNERS, **more)

    def client(self, repo: str = "demo/one", **more: Any) -> Path:
        """What the Hugging Face client makes of it."""
        from huggingface_hub import snapshot_download

        # Its own idea of the cache is that of the first test: a local folder would be filled from there.
        return Path(snapshot_download(repo, endpoint=self.hub.url, etag_timeout=5, cache_dir=hub_cache(), **more))

    def verify(self, reference: str = "mine", **more: Any) -> Verified:
        return verify(self.item(reference), Bus(), Control(), **more)

    def write_manifest(self, **more: Any) -> None:
        model = {"family": "t2v", "repo": "demo/one", "revision": "main"}
        models = {
            "mine@1.0": {"title": "Mine", **model, "variants": VARIANTS},
            "other@1.0": {"title": "Other", **model, "repo": "demo/two"},
            **more,
        }
        self.manifest.write_text(tomli_w.dumps({"models": models}), encoding="utf-8")

    def bodies(self) -> list[str]:
        """The files of which bytes were sent, in order."""
        self.hub.settled()
        rows = self.hub.requests("GET", "*/resolve/*")
        return [row.path.split("/resolve/")[1].partition("/")[2] for row in rows if row.sent]

    def break_off(self, path: str, after: int) -> None:
        """Send so many bytes of a file, and then nothing more."""
        self.hub.fault(path, drop_after=after, times=1)
        self.hub.fault(path, status=503)

    def asked(self) -> int:
        return len(self.hub.records())


@contextmanager
def make_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    root = tmp_path / "hub"
    for name in ("one", "two", "whole"):
        write(root / "demo" / name, model_files(name))
    single = {"split/high.safetensors": 9_000, "split/low.gguf": 8_000, "q4.gguf": 7_000, "lora.safetensors": 6_000}
    write(root / "demo" / "single", {name: rand(name, count) for name, count in single.items()})
    for file in root.rglob("*"):
        os.utime(file, (1, 1))  # the server hashes what is old once
    with LocalHub(root) as hub:
        shelf = Shelf(hub, tmp_path / "manifest.toml")
        shelf.write_manifest()
        monkeypatch.setenv("WAN_MODELS_MANIFEST", str(shelf.manifest))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield shelf


def tick() -> None:
    """Until the clock of the file system has moved on: a change within one tick of it has no other time."""
    time.sleep(0.02)


def flip(path: Path) -> None:
    """Change one byte in place."""
    tick()
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a folder with its inode, modification time and bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def inodes(*folders: Path) -> dict[tuple[int, int], int]:
    """The regular files below folders, and how many bytes each has; the client's notes on who shares a blob aside."""
    found = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                info = os.lstat(os.path.join(parent, name))
                if not os.path.islink(os.path.join(parent, name)) and not name.endswith(".refs"):
                    found[info.st_dev, info.st_ino] = info.st_size
    return found


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self, bus: Bus) -> None:
        self.events: list[Event] = []
        self._mailbox = bus.subscribe(self.events.append)

    def all(self) -> list[Event]:
        self._mailbox.close(5)
        return self.events
