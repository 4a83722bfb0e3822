"""The demo's folder from what was trained: `python -m tools.train_demo.assemble --vae DIR --denoiser DIR --out DIR`.

An ordinary diffusers folder in float16. It must fit into the wheel: 12 MB at most.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tools.train_demo.network import make_text_encoder, make_transformer
from tools.train_demo.tokenizer import make_tokenizer

MOST_BYTES = 12_000_000
SHIFT = 3.0


def assemble(vae: Path, denoiser: Path, out: Path) -> int:
    """Write the folder `out` anew; its size in bytes. Raises ValueError when that is too much; nothing is left then."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline

    tokenizer = make_tokenizer()
    text_encoder, transformer = make_text_encoder(len(tokenizer)), make_transformer()
    weights = load_file(denoiser / "weights.safetensors")
    for part, module in (("text_encoder", text_encoder), ("transformer", transformer)):
        _fill(module, weights, f"{part}.")
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.half(),
        vae=AutoencoderKLWan.from_pretrained(vae).half(),
        transformer=transformer.half(),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT),
        expand_timesteps=True,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        made = Path(scratch, "made")
        pipeline.save_pretrained(made)
        _for_everyone(made)
        size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
        if size > MOST_BYTES:
            raise ValueError(f"the folder takes {size:,} bytes, where {MOST_BYTES:,} are allowed")
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)
    return size


def _for_everyone(folder: Path) -> None:
    """Without where the VAE was read from, and readable by all: weights are saved for their owner alone."""
    config = folder / "vae" / "config.json"
    table = json.loads(config.read_text())
    table.pop("_name_or_path", None)
    config.write_text(json.dumps(table, indent=2) + "\n")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


def _fill(module: Any, weights: dict[str, torch.Tensor], prefix: str) -> None:
    """Put the weights of that prefix into the module; every parameter must be among them."""
    for name, parameter in module.named_parameters():
        parameter.data.copy_(weights[prefix + name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for folder in ("vae", "denoiser", "out"):
        parser.add_argument(f"--{folder}", type=Path, required=True)
    args = parser.parse_args()
    print(f"{args.out}: {assemble(args.vae, args.denoiser, args.out):,} bytes")


if __name__ == "__main__":
    main()
