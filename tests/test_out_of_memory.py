"""After a job that ran out of memory nothing of it is left in the next one's way."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, FitError
from engine.events import Bus
from engine.hardware import cpu
from engine.job import Job, Output
from engine.runtime.failure import explain
from engine.runtime.foresee import foresee
from engine.runtime.prepare import prepare
from engine.runtime.way import Traveller, travel


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), Cancelled("user")], ids=repr)
def test_the_weights_are_gone_when_the_device_is_let_go(
    error: BaseException, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    job = Job(
        model=str(tiny_model("t2v")), prompt="a cat", width=64, height=64, frames=9, steps=2, seed=1, device="cpu",
        output=Output(tmp_path / "clip.mp4"),
    )  # fmt: skip
    asked = prepare(job, tmp_path / "job.toml", load_catalog())
    foresee(asked, cpu(), ())  # a model that is new is traced, and that calls modules as well
    models: list[weakref.ref[Any]] = []

    def hook(module: torch.nn.Module, inputs: Any) -> None:
        if type(module).__name__ == "WanTransformer3DModel":
            models.append(weakref.ref(module))
        if type(module).__name__ == "WanTransformerBlock":
            raise error

    handle = register_module_forward_pre_hook(hook)
    gc.disable()
    try:
        with pytest.raises((FitError, Cancelled)) as caught:
            travel(Traveller(asked, "job", Control(), Bus(), lambda **_: None))
        tries = 3 if isinstance(error, Exception) else 1  # out of memory, it was staged, then streamed, then on leaf
        assert [model() for model in models] == [None] * tries
    finally:
        gc.enable()
        handle.remove()
    if isinstance(error, Exception):
        assert explain(caught.value).code == explain(error).code == "out-of-memory"
    assert list(tmp_path.glob("*.mp4")) == []
