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
    """This box, and which models of those this version runs go onto it, by what is predicted of their own clips."""

    machine: Machine
    fitting: tuple[str, ...]
    too_large: tuple[str, ...]


def prospect() -> Prospect:
    """Raises `JobError` where the manifest is broken."""
    from engine.catalog import load_catalog
    from engine.compat.machine import this_machine
    from engine.runtime.check import able
    from engine.runtime.outlook import outlooks

    machine = this_machine()
    models = [spec for spec in able(load_catalog()) if not spec.builtin]
    known = outlooks(models, machine)
    told = [(spec.name, known[spec.id]) for spec in models if spec.id in known]
    fitting = [name if one.word == "fits" else f"{name} ({one.word})" for name, one in told if one.fits]
    return Prospect(machine, tuple(fitting), tuple(name for name, one in told if not one.fits))


def may_be_cut_off(env: Mapping[str, str]) -> bool:
    """Whether the line may be lost with the screen: over SSH, and no multiplexer keeps it."""
    return bool(env.get("SSH_CONNECTION") or env.get("SSH_TTY")) and not (env.get("TMUX") or env.get("STY"))
