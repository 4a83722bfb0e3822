"""Copies of tiny models with one thing wrong in their weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def copy(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to))


def change(model: Path, component: str, tensor: str, how: Callable[[torch.Tensor], object]) -> str:
    """Change in place the first tensor of a component whose name holds `tensor`; its name."""
    (file,) = (model / component).glob("*.safetensors")
    tensors = load_file(file)
    name = next(name for name in tensors if tensor in name)
    how(tensors[name])
    save_file(tensors, file, {"format": "pt"})
    return name


def spoil(model: Path, component: str, tensor: str, value: float = float("nan")) -> str:
    """Put a number that is none into a weight; the tensor's name."""

    def put(weights: torch.Tensor) -> None:
        weights.view(-1)[-1] = value

    return change(model, component, tensor, put)
