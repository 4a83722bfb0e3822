"""Tiny random-weight Wan folders, saved by diffusers itself: they go the very way of a 14B model.

Random weights of the usual size leave latents almost as the noise was; these are scaled up, so that a wrong step,
embedding, expert or condition shows in the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from engine.compat.anatomy import read_anatomy
from engine.compat.finding import refuse
from engine.compat.folder import ModelFolder
from engine.compat.rules import judge

TEXT_DIM = 32
KINDS = ("t2v", "t2v-two", "i2v-clip", "i2v-two", "ti2v", "slow")
KNOWN_ONLY = ("flf2v", "vace", "animate")  # families this version knows, and does not run yet
_WORDS = (
    "a an the and in on over with of to then while background circle square triangle star red green blue yellow orange "
    "purple white black gray brown moving bouncing growing shrinking still left right up down slowly fast large small"
)


def transformer(
    seed: int,
    channels: int,
    *,
    out: int = 16,
    layers: int = 2,
    heads: int = 2,
    kind: type = WanTransformer3DModel,
    **more: Any,
) -> Any:
    torch.manual_seed(seed)
    return kind(
        num_attention_heads=heads,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=out,
        text_dim=TEXT_DIM,
        ffn_dim=32 * heads,
        num_layers=layers,
        rope_max_seq_len=64,
        **more,
    )


def vae_21() -> AutoencoderKLWan:
    torch.manual_seed(2)
    return AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def vae_22() -> AutoencoderKLWan:
    """The kind of Wan 2.2 5B: residual, 48 channels, patches of 2, 16 pixels a latent."""
    torch.manual_seed(3)
    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.01 * i for i in range(48)],
        latents_std=[1.0 + 0.02 * i for i in range(48)],
    )


def text_encoder(vocabulary: int) -> UMT5EncoderModel:
    torch.manual_seed(4)
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
    )
    return UMT5EncoderModel(config).eval()


def image_encoder() -> CLIPVisionModel:
    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4, image_size=30, patch_size=6
    )
    return CLIPVisionModel(config).eval()


def small_tokenizer() -> Any:
    """A small Unigram tokenizer with T5's special tokens: a few whole words, and letters for all the rest."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"▁{word}", -4.0) for word in _WORDS.split()]
    letters = [(char, -8.0) for char in ("▁", *map(chr, range(33, 127)))]
    tokenizer = Tokenizer(models.Unigram([*special, *words, *letters], unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def vision() -> dict[str, Any]:
    """The components of a pipeline that sees a picture through CLIP."""
    processor = CLIPImageProcessor(crop_size=30, size={"shortest_edge": 30})
    return {"image_encoder": image_encoder(), "image_processor": processor}


def animate_transformer(**sizes: Any) -> Any:
    return transformer(
        0,
        36,
        kind=WanAnimateTransformer3DModel,
        latent_channels=16,
        image_dim=32,
        added_kv_proj_dim=24,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=8,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=1,
        **sizes,
    )


def pipeline(kind: str, **sizes: Any) -> Any:
    tokenizer = small_tokenizer()
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder(len(tokenizer)),
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        "vae": vae_22() if kind == "ti2v" else vae_21(),
    }
    match kind:
        case "slow":  # a step takes a good part of a second on two cores
            return WanPipeline(**parts, transformer=transformer(0, 16, layers=12, heads=16))
        case "t2v":
            return WanPipeline(**parts, transformer=transformer(0, 16, **sizes))
        case "t2v-two":
            experts = {"transformer": transformer(0, 16, **sizes), "transformer_2": transformer(1, 16, **sizes)}
            return WanPipeline(**parts, **experts, boundary_ratio=0.875)
        case "i2v-two":
            experts = {"transformer": transformer(0, 36, **sizes), "transformer_2": transformer(1, 36, **sizes)}
            return WanImageToVideoPipeline(**parts, **experts, boundary_ratio=0.9)
        case "i2v-clip":
            sees = {"image_dim": 32, "added_kv_proj_dim": 24}
            return WanImageToVideoPipeline(**parts, **vision(), transformer=transformer(0, 36, **sees, **sizes))
        case "flf2v":  # two pictures of (30 / 6)^2 + 1 tokens each
            sees = {"image_dim": 32, "added_kv_proj_dim": 24, "pos_embed_seq_len": 52}
            return WanImageToVideoPipeline(**parts, **vision(), transformer=transformer(0, 36, **sees, **sizes))
        case "vace":
            more = {"kind": WanVACETransformer3DModel, "vace_layers": [0], "vace_in_channels": 96}
            return WanVACEPipeline(**parts, transformer=transformer(0, 16, **more, **sizes))
        case "animate":
            return WanAnimatePipeline(**parts, **vision(), transformer=animate_transformer(**sizes))
    return WanPipeline(**parts, transformer=transformer(0, 48, out=48, **sizes), expand_timesteps=True)


def save(kind: str, folder: Path, **sizes: Any) -> Path:
    """Build the pipeline of one kind and save it."""
    made = pipeline(kind, **sizes)
    with torch.no_grad():
        for name in ("transformer", "transformer_2"):
            if part := getattr(made, name, None):
                for weights in part.parameters():
                    weights.mul_(3.0)
    made.save_pretrained(folder)
    return folder


def sound(path: Path, components: tuple[str, ...]) -> ModelFolder:
    """The folder, which keeps every rule; raises `ModelError` when it does not."""
    anatomy = read_anatomy(path)
    refuse(judge(anatomy, components))
    assert anatomy.folder
    return anatomy.folder
