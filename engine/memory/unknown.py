"""Trace a model nobody has planned with yet, in a process of its own: `python -m engine.memory.unknown MODEL 0 1`.

MODEL is a folder or an id of the catalog; the numbers are a precision's place in `PRECISIONS` and whether the clip
begins with an image. What is found is kept: a plan made afterwards needs no torch.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from engine.catalog import load_catalog
from engine.compat.folder import open_folder
from engine.memory import fitted, predict
from engine.memory.ladder import FORMS, Hold, hold
from engine.memory.parts import PRECISIONS, Clip, Model, Precision, model_of_folder, model_of_spec


def main(reference: str, place: int, image: bool) -> None:
    """Trace all that a plan may ask for: on a GPU the VAE, or all of it, may be left to the CPU."""
    found = Path(reference)
    known = model_of_folder(open_folder(found)) if found.is_dir() else model_of_spec(load_catalog().find(reference)[0])
    for precision in dict.fromkeys((PRECISIONS[place], PRECISIONS[-1])):
        trace(known, precision, (image,))


def trace(model: Model, precision: Precision, images: tuple[bool, ...]) -> None:
    """All figures of a model in one precision, for clips with a first image or without."""
    for part in model.parts.values():
        fitted.weights(part, precision)
    for image in images if predict.can_predict(model) else ():
        for guided in (False, True):
            for frames in (1, 1 + model.temporal, 1 + 2 * model.temporal):
                for held in _ways(precision):
                    predict.predict(model, Clip(832, 480, frames, image, guided), held, precision)


def _ways(precision: Precision) -> tuple[Hold, ...]:
    if precision.kernels == "cpu":
        return (hold("cpu"),)
    return hold("staged"), replace(hold("staged"), form=FORMS[-1])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
