"""`wan-tui models`: what there is, and what is on disk. Works offline and without torch."""

from __future__ import annotations

import argparse
import json
from typing import Any

from engine.catalog import ModelSpec, load_catalog
from engine.library.locate import locate
from wan_tui.cli.errors import plain


def command(args: argparse.Namespace) -> int:
    catalog = load_catalog()
    if args.action == "show":
        spec, _ = catalog.find(args.model)
        return _show(spec, as_json=args.json)
    rows = [_row(spec) for spec in catalog.models]
    if args.installed:
        rows = [row for row in rows if row["state"] != "absent"]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'MODEL':<22} {'FAMILY':<8} {'STATE':<9} {'SIZE':>9}  PLACE")
    for row in rows:
        where = plain(row["path"]) if row["path"] else ""
        print(f"{row['id']:<22} {row['family']:<8} {row['state']:<9} {size(row['bytes']):>9}  {where}".rstrip())
    return 0


def _row(spec: ModelSpec) -> dict[str, Any]:
    disk = locate(spec)
    return {
        "id": spec.id,
        "variant": None,
        "family": spec.family,
        "state": disk.state,
        "bytes": spec.bytes,
        "present_bytes": disk.present_bytes,
        "path": str(disk.path) if disk.path else None,
        "revision": disk.revision or spec.revision,
    }


def _show(spec: ModelSpec, *, as_json: bool) -> int:
    d = spec.defaults
    card: dict[str, Any] = {
        **_row(spec),
        "title": spec.title,
        "tasks": list(spec.tasks),
        "repo": spec.repo,
        "licence": spec.licence,
        "pipeline": spec.pipeline,
        "sizes": [f"{w}x{h}" for w, h in spec.sizes],
        "defaults": {
            "steps": d.steps,
            "guidance": d.guidance,
            "guidance_2": d.guidance_2,
            "flow_shift": d.flow_shift,
            "frames": d.frames,
            "fps": d.fps,
            "width": d.width,
            "height": d.height,
        },
        "note": spec.note,
    }
    if as_json:
        print(json.dumps(card, indent=2))
        return 0
    for key, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v:g}" for k, v in value.items() if v is not None)
        elif isinstance(value, list):
            value = ", ".join(value)
        elif key.endswith("bytes"):
            value = size(value)
        print(f"{key:<14} {plain(str(value)) if value is not None else '-'}")
    return 0


def size(count: int | None) -> str:
    """Bytes for people, in the units files are sold in; `?` where unknown."""
    if count is None:
        return "?"
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count} B"
