"""`wan-tui config show|path|init`: the settings of the app."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from engine.errors import Exit, JobError, RunError
from engine.paths import write_atomic
from wan_tui.cli.errors import answered
from wan_tui.cli.layout import laid_out, width_of
from wan_tui.settings import bad_keys, read_settings, settings_file
from wan_tui.settings_fields import FIELDS
from wan_tui.settings_text import commented_file
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    match args.action:
        case "show":
            return _show(as_json=args.json)
        case "path":
            return _path(as_json=args.json)
        case _:
            return _init(as_json=args.json)


def _show(*, as_json: bool) -> int:
    from wan_tui.actions import BY_ID
    from wan_tui.themes import known_themes

    file = settings_file()
    settings, from_file, problems = read_settings()
    themes, theme_problems = known_themes()
    problems += bad_keys(settings, BY_ID) + theme_problems
    if settings.theme not in ("auto", *themes):
        problems += (f"{file}: there is no theme {settings.theme}; there are {', '.join(sorted(themes))}.",)
    rows = [
        {"key": name, "value": _value(getattr(settings, name)), "origin": "file" if name in from_file else "default"}
        for name in FIELDS
    ]
    if as_json:
        answer = {"path": str(file), "exists": file.exists(), "settings": rows, "problems": problems}
        return answered(json.dumps(answer, indent=2), Exit.DONE)
    if problems:
        print(laid_out((f"warning: {problem}" for problem in problems), width_of(sys.stderr)), file=sys.stderr)
    lines = [f"{row['key']:<14} {_text(row['value']):<12} {row['origin']}" for row in rows]
    end = "" if file.exists() else "   (not there: wan-tui config init makes it)"
    return answered("\n".join(plain(line) for line in (*lines, f"{'file':<14} {file}{end}")), Exit.DONE)


def _path(*, as_json: bool) -> int:
    file = settings_file()
    answer = json.dumps({"path": str(file), "exists": file.exists()}) if as_json else plain(str(file))
    return answered(answer, Exit.DONE)


def _init(*, as_json: bool) -> int:
    file = settings_file()
    if os.path.lexists(file):
        message = f"{file} is there already; nothing was written."
        raise JobError("config-exists", message, suggestions=["wan-tui config show says what holds."])
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(file, commented_file().encode())
    except OSError as error:
        raise RunError("config-not-written", f"{file} could not be written: {error.strerror}.") from None
    return answered(json.dumps({"path": str(file)}) if as_json else plain(str(file)), Exit.DONE)


def _value(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | bool) else dict(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return ", ".join(f"{id} = {keys}" for id, keys in value.items()) or "none"
