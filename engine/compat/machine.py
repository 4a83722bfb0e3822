"""The box a model is to run on: its cards, memory, disk and libraries, asked without loading any of them."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.compat.needs import installed_version
from engine.hardware import Card, cards
from engine.host import host_memory
from engine.paths import hub_cache, models_root

_LIBRARIES = ("torch", "diffusers", "transformers", "huggingface_hub", "safetensors", "tokenizers", "accelerate")


@dataclass(frozen=True)
class Machine:
    """What this box has. `torch_for` is what its torch was built for: cuda, hip, cpu, or None where it is absent."""

    cards: tuple[Card, ...]
    driver: str | None
    ram_bytes: int
    ram_free_bytes: int
    disk_free_bytes: int | None
    disk: Path
    torch_for: str | None
    versions: dict[str, str | None]

    @property
    def card(self) -> Card | None:
        """The card a job takes by itself: that with most free memory; None where torch cannot use one."""
        usable = self.cards if self.torch_for == "cuda" else ()
        return max(usable, key=lambda card: card.free_bytes or 0, default=None)

    @property
    def has_bf16(self) -> bool:
        """Whether jobs run in bf16 here. What ROCm runs on, and it computes in bf16, is known to torch alone."""
        return self.torch_for == "hip" or bool(self.card and self.card.has_bf16)

    def as_dict(self) -> dict[str, Any]:
        return {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "versions": self.versions,
            "torch_built_for": self.torch_for,
            "driver": self.driver,
            "devices": [{**asdict(card), "bf16": card.has_bf16} for card in self.cards],
            "cpus": os.cpu_count(),
            "ram_bytes": self.ram_bytes,
            "ram_free_bytes": self.ram_free_bytes,
            "disk": str(self.disk),
            "disk_free_bytes": self.disk_free_bytes,
        }


def this_machine() -> Machine:
    found, driver = cards()
    total, free = host_memory()
    disk = models_root() or hub_cache()
    versions = {name: installed_version(name) for name in _LIBRARIES}
    return Machine(found, driver, total, free, _free(disk), disk, _torch_for(), versions)


def _free(folder: Path) -> int | None:
    """Bytes free where a folder is, or will be made."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def _torch_for() -> str | None:
    """What torch was built for, from the text of its version file."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((kind for kind in ("cuda", "hip") if re.search(rf"^{kind}\b[^=\n]*= *['\"]", text, re.M)), "cpu")
