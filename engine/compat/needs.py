"""Which packages a model misses in this installation, and how they are installed. Nothing of them is imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from engine.control import Control
from engine.errors import Cancelled

_MOST_TEXT = 200
_LOOK_S = 0.2
_PATIENCE_S = 10.0  # for pip to take back what it began
# pip takes an argument that ends so for a file where one of that name lies in the working folder.
_ARCHIVE = re.compile(r"\.(whl|zip|tar|gz|tgz|bz2|tbz|xz|txz|lz|tlz|lzma)$", re.IGNORECASE)
_VERSION = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_CLASS = re.compile(r"[A-Z]\w*", re.ASCII)


@dataclass(frozen=True)
class Need:
    """A requirement that is not met; `installed` is the version that is here, None when there is none."""

    requirement: str
    installed: str | None


def read_requirement(text: str) -> Requirement:
    """A package and the versions that will do, and nothing else. Raises `ValueError` saying what is wrong."""
    if len(text) > _MOST_TEXT or not (text.isascii() and text.isprintable()):
        raise ValueError(f"is no plain text of at most {_MOST_TEXT} characters")
    try:
        read = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError("is not a package and its versions") from error
    extra = {"a URL": read.url, "extras": read.extras, "a marker": read.marker}
    if found := [name for name, value in extra.items() if value]:
        raise ValueError(f"carries {found[0]}")
    if any(one.operator == "===" for one in read.specifier) or _ARCHIVE.search(str(read.specifier)):
        raise ValueError("has no version that can be compared")
    # The canonical name has no dots: `evil.zip` must not be read as a file by an installer.
    return Requirement(f"{canonicalize_name(read.name)}{read.specifier}")


def unmet(requirements: Iterable[str]) -> tuple[Need, ...]:
    """Those that what is installed does not meet. Local versions (`+cpu`) and development versions count."""
    needs = []
    for requirement in map(read_requirement, requirements):
        installed = installed_version(requirement.name)
        if installed is None or not _meets(requirement, installed):
            needs.append(Need(str(requirement), installed))
    return tuple(needs)


def installed_version(name: str) -> str | None:
    """The version of an installed package; None when it is absent, or what is left of it does not say."""
    try:
        text = importlib.metadata.distribution(name).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    # The library's own `version` parses all of what is a mail to it, which takes ten times as long.
    found = _VERSION.search(text.split("\n\n", 1)[0])
    return found.group(1) if found else None


def _meets(requirement: Requirement, installed: str) -> bool:
    try:
        return requirement.specifier.contains(Version(installed), prereleases=True)
    except InvalidVersion:
        return not requirement.specifier


# --- classes ----------------------------------------------------------------------------------------------------------


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


# --- installing -------------------------------------------------------------------------------------------------------


def install_command(needs: Sequence[Need]) -> tuple[str, ...] | None:
    """What installs these needs into this installation; None where there is neither pip nor uv."""
    requirements = tuple(need.requirement for need in needs)
    if not sys.executable:
        return None
    if find_spec("pip"):
        return (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *requirements)
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", "--python", sys.executable, *requirements)
    return None


def install(command: Sequence[str], control: Control | None = None) -> int:
    """Run an installer and return its exit status; what it says goes to standard error.

    A stop is passed on, and the installer takes back what it began. Raises `Cancelled`.
    """
    with subprocess.Popen(
        command,
        stdin=None if os.isatty(0) else subprocess.DEVNULL,  # it may ask for a password, where somebody can answer
        stdout=2,
        stderr=2,
    ) as installer:
        try:
            status = _wait(installer, control or Control())
        finally:
            importlib.invalidate_caches()
    return status


def _wait(installer: subprocess.Popen[bytes], control: Control) -> int:
    try:
        while True:
            control.check()
            try:
                return installer.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    except Cancelled:
        installer.send_signal(signal.SIGINT)
        try:
            installer.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            installer.kill()
        raise
