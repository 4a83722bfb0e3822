"""The real modules of a model without their numbers: made from configurations, on tensors that hold nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from engine.compat.folder import FROM_TRANSFORMERS
from engine.memory.parts import Part, Precision

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def hollow() -> Iterator[None]:
    """In here tensors have shapes, dtypes and storages of a size, and no memory. They say they lie on the CPU."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        yield


def build(part: Part, precision: Precision) -> nn.Module:
    """The module of a component in the precision mix it is loaded to; to be called, and used, within `hollow`.

    `from_pretrained(dtype=)` of diffusers keeps some modules in fp32: those its class names. A tensor is kept when one
    of these is a whole part of its dotted name. Buffers are as the class makes them.
    """
    import diffusers
    import torch

    library: Any = diffusers
    if part.name in FROM_TRANSFORMERS:
        module, kept = _from_transformers(part), ()
    else:
        kind = getattr(library, part.kind)
        module, kept = kind(**_arguments(kind, part)), kind._keep_in_fp32_modules or ()
    if precision.of(part.name) == "bf16":
        for name, weights in module.named_parameters():
            if not any(piece in kept for piece in name.split(".")):
                weights.data = weights.data.to(torch.bfloat16)
    ready: nn.Module = module.eval().requires_grad_(False)
    return ready


def _from_transformers(part: Part) -> Any:
    import transformers

    library: Any = transformers
    config = dict(part.config)
    if part.name == "text_encoder":
        return library.UMT5EncoderModel(library.UMT5Config(**_told(config)))
    told = library.CLIPVisionConfig(**_told(config.get("vision_config", config)))
    return getattr(library, part.kind)(told)


def _told(config: Any) -> dict[str, Any]:
    """A configuration without what says how it was saved."""
    unsaid = ("architectures", "dtype", "torch_dtype", "transformers_version", "model_type")
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in unsaid}


def _arguments(kind: Any, part: Part) -> dict[str, Any]:
    """What the class takes of a configuration. Means of latents come with weights: any will do, if there are enough."""
    taken = inspect.signature(kind.__init__).parameters
    arguments = {key: value for key, value in part.config.items() if key in taken}
    if part.name == "vae":
        channels = part.get("z_dim")
        for key in ("latents_mean", "latents_std"):
            if len(arguments.get(key) or ()) != channels:
                arguments[key] = [1.0] * channels
    return arguments
