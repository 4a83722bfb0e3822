"""Whether this is the first start, and what can be said of this box then."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.paths import state_dir, state_place

if TYPE_CHECKING:
    from engine.compat.machine import Machine

_MARK = "welcome"


def is_first_start() -> bool:
    return not (state_place() / _MARK).exists()


def greeted() -> None:
    """Remember that the first start has been; where nothing can be kept it is greeted again."""
    with suppress(OSError):
        (state_dir() / _MARK).touch()


@dataclass(frozen=True)
class Prospect:
    """This box, and which models of those this version runs go into its memory, by their largest component alone."""

    machine: Machine
    fitting: tuple[str, ...]
    too_large: tuple[str, ...]


def prospect() -> Prospect:
    """Raises `JobError` where the manifest is broken."""
    from engine.catalog import load_catalog
    from engine.compat.fit import fits
    from engine.compat.identify import parameters
    from engine.compat.machine import this_machine
    from engine.runtime.check import able

    machine = this_machine()
    rooms = {spec.name: fits(parameters(spec), machine) for spec in able(load_catalog()) if not spec.builtin}
    fitting = tuple(name for name, room in rooms.items() if room)
    return Prospect(machine, fitting, tuple(name for name, room in rooms.items() if room is False))


def may_be_cut_off(env: Mapping[str, str]) -> bool:
    """Whether the line may be lost with the screen: over SSH, and no multiplexer keeps it."""
    return bool(env.get("SSH_CONNECTION") or env.get("SSH_TTY")) and not (env.get("TMUX") or env.get("STY"))
