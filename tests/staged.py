"""States of the app made of real data, always the same: a box, devices, a job that runs, a history, clips."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.catalog import load_catalog
from engine.compat.machine import Machine
from engine.events import Event, JobFailed, JobQueued, JobStarted, Notice, PlanMade, Progress, Stage
from engine.hardware import Card, Device
from engine.job import Job, Output
from engine.memory.pace import Pace
from engine.memory.parts import model_of_spec
from engine.memory.plan import Plan, make_plan
from engine.memory.room import Room
from engine.runtime.journal import Journal
from engine.runtime.owner import Owner
from engine.sampling.figures import DiskSample, GpuSample, HostSample, Sample
from engine.sampling.sampler import Sampler
from engine.video.write import open_writer
from wan_tui.app import WanApp

GIB = 2**30
PROMPT = "A ginger cat walks along a garden wall at sunset, photographed from below"
ELAPSED = 752.0  # seconds: shown as 12:32, and for a while as 12:3x
H100 = Card("GPU-5c1f0d3e-1111-2222-3333-444444444444", "NVIDIA H100 80GB HBM3", 85 * 10**9, 84 * 10**9, (9, 0))


def machine(*cards: Card, torch_for: str | None = "cuda") -> Machine:
    """A box with these cards, and 128 GB of memory."""
    versions = {"torch": "2.9.0", "diffusers": "0.37.0", "transformers": "5.2.0", "huggingface_hub": "1.6.0"}
    versions |= {"safetensors": "0.7.0", "tokenizers": "0.22.0", "accelerate": None}
    driver = "580.82.07" if cards else None
    return Machine(cards, driver, 128 * 10**9, 96 * 10**9, 512 * 10**9, Path("/models"), torch_for, versions)


def plan() -> Plan:
    """That of t2v-1.3B's own clip on the H100, a run of which was measured."""
    spec, _ = load_catalog().find("t2v-1.3B")
    device = Device("cuda", H100.uuid, H100.name, H100.total_bytes, H100.free_bytes)
    job = Job(spec.id, "a cat", width=832, height=480, frames=81, fps=16, steps=50, guidance=5.0)
    there = Room(H100.free_bytes, 96 * 10**9, 512 * 10**9)
    pace = Pace(4e14, 2.5e10, 1e9)
    found = make_plan(job, model_of_spec(spec), device, there, half=True, pace=pace, trace=False, sizes=spec.sizes)
    return replace(found, runs=1)


# Devices


def gpu(number: int = 0, **other: Any) -> GpuSample:
    """A card at work."""
    figures = GpuSample(
        uuid=f"GPU-{number:08x}-1111-2222-3333-444444444444",
        name="NVIDIA GeForce RTX 4090",
        torch_index=number,
        bus_id=f"00000000:0{number + 1}:00.0",
        capability=(8, 9),
        total_bytes=24 * GIB,
        used_bytes=(9 + number) * GIB,
        free_bytes=(15 - number) * GIB,
        our_bytes=6 * GIB,
        torch_allocated_bytes=5 * GIB,
        torch_reserved_bytes=6 * GIB,
        torch_peak_bytes=8 * GIB,
        utilization=97 - 20 * number,
        memory_utilization=41,
        temperature_c=71,
        power_w=389.5,
        power_limit_w=450.0,
        clock_mhz=2520,
        pstate=2,
        throttle=("power cap",) if number == 0 else (),
    )
    return replace(figures, **other)


def parts() -> list[GpuSample]:
    """A card that is split in two."""
    whole = gpu(0, name="NVIDIA A100-SXM4-80GB", torch_index=None, total_bytes=80 * GIB, used_bytes=None,
                free_bytes=None, utilization=None, our_bytes=None, torch_allocated_bytes=None,
                torch_reserved_bytes=None, torch_peak_bytes=None)  # fmt: skip
    mig = [
        gpu(
            at,
            uuid=f"MIG-{at}",
            name=f"NVIDIA A100-SXM4-80GB MIG {at + 3}g.40gb",
            mig_parent=whole.uuid,
            bus_id=None,
            total_bytes=40 * GIB,
            used_bytes=(9 + at) * GIB,
            free_bytes=(31 - at) * GIB,
            utilization=None,
            power_w=None,
            temperature_c=None,
        )
        for at in (0, 1)
    ]
    return [whole, *mig]


def sampled(app: WanApp, *gpus: GpuSample, notice: str | None = None) -> None:
    """Have the Monitor show these devices, after two minutes of the same with some ups and downs."""
    sampler = Sampler(paused=True)
    now = 1.2e9  # curves go by the second: always the same one, and one that is never old
    for ago in range(120, -1, -1):
        wave = math.sin(ago / 9)
        host = HostSample(
            ram_total_bytes=128 * 10**9,
            ram_available_bytes=int(90 * 10**9 + wave * 10**10),
            swap_total_bytes=8 * 10**9,
            swap_used_bytes=0,
            rss_bytes=2 * 10**9,
            load=1.5,
            cpu_percent=50 + 40 * wave,
            cpus=16,
        )
        cards = tuple(
            card
            if ago == 0 or card.utilization is None
            else replace(card, lost=False, problem=None, utilization=int(60 + 35 * wave))
            for card in gpus
        )
        disks = (DiskSample("models", "/models", 512 * 10**9, 2000 * 10**9),)
        sample = Sample(now - ago, cards, host, disks, "580.82.07" if gpus else None, "13.0" if gpus else None, notice)
        sampler._rings.add(sample)
    sampler.latest = sample
    app.sampling.stop()  # the box itself is not looked at
    app.sampling.sampler = sampler


# Jobs


def happened(job: str, now: float) -> list[Event]:
    """A job that has been running for ELAPSED seconds, and is in its 12th of 40 steps."""
    start = now - ELAPSED
    device = {"name": "NVIDIA GeForce RTX 4090", "uuid": gpu().uuid}
    planned = (("text", 20.0), ("denoise", 2400.0), ("decode", 95.0))
    return [
        JobQueued(job=job, time=start - 5, file="/videos/cat.toml", model="t2v-1.3B@2.1.0", seed=7),
        JobStarted(job=job, time=start, device="NVIDIA GeForce RTX 4090"),
        PlanMade(job=job, time=start, profile="staged", fits=True, device=device, vram_bytes=12 * GIB,
                 ram_bytes=13 * GIB, seconds=2515.0, reasons=("staged: one component at a time",),
                 stages=tuple({"name": name, "seconds": seconds} for name, seconds in planned)),
        Stage(job=job, time=start, name="check", state="started"),
        Stage(job=job, time=start + 1, name="check", state="finished", seconds=1.2),
        Notice(job=job, time=start + 2, code="prompt-cut", message="The prompt is longer than 512 tokens."),
        Stage(job=job, time=start + 3, name="load", state="started", component="text_encoder"),
        Stage(job=job, time=start + 20, name="load", state="finished", component="text_encoder", seconds=17.3),
        Stage(job=job, time=start + 20, name="encode", state="started"),
        Stage(job=job, time=start + 22, name="encode", state="finished", seconds=2.1),
        Stage(job=job, time=start, name="denoise", state="started"),
        Progress(job=job, time=now, stage="denoise", done=12, total=40, eta_s=1736.0, seconds_per_unit=62.0,
                 vram_bytes=9 * GIB, rss_bytes=4 * GIB),
    ]  # fmt: skip


def failed(job: str, now: float) -> Event:
    return JobFailed(
        job=job,
        time=now,
        code="out-of-memory",
        message="The GPU has too little memory for 121 frames of 1280x704.",
        cause="22.1 GB were in use, 3.9 GB more were asked for.",
        suggestions=("Use fewer frames.", "Use a smaller size."),
        actions=(),
    )


def publish(app: WanApp, events: Sequence[Event]) -> None:
    for event in events:
        app.session.bus.publish(event)


def write_jobs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the journal as they are given, with what is left out filled in."""
    journal = Journal()
    usual = {
        "started": None,
        "finished": None,
        "model": "t2v-1.3B@2.1.0",
        "task": "text",
        "prompt": PROMPT,
        "job_toml": 'model = "t2v-1.3B"\nwidth = 832\nheight = 480\nframes = 81\nsteps = 40\nseed = 7\n',
        "owner": Owner.me().as_text(),
    }
    with sqlite3.connect(journal.path) as database:
        for row in rows:
            whole = {**usual, **row}
            names = ", ".join(whole)
            places = ", ".join("?" * len(whole))
            database.execute(f"INSERT INTO jobs ({names}) VALUES ({places})", list(whole.values()))
    database.close()


def history() -> list[dict[str, Any]]:
    """One of each kind that is over, and two that wait."""
    error = failed("", 0.0)
    assert isinstance(error, JobFailed)
    told = {"code": error.code, "message": error.message, "cause": error.cause, "suggestions": error.suggestions,
            "actions": []}  # fmt: skip

    def row(number: int, state: str, minute: int, **more: Any) -> dict[str, Any]:
        stamp = f"2024-03-0{number}T09:{minute:02}:00.000+00:00"
        times = {"created": stamp} if state == "queued" else {"created": stamp, "started": stamp, "finished": stamp}
        return {"id": f"2024030{number}-0914-{number}a2b", "state": state, **times, **more}

    return [
        row(1, "finished", 10, output="/videos/cat.mp4", seconds=1905.0,
            recorded=json.dumps({"frames": 81, "peak_vram_bytes": 9 * GIB, "peak_rss_bytes": 4 * GIB})),
        row(2, "failed", 20, error=json.dumps(told), model="ti2v-5B@2.2.0"),
        row(3, "cancelled", 30, cancel_requested="user", prompt="A paper boat on a pond"),
        row(4, "interrupted", 40, prompt="Rain on a tin roof, at night"),
        row(5, "queued", 50, prompt="A lighthouse in the fog, slow zoom"),
        row(6, "queued", 51, prompt="The same lighthouse by day"),
    ]  # fmt: skip


# Clips


def clip(
    path: Path, day: int, *, seed: int = 7, colour: tuple[int, int, int] = (200, 90, 30), prompt: str = PROMPT
) -> Path:
    """A clip with its sidecar, as a run writes them: two areas, so that one sees a picture."""
    job = Job(model="t2v-1.3B@2.1.0", prompt=prompt, width=64, height=32, frames=5, fps=8, steps=40, guidance=5.0,
              seed=seed, output=Output(path, 18))  # fmt: skip
    text = job.toml({"task": job.task, "started": f"2024-03-{day:02}T10:00:00+00:00", "seconds": {"denoise": 61.0}})
    frames = np.zeros((5, 32, 64, 3), np.uint8)
    frames[...] = colour
    frames[:, 16:, :, :] = (20, 40, 80)
    with open_writer(path, width=64, height=32, fps=8, metadata=text) as writer:
        writer.write(frames)
        return writer.finish(lambda _: text)
