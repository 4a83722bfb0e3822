"""A clip of 401 frames beside one of 81: memory, time a frame, seams: `python -m benchmarks.windows [SIDE [STEPS]]`.

With the built-in model, on the CPU, one thread; seams at 64x64 whatever SIDE is, because decoding takes long. Memory is
the CPU allocator's own record within calls of the transformer. Seconds are of CPU time, which other programs disturb
less. A seam is the mean difference between the two frames at a join, over the median of that elsewhere: 1 where nothing
is to be seen.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.profiler import ProfilerActivity, profile, record_function

from engine.compat.folder import open_folder
from engine.control import Control
from engine.events import Bus
from engine.job import Inputs, Job, Memory
from engine.memory.windows import Window, frames_of, grid, layout, stretches, turns
from engine.paths import shipped
from engine.pipelines.components import Components, place
from engine.pipelines.denoise import denoise
from engine.pipelines.families import recipe
from engine.pipelines.prompts import encode_prompts
from engine.video.decode import frame_groups, pixels
from engine.video.drift import Drift
from engine.voice import Voice

SHORT, LONG = 81, 401
PROMPT = "a red circle bouncing on a white background"  # which may go on for ever


class Bench:
    """The built-in model, and what calls of its transformer cost."""

    def __init__(self) -> None:
        voice = Voice(Bus(), "bench", lambda: (None, None))
        self.components = Components(open_folder(shipped("demo")), place("cpu"), Control(), voice)
        self.prompt = encode_prompts(self.components, "WanPipeline", PROMPT, None)

    def latents(self, job: Job) -> torch.Tensor:
        return denoise(self.components, recipe("ti2v", job.task), job, self.prompt)

    def frames(self, latents: torch.Tensor) -> Any:
        groups = frame_groups(self.components.bring("vae"), latents, lambda: None)
        return np.concatenate([pixels(group) for group in groups])

    def seconds(self, job: Job) -> tuple[float, float]:
        """CPU time of all denoising, and of the transformer's calls within."""
        expert = self.components.bring("transformer")
        inside = [0.0]
        hooks = (
            expert.register_forward_pre_hook(lambda *_: inside.append(-time.process_time())),
            expert.register_forward_hook(lambda *_: inside.append(time.process_time())),
        )
        since = time.process_time()
        self.latents(job)
        whole = time.process_time() - since
        for hook in hooks:
            hook.remove()
        return whole, sum(inside)

    def peak(self, job: Job) -> int:
        """Bytes that a call of the transformer has allocated at most, beside what was there before it."""
        expert = self.components.bring("transformer")
        spans: list[Any] = []
        hooks = (
            expert.register_forward_pre_hook(lambda *_: spans.append(record_function("a call").__enter__())),
            expert.register_forward_hook(lambda *_: spans.pop().__exit__(None, None, None)),
        )
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            self.latents(job)
        for hook in hooks:
            hook.remove()
        events = sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns())
        calls = [(event.start_ns(), event.end_ns()) for event in events if event.name() == "a call"]
        sizes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
        return max(int(np.cumsum([size for when, size in sizes if begin <= when <= end]).max()) for begin, end in calls)


def seams(frames: Any, joins: list[int]) -> str:
    """The median and the worst join, as defined above."""
    steps = np.array([np.abs(b.astype(float) - a).mean() for a, b in pairwise(frames)])
    at = [join - 1 for join in joins]
    ratios = steps[at] / np.median(np.delete(steps, at))
    return f"{np.median(ratios):6.2f} {ratios.max():6.2f}"


def costs(bench: Bench, job: Job) -> None:
    print(f"{'frames':>6} {'peak of a call':>15} {'denoising, a frame':>19} {'transformer, a frame':>21}")
    found = []
    for frames in (SHORT, LONG):
        asked = replace(job, frames=frames)
        peak = bench.peak(asked)
        whole, inside = (min(taken) / frames for taken in zip(*(bench.seconds(asked) for _ in range(3)), strict=True))
        found.append((peak, whole, inside))
        print(f"{frames:>6} {peak / 2**20:>11.1f} MiB {1000 * whole:>16.1f} ms {1000 * inside:>18.1f} ms")
    ratios = [long / short for short, long in zip(*found, strict=True)]
    print(f"{'ratio':>6} {ratios[0]:>15.3f} {ratios[1]:>19.3f} {ratios[2]:>21.3f}", flush=True)


def looks(bench: Bench, job: Job) -> None:
    long = replace(job, frames=LONG)
    found = layout(long)
    print(f"\n{'seams':<42} {'median':>6} {'worst':>6}  drift of each window (CIE Lab)")
    report("joint windows", bench.frames(bench.latents(long)), grid(found, 0))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "first.png")
        drawn = Image.new("RGB", (job.width or 64, job.height or 64), "white")
        ImageDraw.Draw(drawn).ellipse((20, 28, 43, 51), fill="red")
        drawn.save(picture)
        given = replace(long, inputs=Inputs(image=picture))
        report("windows in turn, a prefix of clean latents", bench.frames(bench.latents(given)), turns(found, 0))
    each = turns(replace(found, overlap=0), 0)  # clips that know nothing of each other
    clips = []
    for number, window in enumerate(each):
        alone = replace(job, frames=frames_of(window.stop - window.start), seed=1 + number)
        clips.append(bench.frames(bench.latents(alone)))
    joins = list(np.cumsum([len(clip) for clip in clips])[:-1])
    print(f"{'independent clips, one after another':<42} {seams(np.concatenate(clips), joins)}")


def report(name: str, frames: Any, windows: tuple[Window, ...]) -> None:
    parts = stretches(windows)
    drift = Drift(parts)
    drift.add(frames)
    print(f"{name:<42} {seams(frames, [first for first, _ in parts[1:]])}  {' '.join(map(str, drift.distances()))}")


def main() -> None:
    side, steps = (int(text) for text in (*sys.argv[1:], *("128", "4")[len(sys.argv) - 1 :]))
    torch.set_num_threads(1)
    memory = Memory(window=81)
    job = Job(prompt=PROMPT, width=side, height=side, steps=steps, guidance=1.0, flow_shift=3.0, seed=1, memory=memory)
    bench = Bench()
    overlap = layout(replace(job, frames=LONG)).overlap
    print(f"demo@1, {side}x{side}, {steps} steps, windows of 81 frames, overlap {overlap} latents", flush=True)
    costs(bench, job)
    looks(bench, replace(job, width=64, height=64))


if __name__ == "__main__":
    main()
