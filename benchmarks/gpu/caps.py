"""Whole jobs under a cap, from check to the written clip: does the cap hold, and was the plan right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.gpu.stages import Bench, job_of
from benchmarks.gpu.watch import Gauge
from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import RunError, WanError
from engine.events import Fallback, PlanMade
from engine.job import Memory, Output
from engine.memory.parts import Clip
from engine.runtime.cap import limit_memory
from engine.runtime.failure import first_line
from engine.runtime.prepare import prepare
from engine.runtime.rescue import forget_frames
from engine.runtime.way import Traveller, travel
from engine.video.ffmpeg import check_ffmpeg
from tests.ears import Ears

_LOOK_S = 0.01


def under_cap(bench: Bench, clip: Clip, cap: int, place: Path) -> dict[str, Any]:
    """One job of this clip with `vram_limit` = `cap` bytes; its row. The clip is thrown away."""
    job = replace(
        job_of(bench.spec, clip),
        model=str(bench.folder.path),
        device=bench.device.torch_name,
        memory=Memory(vram_limit=cap),
    )
    ears, since, says, reserved = Ears(), perf_counter(), "ok", None
    with _highest(bench.gauge) as peak, TemporaryDirectory(dir=place) as folder:
        output = Output(Path(folder, "clip.mp4" if _has_ffmpeg() else "clip"))
        try:
            asked = prepare(replace(job, output=output), Path(folder, "job.toml"), load_catalog())
            reserved = travel(Traveller(asked, "bench", Control(), ears, lambda **_: None)).peak_vram_bytes
        except WanError as error:
            says = f"{error.code}: {error.message}"
        except (RuntimeError, MemoryError, OSError) as error:
            says = f"{type(error).__name__}: {first_line(error)}"
            forget_frames(error)
        finally:
            limit_memory(bench.device, None)
    plan = next((event for event in ears.heard if isinstance(event, PlanMade)), None)
    return {
        "model": bench.spec.name,
        "clip": f"{clip.width}x{clip.height}x{clip.frames}",
        "cap": cap,
        "outcome": says,
        "profile": plan.profile if plan else None,
        "windows": plan.windows if plan else None,
        "predicted": plan.vram_bytes if plan else None,
        "reserved": reserved,
        "driver": peak[0],
        "held": None if peak[0] is None else peak[0] <= cap,
        "fallbacks": [f"{event.from_} to {event.to}" for event in ears.heard if isinstance(event, Fallback)],
        "predicted_seconds": plan.seconds if plan else None,
        "seconds": round(perf_counter() - since, 2),
    }


@contextmanager
def _highest(gauge: Gauge) -> Iterator[list[int | None]]:
    """The most this process has on the device meanwhile, as the driver counts, looked at every hundredth second."""
    peak: list[int | None] = [None]
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            if (now := gauge.driver()) is not None:
                peak[0] = max(peak[0] or 0, now)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _has_ffmpeg() -> bool:
    """Without one a clip is a folder of pictures."""
    try:
        check_ffmpeg()
    except (RunError, ImportError):
        return False
    return True
