"""What a model on disk is made of, read from its JSON and from the headers of its weights: never a tensor, no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.compat.finding import Finding, as_finding
from engine.compat.folder import WEIGHTLESS, ModelFolder, open_folder
from engine.errors import ModelError
from engine.library.weights import Shard, Tensor, bad_weights, read_shard

if TYPE_CHECKING:
    from engine.compat.recognise import Recognised

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class Component:
    """A component of a folder. `tensors` are those of the files that could be read, by name; `pickles` are never
    opened. `parameters` counts elements, `bytes` what they take on disk."""

    name: str
    library: str
    kind: str
    config: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    pickles: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(tensor.count for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        return sum(tensor.end - tensor.begin for tensor in self.tensors.values())

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The commonest by elements first."""
        count: Counter[str] = Counter()
        for tensor in self.tensors.values():
            count[tensor.dtype] += tensor.count
        return tuple(dtype for dtype, _ in count.most_common())


@dataclass(frozen=True)
class Anatomy:
    """What lies at a path. `layout` is diffusers, original, single-file, gguf, lora, component or none;
    `folder` and `components` are those of the diffusers layout, `recognised` is what other weights are, by file or
    folder; `findings` are what went wrong in reading."""

    path: Path
    layout: str
    folder: ModelFolder | None = None
    components: Mapping[str, Component] = field(default_factory=dict)
    recognised: Mapping[str, Recognised] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def largest(self) -> Component | None:
        """The component with most parameters."""
        return max(self.components.values(), key=lambda part: part.parameters, default=None)


def read_anatomy(path: Path) -> Anatomy:
    """Look at a folder or a file of weights; what is wrong becomes a finding. Raises `ModelError` (`model-absent`)."""
    if not os.path.lexists(path):
        raise ModelError("model-absent", f"There is nothing at {path}.", suggestions=["Check the path."])
    try:
        return _diffusers(open_folder(path))
    except ModelError as error:
        from engine.compat.loose import read_loose  # its many patterns are needed here alone

        return read_loose(path, error)


# --- diffusers layout -------------------------------------------------------------------------------------------------


def _diffusers(folder: ModelFolder) -> Anatomy:
    findings: list[Finding] = []
    components = {}
    for name, (library, kind) in folder.classes.items():
        findings += _closed(folder.path / name, name)
        try:
            config = folder.config(name)
        except ModelError as error:
            findings.append(as_finding(error, component=name))
            config = {}
        files, tensors = _weights(folder, name, findings)
        pickles = _pickles(folder.path / name) if not files and name not in WEIGHTLESS else ()
        components[name] = Component(name, library, kind, config, files, tensors, pickles)
    return Anatomy(folder.path, "diffusers", folder, components, findings=tuple(findings))


def _closed(place: Path, name: str) -> Iterator[Finding]:
    try:
        os.scandir(place).close()
    except PermissionError as error:
        message = f"{place} cannot be entered: {error.strerror}."
        yield Finding("error", "bad-model-file", message, component=name)
    except OSError:
        pass  # the rules name what is not there


def _weights(folder: ModelFolder, name: str, findings: list[Finding]) -> tuple[tuple[Path, ...], dict[str, Tensor]]:
    """The weight files a component names, and the tensors of those that can be read."""
    if name in WEIGHTLESS:
        return (), {}
    try:
        shards = folder.weight_map(name)
        files = tuple(folder.weight_files(name))
    except ModelError as error:
        findings.append(as_finding(error, component=name))
        return (), {}
    tensors: dict[str, Tensor] = {}
    for file in files:
        if not os.path.lexists(file):
            continue  # the rules name every missing one at once
        try:
            tensors.update((tensor.name, tensor) for tensor in _header(file).tensors)
        except ModelError as error:
            findings.append(as_finding(error, component=name))
    if shards and not any(finding.component == name for finding in findings) and all(map(os.path.exists, files)):
        findings += _misindexed(folder, name, shards, tensors)
    return files, tensors


def _misindexed(
    folder: ModelFolder, name: str, shards: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> Iterator[Finding]:
    """A shard of another model, or another model's index: what the index names and the shards hold differ."""
    lost = sorted(shards.keys() - tensors.keys())
    if lost:
        where = shards[lost[0]]
        yield Finding(
            "error",
            "index-mismatch",
            f"{folder.path / name}: {len(lost)} tensors that the index names are in none of the shards, among them "
            f"{lost[0]:.120} of {where:.120}.",
            "A shard of another model, or the index of another model.",
            component=name,
        )


def _header(file: Path) -> Shard:
    try:
        return read_shard(file)
    except OSError as error:
        raise bad_weights(file, "cannot be read", error.strerror or str(error)) from None


def _pickles(folder: Path) -> tuple[str, ...]:
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.name.lower().endswith(PICKLES)))
    except OSError:
        return ()
