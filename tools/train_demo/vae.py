"""Trains the demo's VAE: `python -m tools.train_demo.vae --out DIR [--minutes N] [--resume]`.

The schedule (clip length, learning rate) follows the share of the time that is used, so that the rate reaches zero
when the time is up. Pictures and noise of step n depend on the seed and n alone. `--resume` goes on from DIR's
checkpoint with the share it had, and spends the given minutes on the rest.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools.train_demo import pictures, scenes
from tools.train_demo.muon import Muon
from tools.train_demo.whole import decode_whole, encode_whole

SEED = 7
ROOM: dict[str, Any] = {
    "base_dim": 16,
    "dim_mult": [2, 2, 2],
    "num_res_blocks": 1,
    "z_dim": 16,
    "temperal_downsample": [True, True],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
}
_KL = 5e-5
_EMA = 0.998
_SAVE_EVERY = 120.0
_JUDGE_EVERY = 300.0


@dataclass(frozen=True)
class Batch:
    """So many windows of so many pixels on a side and so many frames."""

    frames: int
    side: int
    count: int


# Until which share of the time which batches, by turns of chance. Single frames come first, a clip's last frames last:
# a model trained on 9 frames decodes the tenth wrongly.
_FULL = (Batch(17, 40, 4), Batch(33, 32, 4), Batch(17, 64, 2), Batch(33, 64, 2))
STAGES: tuple[tuple[float, tuple[Batch, ...]], ...] = (
    (0.12, (Batch(1, 40, 16),)),
    (0.20, (Batch(5, 40, 8),)),
    (0.30, (Batch(9, 40, 6),)),
    (0.42, (Batch(17, 40, 4),)),
    (0.62, (Batch(17, 40, 4), Batch(33, 32, 4))),
    (1.00, _FULL),
)
# From here on the encoder stays as its average is: clips can be encoded for the denoiser while the decoder learns on.
_FROZEN = 0.68


@dataclass
class Run:
    """What a checkpoint holds."""

    model: Any
    ema: Any
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    share: float = 0.0


def build() -> Any:
    """A new VAE whose temporal convolutions first do nothing but hold the frame: single frames are learned first."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(SEED)
    model = AutoencoderKLWan(**ROOM)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim != 5 or weight.shape[2] == 1:
                continue
            if name.endswith("time_conv.weight"):
                weight.mul_(0.1)
                eye = torch.eye(weight.shape[1])[:, :, None, None]
                weight[:, :, -1] += eye.repeat(weight.shape[0] // weight.shape[1], 1, 1, 1)
            else:
                weight[:, :, :-1] *= 0.1
    return model


def start(rate: float) -> Run:
    model, ema = build(), build().requires_grad_(False).eval()
    kernels = [weight for weight in model.parameters() if weight.ndim >= 4 and min(weight.shape[:2]) > 3]
    known = {id(weight) for weight in kernels}
    others = [weight for weight in model.parameters() if id(weight) not in known]
    return Run(model, ema, (Muon(kernels, rate), torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=0.0)))


def rate_at(share: float, step: int, peak: float) -> float:
    """100 steps of warm-up, then flat, then from a quarter of the time on straight down to zero."""
    return peak * min(1.0, (step + 1) / 100, max(0.0, 1.0 - share) / 0.75)


def loss_of(model: Any, clip: Tensor, noise: Tensor) -> tuple[Tensor, float]:
    """The loss of a batch [B, 3, T, H, W], and its squared error after the clamp that the public decode does."""
    mean, logvar = encode_whole(model, clip).chunk(2, dim=1)
    logvar = logvar.clamp(-30.0, 20.0)
    made = decode_whole(model, mean + torch.exp(0.5 * logvar) * noise)
    inside = made.clamp(-1.0, 1.0)
    # Beyond white or black is as good as white or black.
    error = made - clip - (made - inside) * (clip.abs() > 0.999)
    # A purple star on gray is to keep its points as well as a yellow one on black.
    weight = 0.3 / (0.1 + clip.std((2, 3, 4)).square().mean(1).sqrt()).view(-1, 1, 1, 1, 1)
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return (weight * (error.abs() + 4.0 * error.square())).mean() + _KL * kl, float(
        (inside - clip).detach().square().mean()
    )


def train_step(
    run: Run, choice: tuple[Batch, ...], rate: float, pool: ThreadPoolExecutor
) -> tuple[Batch, float, float]:
    """One update from two half batches, a thread each; gives the batch's kind, its loss and its PSNR."""
    rng = np.random.default_rng([SEED, run.step])
    kind = choice[int(rng.integers(len(choice)))]
    weights = [weight for weight in run.model.parameters() if weight.requires_grad]

    def half(clip: Tensor, noise: Tensor) -> tuple[tuple[Tensor | None, ...], float, float]:
        torch.set_num_threads(1)
        # Of single frames bfloat16 saves nothing.
        with torch.autocast("cpu", torch.bfloat16, enabled=kind.frames > 1, cache_enabled=False):
            loss, squared = loss_of(run.model, clip, noise)
        return torch.autograd.grad(loss, weights, allow_unused=True), float(loss.detach()), squared

    clip = torch.from_numpy(pictures.batch(rng, kind.count, kind.frames, kind.side))
    small = (kind.count, ROOM["z_dim"], 1 + (kind.frames - 1) // 4, kind.side // 8, kind.side // 8)
    noise = torch.from_numpy(rng.standard_normal(small, dtype=np.float32))
    halves = list(pool.map(half, clip.chunk(2), noise.chunk(2)))
    for weight, *pair in zip(weights, *(grads for grads, _, _ in halves), strict=True):
        weight.grad = None if pair[0] is None else torch.stack(pair).mean(0)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    keep = min(_EMA, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(run.ema.parameters()), list(run.model.parameters()), 1.0 - keep)
    run.step += 1
    return kind, sum(loss for _, loss, _ in halves) / 2, psnr(sum(squared for _, _, squared in halves) / 2)


def freeze_encoder(run: Run) -> None:
    for part in ("encoder", "quant_conv"):
        learned = getattr(run.model, part)
        learned.load_state_dict(getattr(run.ema, part).state_dict())
        for weight in learned.requires_grad_(False).parameters():
            weight.grad = None


def psnr(squared: float) -> float:
    """In dB, of a mean squared error where the values span [-1, 1]."""
    return 10.0 * math.log10(4.0 / squared)


def judge(model: Any, frames: int, count: int = 8) -> float:
    """Mean PSNR of held-out clips after diffusers' own encode and decode."""
    rng = np.random.default_rng([SEED, 10**9, frames])
    found = []
    for _ in range(count):
        scene = scenes.sample(rng, frames, held=True, anywhere=True)
        clip = torch.from_numpy(pictures.to_model(scenes.draw(scene, frames)))[None]
        with torch.no_grad():
            made = model.decode(model.encode(clip).latent_dist.mode()).sample
        found.append(psnr(float((made - clip).square().mean())))
    return sum(found) / count


def measure_latents(model: Any, pool: ThreadPoolExecutor, count: int = 200) -> None:
    """Sets `latents_mean` and `latents_std` in the config: per channel, over all positions of training clips."""
    rng = np.random.default_rng([SEED, 2 * 10**9])

    def encode(frames: int, scene: scenes.Scene) -> Tensor:
        clip = torch.from_numpy(pictures.to_model(scenes.draw(scene, frames)))[None]
        with torch.no_grad():
            return encode_whole(model, clip).chunk(2, dim=1)[0][0].flatten(1)

    lengths = [int(rng.choice((17, 21, 25, 29, 33))) for _ in range(count)]
    shown = [scenes.sample(rng, frames, held=False, anywhere=True) for frames in lengths]
    latents = torch.cat(list(pool.map(encode, lengths, shown)), dim=1)
    model.register_to_config(latents_mean=latents.mean(1).tolist(), latents_std=latents.std(1).tolist())


def save_folder(model: Any, folder: Path) -> None:
    """The model as a diffusers folder; the old one is there until the new one is whole."""
    building, old = folder.with_name(f".{folder.name}"), folder.with_name(f".{folder.name}-old")
    for left in (building, old):
        shutil.rmtree(left, ignore_errors=True)
    model.save_pretrained(building)
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save(run: Run, folder: Path) -> None:
    state = {
        "model": run.model.state_dict(),
        "ema": run.ema.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "latents": [run.ema.config.latents_mean, run.ema.config.latents_std],
        "step": run.step,
        "share": run.share,
    }
    torch.save(state, folder / "checkpoint.new")
    os.replace(folder / "checkpoint.new", folder / "checkpoint")


def load(run: Run, folder: Path) -> None:
    state = torch.load(folder / "checkpoint", weights_only=True)
    run.model.load_state_dict(state["model"])
    run.ema.load_state_dict(state["ema"])
    for optimizer, kept in zip(run.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    run.step, run.share = state["step"], state["share"]
    run.ema.register_to_config(latents_mean=state["latents"][0], latents_std=state["latents"][1])
    if run.share > _FROZEN:
        freeze_encoder(run)


def train(run: Run, folder: Path, minutes: float, peak: float) -> None:
    began, first = time.monotonic(), run.share
    saved = judged = told = began
    with ThreadPoolExecutor(2) as pool:
        while run.share < 1.0:
            if run.share >= _FROZEN and run.model.quant_conv.weight.requires_grad:
                freeze_encoder(run)
                measure_latents(run.ema, pool)
                save_folder(run.ema, folder / "encoder")
                print("the encoder is done", flush=True)
            choice = next(batches for until, batches in STAGES if run.share < until)
            kind, loss, quality = train_step(run, choice, rate_at(run.share, run.step, peak), pool)
            now = time.monotonic()
            run.share = first + (1.0 - first) * (now - began) / (60.0 * minutes)
            if now - told > 15.0:
                told = now
                print(
                    f"{run.share:.3f} step {run.step} {kind.frames}x{kind.side} {loss:.4f} {quality:.2f} dB",
                    flush=True,
                )
            if now - judged > _JUDGE_EVERY:
                judged = now
                print(f"held out: {judge(run.ema, 17, 4):.2f} dB (17), {judge(run.ema, 33, 4):.2f} dB (33)", flush=True)
            if now - saved > _SAVE_EVERY:
                saved = now
                save(run, folder)
                save_folder(run.ema, folder / "latest")
    save(run, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    run = start(asked.rate)
    if asked.resume:
        load(run, asked.out)
    train(run, asked.out, asked.minutes, asked.rate)
    save_folder(run.ema, asked.out / "final")
    half = build()
    half.load_state_dict({name: value.half().float() for name, value in run.ema.state_dict().items()})
    for name, model in (("float32", run.ema), ("float16 weights", half.eval())):
        print(f"{name}: {judge(model, 17, 24):.2f} dB (17), {judge(model, 33, 24):.2f} dB (33)", flush=True)


if __name__ == "__main__":
    main()
