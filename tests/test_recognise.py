"""Files of weights are told apart by their headers alone, at the sizes the models really have."""

from __future__ import annotations

import json
import math
import os
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import FAMILY_TASKS
from engine.compat.gguf import read_gguf
from engine.compat.recognise import Recognised, recognise
from engine.errors import ModelError
from engine.library.weights import WIDTH, Tensor, read_shard

Shapes = dict[str, tuple[int, ...]]

# ── Tables of tensors, at real sizes ─────────────────────────────────────────────────────────────────────────────────


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def attention(name: str, width: int, *, picture: bool = False) -> Shapes:
    parts: Shapes = {}
    for part in ("q", "k", "v", "o", *(("k_img", "v_img") if picture else ())):
        parts |= linear(f"{name}.{part}", width, width)
    for norm in ("norm_q", "norm_k", *(("norm_k_img",) if picture else ())):
        parts[f"{name}.{norm}.weight"] = (width,)
    return parts


def block(name: str, width: int, ffn: int, picture: bool = False) -> Shapes:
    return {
        f"{name}.modulation": (1, 6, width),
        **attention(f"{name}.self_attn", width),
        **attention(f"{name}.cross_attn", width, picture=picture),
        f"{name}.norm3.weight": (width,),
        f"{name}.norm3.bias": (width,),
        **linear(f"{name}.ffn.0", ffn, width),
        **linear(f"{name}.ffn.2", width, ffn),
    }


WIDTHS = {"1.3B": (1536, 8960, 30), "5B": (3072, 14336, 30), "14B": (5120, 13824, 40)}


def wan(size: str = "14B", channels: int = 16, out: int = 16, picture: bool = False, block_name: str = "") -> Shapes:
    """A Wan transformer in the original names."""
    width, ffn, layers = WIDTHS[size]
    table = {
        "patch_embedding.weight": (width, channels, 1, 2, 2),
        "patch_embedding.bias": (width,),
        **linear("text_embedding.0", width, 4096),
        **linear("text_embedding.2", width, width),
        **linear("time_embedding.0", width, 256),
        **linear("time_embedding.2", width, width),
        **linear("time_projection.1", 6 * width, width),
        "head.modulation": (1, 2, width),
        **linear("head.head", out * 4, width),
    }
    for number in range(layers):
        table |= block(f"blocks.{number}{block_name}", width, ffn, picture)
    if picture:
        table |= {
            "img_emb.proj.0.weight": (1280,),
            "img_emb.proj.0.bias": (1280,),
            **linear("img_emb.proj.1", 1280, 1280),
            **linear("img_emb.proj.3", width, 1280),
            "img_emb.proj.4.weight": (width,),
            "img_emb.proj.4.bias": (width,),
        }
    return table


def vace(size: str) -> Shapes:
    return {**wan(size), **vace_blocks(size)}


def vace_blocks(size: str) -> Shapes:
    width, ffn, layers = WIDTHS[size]
    table: Shapes = {"vace_patch_embedding.weight": (width, 96, 1, 2, 2), "vace_patch_embedding.bias": (width,)}
    for number in range(layers // (5 if size == "14B" else 2)):
        table |= block(f"vace_blocks.{number}", width, ffn)
        table |= linear(f"vace_blocks.{number}.after_proj", width, width)
    return table | linear("vace_blocks.0.before_proj", width, width)


def animate() -> Shapes:
    table = wan(channels=36, picture=True)
    table["pose_patch_embedding.weight"], table["pose_patch_embedding.bias"] = (5120, 16, 1, 2, 2), (5120,)
    table["motion_encoder.dec.direction.weight"] = (512, 20)
    table["motion_encoder.enc.net_app.convs.0.0.weight"] = (32, 3, 1, 1)
    table["face_encoder.conv1_local.conv.weight"] = (4096, 512, 3)
    for number in range(8):
        table |= linear(f"face_adapter.fuser_blocks.{number}.linear1_kv", 10240, 5120)
        table |= linear(f"face_adapter.fuser_blocks.{number}.linear1_q", 5120, 5120)
        table |= linear(f"face_adapter.fuser_blocks.{number}.linear2", 5120, 5120)
    return table


def speech() -> Shapes:
    table = wan()
    table["cond_encoder.weight"], table["cond_encoder.bias"] = (5120, 16, 1, 2, 2), (5120,)
    table["trainable_cond_mask.weight"] = (3, 5120)
    table["casual_audio_encoder.weights"] = (1, 25, 1, 1)
    table |= linear("casual_audio_encoder.encoder.final_linear", 5120, 5120)
    table["frame_packer.proj.weight"] = (5120, 16, 1, 2, 2)
    for number in range(12):
        table |= attention(f"audio_injector.injector.{number}", 5120)
        table |= linear(f"audio_injector.injector_adain_layers.{number}.linear", 10240, 5120)
    return table


def wan_vae(z: int, base: int, nested: bool) -> Shapes:
    """The parts of the original names that matter, of VAE 2.1 or 2.2."""
    inner = ".{side}samples.0" if nested else ""
    pixels = 12 if nested else 3
    table: Shapes = {"conv1.weight": (2 * z, 2 * z, 1, 1, 1), "conv2.weight": (z, z, 1, 1, 1)}
    for coder, side, first in (("encoder", "down", (base, pixels)), ("decoder", "up", (base * 4, z))):
        table[f"{coder}.conv1.weight"], table[f"{coder}.conv1.bias"] = (*first, 3, 3, 3), (first[0],)
        for number in range(4):
            stem = f"{coder}.{side}samples.{number}{inner.format(side=side)}"
            table[f"{stem}.residual.0.gamma"] = (base, 1, 1, 1)
            table[f"{stem}.residual.2.weight"] = (base, base, 3, 3, 3)
        table[f"{coder}.middle.0.residual.0.gamma"] = (base * 4, 1, 1, 1)
        table[f"{coder}.middle.1.to_qkv.weight"] = (base * 12, base * 4, 1, 1)
        table[f"{coder}.head.2.weight"] = (base, base, 3, 3, 3)
    return table


def t5(layers: int = 24, width: int = 4096, vocabulary: int = 256384, shared: bool = False) -> Shapes:
    """UMT5 in the names of transformers; `shared` positions make it a T5."""
    table: Shapes = {"shared.weight": (vocabulary, width), "encoder.final_layer_norm.weight": (width,)}
    for number in range(layers):
        stem = f"encoder.block.{number}.layer"
        for part in "qkvo":
            table[f"{stem}.0.SelfAttention.{part}.weight"] = (width, width)
        if not (shared and number):
            table[f"{stem}.0.SelfAttention.relative_attention_bias.weight"] = (32, 64)
        table[f"{stem}.0.layer_norm.weight"] = table[f"{stem}.1.layer_norm.weight"] = (width,)
        table[f"{stem}.1.DenseReluDense.wi_0.weight"] = table[f"{stem}.1.DenseReluDense.wi_1.weight"] = (10240, width)
        table[f"{stem}.1.DenseReluDense.wo.weight"] = (width, 10240)
    return table


T5_WAN = {
    "shared": "token_embedding",
    "encoder.final_layer_norm": "norm",
    "encoder.block.": "blocks.",
    ".layer.0.SelfAttention.relative_attention_bias": ".pos_embedding.embedding",
    ".layer.0.SelfAttention.": ".attn.",
    ".layer.0.layer_norm": ".norm1",
    ".layer.1.layer_norm": ".norm2",
    ".layer.1.DenseReluDense.wi_0": ".ffn.gate.0",
    ".layer.1.DenseReluDense.wi_1": ".ffn.fc1",
    ".layer.1.DenseReluDense.wo": ".ffn.fc2",
}
T5_GGUF = {
    "shared": "token_embd",
    "encoder.final_layer_norm": "enc.output_norm",
    "encoder.block.": "enc.blk.",
    ".layer.0.SelfAttention.relative_attention_bias": ".attn_rel_b",
    ".layer.0.SelfAttention.": ".attn_",
    ".layer.0.layer_norm": ".attn_norm",
    ".layer.1.layer_norm": ".ffn_norm",
    ".layer.1.DenseReluDense.wi_0": ".ffn_gate",
    ".layer.1.DenseReluDense.wi_1": ".ffn_up",
    ".layer.1.DenseReluDense.wo": ".ffn_down",
}


def renamed(table: Shapes, words: dict[str, str]) -> Shapes:
    def name(old: str) -> str:
        for word, other in words.items():
            old = old.replace(word, other)
        return old

    return {name(old): shape for old, shape in table.items()}


def wan_clip(layers: int = 32, width: int = 1280) -> Shapes:
    """Wan's own names of the OpenCLIP tower."""
    table: Shapes = {"visual.cls_embedding": (1, 1, width), "visual.pos_embedding": (1, 257, width), "log_scale": ()}
    table["visual.patch_embedding.weight"], table["visual.head"] = (width, 3, 14, 14), (width, 1024)
    for number in range(layers):
        stem = f"visual.transformer.{number}"
        table |= linear(f"{stem}.attn.to_qkv", 3 * width, width) | linear(f"{stem}.mlp.0", 4 * width, width)
        table[f"{stem}.norm1.weight"] = (width,)
    return table


def prefixed(table: Shapes, prefix: str) -> Shapes:
    return {prefix + name: shape for name, shape in table.items()}


def lora(
    modules: dict[str, tuple[int, int]], rank: int = 32, down: str = ".lora_A", up: str = ".lora_B", alpha: bool = False
) -> Shapes:
    """Pairs for modules of (out, in)."""
    table: Shapes = {}
    for name, (out, into) in modules.items():
        table[f"{name}{down}.weight"], table[f"{name}{up}.weight"] = (rank, into), (out, rank)
        table |= {f"{name}.alpha": ()} if alpha else {}
    return table


def modules(size: str, prefix: str = "", picture: bool = False, diffusers: bool = False) -> dict[str, tuple[int, int]]:
    width, ffn, layers = WIDTHS[size]
    found: dict[str, tuple[int, int]] = {}
    for number in range(layers):
        stem = f"{prefix}blocks.{number}"
        for mine, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2")):
            for part in "qkvo":
                leaf = {"o": "to_out.0"}.get(part, f"to_{part}") if diffusers else part
                found[f"{stem}.{theirs if diffusers else mine}.{leaf}"] = (width, width)
        if picture:
            found[f"{stem}.attn2.add_k_proj" if diffusers else f"{stem}.cross_attn.k_img"] = (width, width)
        found[f"{stem}.ffn.net.0.proj" if diffusers else f"{stem}.ffn.0"] = (ffn, width)
    return found


def kohya(found: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {"lora_unet_" + name.replace(".", "_"): size for name, size in found.items()}


def flat_unet(text: int) -> Shapes:
    """Some names of a Stable Diffusion UNet in the original layout."""
    table: Shapes = {"time_embed.0.weight": (1280, 320), "input_blocks.0.0.weight": (320, 4, 3, 3)}
    for number in range(1, 9):
        stem = f"input_blocks.{number}.1.transformer_blocks.0"
        table[f"{stem}.attn1.to_k.weight"], table[f"{stem}.attn2.to_k.weight"] = (640, 640), (640, text)
        table[f"input_blocks.{number}.0.in_layers.0.weight"] = (640,)
    return table


def checkpoint(text: int, encoder: str, unet: Shapes | None = None) -> Shapes:
    return {
        **prefixed(unet or flat_unet(text), "model.diffusion_model."),
        **{f"first_stage_model.decoder.up.{n}.block.0.conv1.weight": (128, 128, 3, 3) for n in range(20)},
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
        **{f"{encoder}.transformer.text_model.encoder.layers.{n}.mlp.fc1.weight": (3072, 768) for n in range(12)},
    }


FLUX: Shapes = {
    "img_in.weight": (3072, 64),
    "txt_in.weight": (3072, 4096),
    **{f"double_blocks.{n}.img_attn.norm.key_norm.scale": (128,) for n in range(19)},
    **{f"double_blocks.{n}.img_attn.qkv.weight": (9216, 3072) for n in range(19)},
    **{f"single_blocks.{n}.linear1.weight": (21504, 3072) for n in range(38)},
}
MOCHI: Shapes = {f"blocks.{n}.attn.qkv_x.weight": (9216, 3072) for n in range(48)}
COSMOS: Shapes = prefixed(
    {
        "x_embedder.proj.1.weight": (2048, 68),
        **{f"blocks.{n}.{a}.q_proj.weight": (2048, 2048) for n in range(28) for a in ("self_attn", "cross_attn")},
        **{f"blocks.{n}.self_attn.q_norm.weight": (128,) for n in range(28)},
    },
    "net.",
)
LANGUAGE: Shapes = {
    "model.embed_tokens.weight": (152064, 3584),
    **{f"model.layers.{n}.self_attn.q_proj.weight": (3584, 3584) for n in range(28)},
}
SD_VAE: Shapes = {
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.mid.block_1.conv1.weight": (512, 512, 3, 3),
    "encoder.conv_in.weight": (128, 3, 3, 3),
    "encoder.conv_out.weight": (8, 512, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
}

# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tensors(table: Shapes, dtype: str = "BF16") -> list[Tensor]:
    return [Tensor(name, dtype, shape, 0, 0) for name, shape in table.items()]


def write_safetensors(file: Path, table: Shapes, dtypes: dict[str, str] | None = None, **metadata: str) -> Path:
    """A file of full length that holds nothing but its header."""
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, shape in table.items():
        dtype = (dtypes or {}).get(name, "BF16")
        end = at + math.prod(shape) * WIDTH[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + at)
    return file


BLOCKS = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "BF16": (30, 1, 2)}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value_of(value: object) -> bytes:
    """A metadata value with its kind."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case list():
            inner = [value_of(item) for item in value] or [struct.pack("<I", 4)]
            return struct.pack("<I", 9) + inner[0][:4] + struct.pack("<Q", len(value)) + b"".join(i[4:] for i in inner)
    raise TypeError(value)


def gguf_header(
    table: Shapes, kind: Callable[[str], str], metadata: dict[str, object], version: int
) -> tuple[bytes, int]:
    """The header and the length of what follows."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(table), len(metadata))
    head += b"".join(text(key) + value_of(value) for key, value in metadata.items())
    at = 0
    for name, shape in table.items():
        number, size, width = BLOCKS[kind(name)]
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape[::-1])
        head += struct.pack("<IQ", number, at)
        at += -(-math.prod(shape) // size * width // 32) * 32
    return head + b"\0" * (-len(head) % 32), at


def write_gguf(
    file: Path,
    table: Shapes,
    kind: Callable[[str], str] = lambda name: "F16",
    metadata: dict[str, object] | None = None,
    version: int = 3,
) -> Path:
    head, length = gguf_header(table, kind, {"general.architecture": "wan"} if metadata is None else metadata, version)
    with file.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + length)
    return file


@cache
def architectures() -> dict[str, dict[str, Any]]:
    """The sizes of the published models, as the manifest has them."""
    import tomllib

    tables = tomllib.loads((Path(__file__).parent.parent / "models.toml").read_text())["architectures"]

    def full(name: str) -> dict[str, Any]:
        own = dict(tables[name])
        base = own.pop("base", None)
        return {**(full(base) if base else {}), **own}

    return {name: full(name) for name in tables}


def real(module: str, **arguments: Any) -> Shapes:
    """The tensors of a class of diffusers or transformers, built without weights."""
    import diffusers
    import torch
    import transformers

    with torch.device("meta"):
        if module == "UMT5EncoderModel":
            model = transformers.UMT5EncoderModel(transformers.UMT5Config(**arguments))
        elif module == "CLIPVisionModelWithProjection":
            model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**arguments))
        else:
            model = getattr(diffusers, module)(**arguments)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def look(
    table: Shapes, file: Path, name: str = "", dtypes: dict[str, str] | None = None, **metadata: str
) -> Recognised:
    shard = read_shard(write_safetensors(file, table, dtypes, **metadata))
    return recognise(shard.tensors, name, shard.metadata)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "model.safetensors"
    (tmp_path / "model.safetensors").unlink(missing_ok=True)


# ── Wan transformers ─────────────────────────────────────────────────────────────────────────────────────────────────

BOTH = ("2.1", "2.2")
WAN: dict[str, tuple[Callable[[], Shapes], str, tuple[str, ...], tuple[str, ...], str]] = {
    "t2v-1.3B": (lambda: wan("1.3B"), "Wan text-to-video 1.3B transformer (Wan 2.1)", ("t2v",), ("2.1",), "1.3B"),
    "t2v-14B": (wan, "Wan text-to-video 14B transformer (Wan 2.1 or 2.2)", ("t2v",), BOTH, "14B"),
    "i2v-2.1": (
        lambda: wan(channels=36, picture=True),
        "Wan image-to-video 14B transformer (Wan 2.1)",
        ("i2v",),
        ("2.1",),
        "14B",
    ),
    "i2v-A14B": (lambda: wan(channels=36), "Wan image-to-video 14B transformer (Wan 2.2)", ("i2v",), ("2.2",), "14B"),
    "flf2v": (
        lambda: {**wan(channels=36, picture=True), "img_emb.emb_pos": (1, 514, 1280)},
        "Wan first-and-last-frame 14B transformer (Wan 2.1)",
        ("flf2v",),
        ("2.1",),
        "14B",
    ),
    "ti2v-5B": (
        lambda: wan("5B", 48, 48),
        "Wan text-and-image-to-video 5B transformer (Wan 2.2)",
        ("ti2v",),
        ("2.2",),
        "5B",
    ),
    "vace-1.3B": (lambda: vace("1.3B"), "Wan VACE 1.3B transformer (Wan 2.1)", ("vace",), ("2.1",), "1.3B"),
    "vace-14B": (lambda: vace("14B"), "Wan VACE 14B transformer (Wan 2.1 or 2.2)", ("vace",), BOTH, "14B"),
    "animate": (animate, "Wan Animate 14B transformer (Wan 2.2)", ("animate",), ("2.2",), "14B"),
    "animate-2": (
        lambda: wan(channels=36, picture=True, block_name=".block"),
        "Wan Animate 2 14B transformer (Wan 2.2)",
        ("animate",),
        ("2.2",),
        "14B",
    ),
    "s2v": (speech, "Wan speech-to-video 14B transformer (Wan 2.2)", ("s2v",), ("2.2",), "14B"),
}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("kind", WAN)
def test_original_transformers(file: Path, kind: str, prefix: str) -> None:
    make, name, families, versions, size = WAN[kind]
    table = prefixed(make(), prefix)
    found = look(table, file)
    assert (found.name, found.families, found.versions, found.size) == (name, families, versions, size)
    assert (found.part, found.wan, found.expert) == ("transformer", True, None)
    assert found.layout == ("comfyui" if prefix else "original")
    assert found.dtypes == ("BF16",) and found.parameters == sum(map(math.prod, table.values()))
    width, ffn, layers = WIDTHS[size]
    assert found.facts.items() >= {"width": width, "ffn": ffn, "layers": layers, "text_dim": 4096}.items()
    assert "extra" not in found.facts
    assert found.facts["tensors"] == len(table)


def test_the_original_names_have_the_published_sizes() -> None:
    """What this file builds is what was counted on the real classes."""
    counts = {"t2v-1.3B": 1_418_996_800, "t2v-14B": 14_288_491_584, "i2v-2.1": 16_394_878_784, "ti2v-5B": 4_999_787_712}
    for kind, parameters in counts.items():
        assert sum(map(math.prod, WAN[kind][0]().values())) == parameters


DIFFUSERS = {
    "dit-1B": ("WanTransformer3DModel", "t2v-1.3B"),
    "dit-14B": ("WanTransformer3DModel", "t2v-14B"),
    "dit-5B": ("WanTransformer3DModel", "ti2v-5B"),
    "dit-14B-image": ("WanTransformer3DModel", "i2v-A14B"),
    "dit-14B-clip": ("WanTransformer3DModel", "i2v-2.1"),
    "dit-14B-clip-pair": ("WanTransformer3DModel", "flf2v"),
    "vace-1B": ("WanVACETransformer3DModel", "vace-1.3B"),
    "vace-14B": ("WanVACETransformer3DModel", "vace-14B"),
    "animate-14B": ("WanAnimateTransformer3DModel", "animate"),
    "animate-2-14B": ("WanAnimate2Transformer3DModel", "animate-2"),
}


@pytest.mark.parametrize("architecture", DIFFUSERS)
def test_diffusers_transformers(file: Path, architecture: str) -> None:
    module, kind = DIFFUSERS[architecture]
    sizes = dict(architectures()[architecture])
    found = look(real(module, **sizes), file)
    _, name, families, versions, size = WAN[kind]
    assert (found.name, found.families, found.versions, found.size) == (name, families, versions, size)
    assert found.layout == "diffusers" and found.wan and "extra" not in found.facts
    channels = sizes.get("in_channels") or sizes["in_dim"]
    assert found.facts["in_channels"] == channels and found.facts["out_channels"] == (48 if size == "5B" else 16)


@pytest.mark.parametrize("marked", [".scale_weight", ".scale_input", ""])
def test_fp8(file: Path, marked: str) -> None:
    table = wan(channels=36)
    matrices = [name for name, shape in table.items() if name.startswith("blocks.") and len(shape) == 2]
    dtypes = dict.fromkeys(matrices, "F8_E4M3") | {"scaled_fp8": "F8_E4M3"}
    table |= {name.removesuffix(".weight") + marked: () for name in matrices} if marked else {}
    table |= {"scaled_fp8": (2,)}
    found = look(table, file, "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", dtypes)
    assert (found.families, found.expert, found.layout) == (("i2v",), "low", "comfyui")
    assert found.dtypes == ("F8_E4M3", "BF16") and "extra" not in found.facts
    assert found.name == "Wan image-to-video 14B transformer, low-noise expert (Wan 2.2)"


@pytest.mark.parametrize("joined", [False, True])
def test_gguf_transformers(tmp_path: Path, joined: bool) -> None:
    table = wan("14B", 36)
    if joined:  # four dimensions are ggml's most: some files join two
        table["patch_embedding.weight"] = (5120 * 36, 1, 2, 2)
    file = write_gguf(
        tmp_path / "x.gguf", table, lambda name: "Q4_K" if name.endswith(("q.weight", "ffn.0.weight")) else "F16"
    )
    shard = read_gguf(file)
    assert {t.name: t.shape for t in shard.tensors} == table
    found = recognise(shard.tensors, "HighNoise/Wan2.2-I2V-A14B-HighNoise-Q4_K_M.gguf", shard.metadata, "gguf")
    assert (found.layout, found.families, found.versions, found.expert) == ("gguf", ("i2v",), ("2.2",), "high")
    assert set(found.dtypes) == {"Q4_K", "F16"}
    assert found.parameters == sum(map(math.prod, table.values()))
    assert found.facts["in_channels"] == 36


@pytest.mark.parametrize(
    ("name", "expert", "versions"),
    [
        ("wan2.2_t2v_high_noise_14B_fp16.safetensors", "high", ("2.2",)),
        ("Wan2_2-T2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", "low", ("2.2",)),
        ("high_noise_model/diffusion_pytorch_model-00001-of-00006.safetensors", "high", ("2.2",)),
        ("models/transformer_2/diffusion_pytorch_model.safetensors", "low", ("2.2",)),
        ("wan2.1_t2v_14B_bf16.safetensors", None, ("2.1",)),
        ("Wan22-T2V.safetensors", None, ("2.2",)),
        ("t2v-A14B.safetensors", None, ("2.2",)),
        ("t2v_low_vram.safetensors", None, BOTH),
        ("high-res-slow.safetensors", None, BOTH),
        ("high_and_low.safetensors", None, BOTH),
        ("yellow.safetensors", None, BOTH),
        ("/low/models/t2v.safetensors", None, BOTH),
        ("", None, BOTH),
    ],
)
def test_names_tell_experts_and_versions(name: str, expert: str | None, versions: tuple[str, ...]) -> None:
    found = recognise(tensors(wan()), name)
    assert (found.expert, found.versions, found.families) == (expert, versions, ("t2v",))


def test_names_do_not_overrule_tensors() -> None:
    assert recognise(tensors(wan("1.3B")), "wan2.2_high_noise.safetensors").versions == ("2.1",)
    assert recognise(tensors(wan("1.3B")), "wan2.2_high_noise.safetensors").expert is None
    assert recognise(tensors(wan(channels=36)), "wan2.1_i2v.safetensors").versions == ("2.2",)


def test_metadata_tell_the_expert() -> None:
    found = recognise(tensors(wan()), "model.safetensors", {"general.name": "Wan2.2 T2V A14B HighNoise"})
    assert (found.expert, found.versions) == ("high", ("2.2",))


def test_one_shard_of_many() -> None:
    middle = {name: shape for name, shape in wan().items() if name.startswith(("blocks.11.", "blocks.12."))}
    found = recognise(tensors(middle))
    assert found.wan and found.name == "part of a Wan 14B transformer (Wan 2.1 or 2.2)" and found.size == "14B"
    assert set(found.families) == {"t2v", "i2v", "vace", "s2v"}
    assert recognise(tensors({k: v for k, v in wan("5B", 48, 48).items() if "blocks.7." in k})).families == ("ti2v",)


EXTRA: dict[str, tuple[Shapes, str]] = {
    "control_adapter": ({**wan(channels=32), **linear("control_adapter.conv", 5120, 1536)}, "Fun-Camera"),
    "ref_conv": ({**wan(channels=52), "ref_conv.weight": (5120, 16, 2, 2)}, "Fun-Control"),
    "blocks.cam_encoder": (
        wan("1.3B") | {f"blocks.{n}.cam_encoder.weight": (1536, 12) for n in range(30)},
        "ReCamMaster",
    ),
    "blocks.audio_cross_attn": (
        wan(channels=36, picture=True) | {f"blocks.{n}.audio_cross_attn.proj.weight": (5120, 5120) for n in range(40)},
        "speech",
    ),
    "blocks.cross_attn.k_audio": (wan() | {"blocks.0.cross_attn.k_audio.weight": (5120, 768)}, "k_audio"),
    "mystery": (wan() | {"mystery.0.weight": (3, 3)}, "mystery"),
}


@pytest.mark.parametrize("kind", EXTRA)
def test_additions_are_named_and_fit_no_family(kind: str) -> None:
    table, word = EXTRA[kind]
    found = recognise(tensors(table))
    assert found.wan and found.families == () and found.facts["extra"] == 1
    assert "additions" in found.name and any(kind in sign and word in sign for sign in found.why)


@pytest.mark.parametrize(("size", "channels"), [("14B", 48), ("14B", 52), ("5B", 100), ("14B", 100), ("1.3B", 32)])
def test_other_channels_are_wan_of_no_family(size: str, channels: int) -> None:
    found = recognise(tensors(wan(size, channels, 48 if size == "5B" else 16)))
    assert found.wan and found.families == () and found.facts["in_channels"] == channels and found.size == size
    assert f"{channels} channels" in found.name
    named = recognise(tensors(wan("14B", channels)), "Wan2.2-Fun-Control_high_noise.safetensors")
    assert (named.expert, named.versions) == ("high", ("2.2",))


def test_unpublished_sizes() -> None:
    pruned = {name: shape for name, shape in wan().items() if not name.startswith("blocks.39.")}
    found = recognise(tensors(pruned))
    assert (found.size, found.families, found.facts["layers"]) == (None, ("t2v",), 39)


def test_vace_blocks_alone(file: Path) -> None:
    found = look(vace_blocks("14B"), file)
    assert found.wan and found.families == () and found.size == "14B" and "without the transformer" in found.name


# ── VAEs and encoders ────────────────────────────────────────────────────────────────────────────────────────────────

PARTS: dict[str, tuple[Callable[[], Shapes], str, str, bool, str]] = {
    "vae 2.1": (lambda: wan_vae(16, 96, False), "vae", "original", True, "Wan 2.1 VAE"),
    "vae 2.2": (lambda: wan_vae(48, 160, True), "vae", "original", True, "Wan 2.2 VAE"),
    "vae 2.1, wrapped": (lambda: prefixed(wan_vae(16, 96, False), "model."), "vae", "original", True, "Wan 2.1 VAE"),
    "vae 2.1, diffusers": (
        lambda: real("AutoencoderKLWan", **architectures()["vae-2.1"]),
        "vae",
        "diffusers",
        True,
        "Wan 2.1 VAE",
    ),
    "vae 2.2, diffusers": (
        lambda: real("AutoencoderKLWan", **architectures()["vae-2.2"]),
        "vae",
        "diffusers",
        True,
        "Wan 2.2 VAE",
    ),
    "SD VAE": (lambda: SD_VAE, "vae", "original", False, "Stable Diffusion VAE for images, not a video VAE"),
    "Flux VAE": (
        lambda: real("AutoencoderKL", latent_channels=16),
        "vae",
        "diffusers",
        False,
        "Flux or Stable Diffusion 3 VAE for images, not a video VAE",
    ),
    "tiny VAE": (lambda: real("AutoencoderTiny"), "vae", "unknown", False, "a tiny preview decoder"),
    "umt5": (t5, "text_encoder", "diffusers", True, "UMT5-XXL text encoder"),
    "umt5, real": (
        lambda: real("UMT5EncoderModel", **architectures()["umt5-xxl"]),
        "text_encoder",
        "diffusers",
        True,
        "UMT5-XXL text encoder",
    ),
    "umt5, original": (lambda: renamed(t5(), T5_WAN), "text_encoder", "original", True, "UMT5-XXL text encoder"),
    "umt5, fp8": (
        lambda: {
            **t5(),
            "scaled_fp8": (0,),
            **{f"{n}.scale_weight": () for n in t5() if n.endswith(".q.weight")},
        },
        "text_encoder",
        "comfyui",
        True,
        "UMT5-XXL text encoder",
    ),
    "umt5-base": (lambda: t5(12, 768), "text_encoder", "diffusers", False, "UMT5 text encoder (12 layers, 768 wide)"),
    "t5": (
        lambda: t5(vocabulary=32128, shared=True),
        "text_encoder",
        "diffusers",
        False,
        "T5 text encoder (4096 wide)",
    ),
    "t5, gguf": (
        lambda: renamed(t5(vocabulary=32128, shared=True), T5_GGUF),
        "text_encoder",
        "gguf",
        False,
        "T5 text encoder (4096 wide), not the UMT5 that Wan uses",
    ),
    "clip text": (
        lambda: {
            "text_model.embeddings.token_embedding.weight": (49408, 768),
            **{f"text_model.encoder.layers.{n}.mlp.fc1.weight": (3072, 768) for n in range(12)},
        },
        "text_encoder",
        "diffusers",
        False,
        "CLIP-L text encoder, not one Wan uses",
    ),
    "language model": (lambda: LANGUAGE, "text_encoder", "unknown", False, "language model"),
    "clip": (wan_clip, "image_encoder", "original", True, "CLIP ViT-H image encoder"),
    "clip, real": (
        lambda: real("CLIPVisionModelWithProjection", **architectures()["clip-vit-h"]),
        "image_encoder",
        "diffusers",
        True,
        "CLIP ViT-H image encoder",
    ),
    "clip, hugging": (
        lambda: {
            "vision_model.embeddings.class_embedding": (1280,),
            "vision_model.embeddings.patch_embedding.weight": (1280, 3, 14, 14),
            "visual_projection.weight": (1024, 1280),
            **{f"vision_model.encoder.layers.{n}.mlp.fc1.weight": (5120, 1280) for n in range(32)},
        },
        "image_encoder",
        "diffusers",
        True,
        "CLIP ViT-H image encoder",
    ),
    "clip L": (
        lambda: wan_clip(24, 1024),
        "image_encoder",
        "original",
        False,
        "CLIP image encoder (24 layers, 1024 wide)",
    ),
    "nothing": (dict, "unknown", "unknown", False, "unknown weights"),
    "anything": (lambda: {"a.b.c": (1,), "d": (2, 2)}, "unknown", "unknown", False, "unknown weights"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_other_parts(file: Path, kind: str) -> None:
    make, part, layout, ours, name = PARTS[kind]
    found = look(make(), file)
    assert (found.part, found.layout, found.wan) == (part, layout, ours)
    assert found.name.startswith(name)
    assert found.families == () and found.size is None and found.expert is None
    if part == "vae" and ours:
        assert found.facts["z"] == {"2.1": 16, "2.2": 48}[found.versions[0]]


def test_umt5_in_gguf(tmp_path: Path) -> None:
    vocabulary: list[object] = ["a", "b" * 100] * 500
    metadata: dict[str, object] = {"general.architecture": "t5encoder", "tokenizer.ggml.tokens": vocabulary}
    table = renamed(t5(), T5_GGUF)
    shard = read_gguf(write_gguf(tmp_path / "umt5.gguf", table, lambda name: "Q8_0", metadata))
    found = recognise(shard.tensors, "umt5-xxl-encoder-Q8_0.gguf", shard.metadata, "gguf")
    assert (found.part, found.layout, found.wan, found.name) == ("text_encoder", "gguf", True, "UMT5-XXL text encoder")
    assert found.dtypes == ("Q8_0",) and shard.metadata == {"general.architecture": "t5encoder"}
    assert found.parameters == sum(map(math.prod, table.values()))


def test_a_shard_of_umt5() -> None:
    first = {name: shape for name, shape in t5().items() if ".block.0." in name or ".block.1." in name}
    later = {name: shape for name, shape in t5().items() if ".block.17." in name or ".block.18." in name}
    assert recognise(tensors(first)).wan and recognise(tensors(later)).name == "part of a UMT5-XXL text encoder"


def test_qwens_vae_is_told_by_its_name_alone() -> None:
    table = real("AutoencoderKLQwenImage")
    assert recognise(tensors(table)).name == "Wan 2.1 VAE"
    found = recognise(tensors(table), "qwen_image_vae.safetensors")
    assert (found.wan, found.name) == (False, "Qwen-Image VAE, by its name")


@pytest.mark.parametrize("module", ["LTXVideo", "HunyuanVideo", "CogVideoX", "Mochi", "Cosmos", "HunyuanVideo15"])
def test_other_video_vaes(module: str) -> None:
    found = recognise(tensors(real(f"AutoencoderKL{module}")))
    assert (found.part, found.wan) == ("vae", False)
    assert (
        found.name
        == f"{ {'LTXVideo': 'LTX-Video', 'HunyuanVideo15': 'HunyuanVideo 1.5'}.get(module, module) } VAE, not Wan's"
    )


# ── Other models ─────────────────────────────────────────────────────────────────────────────────────────────────────

OTHERS: dict[str, tuple[Callable[[], Shapes], str]] = {
    "Flux": (lambda: FLUX, "Flux transformer"),
    "Flux, comfyui": (lambda: prefixed(FLUX, "model.diffusion_model."), "Flux transformer"),
    "Flux, diffusers": (lambda: real("FluxTransformer2DModel", num_layers=2, num_single_layers=2), "Flux transformer"),
    "SD3": (
        lambda: {f"joint_blocks.{n}.x_block.attn.qkv.weight": (4608, 1536) for n in range(24)},
        "Stable Diffusion 3 transformer",
    ),
    "SD3, diffusers": (lambda: real("SD3Transformer2DModel", num_layers=2), "Stable Diffusion 3 transformer"),
    "LTX, diffusers": (lambda: real("LTXVideoTransformer3DModel", num_layers=2), "LTX-Video transformer"),
    "LTX": (
        lambda: {
            "patchify_proj.weight": (2048, 128),
            "scale_shift_table": (2, 2048),
            **{f"transformer_blocks.{n}.scale_shift_table": (6, 2048) for n in range(28)},
            **{f"transformer_blocks.{n}.attn1.to_q.weight": (2048, 2048) for n in range(28)},
        },
        "LTX-Video transformer",
    ),
    "Hunyuan": (
        lambda: {
            **{f"txt_in.individual_token_refiner.blocks.{n}.adaLN_modulation.1.weight": (6144, 3072) for n in range(2)},
            **{f"double_blocks.{n}.img_attn_qkv.weight": (9216, 3072) for n in range(20)},
        },
        "HunyuanVideo transformer",
    ),
    "Hunyuan, diffusers": (
        lambda: real("HunyuanVideoTransformer3DModel", num_layers=1, num_single_layers=1),
        "HunyuanVideo transformer",
    ),
    "CogVideoX": (lambda: real("CogVideoXTransformer3DModel", num_layers=2), "CogVideoX transformer"),
    "Mochi": (lambda: MOCHI, "Mochi transformer"),
    "Mochi, diffusers": (lambda: real("MochiTransformer3DModel", num_layers=2), "Mochi transformer"),
    "Qwen-Image": (lambda: real("QwenImageTransformer2DModel", num_layers=2), "Qwen-Image transformer"),
    "Cosmos": (lambda: COSMOS, "Cosmos transformer"),
    "Cosmos, diffusers": (lambda: real("CosmosTransformer3DModel", num_layers=2), "Cosmos transformer"),
    "UNet of SD1": (lambda: flat_unet(768), "Stable Diffusion 1 UNet"),
    "UNet of SD2": (lambda: flat_unet(1024), "Stable Diffusion 2 UNet"),
    "UNet of SD1, diffusers": (
        lambda: real("UNet2DConditionModel", cross_attention_dim=768),
        "Stable Diffusion 1 UNet",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_models_are_named_and_never_wan(file: Path, kind: str) -> None:
    make, name = OTHERS[kind]
    found = look(make(), file, "wan2.2_t2v_high_noise_14B.safetensors")
    assert (found.part, found.name, found.wan) == ("transformer", name, False)
    assert (found.families, found.versions, found.expert, found.size) == ((), (), None, None)


def test_checkpoints(file: Path) -> None:
    for text_dim, encoder, name in (
        (768, "cond_stage_model", "Stable Diffusion 1"),
        (2048, "conditioner.embedders.0", "Stable Diffusion XL"),
    ):
        found = look(checkpoint(text_dim, encoder), file)
        assert (found.part, found.wan, found.families) == ("checkpoint", False, ())
        assert found.name == f"checkpoint of several parts: {name}"
    found = look(checkpoint(0, "text_encoders.umt5xxl", wan(channels=36)), file)
    assert (found.part, found.wan, found.families) == ("checkpoint", True, ("i2v",))


# ── LoRAs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

ALL_14B = ("t2v", "i2v", "flf2v", "vace", "animate", "s2v")
LORAS: dict[str, tuple[Callable[[], Shapes], str, tuple[str, ...], tuple[str, ...], str, int, str]] = {
    "comfyui": (
        lambda: lora(modules("14B", "diffusion_model."), 64),
        "LoRA of rank 64 for Wan 14B (Wan 2.1 or 2.2)",
        ALL_14B,
        BOTH,
        "14B",
        64,
        "comfyui",
    ),
    "bare": (
        lambda: lora(modules("1.3B"), 8, ".lora_down", ".lora_up", alpha=True),
        "LoRA of rank 8 for Wan 1.3B (Wan 2.1)",
        ("t2v", "vace"),
        ("2.1",),
        "1.3B",
        8,
        "original",
    ),
    "diffusers": (
        lambda: lora(modules("14B", "transformer.", diffusers=True), 32),
        "LoRA of rank 32 for Wan 14B (Wan 2.1 or 2.2)",
        ALL_14B,
        BOTH,
        "14B",
        32,
        "diffusers",
    ),
    "diffusers, picture": (
        lambda: lora(modules("14B", "transformer.", picture=True, diffusers=True)),
        "LoRA of rank 32 for Wan 14B (Wan 2.1)",
        ("i2v", "flf2v"),
        ("2.1",),
        "14B",
        32,
        "diffusers",
    ),
    "kohya": (
        lambda: lora(kohya(modules("5B")), 16, ".lora_down", ".lora_up", alpha=True),
        "LoRA of rank 16 for Wan text-and-image-to-video 5B (Wan 2.2)",
        ("ti2v",),
        ("2.2",),
        "5B",
        16,
        "original",
    ),
    "kohya, picture": (
        lambda: lora(kohya(modules("14B", picture=True)), 16, ".lora_down", ".lora_up", alpha=True),
        "LoRA of rank 16 for Wan 14B (Wan 2.1)",
        ("i2v", "flf2v"),
        ("2.1",),
        "14B",
        16,
        "original",
    ),
    "kohya, diffusers' names": (
        lambda: lora(kohya(modules("14B", diffusers=True)), 16, ".lora_down", ".lora_up"),
        "LoRA of rank 16 for Wan 14B (Wan 2.1 or 2.2)",
        ALL_14B,
        BOTH,
        "14B",
        16,
        "diffusers",
    ),
    "peft": (
        lambda: lora(modules("14B", "base_model.model."), 4, ".lora_A.default", ".lora_B.default"),
        "LoRA of rank 4 for Wan 14B (Wan 2.1 or 2.2)",
        ALL_14B,
        BOTH,
        "14B",
        4,
        "original",
    ),
    "old names": (
        lambda: lora(modules("5B"), 4, ".lora.down", ".lora.up"),
        "LoRA of rank 4 for Wan text-and-image-to-video 5B (Wan 2.2)",
        ("ti2v",),
        ("2.2",),
        "5B",
        4,
        "original",
    ),
    "vace": (
        lambda: lora(
            {f"diffusion_model.vace_blocks.{n}.self_attn.q": (5120, 5120) for n in range(8)}
            | modules("14B", "diffusion_model."),
        ),
        "LoRA of rank 32 for Wan VACE 14B (Wan 2.1 or 2.2)",
        ("vace",),
        BOTH,
        "14B",
        32,
        "comfyui",
    ),
    "36 channels": (
        lambda: {
            **lora(modules("14B", "diffusion_model."), 128),
            "diffusion_model.patch_embedding.diff": (5120, 36, 1, 2, 2),
            "diffusion_model.patch_embedding.diff_b": (5120,),
            **{f"diffusion_model.blocks.{n}.self_attn.norm_q.diff": (5120,) for n in range(40)},
            **{f"diffusion_model.blocks.{n}.self_attn.q.diff_b": (5120,) for n in range(40)},
        },
        "LoRA of rank 128 for Wan image-to-video 14B (Wan 2.1 or 2.2)",
        ("i2v",),
        BOTH,
        "14B",
        128,
        "comfyui",
    ),
    "loha": (
        lambda: {
            f"diffusion_model.{name}.hada_{part}": shape
            for name in modules("14B")
            if "attn" in name
            for part, shape in (("w1_a", (5120, 6)), ("w1_b", (6, 5120)), ("w2_a", (5120, 6)), ("w2_b", (6, 5120)))
        },
        "LoHa of rank 6 for Wan 14B (Wan 2.1 or 2.2)",
        ALL_14B,
        BOTH,
        "14B",
        6,
        "comfyui",
    ),
}


@pytest.mark.parametrize("kind", LORAS)
def test_loras(file: Path, kind: str) -> None:
    make, name, families, versions, size, rank, layout = LORAS[kind]
    found = look(make(), file)
    assert found.name == name
    assert (found.part, found.wan, found.families, found.versions) == ("lora", True, families, versions)
    assert (found.size, found.rank, found.layout) == (size, rank, layout)


def test_lokr(file: Path) -> None:
    table: Shapes = {}
    for name in kohya(modules("14B")):
        if "attn" in name:
            stem = name.replace("lora_unet_", "lycoris_")
            table |= {f"{stem}.lokr_w1": (8, 8), f"{stem}.lokr_w2": (640, 640), f"{stem}.alpha": ()}
    found = look(table, file)
    assert (found.name, found.size, found.rank) == ("LoKr for Wan 14B (Wan 2.1 or 2.2)", "14B", None)


@pytest.mark.parametrize(
    ("name", "expert", "families", "versions"),
    [
        ("wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors", "high", ("t2v",), ("2.2",)),
        ("Wan2.2-I2V-A14B-4steps-lora-rank64-Seko-V1/low_noise_model.safetensors", "low", ("i2v",), ("2.2",)),
        ("Style_HIGH.safetensors", "high", ALL_14B, ("2.2",)),
        ("wan_t2v_style.safetensors", None, ("t2v",), BOTH),
        ("Wan21_style.safetensors", None, ALL_14B, ("2.1",)),
        ("my_slow_lora.safetensors", None, ALL_14B, BOTH),
    ],
)
def test_names_of_loras(name: str, expert: str | None, families: tuple[str, ...], versions: tuple[str, ...]) -> None:
    found = recognise(tensors(lora(modules("14B", "diffusion_model."))), name)
    assert (found.expert, found.families, found.versions) == (expert, families, versions)


def test_a_lora_for_the_second_expert() -> None:
    found = recognise(tensors(lora(modules("14B", "transformer_2.", diffusers=True))))
    assert (found.expert, found.versions) == ("low", ("2.2",))


def unet_lora(prefix: str, join: str, text: int) -> Shapes:
    names = (f"{prefix}down{join}blocks.1.attentions.0.transformer_blocks.0.attn2.to_k".split("."),)
    parts = {join.join(part) if join == "_" else ".".join(part): (640, text) for part in names}
    return lora(parts, 16, ".lora_down", ".lora_up", alpha=True)


FOREIGN: dict[str, tuple[Callable[[], Shapes], str]] = {
    "Flux, kohya": (
        lambda: lora({f"lora_unet_double_blocks_{n}_img_mlp_0": (12288, 3072) for n in range(19)}, 16),
        "Flux",
    ),
    "Flux, diffusers": (
        lambda: lora({f"transformer.single_transformer_blocks.{n}.attn.to_q": (3072, 3072) for n in range(38)}),
        "Flux or HunyuanVideo",
    ),
    "Hunyuan": (
        lambda: lora({f"diffusion_model.double_blocks.{n}.img_attn_qkv": (9216, 3072) for n in range(20)}),
        "HunyuanVideo",
    ),
    "SD": (lambda: unet_lora("lora_unet_", "_", 768), "Stable Diffusion"),
    "SDXL": (
        lambda: {
            **unet_lora("lora_unet_", "_", 2048),
            **lora({"lora_te2_text_model_encoder_layers_0_mlp_fc1": (5120, 1280)}),
        },
        "Stable Diffusion XL",
    ),
    "Qwen": (lambda: lora({f"transformer_blocks.{n}.img_mod.1": (18432, 3072) for n in range(60)}), "Qwen-Image"),
    "LTX": (
        lambda: lora(
            {
                f"transformer.transformer_blocks.{n}.{a}.to_q": (2048, 2048)
                for n in range(28)
                for a in ("attn1", "attn2")
            }
        ),
        "LTX-Video",
    ),
    "CogVideoX": (
        lambda: lora({f"transformer.transformer_blocks.{n}.attn1.to_q": (1920, 1920) for n in range(30)}),
        "CogVideoX",
    ),
    "unknown": (lambda: lora({f"layers.{n}.thing": (64, 64) for n in range(30)}), "an unknown model"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_loras_of_other_models(file: Path, kind: str) -> None:
    make, model = FOREIGN[kind]
    found = look(make(), file, "wan2.2_high_noise_t2v.safetensors")
    assert (found.part, found.wan, found.families, found.size, found.expert) == ("lora", False, (), None, None)
    assert found.name.endswith(f" for {model}") and found.rank


# ── GGUF files that are broken ───────────────────────────────────────────────────────────────────────────────────────

SMALL: Shapes = {"a.weight": (4, 256), "b.weight": (32,)}


def small(metadata: dict[str, object] | None = None, version: int = 3) -> bytes:
    head, length = gguf_header(SMALL, lambda name: "F16", metadata or {}, version)
    return head + b"\0" * length


def raw(*entries: bytes, tensors: int = 0, values: int = 0, tail: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + b"".join(entries) + tail


def info(name: str, shape: Iterable[int], kind: int = 1, offset: int = 0) -> bytes:
    shape = tuple(shape)
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def nested(depth: int) -> bytes:
    return text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 0)


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "another file": b"PK\3\4" + bytes(100),
    "version 1": small(version=1),
    "version 4": small(version=4),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "no counts": b"GGUF\3\0\0\0\1",
    "cut in the header": small()[:60],
    "cut in the data": small()[:-64],
    "tensors without end": raw(tensors=2**63),
    "too many tensors": raw(tensors=20_001, tail=bytes(20_001 * 24)),
    "values without end": raw(values=2**63),
    "a key without end": raw(struct.pack("<Q", 2**40), values=1, tail=bytes(64)),
    "a long key": raw(text("k" * 70_000) + value_of(1), values=1),
    "a key that is no text": raw(struct.pack("<Q", 2) + b"\xff\xfe" + value_of(1), values=1),
    "an unknown value": raw(text("k") + struct.pack("<I", 99), values=1, tail=bytes(64)),
    "a key twice": raw(text("k") + value_of(1), text("k") + value_of(2), values=2),
    "a long value": raw(text("k") + value_of("v" * 70_000), values=1),
    "an array without end": raw(text("k") + struct.pack("<IIQ", 9, 4, 2**62), values=1, tail=bytes(64)),
    "texts without end": raw(text("k") + struct.pack("<IIQ", 9, 8, 2**61), values=1, tail=bytes(64)),
    "an array of unknowns": raw(text("k") + struct.pack("<IIQ", 9, 77, 1), values=1, tail=bytes(64)),
    "deep arrays": raw(nested(5), values=1),
    "arrays within arrays": raw(nested(100_000), values=1),
    "no alignment": raw(text("general.alignment") + value_of(0), values=1),
    "an odd alignment": raw(text("general.alignment") + value_of(48), values=1),
    "an alignment that is no number": raw(text("general.alignment") + value_of(0.5), values=1),
    "many dimensions": raw(info("a", [1] * 9), tensors=1, tail=bytes(64)),
    "dimensions without end": raw(text("a") + struct.pack("<I", 2**31), tensors=1, tail=bytes(64)),
    "endless": raw(info("a", [2**63, 2**63, 2]), tensors=1, tail=bytes(64)),
    "endless and empty": raw(info("a", [2**63, 0]), tensors=1, tail=bytes(64)),
    "half a block": raw(info("a", [100], 12), tensors=1, tail=bytes(640)),
    "not aligned": raw(info("a", [4], 1, 8), tensors=1, tail=bytes(640)),
    "behind the end": raw(info("a", [4], 1, 2**40), tensors=1, tail=bytes(640)),
    "unknown and behind the end": raw(info("a", [4], 99, 2**40), tensors=1, tail=bytes(640)),
    "too large": raw(info("a", [2**40]), tensors=1, tail=bytes(640)),
    "one over the other": raw(info("a", [64]), info("b", [64], 1, 32), tensors=2, tail=bytes(640)),
    "a name twice": raw(info("a", [16]), info("a", [16], 1, 32), tensors=2, tail=bytes(640)),
    "a name that is no text": raw(struct.pack("<Q", 1) + b"\xff" + info("", [4])[8:], tensors=1, tail=bytes(640)),
    "too many values": raw(*(text(str(n)) + value_of(True) for n in range(20_001)), values=20_001),
    "too many arrays": raw(text("k") + struct.pack("<IIQ", 9, 9, 10**6), values=1, tail=bytes(12 * 10**6)),
    "texts beyond the end": raw(text("k") + struct.pack("<IIQQ", 9, 8, 1, 2**63), values=1, tail=bytes(64)),
    "a large header": raw(text("k") + struct.pack("<IIQ", 9, 0, 17 * 2**20), values=1, tail=bytes(17 * 2**20)),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_gguf(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(BROKEN[damage])
    started = time.monotonic()
    with pytest.raises(ModelError) as refused:
        read_gguf(file, Path("shown.gguf"))
    assert refused.value.code == "bad-weights" and refused.value.message.startswith("shown.gguf ")
    assert len(refused.value.message) < 400 and time.monotonic() - started < 2


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "absent", Path("a\0b")):
        with pytest.raises(ModelError) as refused:
            read_gguf(file)
        assert refused.value.code == "bad-weights"


@pytest.mark.parametrize("version", [2, 3])
def test_whole_gguf(tmp_path: Path, version: int) -> None:
    values: dict[str, object] = {
        "general.name": "Thing",
        "general.alignment": 64,
        "flag": True,
        "half": 0.5,
        "tags": ["a", "b"],
        "pairs": [[1, 2], [3]],
        "none": [],
    }
    file = tmp_path / "x.gguf"
    head, length = gguf_header(SMALL, lambda name: "F16", values, version)
    file.write_bytes(head + b"\0" * (-len(head) % 64 + length))
    shard = read_gguf(file)
    assert shard.metadata == {"general.name": "Thing", "general.alignment": "64", "flag": "true", "half": "0.5"}
    assert [(t.name, t.dtype, t.shape, t.begin, t.end) for t in shard.tensors] == [
        ("a.weight", "F16", (4, 256), 0, 2048),
        ("b.weight", "F16", (32,), 2048, 2112),
    ]
    assert shard.data % 64 == 0 and shard.data + 2112 == file.stat().st_size


def test_a_large_vocabulary_is_quick(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(raw(text("k") + struct.pack("<IIQ", 9, 8, 2_000_000), values=1, tail=bytes(16_000_000)))
    started = time.process_time()
    assert read_gguf(file).tensors == ()
    assert time.process_time() - started < 1.5


def test_an_unknown_type_has_no_size(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(raw(info("a", [100], 999), tensors=1, tail=bytes(640)))
    (tensor,) = read_gguf(file).tensors
    assert (tensor.dtype, tensor.shape, tensor.begin, tensor.end) == ("TYPE_999", (100,), 0, 0)


# ── Anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────


def check(found: Recognised) -> None:
    assert found.part in {"transformer", "vae", "text_encoder", "image_encoder", "lora", "checkpoint", "unknown"}
    assert found.layout in {"diffusers", "original", "comfyui", "gguf", "unknown"}
    assert set(found.families) <= set(FAMILY_TASKS) and found.size in {"1.3B", "5B", "14B", None}
    assert found.expert in {"high", "low", None} and set(found.versions) <= {"2.1", "2.2"}
    shown = (found.name, *found.why)
    assert all(len(line) < 500 and line.isprintable() for line in shown)
    assert found.wan or not found.families


def test_mutated_tables() -> None:
    """Names cut, joined and exchanged, shapes of any kind: an answer, never an exception."""
    chance = random.Random(5)
    tables = [
        [(name, shape) for name, shape in table.items() if chance.random() < 0.15 or "0" in name.split(".")]
        for table in (
            *(make() for make, *_ in (WAN[kind] for kind in ("t2v-14B", "flf2v", "vace-1.3B", "animate", "s2v"))),
            wan_vae(16, 96, False),
            t5(4),
            wan_clip(3),
            SD_VAE,
            FLUX,
            checkpoint(768, "cond_stage_model"),
            *(LORAS[kind][0]() for kind in ("comfyui", "kohya", "loha", "36 channels")),
        )
    ]
    words = [
        ".",
        "..",
        "N",
        "",
        "\0",
        "\ud800",
        "blocks.",
        ".1.",
        "lora_unet_",
        ".lora_A",
        ".diff",
        "é",
        "9" * 5000,
        "\n",
    ]
    shapes: list[tuple[int, ...]] = [(), (0,), (0, 0), (1,) * 300, (10**30, 5), (2**70,) * 40, (-3,), (5, 0, 1, 2, 2)]
    for _ in range(1_500):
        pool = chance.choice(tables)
        table = dict(chance.sample(pool, k=min(len(pool), chance.choice((8, 40)))))
        for name in chance.sample(sorted(table), k=min(len(table), 3)):
            shape, at = table.pop(name), chance.randrange(len(name) + 1)
            name = chance.choice((name[:at], name[at:], name[:at] + chance.choice(words) + name[at:], name))
            table[name] = chance.choice((shape, shape[:-1], shape[::-1], chance.choice(shapes)))
        odd = "".join(chance.choice("wan2.2_high/low\\\0é ") for _ in range(30))
        check(recognise(tensors(table), odd, {"general.name": odd, "x": "\ud800"}, chance.choice((None, "gguf"))))


def test_mutated_gguf(tmp_path: Path) -> None:
    chance = random.Random(6)
    whole = small({"general.name": "Thing", "tags": ["a", "b"], "pairs": [[1, 2], [3]], "half": 0.5})
    file = tmp_path / "x.gguf"
    read = 0
    for _ in range(1_500):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(4, 260)] = chance.choice((0, 1, 255, chance.randrange(256)))
        file.write_bytes(bytes(data[: chance.choice((len(data), chance.randrange(len(data))))]))
        try:
            shard = read_gguf(file)
        except ModelError as error:
            assert error.code == "bad-weights"
        else:
            read += 1
            check(recognise(shard.tensors, "", shard.metadata, "gguf"))
    assert read > 20  # damage in the right places goes unseen


def grows_with_its_length(make: Callable[[int], Shapes], length: int) -> bool:
    """Whether ten times as much takes nowhere near a hundred times as long, the least of three calls each."""

    def taken(length: int) -> float:
        made, times = tensors(make(length)), []
        for _ in range(3):
            started = time.thread_time()
            recognise(made, "x.safetensors")
            times.append(time.thread_time() - started)
        return min(times)

    return taken(length) < 35 * taken(length // 10) + 0.01


@pytest.mark.parametrize(
    "name",
    [
        "blocks.{}.self_attn.q.weight",
        "model.diffusion_model.model.model.blocks.{}.attn.weight",
        "diffusion_model.blocks.{}.self_attn.q.lora_A.weight",
        "lora_unet_double_blocks_{}_x.lora_down.weight",
        "layers_{}_x.lora_down.weight",
        "encoder.{}.conv.weight",
    ],
)
@pytest.mark.sampled(3)
def test_twenty_thousand_tensors_are_quick(name: str) -> None:
    assert grows_with_its_length(lambda n: {name.format(number): (5120, 5120) for number in range(n)}, 20_000)


@pytest.mark.parametrize(("piece", "end"), [(".", ""), (".1", ""), ("1", ""), (".lora_A", "x"), ("_lora.down", "x")])
def test_long_names_are_quick(piece: str, end: str) -> None:
    def table(length: int) -> Shapes:
        name = piece * (length // len(piece)) + end
        return {
            name: (1,),
            "long": (2**40,) * (length // 10),
            f"blocks.{name}": (1,),
            f"lora_unet_blocks_{name}.lora_A": (1, 1),
        }

    assert grows_with_its_length(table, 500_000)
