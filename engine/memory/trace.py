"""One trace a stage: what the real modules take for a given size, found without weights and without a GPU.

Sizes are in latents: `n` frames of `h` x `w`. Everything is called as the run calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from engine.memory.parts import TOKENS, Model, Part, Precision
from engine.memory.skeleton import build, hollow
from engine.memory.traced import Traced, Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.video.tiles import Tiles

Size = tuple[int, int, int]  # n, h, w

_LAYERS = 2  # of a transformer are run: all are alike, and the second begins with what the first left


def weights(part: Part, precision: Precision) -> Weights:
    """The bytes of a component's parameters, and how they lie in its layers."""
    with hollow():
        module = build(part, precision)
        blocks = _longest_list(module)
        streamed = [list(block.parameters()) for block in blocks]
        leaves = [sum(map(_bytes, layer.parameters(recurse=False))) for layer in module.modules()]
        leaves = [leaf for leaf in leaves if leaf] + [0]
        return Weights(
            parameters=sum(map(_bytes, module.parameters())),
            buffers=sum(map(_bytes, module.buffers())),
            blocks=tuple(sum(map(_bytes, block)) for block in streamed),
            leaf=max(map(sum, pairwise(leaves))),
            pinned=sum(1 << (_bytes(tensor) - 1).bit_length() for block in streamed for tensor in block),
        )


def text(part: Part, precision: Precision) -> Traced:
    """One prompt through the text encoder."""
    import torch

    with hollow():
        module = build(part, precision)
        ids, mask = torch.ones(1, TOKENS, dtype=torch.int64), torch.ones(1, TOKENS, dtype=torch.int64)
        return _run(module, precision, (ids, mask), lambda: module(ids, mask).last_hidden_state)


def vision(part: Part, precision: Precision, pictures: int) -> Traced:
    """Pictures through the image encoder, as `WanImageToVideoPipeline.encode_image` reads it."""
    import torch

    side, channels = part.get("image_size"), part.get("num_channels")
    with hollow():
        module = build(part, precision)
        seen = torch.empty(pictures, channels, side, side)
        return _run(
            module, precision, (seen,), lambda: module(pixel_values=seen, output_hidden_states=True).hidden_states[-2]
        )


def step(part: Part, precision: Precision, size: Size, *, per_token: bool) -> Traced:
    """One call of an expert, beside what it is given. `per_token`: each token has a timestep of its own."""
    return steps(part, precision, [size], per_token=per_token)[0]


def steps(part: Part, precision: Precision, sizes: Sequence[Size], *, per_token: bool) -> list[Traced]:
    """The same for several sizes."""
    with hollow():
        module: Any = build(part, precision)
        blocks, parameters = module.blocks, sum(map(_bytes, module.parameters()))
        found = []
        for size in sizes:
            one, few = [
                _step(module, blocks[:count], part, precision, size, per_token)
                for count in (1, min(_LAYERS, len(blocks)))
            ]
            flops = one.flops + (len(blocks) - 1) * (few.flops - one.flops)
            found.append(Traced(parameters, few.activation_bytes, few.output_bytes, flops))
        return found


def _step(module: Any, blocks: Any, part: Part, precision: Precision, size: Size, per_token: bool) -> Traced:
    import torch

    dtype = getattr(torch, {"bf16": "bfloat16", "fp32": "float32"}[precision.dtype])
    n, h, w = size
    module.blocks = blocks
    given = {
        "hidden_states": torch.empty(1, part.get("in_channels"), n, h, w, dtype=dtype),
        "timestep": torch.empty(1, tokens(part, size)) if per_token else torch.empty(1, dtype=torch.int64),
        "encoder_hidden_states": torch.empty(1, TOKENS, part.get("text_dim"), dtype=dtype),
    }
    if (seen := seen_shape(part)) is not None:
        given["encoder_hidden_states_image"] = torch.empty(seen, dtype=dtype)
    return _run(module, precision, tuple(given.values()), lambda: module(**given, return_dict=False)[0])


def seen_shape(part: Part) -> tuple[int, int, int] | None:
    """Of what an image encoder tells this transformer; None where it asks for nothing."""
    if part.get("image_dim") is None:
        return None
    pair = part.get("pos_embed_seq_len")
    return (2, pair // 2, part.get("image_dim")) if pair else (1, 257, part.get("image_dim"))


def tokens(part: Part, size: Size) -> int:
    """What a transformer makes of latents."""
    (n, h, w), (a, b, c) = size, part.get("patch_size")
    return int((n // a) * (h // b) * (w // c))


def encode(model: Model, precision: Precision, size: Size, tiles: Tiles | None = None) -> Traced:
    """The pipeline's `prepare_latents`: a first image, and the black frames after it, through the VAE.

    The image and the noise are what it is given. With `tiles` the VAE goes over it in tiles, as diffusers does.
    """
    return encodes(model, precision, [size], tiles)[0]


def encodes(model: Model, precision: Precision, sizes: Sequence[Size], tiles: Tiles | None = None) -> list[Traced]:
    """The same for several sizes."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

    with hollow():
        module: Any = build(model.parts["vae"], precision)
        if tiles:
            module.enable_tiling(tiles.side, tiles.side, tiles.stride, tiles.stride)
        none = dict.fromkeys(("tokenizer", "text_encoder"))
        pipe = WanImageToVideoPipeline(
            **none, vae=module, scheduler=UniPCMultistepScheduler(), expand_timesteps=model.expand_timesteps
        )
        return [_encode(pipe, module, model, precision, size) for size in sizes]


def _encode(pipe: Any, module: Any, model: Model, precision: Precision, size: Size) -> Traced:
    import torch

    n, h, w = size
    f, z = model.spatial, model.parts["vae"].get("z_dim")
    image, latents = torch.empty(1, 3, h * f, w * f), torch.empty(1, z, n, h, w)
    frames, cpu = 1 + (n - 1) * model.temporal, torch.device("cpu")

    def prepare() -> torch.Tensor:
        made = pipe.prepare_latents(image, 1, z, h * f, w * f, frames, torch.float32, cpu, None, latents)
        condition: torch.Tensor = made[1]
        return condition

    return _run(module, precision, (image, latents), prepare)


def decode(part: Part, precision: Precision, size: Size) -> Traced:
    """Latents to frames, a group at a time; the latents are what it is given. `kept` are the feature caches."""
    return decodes(part, precision, [size])[0]


def decodes(part: Part, precision: Precision, sizes: Sequence[Size]) -> list[Traced]:
    """The same for several sizes."""
    with hollow():
        module = build(part, precision)
        return [_decode(module, part, precision, size) for size in sizes]


def _decode(module: Any, part: Part, precision: Precision, size: Size) -> Traced:
    import torch

    from engine.memory.live import counted
    from engine.video.decode import frame_groups

    latents = torch.empty(1, part.get("z_dim"), *size)
    caches = output = 0
    with counted((*module.parameters(), *module.buffers(), latents), precision.kernels) as live:
        for group in frame_groups(module, latents, lambda: None):
            caches = _storages(module._feat_map)
            output = _bytes(group)
    return Traced(sum(map(_bytes, module.parameters())), live.peak, output, live.flops, caches)


def _storages(tensors: list[Any]) -> int:
    """Bytes of what a list of tensors keeps alive, each storage once."""
    kept = [tensor.untyped_storage() for tensor in tensors if hasattr(tensor, "untyped_storage")]
    return sum({storage._cdata: storage.nbytes() for storage in kept}.values())


def _run(module: nn.Module, precision: Precision, given: tuple[Any, ...], work: Callable[[], torch.Tensor]) -> Traced:
    from engine.memory.live import counted

    with counted((*module.parameters(), *module.buffers(), *given), precision.kernels) as live:
        output = work()
    return Traced(sum(map(_bytes, module.parameters())), live.peak, _bytes(output), live.flops)


def _longest_list(module: nn.Module) -> list[nn.Module]:
    """The layers of the list that holds most weights: those that stream."""
    from torch import nn

    lists = [list(part) for part in module.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=lambda one: sum(_bytes(tensor) for part in one for tensor in part.parameters()), default=[])


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
