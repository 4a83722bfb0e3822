"""`wan-tui trust list|add|revoke`: models whose code or pickles the user accepts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from engine.catalog import load_catalog
from engine.compat.offer import make_offer
from engine.compat.trust import Record, read_store, remember, store_file
from engine.control import Control
from engine.errors import Cancelled, Exit
from wan_tui.cli.ask import agreed
from wan_tui.cli.errors import log_to_file
from wan_tui.signals import Signals
from wan_tui.text import plain
from wan_tui.vouching import CODE_CAN, anatomy_at, content, found, revoked

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
    yield from content(record)


# --- add --------------------------------------------------------------------------------------------------------------


def _add(args: argparse.Namespace, control: Control) -> int:
    item, path = found(args.model, load_catalog())
    offer = make_offer(item, anatomy_at(path), control, _tell)
    record = offer.record
    _tell(f"{record.model} brings:", *content(record))
    if record.code:
        _tell(CODE_CAN)
    if not agreed(f"Trust {record.model} with exactly this?", control, yes=args.yes, as_json=_as_json(args)):
        _tell("Nothing was trusted.")
        return Exit.CANCELLED
    aside = remember(record, offer.source)
    if aside:
        _tell(f"warning: the list of trusted models could not be used, and is now {aside}: what it held is not trusted")
    kept = [f"  copy     {record.copy}"] if record.code else []
    _answer(args, _as_dict(record), f"trusted  {record.model}, until any of it changes", *kept)
    return Exit.DONE


# --- revoke -----------------------------------------------------------------------------------------------------------


def _revoke(args: argparse.Namespace, control: Control) -> int:
    gone = revoked(args.model)
    _answer(args, _as_dict(gone), f"revoked  {gone.model}")
    return Exit.DONE


# --- saying -----------------------------------------------------------------------------------------------------------


def _as_json(args: argparse.Namespace) -> bool:
    return bool(getattr(args, "json", False))


def _tell(*lines: str) -> None:
    """Each is one line, whatever stands in it: names of files and classes are text of strangers."""
    print("\n".join(map(plain, lines)), file=sys.stderr, flush=True)


def _answer(args: argparse.Namespace, value: object, *lines: str) -> None:
    print(json.dumps(value, indent=2) if _as_json(args) else "\n".join(map(plain, lines)))
