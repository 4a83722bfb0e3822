"""The components of a folder against each other: widths and channels where one hands over to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.compat.anatomy import Component
from engine.compat.finding import Finding
from engine.compat.folder import EXPERTS, ModelFolder, seeing_channels
from engine.compat.shapes import config_value, expected_shapes

_SEEING = ("WanImageToVideoPipeline", "WanAnimatePipeline")
_VAES = {16: "the VAE of Wan 2.1", 48: "the VAE of Wan 2.2 5B"}


def judge_agreement(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    """Findings about components whose tensors and configurations are sound by themselves."""
    for name in EXPERTS:
        if name in parts:
            yield from _channels(folder, parts, parts[name])
            yield from _width(parts, parts[name], "text_dim", "text_encoder", "d_model")
            if _value(parts[name], "image_dim") is not None:
                yield from _width(parts, parts[name], "image_dim", "image_encoder", "hidden_size")
    yield from _timesteps(folder, parts)
    yield from _experts(folder, parts)


def _value(part: Component, key: str) -> Any:
    return config_value(part.kind, part.config, key)


def _channels(folder: ModelFolder, parts: Mapping[str, Component], expert: Component) -> Iterator[Finding]:
    """Input channels tell what a transformer is given beside the noise: nothing, a picture, or control."""
    if "vae" not in parts:
        return
    latent, channels = _value(parts["vae"], "z_dim"), _value(expert, "in_channels")
    out = _value(expert, "out_channels") or _value(expert, "latent_channels") or channels
    pictured = folder.pipeline in _SEEING and not folder.expand_timesteps
    due = seeing_channels(latent) if pictured else latent
    if channels != due and {channels, due} == {latent, seeing_channels(latent)}:
        sees = "no picture (text-to-video)" if pictured else "a picture (image-to-video)"
        yield Finding(
            "error",
            "wrong-pipeline",
            f"{folder.path} names {folder.pipeline}, and its {expert.name} has {channels} input channels: it takes "
            f"{sees}.",
            "The checkpoint is one of another task.",
            ("Use it with the model_index.json of its own repository.",),
            component=expert.name,
        )
    elif channels != due or out != latent:
        version = _VAES.get(latent, f"a VAE of {latent} channels")
        yield Finding(
            "error",
            "vae-mismatch",
            f"{folder.path / 'vae'} holds {version}, and {expert.name} has {channels} input and {out} output channels, "
            f"where {due} and {latent} are due.",
            "The VAE is that of another version of Wan, or the transformer is.",
            ("Use the VAE of the model's own repository.",),
            component="vae",
        )


def _timesteps(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    """Which models have a timestep for every token, which their image task needs."""
    vae, said = parts.get("vae"), folder.index.get("expand_timesteps")
    if vae is None or _value(vae, "is_residual") is not True or said is True:
        return
    what = "does not say expand_timesteps" if said is None else "says expand_timesteps = false"
    so = "that is taken as true" if said is None else "it runs from text alone"
    yield Finding(
        "warning",
        "no-expand-timesteps",
        f"{folder.path / 'model_index.json'} {what}, and the VAE is that of Wan 2.2 5B: {so}.",
        suggestions=("Restore model_index.json from the repository of the model.",),
    )


def _width(
    parts: Mapping[str, Component], expert: Component, key: str, other: str, other_key: str
) -> Iterator[Finding]:
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
    if first is None or second is None or first.kind != second.kind:
        return
    if expected_shapes(first.kind, first.config) != expected_shapes(second.kind, second.config):
        yield Finding(
            "warning",
            "experts-differ",
            f"{folder.path}: transformer and transformer_2 are not built alike, as two experts of one model are.",
            "One of them may be that of another model.",
            ("If that is not meant, download both from the repository of one model.",),
            component="transformer_2",
        )
