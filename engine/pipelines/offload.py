"""A loaded module put where its rung wants it, by diffusers' own group offload where weights stream; before that an
expert's weights are stored as the plan has them, by diffusers' own layerwise casting.

Weights that stream lie in RAM, and come to the device right before the block or layer that needs them; on CUDA a second
stream brings the next one meanwhile. diffusers takes such hooks away by private names: they are used here and nowhere
else, and a test compares what is left with a module that never had any.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks import HookRegistry, apply_group_offloading
from diffusers.hooks.group_offloading import (
    _GROUP_OFFLOADING,
    _LAYER_EXECUTION_TRACKER,
    _LAZY_PREFETCH_GROUP_OFFLOADING,
)
from torch import nn

from engine.compat.folder import EXPERTS
from engine.memory.ladder import FP8, Hold

_HOST = torch.device("cpu")
_BLOCK_LEVEL = "block_level"


def store(module: Any, name: str, dtype: torch.dtype, held: Hold) -> None:
    """Cast an expert to the storage it is held in, a layer at a time; each runs in `dtype`. Done once, before `settle`:
    group offload pins what it finds.
    """
    if held.storage == FP8 and name in EXPERTS:
        module.enable_layerwise_casting(torch.float8_e4m3fn, dtype)


def settle(module: nn.Module, device: torch.device, held: Hold) -> None:
    """Put a module that was loaded into RAM where it is to run; it is called as before.

    Without a level it moves as a whole; so does one that has no blocks. `resident_bytes` of its first blocks stay.
    """
    blocks = _blocks(module)
    if held.rung.level is None or blocks is None:
        module.to(device)
        return
    owner, name = blocks
    _move_outside(module, owner, device)
    streams = device.type == "cuda"  # elsewhere diffusers moves weights without them
    rest = getattr(owner, name)
    stay = _first(rest, held.resident_bytes) if held.rung.level == _BLOCK_LEVEL else 0
    rest[:stay].to(device)
    setattr(owner, name, rest[stay:])  # diffusers streams every block it sees
    try:
        apply_group_offloading(
            owner,
            onload_device=device,
            offload_device=_HOST,
            offload_type=held.rung.level,
            num_blocks_per_group=1,
            use_stream=streams,
            # Pinned for good, weights cross fastest. The lowest rung pins each layer on its way: RAM may be short, too.
            low_cpu_mem_usage=held.rung.level != _BLOCK_LEVEL,
        )
    finally:
        setattr(owner, name, rest)


def settle_vae(vae: Any, device: torch.device, held: Hold) -> None:
    """Give a VAE its form. Its weights are small: they are in one place as a whole, on every rung."""
    form = held.form
    vae.to(_HOST if form.on_cpu else device)
    if form.tile is not None:  # for what it encodes; decoding has tiles of its own
        vae.enable_tiling(form.tile, form.tile, form.stride, form.stride)


def lift(module: nn.Module) -> None:
    """Take the hooks of `settle` away; the weights stay where they are now. Without hooks nothing happens."""
    for part in module.modules():
        registry: Any = getattr(part, "_diffusers_hook", None)
        if isinstance(registry, HookRegistry):
            for name in (_LAYER_EXECUTION_TRACKER, _LAZY_PREFETCH_GROUP_OFFLOADING, _GROUP_OFFLOADING):
                registry.remove_hook(name, recurse=False)


def _blocks(module: nn.Module) -> tuple[nn.Module, str] | None:
    """(owner, name) of the list of blocks that holds most of a transformer; None where there is no such list."""
    lists = [
        (sum(weights.numel() for weights in part.parameters()), owner, name)
        for owner in module.modules()
        for name, part in owner.named_children()
        if isinstance(part, nn.ModuleList)
    ]
    if not lists:
        return None
    _, owner, name = max(lists, key=lambda one: one[0])
    return owner, name


def _move_outside(module: nn.Module, owner: nn.Module, device: torch.device) -> None:
    """What lies beside the owner of the blocks moves as a whole; what is tied to it does not."""
    inside = {id(tensor) for tensor in (*owner.parameters(), *owner.buffers())}
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) not in inside:
            tensor.data = tensor.data.to(device)


def _first(blocks: nn.ModuleList, room: int) -> int:
    """How many of the first blocks go into `room` bytes."""
    for count, block in enumerate(blocks):
        room -= sum(weights.numel() * weights.element_size() for weights in block.parameters())
        if room < 0:
            return count
    return len(blocks)
