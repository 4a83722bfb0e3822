"""`check`: can this model run here, and if not, what then. No torch, no network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import Anatomy, read_anatomy
from engine.compat.copy import judge_copy
from engine.compat.examine import examine
from engine.compat.fallback import alternatives, usable_components
from engine.compat.finding import SEVERITIES, Finding, as_finding, remedy, verdict
from engine.compat.fit import fits, judge_device, judge_disk, judge_memory, need_here
from engine.compat.foreign import judge_foreign
from engine.compat.identify import alike, component_parameters, folder_item, parameters, wan_version
from engine.compat.libraries import facts_of, judge_libraries
from engine.compat.machine import Machine, this_machine
from engine.compat.registry import load_registry
from engine.errors import JobError, ModelError
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import OnDisk, look
from engine.memory.parts import model_of_folder
from engine.pipelines.families import Recipe, recipe
from engine.runtime.outlook import Outlook, judge_outlook, outlook_of, outlooks
from engine.runtime.report import Report


@dataclass(frozen=True)
class Subject:
    """What a check is about: a model of the library, or what lies at a path. `name` is fit for a file's name."""

    name: str
    item: Item | None = None
    path: Path | None = None


def subject(reference: str, catalog: Catalog) -> Subject:
    """What `MODEL|FOLDER` names. Raises `JobError` when it names nothing."""
    path = Path(os.path.expanduser(reference)).absolute()
    if "/" not in reference and not reference.startswith((".", "~")):
        try:
            item = Item(*catalog.find(reference))
            return Subject(item.id.replace(":", "-"), item)
        except JobError:
            if not os.path.lexists(path):
                raise
    name = Path(os.path.normpath(path)).name or "root"
    return Subject(name, path=path)


def check(about: Subject, catalog: Catalog) -> Report:
    """The report. Raises `ModelError` (`model-absent`) where there is nothing at a path."""
    machine = this_machine()
    if about.item:
        return _check_item(about.name, about.item, None, catalog, machine)
    assert about.path is not None  # a subject has one or the other
    path = Path(os.path.realpath(about.path))
    item, anatomy = _identify(path, catalog)
    if item:
        return _check_item(about.name, item, anatomy, catalog, machine)
    findings = (*anatomy.findings, *judge_foreign(anatomy, able(catalog)))
    families = {family for found in anatomy.recognised.values() for family in found.families}
    family = families.pop() if len(families) == 1 else None
    tasks = _tasks_of(family, catalog)
    others = alternatives(tasks, None, _candidates(catalog), partial(_fits, machine))
    return Report(about.name, path, family, None, tasks, None, anatomy, findings, machine, alternatives=others)


def _identify(path: Path, catalog: Catalog) -> tuple[Item | None, Anatomy]:
    """A folder as a model of its own, where it holds a Wan pipeline; the anatomy where it does not."""
    anatomy = read_anatomy(path)
    try:
        if anatomy.folder:
            return folder_item(anatomy.folder, catalog), anatomy
    except ModelError as error:
        if all(finding.message != error.message for finding in anatomy.findings):
            anatomy = replace(anatomy, findings=(as_finding(error), *anatomy.findings))
    return None, anatomy


# --- a model of the library, or a folder taken as one -----------------------------------------------------------------


def _check_item(name: str, item: Item, anatomy: Anatomy | None, catalog: Catalog, machine: Machine) -> Report:
    """`anatomy` is that of a folder, which was read to know that it is a model."""
    spec, disk = item.spec, look(item, Digests())
    recipes = runnable(spec)
    findings = list(_judge_support(item, recipes))
    waits = any(finding.severity == "error" for finding in findings)  # for a later version: nothing helps today
    path = spec.path or disk.path
    findings += [] if waits else _judge_place(item, disk)
    if path and os.path.lexists(path) and (spec.path or disk.whole):
        base = next(iter(recipes.values())).components if recipes else spec.required
        anatomy, found = _examined(item, disk, path, anatomy, base)
        findings += found
    registry = load_registry()
    findings += [Finding("note", "registry-left-out", problem) for problem in registry.problems]
    facts = facts_of(item, anatomy, registry)
    counts = (component_parameters(anatomy) if anatomy else None) or parameters(spec)
    like = alike(anatomy, spec.family, catalog) if anatomy and spec.path else ()
    sound = anatomy if verdict(findings) != "cannot-run" else None
    outlook = None if waits else _outlook(catalog.find(like[0])[0] if like else spec, sound, machine)
    if not waits:
        findings += [*judge_libraries(item, facts, anatomy), *judge_device(machine)]
        findings += judge_outlook(outlook) if outlook else judge_memory(counts, machine)
    if any(finding.code == "model-absent" for finding in findings) and item.expected_bytes:
        findings += judge_disk(max(0, item.expected_bytes - disk.present_bytes), machine)
    report = Report(
        name,
        path,
        spec.family,
        (wan_version(anatomy, spec.family) if anatomy else None) or spec.version[:3] or None,
        spec.tasks,
        None if spec.path else disk.state,
        anatomy,
        _ordered(findings),
        machine,
        need_here(counts, machine),
        like,
        facts=facts.as_dict(),
        outlook=outlook,
    )
    return report if report.verdict == "runs" else _with_ways_out(report, spec, catalog)


def _outlook(spec: ModelSpec, anatomy: Anatomy | None, machine: Machine) -> Outlook | None:
    """How its own clip goes onto this box; None where no plan can be made. `anatomy` is that of a sound folder.

    `spec` is the published model where the folder is built like one: a fine-tune takes what that does.
    """
    if spec.architecture or anatomy is None or anatomy.folder is None:
        return outlooks([spec], machine).get(spec.id)
    return outlook_of(spec, model_of_folder(anatomy.folder), machine)


def _fits(machine: Machine, spec: ModelSpec) -> bool | None:
    """Whether a model of the catalog goes onto this box: by a plan, else by its largest component; None is unknown."""
    known = outlooks([spec], machine).get(spec.id)
    return known.fits if known else fits(parameters(spec), machine)


def _judge_place(item: Item, disk: OnDisk) -> Iterator[Finding]:
    """Whether the model is where it should be."""
    path = item.spec.path
    if path and not os.path.lexists(path):
        message = f"{item.id} is not at {path}."
        yield Finding("error", "model-absent", message, suggestions=("Check its path.",))
    elif not path:
        yield from judge_copy(item, disk)


def _examined(
    item: Item, disk: OnDisk, path: Path, anatomy: Anatomy | None, base: tuple[str, ...]
) -> tuple[Anatomy, tuple[Finding, ...]]:
    if item.variant and item.variant.files:
        return _read_files(path, disk)
    anatomy = anatomy or read_anatomy(path)
    return anatomy, examine(item, anatomy, base)


def _with_ways_out(report: Report, spec: ModelSpec, catalog: Catalog) -> Report:
    """The report with what is left of the model, and what else would do, where that is asked for."""
    stuck = report.verdict == "cannot-run"
    small = any(finding.code in ("vram-low", "ram-low") for finding in report.findings)
    if report.like:  # what is lost is told beside the published model
        known, _ = catalog.find(report.like[0])
        spec = replace(spec, architecture=known.architecture, boundary_ratio=known.boundary_ratio)
    usable = usable_components(report.anatomy, report.findings) if report.anatomy and stuck else ()
    if not (stuck or small):
        return replace(report, usable=usable)
    others = alternatives(spec.tasks, spec, _candidates(catalog), partial(_fits, report.machine))
    return replace(report, usable=usable, alternatives=others)


def _read_files(path: Path, disk: OnDisk) -> tuple[Anatomy, tuple[Finding, ...]]:
    """What the files of a variant are that is no pipeline of its own."""
    from engine.compat.loose import recognise_file

    recognised, findings = {}, []
    for file in disk.files:
        if file.path.suffix in (".safetensors", ".gguf") and file.info.path.split("/")[0] not in _SUPPORT:
            try:
                recognised[file.info.path] = recognise_file(file.path)
            except ModelError as error:
                findings.append(as_finding(error))
    return Anatomy(path, "single-file", recognised=recognised), tuple(findings)


_SUPPORT = ("text_encoder", "vae", "image_encoder")


def _judge_support(item: Item, recipes: dict[str, Recipe]) -> Iterator[Finding]:
    """Whether this version runs such a model at all."""
    spec, variant = item.spec, item.variant
    if variant and not variant.runnable:
        message = f"This version of wan-tui does not run the variant {variant.name} of {spec.id} yet."
        yield Finding("error", "not-yet", message, remedies=(remedy("use-model", "check", spec.id),))
    elif not recipes:
        message = f"This version of wan-tui does not run {spec.family} models yet."
        yield Finding("error", "not-yet", message)
    elif others := [task for task in spec.tasks if task not in recipes]:
        able, unable = " and ".join(recipes), " and ".join(others)
        yield Finding("note", "some-tasks", f"This version runs {able} with it, and not yet {unable}.")


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, each kind in the order it was found; none twice."""
    rank = SEVERITIES.index
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: rank(finding.severity)))


def runnable(spec: ModelSpec) -> dict[str, Recipe]:
    """The tasks of a model that this version runs, with their recipes."""
    found = {}
    for task in spec.tasks:
        try:
            found[task] = recipe(spec.family, task)
        except ModelError:
            continue
    return found


def _candidates(catalog: Catalog) -> Iterator[tuple[ModelSpec, bool]]:
    """Models to take instead, and whether each is here, whole and without an error."""
    digests = Digests()
    for spec in able(catalog):
        item, copy = Item(spec), look(Item(spec), digests)
        if copy.whole and copy.path and not spec.builtin:
            base = next(iter(runnable(spec).values())).components
            if verdict(examine(item, read_anatomy(copy.path), base)) != "cannot-run":
                yield spec, True
        elif spec.repo:
            yield spec, False


def able(catalog: Catalog) -> tuple[ModelSpec, ...]:
    """The models of the catalog that this version runs."""
    return tuple(spec for spec in catalog.models if runnable(spec))


def _tasks_of(family: str | None, catalog: Catalog) -> tuple[str, ...]:
    return next((spec.tasks for spec in catalog.models if spec.family == family), ())
