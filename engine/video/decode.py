"""Latents to frames, a group at a time: 1, 4, 4, …

The Wan VAE is causal in time, so `AutoencoderKLWan._decode` is a loop over latent frames with a feature cache. Here
the same loop gives each group away as soon as it is there: host memory holds one group, whatever the length. It uses
private parts of diffusers' VAE (`clear_cache`, `_feat_map`, `_conv_idx`); a test compares it with `decode` bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine.finite import is_finite, not_finite

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def frame_groups(vae: Any, latents: torch.Tensor, check: Callable[[], None]) -> Iterator[torch.Tensor]:
    """Decode `latents` (1, z, n, h, w), as a pipeline returns them, into groups (1, 3, 1 or 4, H, W) in [-1, 1].

    `check` is called before every group and may raise. Raises `RunError` (`not-finite`) in place of a black group.
    """
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    with torch.no_grad():
        x = vae.post_quant_conv(denormalised(vae, latents))
        vae.clear_cache()
        try:
            for i in range(x.shape[2]):
                check()
                vae._conv_idx = [0]
                first = {"first_chunk": True} if i == 0 else {}
                group = vae.decoder(x[:, :, i : i + 1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, **first)
                if vae.config.patch_size is not None:
                    group = unpatchify(group, patch_size=vae.config.patch_size)
                if not is_finite(group):  # before the clamp, which makes a 1 of an infinity
                    what = f"At latent frame {i + 1} of {x.shape[2]} the decoded pictures are"
                    raise not_finite(what, "vae", vae, "the latents are beyond it", vae.dtype)
                yield torch.clamp(group, min=-1.0, max=1.0)
        finally:
            vae.clear_cache()


def denormalised(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in the VAE's own scale, by the same operations as in diffusers' pipelines: the bits depend on them."""
    import torch

    latents = latents.to(vae.device, vae.dtype)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents.device, latents.dtype)
    inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents.device, latents.dtype)
    return latents / inverse_std + mean


def pixels(group: torch.Tensor) -> NDArray[np.uint8]:
    """A decoded group as frames (n, H, W, 3) of bytes, rounded as diffusers rounds its PIL frames."""
    frames = (group[0].permute(1, 0, 2, 3) * 0.5 + 0.5).clamp(0, 1)
    array = frames.cpu().permute(0, 2, 3, 1).float().numpy()
    rounded: NDArray[np.uint8] = (array * 255).round().astype("uint8")
    return rounded
