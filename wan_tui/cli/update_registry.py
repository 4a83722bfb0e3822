"""`wan-tui update-registry`: newer compatibility facts over those that ship."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from engine.compat.registry_update import update_registry
from engine.units import counted
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    done = update_registry(Path(args.file).expanduser())
    if args.json:
        changes = [{"key": one.key, "old": one.old, "new": one.new} for one in done.changes]
        answer = {"file": done.file, "sha256": done.sha256, "revised": str(done.revised), "kept": str(done.kept)}
        print(json.dumps({**answer, "changes": changes}, indent=2))
        return 0
    for one in done.changes:
        what = f"changed  {one.key}: {_text(one.old)} -> " if one.old is not None else f"added    {one.key}: "
        print(plain(what + _text(one.new)))
    count = counted(len(done.changes), "fact") if done.changes else "nothing new"
    print(plain(f"merged   {count} of {done.file}, which is of {done.revised}; kept in {done.kept}"))
    return 0


def _text(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)
