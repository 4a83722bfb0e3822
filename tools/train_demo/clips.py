"""Scenes drawn and encoded, kept on disk: `python -m tools.train_demo.clips --vae DIR --out DIR [--count N]`.

A file holds 32 clips of one length: latents (32, 16, n, 8, 8) as the VAE gives them (posterior mode, not normalised)
and what each clip shows. Files that are there are kept: the command goes on where it stopped. `held-*` are
combinations that training never sees, for watching its loss.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tools.train_demo.scenes import draw, sample
from tools.train_demo.whole import encode_whole

A_FILE = 32
LENGTHS = (33, 17, 33, 25)  # of one file after another; the beginning of a long clip serves as a short one
HELD = 96  # clips of combinations that training never sees


@dataclass(frozen=True)
class Shown:
    """What a clip shows, by the names of `words.py`."""

    shape: str
    colour: str
    background: str
    motion: str


@dataclass(frozen=True)
class Clips:
    """Encoded clips of one file, latents (N, 16, n, 8, 8) in float32."""

    latents: torch.Tensor
    shown: tuple[Shown, ...]

    def each(self) -> Iterator[tuple[torch.Tensor, Shown]]:
        return zip(self.latents, self.shown, strict=True)


def read_clips(folder: Path, pattern: str) -> list[Clips]:
    """The files of `folder` whose name matches, as they are."""
    found = []
    for file in sorted(folder.glob(pattern)):
        with safe_open(file, "pt") as kept:
            shown = tuple(Shown(**words) for words in json.loads(kept.metadata()["shown"]))
            found.append(Clips(kept.get_tensor("latents").float(), shown))
    return found


def encode(vae: Any, frames: torch.Tensor) -> torch.Tensor:
    """Latents (B, 16, n, 8, 8) of `frames` (B, F, 64, 64, 3) in bytes, not normalised."""
    pixels = frames.permute(0, 4, 1, 2, 3).to(vae.device, vae.dtype) / 127.5 - 1.0
    with torch.no_grad():
        return encode_whole(vae, pixels).chunk(2, dim=1)[0]


def make_file(vae: Any, file: Path, frames: int, kind: str, seed: list[int]) -> None:
    rng = np.random.default_rng(seed)
    scenes = [sample(rng, frames, kind == "held", kind == "anywhere") for _ in range(A_FILE)]
    pictures = torch.from_numpy(np.stack([draw(scene, frames) for scene in scenes]))
    latents = torch.cat([encode(vae, pictures[i : i + 8]) for i in range(0, A_FILE, 8)])
    shown = [asdict(Shown(scene.shape, scene.colour, scene.background, scene.motion)) for scene in scenes]
    part = file.with_suffix(".part")
    save_file({"latents": latents.half().cpu().contiguous()}, part, {"shown": json.dumps(shown)})
    os.replace(part, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2560)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(args.vae).eval().requires_grad_(False)
    if torch.cuda.is_available():
        vae = vae.cuda()
    args.out.mkdir(parents=True, exist_ok=True)
    since = time.monotonic()
    shares = {"held": HELD, "anywhere": args.count // 4, "train": args.count}
    for kind, count in shares.items():
        for number in range(-(-count // A_FILE)):
            file = args.out / f"{kind}-{number:04}.safetensors"
            if not file.exists():
                seed = [args.seed, list(shares).index(kind), number]
                make_file(vae, file, LENGTHS[number % len(LENGTHS)], kind, seed)
                print(f"{file.name} {time.monotonic() - since:.0f} s", flush=True)


if __name__ == "__main__":
    main()
