"""Does the demo draw what the prompt says? `python -m tools.train_demo.evaluate FOLDER [--prompts N] [--seed S]`.

Combinations that training never saw are rendered as `wan-tui --run` renders them, and `eye.py` tells from the mp4 what
they show. Beside the lines that are judged stand the figures they are judged by.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from engine.catalog import load_catalog
from engine.errors import Exit
from engine.events import Bus, JobFailed
from engine.job import Inputs, Job, Output
from engine.runtime.journal import Journal
from engine.runtime.prepare import prepare
from engine.runtime.worker import Worker
from tools.train_demo.eye import Frames, Seen, look, read_frames
from tools.train_demo.scenes import Scene, draw, sample
from tools.train_demo.words import caption

FRAMES = (17, 25, 33)
DUE = {"colour": 95.0, "background": 95.0, "motion": 90.0, "shape": 85.0, "image: motion": 90.0, "image: PSNR": 28.0}


@dataclass(frozen=True)
class Asked:
    """A scene, and the job that asks for it."""

    scene: Scene
    job: Job


def render(jobs: Sequence[Job], folder: Path) -> list[Path]:
    """Run `jobs` as the program does, one mp4 each, in order. Raises RuntimeError when one fails."""
    bus, journal, catalog = Bus(), Journal(), load_catalog()
    said: list[str] = []
    bus.subscribe(lambda event: said.append(str(event)) if isinstance(event, JobFailed) else None)
    worker = Worker(journal, bus)
    paths = [folder / f"{number:04}.mp4" for number in range(len(jobs))]
    ids = []
    for job, path in zip(jobs, paths, strict=True):
        whole = replace(job, output=Output(path=path))
        ids.append(worker.submit(prepare(whole, folder / f"{path.stem}.toml", catalog)))
    worker.close()
    worker.start()
    worker.join()
    if failed := [one for one in ids if worker.ends[one] != Exit.DONE]:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} jobs failed: {said[:1]}")
    return paths


def ask(model: Path, count: int, seed: int, settings: dict[str, float], pictures: Path | None = None) -> list[Asked]:
    """Held-out scenes and their jobs; with `pictures`, each from its first frame, which is drawn into that folder, and
    every other scene begins anywhere."""
    rng = np.random.default_rng([seed, pictures is not None])
    asked = []
    for number in range(count):
        frames = FRAMES[number % len(FRAMES)]
        scene = sample(rng, frames, held=True, anywhere=pictures is not None and number % 2 == 1)
        values = {"width": 64, "height": 64, "fps": 16, "frames": frames, "seed": seed + number, "negative_prompt": ""}
        job = Job(model=str(model), prompt=caption(scene, rng), **values, **settings)  # type: ignore[arg-type]
        if pictures:
            picture = pictures / f"{number:04}.png"
            Image.fromarray(draw(scene, 1)[0]).save(picture)
            job = replace(job, inputs=Inputs(image=picture))
        asked.append(Asked(scene, job))
    return asked


def shares(asked: Sequence[Asked], seen: Sequence[Seen]) -> dict[str, float]:
    """Per cent of the clips in which each thing is as asked, and in which all are."""
    names = ("colour", "background", "motion", "shape")
    right = {
        name: [getattr(a.scene, name) == getattr(s, name) for a, s in zip(asked, seen, strict=True)] for name in names
    }
    found = {name: 100.0 * float(np.mean(values)) for name, values in right.items()}
    found["all four"] = 100.0 * float(np.mean(np.all(list(right.values()), axis=0)))
    return found


def confusions(asked: Sequence[Asked], seen: Sequence[Seen], name: str) -> str:
    """What was asked and what was seen instead, most frequent first."""
    pairs = ((getattr(a.scene, name), getattr(s, name)) for a, s in zip(asked, seen, strict=True))
    wrong = Counter(f"{want} as {got}" for want, got in pairs if want != got)
    return ", ".join(f"{what} ({count})" for what, count in wrong.most_common(6))


def psnr(one: Frames, other: Frames) -> float:
    """Of two pictures of bytes, in dB."""
    return 10 * math.log10(255**2 / max(float(np.square(one.astype(float) - other).mean()), 1e-9))


def from_text(model: Path, count: int, seed: int, settings: dict[str, float], folder: Path) -> None:
    asked = ask(model, count, seed, settings)
    seen = [look(read_frames(path)) for path in render([one.job for one in asked], folder)]
    print(f"from text, {count} held-out combinations of {', '.join(map(str, FRAMES))} frames")
    for name, share in shares(asked, seen).items():
        line(name, share, "%", DUE.get(name), confusions(asked, seen, name) if name in DUE else "")


def from_image(model: Path, count: int, seed: int, settings: dict[str, float], folder: Path) -> None:
    asked = ask(model, count, seed, settings, folder)
    clips = [read_frames(path) for path in render([one.job for one in asked], folder)]
    seen = [look(clip) for clip in clips]
    first = [psnr(clip[0], draw(one.scene, 1)[0]) for clip, one in zip(clips, asked, strict=True)]
    print(f"from an image, {count} held-out combinations")
    line("image: PSNR", float(np.mean(first)), "dB", DUE["image: PSNR"], f"of the first frame; least {min(first):.1f}")
    for name, share in shares(asked, seen).items():
        wrong = confusions(asked, seen, name) if name == "motion" else ""
        line(f"image: {name}", share, "%", DUE.get(f"image: {name}"), wrong)


def two_experts(model: Path, seed: int, settings: dict[str, float], folder: Path) -> None:
    """The same weights as both experts give the same video. Two experts take no timesteps a token: neither does one."""
    one, two = folder / "one", folder / "two"
    for made, more in ((one, {}), (two, {"boundary_ratio": 0.9})):
        shutil.copytree(model, made)
        index = json.loads((made / "model_index.json").read_text()) | {"expand_timesteps": False} | more
        if made == two:
            index["transformer_2"] = index["transformer"]
            shutil.copytree(made / "transformer", made / "transformer_2")
        (made / "model_index.json").write_text(json.dumps(index))
    job = ask(model, 1, seed, settings)[0].job
    clips = [read_frames(path) for path in render([replace(job, model=str(made)) for made in (one, two)], folder)]
    same = np.array_equal(clips[0], clips[1])
    print(f"two experts with the same weights: {'the same video' if same else 'ANOTHER VIDEO'}")


def line(name: str, value: float, unit: str, due: float | None, remark: str) -> None:
    judged = "" if due is None else f"due {due:.0f}  {'kept' if value >= due else 'MISSED'}"
    print(f"  {name:<18} {value:6.1f} {unit:<3} {judged:<16} {remark}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--flow-shift", type=float, default=3.0)
    args = parser.parse_args()
    settings = {"steps": args.steps, "guidance": args.guidance, "flow_shift": args.flow_shift}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_STATE_HOME"] = scratch  # these jobs are none of the user's
        for name in ("text", "image", "experts"):
            Path(scratch, name).mkdir()
        model = args.model.absolute()
        from_text(model, args.prompts, args.seed, settings, Path(scratch, "text"))
        from_image(model, max(args.prompts // 2, 1), args.seed, settings, Path(scratch, "image"))
        two_experts(model, args.seed, settings, Path(scratch, "experts"))


if __name__ == "__main__":
    main()
