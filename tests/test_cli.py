"""The verbs from the outside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runtime.journal import Journal
from tests.runs import PROGRAM, environment, wan_tui


@pytest.fixture
def one_job(own_home: Path) -> str:
    journal = Journal()
    job = journal.accept(model="demo@1", task="text", prompt="猫 \u200b[/b] zoë", job_toml='prompt = "猫"\n')
    journal.start(job)
    journal.finish(job, output=own_home / "a.mp4", seconds=1.0)
    return job


def test_alone_it_needs_a_terminal_and_says_what_does_without() -> None:
    done = wan_tui()
    assert (done.returncode, done.stdout) == (2, "")
    assert "terminal" in done.stderr
    assert "--run" in done.stderr


def test_bad_usage_is_status_2() -> None:
    for arguments in (["--runn"], ["nonsense"], ["models"], ["jobs", "show"], ["--run"]):
        done = wan_tui(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_models_list_and_show_in_words_and_json() -> None:
    rows = json.loads(wan_tui("models", "list", "--json").stdout)
    assert {"id", "variant", "family", "state", "bytes", "present_bytes", "path", "revision"} <= set(rows[0])
    assert {(row["state"], row["id"] == "demo@1") for row in rows} == {("absent", False), ("complete", True)}
    assert [row["id"] for row in json.loads(wan_tui("models", "list", "--installed", "--json").stdout)] == ["demo@1"]
    card = json.loads(wan_tui("models", "show", "t2v-A14B", "--json").stdout)
    assert (card["defaults"]["guidance"], card["defaults"]["guidance_2"]) == (4.0, 3.0)
    assert "126.2 GB" in wan_tui("models", "show", "t2v-A14B").stdout


def test_errors_of_verbs_are_one_message_or_one_object() -> None:
    done = wan_tui("models", "show", "t2v-A41B")
    assert (done.returncode, done.stdout) == (2, "")
    assert "t2v-A14B" in done.stderr
    error = json.loads(wan_tui("models", "show", "t2v-A41B", "--json").stdout)
    assert set(error) == {"code", "message", "cause", "suggestions", "actions"}
    assert wan_tui("jobs", "show", "last").returncode == 2


def test_jobs_list_show_cancel(one_job: str) -> None:
    (row,) = json.loads(wan_tui("jobs", "list", "--json").stdout)
    assert {"id", "state", "model", "prompt", "created", "output"} <= set(row)
    assert (row["id"], row["state"]) == (one_job, "finished")
    assert "猫" in wan_tui("jobs", "show", one_job[:-1]).stdout
    assert "over already" in wan_tui("jobs", "cancel", "last").stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_without_the_letters_is_no_crash(encoding: str, one_job: str) -> None:
    for verb in ("list", "show"):
        command = [*PROGRAM, "jobs", verb, *([] if verb == "list" else [one_job])]
        done = subprocess.run(command, capture_output=True, env={**environment(), "PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        assert b"\\u732b" in done.stdout


def test_a_reader_that_goes_away_is_no_crash(one_job: str) -> None:
    for verb in ("models list", "jobs list", "--help"):
        command = f"{' '.join(PROGRAM)} {verb} | true"
        done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment())
        assert done.stderr == b""


def test_a_fault_of_ours_is_a_report_and_one_message(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug, made by damaging the installed program: no traceback on the screen, one in a file."""
    broken = own_home / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import engine.catalog\ndef load_catalog(): raise ZeroDivisionError('secret')\n"
        "engine.catalog.load_catalog = load_catalog\n"
    )
    path = os.pathsep.join([str(broken), environment()["PYTHONPATH"]])
    command = [*PROGRAM, "models", "list"]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment(), "PYTHONPATH": path})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (report,) = (own_home / "state" / "wan-tui").glob("crash-*.txt")
    assert str(report) in done.stderr
    assert "ZeroDivisionError" in report.read_text()


def test_users_models_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    manifest = tmp_path / "mine.toml"
    manifest.write_text(f'[models."mine@1.0"]\ntitle = "Mine"\nfamily = "t2v"\npath = "{tiny_model("t2v")}"\n')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
    rows = json.loads(wan_tui("models", "list", "--installed", "--json").stdout)
    assert [(row["id"], row["state"]) for row in rows] == [("demo@1", "complete"), ("mine@1.0", "complete")]
