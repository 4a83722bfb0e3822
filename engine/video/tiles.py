"""Latents to frames in tiles, for a device that has no room for whole pictures.

A tile goes through all of its latent frames before the next one begins, as in diffusers' `tiled_decode`, because the
VAE's feature cache is half of what decoding takes: of 720p some 8 GiB, in overlapping tiles 16, one tile 0.6. With time
outside all of them would have to wait somewhere. Finished pixels wait instead, as bytes in RAM: 2.6 MiB a frame of
720p. The device holds one tile, however long and large the clip; the first frames come last.

It uses private parts of diffusers' VAE (`clear_cache`, `_feat_map`, `_conv_idx`, `blend_v`, `blend_h`, `unpatchify`); a
test compares it with `enable_tiling` and `decode`, byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.finite import is_finite, not_finite
from engine.video.decode import denormalised, pixels

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiles:
    """The sides of a tile, and how far apart tiles begin, in pixels; both in multiples of what a latent covers."""

    side: int
    stride: int

    def are_needed(self, vae: Any, latents: torch.Tensor) -> bool:
        """Whether a picture is larger than one tile."""
        return bool(max(latents.shape[-2:]) > self.side // vae.spatial_compression_ratio)


def tiled_frames(
    vae: Any, latents: torch.Tensor, tiles: Tiles, tell: Callable[[float], None]
) -> Iterator[NDArray[np.uint8]]:
    """Decode `latents` (1, z, n, h, w), as a pipeline returns them, into 1, 4, 4, … frames (H, W, 3) of bytes.

    `tell` hears, before every frame of a tile, which share of the work is done, and may raise. Raises `RunError`
    (`not-finite`) in place of a black tile.
    """
    import numpy as np
    import torch

    ratio, (count, height, width) = vae.spatial_compression_ratio, latents.shape[2:]
    frames = np.empty((4 * count - 3, height * ratio, width * ratio, 3), np.uint8)
    with torch.no_grad():
        z = denormalised(vae, latents)
        try:
            _decode(vae, z, tiles, frames, tell)
        finally:
            vae.clear_cache()
    del z
    yield frames[:1]
    for first in range(1, len(frames), 4):
        yield frames[first : first + 4]


def _decode(vae: Any, z: torch.Tensor, tiles: Tiles, frames: NDArray[np.uint8], tell: Callable[[float], None]) -> None:
    """Fill `frames` from latents in the VAE's own scale. Edges that later tiles are blended with wait in RAM."""
    ratio, (height, width) = vae.spatial_compression_ratio, z.shape[-2:]
    side, stride = tiles.side // ratio, tiles.stride // ratio
    blend = (tiles.side - tiles.stride) // (vae.config.patch_size or 1)
    corners = [(top, left) for top in range(0, height, stride) for left in range(0, width, stride)]
    above: dict[int, list[torch.Tensor]] = {}  # by the left side of a tile, for each latent frame
    before: list[torch.Tensor] = []
    for number, (top, left) in enumerate(corners):
        lower: list[torch.Tensor] = []
        right: list[torch.Tensor] = []
        x = z[..., top : top + side, left : left + side]
        vae.clear_cache()
        for i in range(z.shape[2]):
            tell((number + i / z.shape[2]) / len(corners))
            tile = _tile(vae, x[:, :, i : i + 1], first=i == 0)
            if top:
                tile = vae.blend_v(above[left][i].to(tile.device), tile, blend)
            if left:
                tile = vae.blend_h(before[i].to(tile.device), tile, blend)
            lower.append(tile[..., -blend:, :].to("cpu", copy=True))
            right.append(tile[..., -blend:].to("cpu", copy=True))
            _place(vae, tile, frames[4 * i - 3 if i else 0 : 4 * i + 1], top * ratio, left * ratio, tiles.stride)
        above[left], before = lower, right


def _tile(vae: Any, z: torch.Tensor, *, first: bool) -> torch.Tensor:
    """One latent frame of a tile, after the one before it: (1, channels, 1 or 4, h, w), before its patches are undone.

    The operations are diffusers', one tile at a time: the bits depend on it.
    """
    vae._conv_idx = [0]
    more = {"first_chunk": True} if first else {}
    tile: torch.Tensor = vae.decoder(vae.post_quant_conv(z), feat_cache=vae._feat_map, feat_idx=vae._conv_idx, **more)
    if not is_finite(tile):  # before the clamp, which makes a 1 of an infinity
        raise not_finite("In a tile the decoded pictures are", "vae", vae, "the latents are beyond it", vae.dtype)
    return tile


def _place(vae: Any, tile: torch.Tensor, frames: NDArray[np.uint8], top: int, left: int, stride: int) -> None:
    """Put what a blended tile adds into the frames (n, H, W, 3) of its time."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    patch = vae.config.patch_size
    step = stride // (patch or 1)
    tile = tile[..., :step, :step]
    if patch is not None:
        tile = unpatchify(tile, patch_size=patch)
    piece = pixels(tile.clamp(min=-1.0, max=1.0))
    frames[:, top : top + piece.shape[1], left : left + piece.shape[2]] = piece
