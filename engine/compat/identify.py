"""Which of the models known here a folder is built like, and how large a model's components are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import Anatomy
from engine.compat.folder import EXPERTS, ModelFolder, family_of
from engine.compat.shapes import expected_shapes
from engine.errors import ModelError
from engine.library.item import Item

_CLASSES = {
    "text_encoder": "UMT5EncoderModel",
    "image_encoder": "CLIPVisionModel",
    "vae": "AutoencoderKLWan",
}
_TRANSFORMERS = {"vace": "WanVACETransformer3DModel", "animate": "WanAnimateTransformer3DModel"}
_VAES = {16: "2.1", 48: "2.2"}  # by the channels of a latent


def folder_item(folder: ModelFolder, catalog: Catalog) -> Item:
    """A folder as a model of its own, with the defaults of its family. Raises `ModelError` when it is no Wan."""
    family = family_of(folder)
    spec = catalog.folder_spec(family, folder.path)
    beyond = set()
    if family == "t2v" and folder.two_experts:
        beyond.add("video")  # diffusers' video-to-video knows one expert
    if family == "i2v" and "image_encoder" in folder.components:
        beyond.add("first-last")  # a second picture needs the position embedding only flf2v has
    return Item(replace(spec, tasks=tuple(task for task in spec.tasks if task not in beyond)))


def alike(anatomy: Anatomy, family: str | None, catalog: Catalog) -> tuple[str, ...]:
    """Ids of the catalog's models whose transformers are those of a folder; a fine-tune is like what it came from."""
    folder, part = anatomy.folder, anatomy.components.get("transformer")
    if folder is None or part is None or not part.config:
        return ()
    return tuple(
        spec.id
        for spec in catalog.models
        if spec.family == family
        and spec.two_experts == (folder.boundary_ratio is not None)
        and (known := spec.architecture.get("transformer"))
        and all(_plain(part.config.get(key, value)) == _plain(value) for key, value in known.items())
        and part.config.get("num_layers", known.get("num_layers")) == known.get("num_layers")
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def wan_version(anatomy: Anatomy, family: str | None) -> str | None:
    """Wan's version, by what only one of them has; None where nothing tells."""
    folder = anatomy.folder
    if folder is None or family is None:
        return None
    if family in ("ti2v", "animate") or folder.two_experts:
        return "2.2"
    if family == "i2v":  # 2.2 sees by the VAE alone
        return "2.1" if folder.components.get("image_encoder") else "2.2"
    return "2.1"


def vae_version(anatomy: Anatomy) -> str | None:
    """The version of a video VAE of Wan; None of anything else."""
    vae = anatomy.components.get("vae")
    if vae is None or vae.kind != "AutoencoderKLWan":
        return None
    if vae.config.get("is_residual") is True:
        return "2.2"
    latent = vae.config.get("z_dim", 16)
    return _VAES.get(latent) if isinstance(latent, int) else None


def class_of(component: str, spec: ModelSpec) -> str:
    """The class a component with weights is of in a model."""
    if component not in EXPERTS:
        return _CLASSES[component]
    second = spec.pipeline == "WanAnimate2ModularPipeline"
    return "WanAnimate2Transformer3DModel" if second else _TRANSFORMERS.get(spec.family, "WanTransformer3DModel")


def parameters(spec: ModelSpec) -> Mapping[str, int]:
    """Parameters of each component of a model, from its architecture in the catalog; what is not known is absent."""
    counts = {}
    for name, config in spec.architecture.items():
        kind = class_of(name, spec)
        settings = tuple((key, tuple(v) if isinstance(v, list) else v) for key, v in config.items())
        if count := _count(kind, settings):
            counts[name] = count
    return counts


@cache
def _count(kind: str, settings: tuple[tuple[str, Any], ...]) -> int:
    config = {key: list(value) if isinstance(value, tuple) else value for key, value in settings}
    if kind.startswith("Wan") and "num_layers" not in config:
        return 0
    shapes = expected_shapes(kind, config)
    return sum(map(prod, shapes.values())) if shapes else 0


def component_parameters(anatomy: Anatomy) -> Mapping[str, int]:
    """Parameters of each component of a folder, by its headers; of pickles, which are not opened, by its class."""
    counts = {name: part.parameters for name, part in anatomy.components.items() if part.tensors}
    for name, part in anatomy.components.items():
        if part.pickles and name not in counts:
            with suppress(ModelError):  # told where the configuration is judged
                shapes = expected_shapes(part.kind, part.config)
                counts |= {name: sum(map(prod, shapes.values()))} if shapes else {}
    return counts
