"""What a rendered clip shows, told from its pixels alone: colours, outline, and how the shape's place and area change.

Nothing of the training or drawing code is used. Lengths are in pixels of a picture 64 wide, whatever the clip's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

COLOURS = {
    "red": (225, 25, 30),
    "orange": (255, 135, 0),
    "yellow": (255, 230, 20),
    "green": (10, 160, 50),
    "cyan": (0, 215, 235),
    "blue": (25, 60, 230),
    "purple": (130, 30, 185),
    "pink": (255, 120, 195),
}
BACKGROUNDS = {"black": (0, 0, 0), "gray": (128, 128, 128), "white": (255, 255, 255), "brown": (105, 65, 30)}
_SECTORS = 30  # of an outline, 12 degrees each
_APART = 45.0  # distance of two colours in RGB from which on they are told apart
_LIKE = 0.06  # mean distance of two outlines; the nearest two, a circle's and a square's, are 0.087 apart
_SMALLEST, _LARGEST = 25.0, 1700.0  # square pixels of a shape that can be judged; the picture has 4096
_GROWN = 1.34  # the root of 1.8, of which a growing shape's area changes at least
_PACE = 0.35  # pixels a frame, half of the slowest motion
_TURNED = 8.0  # pixels of way beyond the way from start to end


@dataclass(frozen=True)
class Seen:
    """What one clip shows. None where nothing can be told; paths have one entry a frame."""

    background: str | None
    colour: str | None
    shape: str | None
    motion: str | None
    x: Floats
    y: Floats
    area: Floats


def read_frames(path: Path) -> Frames:
    """All frames of a video, [F, H, W, 3] in RGB."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def look(frames: Frames) -> Seen:
    """Judge a clip of `frames` [F, H, W, 3]: one shape on a flat ground."""
    pictures = frames.astype(np.float64)
    ground = _ground(pictures)
    background = _nearest(ground, BACKGROUNDS)
    shown = _colour(pictures, ground)
    if shown is None:
        empty = np.zeros(0)
        return Seen(background, None, None, None, empty, empty, empty)
    cover = _coverage(pictures, ground, shown)
    scale = 64.0 / frames.shape[2]
    area = cover.sum((1, 2)) * scale**2
    x, y = _centres(cover)
    whole = bool(((area >= _SMALLEST) & (area <= _LARGEST)).all())
    shape = _shape(cover, x, y) if whole else None
    motion = _motion(x * scale, y * scale, area) if whole else None
    return Seen(background, _nearest(shown, COLOURS), shape, motion, x * scale, y * scale, area)


def _ground(pictures: Floats) -> Floats:
    """The colour of the rim, two pixels wide."""
    sides = (pictures[:, :2], pictures[:, -2:], pictures[:, :, :2], pictures[:, :, -2:])
    ground: Floats = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    return ground


def _nearest(colour: Floats, names: dict[str, tuple[int, int, int]]) -> str | None:
    """The name of the nearest colour; None where it is far from all."""
    distances = {name: float(np.linalg.norm(colour - np.array(value))) for name, value in names.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] < 2 * _APART else None


def _colour(pictures: Floats, ground: Floats) -> Floats | None:
    """The colour of what is farthest from the ground, its inner half; None where all is ground."""
    away = np.linalg.norm(pictures - ground, axis=-1)
    far = np.quantile(away.reshape(len(away), -1), 0.98, axis=1).mean()  # the least shape covers two in a hundred
    if far < _APART:
        return None
    inner = pictures[away > 0.75 * far]
    colour: Floats = np.median(inner, axis=0)
    return colour


def _coverage(pictures: Floats, ground: Floats, colour: Floats) -> Floats:
    """How much of each pixel the shape covers, 0 to 1: where it lies on the way from the ground to the colour."""
    way = colour - ground
    share = np.clip((pictures - ground) @ way / (way @ way), 0.0, 1.0)
    return np.where(share < 0.2, 0.0, share)  # noise of the encoder


def _centres(cover: Floats) -> tuple[Floats, Floats]:
    rows, columns = np.mgrid[0 : cover.shape[1], 0 : cover.shape[2]] + 0.5
    weight = np.maximum(cover.sum((1, 2)), 1e-9)
    return (cover * columns).sum((1, 2)) / weight, (cover * rows).sum((1, 2)) / weight


# --- the shape --------------------------------------------------------------------------------------------------------


def _shape(cover: Floats, x: Floats, y: Floats) -> str | None:
    """The shape whose outline is nearest to the mean one of the clip; None where it is far from all."""
    some = np.linspace(0, len(cover) - 1, 8).astype(int)
    seen = np.mean([_outline(cover[i], float(x[i]), float(y[i])) for i in some], axis=0)
    distances = {name: float(np.abs(seen - ideal).mean()) for name, ideal in _ideals().items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] < _LIKE else None


def _outline(cover: Floats, x: float, y: float) -> Floats:
    """The radius of a shape in each direction around its centre; 1 is that of a disc of its area."""
    fine = 4
    rows, columns = (np.mgrid[0 : cover.shape[0] * fine, 0 : cover.shape[1] * fine] + 0.5) / fine
    weight = _finer(cover, fine)
    angle = np.arctan2(rows - y, columns - x) % (2 * math.pi)
    sector = np.minimum((angle / (2 * math.pi) * _SECTORS).astype(int), _SECTORS - 1)
    share = np.bincount(sector.ravel(), weight.ravel(), _SECTORS) / max(weight.sum(), 1e-9)
    radius: Floats = np.sqrt(share * _SECTORS)
    return radius


def _finer(cover: Floats, times: int) -> Floats:
    """Each pixel in `times` x `times` parts, the edge sharp within it."""
    for axis in (0, 1):
        count = cover.shape[axis]
        at = (np.arange(count * times) + 0.5) / times - 0.5
        low = np.clip(np.floor(at).astype(int), 0, count - 1)
        high = np.clip(low + 1, 0, count - 1)
        share = np.expand_dims(np.clip(at - low, 0.0, 1.0), 1 - axis)
        cover = np.take(cover, low, axis) * (1 - share) + np.take(cover, high, axis) * share
    return (cover > 0.5).astype(np.float64)


def _ideals() -> dict[str, Floats]:
    """Outlines of the four shapes, from their corners."""
    turn = math.pi / 5
    corners = {
        "circle": [(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 90, endpoint=False)],
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1), (1, 1), (-1, 1)],
        "star": [((1, 0.45)[i % 2] * math.sin(i * turn), -(1, 0.45)[i % 2] * math.cos(i * turn)) for i in range(10)],
    }
    return {name: _ideal(np.array(points, np.float64)) for name, points in corners.items()}


def _ideal(corners: Floats) -> Floats:
    side = 48
    rows, columns = (np.mgrid[0:side, 0:side] + 0.5) / side * 2.4 - 1.2
    inside = np.zeros(rows.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:  # a ray to the right crosses this edge
            inside ^= ((ay > rows) != (by > rows)) & (columns < ax + (rows - ay) * (bx - ax) / (by - ay))
    cover = inside.astype(np.float64)
    x, y = _centres(cover[None])
    return _outline(cover, float(x[0]), float(y[0]))


# --- the motion -------------------------------------------------------------------------------------------------------


def _motion(x: Floats, y: Floats, area: Floats) -> str | None:
    """One of the eight motions; None where two are mixed."""
    x, y, area = (_smooth(one) for one in (x, y, area))
    dx, dy, grown = x[-1] - x[0], y[-1] - y[0], area[-1] / area[0]
    turned = float(np.abs(np.diff(y)).sum() - abs(dy))
    least = _PACE * (len(x) - 1)
    found = []
    if turned > _TURNED:
        found.append("bounce")
    elif abs(dy) > least:
        found.append("down" if dy > 0 else "up")
    if abs(dx) > least:
        found.append("right" if dx > 0 else "left")
    if not 1 / _GROWN < grown < _GROWN:
        found.append("grow" if grown > 1 else "shrink")
    if not found:
        return "still"
    return found[0] if len(found) == 1 else None


def _smooth(values: Floats) -> Floats:
    """Means of three neighbours."""
    smoothed: Floats = np.convolve(values, np.full(3, 1 / 3), mode="valid")
    return smoothed
