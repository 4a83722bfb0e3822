"""`vram_limit` as a hard cap on this process's memory as the driver reports it.

torch's allocator can be held to a fraction of the card. What CUDA itself takes there is none of its business, but
counts all the same: it is measured, and comes off the limit before.
"""

from __future__ import annotations

from engine.hardware import Device
from engine.memory.predict import CONTEXT
from engine.sampling.figures import Sample
from engine.sampling.reader import sample_once


def limit_memory(device: Device, limit: int | None) -> None:
    """Have torch refuse what would take this process beyond `limit` bytes of a CUDA device; None lifts the cap."""
    if not device.torch_name.startswith("cuda"):
        return
    import torch

    total = torch.cuda.get_device_properties(device.torch_name).total_memory
    context = 0
    if limit is not None:
        awake = _awake(device.torch_name)
        context = measured_context(sample_once(), device.uuid) or CONTEXT
        del awake
    torch.cuda.set_per_process_memory_fraction(fraction(limit, context, total), device.torch_name)


def fraction(limit: int | None, context: int, total: int) -> float:
    """The allocator's part of `total` bytes when a process may take `limit` and CUDA has `context` of them."""
    if limit is None:
        return 1.0
    return min(1.0, max(0.0, (limit - context) / total))


def measured_context(sample: Sample, uuid: str) -> int | None:
    """Bytes this process has on a device beside torch's allocator; None where the driver does not tell."""
    for gpu in sample.gpus:
        if gpu.uuid == uuid and gpu.our_bytes is not None and gpu.torch_reserved_bytes is not None:
            return max(0, gpu.our_bytes - gpu.torch_reserved_bytes)
    return None


def _awake(device: str) -> object:
    """Something on the device, after one product and one convolution: CUDA's libraries take their memory at first use.

    It is to be held while the driver is asked: by its size the driver's list of processes tells which is ours.
    """
    import torch

    with torch.no_grad():
        held = torch.zeros(1, 8, 8, 8, 8, device=device)
        torch.nn.functional.conv3d(held, held[:, :, :3, :3, :3])
        torch.matmul(held, held)
    torch.cuda.synchronize(device)
    return held
