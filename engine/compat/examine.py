"""A model of the library held against what lies on disk: the rules of its folder, its family, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.compat.anatomy import Anatomy, read_anatomy
from engine.compat.copy import AGAIN, download
from engine.compat.finding import Finding, refuse, remedy
from engine.compat.folder import ModelFolder, family_of
from engine.compat.foreign import judge_foreign
from engine.compat.grant import Grant
from engine.compat.libraries import facts_of, judge_libraries
from engine.compat.registry import load_registry
from engine.compat.rules import judge
from engine.compat.trusting import judge_trust
from engine.errors import ModelError
from engine.library.item import Item

_LACKING = ("incomplete-model",)
_OF_CLASSES = ("class-refused", "not-a-video-vae")
_DAMAGED = ("bad-weights", "bad-model-file", "bad-config", "index-mismatch", "config-mismatch", "index-rebuilt")


@dataclass(frozen=True)
class Admitted:
    """A folder that may be loaded, with what of its code and pickles the user trusts; and what is to be told of it."""

    folder: ModelFolder
    warnings: tuple[Finding, ...]


def examine(item: Item, anatomy: Anatomy, base: tuple[str, ...]) -> tuple[Finding, ...]:
    """Every finding about what was read, as the model it is to be; `base` are the components its family needs."""
    return _examined(item, anatomy, base)[0]


def _examined(item: Item, anatomy: Anatomy, base: tuple[str, ...]) -> tuple[tuple[Finding, ...], Grant | None]:
    if anatomy.folder is None:
        return (*anatomy.findings, *judge_foreign(anatomy)), None
    trust = judge_trust(item, anatomy)
    findings = judge(anatomy, base, item.spec.forbidden)
    # Of a class that comes with the model trust has the say, not the list of known ones.
    findings = tuple(one for one in findings if one.component not in trust.coded or one.code not in _OF_CLASSES)
    findings = (*trust.findings, *_as_listed(item, anatomy.folder, findings), *findings)
    return tuple(_mendable(finding, item) for finding in dict.fromkeys(findings)), trust.grant


def admit(item: Item, path: Path, base: tuple[str, ...]) -> Admitted:
    """The folder of a model that may run. Raises `ModelError` naming what is wrong with it."""
    anatomy = read_anatomy(path)
    findings, grant = _examined(item, anatomy, base)
    refuse((*findings, *judge_libraries(item, facts_of(item, anatomy, load_registry()), anatomy)))
    assert anatomy.folder is not None  # nothing else is without an error
    warnings = tuple(finding for finding in findings if finding.severity == "warning")
    return Admitted(replace(anatomy.folder, grant=grant), warnings)


def folder_in(anatomy: Anatomy) -> ModelFolder:
    """The folder of a pipeline. Raises `ModelError` telling what lies there instead."""
    if anatomy.folder is None:
        refuse((*anatomy.findings, *judge_foreign(anatomy)))
        raise AssertionError("what is no pipeline has an error")
    return anatomy.folder


def cleared(item: Item, anatomy: Anatomy) -> ModelFolder:
    """The folder of a model that was found sound, as it may be loaded. Raises `ModelError` where it holds none."""
    return replace(folder_in(anatomy), grant=judge_trust(item, anatomy).grant)


def _as_listed(item: Item, folder: ModelFolder, findings: Iterable[Finding]) -> Iterator[Finding]:
    spec = item.spec
    known = {finding.code for finding in findings}
    if "not-wan" not in known and (found := _family(folder)) not in (None, spec.family):
        yield Finding(
            "error",
            "wrong-family",
            f"{folder.path} holds a model of the family {found}, and {spec.id} is one of {spec.family}.",
            suggestions=(f'Name another folder, or set family = "{found}" for {spec.id} in {spec.source}.',),
        )
    if spec.two_experts and folder.boundary_ratio is None and "no-boundary" not in known:
        yield Finding(
            "error",
            "no-boundary",
            f"{folder.path / 'model_index.json'} has no boundary_ratio, and {spec.id} has two experts: the second "
            "would never run.",
            suggestions=("Restore model_index.json from the repository.",),
        )


def _family(folder: ModelFolder) -> str | None:
    try:
        return family_of(folder)
    except ModelError:
        return None


def _mendable(finding: Finding, item: Item) -> Finding:
    """The finding with what the program can do about it, where the model comes from a repository, or with it."""
    if item.spec.builtin and finding.severity == "error":
        return replace(finding, suggestions=(AGAIN,), remedies=())
    if not (item.sources or item.made) or finding.remedies:
        return finding
    if finding.code in _LACKING:
        return replace(finding, suggestions=(), remedies=(download(item),))
    if finding.code in _DAMAGED:
        return replace(finding, remedies=(remedy("repair", "models", "verify", item.id, "--repair"),))
    return finding
