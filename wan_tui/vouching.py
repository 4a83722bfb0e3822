"""What a model brings that needs trust: found, and told in words, for the command line and the screen alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.catalog import Catalog, load_catalog
from engine.compat.anatomy import Anatomy, read_anatomy
from engine.compat.finding import refuse, remedy
from engine.compat.identify import folder_item
from engine.compat.trust import Record, forget, key_of, read_store, store_file
from engine.errors import JobError, ModelError
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import look
from engine.units import size

CODE_CAN = "Its code can do everything you can do: read it before you agree."


def content(record: Record) -> Iterator[str]:
    """What of it runs, and every file with its hash."""
    where = f"{record.repo} at commit {record.revision}" if record.repo else record.path
    for label, (path, kind) in record.uses.items():
        yield f"  runs     {kind} of {path} as {label}, from {where}"
    for kind, files in (("code", record.code), ("pickle", record.pickles)):
        for path, file in files.items():
            yield f"  {kind:<8} {path}, {size(file.bytes)}, SHA-256 {file.sha256}"


def found(reference: str, catalog: Catalog) -> tuple[Item, Path]:
    """The model and where it lies. Raises `JobError` and `ModelError` when there is none."""
    from engine.runtime.check import subject

    about = subject(reference, catalog)
    if about.item is None:
        path = Path(os.path.realpath(about.path or reference))
        anatomy = anatomy_at(path)
        assert anatomy.folder  # or it was refused
        return folder_item(anatomy.folder, catalog), path
    item = about.item
    here = item.spec.path or look(item, Digests()).path
    if here is None or not (here / "model_index.json").is_file():
        raise ModelError(
            "model-absent",
            f"{item.id} is not on this box: what it brings cannot be told.",
            suggestions=[f"Download it: {remedy('download', 'models', 'download', item.id).command}"],
            actions=["download"],
        )
    return item, here


def anatomy_at(path: Path) -> Anatomy:
    """What a folder holds. Raises `ModelError` where nothing of it can be trusted."""
    anatomy = read_anatomy(path)
    if anatomy.folder is None:
        refuse(anatomy.findings)
        raise ModelError(
            "not-a-pipeline",
            f"{path} is no model folder in diffusers layout: nothing of it can be trusted.",
            suggestions=["Name the folder that holds model_index.json."],
        )
    return anatomy


def revoked(reference: str) -> Record:
    """Take back the trust in a model; what was trusted of it. Raises `ModelError` where it is not trusted."""
    store = read_store()
    if store.broken:
        raise ModelError(
            "not-trusted",
            f"{store_file()} cannot be used ({store.broken}): no model is trusted.",
            suggestions=[store.cure],
        )
    for key in _keys(reference, store.records):
        if gone := forget(key):
            return gone
    raise ModelError(
        "not-trusted",
        f"{reference} is not trusted: there is nothing to revoke.",
        suggestions=["`wan-tui trust list` names those that are."],
    )


def _keys(reference: str, known: Mapping[str, Record]) -> Iterator[str]:
    """What a model may be remembered under, also one whose folder or entry in the manifest is gone."""
    yield from (key for key in (reference, os.path.realpath(os.path.expanduser(reference))) if key in known)
    if "/" not in reference:
        try:
            yield key_of(Item(*load_catalog().find(reference)))
        except JobError:
            return
