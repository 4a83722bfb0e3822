"""A model folder in diffusers layout, read from its JSON alone: which pipeline, which components, which weights."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.compat.schema import COMPONENTS, INDEX, check_index
from engine.errors import ModelError
from engine.library.jsonfile import read_json

if TYPE_CHECKING:
    from engine.compat.grant import Grant

# What may be loaded, by component. A folder that names anything else is refused: a class name from a file is data.
LOADABLE = {
    "tokenizer": {"T5TokenizerFast", "T5Tokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"},
    "text_encoder": {"UMT5EncoderModel"},
    "image_encoder": {"CLIPVisionModel", "CLIPVisionModelWithProjection"},
    "image_processor": {"CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPProcessor"},
    "transformer": {"WanTransformer3DModel", "WanVACETransformer3DModel", "WanAnimateTransformer3DModel"},
    "transformer_2": {"WanTransformer3DModel", "WanVACETransformer3DModel"},
    "vae": {"AutoencoderKLWan"},
    "scheduler": {
        "UniPCMultistepScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
    },
}
LIBRARIES = ("diffusers", "transformers")
FROM_TRANSFORMERS = ("tokenizer", "text_encoder", "image_encoder", "image_processor")
WEIGHTLESS = ("scheduler", "tokenizer", "image_processor")
EXPERTS = ("transformer", "transformer_2")
HALF_ON_GPU = ("text_encoder", *EXPERTS)  # in bf16, as their publishers run them; the VAE and the image encoder in fp32
# Tensors of a class that its part in Wan never reads: a file may lack them.
UNREAD = ("visual_projection.weight",)
# Where the high-noise expert hands over, as published for the two models that have two.
BOUNDARIES = {"WanPipeline": 0.875, "WanImageToVideoPipeline": 0.9}

_CONFIGS = ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
_MOST_SHARDS = 1000
_LONGEST_NAME = 255  # of a file, on any file system


@dataclass(frozen=True)
class ModelFolder:
    """A folder and what its `model_index.json` says; `rebuilt` is why the index is one made from the components.

    `grant` is what of its code and pickles may be used: nothing, unless the user trusts it and it was compared.
    """

    path: Path
    index: dict[str, Any]
    rebuilt: str | None = None
    grant: Grant | None = field(default=None, compare=False, repr=False)
    _configs: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def pipeline(self) -> str:
        """The class of the pipeline; of one with code of its own the class in that code."""
        name = self.index["_class_name"]
        return str(name[1] if isinstance(name, list) else name)

    @property
    def pipeline_module(self) -> str | None:
        """The module beside the index that holds the pipeline's class; None when it is one of diffusers' own."""
        name = self.index["_class_name"]
        return str(name[0]) if isinstance(name, list) else None

    @property
    def boundary_ratio(self) -> float | None:
        value = self.index.get("boundary_ratio")
        return None if value is None else float(value)

    @property
    def expand_timesteps(self) -> bool:
        """Whether each token has a timestep of its own; where the index is silent, whether the VAE is the 5B's."""
        said = self.index.get("expand_timesteps")
        return said is True if said is not None else self._is_5b

    @property
    def _is_5b(self) -> bool:
        try:
            return self.config("vae").get("is_residual") is True
        except ModelError:  # told where the configuration is judged
            return False

    @cached_property
    def components(self) -> dict[str, str]:
        """Component name to class name, for those that are there."""
        return {name: kind for name, (_, kind) in self.classes.items()}

    @cached_property
    def classes(self) -> dict[str, tuple[str, str]]:
        """Component name to (library or module, class), for those that are there and that the pipeline takes."""
        return {name: pair for name, pair in self._pairs.items() if name not in self.untaken}

    @property
    def untaken(self) -> tuple[str, ...]:
        """What the index names and no pipeline of Wan in diffusers takes: nothing of it is loaded."""
        if self.pipeline_module is not None or not self.pipeline.startswith("Wan"):
            return ()
        return tuple(name for name in self._pairs if name not in COMPONENTS)

    @cached_property
    def _pairs(self) -> dict[str, tuple[str, str]]:
        return {
            name: (value[0], value[1])
            for name, value in self.index.items()
            if not name.startswith("_") and isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))
        }

    @property
    def two_experts(self) -> bool:
        return all(name in self.components for name in EXPERTS)

    def config(self, component: str) -> dict[str, Any]:
        """The component's own configuration; `{}` when it has none."""
        if component not in self._configs:
            files = (self.path / component / name for name in _CONFIGS)
            file = next((file for file in files if os.path.lexists(file)), None)
            self._configs[component] = read_json(file) if file else {}
        return self._configs[component]

    def weight_map(self, component: str) -> Mapping[str, str] | None:
        """Tensor to file, of a component in shards; None of one in a single file. Raises `ModelError`."""
        single = self.path / component / weights_name(component)
        index = Path(f"{single}.index.json")
        # Where both are there, transformers takes the single file and diffusers the index.
        if not os.path.lexists(index) or (component in FROM_TRANSFORMERS and os.path.lexists(single)):
            return None
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise _bad(index, "names no shards")
        named = set(map(str, shards.values()))
        for file in named:
            if Path(file).name != file or not file.endswith(".safetensors") or len(file) > _LONGEST_NAME:
                raise _bad(index, f"names {file!r:.80}, which is no safetensors file beside it")
        if len(named) > _MOST_SHARDS:
            raise _bad(index, f"names more than {_MOST_SHARDS} shards")
        return shards

    def weight_files(self, component: str) -> list[Path]:
        """The safetensors files of a component, those its index names included even when they are missing."""
        folder = self.path / component
        if shards := self.weight_map(component):
            return [folder / name for name in sorted(set(shards.values()))]
        single = folder / weights_name(component)
        return [single] if os.path.lexists(single) else []

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent along each side (8 for VAE 2.1, 16 for VAE 2.2)."""
        value = self.config("vae").get("scale_factor_spatial") or 8
        if type(value) is not int or not 0 < value <= 256:
            raise _bad(self.path / "vae" / "config.json", "has no whole number as scale_factor_spatial", "bad-config")
        return value

    @property
    def grid(self) -> int:
        """What width and height are multiples of: the VAE's factor times the transformer's patch."""
        expert = "transformer" if "transformer" in self.components else "transformer_2"
        patch = self.config(expert).get("patch_size", [1, 2, 2])
        if not (isinstance(patch, list) and len(patch) == 3 and all(type(n) is int and 0 < n <= 64 for n in patch)):
            raise _bad(self.path / expert / "config.json", "has no three whole numbers as patch_size", "bad-config")
        return int(self.spatial_factor * patch[1])


def weights_name(component: str) -> str:
    """The file of an unsharded component; editions such as *.fp16.safetensors are not what is loaded."""
    return f"{'model' if component in FROM_TRANSFORMERS else 'diffusion_pytorch_model'}.safetensors"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _bad(file: Path, problem: str, code: str = "bad-model-file") -> ModelError:
    return ModelError(code, f"{file} {problem}.", suggestions=["Download this file again."])


def open_folder(path: Path) -> ModelFolder:
    """Read `model_index.json`; where it is missing or broken, make it from the component folders if they allow it.

    Raises `ModelError` when the folder is not a diffusers pipeline.
    """
    if not path.is_dir():
        raise ModelError("model-absent", f"There is no folder {path}.", suggestions=["Check the path."])
    file = path / INDEX
    try:
        if not os.path.lexists(file):
            raise ModelError(
                "not-a-pipeline",
                f"{path} has no model_index.json: it is not a model folder in diffusers layout.",
                suggestions=["Name the folder that holds model_index.json, transformer, vae and text_encoder."],
            )
        index = read_json(file)
        check_index(index, file)
    except ModelError as error:
        made = _index_of_components(path)
        if made is None:
            raise
        why = "is missing" if error.code == "not-a-pipeline" else f"is broken ({error.cause or error.message})"
        return ModelFolder(path, made, f"{INDEX} {why}")
    return ModelFolder(path, index)


def _index_of_components(path: Path) -> dict[str, Any] | None:
    """The index that Wan components lying in a folder make; None when they are not enough to tell."""
    bare = ModelFolder(path, {})
    index: dict[str, Any] = {}
    for name, known in LOADABLE.items():
        try:
            kind = _class_in(bare.config(name))
        except ModelError:
            continue
        if kind in known:
            index[name] = ["transformers" if name in FROM_TRANSFORMERS else "diffusers", kind]
    if not {"transformer", "vae"} <= index.keys():
        return None
    channels, latent = bare.config("transformer").get("in_channels", 16), bare.config("vae").get("z_dim", 16)
    if (type(channels), type(latent)) != (int, int):
        return None
    match index["transformer"][1]:
        case "WanVACETransformer3DModel":
            pipeline = "WanVACEPipeline"
        case "WanAnimateTransformer3DModel":
            pipeline = "WanAnimatePipeline"
        case _:
            if channels not in (latent, seeing_channels(latent)):
                return None
            pipeline = "WanPipeline" if channels == latent else "WanImageToVideoPipeline"
    index["_class_name"] = pipeline
    if "transformer_2" in index:
        index["boundary_ratio"] = BOUNDARIES.get(pipeline)
    return index


def _class_in(config: Mapping[str, Any]) -> str | None:
    """The class a component's own configuration names."""
    kinds = config.get("architectures")
    named = [config.get(key) for key in ("_class_name", "tokenizer_class", "image_processor_type", "processor_class")]
    named += kinds[:1] if isinstance(kinds, list) else []
    named += [config.get("feature_extractor_type")]
    return next((name for name in named if isinstance(name, str)), None)


def seeing_channels(latent: int) -> int:
    """Input channels of a transformer that sees a picture: noise, picture, and a mask of 4 frames a latent."""
    return 2 * latent + 4


def family_of(folder: ModelFolder) -> str:
    """The family a folder belongs to, from its pipeline class and its transformer's configuration.

    Raises `ModelError` when it is no Wan pipeline.
    """
    transformer = folder.config("transformer") or folder.config("transformer_2")
    match folder.pipeline:
        case "WanPipeline":
            return "ti2v" if folder.expand_timesteps else "t2v"
        case "WanImageToVideoPipeline":
            if folder.expand_timesteps:
                return "ti2v"
            return "flf2v" if transformer.get("pos_embed_seq_len") else "i2v"
        case "WanVideoToVideoPipeline":
            return "t2v"
        case "WanVACEPipeline":
            return "vace"
        case "WanAnimatePipeline":
            return "animate"
    if folder.pipeline_module and (index := _index_of_components(folder.path)):
        return family_of(ModelFolder(folder.path, index))
    shown = re.sub(r"[^\w.-]", "?", folder.pipeline)[:80]
    raise ModelError(
        "not-wan",
        f"{folder.path} holds the pipeline {shown}, which is no Wan pipeline.",
        suggestions=["Use a folder of a Wan 2.1 or 2.2 model."],
    )


def required_components(folder: ModelFolder, base: tuple[str, ...]) -> tuple[str, ...]:
    """`base` and what this folder's own configuration makes necessary: a second expert, an image encoder."""
    second = ("transformer_2",) if folder.boundary_ratio is not None else ()
    sees = folder.config("transformer").get("image_dim") is not None
    needed = (*base, *second, *(("image_encoder", "image_processor") if sees else ()))
    return tuple(dict.fromkeys(needed))
