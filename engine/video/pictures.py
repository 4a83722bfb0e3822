"""Frames as numbered PNG files, by Pillow: it also keeps them when ffmpeg is what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from engine.video.disk import disk_errors

if TYPE_CHECKING:
    from pathlib import Path


class Pictures:
    """Takes raw RGB bytes as an encoder does, and writes `00001.png`, `00002.png`, … into `folder`."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        self._folder = folder
        self._shape = (height, width, 3)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def write(self, data: memoryview) -> None:
        """Write whole frames. Raises RunError `disk-full` or `output-not-writable`."""
        import numpy as np
        from PIL import Image

        for frame in np.frombuffer(data, np.uint8).reshape(-1, *self._shape):
            self._count += 1
            with disk_errors(self._folder.parents[1]):
                Image.fromarray(frame).save(self._folder / f"{self._count:05}.png", compress_level=3)

    def close(self) -> None:
        """Nothing is held back: every frame is on its way to the disk already."""
