"""What the VAE takes when it goes over a picture in tiles, from what it takes for a whole picture of a tile's size.

Tracing all tiles would take a minute; they are alike. So it is one tile, and what waits for the others meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from engine.memory.ladder import Form
from engine.memory.parts import Model
from engine.memory.traced import Fitted

Size = tuple[int, int, int]  # latent frames, height, width

_FLOAT = 4  # bytes: the VAE runs in fp32
_COLOURS = 3


def in_tiles(model: Model, form: Form, size: Size) -> bool:
    """Whether a picture is decoded in tiles: it is larger than one (`Tiles.are_needed`)."""
    return form.tile is not None and max(size[1:]) > form.tile // model.spatial


def decode_bytes(model: Model, form: Form, size: Size, whole: Fitted) -> tuple[int, int]:
    """(on the VAE's device, waiting in RAM), beside the latents it is given. `whole` are the curves of whole pictures.

    A tile goes through all of its frames before the next (`tiled_frames`). On the device are the latents in the VAE's
    own scale and one tile; in RAM wait the finished pictures, as bytes, and the edges the next tiles are blended with.
    """
    n, h, w = size
    if not in_tiles(model, form, size):
        return whole.activation(h * w, n), 0
    assert form.tile and form.stride
    side, stride = form.tile // model.spatial, form.stride // model.spatial
    latents = n * h * w * int(model.parts["vae"].get("z_dim")) * _FLOAT
    on_device = latents + whole.activation(min(h, side) * min(w, side), n)
    frames, blend = 1 + (n - 1) * model.temporal, side - stride
    edges = blend * (2 * sum(_sides(w, side, stride)) + 2 * side) * _FLOAT  # of two rows of tiles, and of two tiles
    return on_device, frames * _COLOURS * model.spatial**2 * (h * w + edges)


def encode_bytes(model: Model, form: Form, size: Size, whole: Fitted) -> int:
    """Of a first image, beside it and the noise. diffusers' tiles are of pixels after the VAE's own patches."""
    n, h, w = size
    patch = int(model.parts["vae"].get("patch_size") or 1)
    side = form.tile * patch // model.spatial if form.tile is not None else 0
    if form.tile is None or max(h, w) * model.spatial <= form.tile:
        return whole.activation(h * w, n)
    tile = min(h, side) * min(w, side)
    frames = 1 if model.expand_timesteps else 1 + (n - 1) * model.temporal
    copies = 2 if patch > 1 else 1
    video = copies * _COLOURS * _FLOAT * frames * model.spatial**2
    return whole.activation(tile, n) + max(0, h * w - tile) * video


def decode_flops(model: Model, form: Form, size: Size, whole: Fitted) -> int:
    n, h, w = size
    if not in_tiles(model, form, size):
        return whole.flops(h * w, n)
    assert form.tile and form.stride
    side, stride = form.tile // model.spatial, form.stride // model.spatial
    wides, highs = Counter(_sides(w, side, stride)), Counter(_sides(h, side, stride))  # nearly all tiles are alike
    return sum(whole.flops(high * wide, n) * a * b for high, a in highs.items() for wide, b in wides.items())


def _sides(length: int, side: int, stride: int) -> Iterator[int]:
    """The tiles along a picture; the last may be smaller."""
    for start in range(0, length, stride):
        yield min(side, length - start)
