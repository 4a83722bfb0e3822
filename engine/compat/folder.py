"""A model folder in diffusers layout, read from its JSON alone: which pipeline, which components, which weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.library.jsonfile import read_json

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
# The files of an unsharded component; variants such as *.fp16.safetensors are not what is loaded.
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_HEADER_BYTES = 100_000_000  # what the format allows
WEIGHTLESS = ("scheduler", "tokenizer", "image_processor")


@dataclass(frozen=True)
class ModelFolder:
    """A folder and what its `model_index.json` says."""

    path: Path
    index: dict[str, Any]

    @property
    def pipeline(self) -> str:
        return str(self.index.get("_class_name"))

    @property
    def boundary_ratio(self) -> float | None:
        value = self.index.get("boundary_ratio")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _bad(self.path / "model_index.json", "has no number as boundary_ratio")
        return None if value is None else float(value)

    @property
    def expand_timesteps(self) -> bool:
        return self.index.get("expand_timesteps") is True

    @cached_property
    def components(self) -> dict[str, str]:
        """Component name to class name, for those that are there."""
        return {
            name: str(value[1])
            for name, value in self.index.items()
            if isinstance(value, list) and len(value) == 2 and value[0] and value[1]
        }

    def config(self, component: str) -> dict[str, Any]:
        """The component's own configuration; `{}` when it has none."""
        for name in ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"):
            file = self.path / component / name
            if file.is_file():
                return read_json(file)
        return {}

    def weight_files(self, component: str) -> list[Path]:
        """The safetensors files of a component, those its index names included even when they are missing."""
        folder = self.path / component
        for index in sorted(folder.glob("*.safetensors.index.json")):
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise _bad(index, "names no shards")
            names = sorted(set(map(str, shards.values())))
            return [folder / name for name in names if Path(name).name == name]
        return [folder / name for name in _WEIGHTS if (folder / name).is_file()]

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent along each side (8 for VAE 2.1, 16 for VAE 2.2)."""
        value = self.config("vae").get("scale_factor_spatial") or 8
        if not isinstance(value, int):
            raise _bad(self.path / "vae" / "config.json", "has no whole number as scale_factor_spatial")
        return value

    @property
    def grid(self) -> int:
        """What width and height are multiples of: the VAE's factor times the transformer's patch."""
        expert = "transformer" if "transformer" in self.components else "transformer_2"
        patch = self.config(expert).get("patch_size", [1, 2, 2])
        if not (isinstance(patch, list) and len(patch) == 3 and all(type(n) is int and n > 0 for n in patch)):
            raise _bad(self.path / expert / "config.json", "has no three whole numbers as patch_size")
        return int(self.spatial_factor * patch[1])


def _bad(file: Path, problem: str) -> ModelError:
    return ModelError("bad-model-file", f"{file} {problem}.", suggestions=["Download this file again."])


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its own header says: a broken download is not."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, _HEADER_BYTES):
                return False
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return False
    return size == 8 + length + max(ends, default=0)


def open_folder(path: Path) -> ModelFolder:
    """Read `model_index.json`. Raises `ModelError` when the folder is not a diffusers pipeline."""
    if not path.is_dir():
        raise ModelError("model-absent", f"There is no folder {path}.", suggestions=["Check the path."])
    if not (path / "model_index.json").is_file():
        raise ModelError(
            "not-a-pipeline",
            f"{path} has no model_index.json: it is not a model folder in diffusers layout.",
            suggestions=["Name the folder that holds model_index.json, transformer, vae and text_encoder."],
        )
    return ModelFolder(path, read_json(path / "model_index.json"))


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
    return (*base, *second, *(("image_encoder", "image_processor") if sees else ()))


def check_folder(folder: ModelFolder, required: tuple[str, ...], forbidden: tuple[str, ...] = ()) -> None:
    """Everything the stages will load is there and is of a class that may be loaded.

    Raises `ModelError` naming every missing piece at once.
    """
    missing = [name for name in required if name not in folder.components]
    for name, kind in folder.components.items():
        if name in LOADABLE and kind not in LOADABLE[name]:
            raise ModelError(
                "class-refused",
                f"{folder.path / 'model_index.json'} asks for the class {kind[:80]!r} as {name}, which is not one "
                "this program loads.",
                suggestions=["Known classes: " + ", ".join(sorted(LOADABLE[name])) + "."],
            )
    for name in forbidden:
        if name in folder.components:
            raise ModelError(
                "wrong-components",
                f"{folder.path} has the component {name}, which a model of this family does not have.",
                suggestions=["Check that the folder holds the model you mean."],
            )
    for name in required:
        if name in WEIGHTLESS or name in missing:
            missing += [name] if name not in missing and not (folder.path / name).is_dir() else []
            continue
        files = folder.weight_files(name)
        missing += [str(f.relative_to(folder.path)) for f in files if not f.is_file()]
        cut = [f for f in files if f.is_file() and not is_whole(f)]
        missing += [f"the whole of {f.relative_to(folder.path)} (it is cut short or damaged)" for f in cut]
        missing += [f"{name}/config.json"] if not folder.config(name) else []
        missing += [f"{name}/*.safetensors"] if not files else []
    if missing:
        raise ModelError(
            "incomplete-model",
            f"{folder.path} lacks {', '.join(missing)}.",
            suggestions=["Download the missing files again."],
        )
