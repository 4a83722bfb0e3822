"""Windows in turn, for models that are given a picture: each window is handed the last latents of the one before.

Latents are handed on as they are. Decoding and encoding them again at every join is what makes colours drift, and one
frame alone would say where things are and not how they move.

The pipeline is diffusers' own, called once a window; what it asks of its transformer is changed on the way there:
- I2V: the picture stays the first latent of the condition, as an anchor; the handed latents follow it, marked as known;
  the rest is what the VAE makes of empty frames. The anchor's place in the result is dropped.
- TI2V-5B: the handed latents stand clean in front, at timestep 0. diffusers does this for the one latent of a picture.

What this knows of diffusers: the channels of a condition (latents, mask, picture), in that order; that timesteps of
tokens lie latent after latent; and that `encode` answers with an `AutoencoderKLOutput`.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput

from engine.job import Job
from engine.memory.windows import Window, anchors_of, frames_of, in_windows, latents_of, layout, segment_of, turns
from engine.pipelines.joint import EXPERTS, Around, Clip, drawn


def in_turn(clip: Clip) -> torch.Tensor:
    """Latents of the whole clip, window after window. The first is that of the plain pipeline, bit by bit."""
    pipe, anchors = clip.pipe, anchors_of(clip.pipe.config.expand_timesteps)
    experts = {name: expert for name in EXPERTS if (expert := getattr(pipe, name, None)) is not None}
    wrap = Conditioned if anchors else Prefixed
    whole = torch.empty(0)
    for number, window in enumerate(turns(clip.layout, anchors)):
        clip.check()
        known = whole[:, :, window.start :] if number else None
        for name, expert in experts.items():
            setattr(pipe, name, expert if known is None else wrap(expert, known))
        lead = anchors if number else 0
        latents = _made(clip, number, window, lead)
        whole = latents if known is None else torch.cat([whole, latents[:, :, lead + window.known :]], dim=2)
    return whole


def turns_of(job: Job, pipe: Any) -> int:
    """How many windows, each with all its steps, a job takes; joint windows share their steps."""
    if not in_windows(job) or not isinstance(pipe, WanImageToVideoPipeline):
        return 1
    return len(turns(layout(job), anchors_of(pipe.config.expand_timesteps)))


def _made(clip: Clip, number: int, window: Window, lead: int) -> torch.Tensor:
    """The latents of one window, `lead` anchors and those that were known in front."""
    latents = lead + window.stop - window.start
    course = clip.course.part(number, clip.generator)
    return clip.call(
        course,
        number,
        prompt_embeds=clip.prompts[segment_of(clip.layout, window)],
        num_frames=frames_of(latents),
        latents=drawn(clip, clip.pipe.vae.config.z_dim, latents),  # also where the window goes on with others
    )


class Conditioned(Around):
    """A transformer of I2V whose condition tells it, behind the picture, the latents `known` (1, z, k, h, w)."""

    def __init__(self, inner: Any, known: torch.Tensor) -> None:
        super().__init__(inner)
        self._known = known

    def forward(self, hidden_states: torch.Tensor, **more: Any) -> Any:
        channels, here = self._known.shape[1], slice(1, 1 + self._known.shape[2])
        states = hidden_states.clone()
        states[:, channels:-channels, here] = 1  # the mask: all four frames of each are known
        states[:, -channels:, here] = self._known
        return self.inner(hidden_states=states, **more)


class Prefixed(Around):
    """A transformer of TI2V-5B that has the latents `known` (1, z, k, h, w) clean in front, at timestep 0."""

    def __init__(self, inner: Any, known: torch.Tensor) -> None:
        super().__init__(inner)
        self._known = known

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, **more: Any) -> Any:
        here = slice(0, self._known.shape[2])
        states = hidden_states.clone()
        states[:, :, here] = self._known
        tokens = timestep.reshape(len(timestep), states.shape[2], -1).clone()
        tokens[:, here] = 0
        return self.inner(hidden_states=states, timestep=tokens.flatten(1), **more)


class OnceEncoded(Around):
    """A VAE that is asked again and again for the same picture and empty frames behind it, and encodes them once.

    It is causal: what fewer frames give is the beginning of what more give. The first call has the most.
    """

    _kept: torch.Tensor | None = None

    def encode(self, pixels: torch.Tensor) -> AutoencoderKLOutput:
        if self._kept is None:
            self._kept = self.inner.encode(pixels).latent_dist.parameters
        parameters = self._kept[:, :, : latents_of(pixels.shape[2])]
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(parameters))


class OnceSeen(Around):
    """An image encoder that is asked again and again for the same picture, and looks once."""

    _kept: Any = None

    def forward(self, *args: Any, **more: Any) -> Any:
        if self._kept is None:
            self._kept = self.inner(*args, **more)
        return self._kept
