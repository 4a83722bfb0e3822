"""Weights that are no pipeline in diffusers layout: what they are, told by the names of their tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.compat.anatomy import MOST_TENSORS, PICKLES, Anatomy, header
from engine.compat.finding import Finding, as_finding
from engine.compat.gguf import read_gguf
from engine.compat.recognise import Recognised, recognise
from engine.compat.schema import INDEX
from engine.errors import ModelError
from engine.library.jsonfile import read_json
from engine.library.weights import Tensor, bad_weights, read_shard

_HEADERS = {".safetensors": read_shard, ".gguf": read_gguf}
_MOST_FILES = 2000  # a folder of weights has some dozens
_MOST_SEEN = 5 * MOST_TENSORS
_DEEPEST = 3


def read_loose(path: Path, error: ModelError) -> Anatomy:
    """What lies where no pipeline is; `error` is why it is none."""
    if not path.is_dir():
        return _file(path)
    return _folder(path, error)


def _file(path: Path) -> Anatomy:
    """A single file: told by its tensors."""
    if path.suffix.lower() in PICKLES:
        return Anatomy(path, "pickle")
    if path.suffix.lower() not in _HEADERS:
        return Anatomy(path, "none")
    try:
        found = recognise_file(path)
    except ModelError as error:
        return Anatomy(path, "single-file", findings=(as_finding(error),))
    return Anatomy(path, _layout(found), recognised={path.name: found})


def recognise_file(path: Path) -> Recognised:
    """What a file of weights is. Raises `ModelError` (`bad-weights`)."""
    shard = header(path, _HEADERS[path.suffix.lower()])
    gguf = path.suffix.lower() == ".gguf"
    return recognise(shard.tensors, path.name, shard.metadata, "gguf" if gguf else None)


def _layout(found: Recognised) -> str:
    if found.part == "lora":
        return "lora"
    return "gguf" if found.layout == "gguf" else "single-file"


def _folder(path: Path, error: ModelError) -> Anatomy:
    """A folder that is no pipeline: what the weights in it are, shards of one folder taken together."""
    if error.code != "not-a-pipeline":  # an index that is there, and broken beyond rebuilding
        return Anatomy(path, "diffusers", findings=(as_finding(error),))
    recognised: dict[str, Recognised] = {}
    findings: list[Finding] = []
    pickles = False
    seen = 0
    for folder, files in _folders_of_weights(path):
        pickles = pickles or any(file.suffix.lower() in PICKLES for file in files)
        readable = [file for file in files if file.suffix.lower() in _HEADERS]
        for group in _groups(readable):
            if seen > _MOST_SEEN:
                break
            try:
                tensors, metadata = _read(group)
            except ModelError as bad:
                findings.append(as_finding(bad))
                continue
            seen += len(tensors)
            gguf = "gguf" if group[0].suffix.lower() == ".gguf" else None
            shown = group[0].relative_to(path).as_posix() if len(group) == 1 else f"{folder.relative_to(path)}/"
            recognised[shown] = recognise(tensors, shown, metadata, gguf)
    if _is_component(path):
        return Anatomy(path, "component", recognised=recognised, findings=tuple(findings))
    layouts = {_layout(found) for found in recognised.values() if found.wan} or set(map(_layout, recognised.values()))
    # The authors' repositories hold shards, or pickles beside one file; others keep single files in those names.
    whole = pickles or any(name.endswith("/") for name in recognised)
    if layouts == {"single-file"} and whole and any(found.layout == "original" for found in recognised.values()):
        layouts = {"original"}
    layout = layouts.pop() if len(layouts) == 1 else ("single-file" if layouts else "pickle" if pickles else "none")
    return Anatomy(path, layout, recognised=recognised, findings=tuple(findings))


def _read(group: list[Path]) -> tuple[list[Tensor], dict[str, str] | None]:
    """The tensors of some files, and the metadata of the first. Raises `ModelError`."""
    tensors: list[Tensor] = []
    metadata = None
    for file in group:
        shard = header(file, _HEADERS[file.suffix.lower()])
        metadata = shard.metadata if file == group[0] else metadata
        tensors += shard.tensors
        if len(tensors) > MOST_TENSORS:
            raise bad_weights(file.parent, f"holds more than {MOST_TENSORS} tensors")
    return tensors, metadata


def _groups(files: list[Path]) -> list[list[Path]]:
    """Shards of one model together, every other file by itself."""
    shards = [file for file in files if "-of-" in file.name]
    return ([shards] if shards else []) + [[file] for file in files if file not in shards]


def _is_component(path: Path) -> bool:
    """Whether a folder is a component of a pipeline, named in the pipeline's stead."""
    try:
        return "_class_name" in read_json(path / "config.json") and (path.parent / INDEX).exists()
    except ModelError:
        return False


def _folders_of_weights(path: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Folders with files of weights, some levels down; links to folders are not followed, and there is an end."""
    seen = 0
    for parent, folders, names in os.walk(path):
        folders[:] = sorted(folders) if len(Path(parent).relative_to(path).parts) < _DEEPEST else []
        files = [Path(parent, name) for name in sorted(names) if name.lower().endswith((*_HEADERS, *PICKLES))]
        seen += len(files)
        if files:
            yield Path(parent), files
        if seen > _MOST_FILES:
            return
