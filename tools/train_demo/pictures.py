"""What the VAE is trained on: windows of drawn clips, most of them of the demo's own world, some of a wilder one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tools.train_demo import scenes

Clip = npt.NDArray[np.float32]

_WILD = 0.25  # the share of clips with any colours, sizes and places, so that other simple pictures survive too
_PASSED_OVER = 0.75  # of what is easy: a bounce is up to five times as fast as the rest, a star has the finest points


def batch(rng: np.random.Generator, count: int, frames: int, side: int) -> Clip:
    """`count` random training clips [B, 3, T, side, side] in [-1, 1]."""
    drawn = [(_wild if rng.random() < _WILD else _known)(rng, frames, side) for _ in range(count)]
    return np.stack([to_model(clip) for clip in drawn])


def to_model(clip: npt.NDArray[np.floating] | scenes.Frames) -> Clip:
    """[T, H, W, 3] of 0 to 255 -> [3, T, H, W] of -1 to 1."""
    return np.ascontiguousarray((clip / 127.5 - 1.0).transpose(3, 0, 1, 2), np.float32)


def _known(rng: np.random.Generator, frames: int, side: int) -> scenes.Floats:
    """A window of a scene out of the training combinations, from somewhere within its longest form."""
    scene = scenes.sample(rng, scenes.LONGEST, held=False, anywhere=True)
    while scene.motion != "bounce" and scene.shape != "star" and rng.random() < _PASSED_OVER:
        scene = scenes.sample(rng, scenes.LONGEST, held=False, anywhere=True)
    first = int(rng.integers(0, scenes.LONGEST - frames + 1))
    xs, ys, sizes = (values[first : first + frames] for values in scenes.path(scene, scenes.LONGEST))
    ground = np.broadcast_to(np.asarray(scenes.BACKGROUNDS[scene.background], np.float64), (side, side, 3))
    left, top = _window(rng, xs[frames // 2], side), _window(rng, ys[frames // 2], side)
    places = zip(xs - left, ys - top, sizes, strict=True)
    return np.stack([scenes.paint(ground, scene.shape, scenes.COLOURS[scene.colour], *place) for place in places])


def _window(rng: np.random.Generator, centre: float, side: int) -> int:
    """Where a window of `side` pixels starts that has a part of the shape about `centre` in it."""
    start = centre - side / 2 + rng.uniform(-14.0, 14.0)
    return int(np.clip(np.rint(start), 0, scenes.SIDE - side))


def _wild(rng: np.random.Generator, frames: int, side: int) -> scenes.Floats:
    """One to three shapes of any colours on a flat ground or a slope of two colours, each going its way."""
    one, other = _colour(rng), _colour(rng)
    slope = np.linspace(0.0, 1.0, side)[:, None, None] * np.ones((side, side, 1))
    slope = slope.swapaxes(0, 1) if rng.random() < 0.5 else slope
    ground = one + (other - one) * slope * (rng.random() < 0.5)
    clip = np.repeat(ground[None], frames, axis=0)
    for _ in range(int(rng.integers(1, 4))):
        shape, colour = str(rng.choice(scenes.SHAPES)), _colour(rng)
        x, y, size = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(4.0, 20.0)
        dx, dy, growth = rng.uniform(-1.2, 1.2), rng.uniform(-2.0, 2.0), rng.uniform(-0.1, 0.3)
        for t in range(frames):
            clip[t] = scenes.paint(clip[t], shape, colour, x + dx * t, y + dy * t, max(2.0, size + growth * t))
    return clip


def _colour(rng: np.random.Generator) -> scenes.Floats:
    """Any colour; the rim of the cube more often than by chance, as simple pictures have it."""
    return np.clip(rng.uniform(-60.0, 315.0, 3), 0.0, 255.0)
