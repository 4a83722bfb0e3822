"""How far the colour of a long video wanders: the mean of each window's frames beside that of the first, in CIE Lab.

Fed with frames as they leave the decoder, in order; a histogram a channel is all that is kept of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Two colours at this distance (CIE 1976) are told apart at a glance; from about 2 on a trained eye sees a difference.
FAR = 10.0

_WHITE = (0.95047, 1.0, 1.08883)  # D65, the white of sRGB
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))


class Drift:
    """Sums up the colours of `stretches`, (first, end) frames of each window, in order and without gaps."""

    def __init__(self, stretches: Sequence[tuple[int, int]]) -> None:
        self._ends = [end for _, end in stretches]
        self._counts: list[list[NDArray[np.int64]]] = [[] for _ in stretches]
        self._seen = 0

    def add(self, frames: NDArray[np.uint8]) -> None:
        """The next frames of the video, (n, H, W, 3)."""
        import numpy as np

        for frame in frames:
            window = next(i for i, end in enumerate(self._ends) if self._seen < end)
            counts = np.stack([np.bincount(frame[..., channel].ravel(), minlength=256) for channel in range(3)])
            held = self._counts[window]
            held[:] = [held[0] + counts] if held else [counts]
            self._seen += 1

    def distances(self) -> tuple[float, ...]:
        """Of each window that has frames, the distance of its mean colour to the first window's (which has 0)."""
        means = [mean_lab(held[0]) for held in self._counts if held]
        return tuple(round(sum((a - b) ** 2 for a, b in zip(mean, means[0], strict=True)) ** 0.5, 2) for mean in means)

    def warning(self) -> str | None:
        """A sentence for the user where the colour ends far from where it began; None where it does not."""
        distances = self.distances()
        if not distances or distances[-1] <= FAR:
            return None
        first = next(i for i, distance in enumerate(distances) if min(distances[i:]) > FAR)
        return (
            f"The colours drift: from window {first + 1} of {len(distances)} on, their mean is more than {FAR:g} away "
            f"from the first window's (CIE Lab), at the end {distances[-1]:.1f}."
        )


def mean_lab(counts: NDArray[np.int64]) -> tuple[float, float, float]:
    """The mean colour, in linear light, of pixels counted by channel and value (3, 256), in CIE 1976 L*a*b*."""
    import numpy as np

    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    mean = counts @ linear / counts.sum(axis=1)
    x, y, z = (_cube_root(float(part)) for part in np.array(_TO_XYZ) @ mean / np.array(_WHITE))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _cube_root(ratio: float) -> float:
    """With CIE's straight line near black."""
    return float(ratio ** (1 / 3)) if ratio > (6 / 29) ** 3 else ratio / (3 * (6 / 29) ** 2) + 4 / 29
