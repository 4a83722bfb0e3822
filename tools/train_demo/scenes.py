"""The demo model's world: one coloured shape that moves on a flat ground, 64x64 pixels, 16 frames a second.

Lengths are in pixels, times in frames. Pixel (row r, column c) covers [c, c+1] x [r, r+1]; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

SIDE = 64
FPS = 16
LONGEST = 33

SHAPES = ("circle", "square", "triangle", "star")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 25, 30),
    "orange": (255, 135, 0),
    "yellow": (255, 230, 20),
    "green": (10, 160, 50),
    "cyan": (0, 215, 235),
    "blue": (25, 60, 230),
    "purple": (130, 30, 185),
    "pink": (255, 120, 195),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "white": (255, 255, 255),
    "brown": (105, 65, 30),
}
MOTIONS = ("left", "right", "up", "down", "still", "grow", "shrink", "bounce")

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_MARGIN = 1.0  # between a shape's box and the picture's rim
_PLAY = 4.0  # how far the middle of a usual path is from the picture's, each way
_STAR = 1.2  # times the box of other shapes: it fills a third of its box, and its points are the finest thing drawn

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One clip. `x`, `y`, `size` (half the side of the shape's box) are those of the first frame.

    `speed` is what the centre travels a frame (left, right, up, down) or what `size` gains or loses a frame
    (grow, shrink). A bounce starts on the floor at `y`, hops `height` high and takes `period` frames a hop.
    """

    shape: str
    colour: str
    background: str
    motion: str
    x: float
    y: float
    size: float
    speed: float = 0.0
    height: float = 0.0
    period: float = 1.0


@dataclass(frozen=True)
class _Ranges:
    """From and to. `size` is that of what neither grows nor shrinks; growth and shrinkage are of the size, a frame."""

    size: tuple[float, float]
    speed: tuple[float, float]
    growing: tuple[float, float]
    growth: tuple[float, float]
    shrinking: tuple[float, float]
    shrinkage: tuple[float, float]
    height: tuple[float, float]
    period: tuple[float, float]


_USUAL = _Ranges(
    size=(10.5, 12.5),
    speed=(0.85, 1.0),
    growing=(8.0, 9.0),
    growth=(0.026, 0.029),
    shrinking=(16.0, 17.5),
    shrinkage=(0.017, 0.0185),
    height=(14.0, 16.0),
    period=(15.5, 16.5),
)
_ANYWHERE = _Ranges(
    size=(9.0, 14.0),
    speed=(0.7, 1.1),
    growing=(8.0, 10.0),
    growth=(0.024, 0.030),
    shrinking=(14.5, 18.0),
    shrinkage=(0.0165, 0.0185),
    height=(14.0, 20.0),
    period=(12.0, 16.0),
)


def held_out(shape: str, colour: str, background: str, motion: str) -> bool:
    """Whether training never sees this combination: one in six, with every word and every pair of words left."""
    s, c = SHAPES.index(shape), tuple(COLOURS).index(colour)
    b, m = tuple(BACKGROUNDS).index(background), MOTIONS.index(motion)
    return (s + c + 2 * b + m + (c // 2) * (m // 2)) % 6 == 0


def sample(rng: np.random.Generator, frames: int, held: bool | None, anywhere: bool = False) -> Scene:
    """A random scene that stays inside for `frames` frames, out of the held-out ones, the others, or all (None).

    It is where such a motion usually is: its path of 33 frames lies in the middle, give or take four pixels. `anywhere`
    asks for all sizes and places that fit.
    Raises ValueError for a length outside 1 to 33: longer paths do not fit.
    """
    if not 1 <= frames <= LONGEST:
        raise ValueError(f"a scene has 1 to {LONGEST} frames, not {frames}")
    while True:
        shape, motion = str(rng.choice(SHAPES)), str(rng.choice(MOTIONS))
        colour, background = str(rng.choice(tuple(COLOURS))), str(rng.choice(tuple(BACKGROUNDS)))
        if held is None or held_out(shape, colour, background, motion) == held:
            words = (shape, colour, background, motion)
            return _anywhere(rng, frames, words) if anywhere else _usual(rng, words)


def _moving(rng: np.random.Generator, frames: int, words: tuple[str, str, str, str], ranges: _Ranges) -> Scene:
    """Such a motion with a size and a pace out of `ranges`, starting at (0, 0)."""
    shape, _, _, motion = words
    extent = {"grow": ranges.growing, "shrink": ranges.shrinking}.get(motion, ranges.size)
    size = rng.uniform(*extent) * (_STAR if shape == "star" else 1.0)
    speed, height, period = 0.0, 0.0, 1.0
    if motion in _DIRECTIONS:
        slowest, fastest = ranges.speed
        speed = rng.uniform(slowest, min(fastest, (SIDE - 2 * (size + _MARGIN)) / max(frames - 1, 1)))
    elif motion in ("grow", "shrink"):
        speed = size * rng.uniform(*(ranges.growth if motion == "grow" else ranges.shrinkage))
    elif motion == "bounce":
        height, period = rng.uniform(*ranges.height), rng.uniform(*ranges.period)
    return Scene(*words, 0.0, 0.0, size, speed, height, period)


def _usual(rng: np.random.Generator, words: tuple[str, str, str, str]) -> Scene:
    """Where and how large such a motion usually is: its words say nearly all of it."""
    scene = _moving(rng, LONGEST, words, _USUAL)
    xs, ys, sizes = path(scene, LONGEST)
    x, y = (_near_the_middle(rng, along, sizes + _MARGIN) for along in (xs, ys))
    return replace(scene, x=x, y=y)


def _near_the_middle(rng: np.random.Generator, along: Floats, reach: Floats) -> float:
    """The start of a path whose middle is at most `_PLAY` from the picture's, and which fits."""
    middle = (SIDE - along.max() - along.min()) / 2
    start = rng.uniform(middle - _PLAY, middle + _PLAY)
    return float(np.clip(start, (reach - along).max(), (SIDE - reach - along).min()))


def _anywhere(rng: np.random.Generator, frames: int, words: tuple[str, str, str, str]) -> Scene:
    """All sizes and speeds of the named motion; the start is drawn from where the whole path fits."""
    scene = _moving(rng, frames, words, _ANYWHERE)
    xs, ys, sizes = path(scene, frames)
    reach = sizes + _MARGIN
    x, y = (float(rng.uniform((reach - along).max(), (SIDE - reach - along).min())) for along in (xs, ys))
    return replace(scene, x=x, y=y)


def path(scene: Scene, frames: int) -> tuple[Floats, Floats, Floats]:
    """Centre x, centre y and half-size of each frame."""
    t = np.arange(frames, dtype=np.float64)
    dx, dy = _DIRECTIONS.get(scene.motion, (0, 0))
    xs, ys = scene.x + dx * scene.speed * t, scene.y + dy * scene.speed * t
    if scene.motion == "bounce":
        ys = ys - scene.height * np.abs(np.sin(math.pi * t / scene.period))
    growth = {"grow": 1.0, "shrink": -1.0}.get(scene.motion, 0.0)
    return xs, ys, scene.size + growth * scene.speed * t


def draw(scene: Scene, frames: int) -> Frames:
    """The clip, [F, 64, 64, 3], with smooth edges."""
    ground = np.broadcast_to(np.asarray(BACKGROUNDS[scene.background], np.float64), (SIDE, SIDE, 3))
    pictures = (
        paint(ground, scene.shape, COLOURS[scene.colour], x, y, size)
        for x, y, size in zip(*path(scene, frames), strict=True)
    )
    return np.stack([np.rint(picture).astype(np.uint8) for picture in pictures])


def paint(ground: Floats, shape: str, colour: npt.ArrayLike, x: float, y: float, size: float) -> Floats:
    """`ground` [H, W, 3] with the shape on it, its edge one pixel soft."""
    rows, columns = np.mgrid[0 : ground.shape[0], 0 : ground.shape[1]] + 0.5
    inside = np.clip(0.5 - _DISTANCES[shape]((columns - x) / size, (rows - y) / size) * size, 0.0, 1.0)[..., None]
    painted: Floats = ground * (1.0 - inside) + np.asarray(colour, np.float64) * inside
    return painted


def _circle(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.hypot(x, y) - 1.0
    return distance


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 1.0


def _polygon(corners: Floats) -> Callable[[Floats, Floats], Floats]:
    """Signed distance to a polygon (negative inside): to the nearest edge, the sign by counting crossings."""

    def distance(x: Floats, y: Floats) -> Floats:
        nearest, inside = np.full(x.shape, np.inf), np.zeros(x.shape, bool)
        for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            ex, ey = bx - ax, by - ay
            along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
            nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
            if ey != 0.0:
                inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
        return np.where(inside, -nearest, nearest)

    return distance


def _star(inner: float) -> Floats:
    """A five-pointed star's corners, the outer ones at distance 1, the first one up."""
    turns = math.pi * np.arange(10) / 5
    reach = np.where(np.arange(10) % 2 == 0, 1.0, inner)
    return np.stack([reach * np.sin(turns), -reach * np.cos(turns)], axis=1)


_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _polygon(np.array([[0.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])),
    "star": _polygon(_star(0.45)),
}
