"""The packages a model's pipeline misses here, and installing them, for the command line and the screen alike."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from engine.catalog import ModelSpec, Variant, load_catalog
from engine.compat.folder import open_folder
from engine.compat.identify import folder_item
from engine.compat.install import install, install_command
from engine.compat.needs import Need, unmet
from engine.compat.registry import Facts, load_registry
from engine.control import Control
from engine.errors import ModelError, RunError
from engine.runtime.check import subject


@dataclass(frozen=True)
class Missing:
    """What `name` misses: `command` installs it, and is empty where nothing is missing; `problems` are sentences about
    files of facts that are broken."""

    name: str
    needs: tuple[Need, ...]
    facts: Facts
    command: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Installed:
    """`versions` are what was asked for, `also` what changed besides: package to (before, after), None for absent."""

    versions: Mapping[str, str | None]
    also: Mapping[str, tuple[str | None, str | None]]


def missing(reference: str) -> Missing:
    """What the model or folder that is named misses here. Raises `RunError` where nothing could install it."""
    spec, variant = _named(reference)
    name = f"{spec.id}:{variant.name}" if variant else spec.id
    registry = load_registry()
    facts = registry.facts(spec, variant)
    needs = unmet(facts.requires)
    command = install_command(needs) if needs else ()
    if command is None:
        raise RunError(
            "no-installer",
            f"{name} misses {_listed(needs)}, and neither pip nor uv is here to install it.",
            suggestions=["Install them the way this Python was installed.", f"{sys.executable} -m ensurepip"],
        )
    return Missing(name, needs, facts, command, registry.problems)


def _named(reference: str) -> tuple[ModelSpec, Variant | None]:
    """The model that is named: an id of the catalog, or a folder in diffusers layout."""
    catalog = load_catalog()
    about = subject(reference, catalog)
    if about.item:
        return about.item.spec, about.item.variant
    folder = open_folder(Path(os.path.realpath(about.path or ".")))
    return replace(folder_item(folder, catalog).spec, pipeline=folder.pipeline), None


def install_missing(wanted: Missing, control: Control, *, said: str, answered: bool = True) -> Installed:
    """Run the command. `said` is where what the installer says can be read: "above"; `answered` is whether somebody
    can answer what it asks. Raises what went wrong."""
    before = _versions()
    _install(wanted, control, said, answered)
    after = _versions()
    asked = [str(canonicalize_name(Requirement(need.requirement).name)) for need in wanted.needs]
    others = sorted({*before, *after}.difference(asked))
    also = {one: (before.get(one), after.get(one)) for one in others if before.get(one) != after.get(one)}
    return Installed({one: after.get(one) for one in asked}, also)


def _install(wanted: Missing, control: Control, said: str, answered: bool) -> None:
    try:
        status = install(wanted.command, control, answered=answered)
    except OSError as error:
        raise RunError("install-failed", f"{wanted.command[0]} cannot be run: {error.strerror}.") from error
    if status:
        raise RunError(
            "install-failed",
            f"The installation ended with status {status}; what it said stands {said}.",
            cause=f"The command was: {shlex.join(wanted.command)}",
            suggestions=["Run this command yourself, with what your box needs besides."],
        )
    if left := unmet(need.requirement for need in wanted.needs):
        has = "; ".join(f"{one.requirement}: {_has(one)}" for one in left)
        raise ModelError(
            "still-missing",
            f"The installation ended well, and {wanted.name} still misses {_listed(left)}.",
            cause=f"For {sys.executable}: {has}.",
            suggestions=[
                f"Where it was installed to stands {said}; PIP_TARGET, PIP_USER and the like send it elsewhere."
            ],
        )


def _versions() -> dict[str, str]:
    """Every installed package with its version; of two by one name the one that is imported."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        if "Name" in one.metadata and "Version" in one.metadata:  # what a broken installation left has neither
            found.setdefault(str(canonicalize_name(one.metadata["Name"])), one.metadata["Version"])
    return found


# --- words ------------------------------------------------------------------------------------------------------------


def need_lines(wanted: Missing) -> list[str]:
    """Each need with its reason; and where the program itself has a say in the version, what that is."""
    lines = []
    own = _own_requirements()
    for need in wanted.needs:
        asked_by = wanted.facts.asked_by(need.requirement)
        lines.append(f"missing  {need.requirement}: {_has(need)}; asked for by {asked_by}")
        if limits := own.get(Requirement(need.requirement).name):
            lines.append(f"         wan-tui itself works with {limits}: where the two exclude each other, update it")
    return lines


def installed_line(wanted: Missing, done: Installed) -> str:
    """What is there now."""
    there = ", ".join(f"{package} {version}" for package, version in done.versions.items())
    return f"{there}: nothing is missing for {wanted.name} now."


def also_lines(done: Installed) -> list[str]:
    """What changed besides what was asked for."""
    return [f"{one}: {was or 'absent'} before, {now or 'absent'} now" for one, (was, now) in done.also.items()]


def _own_requirements() -> dict[str, str]:
    """What this program asks for, by package; nothing where it runs from a folder that was not installed."""
    try:
        texts = importlib.metadata.requires("wan-tui") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    for text in texts:
        try:
            one = Requirement(text)
        except InvalidRequirement:
            continue
        if one.marker is None and one.specifier:
            found[str(canonicalize_name(one.name))] = f"{one.name}{one.specifier}"
    return found


def _has(need: Need) -> str:
    return f"{need.installed} is installed" if need.installed else "not installed"


def _listed(needs: Sequence[Need]) -> str:
    return " and ".join(need.requirement for need in needs)
