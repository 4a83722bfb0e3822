"""A model of the library held against what lies on disk: the rules of its folder, its family, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from engine.compat.anatomy import Anatomy, read_anatomy
from engine.compat.finding import Finding, Remedy, refuse, remedy
from engine.compat.folder import EXPERTS, ModelFolder, family_of
from engine.compat.libraries import facts_of, judge_libraries
from engine.compat.registry import load_registry
from engine.compat.rules import judge
from engine.compat.trusting import judge_trust
from engine.errors import ModelError
from engine.library.item import Item
from engine.library.locate import OnDisk

_LACKING = ("incomplete-model",)
_OF_CLASSES = ("class-refused", "not-a-video-vae")
_DAMAGED = ("bad-weights", "bad-model-file", "bad-config", "index-mismatch", "config-mismatch", "index-rebuilt")


def examine(item: Item, anatomy: Anatomy, base: tuple[str, ...]) -> tuple[Finding, ...]:
    """Every finding about what was read, as the model it is to be; `base` are the components its family needs."""
    findings = judge(anatomy, base, item.spec.forbidden)
    if anatomy.folder:
        trust = judge_trust(item, anatomy)
        # Of a class that comes with the model trust has the say, not the list of known ones.
        findings = tuple(one for one in findings if one.component not in trust.coded or one.code not in _OF_CLASSES)
        findings = (*trust.findings, *_as_listed(item, anatomy.folder, findings), *findings)
    return tuple(_mendable(finding, item) for finding in dict.fromkeys(findings))


def cleared(item: Item, anatomy: Anatomy) -> ModelFolder:
    """The folder as it may be loaded: with what of its code and pickles the user trusts. Raises `ModelError`."""
    if anatomy.folder is None:
        raise ModelError("not-a-pipeline", f"{anatomy.path} is not a model folder in diffusers layout.")
    return replace(anatomy.folder, grant=judge_trust(item, anatomy).grant)


def open_checked(item: Item, path: Path, base: tuple[str, ...]) -> ModelFolder:
    """The folder of a model that may run. Raises `ModelError` naming what is wrong with it."""
    anatomy = read_anatomy(path)
    facts = facts_of(item, anatomy, load_registry())
    refuse((*examine(item, anatomy, base), *judge_libraries(item, facts, anatomy)))
    return cleared(item, anatomy)


def _as_listed(item: Item, folder: ModelFolder, findings: Iterable[Finding]) -> Iterator[Finding]:
    spec = item.spec
    known = {finding.code for finding in findings}
    if "not-wan" not in known and (found := _family(folder)) not in (None, spec.family):
        yield Finding(
            "error",
            "wrong-family",
            f"{folder.path} holds a model of the family {found}, and {spec.id} is one of {spec.family}.",
            suggestions=("Check which model lies there; its own family is in its model_index.json.",),
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
    """The finding with what the program can do about it, where the model comes from a repository."""
    if not (item.sources or item.made) or finding.remedies:
        return finding
    if finding.code in _LACKING:
        return replace(finding, suggestions=(), remedies=(download(item),))
    if finding.code in _DAMAGED:
        return replace(finding, remedies=(remedy("repair", "models", "verify", item.id, "--repair"),))
    return finding


def download(item: Item) -> Remedy:
    """Fetching a model, or making the variant that is made here."""
    return remedy("download", "models", "download", item.id)


def judge_copy(item: Item, disk: OnDisk) -> Iterator[Finding]:
    """What the library knows of a copy: how much of it is here, and whether its bytes are right."""
    repair = remedy("repair", "models", "verify", item.id, "--repair")
    if disk.state == "corrupt":
        if swapped := _swapped(disk):
            yield Finding(
                "error",
                "swapped-experts",
                f"The two experts of {item.id} stand in each other's place ({swapped}).",
                "The SHA-256 of each is the one the repository lists for the other.",
                ("Exchange the folders transformer and transformer_2, or fetch them again.",),
                (repair,),
                "transformer",
            )
            return
        bad = [file.info.path for file in disk.files if file.state == "corrupt"]
        yield Finding(
            "error",
            "model-corrupt",
            f"{item.id} has damaged files: {', '.join(bad[:5])}{' …' if bad[5:] else ''}.",
            "Their size or SHA-256 is not the one the repository lists.",
            ("Fetch them again:",),
            (repair,),
        )
    elif disk.state in ("absent", "partial"):
        count = item.expected_bytes
        size = f" It has {count / 1e9:.0f} GB." if count else ""
        part = "only in part" if disk.state == "partial" else "not"
        if item.sources or item.made:
            yield Finding(
                "warning",
                "model-absent",
                f"{item.id} is {part} on this box.{size}",
                remedies=(download(item),),
            )
        else:
            message = f"{item.id} is {'not whole' if disk.state == 'partial' else 'not'} at {item.spec.path}."
            yield Finding("error", "model-absent", message, suggestions=("Check its path.",))


def _swapped(disk: OnDisk) -> str | None:
    """The first file whose bytes are those listed for the same file of the other expert."""
    listed = {file.info.path: file.info.sha256 for file in disk.files}
    one, other = EXPERTS
    for file in disk.files:
        place, _, name = file.info.path.partition("/")
        if place in EXPERTS and file.state == "corrupt" and file.actual and name.endswith(".safetensors"):
            twin = listed.get(f"{other if place == one else one}/{name}")
            if twin and twin == file.actual.sha256 != file.info.sha256:
                return file.info.path
    return None
