"""`wan-tui info`: versions, places, devices, and what of the environment decides. Nothing of it is loaded or made."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from engine.errors import Exit
from engine.paths import data_place, hub_cache, models_root, shipped, state_place
from engine.sampling.figures import Sample
from engine.sampling.reader import sample_once
from engine.units import size
from wan_tui import __version__
from wan_tui.cli.errors import answered
from wan_tui.cli.gpu import device_label
from wan_tui.cli.layout import for_terminal
from wan_tui.settings import config_dir, settings_file

_LIBRARIES = ("torch", "diffusers", "transformers", "huggingface_hub", "textual")
_VARIABLES = (
    *("MODELS_ROOT", "WAN_MODELS_MANIFEST"),
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"),
    *("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "all_proxy", "no_proxy"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "OMP_NUM_THREADS"),
    *("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"),
    *("EDITOR", "VISUAL", "NO_COLOR", "COLORTERM", "TERM", "LANG", "LC_ALL", "LC_CTYPE"),
)
_PREFIXES = ("WAN_TUI_", "TEXTUAL_")
# In an address all that stands before the host, and what looks like a token wherever it stands.
_SECRET = re.compile(r"(?:(?<=//)|^)[^/\s]+(?=@)|(?<![A-Za-z0-9])hf_[A-Za-z0-9]{8,}")


def command(args: argparse.Namespace) -> int:
    sample = sample_once()
    answer = {
        "versions": _versions(),
        "paths": _paths(),
        "devices": [
            {key: getattr(gpu, key) for key in ("uuid", "torch_index", "name", "total_bytes", "lost", "problem")}
            for gpu in sample.gpus
        ],
        "driver": sample.driver,
        "notice": sample.notice,
        "environment": _environment(),
        "terminal": _terminal(),
    }
    if args.json:
        return answered(json.dumps(answer, indent=2), Exit.DONE)
    return answered(for_terminal(_lines(answer, sample)), Exit.DONE)


def _versions() -> dict[str, str | None]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    libraries = {name: _installed(name) for name in _LIBRARIES}
    return {"wan-tui": __version__, "python": platform.python_version(), **libraries, "system": system}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _paths() -> dict[str, str | None]:
    state, root = state_place(), models_root()
    paths: dict[str, Path | None] = {
        "config": settings_file(),
        "state": state,
        "log": state / "wan-tui.log",
        "journal": state / "journal.sqlite3",
        "cache": Path(platformdirs.user_cache_dir("wan-tui")),
        "data": data_place(),
        "models_root": root,
        "hub_cache": hub_cache(),
        "themes": config_dir() / "themes",
        "shipped_themes": shipped("themes"),
    }
    return {name: None if path is None else str(path) for name, path in paths.items()}


def _environment() -> dict[str, str]:
    """The variables that are set and decide something; of a token only that it is set."""
    names = [*_VARIABLES, *sorted(name for name in os.environ if name.startswith(_PREFIXES))]
    return {name: _shown(name, os.environ[name]) for name in names if name in os.environ}


def _shown(name: str, value: str) -> str:
    return "(set)" if name.endswith(("TOKEN", "KEY", "SECRET", "PASSWORD")) else _SECRET.sub("[secret]", value)


def _terminal() -> dict[str, Any]:
    """What can be told of the terminal without asking it."""
    shown = sys.stdout.isatty()
    columns, rows = shutil.get_terminal_size() if shown else (None, None)
    inside = [
        name for name, variable in (("tmux", "TMUX"), ("screen", "STY"), ("ssh", "SSH_TTY")) if variable in os.environ
    ]
    return {"columns": columns, "rows": rows, "encoding": sys.stdout.encoding, "inside": inside}


def _lines(answer: dict[str, Any], sample: Sample) -> Iterator[str]:
    yield from _table(answer["versions"])
    yield ""
    yield from _table(answer["paths"])
    yield ""
    for gpu in sample.gpus:
        held = "—" if gpu.total_bytes is None else size(gpu.total_bytes)
        yield f"{device_label(gpu):<15} {gpu.name}, {held}, {gpu.uuid}"
    yield from _table({"driver": sample.driver})
    if sample.notice:
        yield f"{'note':<15} {sample.notice}"
    yield ""
    yield from _table(answer["environment"])
    terminal = answer["terminal"]
    place = f"{terminal['columns']}x{terminal['rows']}" if terminal["columns"] else "none"
    inside = f", inside {', '.join(terminal['inside'])}" if terminal["inside"] else ""
    yield from _table({"terminal": f"{place}, {terminal['encoding']}{inside}"})


def _table(rows: dict[str, Any]) -> Iterator[str]:
    for name, value in rows.items():
        yield f"{name:<15} {'—' if value is None else value}"
