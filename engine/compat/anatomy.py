"""What a model on disk is made of, read from its JSON and from the headers of its weights: never a tensor, no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.compat.finding import Finding, as_finding
from engine.compat.folder import WEIGHTLESS, ModelFolder, open_folder
from engine.errors import ModelError
from engine.library.weights import Shard, Tensor, bad_weights, read_shard

if TYPE_CHECKING:
    from engine.compat.recognise import Recognised

MOST_TENSORS = 20_000  # of a component; the largest there is has some 1,500
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class Component:
    """A component of a folder. `tensors` are those of the files that could be read, by name; `indexed` is tensor to
    file, as the index of its shards has it; `pickles` are never opened. `parameters` counts elements, `bytes` what they
    take on disk."""

    name: str
    library: str
    kind: str
    config: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    indexed: Mapping[str, str] = field(default_factory=dict)
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
        files, tensors, indexed = _weights(folder, name, findings)
        pickles = _pickles(folder.path / name) if not files and name not in WEIGHTLESS else ()
        components[name] = Component(name, library, kind, config, files, tensors, indexed, pickles)
    return Anatomy(folder.path, "diffusers", folder, components, findings=tuple(findings))


def _closed(place: Path, name: str) -> Iterator[Finding]:
    try:
        os.scandir(place).close()
    except PermissionError as error:
        message = f"{place} cannot be entered: {error.strerror}."
        yield Finding("error", "bad-model-file", message, component=name)
    except OSError:
        pass  # the rules name what is not there


def _weights(
    folder: ModelFolder, name: str, findings: list[Finding]
) -> tuple[tuple[Path, ...], dict[str, Tensor], Mapping[str, str]]:
    """The weight files a component names, the tensors of those that can be read, and the index of its shards."""
    if name in WEIGHTLESS:
        return (), {}, {}
    tensors: dict[str, Tensor] = {}
    files: tuple[Path, ...] = ()
    shards: Mapping[str, str] = {}
    try:
        shards = folder.weight_map(name) or {}
        files = tuple(folder.weight_files(name))
    except ModelError as error:
        findings.append(as_finding(error, component=name))
    for file in files:
        if not os.path.lexists(file):
            continue  # the rules name every missing one at once
        try:
            tensors.update((tensor.name, tensor) for tensor in header(file).tensors)
            if len(tensors) > MOST_TENSORS:
                raise bad_weights(folder.path / name, f"holds more than {MOST_TENSORS} tensors")
        except ModelError as error:
            findings.append(as_finding(error, component=name))
            if len(tensors) > MOST_TENSORS:
                break
    return files, tensors, shards


def header(file: Path, read: Callable[[Path], Shard] = read_shard) -> Shard:
    """The header of a file of weights. Raises `ModelError` (`bad-weights`)."""
    try:
        return read(file)
    except OSError as error:
        raise bad_weights(file, "cannot be read", error.strerror or str(error)) from None


def _pickles(folder: Path) -> tuple[str, ...]:
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted(entry.name for entry in entries if entry.name.lower().endswith(PICKLES)))
    except OSError:
        return ()
