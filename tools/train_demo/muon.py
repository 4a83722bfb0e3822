"""Muon, for convolutions: momentum whose direction is made orthogonal before each step.

Source of the method and of the polynomial's coefficients: K. Jordan et al., "Muon: an optimizer for hidden layers in
neural networks" (2024). Of the scale, 0.2 sqrt(longer side), which gives steps the size of AdamW's: J. Liu et al.,
"Muon is scalable for LLM training" (2025).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """For weights of two or more axes; a kernel [O, I, ...] counts as the matrix [O, I * ...]."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(list(weights), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                memory = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                memory.lerp_(weight.grad, 1.0 - group["momentum"])
                ahead = weight.grad.lerp(memory, group["momentum"])
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(ahead.flatten(1)).view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values about 1, times 0.2 sqrt(longer side), by Newton-Schulz rounds.

    The rounds run on the small Gram matrix: of a kernel with 64 outputs it has 64 rows.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-12)
    gram, product = wide @ wide.T, torch.eye(wide.shape[0], dtype=wide.dtype, device=wide.device)
    for _ in range(_ROUNDS):
        factor = _B * gram + _C * (gram @ gram)
        factor.diagonal().add_(_A)
        product, gram = factor @ product, factor @ gram @ factor
    near = product @ wide * (0.2 * max(matrix.shape) ** 0.5)
    return near.T if tall else near
