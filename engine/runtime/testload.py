"""`test-load`: every component of a model really loaded, one at a time, and every weight looked at."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalog import Catalog
from engine.compat.copy import AGAIN
from engine.compat.examine import cleared
from engine.compat.finding import refuse, remedy
from engine.compat.fit import need
from engine.compat.folder import LOADABLE, WEIGHTLESS, ModelFolder
from engine.compat.grant import PIPELINE
from engine.compat.identify import component_parameters, folder_item
from engine.compat.machine import Machine
from engine.control import Control
from engine.errors import Exit, FitError, JobError, ModelError, WanError
from engine.events import Bus
from engine.finite import look_over
from engine.hardware import Device, PeakMemory, choose_device
from engine.host import host_memory
from engine.library.item import Item
from engine.runtime.check import Subject
from engine.runtime.failure import explain
from engine.runtime.heavy import load_libraries
from engine.runtime.locks import device_lock
from engine.runtime.report import Report
from engine.runtime.smoke import PROMPT, Smoke, smoke
from engine.units import size
from engine.voice import Voice

if TYPE_CHECKING:
    from engine.pipelines.components import Components

_MOST_NAMED = 5
_ASKED = ("bad-component", "weights-not-finite")  # what is to do about them depends on where the model comes from
_TORCH_KNOWS = re.compile(r"cuda(:\d+)?|[A-Za-z]+-[\w-]+")  # or a UUID


@dataclass(frozen=True)
class Tried:
    """A component that was to load: `state` is loaded or failed. Figures that it has none of are None; `dtypes` are
    those in memory, the commonest first."""

    name: str
    kind: str
    state: str
    seconds: float
    parameters: int | None = None
    dtypes: tuple[str, ...] = ()
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    finite: bool | None = None
    warnings: tuple[str, ...] = ()
    error: WanError | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "class": self.kind,
            "state": self.state,
            "seconds": self.seconds,
            "parameters": self.parameters,
            "dtypes": list(self.dtypes),
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_vram_bytes": self.peak_vram_bytes,
            "finite": self.finite,
            "warnings": list(self.warnings),
            "error": self.error.as_dict() if self.error else None,
        }


@dataclass(frozen=True)
class LoadTest:
    """What came of loading a model, and of its smallest clip where one was asked for."""

    name: str
    verdict: str
    device: Device
    components: tuple[Tried, ...]
    smoke: Smoke | None
    seconds: float

    @property
    def failed(self) -> tuple[Tried, ...]:
        return tuple(part for part in self.components if part.error)

    @property
    def status(self) -> Exit:
        if self.failed:
            full = all(isinstance(part.error, FitError) for part in self.failed)
            return Exit.DOES_NOT_FIT if full else Exit.MODEL
        return self.smoke.error.status if self.smoke and self.smoke.error else Exit.DONE

    @property
    def passed(self) -> bool:
        return self.status == Exit.DONE

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.passed,
            "status": int(self.status),
            "name": self.name,
            "verdict": self.verdict,
            "device": self.device.as_dict(),
            "components": [part.as_dict() for part in self.components],
            "smoke": self.smoke.as_dict() if self.smoke else None,
            "seconds": self.seconds,
        }


def loadable(about: Subject, report: Report, catalog: Catalog) -> Item:
    """The model to be loaded. Raises `ModelError` where the report says that it cannot run, or it is not on disk."""
    refuse(report.findings)
    refuse(replace(one, severity="error") for one in report.findings if one.code == "model-absent")
    if about.item:
        return about.item
    if report.anatomy is None or report.anatomy.folder is None:  # nothing of that kind is without an error
        raise ModelError("not-a-pipeline", f"{report.path} is not a model folder in diffusers layout.")
    return folder_item(report.anatomy.folder, catalog)


def check_device(wanted: str, machine: Machine) -> None:
    """Refuse what is no device here, before the seconds that torch takes. Raises `JobError`."""
    if wanted in ("auto", "cpu") or wanted.split(":")[0] in ("mps", "xpu"):
        return
    if machine.torch_for in ("cuda", "hip") and _TORCH_KNOWS.fullmatch(wanted):
        return
    has = ", ".join(f"{card.name} ({card.uuid})" for card in machine.cards) or "no GPU"
    built = " and a torch for the CPU alone" if machine.torch_for == "cpu" else ""
    raise _no_device(wanted, f"This box has {has}{built}.")


def _no_device(wanted: str, why: str) -> JobError:
    return JobError(
        "no-such-device",
        f"There is no device {wanted[:80]!r} here.",
        cause=why,
        suggestions=["Give --device auto, or --device cpu."],
    )


def try_load(
    item: Item,
    report: Report,
    catalog: Catalog,
    bus: Bus,
    control: Control,
    *,
    device: str = "auto",
    smoke_to: Path | None = None,
) -> LoadTest:
    """Load every component, and with `smoke_to` render a clip into that folder. What fails is told in the answer.

    Raises `FitError` when the largest component has no room, before anything is loaded, and `Cancelled`.
    """
    since = time.monotonic()
    load_libraries()
    try:
        chosen, _ = choose_device(device)
    except JobError as error:  # it speaks of the line of a job file
        raise _no_device(device, f"It is {error.message.partition(' is ')[2]}") from None
    folder = _folder(item, report)
    components = tuple(_mendable(part, item, folder.path) for part in _load_all(folder, report, chosen, bus, control))
    clip: Smoke | None = None
    if smoke_to is not None and any(part.error for part in components):
        clip = Smoke("skipped", warnings=("No clip was rendered.",))
    elif smoke_to is not None:
        clip = smoke(item, folder, catalog, report.name, smoke_to, chosen.torch_name, bus, control)
    return LoadTest(report.name, report.verdict, chosen, components, clip, round(time.monotonic() - since, 3))


def _folder(item: Item, report: Report) -> ModelFolder:
    """The folder as a run has it, with what of its code the user trusts."""
    assert report.anatomy  # nothing else is loadable
    return cleared(item, report.anatomy)


def _names(folder: ModelFolder) -> list[str]:
    """The components a run can ask for, those that come with code of their own included."""
    own = folder.grant.classes if folder.grant else {}
    known = [*LOADABLE, *(name for name in own if name not in LOADABLE and name != PIPELINE)]
    return [name for name in known if name in folder.components]


def _load_all(folder: ModelFolder, report: Report, device: Device, bus: Bus, control: Control) -> tuple[Tried, ...]:
    from engine.pipelines.components import Components, place

    placement = place(device.torch_name)
    peak = PeakMemory(device)
    voice = Voice(bus, report.name, peak.figures)

    def waiting(sentence: str) -> None:
        voice.warn("waiting-for-device", sentence)

    with device_lock(device.uuid, waiting, control, job="test-load"):
        counts = component_parameters(report.anatomy) if report.anatomy else {}
        _check_room(counts, device, half=placement.dtype_of("transformer").itemsize == 2)
        components = Components(folder, placement, control, voice)
        try:
            return tuple(_try(components, name, device) for name in _names(folder))
        finally:
            components.release()


def _check_room(counts: Mapping[str, int], device: Device, *, half: bool) -> None:
    """A component that has no room is not begun: the kernel would end the whole process, and ask nobody."""
    wanted = need(counts, half=half)
    if wanted is None:
        return
    rooms = [("free memory", host_memory()[1])]
    if device.uuid != "cpu" and device.total_bytes:
        rooms.append((f"memory on {device.name}", device.total_bytes))
    for what, there in rooms:
        if wanted.bytes > there:
            raise FitError(
                "does-not-fit",
                f"Its {wanted.component} takes {size(wanted.bytes)} in {wanted.dtype}, and there are "
                f"{size(there)} of {what}: it was not loaded.",
                suggestions=["Use a box or device with more memory, or a smaller model."],
            )


def _try(components: Components, name: str, device: Device) -> Tried:
    components.release()
    components.control.check()
    peak, since = PeakMemory(device), time.monotonic()
    kind = components.folder.components[name]
    figures: dict[str, Any] = {}
    error: WanError | None = None
    try:
        if name in WEIGHTLESS:
            _try_small(components, name)
        else:
            figures = _weighed(components, name)
            error = figures.pop("error")
    except Exception as raised:  # noqa: BLE001  (named and told; the next one has its turn)
        error = _bare(explain(raised))
    seconds, (vram, rss) = round(time.monotonic() - since, 3), peak.peaks()
    state = "failed" if error else "loaded"
    return Tried(name, kind, state, seconds, peak_rss_bytes=rss, peak_vram_bytes=vram, error=error, **figures)


def _mendable(part: Tried, item: Item, folder: Path) -> Tried:
    """The failure of a damaged component with what helps: only what comes from a repository can be fetched again."""
    error = part.error
    if error is None or error.code not in _ASKED:
        return part
    actions: tuple[str, ...] = ()
    if item.spec.builtin:
        helps = AGAIN
    elif item.sources or item.made:
        helps, actions = remedy("repair", "models", "verify", item.id, "--repair").command, ("repair",)
    else:
        helps = f"Compare {folder / part.name} with the same folder of the model it was made from."
    told = ModelError(error.code, error.message, cause=error.cause, suggestions=[helps], actions=actions)
    return replace(part, error=told)


def _weighed(components: Components, name: str) -> dict[str, Any]:
    """Bring a component in, and tell what its weights are."""
    module = components.bring(name)
    found = look_over(module, components.control.check)
    dtypes: Counter[str] = Counter()
    for tensor in module.parameters():
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    error = None
    if told := found.told(name):
        where = components.folder.path / name
        error = ModelError(
            "weights-not-finite",
            told,
            cause=f"The weights in {where} are damaged, or were saved from a training that failed.",
        )
    warnings: tuple[str, ...] = ()
    if found.flat:
        more = f" and {len(found.flat) - _MOST_NAMED} more" if found.flat[_MOST_NAMED:] else ""
        warnings = (f"Matrices of one and the same number: {', '.join(found.flat[:_MOST_NAMED])}{more}.",)
    return {
        "parameters": sum(dtypes.values()),
        "dtypes": tuple(dtype for dtype, _ in dtypes.most_common()),
        "finite": found.finite,
        "warnings": warnings,
        "error": error,
    }


def _try_small(components: Components, name: str) -> None:
    """What has no weights shows by its work that it is whole."""
    part = components.small(name)
    try:
        problem = {"tokenizer": _tokenizes, "scheduler": _schedules, "image_processor": _sees}[name](part, components)
    except Exception as error:  # noqa: BLE001  (over damaged files the libraries raise nearly anything)
        problem = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
    if problem:
        raise ModelError(
            "bad-component",
            f"The component {name} in {components.folder.path} does not work.",
            cause=problem,
        )


def _tokenizes(tokenizer: Any, components: Components) -> str | None:
    tokens = tokenizer(PROMPT).input_ids
    known = components.folder.config("text_encoder").get("vocab_size")
    if len(tokens) < 2:
        return "It makes no tokens of a text."
    if isinstance(known, int) and max(tokens) >= known:
        return f"It makes the token {max(tokens)}, and the text encoder knows {known}."
    return None


def _schedules(scheduler: Any, components: Components) -> str | None:
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(2)
    return None if len(fresh.timesteps) == 2 else f"It makes {len(fresh.timesteps)} steps of 2."


def _sees(processor: Any, components: Components) -> str | None:
    from PIL import Image

    from engine.finite import is_finite

    values = processor(images=Image.linear_gradient("L").convert("RGB"), return_tensors="pt").pixel_values
    return None if is_finite(values) else "It makes numbers of a picture that are NaN or infinite."


def _bare(error: WanError) -> WanError:
    """The error without what led to it: its frames would keep the weights in memory."""
    more: dict[str, Any] = {"cause": error.cause, "suggestions": error.suggestions, "actions": error.actions}
    return type(error)(error.code, error.message, **more)
