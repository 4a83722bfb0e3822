"""Going on in the middle of denoising, exactly: from the latents and the scheduler's state after the last step.

A pipeline has no start step and needs none. It is handed the latents, and a wrapper round the real scheduler, not a
subclass: UniPC needs its full list of timesteps, of which the wrapper shows the pipeline the rest only.
"""

from __future__ import annotations

from typing import Any

import torch


class Course:
    """What a denoising has come to: `done` steps, and what the next one needs. Memory holds references, no copies.

    `seen` are stand-ins that remember what became of a picture, by component and device.
    """

    def __init__(self) -> None:
        self.done = 0
        self.latents: torch.Tensor | None = None
        self.seen: dict[tuple[str, str], Any] = {}
        self._state: dict[str, Any] = {}
        self._parts: dict[int, tuple[Course, torch.Tensor]] = {}

    def part(self, number: int, generator: torch.Generator) -> Course:
        """The course of one of several denoisings in turn; the generator is put where it was when that began."""
        course, state = self._parts.setdefault(number, (Course(), generator.get_state()))
        generator.set_state(state)
        return course

    def keep(self, latents: torch.Tensor, scheduler: Any) -> None:
        """One more step is done. A scheduler replaces its tensors and changes its lists in place: those are copied."""
        real = scheduler.real if isinstance(scheduler, Remaining) else scheduler
        self._state = {
            name: list(value) if isinstance(value, list) else value
            for name, value in vars(real).items()
            if name != "_internal_dict"  # its configuration
        }
        self.latents = latents
        self.done += 1

    def restore(self, scheduler: Any) -> None:
        """Give a real scheduler of the same kind, whose timesteps are set, the state after the last step."""
        self._state = {name: _on(value, scheduler.timesteps.device) for name, value in self._state.items()}
        vars(scheduler).update({k: list(v) if isinstance(v, list) else v for k, v in self._state.items()})


class Remaining:
    """A scheduler that shows a pipeline the steps that are not done yet."""

    def __init__(self, scheduler: Any, course: Course) -> None:
        self.real = scheduler
        self._course = course
        self._from = course.done

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self.real.set_timesteps(*args, **kwargs)
        self._course.restore(self.real)

    @property
    def timesteps(self) -> torch.Tensor:
        return self.real.timesteps[self._from :]  # type: ignore[no-any-return]

    @property
    def sigmas(self) -> torch.Tensor:
        """Pipelines read it by the number of the loop, which begins at 0 again."""
        return self.real.sigmas[self._from :]  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _on(value: Any, device: torch.device) -> Any:
    """Tensors brought to the CPU where the run goes on there; else left: some lie there on purpose."""
    if device.type != "cpu":
        return value
    if isinstance(value, list):
        return [_on(item, device) for item in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value
