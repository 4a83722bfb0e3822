"""What the denoising loop itself holds while an expert is called, beside the expert.

diffusers' own pipeline runs a few steps on small latents with real numbers; in place of the expert stands one that says
nothing. All that lives meanwhile grows with the latents: noise, condition, mask, timesteps, predictions, the history of
the scheduler.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline
from diffusers.configuration_utils import FrozenDict
from torch import nn

from engine.memory.live import Live
from engine.memory.parts import TOKENS, Clip, Model, Precision
from engine.memory.trace import Size, seen_shape

_STEPS = 5  # the scheduler's history is full from the third on


def loop(model: Model, precision: Precision, clip: Clip, size: Size) -> tuple[int, int]:
    """(the most that lives when an expert is called, the most that ever lives without the expert's own) in bytes.

    Embeddings of prompts are not among it. Of `clip` only `image` and `guided` matter.
    """
    n, h, w = size
    f, expert = model.spatial, model.parts[model.experts[0]]
    dtype = torch.bfloat16 if precision.dtype == "bf16" else torch.float32
    live = Live((), precision.kernels)
    silent = _Silent(expert.get("in_channels"), expert.get("out_channels"), expert, dtype, live)
    kind: Any = WanImageToVideoPipeline if clip.image else WanPipeline
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    none = dict.fromkeys(("tokenizer", "text_encoder"))
    vae = _Blind(model, (n, h, w))
    pipe = kind(**none, vae=vae, scheduler=scheduler, transformer=silent, expand_timesteps=model.expand_timesteps)
    pipe.set_progress_bar_config(disable=True)
    prompt = torch.zeros(1, TOKENS, 1, dtype=dtype)
    given: dict[str, Any] = {"image": torch.zeros(1, 3, h * f, w * f)} if clip.image else {}
    if clip.image and (seen := seen_shape(expert)) is not None:
        pipe.encode_image = lambda *_: torch.zeros(seen)
    with live:
        pipe(
            prompt_embeds=prompt,
            negative_prompt_embeds=prompt.clone() if clip.guided else None,
            height=h * f,
            width=w * f,
            num_frames=1 + (n - 1) * model.temporal,
            num_inference_steps=_STEPS,
            guidance_scale=5.0 if clip.guided else 1.0,
            output_type="latent",
            **given,
        )
    return silent.held, live.peak


class _Silent(nn.Module):
    """Stands for an expert: asks what lives when it is called, and predicts nothing."""

    def __init__(self, into: int, out: int | None, expert: Any, dtype: torch.dtype, live: Live) -> None:
        super().__init__()
        self.config = FrozenDict(
            in_channels=into, patch_size=expert.get("patch_size"), image_dim=expert.get("image_dim")
        )
        self.dtype, self.device = dtype, torch.device("cpu")
        self.held = 0
        self._out, self._live = out or into, live

    def cache_context(self, *_: Any, **__: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        if not self.held:
            self._live.peak = 0  # what was before is of another stage
        self.held = max(self.held, self._live.now)
        return (hidden_states.new_zeros(1, self._out, *hidden_states.shape[2:]),)


class _Blind(nn.Module):
    """Stands for the VAE: encodes nothing, of the right shape."""

    def __init__(self, model: Model, size: Size) -> None:
        super().__init__()
        channels = model.parts["vae"].get("z_dim")
        self.config = FrozenDict(
            z_dim=channels,
            latents_mean=[0.0] * channels,
            latents_std=[1.0] * channels,
            scale_factor_spatial=model.spatial,
            scale_factor_temporal=model.temporal,
        )
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self._shape = (1, channels, 1 if model.expand_timesteps else size[0], *size[1:])

    def encode(self, _: torch.Tensor) -> Any:
        return SimpleNamespace(latents=torch.zeros(self._shape))
