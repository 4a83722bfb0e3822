"""What a prediction is asked of: the components of a model by their configurations, a video's size, a precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.catalog import ModelSpec
from engine.compat.folder import EXPERTS, HALF_ON_GPU, ModelFolder
from engine.compat.identify import class_of
from engine.compat.shapes import config_value, defaults
from engine.memory.windows import Layout

WITH_WEIGHTS = ("text_encoder", "image_encoder", *EXPERTS, "vae")
TOKENS = 512  # of a prompt; what the models were trained with


@dataclass(frozen=True)
class Precision:
    """In which precision the transformers and the text encoder run, "bf16" or "fp32", and with whose kernels, "cuda" or
    "cpu": a kernel that fuses several operations keeps nothing between them.
    """

    dtype: str
    kernels: str

    def of(self, component: str) -> str:
        """The VAE and the image encoder run in fp32, as their publishers run them."""
        return self.dtype if component in HALF_ON_GPU else "fp32"

    @property
    def width(self) -> int:
        """Bytes of a number in the transformers."""
        return 2 if self.dtype == "bf16" else 4


PRECISIONS = (Precision("bf16", "cuda"), Precision("fp32", "cuda"), Precision("fp32", "cpu"))


@dataclass(frozen=True)
class Part:
    """A component with weights: its name in the pipeline, its class, its configuration."""

    name: str
    kind: str
    config: Mapping[str, Any]

    def get(self, key: str) -> Any:
        return config_value(self.kind, self.config, key)

    @property
    def identity(self) -> dict[str, Any]:
        """All that tensors follow from, defaults filled in: alike for a catalog's entry and the folder it is of."""
        values = {key: _plain(self.get(key)) for key in sorted(defaults(self.kind))}
        if values.get("is_gated_act") is str(values.get("feed_forward_proj")).startswith("gated-"):
            values["is_gated_act"] = None  # transformers saves it, and it follows from the other
        return {"class": self.kind, **values}


@dataclass(frozen=True)
class Model:
    """The components of a model that have weights, and how its pipeline uses them."""

    parts: Mapping[str, Part]
    expand_timesteps: bool
    boundary_ratio: float | None

    @property
    def experts(self) -> tuple[str, ...]:
        return tuple(name for name in EXPERTS if name in self.parts)

    @property
    def spatial(self) -> int:
        """Pixels a latent along each side."""
        return int(self.parts["vae"].config.get("scale_factor_spatial") or 8)

    @property
    def temporal(self) -> int:
        return int(self.parts["vae"].config.get("scale_factor_temporal") or 4)


@dataclass(frozen=True)
class Clip:
    """What is to be made: sizes in pixels, whether a first image and guidance are given, the steps, and the windows of
    a clip that is made in such."""

    width: int
    height: int
    frames: int
    image: bool = False
    guided: bool = True
    steps: int = 50
    layout: Layout | None = None


def model_of_spec(spec: ModelSpec) -> Model:
    """A model of the catalog by its architectures there; what is not known is absent."""
    parts = {name: Part(name, class_of(name, spec), config) for name, config in spec.architecture.items()}
    return Model(parts, spec.expand_timesteps, spec.boundary_ratio)


def model_of_folder(folder: ModelFolder) -> Model:
    """A model by its folder's JSON. Raises `ModelError` when that cannot be read."""
    parts = {
        name: Part(name, kind, folder.config(name)) for name, kind in folder.components.items() if name in WITH_WEIGHTS
    }
    return Model(parts, folder.expand_timesteps, folder.boundary_ratio)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
