"""Where a job would run, told from the driver alone: torch is not asked, and not loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.compat.machine import Machine
from engine.errors import JobError
from engine.hardware import Card, Device


@dataclass(frozen=True)
class Seat:
    """Where a job would run: None for a device that torch alone knows; `half` is whether it computes in bf16.

    `machine` is the box with that device alone.
    """

    device: Device | None
    half: bool
    machine: Machine


def seat_of(wanted: str, machine: Machine) -> Seat:
    """The device a job would take. Its name in torch is left open: torch counts cards in an order of its own."""
    card = _card(wanted, machine)
    if card:
        device = Device("cuda", card.uuid, card.name, card.total_bytes, card.free_bytes)
        return Seat(device, bool(card.has_bf16), replace(machine, cards=(card,)))
    if wanted == "cpu" or (wanted == "auto" and machine.torch_for != "hip"):
        host = Device("cpu", "cpu", "CPU", machine.ram_bytes, machine.ram_free_bytes)
        return Seat(host, False, replace(machine, cards=machine.cards if wanted == "auto" else ()))
    return Seat(None, machine.has_bf16, machine)


def _card(wanted: str, machine: Machine) -> Card | None:
    if machine.torch_for != "cuda":
        return None
    if wanted == "auto":
        return machine.card
    if wanted.startswith("cuda") and len(machine.cards) == 1:
        return machine.cards[0] if wanted in ("cuda", "cuda:0") else None
    return next((card for card in machine.cards if card.uuid == wanted), None)


def no_such_device(wanted: str, machine: Machine) -> JobError | None:
    """A card asked for by name that is surely not here: torch sees those the driver shows, or fewer."""
    if wanted in ("auto", "cpu", "mps") or wanted.startswith("xpu") or machine.torch_for == "hip":
        return None
    cards = machine.cards if machine.torch_for == "cuda" else ()
    if wanted.startswith("cuda"):
        there = int(wanted.partition(":")[2] or 0) < len(cards)
    else:
        there = any(card.uuid == wanted for card in cards)
    if there:
        return None
    seen = ", ".join(f"{card.name} ({card.uuid})" for card in cards) or "no GPU that torch can use"
    built = " This torch is built for the CPU alone." if machine.torch_for == "cpu" else ""
    return JobError(
        "no-such-device",
        f"device = {wanted!r} is not on this box: it has {seen}.{built}",
        suggestions=['Use device = "auto" or "cpu".'],
    )


def reason_for(wanted: str, machine: Machine) -> str:
    """Why a job takes that device."""
    if wanted != "auto":
        return "the job asks for the CPU" if wanted == "cpu" else f"the job asks for {wanted}"
    if machine.card is None:
        return "no GPU that torch can use was found"
    return "it has the most free memory" if len(machine.cards) > 1 else "it is the only GPU"
