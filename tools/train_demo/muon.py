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
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.flatten(1).shape, []).append(weight)
            for weights in alike.values():
                ahead = torch.stack([self._ahead(weight, group["momentum"]).flatten(1) for weight in weights])
                for weight, way in zip(weights, orthogonal(ahead), strict=True):
                    weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                    weight.add_(way.view_as(weight), alpha=-group["lr"])

    def _ahead(self, weight: Tensor, momentum: float) -> Tensor:
        """Nesterov's look ahead along the momentum, which takes in the gradient."""
        assert weight.grad is not None
        memory = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        memory.lerp_(weight.grad, 1.0 - momentum)
        return weight.grad.lerp(memory, momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values about 1, times 0.2 sqrt(longer side): [..., O, I], in bf16 rounds."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    near = (matrices.mT if tall else matrices).bfloat16()
    near = near / (near.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(_ROUNDS):
        gram = near @ near.mT
        near = _A * near + (_B * gram + _C * (gram @ gram)) @ near
    scale: float = 0.2 * max(matrices.shape[-2:]) ** 0.5
    return (near.mT if tall else near).to(matrices.dtype) * scale
