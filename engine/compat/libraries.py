"""Whether the libraries of this installation have what a model needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.compat.anatomy import Anatomy
from engine.compat.classes import has_class
from engine.compat.finding import Finding, remedy
from engine.compat.folder import LIBRARIES
from engine.compat.needs import unmet
from engine.compat.registry import Facts, Registry
from engine.library.item import Item

_ASKED_FOR = ("Wan", "Autoencoder", "UMT5")  # other classes are refused by name, or have a stand-in here


def facts_of(item: Item, anatomy: Anatomy | None, registry: Registry) -> Facts:
    """What is known of a model; of a folder, what is known of its pipeline."""
    spec = item.spec
    if spec.pipeline is None and anatomy and anatomy.folder:
        spec = replace(spec, pipeline=anatomy.folder.pipeline)
    return registry.facts(spec, item.variant)


def judge_libraries(item: Item, facts: Facts, anatomy: Anatomy | None) -> Iterator[Finding]:
    """Packages that its pipeline misses here, and classes that the installed libraries lack."""
    needs = unmet(facts.requires)
    mend = remedy("install-deps", "install-deps", item.id)
    for need in needs:
        has = f"{need.installed} is installed" if need.installed else "it is not installed"
        message = f"{item.id} needs {need.requirement}, and {has}."
        yield Finding("error", "missing-dependency", message, remedies=(mend,))
    classes = {("diffusers", facts.pipeline)} if facts.pipeline else set()
    if anatomy:
        classes |= {(part.library, part.kind) for part in anatomy.components.values()}
    for library, kind in sorted(classes):
        if library in LIBRARIES and kind.startswith(_ASKED_FOR) and has_class(library, kind) is False:
            yield Finding(
                "error",
                "class-missing",
                f"{item.id} needs {kind}, which the installed {library} does not have.",
                suggestions=(f"Install a version of {library} that has it.",),
                remedies=(mend,) if needs else (),
            )
