"""Predicting memory, timed: `python -m benchmarks.trace`.

1. The first trace of a step and of a decode, at the sizes of real videos.
2. All the traces that a model nobody knows needs, from nothing.
3. A plan of a model whose traces ship, in a fresh process without torch, and again in the same process.
4. Curves beside direct traces: the largest error over a grid of sizes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.catalog import load_catalog
from engine.memory.ladder import hold
from engine.memory.parts import PRECISIONS, Clip, Model, model_of_spec
from engine.memory.predict import predict

MODELS = ("t2v-1.3B@2.1.0", "ti2v-5B@2.2.0", "t2v-14B@2.1.0", "i2v-14B-480P@2.1.0")
SIZES = ((832, 480, 81), (1280, 704, 81))
GRID = ((480, 256, 9), (832, 480, 49), (1280, 704, 17), (1920, 1088, 9))
T = TypeVar("T")
PLAN = """
import time
from engine.catalog import load_catalog
from engine.memory.ladder import hold
from engine.memory.parts import PRECISIONS, Clip, model_of_spec
since = time.perf_counter()
from engine.memory.predict import predict
model = model_of_spec(load_catalog().find("ti2v-5B@2.2.0")[0])
print("after the catalog's imports", time.perf_counter() - since)
for which in ("first", "second"):
    since = time.perf_counter()
    assert predict(model, Clip(1280, 704, 121), hold("streamed"), PRECISIONS[0], trace=False)
    print(f"{which} plan", time.perf_counter() - since)
"""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--models", nargs="*", default=MODELS)
    models = {id: model_of_spec(load_catalog().find(id)[0]) for id in given.parse_args().models}
    print(subprocess.run([sys.executable, "-c", PLAN], capture_output=True, text=True, check=True).stdout, end="")
    since = time.perf_counter()
    import engine.memory.loop  # noqa: F401

    print(f"importing torch, diffusers, transformers: {time.perf_counter() - since:.1f} s")
    for id, model in models.items():
        _timed(id, model)
    for id, model in models.items():
        _errors(id, model)
    for id, model in models.items():
        _unknown(id, model)


def _timed(id: str, model: Model) -> None:
    from engine.memory import trace

    for width, height, frames in SIZES:
        size = (frames - 1) // model.temporal + 1, height // model.spatial, width // model.spatial
        expert, per_token = model.parts["transformer"], model.expand_timesteps
        step, taken = _took(lambda: trace.step(expert, PRECISIONS[0], size, per_token=per_token))  # noqa: B023
        decode, after = _took(lambda: trace.decode(model.parts["vae"], PRECISIONS[0], size))  # noqa: B023
        gib = 2**30
        print(
            f"{id:<20} {width}x{height}x{frames}: step {step.activation_bytes / gib:6.2f} GiB, "
            f"{step.flops / 1e12:7.0f} TFLOP, traced in {taken:.2f} s; "
            f"decode {decode.activation_bytes / gib:6.2f} GiB, {decode.flops / 1e12:5.0f} TFLOP, {after:.2f} s"
        )


def _errors(id: str, model: Model) -> None:
    from engine.memory import fitted, trace

    expert, vae, worst = model.parts["transformer"], model.parts["vae"], dict.fromkeys(("step", "decode"), 0.0)
    for width, height, frames in GRID:
        size = (frames - 1) // model.temporal + 1, height // model.spatial, width // model.spatial
        step = fitted.step(expert, PRECISIONS[0], per_token=model.expand_timesteps)
        direct = trace.step(expert, PRECISIONS[0], size, per_token=model.expand_timesteps)
        pictures, whole = fitted.decode(vae, PRECISIONS[0], size[0]), trace.decode(vae, PRECISIONS[0], size)
        assert step and pictures
        for name, found, true in (
            ("step", step.activation(trace.tokens(expert, size)), direct.activation_bytes),
            ("decode", pictures.activation(size[1] * size[2], size[0]), whole.activation_bytes),
        ):
            worst[name] = max(worst[name], abs(found / true - 1))
    print(f"{id:<20} largest error of the curves: step {worst['step']:.4%}, decode {worst['decode']:.4%}")


def _unknown(id: str, model: Model) -> None:
    from engine.memory import traced

    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"] = home
        traced._KNOWN = Path(home, "none.json")
        traced.shipped.cache_clear()
        clip = Clip(832, 480, 81)
        _, first = _took(lambda: predict(model, clip, hold("staged"), PRECISIONS[0]))
        _, second = _took(lambda: predict(model, clip, hold("staged"), PRECISIONS[0], trace=False))
    print(f"{id:<20} as if unknown: all its traces {first:.2f} s, then a plan {second * 1e3:.1f} ms")


def _took(work: Callable[[], T]) -> tuple[T, float]:
    since = time.perf_counter()
    return work(), time.perf_counter() - since


if __name__ == "__main__":
    main()
