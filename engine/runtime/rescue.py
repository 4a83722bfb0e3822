"""A job that runs out of memory goes on: what is in memory is freed, and the same work is done one rung lower.

It begins as its plan says. Encoding begins again; denoising goes on after its last finished step, in windows too;
decoding begins again from the latents. Windows and another storage of the weights are never taken here: they would
change the video. What the plan announced is taken from the start, and kept.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from engine.compat.folder import LOADABLE, WEIGHTLESS
from engine.errors import FitError, WanError
from engine.events import Fallback
from engine.host import host_memory
from engine.memory.ladder import FORMS, RUNGS, Hold, below, ran_out, step_names
from engine.memory.plan import Plan
from engine.runtime.failure import LESS, first_line, in_less

if TYPE_CHECKING:
    from engine.pipelines.components import Components

T = TypeVar("T")

_DOING = {"encode": "encoding the prompt", "denoise": "denoising", "decode": "decoding the frames"}
_SEES = ("vae", "image_encoder")  # what is at work on a picture, before the first step

log = logging.getLogger("wan_tui")


class Rescue:
    """Carries one job down the ladder of memory, from where its plan begins; `note` keeps the steps down."""

    def __init__(
        self, components: Components, plan: Plan, vram_limit: int | None = None, note: Callable[..., None] | None = None
    ) -> None:
        self._components = components
        self._plan = plan
        self._limit = vram_limit
        self._note = note
        self._home = components.placement
        self._last_at_home = self._lowest = components.held
        self._told: list[str] = []
        self._steps: list[dict[str, Any]] = []

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """What `work` returns. Raises `FitError` (`out-of-memory`) when there is no lower rung, and what it raises."""
        self._return_home()
        while True:
            try:
                return work()
            except Exception as error:
                if not ran_out(error):
                    raise
                # As text: a record of the log would hold the frames.
                log.warning("out of memory in %s:\n%s", stage, "".join(traceback.format_exception(error)))
                forget_frames(error)
                reason = first_line(error)
            self._step_down(stage, reason)

    def _return_home(self) -> None:
        """What only the CPU had room for does not keep the next stage there: it begins on the device."""
        if self._components.placement != self._home:
            self._components.go(self._last_at_home, self._home)

    @property
    def plan(self) -> Plan:
        """The plan as it came out: with the lowest rung and form it needed, and how it came to that."""
        if not self._told:
            return self._plan
        lowest = self._lowest
        return replace(
            self._plan,
            profile=self._plan.profile if self._plan.windows else lowest.rung.name,
            form=lowest.form.name,
            resident_bytes=lowest.resident_bytes,
            reasons=(*self._plan.reasons, *self._told),
        )

    def _step_down(self, stage: str, reason: str) -> None:
        components = self._components
        before, wanted = components.held, components.wanted
        after = below(before, wanted, on_cpu=components.placement.device.type == "cpu")
        doing = "encoding the picture" if stage == "denoise" and wanted in _SEES else _DOING[stage]
        components.release()
        if after is None or (not after.rung.exact and not self._has_room()):
            raise self._bottom(doing, reason)
        placement = components.placement
        if after.rung.name == "cpu":
            from engine.pipelines.components import place

            self._last_at_home, placement = before, place("cpu")
        components.go(after, placement)
        self._lowest = _lower(self._lowest, after)
        self._tell(before, after, stage, doing, reason)
        self._remember(wanted, stage, after)

    def _tell(self, before: Hold, after: Hold, stage: str, doing: str, reason: str) -> None:
        source, target, says = step_names(before, after)
        message = f"Memory ran out while {doing} ({source}); it goes on as {target}: {says}."
        self._told.append(message)
        self._components.voice.say(
            Fallback, code="out-of-memory", message=message, from_=source, to=target, stage=stage, reason=reason
        )

    def _remember(self, component: str | None, stage: str, after: Hold) -> None:
        """Note the step at once: whoever is ended by the kernel notes nothing afterwards."""
        step = {"stage": stage, "component": component, "rung": after.rung.name, "form": after.form.name}
        self._steps.append(step)
        if self._note:
            self._note(recorded={"fallbacks": [*self._steps]})

    def _has_room(self) -> bool:
        """Whether every component would go into RAM in fp32. Without this the kernel would end the process instead."""
        folder = self._components.folder
        names = [name for name in LOADABLE if name in folder.components and name not in WEIGHTLESS]
        # Weights saved in bf16 double; those in fp32 are counted twice over, which leaves room for the work.
        largest = max(2 * sum(file.stat().st_size for file in folder.weight_files(name)) for name in names)
        return largest < host_memory()[1]

    def _bottom(self, doing: str, reason: str) -> FitError:
        less = [LESS, *in_less(self._plan)]
        if self._limit is not None:
            less.append("Raise memory.vram_limit.")
        if self._components.placement.device.type != "cpu":
            less.append('Compute on the CPU, many times slower: device = "cpu".')
        tried = " It was tried in every way that needs less." if self._told else ""
        return FitError(
            "out-of-memory",
            f"The job ran out of memory while {doing}.{tried}",
            cause=reason,
            suggestions=[*less, "Close other programs that use the device."],
        )


def _lower(one: Hold, other: Hold) -> Hold:
    """The lower rung and the lower form of two."""
    rung = max(one, other, key=lambda held: (RUNGS.index(held.rung), -held.resident_bytes))
    return replace(rung, form=max(one.form, other.form, key=FORMS.index))


def forget_frames(error: BaseException) -> None:
    """Drop the frames of a failure: they hold weights that would still be there when the next ones are loaded.

    Where they were stays readable, as a note.
    """
    if isinstance(error, Exception) and not isinstance(error, WanError):
        error.add_note("".join(traceback.format_exception(error)))
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
