"""Numbers that are none, NaN and infinity, looked for without a copy of what is looked at. The caller brings torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import RunError
from engine.units import counted

if TYPE_CHECKING:
    import torch

_CHUNK = 2**24  # elements looked at in one go
_PLAIN = ("float64", "float32", "float16", "bfloat16")  # what torch finds the extremes of; fp8 has to be widened


@dataclass(frozen=True)
class Weights:
    """What the parameters and buffers of a module are worth. `bad` are the names of tensors with NaN or infinity,
    `bad_numbers` how many such numbers they hold; `flat` are weight matrices of one and the same number."""

    bad: tuple[str, ...] = ()
    bad_numbers: int = 0
    flat: tuple[str, ...] = ()

    @property
    def finite(self) -> bool:
        return not self.bad

    def told(self, component: str) -> str | None:
        """In a sentence; None where there is nothing to tell."""
        if self.finite:
            return None
        more = f" and {counted(len(self.bad) - 1, 'more tensor')}" if self.bad[1:] else ""
        are = "is" if self.bad_numbers == 1 else "are"
        found = counted(self.bad_numbers, "number")
        return f"{component} holds {found} that {are} NaN or infinite, in {self.bad[0]}{more}."


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every number is finite. The extremes tell: NaN is passed on by them, and nothing is allocated."""
    return all(math.isfinite(low) and math.isfinite(high) for low, high in _extremes(tensor))


def look_over(module: Any, check: Callable[[], None] = lambda: None) -> Weights:
    """Every floating parameter and buffer of a module. `check` is called now and then, and may raise."""
    bad: list[str] = []
    flat: list[str] = []
    numbers = 0
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        check()
        extremes = list(_extremes(tensor, check))
        low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
        if not all(map(math.isfinite, (number for pair in extremes for number in pair))):
            bad.append(name)
            numbers += sum(int((~chunk.isfinite()).sum()) for chunk in _chunks(tensor))
        elif low == high and sum(side > 1 for side in tensor.shape) > 1:
            flat.append(name)
    return Weights(tuple(bad), numbers, tuple(flat))


def not_finite(what: str, component: str, module: Any, given: str, dtype: torch.dtype, *more: str) -> RunError:
    """The error for numbers of a run that are none. `module` made them from what was `given`; is it to blame?"""
    blame = look_over(module).told(component) if module is not None else None
    return RunError(
        "not-finite",
        f"{what} not finite (NaN or infinity): there would be no picture.",
        cause=blame
        or f"The weights of {component} are finite: {given}, or numbers left the range of {str(dtype)[6:]}.",
        suggestions=("Load every component and look at its weights: wan-tui test-load MODEL", *more),
    )


def _extremes(tensor: torch.Tensor, check: Callable[[], None] = lambda: None) -> Iterator[tuple[float, float]]:
    for chunk in _chunks(tensor):
        check()
        low, high = chunk.aminmax()
        yield float(low), float(high)


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    plain = str(tensor.dtype).removeprefix("torch.") in _PLAIN
    for chunk in tensor.detach().reshape(-1).split(_CHUNK):  # type: ignore[no-untyped-call]
        if chunk.numel():
            yield chunk if plain else chunk.float()
