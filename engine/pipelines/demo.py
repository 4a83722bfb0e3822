"""The built-in model `demo@1`: a real, very small Wan of the text+image kind, made on this box from a seed.

Its weights are random for now: it proves an installation and draws noise.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from engine.compat.anatomy import read_anatomy
from engine.compat.finding import verdict
from engine.compat.rules import judge
from engine.errors import ModelError
from engine.paths import data_dir

SEED = 1
_COMPONENTS = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
_WORDS = (
    "a an the and in on over with of to then while background circle square triangle star red green blue yellow orange "
    "purple white black gray brown moving bouncing growing shrinking still left right up down slowly fast large small"
)


def make_demo(name: str) -> Path:
    """The demo's folder, built on first use; another process that builds it at the same time does no harm."""
    final = data_dir() / name
    if _whole(final):
        return final
    if final.exists():  # half-built or damaged
        shutil.rmtree(final)
    building = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{name}-"))
    try:
        _build(building)
        building.chmod(0o755)
        try:
            building.rename(final)
        except OSError:  # somebody else was first
            if not _whole(final):
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return final


def _whole(folder: Path) -> bool:
    try:
        return verdict(judge(read_anatomy(folder), _COMPONENTS)) == "runs"
    except ModelError:
        return False


def _build(folder: Path) -> None:
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    tokenizer = small_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        vae = AutoencoderKLWan(base_dim=16, dim_mult=[1, 2, 2, 4], num_res_blocks=1)
        text = UMT5Config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
        text_encoder = UMT5EncoderModel(text).eval()
        transformer = WanTransformer3DModel(
            num_attention_heads=6,
            attention_head_dim=32,
            in_channels=16,
            out_channels=16,
            text_dim=128,
            ffn_dim=512,
            num_layers=8,
        )
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        expand_timesteps=True,
    ).save_pretrained(folder)


def small_tokenizer() -> Any:
    """A small Unigram tokenizer with T5's special tokens: a few whole words, and letters for all the rest."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

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
