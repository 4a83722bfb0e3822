"""`wan-tui trust list|add|revoke`: models whose code or pickles the user accepts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.catalog import Catalog, load_catalog
from engine.compat.anatomy import Anatomy, read_anatomy
from engine.compat.finding import refuse, remedy
from engine.compat.identify import folder_item
from engine.compat.offer import make_offer
from engine.compat.trust import Record, forget, key_of, read_store, remember, store_file
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError, ModelError
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import look
from engine.units import size
from wan_tui.cli.ask import agreed
from wan_tui.cli.errors import log_to_file
from wan_tui.signals import Signals
from wan_tui.text import plain

_LOOK_S = 0.2


def command(args: argparse.Namespace) -> int:
    signals = Signals()
    log_to_file()
    control = Control()
    signals.on_stop(control.cancel)
    verbs = {"list": _list, "add": _add, "revoke": _revoke}
    try:
        return verbs[args.action](args, control)
    except Cancelled:
        return Exit.TERMINATED if control.reason == "terminated" else Exit.CANCELLED


# --- list -------------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace, control: Control) -> int:
    store = read_store()
    if store.broken:
        _tell(f"warning: {store_file()} cannot be used ({store.broken}): no model is trusted", f"  do:  {store.cure}")
    records = store.records.values()
    lines = [line for record in records for line in _lines(record)] or ["No model is trusted."]
    _answer(args, [_as_dict(record) for record in records], *lines)
    return Exit.DONE


def _as_dict(record: Record) -> dict[str, Any]:
    files = [
        {"path": path, "kind": kind, "bytes": file.bytes, "sha256": file.sha256}
        for kind, files in (("code", record.code), ("pickle", record.pickles))
        for path, file in files.items()
    ]
    return {
        "id": record.model,
        "path": record.path,
        "when": record.when,
        "repo": record.repo,
        "revision": record.revision,
        "classes": {label: {"file": path, "class": kind} for label, (path, kind) in record.uses.items()},
        "files": files,
    }


def _lines(record: Record) -> Iterator[str]:
    yield f"{record.model}, trusted {record.when}"
    yield from _content(record)


def _content(record: Record) -> Iterator[str]:
    where = f"{record.repo} at commit {record.revision}" if record.repo else record.path
    for label, (path, kind) in record.uses.items():
        yield f"  runs     {kind} of {path} as {label}, from {where}"
    for kind, files in (("code", record.code), ("pickle", record.pickles)):
        for path, file in files.items():
            yield f"  {kind:<8} {path}, {size(file.bytes)}, SHA-256 {file.sha256}"


# --- add --------------------------------------------------------------------------------------------------------------


def _add(args: argparse.Namespace, control: Control) -> int:
    item, path = _found(args.model, load_catalog())
    offer = make_offer(item, _anatomy(path), control, _tell)
    record = offer.record
    _tell(f"{record.model} brings:", *_content(record))
    if record.code:
        _tell("Its code can do everything you can do: read it before you agree.")
    if not agreed(f"Trust {record.model} with exactly this?", control, yes=args.yes, as_json=_as_json(args)):
        _tell("Nothing was trusted.")
        return Exit.CANCELLED
    aside = remember(record, offer.source)
    if aside:
        _tell(f"warning: the list of trusted models could not be used, and is now {aside}: what it held is not trusted")
    kept = [f"  copy     {record.copy}"] if record.code else []
    _answer(args, _as_dict(record), f"trusted  {record.model}, until any of it changes", *kept)
    return Exit.DONE


def _found(reference: str, catalog: Catalog) -> tuple[Item, Path]:
    """The model and where it lies. Raises `JobError` and `ModelError` when there is none."""
    from engine.runtime.check import subject

    about = subject(reference, catalog)
    if about.item is None:
        path = Path(os.path.realpath(about.path or reference))
        anatomy = _anatomy(path)
        assert anatomy.folder  # or it was refused
        return folder_item(anatomy.folder, catalog), path
    item = about.item
    found = item.spec.path or look(item, Digests()).path
    if found is None or not (found / "model_index.json").is_file():
        raise ModelError(
            "model-absent",
            f"{item.id} is not on this box: what it brings cannot be told.",
            suggestions=[f"Download it: {remedy('download', 'models', 'download', item.id).command}"],
            actions=["download"],
        )
    return item, found


def _anatomy(path: Path) -> Anatomy:
    anatomy = read_anatomy(path)
    if anatomy.folder is None:
        refuse(anatomy.findings)
        raise ModelError(
            "not-a-pipeline",
            f"{path} is no model folder in diffusers layout: nothing of it can be trusted.",
            suggestions=["Name the folder that holds model_index.json."],
        )
    return anatomy


# --- revoke -----------------------------------------------------------------------------------------------------------


def _revoke(args: argparse.Namespace, control: Control) -> int:
    store = read_store()
    if store.broken:
        raise ModelError(
            "not-trusted",
            f"{store_file()} cannot be used ({store.broken}): no model is trusted.",
            suggestions=[store.cure],
        )
    gone = None
    for key in _keys(args.model, store.records):
        gone = gone or forget(key)
    if gone is None:
        raise ModelError(
            "not-trusted",
            f"{args.model} is not trusted: there is nothing to revoke.",
            suggestions=["`wan-tui trust list` names those that are."],
        )
    _answer(args, _as_dict(gone), f"revoked  {gone.model}")
    return Exit.DONE


def _keys(reference: str, known: Mapping[str, Record]) -> Iterator[str]:
    """What a model may be remembered under, also one whose folder or entry in the manifest is gone."""
    yield from (key for key in (reference, os.path.realpath(os.path.expanduser(reference))) if key in known)
    if "/" not in reference:
        try:
            yield key_of(Item(*load_catalog().find(reference)))
        except JobError:
            return


# --- saying -----------------------------------------------------------------------------------------------------------


def _as_json(args: argparse.Namespace) -> bool:
    return bool(getattr(args, "json", False))


def _tell(*lines: str) -> None:
    """Each is one line, whatever stands in it: names of files and classes are text of strangers."""
    print("\n".join(map(plain, lines)), file=sys.stderr, flush=True)


def _answer(args: argparse.Namespace, value: object, *lines: str) -> None:
    print(json.dumps(value, indent=2) if _as_json(args) else "\n".join(map(plain, lines)))
