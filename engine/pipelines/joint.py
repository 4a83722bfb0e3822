"""Joint windows: every step predicts a long clip window by window, blends, and takes one step on the whole latent.

A stand-in goes around each transformer of a `WanPipeline`: it is called with the whole latent and answers for all of
it, while what is behind it only ever sees one window. So there is one schedule, one decode and one colour, and the
memory of one window.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.job import Job
from engine.memory.windows import Layout, Window, grid, segment_of, shares
from engine.pipelines.resume import Course

EXPERTS = ("transformer", "transformer_2")


@dataclass(frozen=True)
class Clip:
    """A long clip to be made: `prompts` has the embeddings of each segment, `check` is the cancel point.

    `call(course, prompt_embeds=, num_frames=, …)` is one call of the pipeline; it returns latents (1, z, n, h, w).
    """

    pipe: Any
    call: Callable[..., torch.Tensor]
    course: Course
    job: Job
    layout: Layout
    prompts: tuple[torch.Tensor, ...]
    generator: torch.Generator
    check: Callable[[], None]


class Around(nn.Module):
    """Stands in front of a component of a pipeline, and is to the pipeline what that component is."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def config(self) -> Any:
        return self.inner.config

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.inner.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.inner.device
        return device

    def cache_context(self, name: str, **more: Any) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self.inner.cache_context(name, **more)
        return context


def around_experts(pipe: Any, wrap: Callable[[Any], nn.Module]) -> None:
    """Put a stand-in around every transformer the pipeline has."""
    for name in EXPERTS:
        if (expert := getattr(pipe, name, None)) is not None:
            setattr(pipe, name, wrap(expert))


def jointly(clip: Clip) -> torch.Tensor:
    """Latents of the whole clip. One that is no longer than a window is that of the plain pipeline, bit by bit."""
    around_experts(clip.pipe, lambda expert: Jointly(expert, clip.layout, clip.prompts, clip.check))
    return clip.call(clip.course, prompt_embeds=clip.prompts[0], num_frames=clip.job.frames, latents=noise(clip))


def drawn(clip: Clip, channels: int, latents: int) -> torch.Tensor:
    """Initial noise (1, channels, latents, h, w), fp32, as the pipeline itself would draw it next."""
    assert clip.job.width and clip.job.height  # a checked job has them
    sides = (side // clip.pipe.vae_scale_factor_spatial for side in (clip.job.height, clip.job.width))
    return torch.randn((1, channels, latents, *sides), generator=clip.generator)


def noise(clip: Clip) -> torch.Tensor:
    """Initial noise of the whole clip: that of the first window, which later ones hold in another order.

    Windows that begin alike come out alike (FreeNoise, Qiu et al. 2023). Each further block is a shuffle of the oldest
    latents of the window before it, so that a window holds each of them once.
    """
    layout = clip.layout
    first = drawn(clip, clip.pipe.transformer.config.in_channels, min(layout.window, layout.total))
    order = list(range(first.shape[2]))
    while len(order) < layout.total:
        oldest = order[-layout.window :][: layout.window - layout.overlap]
        order += [oldest[i] for i in torch.randperm(len(oldest), generator=clip.generator).tolist()]
    return first[:, :, order[: layout.total]]


class Jointly(Around):
    """A transformer that is called with a whole clip, and sees a window of it at a time."""

    def __init__(
        self, inner: Any, layout: Layout, prompts: tuple[torch.Tensor, ...], check: Callable[[], None]
    ) -> None:
        super().__init__(inner)
        self._layout, self._prompts, self._check = layout, prompts, check
        self._branch = ""

    def cache_context(self, name: str, **more: Any) -> AbstractContextManager[None]:
        self._branch = name
        return super().cache_context(name, **more)

    def forward(
        self, hidden_states: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, **more: Any
    ) -> tuple[torch.Tensor]:
        """The prediction for all of `hidden_states` (1, channels, n, h, w), in their dtype."""
        windows = grid(self._layout, float(timestep.max()))
        whole: torch.Tensor | None = None
        for window, share in zip(windows, shares(windows), strict=True):
            self._check()
            text = self._text(window, encoder_hidden_states)
            part = self._predict(window, hidden_states, timestep, encoder_hidden_states=text, **more)
            if len(windows) == 1:
                return (part,)
            if whole is None:
                whole = part.new_zeros((*part.shape[:2], *hidden_states.shape[2:]), dtype=torch.float32)
            weights = torch.tensor(share, device=part.device).view(1, 1, -1, 1, 1)
            whole[:, :, window.start : window.stop] += part * weights
        assert whole is not None
        return (whole.to(hidden_states.dtype),)

    def _text(self, window: Window, given: torch.Tensor) -> torch.Tensor:
        """The embeddings for a window; those of the negative prompt are the same for all."""
        return self._prompts[segment_of(self._layout, window)].to(given) if self._branch == "cond" else given

    def _predict(self, window: Window, latents: torch.Tensor, timestep: torch.Tensor, **more: Any) -> torch.Tensor:
        """The prediction for one window. A later one has the clip's first latent in front, as its anchor.

        The models know a first latent that stands for one frame; no other latent of a clip is of that kind.
        """
        seen = [slice(window.start, window.stop)]
        if window.start:
            seen.insert(0, slice(0, 1))
        if timestep.ndim == 2:  # a timestep for each token, latent after latent
            tokens = timestep.reshape(len(timestep), latents.shape[2], -1)
            timestep = torch.cat([tokens[:, part] for part in seen], dim=1).flatten(1)
        latents = torch.cat([latents[:, :, part] for part in seen], dim=2)
        predicted: torch.Tensor = self.inner(hidden_states=latents, timestep=timestep, **more)[0]
        return predicted[:, :, 1:] if window.start else predicted
