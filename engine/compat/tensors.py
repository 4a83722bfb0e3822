"""The tensors of a component against what its configuration makes of its class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from engine.compat.anatomy import Component
from engine.compat.finding import Finding
from engine.compat.folder import EXPERTS, UNREAD, ModelFolder
from engine.compat.shapes import config_value, expected_shapes, same_tensor
from engine.errors import ModelError
from engine.units import size

_FLOATS = ("F32", "F16", "BF16", "F64")
_FP8 = ("F8_E4M3", "F8_E5M2")  # torch widens them as it loads
_SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".comfy_quant", "scaled_fp8")
_CLASS_CHANNELS = 16  # of the latents_mean and latents_std AutoencoderKLWan takes by itself
_WORTH_HALVING = 1_000_000_000  # bytes


def judge_tensors(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    """What the class needs and the files hold: random numbers would fill the gaps."""
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
    held = {same_tensor(part.kind, name): tensor for name, tensor in part.tensors.items()}
    held.pop(None, None)
    missing = [name for name in expected if name not in held and name not in UNREAD]
    wrong = [name for name, shape in expected.items() if name in held and held[name].shape != shape]
    if missing or wrong:
        yield _misfit(folder, part, missing, wrong, expected)
        return
    odd = {held[name].dtype for name in expected if name in held}.difference(_FLOATS, _FP8)
    scaled = [name for name in part.tensors if name.endswith(_SCALES)]
    if odd or scaled:
        dtype = min(odd) if odd else part.dtypes[0]
        yield Finding(
            "error",
            "scaled-weights",
            f"{part.name} holds {dtype} weights, which this version does not run.",
            "They have to be unpacked with their scales while they run.",
            ("Use the model's own weights, or its bf16 variant.",),
            component=part.name,
        )
    elif more := [name for name in held if name is not None and name not in expected]:
        yield Finding(
            "note",
            "unused-tensors",
            f"{folder.path / part.name} holds {len(more)} tensors its class does not use, among them {more[0]:.120}.",
            component=part.name,
        )


def _misfit(
    folder: ModelFolder, part: Component, missing: list[str], wrong: list[str], expected: Mapping[str, tuple[int, ...]]
) -> Finding:
    place, own = folder.path / part.name, part.config.get("_class_name")
    if part.name == "vae" and isinstance(own, str) and own != part.kind:
        return Finding(
            "error",
            "not-a-video-vae",
            f"{place} holds the VAE of another model: its config.json names {own:.80}.",
            f"Its weights look like: {_look(part)}.",
            ("Use the VAE of the model's own repository.",),
            component="vae",
        )
    if part.indexed and not wrong and (lost := [name for name in missing if name in part.indexed]):
        return Finding(
            "error",
            "index-mismatch",
            f"{place}: {len(lost)} tensors that the index names are in none of the shards, among them {lost[0]} of "
            f"{part.indexed[lost[0]]:.120}.",
            "A shard of another model, or the index of another model.",
            component=part.name,
        )
    said = []
    if wrong:
        found = {same_tensor(part.kind, name): tensor.shape for name, tensor in part.tensors.items()}
        name = wrong[0]
        what = f"{name} is {_times(found[name])}, and {_times(expected[name])} by the configuration"
        said.append(f"{len(wrong)} tensors have another shape than config.json makes them: {what}.")
    if missing:
        said.append(f"{len(missing)} tensors are missing, among them {missing[0]}.")
    return Finding(
        "error",
        "config-mismatch",
        f"{place}: {' And '.join(said)}",
        f"The weights are those of another model, or the configuration is. They look like: {_look(part)}.",
        component=part.name,
    )


def _look(part: Component) -> str:
    from engine.compat.recognise import recognise  # its many patterns are needed here alone

    found = recognise(part.tensors.values(), part.name)
    return f"{found.name} in {found.layout} names" if found.layout in ("original", "comfyui") else found.name


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


# --- what no tensor tells ---------------------------------------------------------------------------------------------


def judge_vae(folder: ModelFolder, parts: Mapping[str, Component]) -> Iterator[Finding]:
    """Numbers in a VAE's configuration that have to fit its layers; where they do not, a run fails at its end."""
    vae = parts.get("vae")
    if vae is None:
        return
    channels = config_value(vae.kind, vae.config, "z_dim")
    for key in ("latents_mean", "latents_std"):
        values = vae.config.get(key)
        count = len(values) if isinstance(values, list) else _CLASS_CHANNELS
        if count != channels:
            yield _bad_vae(folder, f"{key} is for {count} channels, and its latents have {channels}")
            return
    levels = len(config_value(vae.kind, vae.config, "dim_mult"))
    spatial = 2 ** (levels - 1) * (config_value(vae.kind, vae.config, "patch_size") or 1)
    temporal = 2 ** sum(config_value(vae.kind, vae.config, "temperal_downsample"))
    for key, due, usual in (("scale_factor_spatial", spatial, 8), ("scale_factor_temporal", temporal, 4)):
        said = vae.config.get(key, usual)
        if said != due or type(said) is not int:
            code = "config-mismatch" if type(said) is int else "bad-config"
            yield _bad_vae(folder, f"{key} is {said!r:.40}, and its layers make it {due}", code)
            return


def _bad_vae(folder: ModelFolder, problem: str, code: str = "config-mismatch") -> Finding:
    return Finding(
        "error",
        code,
        f"{folder.path / 'vae' / 'config.json'}: {problem}.",
        "It is the configuration of another VAE, or a line of it was left out.",
        ("Restore config.json from the repository of the model.",),
        component="vae",
    )


def judge_precision(parts: Mapping[str, Component]) -> Iterator[Finding]:
    """Notes on what weights are stored in."""
    for part in parts.values():
        floats = [dtype for dtype in part.dtypes if dtype in (*_FLOATS, *_FP8)]
        if any(dtype in _FP8 for dtype in floats):
            note = f"{part.name} is stored in {', '.join(floats)}, and widened as it is loaded."
            yield Finding("note", "stored-in-fp8", note, component=part.name)
        elif len(floats) > 1:
            yield Finding("note", "mixed-dtypes", f"{part.name} is stored in {', '.join(floats)}.", component=part.name)
    large = [name for name in EXPERTS if name in parts and parts[name].dtypes == ("F32",)]
    stored = sum(parts[name].bytes for name in large)
    if stored > _WORTH_HALVING:
        note = f"{' and '.join(large)} stored in fp32: {size(stored)}, of which a GPU runs half, in bf16."
        yield Finding("note", "stored-in-fp32", note, component=large[0])
