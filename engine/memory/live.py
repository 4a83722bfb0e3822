"""How much memory work takes: the storages that live, added up as operations make them and as they go."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

_aten: Any = torch.ops.aten
_CONVOLUTIONS: Any = torch._C._ConvBackend  # type: ignore[attr-defined]
_sdpa_flops: Any = sdpa_flop_count
_FLASH_HEAD = 256  # the widest head of the flash kernel


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts bytes of storages (`now`, `peak`) and floating point operations (`flops`) of the work within it.

    Each storage counts once, whatever views there are of it, until it is gone; those of `apart` do not count. With the
    kernels of "cpu" what its convolutions and attention take meanwhile counts as well.
    """

    def __init__(self, apart: Iterable[torch.Tensor], kernels: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.flops = 0
        self._kernels = kernels
        self._seen = {tensor.untyped_storage()._cdata for tensor in apart}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1  # a number without a value is asked for one: whether frames are finite, say
        out = func(*args, **kwargs)
        if func is torch.ops.prim.device.default:
            return out
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        packet = func._overloadpacket
        if packet is _aten.convolution and self._kernels == "cpu":
            self.peak = max(self.peak, self.now + _unfolded(out, *args))
        if packet is _aten._scaled_dot_product_flash_attention_for_cpu:  # not in the registry
            self.flops += _sdpa_flops(*(tensor.shape for tensor in args[:3]))
            self.peak = max(self.peak, self.now + _scores(*args[:2]))
        elif packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **kwargs, out_val=out))
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _unfolded(out: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, bias: Any, *how: Any) -> int:
    """Bytes a convolution takes on the CPU beside its output, by the kernel torch chooses there.

    oneDNN copies input and weights into an order of its own; torch's own kernel unfolds the input into a matrix.
    """
    stride, padding, dilation, transposed, output_padding, groups = how
    kernel = torch._C._select_conv_backend(
        input, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )
    width, kinds = input.element_size(), _CONVOLUTIONS
    copied = 0 if input.is_contiguous() else input.numel() * width
    if kernel == kinds.Mkldnn:
        return copied + (input.numel() + weight.numel()) * width
    if kernel in (kinds.Slow2d, kinds.Slow3d) and weight[0, 0].numel() > 1:
        return copied + out[:, 0].numel() * weight[0].numel() * width
    return copied


def _scores(query: torch.Tensor, key: torch.Tensor) -> int:
    """Bytes of the tiles of scores the CPU's flash attention has, one set a thread (fp32, FlashAttentionKernel.cpp)."""
    asked, seen, head = query.shape[-2], key.shape[-2], query.shape[-1]
    rows = min(asked, 256 if asked >= 768 else 64 if asked >= 192 else 32)
    return torch.get_num_threads() * rows * (min(seen, 512) + 2 + head) * 4


class OnCuda(TorchFunctionMode):
    """Lets operations that a GPU does in one kernel be one here, too, where a CPU does them in several.

    Root-mean-square norms are one kernel when input and weight have one dtype. Attention is flash for 16 bits and heads
    up to 256, else memory-efficient: neither makes a matrix of scores.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.rms_norm:
            return _rms_norm(*args, **kwargs)
        if func is torch.nn.functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _rms_norm(
    input: torch.Tensor, normalized_shape: Any, weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    if weight is not None and weight.dtype != input.dtype:
        return torch.rms_norm(input, normalized_shape, weight, eps)
    out = torch.empty_like(input)
    _ = input.new_empty(input.shape[: -len(normalized_shape)], dtype=torch.float32)  # its scale of every row
    return out


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *_: Any,
    **more: Any,
) -> torch.Tensor:
    scale, causal = more.get("scale"), more.get("is_causal", False)
    if query.element_size() == 2 and attn_mask is None and query.shape[-1] <= _FLASH_HEAD:
        flash = _aten._scaled_dot_product_flash_attention
        return flash(query, key, value, 0.0, causal, scale=scale)[0]  # type: ignore[no-any-return]
    efficient = _aten._scaled_dot_product_efficient_attention
    return efficient(query, key, value, attn_mask, False, 0.0, causal, scale=scale)[0]  # type: ignore[no-any-return]


@contextmanager
def counted(apart: Iterable[torch.Tensor], kernels: str) -> Iterator[Live]:
    """Counts what the work in here takes beside `apart`, with the kernels of "cuda" or of "cpu"."""
    live = Live(apart, kernels)
    with ExitStack() as stack:
        stack.enter_context(live)
        if kernels == "cuda":
            stack.enter_context(OnCuda())
        yield live
