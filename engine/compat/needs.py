"""Which packages a model misses in this installation. Nothing of them is imported."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_MOST_TEXT = 200
# pip takes an argument that ends so for a file where one of that name lies in the working folder.
_ARCHIVE = re.compile(r"\.(whl|zip|tar|gz|tgz|bz2|tbz|xz|txz|lz|tlz|lzma)$", re.IGNORECASE)
_VERSION = re.compile(r"^Version:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)


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
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    # What Debian and old editable installations leave is an egg-info: a folder with PKG-INFO, or only that file.
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or found.read_text("") or ""
    # The library's own `version` parses all of what is a mail to it, which takes ten times as long.
    said = _VERSION.search(text.split("\n\n", 1)[0])
    return said.group(1) if said else None


def _meets(requirement: Requirement, installed: str) -> bool:
    try:
        return requirement.specifier.contains(Version(installed), prereleases=True)
    except InvalidVersion:
        return not requirement.specifier
