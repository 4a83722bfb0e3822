"""The rules a model folder in diffusers layout has to keep: what it must have, may not have, and what must agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from engine.compat.agreement import judge_agreement
from engine.compat.anatomy import Anatomy, Component
from engine.compat.finding import Finding, as_finding
from engine.compat.folder import (
    LIBRARIES,
    LOADABLE,
    WEIGHTLESS,
    ModelFolder,
    family_of,
    required_components,
    weights_name,
)
from engine.compat.settings import judge_settings
from engine.compat.tensors import judge_precision, judge_tensors, judge_vae
from engine.errors import ModelError

_CONFIGS = {
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "image_processor": "preprocessor_config.json",
}
_TRANSFORMERS = {"WanVACEPipeline": "WanVACETransformer3DModel", "WanAnimatePipeline": "WanAnimateTransformer3DModel"}
_SHOWN = 6
_VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model")  # a tokenizer makes itself from any of them


def judge(anatomy: Anatomy, base: tuple[str, ...], forbidden: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Every finding about a folder in diffusers layout. `base` are the components its family cannot do without.

    The order is that in which things have to be put right; an error means that it does not run.
    """
    folder = anatomy.folder
    if folder is None:
        return anatomy.findings
    findings = list(_index(folder))
    findings += _classes(anatomy, folder)
    findings += _components(anatomy, folder, base, forbidden)
    findings += anatomy.findings
    known = {name: part for name, part in anatomy.components.items() if part.kind in LOADABLE.get(name, ())}
    sound = {name: part for name, part in known.items() if part.tensors and _is_sound(part, findings)}
    for part in sound.values():
        findings += judge_tensors(folder, part)
    sound = {name: part for name, part in sound.items() if _is_sound(part, findings)}
    findings += judge_vae(folder, sound)
    findings += judge_agreement(folder, sound)
    findings += _scheduler(folder, anatomy)
    findings += judge_settings(folder, anatomy)
    findings += judge_precision(sound)
    findings += _grid(folder, findings)
    return tuple(findings)


def _is_sound(part: Component, findings: Sequence[Finding]) -> bool:
    return not any(finding.component == part.name and finding.severity == "error" for finding in findings)


# --- the index and its classes ----------------------------------------------------------------------------------------


def _index(folder: ModelFolder) -> Iterator[Finding]:
    if folder.rebuilt:
        yield Finding(
            "warning",
            "index-rebuilt",
            f"{folder.path}: {folder.rebuilt}; one was made from the component folders: {folder.pipeline}.",
            "Settings that only the lost index held, such as boundary_ratio, are the published ones.",
            ("Restore model_index.json from the repository of the model.",),
        )
    if folder.untaken:
        names = ", ".join(f"{name:.40}" for name in folder.untaken[:_SHOWN])
        yield Finding("note", "unused-components", f"{folder.path} names components that Wan does not take: {names}.")
    try:
        family_of(folder)
    except ModelError as error:
        if error.code == "not-wan":  # a config that cannot be read is a finding already
            yield as_finding(error)


def _classes(anatomy: Anatomy, folder: ModelFolder) -> Iterator[Finding]:
    """Classes are looked up by name: a name from a file is data, and only known ones are loaded."""
    for name, part in anatomy.components.items():
        if part.library not in LIBRARIES:
            continue  # code of its own: trust has the say
        if name in LOADABLE and part.kind not in LOADABLE[name]:
            image = name == "vae" and part.kind.startswith("Autoencoder")
            yield Finding(
                "error",
                "not-a-video-vae" if image else "class-refused",
                f"{folder.path / 'model_index.json'} asks for the class {part.kind[:80]!r} as {name}, which is not one "
                "this program loads.",
                "It is the VAE of another kind of model." if image else None,
                ("Known classes: " + ", ".join(sorted(LOADABLE[name])) + ".",),
                component=name,
            )
    expert = anatomy.components.get("transformer")
    due = _TRANSFORMERS.get(folder.pipeline, "WanTransformer3DModel")
    if expert and expert.kind in LOADABLE["transformer"] and expert.kind != due:
        yield Finding(
            "error",
            "wrong-pipeline",
            f"{folder.path} names {folder.pipeline}, which takes a {due}, and its transformer is a {expert.kind}.",
            "The checkpoint is one of another task.",
            ("Use it with the model_index.json of its own repository.",),
            component="transformer",
        )


# --- what is there ----------------------------------------------------------------------------------------------------


def _components(
    anatomy: Anatomy, folder: ModelFolder, base: tuple[str, ...], forbidden: Sequence[str]
) -> Iterator[Finding]:
    for name in forbidden:
        if name in anatomy.components:
            yield Finding(
                "error",
                "wrong-components",
                f"{folder.path} has the component {name}, which a model of this family does not have.",
                suggestions=("Check that the folder holds the model you mean.",),
                component=name,
            )
    try:
        required = required_components(folder, base)
    except ModelError:  # a config that cannot be read is a finding already
        required = base
    missing: list[str] = []
    for name in required:
        missing += _missing(anatomy, folder, name)
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if missing[_SHOWN:] else "")
        yield Finding(
            "error",
            "incomplete-model",
            f"{folder.path} lacks {shown}.",
            suggestions=("Download the missing files again.",),
        )


def _missing(anatomy: Anatomy, folder: ModelFolder, name: str) -> list[str]:
    part = anatomy.components.get(name)
    if part is None:
        return [name]
    if not os.path.isdir(folder.path / name):
        return [f"{name}/"]
    broken = any(finding.component == name for finding in anatomy.findings)
    lost = [] if part.config or broken else [f"{name}/{_CONFIGS.get(name, 'config.json')}"]
    if name == "tokenizer" and not any(os.path.exists(folder.path / name / file) for file in _VOCABULARIES):
        lost.append(f"{name}/{_VOCABULARIES[0]}")
    if name in WEIGHTLESS:
        return lost
    if not part.files and not part.pickles and not broken:
        others = sorted(file.name for file in (folder.path / name).glob("*.safetensors"))
        instead = f" (there is {others[0]:.80}, which is not what is loaded)" if others else ""
        lost.append(f"{name}/{weights_name(name)}{instead}")
    return lost + [str(file.relative_to(folder.path)) for file in part.files if not os.path.lexists(file)]


def _scheduler(folder: ModelFolder, anatomy: Anatomy) -> Iterator[Finding]:
    """Wan predicts a flow. A solver set to predict noise runs, and draws nothing."""
    part = anatomy.components.get("scheduler")
    if part is None or part.kind not in ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler") or not part.config:
        return
    prediction = part.config.get("prediction_type", "epsilon")
    if prediction != "flow_prediction" or part.config.get("use_flow_sigmas") is not True:
        yield Finding(
            "error",
            "scheduler-not-flow",
            f"{folder.path / 'scheduler'} is set to {prediction!r:.40}"
            + ("" if prediction != "flow_prediction" else " without use_flow_sigmas")
            + ", and Wan predicts a flow.",
            "It is the scheduler of another model.",
            ("Restore scheduler_config.json from the repository of the model.",),
            component="scheduler",
        )


def _grid(folder: ModelFolder, findings: Sequence[Finding]) -> Iterator[Finding]:
    """What sizes of videos are multiples of."""
    if any(finding.severity == "error" for finding in findings):
        return
    try:
        _ = folder.grid
    except ModelError as error:
        yield as_finding(error, component="vae")
