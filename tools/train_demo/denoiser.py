"""Text encoder and transformer trained together: `python -m tools.train_demo.denoiser --vae DIR --clips DIR --out DIR`.

Rectified flow: at time s in (0, 1) the transformer sees (1 - s) x0 + s noise and says noise - x0. The learning rate
falls to zero over `--minutes`; `--resume` goes on from the last checkpoint, with the minutes that were left. `--start`
begins with the weights of a whole folder instead of random ones.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tools.train_demo.clips import Clips, read_clips
from tools.train_demo.muon import Muon
from tools.train_demo.network import embed, for_training, make_text_encoder, make_transformer, velocity
from tools.train_demo.tokenizer import make_tokenizer
from tools.train_demo.words import caption

RATE = 1e-3
RATE_OF_BLOCKS = 3e-3  # Muon's
DECAY = 0.01
WARM_UP = 150  # steps
SHIFT = 3.0  # of training times towards noise, as the sampler's
TOKENS = 2560  # of video in a batch: 32 clips of 5 latent frames
WORDS = 24  # tokens of a caption
PICTURES = 96  # clips in a batch of single frames, whose captions cost more than they do
LENGTHS = {1: 0.2, 5: 0.4, 7: 0.1, 9: 0.3}  # latent frames of a batch, and how often
FROM_IMAGE = 0.4  # batches whose first latent frame is given
UNSAID = 0.1  # captions left out
STARS = 3.0  # times as often as other shapes: their points take longest to learn
EMA = 0.998
CHECKPOINT_S = 180.0
LONGEST_STEP_S = 20.0  # what is longer was a pause, and does not count


@dataclass
class State:
    """All that changes in training. `averaged` holds the weights that will be saved."""

    text_encoder: Any
    transformer: Any
    optimizers: tuple[torch.optim.Optimizer, ...]
    averaged: dict[str, torch.Tensor]
    step: int = 0
    seconds: float = 0.0

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device  # type: ignore[no-any-return]

    def weights(self) -> dict[str, torch.Tensor]:
        parts = (("text_encoder", self.text_encoder), ("transformer", self.transformer))
        return {f"{part}.{name}": weight for part, module in parts for name, weight in module.named_parameters()}


@dataclass(frozen=True)
class Batch:
    """Clean latents (B, 16, n, 8, 8), their captions, and how many first frames are given."""

    latents: torch.Tensor
    captions: list[str]
    given: int


@dataclass(frozen=True)
class Task:
    """What the transformer is shown, noisy latents (B, 16, n, 8, 8) at times (B), and what it is to say, velocities."""

    noisy: torch.Tensor
    times: torch.Tensor
    velocities: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    given: int

    def parts(self, count: int) -> list[Task]:
        """The same in so many parts of equal size."""
        tensors = (self.noisy, self.times, self.velocities, self.ids, self.mask)
        parts = zip(*(one.chunk(count) for one in tensors), strict=True)
        return [Task(a, b, c, d, e, self.given) for a, b, c, d, e in parts]


class Data:
    """Encoded clips, normalised, and batches of them. `anywhere` serves where the first frame says the place."""

    def __init__(self, vae: Path, usual: list[Clips], anywhere: list[Clips]) -> None:
        config = json.loads((vae / "config.json").read_text())
        mean, std = (torch.tensor(config[f"latents_{name}"]).view(16, 1, 1, 1) for name in ("mean", "std"))
        self._usual, self._anywhere = (
            [((latents - mean) / std, shown) for some in clips for latents, shown in some.each()]
            for clips in (usual, anywhere)
        )

    def __len__(self) -> int:
        return len(self._usual) + len(self._anywhere)

    def batch(self, rng: np.random.Generator, length: int) -> Batch:
        """Clips of `length` latent frames, each with a caption of its own."""
        given = int(length > 1 and rng.random() < FROM_IMAGE)
        clips = self._usual + self._anywhere if given else self._usual
        long_enough = [clip for clip in clips if clip[0].shape[1] >= length]
        count = PICTURES if length == 1 else 2 * round(TOKENS / (32 * length))
        often = np.array([STARS if shown.shape == "star" else 1.0 for _, shown in long_enough])
        taken = [long_enough[i] for i in rng.choice(len(long_enough), count, p=often / often.sum())]
        captions = ["" if rng.random() < UNSAID else caption(shown, rng) for _, shown in taken]
        return Batch(torch.stack([latents[:, :length] for latents, _ in taken]), captions, given)


def fresh(words: int) -> State:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text_encoder, transformer = make_text_encoder(words).to(device), for_training(make_transformer()).to(device)
    matrices = [weight for weight in transformer.blocks.parameters() if weight.ndim == 2]
    theirs = {id(weight) for weight in matrices}
    others = [w for w in (*text_encoder.parameters(), *transformer.parameters()) if id(w) not in theirs]
    half = len(matrices) // 2  # for each thread
    optimizers = (
        Muon(matrices[:half], RATE_OF_BLOCKS, weight_decay=DECAY),
        Muon(matrices[half:], RATE_OF_BLOCKS, weight_decay=DECAY),
        torch.optim.AdamW(others, RATE, betas=(0.9, 0.99), weight_decay=DECAY, fused=True),
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["highest"] = group["lr"]
    state = State(text_encoder, transformer, optimizers, {})
    state.averaged = copy.deepcopy({name: weight.detach() for name, weight in state.weights().items()})
    return state


def begin_with(state: State, folder: Path, tokenizer: Any) -> None:
    """The weights of a folder as `assemble.py` makes it. A word keeps its embedding, whatever its number was."""
    from diffusers import WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

    parts = {
        "text_encoder": UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        "transformer": WanTransformer3DModel.from_pretrained(folder / "transformer"),
    }
    found = {f"{part}.{name}": weight for part, module in parts.items() for name, weight in module.named_parameters()}
    before = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer").get_vocab()
    now = {word: number for word, number in tokenizer.get_vocab().items() if word in before}
    with torch.no_grad():
        for name, weight in state.weights().items():
            if name == "text_encoder.shared.weight":
                weight[list(now.values())] = found[name].float()[[before[word] for word in now]].to(weight.device)
            else:
                weight.copy_(found[name])
            state.averaged[name].copy_(weight)


def set_task(batch: Batch, tokenizer: Any, random: torch.Generator, device: torch.device) -> Task:
    """Noise of its own for each clip, at times spread evenly over the sampler's."""
    count = len(batch.captions)
    even = (torch.arange(count) + torch.rand(count, generator=random)) / count
    even = even[torch.randperm(count, generator=random)]
    times = SHIFT * even / (1 + (SHIFT - 1) * even)
    share, noise = times.view(-1, 1, 1, 1, 1), torch.randn(batch.latents.shape, generator=random)
    noisy = (1 - share) * batch.latents + share * noise
    noisy[:, :, : batch.given] = batch.latents[:, :, : batch.given]
    text = tokenizer(batch.captions, padding="max_length", max_length=WORDS, truncation=True, return_tensors="pt")
    shown, said = (noisy, 1000 * times, noise - batch.latents), (text.input_ids, text.attention_mask)
    a, b, c, d, e = (one.to(device) for one in (*shown, *said))
    return Task(a, b, c, d, e, batch.given)


def loss_of(state: State, task: Task) -> torch.Tensor:
    """Mean squared error of the velocity, of the frames that are not given."""
    with torch.autocast(task.noisy.device.type, torch.bfloat16):
        embeddings = embed(state.text_encoder, task.ids, task.mask)
        found = velocity(state.transformer, task.noisy, task.times, embeddings, task.given)
    return (found.float() - task.velocities)[:, :, task.given :].square().mean()


def rate_at(step: int, share: float) -> float:
    """The share of its highest rate: warm-up, flat until 70 % of the time are over, then to zero on a cosine."""
    fall = min(1.0, max(0.0, share - 0.7) / 0.3)
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * fall))


def train_step(state: State, task: Task, pool: ThreadPoolExecutor, share: float) -> float:
    """One step with the rate that is due when `share` of the time is over; the loss before it.

    On a CPU each half of the batch has a thread: threads within operations would wait for each other at each of them.
    """
    weights = list(state.weights().values())

    def part(task: Task) -> tuple[float, tuple[torch.Tensor, ...]]:
        loss = loss_of(state, task)
        return float(loss.detach()), torch.autograd.grad(loss, weights)

    parts = list(pool.map(part, task.parts(2 if task.noisy.device.type == "cpu" else 1)))
    for weight, *gradients in zip(weights, *(gradients for _, gradients in parts), strict=True):
        weight.grad = torch.stack(gradients).mean(0)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * rate_at(state.step, share)
    list(pool.map(lambda optimizer: optimizer.step(), state.optimizers))
    state.step += 1
    keep = min(EMA, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.averaged.values()), weights, 1 - keep)
    return float(np.mean([loss for loss, _ in parts]))


def held_loss(state: State, held: Data, tokenizer: Any) -> float:
    """The loss on held-out combinations: always the same batches, noise and times."""
    rng, random = np.random.default_rng(0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        tasks = [set_task(held.batch(rng, 5), tokenizer, random, state.device) for _ in range(6)]
        return float(np.mean([float(loss_of(state, part)) for task in tasks for part in task.parts(2)]))


def save(state: State, out: Path, rng: np.random.Generator, random: torch.Generator) -> None:
    """The whole state, and apart from it the averaged weights, each under its name at once."""
    whole = {
        "text_encoder": state.text_encoder.state_dict(),
        "transformer": state.transformer.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "averaged": state.averaged,
        "step": state.step,
        "seconds": state.seconds,
        "rng": json.dumps(rng.bit_generator.state),
        "random": random.get_state(),
    }
    torch.save(whole, out / "state.part")
    os.replace(out / "state.part", out / "state.pt")
    save_file({name: weight.contiguous().cpu() for name, weight in state.averaged.items()}, out / "weights.part")
    os.replace(out / "weights.part", out / "weights.safetensors")


def load(state: State, out: Path, rng: np.random.Generator, random: torch.Generator) -> None:
    whole = torch.load(out / "state.pt", weights_only=True)
    state.text_encoder.load_state_dict(whole["text_encoder"])
    state.transformer.load_state_dict(whole["transformer"])
    for optimizer, kept in zip(state.optimizers, whole["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    for name, weight in whole["averaged"].items():
        state.averaged[name].copy_(weight)
    state.step, state.seconds = whole["step"], whole["seconds"]
    rng.bit_generator.state = json.loads(whole["rng"])
    random.set_state(whole["random"])


def begin_thread() -> None:
    """These settings are each thread's own."""
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 64  # one program for each length, from text and from an image


def length_now(rng: np.random.Generator) -> int:
    """Half of the batches are pictures: a step shows three times as many shapes for less work."""
    return int(rng.choice(list(LENGTHS), p=list(LENGTHS.values())))


def train(args: argparse.Namespace) -> None:
    begin_thread()
    torch.manual_seed(args.seed)
    rng, random = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed)
    tokenizer = make_tokenizer()
    state = fresh(len(tokenizer))
    kinds = ("train", "anywhere", "held")
    usual, anywhere, unseen = (read_clips(args.clips, f"{kind}-*.safetensors") for kind in kinds)
    data, held = Data(args.vae, usual, anywhere), Data(args.vae, unseen, [])
    args.out.mkdir(parents=True, exist_ok=True)
    if args.start:
        begin_with(state, args.start, tokenizer)
    if args.resume:
        load(state, args.out, rng, random)
    for block in state.transformer.blocks:
        block.compile(dynamic=False)
    print(
        f"{len(data)} clips, {sum(w.numel() for w in state.averaged.values())} weights, step {state.step}", flush=True
    )
    pool = ThreadPoolExecutor(2, initializer=begin_thread)
    last = saved = time.monotonic()
    losses: list[float] = []
    while state.seconds < 60 * args.minutes:
        share = state.seconds / (60 * args.minutes)
        batch = data.batch(rng, length_now(rng))
        losses.append(train_step(state, set_task(batch, tokenizer, random, state.device), pool, share))
        now = time.monotonic()
        state.seconds += min(now - last, LONGEST_STEP_S)
        last = now
        if state.step % 50 == 0:
            print(f"step {state.step} at {state.seconds:.0f} s: loss {np.mean(losses):.4f}", flush=True)
            losses = []
        if now - saved > CHECKPOINT_S:
            save(state, args.out, rng, random)
            print(f"saved; loss on held-out combinations {held_loss(state, held, tokenizer):.4f}", flush=True)
            saved = now
    save(state, args.out, rng, random)
    print(f"done; loss on held-out combinations {held_loss(state, held, tokenizer):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for folder in ("vae", "clips", "out"):
        parser.add_argument(f"--{folder}", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--resume", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
