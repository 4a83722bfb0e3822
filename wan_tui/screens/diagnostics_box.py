"""This box in words: a few lines at first sight, and all that is known of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.units import counted, size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.diagnostics_pane import GAP, Line

if TYPE_CHECKING:
    from engine.compat.machine import Machine
    from engine.hardware import Card

_BUILDS = {"cuda": "for CUDA", "hip": "for ROCm", "cpu": "for the CPU alone"}


def amount(count: int | None) -> str:
    return UNKNOWN if count is None else size(count)


def brief(machine: Machine, most_cards: int) -> list[Line]:
    """Devices, memory, torch and disk; of very many cards the first."""
    lines = [_card_line(card, number) for number, card in enumerate(machine.cards[:most_cards])]
    if more := machine.cards[most_cards:]:
        lines.append(Line(f"and {counted(len(more), 'more card')}", tone="$foreground-muted"))
    return [*lines, *_without(machine), _memory(machine), _torch(machine), _disk(machine)]


def _card_line(card: Card, number: int) -> Line:
    bf16 = {True: ", bf16", False: ", no bf16", None: ""}[card.has_bf16]
    text = f"{card.name}, {amount(card.total_bytes)}, {amount(card.free_bytes)} free{bf16}"
    return Line(text, "gpu" if not number else "")


def _without(machine: Machine) -> Iterator[Line]:
    """What is to say where torch can use no card: in the words of a report."""
    from engine.compat.fit import judge_device  # loaded by whoever found out about the machine

    for finding in judge_device(machine):
        grave = finding.severity == "warning"
        yield Line(finding.message, "" if machine.cards else "gpu", "$warning" if grave else "")


def _memory(machine: Machine) -> Line:
    return Line(f"{amount(machine.ram_bytes)}, {amount(machine.ram_free_bytes)} free", "memory")


def _torch(machine: Machine) -> Line:
    version = machine.versions.get("torch")
    if version is None:
        return Line("not installed", "torch", "$error")
    return Line(f"{version}, built {_BUILDS.get(machine.torch_for or '', 'for something unknown')}", "torch")


def _disk(machine: Machine) -> Line:
    return Line(f"{amount(machine.disk_free_bytes)} free for models, in {machine.disk}", "disk")


def full(machine: Machine) -> list[Line]:
    """All of it, for the pane."""
    lines = [Line("This box", tone="bold $primary", head=True)]
    lines += [Line(f"{platform.system()} {platform.release()}, {platform.machine()}", "system")]
    lines += [Line(f"{os.cpu_count() or UNKNOWN} threads", "cpu"), _memory(machine), _disk(machine), GAP]
    for card in machine.cards:
        lines += _card(card)
    lines += list(_without(machine))
    lines += [Line(machine.driver or UNKNOWN, "driver"), GAP]
    lines += [
        Line("Software", tone="bold $primary", head=True),
        Line(platform.python_version(), "python"),
        _torch(machine),
    ]
    others = (
        f"{name} {version or 'is not installed'}" for name, version in machine.versions.items() if name != "torch"
    )
    lines += [Line(text) for text in others]
    words = "fits, streams (it fits, slower), windows (made piece by piece), at 480p (that size alone fits) and no"
    note = f"In the list: {words} are predicted for each model's own clip, with the device to itself."
    return [*lines, GAP, Line(note, tone="$foreground-muted", head=True)]


def _card(card: Card) -> Iterator[Line]:
    capability = ".".join(map(str, card.capability)) if card.capability else UNKNOWN
    bf16 = {True: "computes in bf16", False: "does not compute in bf16", None: "bf16 unknown"}[card.has_bf16]
    yield Line(card.name, "gpu", "bold")
    yield Line(f"{amount(card.total_bytes)}, {amount(card.free_bytes)} free; compute capability {capability}, {bf16}")
    yield Line(card.uuid, tone="$foreground-muted")
