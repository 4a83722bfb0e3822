"""Repositories to serve, and homes of their own for the processes that are measured."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.library.tasks import BLOCK
from tests.local_hub import Remote

UNSET = ("MODELS_ROOT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
QUIET = ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY")


@dataclass(frozen=True)
class Bench:
    """The folder they lie in."""

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


def drop(env: dict[str, str]) -> None:
    shutil.rmtree(env["HOME"])


def _entry(name: str) -> str:
    return f'[models."{name}"]\ntitle = "Bench"\nfamily = "t2v"\nrepo = "bench/{name}"\nrequired = ["transformer"]\n'


def _random(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for begin in range(0, size, BLOCK):
            stream.write(os.urandom(min(BLOCK, size - begin)))
