"""Images in: anything Pillow reads, as the RGB picture a person sees, and at the size a model takes."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.video.source import bad_input, check_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL.Image import Image


def open_image(path: Path) -> Image:
    """The first frame of the image `path` in RGB, turned as its EXIF says.

    What is transparent is laid on black. Grey of 16 bits is scaled to 8; floats count as 0…1, or as 0…255 when any
    is above 1.

    Raises:
        JobError: `bad-input-image`: absent, unreadable, empty, no regular file, no image, damaged, or too large.
    """
    from PIL import ImageOps

    with _reading(path) as image:
        return _rgb(ImageOps.exif_transpose(image))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as `open_image` would give them, without decoding the pixels of most formats.

    Raises as `open_image` does, except for damage that only decoding finds.
    """
    from PIL.ExifTags import Base

    with _reading(path) as image:
        width, height = image.size
        on_its_side = image.getexif().get(Base.Orientation) in (5, 6, 7, 8)
        # Pillow turns TIFF by itself.
        return (height, width) if on_its_side and image.format != "TIFF" else (width, height)


def fit_image(image: Image, width: int, height: int) -> Image:
    """Scale `image` until it covers width x height, aspect kept, and cut off what sticks out, evenly on both sides.

    An image of that very size is returned as it is.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Resampling.LANCZOS)


def size_for_aspect(width: int, height: int, area: int, grid: int) -> tuple[int, int]:
    """The (width, height) with the aspect of width x height and about `area` pixels, each a multiple of `grid`.

    Each side is rounded to its nearest multiple, so the area exceeds `area` by less than one row or column of cells.
    A picture so thin that a side would vanish gets one cell there, and no more length than `area` has room for.
    """
    longest = max(grid, area // grid // grid * grid)

    def side(length: float) -> int:
        return min(longest, max(grid, round(length / grid) * grid))

    return side(math.sqrt(area * width / height)), side(math.sqrt(area * height / width))


@contextmanager
def _reading(path: Path) -> Iterator[Image]:
    """`path` opened by Pillow; whatever goes wrong meanwhile becomes `bad-input-image`."""
    from PIL import Image, UnidentifiedImageError

    check_source(path, "image")
    # Pillow refuses what is really too large; its warning below that would go across the screen.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    try:
        with Image.open(path) as image:
            yield image
    except UnidentifiedImageError:
        raise bad_input(path, "image", "it is in no image format known here", "Save it as PNG or JPEG.") from None
    except Image.DecompressionBombError as error:
        raise bad_input(path, "image", str(error), "Scale it down first.") from error
    except Exception as error:  # on damaged files decoders raise nearly anything
        raise bad_input(path, "image", f"it cannot be decoded: {error}", "Save it again as PNG or JPEG.") from error


def _rgb(image: Image) -> Image:
    from PIL import Image as images

    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = images.alpha_composite(images.new("RGBA", image.size, "black"), image)
    return image.convert("RGB")


def _eight_bits(image: Image) -> Image:
    """Grey of more than 8 bits as `L`; Pillow itself would cut the values off at 255."""
    import numpy as np
    from PIL import Image as images

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    white = 65535.0 if image.mode != "F" else 1.0 if values.max() <= 1 else 255.0
    return images.fromarray(np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8))
