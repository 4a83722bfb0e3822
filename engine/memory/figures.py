"""The traced figures of one model in one precision, each looked up once: with them a prediction is arithmetic.

A search for the longest clip that fits asks for hundreds of predictions; to look a figure up takes longer than one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TypeVar

from engine.compat.folder import EXPERTS
from engine.memory import fitted
from engine.memory.ladder import EXACT, FP8, Hold
from engine.memory.parts import PRECISIONS, Clip, Model, Precision
from engine.memory.storage import in_fp8
from engine.memory.traced import Fitted, Weights

_Value = TypeVar("_Value", Weights, Fitted)
_FULL = 3  # latent frames, from which on a VAE's figures follow one curve


class Figures:
    """None stands for what is not kept and may not be traced; it is not asked for again."""

    def __init__(self, model: Model, precision: Precision, *, trace: bool = True) -> None:
        self.model, self.precision = model, precision
        self._trace = trace
        self._found: dict[Hashable, Weights | Fitted | None] = {}

    @cached_property
    def on_cpu(self) -> Figures:
        """Those of the same model when everything runs on the CPU, in fp32."""
        return Figures(self.model, PRECISIONS[-1], trace=self._trace)

    def weights(self, name: str, storage: str = EXACT) -> Weights | None:
        """Those of a component; of an expert as it is stored."""
        part = self.model.parts[name]
        exact = self._once(("weights", name), lambda: fitted.weights(part, self.precision, trace=self._trace))
        if exact is None or storage != FP8 or name not in EXPERTS:
            return exact
        return self._once(("weights", name, storage), lambda: in_fp8(part, self.precision.width, exact))

    def text(self) -> Fitted | None:
        part = self.model.parts["text_encoder"]
        return self._once("text", lambda: fitted.text(part, self.precision, trace=self._trace))

    def vision(self, pictures: int) -> Fitted | None:
        part = self.model.parts["image_encoder"]
        return self._once(
            ("vision", pictures), lambda: fitted.vision(part, self.precision, pictures, trace=self._trace)
        )

    def step(self, name: str) -> Fitted | None:
        part, per_token = self.model.parts[name], self.model.expand_timesteps
        return self._once(
            ("step", name), lambda: fitted.step(part, self.precision, per_token=per_token, trace=self._trace)
        )

    def loop(self, clip: Clip) -> Fitted | None:
        return self._once(
            ("loop", clip.image, clip.guided),
            lambda: fitted.loop(self.model, self.precision, clip, trace=self._trace),
        )

    def decode(self, n: int, held: Hold) -> Fitted | None:
        part, precision = self.model.parts["vae"], self._of_vae(held)
        return self._once(
            ("decode", min(n, _FULL), precision), lambda: fitted.decode(part, precision, n, trace=self._trace)
        )

    def encode(self, n: int, held: Hold) -> Fitted | None:
        precision = self._of_vae(held)
        return self._once(
            ("encode", min(n, _FULL), precision), lambda: fitted.encode(self.model, precision, n, trace=self._trace)
        )

    def _of_vae(self, held: Hold) -> Precision:
        return PRECISIONS[-1] if held.form.on_cpu else self.precision

    def _once(self, key: Hashable, find: Callable[[], _Value | None]) -> _Value | None:
        if key not in self._found:
            self._found[key] = find()
        found: _Value | None = self._found[key]  # type: ignore[assignment]  # of the kind that `find` gives
        return found
