"""Images of every kind, as real files: what a model is given, and what a person is told when it cannot be."""

from __future__ import annotations

import io
import os
import random
import struct
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from engine.errors import JobError
from engine.video.image import fit_image, image_size, open_image, size_for_aspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], -1).astype(np.uint8))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *, extra: bytes = b"") -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"tRNS", extra) if extra else b"")
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- what is seen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, suffix: str, orientation: int) -> None:
    """Stored turned by hand, with the EXIF that says so, every picture must come out upright."""
    upright = gradient(48, 32)
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    stored.save(path, exif=exif, quality=95)
    image = open_image(path)
    assert image.size == image_size(path) == (48, 32)
    assert np.abs(pixels(image) - pixels(upright)).mean() < 4


def the_same(image: Image.Image) -> Image.Image:
    return image


MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "rgb.png": the_same,
    "rgb.bmp": the_same,
    "rgb.jpg": the_same,
    "rgb.avif": the_same,
    "grey.png": lambda image: image.convert("L"),
    "one-bit.png": lambda image: image.convert("1"),
    "palette.png": lambda image: image.quantize(64),
    "palette.gif": lambda image: image.quantize(64),
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "ycbcr.jpg": lambda image: image.convert("YCbCr"),
    "opaque.png": lambda image: image.convert("RGBA"),
    "grey-opaque.png": lambda image: image.convert("LA"),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_rgb(tmp_path: Path, name: str) -> None:
    stored = MODES[name](gradient(40, 24))
    stored.save(tmp_path / name)
    image = open_image(tmp_path / name)
    assert (image.mode, image.size) == ("RGB", (40, 24))
    assert image_size(tmp_path / name) == (40, 24)
    assert np.abs(pixels(image) - pixels(stored.convert("RGB"))).mean() < 6


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_transparency_is_laid_on_black(tmp_path: Path, suffix: str) -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., :3] = (200, 100, 50)
    rgba[0, :, 3], rgba[1, :, 3], rgba[2, :, 3] = 255, 128, 0
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}", lossless=True)
    seen = pixels(open_image(tmp_path / f"a.{suffix}"))
    assert np.abs(seen[:3, 0] - [[200, 100, 50], [100, 50, 25], [0, 0, 0]]).max() <= 1


def test_transparent_entries_and_colours_are_black(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=1)
    palette.save(tmp_path / "palette.gif", transparency=1)
    rgb = Image.new("RGB", (2, 1), (255, 0, 0))
    rgb.putpixel((1, 0), (0, 255, 0))
    rgb.save(tmp_path / "rgb.png", transparency=(0, 255, 0))
    grey = Image.new("LA", (2, 1), (80, 255))
    grey.putpixel((1, 0), (80, 0))
    grey.save(tmp_path / "grey.png")
    for name, first in {"palette.png": [255, 0, 0], "palette.gif": [255, 0, 0], "rgb.png": [255, 0, 0]}.items():
        assert pixels(open_image(tmp_path / name)).tolist() == [[first, [0, 0, 0]]]
    assert pixels(open_image(tmp_path / "grey.png")).tolist() == [[[80, 80, 80], [0, 0, 0]]]


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 128, 257, 0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    seen = pixels(open_image(tmp_path / f"deep.{suffix}"))
    assert np.abs(seen[0, :, 0] - [0, 0, 1, 128, 255]).max() <= 1
    assert np.array_equal(seen[..., 0], seen[..., 1])
    assert np.array_equal(seen[..., 0], seen[..., 2])


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 257, 0x4000, 0xC000)
    (tmp_path / "deep.png").write_bytes(png(2, 1, 16, 2, row))
    seen = pixels(open_image(tmp_path / "deep.png"))
    assert np.abs(seen - [[[255, 128, 0], [1, 64, 192]]]).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0.5, 1, -1, np.nan], [0, 128, 255, 0, 0]), ([0, 100, 255, 300, -5], [0, 100, 255, 255, 0])],
)
def test_floats(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    Image.fromarray(np.array([values], np.float32)).save(tmp_path / "float.tiff")
    assert np.abs(pixels(open_image(tmp_path / "float.tiff"))[0, :, 0] - expected).max() <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = tmp_path / f"moving.{suffix}"
    red.save(path, save_all=True, append_images=[blue, blue], lossless=True)
    assert Image.open(path).n_frames > 1  # type: ignore[attr-defined]
    assert pixels(open_image(path))[4, 4].tolist() == [255, 0, 0]


def test_image_outlives_its_file(tmp_path: Path) -> None:
    gradient(8, 8).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    assert image.resize((4, 4)).size == (4, 4)


# --- what cannot be seen ---------------------------------------------------------------------------------------------


def refusals(path: Path) -> list[JobError]:
    found = []
    for read in (open_image, image_size):
        with pytest.raises(JobError) as caught:
            read(path)
        found.append(caught.value)
    return found


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("absent.png", "no such file"),
        ("folder.png", "folder"),
        ("fifo.png", "pipe"),
        ("/dev/zero", "device"),
        ("empty.png", "empty"),
        ("text.png", "no image format"),
        ("loop.png", "symbolic links"),
        ("file/a.png", "Not a directory"),
        ("a\0.png", "null"),
        ("x" * 300 + ".png", "too long"),
        ("bomb.png", "exceeds limit"),
        ("no-pixels.png", ""),
    ],
)
def test_what_is_no_image(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "file").touch()
    (tmp_path / "text.png").write_text("no image, whatever its name says\n" * 100)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 8, 2, b""))
    (tmp_path / "no-pixels.png").write_bytes(png(0, 5, 8, 2, b""))
    for error in refusals(tmp_path / name):
        assert error.code == "bad-input-image"
        assert repr(str(tmp_path / name)) in error.message
        assert cause in str(error.cause)
        assert error.suggestions


def test_image_too_large_can_be_scaled_down(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 8, 2, b""))
    for error in refusals(tmp_path / "bomb.png"):
        assert error.suggestions == ("Scale it down first.",)


def test_file_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.png"
        gradient(8, 8).save(path)
        path.chmod(0)
        Path(name).chmod(0o755)
        root = os.geteuid() == 0
        if root:
            os.setresuid(65534, 65534, 0)
        try:
            errors = refusals(path)
        finally:
            if root:
                os.setresuid(0, 0, 0)
    assert {(error.code, error.cause) for error in errors} == {("bad-input-image", "Permission denied")}


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp", "avif"])
def test_half_a_file(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(JobError) as caught:
        open_image(path)
    assert caught.value.code == "bad-input-image"
    assert str(path) in caught.value.message


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the damage
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp", "ico", "tga", "pcx"])
def test_flipped_bytes_are_refused_or_read_but_never_crash(tmp_path: Path, suffix: str) -> None:
    chance = random.Random(suffix)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    gradient(32, 24).save(buffer, Image.registered_extensions()[f".{suffix}"], exif=exif)
    for turn in range(60):
        data = bytearray(buffer.getvalue())
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
        path = tmp_path / f"{turn}.{suffix}"
        path.write_bytes(data)
        for read in (open_image, image_size):
            try:
                read(path)
            except JobError as error:
                assert error.code == "bad-input-image"
                assert error.cause


def test_size_is_found_without_decoding_and_without_a_word(tmp_path: Path) -> None:
    """100 million pixels, of which Pillow warns, and the file ends after its header."""
    header = struct.pack("<IiiHHIIiiII", 40, 10000, 10000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "large.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert image_size(tmp_path / "large.bmp") == (10000, 10000)
    assert heard == []


# --- the size a model takes ------------------------------------------------------------------------------------------


def test_image_of_the_right_size_is_untouched() -> None:
    image = gradient(64, 48)
    assert fit_image(image, 64, 48) is image


@pytest.mark.parametrize(
    ("size", "target", "seen"),
    [
        ((200, 100), (50, 50), (0.25, 0, 0.75, 1)),  # wide: the sides go
        ((100, 200), (50, 50), (0, 0.25, 1, 0.75)),  # tall: top and bottom go
        ((100, 50), (200, 100), (0, 0, 1, 1)),  # same aspect: nothing goes
        ((30, 30), (64, 32), (0, 0.25, 1, 0.75)),  # and upwards
        ((500, 4), (16, 16), (0.496, 0, 0.504, 1)),
    ],
)
def test_fit_covers_and_crops_the_middle(
    size: tuple[int, int], target: tuple[int, int], seen: tuple[float, float, float, float]
) -> None:
    image = fit_image(gradient(*size), *target)
    assert (image.size, image.mode) == (target, "RGB")
    left, top, right, bottom = seen
    x = 255 * (left + (right - left) * (np.arange(target[0]) + 0.5) / target[0])
    y = 255 * (top + (bottom - top) * (np.arange(target[1]) + 0.5) / target[1])
    # A gradient is linear between the centres of its pixels; half a pixel of the source either way.
    assert np.abs(pixels(image)[..., 0] - x).max() < 255 * 0.6 / size[0] + 2
    assert np.abs(pixels(image)[..., 1].T - y).max() < 255 * 0.6 / size[1] + 2


def test_fit_does_not_alias() -> None:
    """Stripes one pixel wide become grey: every source pixel counts, not every n-th."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pixels(fit_image(Image.fromarray(stripes), 30, 30))[2:-2, 2:-2] - 127.5).max() < 20


@pytest.mark.parametrize(
    ("size", "area", "grid", "expected"),
    [
        ((832, 480), 832 * 480, 16, (832, 480)),
        ((1280, 704), 1280 * 704, 32, (1280, 704)),
        ((480, 832), 832 * 480, 16, (480, 832)),
        ((10, 10), 832 * 480, 16, (624, 624)),  # 632 lies nearer to 624 than to 640
        ((4032, 3024), 832 * 480, 16, (736, 544)),
        ((1920, 1080), 1280 * 720, 16, (1280, 720)),
        ((100000, 1), 832 * 480, 16, (24960, 16)),
        ((1, 100000), 832 * 480, 16, (16, 24960)),
        ((3, 5), 10, 16, (16, 16)),
    ],
)
def test_size_for_aspect(size: tuple[int, int], area: int, grid: int, expected: tuple[int, int]) -> None:
    assert size_for_aspect(*size, area, grid) == expected


def test_size_for_aspect_keeps_its_word() -> None:
    chance = random.Random(3)
    for _ in range(20000):
        width, height = (round(10 ** chance.uniform(0, 4)) for _ in range(2))
        grid = chance.choice([8, 16, 32])
        area = chance.choice([832 * 480, 1280 * 720, 1280 * 704, 256 * 256])
        w, h = size_for_aspect(width, height, area, grid)
        assert w % grid == h % grid == 0
        assert min(w, h) >= grid
        assert w * h - area < grid * max(w, h)
        if min(w, h) > grid:
            assert abs(w - (area * width / height) ** 0.5) <= grid / 2
            assert abs(h - (area * height / width) ** 0.5) <= grid / 2
        else:
            assert w * h <= area + grid * grid
