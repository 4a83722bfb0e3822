"""Where a model lies on disk, and whether it is whole: found from names and indexes, without a network or torch.

`MODELS_ROOT/<owner>/<name>` is looked at first, then the Hugging Face cache.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import ModelSpec
from engine.paths import data_place, hub_cache, models_root


@dataclass(frozen=True)
class OnDisk:
    """A model on this box. `state` is absent, partial or complete; `present_bytes` counts what is there."""

    state: str
    path: Path | None = None
    revision: str | None = None
    present_bytes: int = 0


def locate(spec: ModelSpec) -> OnDisk:
    """The most complete copy of a model on this box."""
    found = [_look(path, spec, revision) for path, revision in _places(spec) if path.is_dir()]
    order = ("absent", "partial", "complete")
    return max(found, key=lambda copy: order.index(copy.state), default=OnDisk("absent"))


def _places(spec: ModelSpec) -> list[tuple[Path, str | None]]:
    """Folders a model may lie in, the preferred one first, with the commit each is of where that is known."""
    if spec.builtin:
        return [(data_place() / spec.id, None)]
    if spec.path:
        return [(spec.path, None)]
    if not spec.repo:
        return []
    root = models_root()
    plain: list[tuple[Path, str | None]] = [(root / spec.repo, None)] if root else []
    cached = hub_cache() / f"models--{spec.repo.replace('/', '--')}"
    commits = [spec.revision, _commit_of(cached, spec.revision or "main"), _commit_of(cached, "main")]
    snapshots = [(cached / "snapshots" / commit, commit) for commit in dict.fromkeys(commits) if commit]
    return plain + snapshots


def _commit_of(cached: Path, branch: str) -> str | None:
    try:
        commit = (cached / "refs" / branch).read_text().strip()
    except (OSError, ValueError):
        return None
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def _look(path: Path, spec: ModelSpec, revision: str | None) -> OnDisk:
    needed = [path / "model_index.json"]
    for component in spec.required:
        needed += _needed(path / component)
    present = [file for file in needed if file.is_file()]
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if not present:
        return OnDisk("partial" if size else "absent", path if size else None, revision, size)
    return OnDisk("complete" if len(present) == len(needed) else "partial", path, revision, size)


def _needed(component: Path) -> list[Path]:
    """The files without which a component does not load."""
    for index in component.glob("*.safetensors.index.json"):
        try:
            shards = json.loads(index.read_bytes())["weight_map"].values()
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return [component / "a readable index of its shards"]
        return [component / str(shard) for shard in sorted(set(map(str, shards)))]
    if component.name in ("scheduler", "tokenizer", "image_processor"):
        return sorted(component.glob("*.json"))[:1] or [component / "config.json"]
    return [component / "config.json", *(sorted(component.glob("*.safetensors")) or [component / "weights"])]
