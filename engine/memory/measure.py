"""The rates of a device, measured with what the models do most: large matrix products, attention, convolutions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from engine.memory.ladder import ran_out

if TYPE_CHECKING:
    import torch

_SECONDS_ON_CPU, _SECONDS = 0.12, 0.06  # for each of the measurements, after its first calls
_ROUND_S = 0.005  # long beside what a call and a clock cost, short beside what others on the box take in turn
ATTENTION = 0.6  # of the operations of a step: the median of the catalog's models at 480p and 720p, 49 to 121 frames
_HEAD = 128  # numbers a head, in every transformer of the catalog

log = logging.getLogger("wan_tui")


@dataclass(frozen=True)
class Rates:
    """A second: operations of a transformer, operations of a VAE in fp32, bytes from pinned memory (None on a CPU)."""

    flops: float
    pictures: float
    copy: float | None


def measure(device: str, half: bool) -> Rates | None:
    """The rates of `device`, as torch calls it, with bf16 (`half`) or fp32 in the transformers.

    None where the device has no memory left for it: a few hundred MB on a GPU, 60 MB on a CPU.
    """
    import torch

    try:
        with torch.inference_mode():
            return _measured(torch.device(device), torch.bfloat16 if half else torch.float32)
    except Exception as error:
        if not ran_out(error):
            raise
        log.warning("no memory is left to measure the pace of %s: %s", device, error)
        return None
    finally:
        _give_back(device)


def _measured(device: torch.device, dtype: torch.dtype) -> Rates:
    products, attention = _rate(*_products(device, dtype), device), _rate(*_attention(device, dtype), device)
    return Rates(
        flops=1 / (ATTENTION / attention + (1 - ATTENTION) / products),
        pictures=_rate(*_convolution(device), device),
        copy=_rate(*_copy(device), device) if device.type == "cuda" else None,
    )


def _products(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], Any], int]:
    """A product of square matrices, and its operations."""
    import torch

    side = 768 if device.type == "cpu" else 4096
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2 * side**3


def _attention(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], Any], int]:
    """Attention of tokens among themselves without a mask, and its operations."""
    import torch

    heads, tokens = (2, 1024) if device.type == "cpu" else (16, 4096)
    q, k, v = (torch.randn(1, heads, tokens, _HEAD, device=device, dtype=dtype) for _ in range(3))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v), 4 * heads * tokens**2 * _HEAD


def _convolution(device: torch.device) -> tuple[Callable[[], Any], int]:
    """A causal convolution of the VAE over a group of four frames in fp32, and its operations."""
    import torch

    channels, side = (96, 32) if device.type == "cpu" else (192, 128)
    frames = torch.randn(1, channels, 4, side, side, device=device)
    weight = torch.randn(channels, channels, 3, 3, 3, device=device)
    operations = 2 * channels**2 * 27 * 2 * (side - 2) ** 2
    return lambda: torch.nn.functional.conv3d(frames, weight), operations


def _copy(device: torch.device) -> tuple[Callable[[], Any], int]:
    """A copy of 64 MB from pinned memory, about a block of a 14B model in bf16, and its bytes."""
    import torch

    source = torch.empty(1 << 26, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=device, pin_memory=False)
    return lambda: target.copy_(source, non_blocking=True), source.nbytes


def _rate(work: Callable[[], Any], amount: int, device: torch.device) -> float:
    """How much of `amount` a second gets done, in the best of many rounds: what others do meanwhile only slows."""
    work()  # kernels are chosen and memory is taken
    _wait(device)
    calls = max(1, round(_ROUND_S / _taken(work, 1, device)))
    until = perf_counter() + (_SECONDS_ON_CPU if device.type == "cpu" else _SECONDS)
    best = _taken(work, calls, device)
    while perf_counter() < until:
        best = min(best, _taken(work, calls, device))
    return calls * amount / best


def _taken(work: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Seconds of some calls; never 0."""
    since = perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return max(perf_counter() - since, 1e-9)


def _wait(device: torch.device) -> None:
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _give_back(device: str) -> None:
    """What was allocated is no part of what a run will take."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # newer torch
            torch.accelerator.empty_host_cache()
