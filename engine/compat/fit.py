"""The device of this box, and whether the largest component of a model goes into its memory, by its parameters alone.

That is for models of which no plan can be made. Activations come on top and are not counted: one that passes may still
not fit; and one that fails may be streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.compat.finding import Finding, Remedy
from engine.compat.folder import HALF_ON_GPU
from engine.compat.machine import Machine
from engine.units import size

BASIS = "the parameters of its largest component alone; activations come on top"
LARGER_CARD = "Use a card with more memory, a smaller model, or the CPU."
LARGER_BOX = "Use a box with more memory, or a smaller model."
ON_CPU = Remedy("lower-memory-profile", "wan-tui --run JOB.toml --set device=cpu")


@dataclass(frozen=True)
class Need:
    """What the largest component takes where it runs: `dtype` bf16 or fp32, `bytes` of parameters."""

    component: str
    parameters: int
    dtype: str
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "parameters": self.parameters,
            "dtype": self.dtype,
            "bytes": self.bytes,
            "basis": BASIS,
        }


def need(parameters: Mapping[str, int], *, half: bool) -> Need | None:
    """The largest component; `half` where the device computes in bf16. None when nothing is known."""
    needs = []
    for name, count in parameters.items():
        width = 2 if half and name in HALF_ON_GPU else 4
        needs.append(Need(name, count, "bf16" if width == 2 else "fp32", count * width))
    return max(needs, key=lambda one: one.bytes, default=None)


def need_here(parameters: Mapping[str, int], machine: Machine) -> Need | None:
    return need(parameters, half=machine.has_bf16)


def room(machine: Machine) -> int | None:
    """Bytes a component may take on the device a job takes by itself: the card, else the host; None when unknown."""
    if machine.torch_for == "hip":
        return None
    return machine.card.total_bytes if machine.card else machine.ram_bytes


def fits(parameters: Mapping[str, int], machine: Machine) -> bool | None:
    """Whether the largest component goes in; None when that is unknown."""
    wanted, there = need_here(parameters, machine), room(machine)
    return None if wanted is None or there is None else wanted.bytes <= there


def judge_device(machine: Machine) -> Iterator[Finding]:
    """What is to say about the device a job takes by itself."""
    card = machine.card
    if card is None:
        yield _without_card(machine)
    elif card.has_bf16 is False:
        yield Finding(
            "note",
            "no-bf16",
            f"{card.name} (compute capability {'.'.join(map(str, card.capability or ()))}) does not compute in bf16: "
            "everything runs in fp32, in twice the memory.",
        )


def judge_memory(parameters: Mapping[str, int], machine: Machine) -> Iterator[Finding]:
    """What is to say where the largest component has no room."""
    wanted, card = need_here(parameters, machine), machine.card
    if wanted is None:
        return
    what = f"its {wanted.component} takes {size(wanted.bytes)} in {wanted.dtype}"
    if card and card.total_bytes is not None and wanted.bytes > card.total_bytes:
        yield Finding(
            "warning",
            "vram-low",
            f"It does not fit on {card.name}: {what}, and the card has {size(card.total_bytes)}.",
            f"Judged by {BASIS}.",
            (LARGER_CARD,),
            (ON_CPU,),
        )
    if wanted.bytes > machine.ram_bytes:
        yield Finding(
            "warning",
            "ram-low",
            f"It does not fit in this box's memory: {what}, and there are {size(machine.ram_bytes)} of RAM.",
            f"Judged by {BASIS}.",
            (LARGER_BOX,),
        )


def judge_disk(lacking: int | None, machine: Machine) -> Iterator[Finding]:
    """Whether what is still to be downloaded finds room."""
    free = machine.disk_free_bytes
    if lacking is not None and free is not None and lacking > free:
        yield Finding(
            "warning",
            "disk-low",
            f"{size(lacking)} are still to be downloaded, and {machine.disk} has {size(free)} free.",
            suggestions=("Free some room, or let MODELS_ROOT name a folder on another disk.",),
            remedies=(Remedy("free-disk", "wan-tui models list --installed"),),
        )


def _without_card(machine: Machine) -> Finding:
    if machine.torch_for == "hip":
        message = "This torch is for ROCm: its cards are known once it is loaded (test-load), not here."
        return Finding("note", "rocm", message)
    if machine.cards and machine.torch_for == "cpu":
        return Finding(
            "warning",
            "torch-without-gpu",
            f"The torch of this installation is built for the CPU alone, and this box has {machine.cards[0].name}.",
            "Models run on the CPU, some hundred times slower.",
            ("Install torch as https://pytorch.org/get-started/locally says for this card.",),
        )
    return Finding("note", "cpu-only", "There is no GPU that torch can use here: everything runs in fp32 on the CPU.")
