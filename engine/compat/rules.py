"""The rules a model folder in diffusers layout has to keep: what it must have, may not have, and what must agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.compat.anatomy import Anatomy, Component
from engine.compat.finding import Finding, as_finding
from engine.compat.folder import EXPERTS, LIBRARIES, LOADABLE, WEIGHTLESS, ModelFolder, family_of, required_components
from engine.compat.folder import seeing_channels as seeing
from engine.compat.shapes import defaults, expected_shapes, same_tensor
from engine.errors import ModelError
from engine.units import size

_TRANSFORMERS = {"WanVACEPipeline": "WanVACETransformer3DModel", "WanAnimatePipeline": "WanAnimateTransformer3DModel"}
_SHOWN = 6
_VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model")  # a tokenizer makes itself from any of them
_FLOATS = ("F32", "F16", "BF16")
_CLASS_CHANNELS = 16  # of the latents_mean and latents_std AutoencoderKLWan takes by itself
_WORTH_HALVING = 1_000_000_000  # bytes


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
        findings += _shapes(folder, part)
    sound = {name: part for name, part in sound.items() if _is_sound(part, findings)}
    findings += _statistics(folder, sound)
    findings += _agreement(folder, sound)
    findings += _experts(folder, sound)
    findings += _scheduler(folder, anatomy)
    findings += _precision(sound)
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
    lost = [] if part.config or broken else [f"{name}/config.json"]
    if name == "tokenizer" and not any(os.path.exists(folder.path / name / file) for file in _VOCABULARIES):
        lost.append(f"{name}/{_VOCABULARIES[0]}")
    if name in WEIGHTLESS:
        return lost
    if not part.files and not part.pickles and not broken:
        others = sorted(file.name for file in (folder.path / name).glob("*.safetensors"))
        instead = f" (there is {others[0]:.80}, which is not what is loaded)" if others else ""
        lost.append(f"{name}/*.safetensors{instead}")
    return lost + [str(file.relative_to(folder.path)) for file in part.files if not os.path.lexists(file)]


# --- the configuration against the tensors ----------------------------------------------------------------------------


def _shapes(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    """What the configuration makes of the class, and what lies in the files: random numbers would fill the gaps."""
    if not all(map(os.path.exists, part.files)):
        return
    try:
        expected = expected_shapes(part.kind, part.config)
    except ModelError as error:
        config = folder.path / part.name / "config.json"
        yield Finding("error", error.code, f"{config}: {error.message}", None, error.suggestions, (), part.name)
        return
    if expected is None:
        return
    found = {
        known: tensor.shape
        for name, tensor in part.tensors.items()
        if (known := same_tensor(part.kind, name)) is not None
    }
    # The projection of a CLIP is no part of what Wan looks at.
    missing = [name for name in expected if name not in found and name != "visual_projection.weight"]
    wrong = [name for name, shape in expected.items() if name in found and found[name] != shape]
    own = part.config.get("_class_name")
    if (missing or wrong) and part.name == "vae" and isinstance(own, str) and own != part.kind:
        yield Finding(
            "error",
            "not-a-video-vae",
            f"{folder.path / 'vae'} holds the VAE of another model: its config.json names {own:.80}.",
            f"Its weights look like: {_look(part)}.",
            ("Use the VAE of the model's own repository.",),
            component="vae",
        )
    elif missing or wrong:
        name = (wrong or missing)[0]
        what = f"{name} is {_times(found[name])}, and {_times(expected[name])} by the configuration" if wrong else name
        yield Finding(
            "error",
            "config-mismatch",
            f"{folder.path / part.name}: "
            + (f"{len(wrong)} tensors have another shape than config.json makes them: {what}." if wrong else "")
            + (" And " if wrong and missing else "")
            + (f"{len(missing)} tensors are missing, among them {missing[0]}." if missing else ""),
            f"The weights are those of another model, or the configuration is. They look like: {_look(part)}.",
            component=part.name,
        )
    elif more := [name for name in found if name not in expected]:
        yield Finding(
            "note",
            "unused-tensors",
            f"{folder.path / part.name} holds {len(more)} tensors its class does not use, among them {more[0]:.120}.",
            component=part.name,
        )


def _statistics(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    """Latents are scaled by a mean and a deviation a channel; the class's own defaults are those of Wan 2.1."""
    if "vae" not in parts:
        return
    channels = _value(parts["vae"], "z_dim")
    for key in ("latents_mean", "latents_std"):
        values = parts["vae"].config.get(key)
        count = len(values) if isinstance(values, list) else _CLASS_CHANNELS
        if count != channels:
            yield Finding(
                "error",
                "config-mismatch",
                f"{folder.path / 'vae'}: {key} is for {count} channels, and its latents have {channels}.",
                "They are those of another VAE, or were left out.",
                ("Restore config.json from the repository of the model.",),
                component="vae",
            )
            return


def _look(part: Component) -> str:
    from engine.compat.recognise import recognise  # its many patterns are needed here alone

    found = recognise(part.tensors.values(), part.name)
    return f"{found.name} in {found.layout} names" if found.layout in ("original", "comfyui") else found.name


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


# --- the components against each other --------------------------------------------------------------------------------


def _agreement(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    for name in EXPERTS:
        if name in parts:
            yield from _fits_vae(folder, parts, parts[name])
            yield from _fits(parts, parts[name], "text_dim", "text_encoder", "d_model")
            if _value(parts[name], "image_dim") is not None:
                yield from _fits(parts, parts[name], "image_dim", "image_encoder", "hidden_size")


def _fits_vae(folder: ModelFolder, parts: Mapping[str, Component], expert: Component) -> Iterator[Finding]:
    """Input channels tell what a transformer is given beside the noise: nothing, a picture, or control."""
    if "vae" not in parts:
        return
    vae = parts["vae"]
    latent, channels = _value(vae, "z_dim"), _value(expert, "in_channels")
    out = _value(expert, "out_channels") or channels
    pictured = folder.pipeline in ("WanImageToVideoPipeline", "WanAnimatePipeline") and not folder.expand_timesteps
    due = seeing(latent) if pictured else latent
    if channels != due and {channels, due} == {latent, seeing(latent)}:
        sees = "takes a picture (image-to-video)" if channels == seeing(latent) else "takes no picture (text-to-video)"
        yield Finding(
            "error",
            "wrong-pipeline",
            f"{folder.path} names {folder.pipeline}, and its {expert.name} has {channels} input channels: it {sees}.",
            "The checkpoint is one of another task.",
            ("Use it with the model_index.json of its own repository.",),
            component=expert.name,
        )
    elif channels != due or (not pictured and out != latent):
        version = {16: "the VAE of Wan 2.1", 48: "the VAE of Wan 2.2 5B"}.get(latent, f"a VAE of {latent} channels")
        yield Finding(
            "error",
            "vae-mismatch",
            f"{folder.path / 'vae'} holds {version}, and {expert.name} has {channels} input and {out} output channels, "
            f"where {due} and {latent} are due.",
            "The VAE is that of another version of Wan, or the transformer is.",
            ("Use the VAE of the model's own repository.",),
            component="vae",
        )
    elif folder.expand_timesteps and _value(vae, "is_residual") is not True and _is_published(expert):
        # A small model of one's own may well have a timestep for every token, as the built-in one has.
        yield Finding(
            "error",
            "wrong-expand-timesteps",
            f"{folder.path / 'model_index.json'} says expand_timesteps = true, and the VAE is not that of Wan 2.2 5B.",
            "Only that model knows a timestep for every token.",
            ("Restore model_index.json from the repository of the model.",),
        )
    elif _value(vae, "is_residual") is True and not folder.expand_timesteps:
        yield Finding(
            "error",
            "no-expand-timesteps",
            f"{folder.path} has the VAE of Wan 2.2 5B, and its model_index.json does not say expand_timesteps = true.",
            "That model knows a timestep for every token; without them it draws noise.",
            ("Restore model_index.json from the repository of the model.",),
        )


def _is_published(expert: Component) -> bool:
    """Whether a transformer has the width of the 1.3B or the 14B."""
    return (_value(expert, "num_attention_heads"), _value(expert, "attention_head_dim")) in ((12, 128), (40, 128))


def _fits(parts: Mapping[str, Component], expert: Component, key: str, other: str, other_key: str) -> Iterator[Finding]:
    """The numbers a token has where it is made, and where it is read."""
    if other not in parts:
        return
    mine, its = _value(expert, key), _value(parts[other], other_key)
    if mine != its:
        yield Finding(
            "error",
            f"{other.replace('_', '-')}-mismatch",
            f"{expert.name} expects {mine} numbers a token from {other} ({key}), and that gives {its} ({other_key}).",
            f"The {other} is that of another model.",
            component=other,
        )


def _value(part: Component, key: str) -> Any:
    """A value of a configuration that was checked, else what the class takes in its place."""
    table = part.config.get("vision_config", part.config)
    return table.get(key, defaults(part.kind).get(key))


def _experts(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    if not folder.two_experts:
        return
    if folder.boundary_ratio is None:
        yield Finding(
            "error",
            "no-boundary",
            f"{folder.path / 'model_index.json'} has no boundary_ratio, and the folder has two experts: the second "
            "would never run.",
            suggestions=("Restore model_index.json from the repository.",),
        )
    first, second = (parts.get(name) for name in EXPERTS)
    if first and second and first.tensors and second.tensors:
        one, other = ({name: tensor.shape for name, tensor in part.tensors.items()} for part in (first, second))
        if one != other:
            yield Finding(
                "error",
                "experts-differ",
                f"{folder.path}: transformer and transformer_2 are not two experts of one model: their tensors differ.",
                suggestions=("Download both from the repository of one model.",),
                component="transformer_2",
            )


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


def _precision(parts: Mapping[str, Component]) -> Iterator[Finding]:
    for part in parts.values():
        odd = [dtype for dtype in part.dtypes if dtype not in _FLOATS and not dtype.startswith(("I", "U", "BOOL"))]
        if odd:
            yield Finding(
                "error",
                "scaled-weights",
                f"{part.name} holds {odd[0]} weights, which this version does not run.",
                "They need their scales applied while they run.",
                ("Use the model's own weights, or its bf16 variant.",),
                component=part.name,
            )
        elif len(set(part.dtypes) & set(_FLOATS)) > 1:
            shares = ", ".join(part.dtypes)
            yield Finding("note", "mixed-dtypes", f"{part.name} is stored in {shares}.", component=part.name)
    large = [name for name in EXPERTS if name in parts and parts[name].dtypes == ("F32",)]
    stored = sum(parts[name].bytes for name in large)
    if stored > _WORTH_HALVING:
        note = f"{' and '.join(large)} stored in fp32: {size(stored)}, of which a GPU runs half, in bf16."
        yield Finding("note", "stored-in-fp32", note, component=large[0])
