"""Every folder of the corpus gets its verdict, its code and words that help; none a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import load_catalog
from engine.compat.finding import SEVERITIES, Finding
from engine.errors import ModelError
from engine.job import Inputs, Job
from engine.runtime.check import check, subject
from engine.runtime.prepare import prepare
from engine.runtime.report import Report
from tests.corpus import CASES, Bench, Case, mortal
from tests.runs import environment, job_file, wan_tui
from wan_tui.cli.check import lines, status
from wan_tui.text import plain

CATALOG = load_catalog()
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture
def bench(tiny_model: Callable[[str], Path], tmp_path: Path) -> Bench:
    folder = tmp_path / "bench"
    folder.mkdir()
    return Bench(tiny_model, folder)


def looked_at(case: Case, path: Path) -> Report:
    with mortal() if case.mortal else nullcontext():
        return check(subject(str(path), CATALOG), CATALOG)


def told(finding: Finding) -> str:
    commands = (remedy.command for remedy in finding.remedies)
    return " ".join((finding.message, finding.cause or "", *finding.suggestions, *commands))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", BY_NAME)
def test_verdict_and_code(bench: Bench, name: str) -> None:
    case = BY_NAME[name]
    path = case.make(bench)
    since = time.process_time()
    report = looked_at(case, path)
    assert time.process_time() - since < 2
    first = next(iter((*report.of("error"), *report.of("warning"))), None)
    assert (report.verdict, first.code if first else None) == (case.verdict, case.code), report.findings
    if first:
        assert case.word in told(first)
        assert case.component in (None, first.component)
        assert first.cause or first.suggestions or first.remedies or first.code in ("not-yet", "bad-model-file")
    again = json.loads(json.dumps(report.as_dict()))
    assert again["verdict"] == case.verdict
    assert {finding["severity"] for finding in again["findings"]} <= set(SEVERITIES)
    assert all(plain(line).isprintable() or "\t" in line for line in lines(report))
    assert status(report) == (3 if case.verdict == "cannot-run" else 0)


def test_the_corpus_is_large_enough() -> None:
    sound = [case for case in CASES if case.verdict == "runs" or case.code == "not-yet"]
    assert len(CASES) - len(sound) >= 80
    assert len({case.code for case in CASES}) >= 25


@pytest.mark.parametrize("kind", ["flf2v", "vace", "animate"])
def test_a_family_that_does_not_run_yet_has_nothing_else_wrong(bench: Bench, kind: str) -> None:
    report = looked_at(BY_NAME[f"sound {kind}"], bench.copy(kind))
    assert report.family == kind and [finding.code for finding in report.of("error")] == ["not-yet"]
    assert report.of("warning") == ()


# ── As a command ─────────────────────────────────────────────────────────────────────────────────────────────────────

# The command in a process of its own, and what it loaded.
_WATCHED = """
import sys
from wan_tui.cli import main
status = main(["check", "--json", *sys.argv[1:]])
heavy = {"torch", "diffusers", "transformers", "textual", "numpy"} & set(sys.modules)
print(*sorted(heavy), file=sys.stderr)
sys.exit(status)
"""
COMMANDS = (
    "sound t2v-two",
    "sound vace",
    "a name that is no UTF-8",
    "a name with line breaks and colours",
    "index: missing from t2v-two",
    "index: a FIFO",
    "index: 50 MB",
    "index: a class nobody has",
    "config: 100,000 deep",
    "config: a number of 4,000 digits",
    "VAE of Wan 2.2 in Wan 2.1",
    "weights: header length 2^60",
    "weights: a FIFO",
    "weights: header with half a character",
    "shards: one is missing",
    "shards: their index is a FIFO",
    "foreign: Flux",
    "file: a LoRA",
    "file: weights of nothing known",
    "file: a transformer in GGUF",
    "folder: Wan 2.2 in the authors' layout",
)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.sampled(3)
def test_as_a_command(bench: Bench, name: str) -> None:
    """One JSON object, the right status, nothing else, and no torch."""
    case = BY_NAME[name]
    path = case.make(bench)
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(path)], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.strip() == "" and done.returncode == (3 if case.verdict == "cannot-run" else 0)
    answer = json.loads(done.stdout)
    assert answer["verdict"] == case.verdict
    codes = [finding["code"] for finding in answer["findings"] if finding["severity"] != "note"]
    assert codes[:1] == ([case.code] if case.code else [])
    assert {"family", "task", "architecture", "environment"} <= answer.keys()


def test_in_words(bench: Bench) -> None:
    case = BY_NAME["shards: one is missing"]
    done = wan_tui("check", case.make(bench))
    assert done.returncode == 3 and done.stderr == ""
    assert "cannot run" in done.stdout.splitlines()[0]
    assert "[incomplete-model]" in done.stdout and "usable   " in done.stdout


def test_nothing_there(tmp_path: Path) -> None:
    done = wan_tui("check", tmp_path / "nothing", "--json")
    assert done.returncode == 3 and json.loads(done.stdout)["code"] == "model-absent"
    done = wan_tui("check", "no-such-model")
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


# ── A run says the same ──────────────────────────────────────────────────────────────────────────────────────────────

# Folders in diffusers layout of families that run: what a check refuses a run refuses, and for the same reason.
_RUNNABLE = [
    case
    for case in CASES
    if case.name.startswith(("sound", "index:", "config:", "scheduler", "tokenizer", "VAE", "weights:", "shards:"))
    and case.code not in ("not-yet", "not-wan", "single-file")
    and not case.mortal
]


@pytest.mark.parametrize("name", [case.name for case in _RUNNABLE[::2]])
@pytest.mark.sampled(2)
def test_a_run_is_refused_for_the_same_reason(bench: Bench, tmp_path: Path, name: str) -> None:
    case = BY_NAME[name]
    path = case.make(bench)
    report = looked_at(case, path)
    values: dict[str, Any] = {}
    if "image" in report.tasks and "text" not in report.tasks:
        values["inputs"] = Inputs(image=picture(tmp_path))
    job = Job(prompt="a cat", model=str(path), seed=1, device="cpu", **values)
    try:
        prepare(job, tmp_path / "job.toml", CATALOG)
    except ModelError as error:
        assert case.verdict == "cannot-run", error
        assert error.code in {finding.code for finding in report.of("error")}
    else:
        assert case.verdict != "cannot-run"


def picture(folder: Path) -> Path:
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    return folder / "red.png"


@pytest.mark.parametrize(
    "name", ["index: no class", "VAE of Wan 2.2 in Wan 2.1", "shards: one is missing", "foreign: Flux"]
)
@pytest.mark.sampled(2)
def test_a_dry_run_agrees(bench: Bench, tmp_path: Path, name: str) -> None:
    case = BY_NAME[name]
    job = job_file(tmp_path, case.make(bench))
    done = wan_tui("--run", job, "--dry-run", "--json")
    assert done.returncode == (3 if case.verdict == "cannot-run" else 0), done.stdout
    if case.verdict == "cannot-run":
        assert json.loads(done.stdout.splitlines()[-1])["code"] == case.code


def test_a_folder_without_its_index_really_runs(bench: Bench, tmp_path: Path) -> None:
    folder = BY_NAME["index: missing from t2v-two"].make(bench)
    done = wan_tui("--run", job_file(tmp_path, folder, frames=5), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "job-finished"


@pytest.mark.soak
@pytest.mark.parametrize("name", [case.name for case in CASES if case.name.startswith(("sound", "weights: in fp8"))])
def test_what_is_called_sound_really_runs(bench: Bench, tmp_path: Path, name: str) -> None:
    case = BY_NAME[name]
    values: dict[str, Any] = {"inputs": {"image": str(picture(tmp_path))}} if "CLIP" in name or "i2v" in name else {}
    done = wan_tui("--run", job_file(tmp_path, case.make(bench), frames=5, **values))
    assert (done.returncode == 0) == (case.verdict != "cannot-run"), done.stderr
