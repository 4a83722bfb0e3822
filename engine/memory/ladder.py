"""The ladder of memory: who keeps which weights where, from the most of a device's memory to the least.

Data and sentences only: what a rung does to a module is done in `engine/pipelines`. A job that runs out of memory goes
on one rung lower (`below`). The VAE has a ladder of its own, its forms, because what it takes is not weights.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Rung:
    """How weights are held. `exact`: who steps down to it in the middle of a run still computes the same numbers.

    `level` is that of diffusers' group offload; None where a component is on the device as a whole.
    """

    name: str
    says: str
    exact: bool = True
    level: str | None = None


@dataclass(frozen=True)
class Form:
    """How the VAE goes over a picture: whole, or in tiles of `tile` pixels a side, `stride` apart.

    `on_cpu`: weights and work are on the CPU. A picture no larger than one tile is done whole, and exactly.
    """

    name: str
    says: str
    tile: int | None = None
    stride: int | None = None
    on_cpu: bool = False


EXACT, FP8 = "exact", "fp8"  # how the transformers' weights are stored: as they run, or with less precision

RUNGS = (
    Rung("resident", "all components stay in the device's memory"),
    Rung("staged", "one component in the device's memory at a time"),
    Rung("streamed", "the weights come from RAM block by block", level="block_level"),
    Rung("leaf", "the weights come from RAM layer by layer", level="leaf_level"),
    Rung("cpu", "everything is computed on the CPU", exact=False),
)
FORMS = (
    Form("whole", "every picture is done as a whole"),
    Form("tiled", "every picture is done in tiles", 256, 192),
    Form("small-tiles", "every picture is done in small tiles", 128, 96),
    Form("vae-on-cpu", "every picture is done on the CPU, in tiles", 256, 192, on_cpu=True),
)
NAMES = tuple(rung.name for rung in RUNGS)

# What torch's CPU allocator, the CUDA driver and cuBLAS say when they have none left.
_NO_MEMORY = ("allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Hold:
    """How a run holds its model now. `resident_bytes` of blocks stay on the device while others stream.

    `storage` is that of the transformers' weights. It stays what it was on every step down.
    """

    rung: Rung
    form: Form = FORMS[0]
    resident_bytes: int = 0
    storage: str = EXACT


def hold(profile: str, resident_bytes: int = 0) -> Hold:
    """How the rung named `profile` begins."""
    return Hold(next(rung for rung in RUNGS if rung.name == profile), resident_bytes=resident_bytes)


def below(now: Hold, component: str | None, *, on_cpu: bool) -> Hold | None:
    """One step down for the `component` that ran out of memory, on a CPU or not; None at the bottom.

    What others take goes first (`resident`); then the VAE takes the next form, anything else the next rung.
    """
    if now.rung.name == "resident":
        return replace(now, rung=_next(now.rung))
    if component == "vae":
        rest = [form for form in FORMS[FORMS.index(now.form) + 1 :] if not (form.on_cpu and on_cpu)]
        return replace(now, form=rest[0]) if rest else None
    if now.rung.level == "block_level" and now.resident_bytes:
        return replace(now, resident_bytes=0)
    rungs = [rung for rung in RUNGS[RUNGS.index(now.rung) + 1 :] if not (rung.name == "cpu" and on_cpu)]
    return replace(now, rung=rungs[0], resident_bytes=0) if rungs else None


def _next(rung: Rung) -> Rung:
    return RUNGS[RUNGS.index(rung) + 1]


def step_names(before: Hold, after: Hold) -> tuple[str, str, str]:
    """(from, to, sentence) of a step down: of the form where that changed, else of the rung."""
    if before.form != after.form:
        return before.form.name, after.form.name, after.form.says
    says = after.rung.says
    if before.rung == after.rung:
        says += ", and none of them stays"
    return before.rung.name, after.rung.name, says


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or the host."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
