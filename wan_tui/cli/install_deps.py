"""`wan-tui install-deps`: the packages a model's pipeline misses here; they are installed when the user agrees."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from engine.catalog import ModelSpec, Variant, load_catalog
from engine.compat.folder import open_folder
from engine.compat.identify import folder_item
from engine.compat.install import install, install_command
from engine.compat.needs import Need, unmet
from engine.compat.registry import Facts, load_registry
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError, ModelError, RunError
from engine.runtime.check import subject
from wan_tui.cli.ask import agreed
from wan_tui.signals import Signals
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    signals, control = Signals(), Control()
    signals.on_stop(control.cancel)
    try:
        return _run(args, control)
    except Cancelled:
        return Exit.TERMINATED if control.reason == "terminated" else Exit.CANCELLED


def _run(args: argparse.Namespace, control: Control) -> int:
    spec, variant = _named(args.model)
    name = f"{spec.id}:{variant.name}" if variant else spec.id
    facts = _facts(spec, variant)
    needs = unmet(facts.requires)
    wanted = install_command(needs) if needs else ()
    answer = {
        "model": name,
        "missing": [_row(need, facts) for need in needs],
        "command": list(wanted) if wanted is not None else None,
        "installed": False,
    }
    if not needs:
        _say(args, answer, f"{name}: nothing is missing.")
        return Exit.DONE
    if wanted is None:
        raise RunError(
            "no-installer",
            f"{name} misses {_listed(needs)}, and neither pip nor uv is here to install it.",
            suggestions=["Install them the way this Python was installed.", f"{sys.executable} -m ensurepip"],
        )
    if not args.json:
        print("\n".join(plain(line) for line in (*_lines(needs, facts), f"command  {shlex.join(wanted)}")), flush=True)
    refused = _refused(args, answer, control)
    if refused is not None:
        return refused
    before = _versions()
    _install(name, wanted, needs, control)
    after = _versions()
    asked = [str(canonicalize_name(Requirement(need.requirement).name)) for need in needs]
    also = _also(before, after, asked)
    done = ", ".join(f"{one} {after.get(one)}" for one in asked)
    _say(args, {**answer, "installed": True, "also": also}, f"installed  {done}: nothing is missing for {name} now.")
    return Exit.DONE


def _facts(spec: ModelSpec, variant: Variant | None) -> Facts:
    """What is known of the model; what of the files of facts is broken is told and left out."""
    registry = load_registry()
    for problem in registry.problems:
        print(plain(f"warning: {problem}"), file=sys.stderr)
    return registry.facts(spec, variant)


def _refused(args: argparse.Namespace, answer: Mapping[str, Any], control: Control) -> int | None:
    """The status to end with when nobody agrees to the command; None when it may run."""
    try:
        if agreed("Run this command?", control, yes=args.yes, as_json=args.json):
            return None
    except JobError as error:
        if not args.json:
            raise
        print(json.dumps({**answer, **error.as_dict()}, indent=2))  # readers of either find their keys in one object
        return error.status
    print("Nothing was installed.", file=sys.stderr)
    return Exit.CANCELLED


def _also(before: Mapping[str, str], after: Mapping[str, str], asked: Sequence[str]) -> dict[str, str | None]:
    """What changed besides what was asked for, which is what the needs themselves need; it is told as well."""
    others = sorted({*before, *after}.difference(asked))
    also = {one: after.get(one) for one in others if before.get(one) != after.get(one)}
    for one, version in also.items():
        was, now = before.get(one) or "absent", version or "absent"
        print(plain(f"also     {one}: {was} before, {now} now"), file=sys.stderr)
    return also


def _named(reference: str) -> tuple[ModelSpec, Variant | None]:
    """The model that is named: an id of the catalog, or a folder in diffusers layout."""
    catalog = load_catalog()
    about = subject(reference, catalog)
    if about.item:
        return about.item.spec, about.item.variant
    folder = open_folder(Path(os.path.realpath(about.path or ".")))
    return replace(folder_item(folder, catalog).spec, pipeline=folder.pipeline), None


def _install(name: str, wanted: Sequence[str], needs: Sequence[Need], control: Control) -> None:
    try:
        status = install(wanted, control)
    except OSError as error:
        raise RunError("install-failed", f"{wanted[0]} cannot be run: {error.strerror}.") from error
    if status:
        raise RunError(
            "install-failed",
            f"The installation ended with status {status}; what it said stands above.",
            cause=f"The command was: {shlex.join(wanted)}",
            suggestions=["Run this command yourself, with what your box needs besides."],
        )
    if left := unmet(need.requirement for need in needs):
        has = "; ".join(f"{one.requirement}: {_has(one)}" for one in left)
        raise ModelError(
            "still-missing",
            f"The installation ended well, and {name} still misses {_listed(left)}.",
            cause=f"For {sys.executable}: {has}.",
            suggestions=["See above where it was installed to; PIP_TARGET, PIP_USER and the like send it elsewhere."],
        )


def _versions() -> dict[str, str]:
    """Every installed package with its version; of two by one name the one that is imported."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        if "Name" in one.metadata and "Version" in one.metadata:  # what a broken installation left has neither
            found.setdefault(str(canonicalize_name(one.metadata["Name"])), one.metadata["Version"])
    return found


# --- words ------------------------------------------------------------------------------------------------------------


def _say(args: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    print(json.dumps(answer, indent=2) if args.json else plain(text))


def _row(need: Need, facts: Facts) -> dict[str, Any]:
    return {
        "requirement": need.requirement,
        "installed": need.installed,
        "asked_by": facts.asked_by(need.requirement),
    }


def _lines(needs: Sequence[Need], facts: Facts) -> list[str]:
    """Each need with its reason; and where the program itself has a say in the version, what that is."""
    lines = []
    own = _own_requirements()
    for need in needs:
        lines.append(f"missing  {need.requirement}: {_has(need)}; asked for by {facts.asked_by(need.requirement)}")
        if limits := own.get(Requirement(need.requirement).name):
            lines.append(f"         wan-tui itself works with {limits}: where the two exclude each other, update it")
    return lines


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
