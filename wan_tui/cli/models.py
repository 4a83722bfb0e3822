"""`wan-tui models`: what there is, and what is on disk. Works offline and without torch."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import asdict
from typing import Any

from engine.catalog import load_catalog
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import OnDisk, look
from engine.units import size
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    if args.action not in ("list", "show"):
        return int(importlib.import_module("wan_tui.cli.library").command(args))
    catalog = load_catalog()
    digests = Digests()
    if args.action == "show":
        return _show(Item(*catalog.find(args.model)), digests, as_json=args.json)
    items = [Item(spec, variant) for spec in catalog.models for variant in (None, *spec.variants)]
    found = [(item, look(item, digests)) for item in items]
    if args.installed:
        found = [(item, copy) for item, copy in found if copy.state != "absent"]
    if args.json:
        print(json.dumps([_row(item, copy) for item, copy in found], indent=2))
        return 0
    print(f"{'MODEL':<24} {'FAMILY':<8} {'STATE':<9} {'SIZE':>9}  PLACE")
    for item, copy in found:
        name = f"  :{item.variant.name}" if item.variant else item.id
        held = size(copy.present_bytes) if copy.state == "partial" else size(copy.bytes or item.expected_bytes)
        where = plain(str(copy.path)) if copy.path else ""
        print(f"{name:<24} {item.spec.family:<8} {copy.state:<9} {held:>9}  {where}".rstrip())
    return 0


def _row(item: Item, copy: OnDisk) -> dict[str, Any]:
    return {
        "id": item.spec.id,
        "variant": item.variant.name if item.variant else None,
        "family": item.spec.family,
        "state": copy.state,
        "bytes": copy.bytes or item.expected_bytes,
        "present_bytes": copy.present_bytes,
        "shared_bytes": copy.shared_bytes,
        "path": str(copy.path) if copy.path else None,
        "revision": copy.revision or (item.variant or item.spec).revision,
        "licence": item.spec.licence,
    }


def _show(item: Item, digests: Digests, *, as_json: bool) -> int:
    spec, copy = item.spec, look(item, digests)
    defaults = asdict(spec.defaults)
    for name in ("negative_prompt", "flow_shift_by_size"):
        del defaults[name]
    variants = [Item(spec, variant) for variant in spec.variants] if item.variant is None else []
    card: dict[str, Any] = {
        **_row(item, copy),
        "title": spec.title,
        "kind": item.variant.kind if item.variant else None,
        "runnable": item.variant.runnable if item.variant else None,
        "tasks": list(spec.tasks),
        "repo": (item.variant and item.variant.repo) or spec.repo,
        "pipeline": spec.pipeline,
        "sizes": [f"{w}x{h}" for w, h in spec.sizes],
        "defaults": defaults,
        "note": spec.note,
        "variants": [{**_row(one, look(one, digests)), "kind": one.variant and one.variant.kind} for one in variants],
        "files": [
            {"path": file.info.path, "state": file.state, "bytes": file.info.size, "present_bytes": file.present_bytes}
            for file in copy.files
        ],
    }
    if as_json:
        print(json.dumps(card, indent=2))
        return 0
    for key, value in card.items():
        if key not in ("variants", "files") and not (value is None and key in ("variant", "kind", "runnable")):
            print(f"{key:<14} {plain(_text(key, value))}")
    for one in card["variants"]:
        print(plain(f"{':' + one['variant']:<14} {one['kind']}, {one['state']}, {size(one['bytes'])}"))
    for file in card["files"]:
        print(plain(f"  {file['state']:<9} {size(file['bytes']):>9}  {file['path']}"))
    return 0


def _text(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:g}" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return ", ".join(value)
    if key.endswith("bytes"):
        return size(value)
    return "-" if value is None else str(value)
