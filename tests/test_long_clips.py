"""Long clips through `--run`: segments and windows, what is said of them, and what is remembered."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.runtime.journal import Journal
from engine.video.probe import probe, read_metadata
from tests.runs import Running, events, job_file, wan_tui

TinyModel = Callable[[str], Path]
PARTS = [{"frames": 17, "prompt": "a cat"}, {"frames": 9, "prompt": "a dog"}, {"frames": 17, "prompt": "a star"}]


def sidecar(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "clip.job.toml").read_text(encoding="utf-8"))


def progress(told: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("done", "total", "window", "windows")
    return [
        tuple(event[name] for name in names)
        for event in told
        if event["event"] == "progress" and event["stage"] == "denoise"
    ]


@pytest.mark.soak
def test_segments_say_how_long_the_clip_is(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Their prompts are embedded in the stage for that, each once; the clip is made in windows, and its drift told."""
    file = job_file(tmp_path, tiny_model("t2v"), frames=None, segments=PARTS, output={"path": "clip.mp4"})
    done = wan_tui("--run", file, "--json")
    assert done.returncode == 0, done.stdout
    told = events(done.stdout)
    assert probe(tmp_path / "clip.mp4").frames == told[-1]["frames"] == 41
    loads = [e["component"] for e in told if e["event"] == "stage" and e["name"] == "load" and e["state"] == "started"]
    assert loads.count("text_encoder") == loads.count("transformer") == 1
    stages = [e["name"] for e in told if e["event"] == "stage" and e["state"] == "started"]
    assert stages.index("load") > stages.index("encode")
    assert [e["code"] for e in told if e["event"] == "warning"].count("prompt-unused") == 1
    assert progress(told) == [(1, 2, None, None), (2, 2, None, None)]
    beside = sidecar(tmp_path)
    assert beside["frames"] == 41 and [part["prompt"] for part in beside["segments"]] == ["a cat", "a dog", "a star"]
    (row,) = Journal().rows()
    drift = beside["recorded"]["drift"]
    assert row.recorded and row.recorded["drift"] == drift
    assert drift[0] == 0 and len(drift) > 2 and all(distance >= 0 for distance in drift)
    again = wan_tui("--run", tmp_path / "clip.job.toml", "--dry-run")
    assert again.returncode == 0, again.stderr


@pytest.mark.soak
def test_windows_in_turn_say_which_is_at_work(tiny_model: TinyModel, tmp_path: Path) -> None:
    Image.effect_mandelbrot((64, 64), (-2, -1.2, 1, 1.2), 60).convert("RGB").save(tmp_path / "a.png")
    file = job_file(
        tmp_path,
        tiny_model("ti2v"),
        frames=45,
        inputs={"image": "a.png"},
        memory={"window": 25, "overlap": 8},
        output={"path": "clip.mp4"},
    )
    told = events(wan_tui("--run", file, "--json").stdout)
    assert told[-1]["event"] == "job-finished", told[-1]
    assert progress(told) == [(1, 4, 1, 2), (2, 4, 1, 2), (3, 4, 2, 2), (4, 4, 2, 2)]
    assert len(sidecar(tmp_path)["recorded"]["drift"]) == 2


def test_a_clip_of_one_window_has_no_drift(tiny_model: TinyModel, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), memory={"window": 81}, output={"path": "clip.mp4"})
    told = events(wan_tui("--run", file, "--json").stdout)
    assert told[-1]["event"] == "job-finished", told[-1]
    assert "drift" not in sidecar(tmp_path)["recorded"]
    assert read_metadata(tmp_path / "clip.mp4") == (tmp_path / "clip.job.toml").read_text(encoding="utf-8")
    (row,) = Journal().rows()
    assert row.recorded and "drift" not in row.recorded


@pytest.mark.soak
def test_the_rung_windows(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Asked for by name: the window is filled in, and the clip made again from its sidecar is the same."""
    file = job_file(
        tmp_path, tiny_model("t2v"), frames=97, steps=1, memory={"profile": "windows"}, output={"path": "clip.mp4"}
    )
    told = events(wan_tui("--run", file, "--json").stdout)
    assert told[-1]["event"] == "job-finished", told[-1]
    (plan,) = [e for e in told if e["event"] == "plan"]
    assert plan["profile"] == "windows" and plan["windows"] == {"frames": 81, "count": 2}
    beside = sidecar(tmp_path)
    assert beside["memory"] == {"profile": "windows", "allow_lossy": False, "window": 81}
    assert len(beside["recorded"]["drift"]) == 2
    again = events(wan_tui("--run", tmp_path / "clip.job.toml", "--json").stdout)
    assert again[-1]["output_sha256"] and Path(again[-1]["output"]).name == "clip-2.mp4"


def test_a_cancel_between_windows(tiny_model: TinyModel, tmp_path: Path) -> None:
    import signal

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    file = job_file(
        tmp_path,
        tiny_model("ti2v"),
        frames=201,
        steps=3,
        inputs={"image": "a.png"},
        memory={"window": 17},
        output={"path": "clip.mp4"},
    )
    run = Running("--run", file)
    run.until("progress", stage="denoise", window=2)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130
    assert run.told[-1]["event"] == "job-cancelled"
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize(
    ("colours", "warned"), [((40, 60, 200), True), ((40, 44, 40), False)], ids=["drifts", "does not"]
)
def test_a_drift_is_warned_about(
    colours: tuple[int, ...], warned: bool, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The colours of each window are painted over, which random weights would not do."""
    import numpy as np

    from engine.catalog import load_catalog
    from engine.control import Control
    from engine.events import Bus, Event, Notice
    from engine.job import Job, Memory, Output
    from engine.memory.windows import grid, layout, stretches
    from engine.runtime import frames
    from engine.runtime.prepare import prepare
    from engine.runtime.way import Traveller, travel

    job = Job(
        model=str(tiny_model("t2v")), prompt="a cat", width=64, height=64, frames=57, steps=1, guidance=1.0, seed=1,
        device="cpu", memory=Memory(window=25), output=Output(tmp_path / "clip.mp4"),
    )  # fmt: skip
    parts = stretches(grid(layout(job), 0))
    assert len(parts) == 3
    real, at = frames._decoded, [0]

    def painted(*given: Any) -> Any:
        for group in real(*given):
            window = next(i for i, (_, end) in enumerate(parts) if at[0] < end)
            at[0] += len(group)
            yield np.full_like(group, colours[window])

    monkeypatch.setattr(frames, "_decoded", painted)
    told: list[Event] = []
    noted: dict[str, Any] = {}
    bus = Bus()
    monkeypatch.setattr(bus, "publish", told.append)
    asked = prepare(job, tmp_path / "job.toml", load_catalog())
    travel(Traveller(asked, "job", Control(), bus, lambda **given: noted.update(given.get("recorded", {}))))
    warnings = [event.message for event in told if isinstance(event, Notice) and event.code == "drift"]
    assert len(warnings) == warned and ("at the end" in warnings[0] if warned else True)
    assert list(noted["drift"]) == sidecar(tmp_path)["recorded"]["drift"]
    assert len(noted["drift"]) == 3


def test_what_cannot_fit_is_not_begun(tiny_model: TinyModel, tmp_path: Path) -> None:
    """The same in a dry run: status 4, what lacks and by how much, and what would fit."""
    file = job_file(
        tmp_path, tiny_model("t2v"), width=8192, height=8192, frames=1001, memory={"profile": "staged"},
        output={"path": "clip.mp4"},
    )  # fmt: skip
    for more in (["--dry-run"], []):
        done = wan_tui("--run", file, "--json", *more)
        told = events(done.stdout)
        assert done.returncode == 4, told[-1]
        (plan,) = [e for e in told if e["event"] == "plan"]
        assert plan["fits"] is False and plan["stages"] and plan["disk_bytes"] and plan["max_frames"] is not None
        assert [other["says"] for other in plan["alternatives"]]
        assert told[-1]["event"] == "job-failed" and told[-1]["code"] == "does-not-fit"
        assert "of RAM" in told[-1]["message"] and "more than the" in told[-1]["message"]
        assert told[-1]["suggestions"]
        assert "text_encoder" not in [e.get("component") for e in told]
    assert not (tmp_path / "clip.mp4").exists()
