"""Whether an installed library has a class, without importing it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_CLASS = re.compile(r"[A-Z]\w*", re.ASCII)


def has_class(library: str, name: str) -> bool | None:
    """Whether an installed diffusers or transformers has a public class of that name; None when it is not installed.

    It is read from the text of their files: importing them takes seconds.
    """
    init = _init(library)
    if init is None:
        return None
    if not _CLASS.fullmatch(name):
        return False
    # A TokenizerFast that is gone is served by the class without Fast, an ImageProcessorFast as well.
    names = [name, name[:-4]] if name.endswith(("TokenizerFast", "ImageProcessorFast")) else [name]
    if any(_lists(init, one) for one in names):
        return True
    # Where the list of models is made from their files, as in transformers, they are looked at.
    return "from .models import *" in _text(init) and _among(init.parent / "models", names)


def _init(library: str) -> Path | None:
    try:
        spec = find_spec(library)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lists(file: Path, name: str) -> bool:
    """Whether a file lists the name: as a string, in its import structure or `__all__`, or in an import."""
    text = _text(file)
    listed = rf"^[^#\n]*(?:[\"']{name}[\"']|\bimport (?:[^#\n]*\b)?{name}\b)"
    return name in text and re.search(listed, text, re.MULTILINE) is not None


def _among(models: Path, names: Sequence[str]) -> bool:
    """Whether a model's files list one of the names: `umt5/modeling_umt5.py` has `UMT5EncoderModel`."""
    try:
        folders = sorted(entry.name for entry in os.scandir(models) if entry.is_dir())
    except OSError:
        return False
    squeezed = names[0].replace("_", "").lower()
    # The folder a class is named by first: it is there in nearly all cases, and all of them are tens of megabytes.
    near = [folder for folder in folders if squeezed.startswith(folder.replace("_", "").lower())]
    near.sort(key=len, reverse=True)
    others = [folder for folder in folders if folder not in near]
    files = (file for folder in (*near, *others) for file in sorted((models / folder).glob("*.py")))
    return any(_exports(file, names) for file in files)


def _exports(file: Path, names: Sequence[str]) -> bool:
    """Whether one of the names is in the `__all__` of a file, which stands at its end."""
    public = _text(file).rpartition("\n__all__ = ")[2]
    return re.search(rf"[\"']({'|'.join(names)})[\"']", public) is not None
