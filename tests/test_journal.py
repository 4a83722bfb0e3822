"""The journal under real processes: shared, killed, damaged, full, read-only, newer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import paths
from engine.errors import JobError, RunError
from engine.runtime import database
from engine.runtime.database import Database, is_local
from engine.runtime.journal import Journal, State
from engine.runtime.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
ERROR = {"code": "out-of-memory", "message": "m", "cause": None, "suggestions": ["s"], "actions": ["retry"]}

# What every child begins with: the journal, a way to speak, and a word from us to wait for.
PREAMBLE = """
import os, sys, time
from pathlib import Path
from engine.errors import WanError
from engine.runtime.journal import Journal
path = Path(sys.argv[1])
def say(*words): print(*words, flush=True)
def accept(journal): return journal.accept(model="m", task="t2v", prompt="p", job_toml="x = 1")
def go(): say("ready"); sys.stdin.readline()
"""

HOLD_THE_FILE = """
import sqlite3
db = sqlite3.connect(path, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
go()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def journal(path: Path) -> Journal:
    return Journal(path)


Child = subprocess.Popen[str]


@pytest.fixture
def child(path: Path) -> Iterator[Callable[[str], Child]]:
    """Starts a process that runs the given lines after the preamble."""
    started: list[Child] = []

    def start(lines: str) -> Child:
        command = [sys.executable, "-c", PREAMBLE + lines, str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def accept(journal: Journal, prompt: str = "a red circle") -> str:
    return journal.accept(model="ti2v-5B@2.2.0", task="t2v", prompt=prompt, job_toml='model = "ti2v-5B"')


def heard(process: Child) -> str:
    assert process.stdout
    line = process.stdout.readline().rstrip("\n")
    assert line, "the child ended without a word"
    return line


def tell(process: Child) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def answers(processes: list[Child]) -> list[list[str]]:
    """Let all children go at once, and collect what each says to its end."""
    for process in processes:
        assert heard(process) == "ready"
    for process in processes:
        tell(process)
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return said


def kill(process: Child) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def died_with(child: Callable[[str], Child], lines: str) -> list[str]:
    """What a child said in one line before it was killed."""
    process = child("j = Journal(path)\n" + lines + "\ntime.sleep(60)")
    words = heard(process).split()
    kill(process)
    return words


def disown(journal: Journal, job_id: str, owner: Owner) -> None:
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE jobs SET owner = ? WHERE id = ?", (owner.as_text(), job_id))
    db.close()


def gone() -> Owner:
    return replace(Owner.me(), start=Owner.me().start - 1)


# The owner


def test_an_owner_is_told_from_a_later_process_of_the_same_number() -> None:
    me = Owner.me()
    assert me.alive() is True
    assert replace(me, start=me.start + 1).alive() is False
    assert replace(me, boot="another").alive() is False
    assert replace(me, pid=2**22 + 1).alive() is False  # beyond any number the kernel gives
    assert replace(me, host="elsewhere").alive() is None
    assert replace(me, host="elsewhere", boot="another").alive() is None
    assert Owner.from_text(me.as_text()) == me


def test_a_zombie_is_dead(child: Callable[[str], Child]) -> None:
    process = child("from engine.runtime.owner import Owner\nsay(Owner.me().as_text())\ntime.sleep(60)")
    owner = Owner.from_text(heard(process))
    assert owner.alive() is True
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet buried
    assert Path(f"/proc/{process.pid}").exists()
    assert owner.alive() is False


# The way of a job


def test_a_job_from_queued_to_finished(journal: Journal, tmp_path: Path) -> None:
    job_id = journal.accept(
        model="m", task="i2v", prompt="ein roter Kreis ○", job_toml="seed = 1", file=tmp_path / "job.toml", device=None
    )
    queued = journal.row(job_id)
    assert (queued.state, queued.owner, queued.started, queued.finished) == (State.QUEUED, Owner.me(), None, None)
    assert (queued.model, queued.task, queued.prompt, queued.job_toml) == ("m", "i2v", "ein roter Kreis ○", "seed = 1")
    assert queued.file == str(tmp_path / "job.toml")

    assert journal.start(job_id)
    assert journal.note(job_id, device="GPU-1", scratch=tmp_path / ".clip.mp4.part", recorded={"plan": "staged"})
    running = journal.row(job_id)
    assert (running.state, running.device, running.scratch) == ("running", "GPU-1", str(tmp_path / ".clip.mp4.part"))
    assert running.recorded == {"plan": "staged"}

    assert journal.finish(job_id, output=tmp_path / "clip.mp4", seconds=1.5, recorded={"peak_vram_bytes": 7})
    done = journal.row(job_id)
    assert (done.state, done.output, done.seconds) == ("finished", str(tmp_path / "clip.mp4"), 1.5)
    assert (done.scratch, done.recorded) == (None, {"peak_vram_bytes": 7})
    assert done.created <= (done.started or "") <= (done.finished or "")


def test_finishing_without_figures_keeps_those_noted(journal: Journal) -> None:
    job_id = accept(journal)
    journal.start(job_id)
    journal.note(job_id, recorded={"plan": "staged"})
    journal.finish(job_id, output=None, seconds=None)
    assert journal.row(job_id).recorded == {"plan": "staged"}


def test_a_row_is_json(journal: Journal) -> None:
    job_id = accept(journal)
    journal.start(job_id)
    journal.fail(job_id, ERROR)
    said = json.loads(json.dumps(journal.row(job_id).as_dict()))
    assert {"id", "state", "model", "prompt", "created", "output"} <= said.keys()
    assert (said["id"], said["state"], said["error"]) == (job_id, "failed", ERROR)


def test_a_name_that_is_no_utf8_is_kept_readable(journal: Journal) -> None:
    job_id = accept(journal, prompt=os.fsdecode(b"caf\xe9"))
    assert journal.row(job_id).prompt == "caf\\udce9"


MOVES: dict[str, Callable[[Journal, str], bool]] = {
    "start": lambda j, i: j.start(i),
    "note": lambda j, i: j.note(i, device="cpu"),
    "finish": lambda j, i: j.finish(i, output="o.mp4", seconds=2.0),
    "fail": lambda j, i: j.fail(i, ERROR),
    "cancelled": lambda j, i: j.cancelled(i, "terminated"),
}
LEGAL = {
    State.QUEUED: {"start": State.RUNNING, "note": State.QUEUED, "cancelled": State.CANCELLED},
    State.RUNNING: {
        "note": State.RUNNING,
        "finish": State.FINISHED,
        "fail": State.FAILED,
        "cancelled": State.CANCELLED,
    },
}


def brought_to(journal: Journal, state: State) -> str:
    job_id = accept(journal)
    if state is not State.QUEUED:
        assert journal.start(job_id)
    ways = {State.FINISHED: "finish", State.FAILED: "fail", State.CANCELLED: "cancelled"}
    if state in ways:
        assert MOVES[ways[state]](journal, job_id)
    if state is State.INTERRUPTED:
        disown(journal, job_id, gone())
        assert [row.id for row in journal.recover()] == [job_id]
        disown(journal, job_id, Owner.me())  # so that its state alone is what refuses
    assert journal.row(job_id).state == state
    return job_id


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", State)
def test_only_legal_moves_pass(journal: Journal, state: State, move: str) -> None:
    job_id = brought_to(journal, state)
    before = journal.row(job_id)
    target = LEGAL.get(state, {}).get(move)
    assert MOVES[move](journal, job_id) is (target is not None)
    assert journal.row(job_id).state == (target or state)
    if target is None:
        assert journal.row(job_id) == before


def test_only_its_owner_moves_a_job(journal: Journal, child: Callable[[str], Child]) -> None:
    job_id = accept(journal)
    journal.start(job_id)
    before = journal.row(job_id)
    process = child(f"j = Journal(path)\ni = {job_id!r}\nsay(j.note(i, device='x'), j.fail(i, {{}}), j.cancelled(i))")
    assert heard(process) == "False False False"
    assert journal.row(job_id) == before


def test_a_wrong_column_is_a_mistake_of_the_caller(journal: Journal) -> None:
    job_id = accept(journal)
    with pytest.raises(TypeError, match="state"):
        journal.note(job_id, state="finished")
    assert journal.row(job_id).state == State.QUEUED


# Finding a job


def test_a_job_by_its_beginning_or_as_the_last(journal: Journal) -> None:
    first, second = accept(journal), accept(journal)
    assert journal.row("last").id == second
    assert journal.row(first).id == first
    differ = next(n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    common = first[:differ]
    assert journal.row(first[: differ + 1]).id == first
    with pytest.raises(JobError) as refused:
        journal.row(common)
    assert refused.value.code == "ambiguous-job"
    assert first in refused.value.message
    assert second in refused.value.message


@pytest.mark.parametrize("wanted", ["", "%", "2___", "2*", "[12]", "\udce9"])
def test_an_unknown_job_is_refused(journal: Journal, wanted: str) -> None:
    job_id = accept(journal)
    with pytest.raises(JobError) as refused:
        journal.request_cancel(wanted)
    assert refused.value.code == "unknown-job"
    assert journal.row(job_id).cancel_requested is None


def test_a_mistyped_id_gets_the_nearest_named(journal: Journal) -> None:
    job_id = accept(journal)
    mistyped = job_id[:-1] + "z"
    for refused_by in (journal.row, journal.request_cancel, journal.start):
        with pytest.raises(JobError) as refused:
            refused_by(mistyped)
        assert refused.value.code == "unknown-job"
        assert job_id in refused.value.suggestions[0]


def test_the_last_of_an_empty_journal(journal: Journal) -> None:
    with pytest.raises(JobError) as refused:
        journal.row("last")
    assert refused.value.code == "unknown-job"


def test_rows_come_newest_first_by_state_and_limit(journal: Journal) -> None:
    ids = [accept(journal) for _ in range(5)]
    journal.start(ids[1])
    journal.start(ids[3])
    assert [row.id for row in journal.rows()] == ids[::-1]
    assert [row.id for row in journal.rows(limit=2)] == [ids[4], ids[3]]
    assert [row.id for row in journal.rows(states=["running"])] == [ids[3], ids[1]]
    assert [row.id for row in journal.rows(limit=1, states=["running"])] == [ids[3]]
    assert journal.rows(states=[]) == []


# Shared


def test_many_processes_and_threads_write_at_once_from_the_first_moment(
    path: Path, child: Callable[[str], Child]
) -> None:
    lines = "go()\nj = Journal(path)\nsay(*[accept(j) for _ in range(50)])"
    processes = [child(lines) for _ in range(4)]
    said = [job_id for ids in answers(processes) for job_id in ids]
    journal = Journal(path)
    with ThreadPoolExecutor(4) as pool:
        said += pool.map(lambda _: accept(journal), range(40))
    assert len(set(said)) == len(said) == 240
    assert sorted(said) == [row.id for row in journal.rows()][::-1]
    with Database(path, [""]).reading() as db:
        kept = [row[0] for row in db.execute("SELECT id FROM jobs ORDER BY rowid")]
    assert kept == sorted(kept), "ids sort as they were accepted"


def test_an_id_is_never_given_twice(journal: Journal) -> None:
    accept(journal)
    begin = (datetime.now(UTC) + timedelta(seconds=1.5)).replace(microsecond=0)
    taken = [f"{begin:%Y%m%d-%H%M%S}-{n:04x}" for n in range(20000)]  # the first 0.3 of that second
    with Database(journal.path, [""]).writing() as db:
        columns = ", ".join(row["name"] for row in db.execute("PRAGMA table_info(jobs)") if row["name"] != "id")
        copy = f"INSERT OR IGNORE INTO jobs SELECT ?, {columns} FROM (SELECT * FROM jobs LIMIT 1)"
        db.executemany(copy, [(job_id,) for job_id in taken])
    time.sleep(max(0.0, (begin - datetime.now(UTC)).total_seconds() + 0.05))
    assert accept(journal) > taken[-1]


def test_a_writer_waits_for_another(journal: Journal, child: Callable[[str], Child]) -> None:
    process = child(HOLD_THE_FILE + "time.sleep(0.5)\ndb.execute('COMMIT')")
    assert heard(process) == "ready"
    tell(process)
    begun = time.monotonic()
    assert journal.start(accept(journal))
    assert time.monotonic() - begun > 0.3


def test_a_journal_locked_for_too_long_is_told(
    journal: Journal, child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = child(
        "import sqlite3\ndb = sqlite3.connect(path, isolation_level=None)\ndb.execute('BEGIN EXCLUSIVE')\ngo()"
    )
    assert heard(process) == "ready"
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(RunError) as refused:
        accept(journal)
    assert refused.value.code == "journal-busy"


def test_what_is_raised_in_a_transaction_undoes_it(journal: Journal) -> None:
    job_id = accept(journal)
    with pytest.raises(TypeError), Database(journal.path, [""]).writing() as db:
        db.execute("DELETE FROM jobs")
        raise TypeError
    assert journal.row(job_id).id == job_id


# Cancelling


def test_a_cancel_from_elsewhere_reaches_the_owner(journal: Journal, child: Callable[[str], Child]) -> None:
    process = child("""
j = Journal(path)
i, other = accept(j), accept(j)
j.start(i)
say(i)
while not (asked := j.cancel_requests()): time.sleep(0.02)
say(*asked, j.cancelled(i, asked[i]), j.row(other).state)
""")
    job_id = heard(process)
    assert journal.cancel_requests() == {}
    assert "asked to stop" in journal.request_cancel(job_id, "terminated")
    assert heard(process) == f"{job_id} True queued"
    row = journal.row(job_id)
    assert (row.state, row.cancel_requested) == (State.CANCELLED, "terminated")
    assert "over already: cancelled" in journal.request_cancel(job_id)


def test_the_first_reason_stays_and_only_own_jobs_are_told(journal: Journal) -> None:
    mine, other = accept(journal), accept(journal)
    disown(journal, other, replace(Owner.me(), host="elsewhere"))
    assert f"{mine} was asked to stop" in journal.request_cancel(mine, "terminated")
    journal.request_cancel(mine, "user")
    assert "elsewhere" in journal.request_cancel(other)
    assert journal.cancel_requests() == {mine: "terminated"}
    assert journal.row(other).state == State.QUEUED, "nobody can tell whether its owner lives"
    journal.cancelled(mine, "terminated")
    assert journal.cancel_requests() == {}


@pytest.mark.parametrize("start", ["", "j.start(i)"])
def test_a_job_whose_owner_died_is_cancelled_at_once(
    journal: Journal, child: Callable[[str], Child], tmp_path: Path, start: str
) -> None:
    scratch = tmp_path / ".clip.mp4.part"
    scratch.touch()
    [job_id] = died_with(child, f"i = accept(j)\n{start}\nj.note(i, scratch={str(scratch)!r})\nsay(i)")
    assert "is cancelled" in journal.request_cancel(job_id)
    assert journal.row(job_id).state == State.CANCELLED
    assert not scratch.exists()
    assert journal.recover() == []


# After a crash


def test_killed_in_the_middle_of_writing_nothing_said_is_lost(path: Path, child: Callable[[str], Child]) -> None:
    process = child("j = Journal(path)\nwhile True: say(accept(j))")
    said = [heard(process) for _ in range(30)]
    kill(process)
    assert process.stdout
    said += process.stdout.read().split()
    journal = Journal(path)
    assert journal.notice is None
    kept = {row.id for row in journal.rows()}
    assert kept >= set(said)
    assert len(kept) <= len(said) + 1  # one may have been kept and not yet said


def test_a_dead_owners_jobs_read_interrupted_before_anybody_recovers_them(
    journal: Journal, child: Callable[[str], Child]
) -> None:
    running, queued = died_with(child, "i, q = accept(j), accept(j)\nj.start(i)\nsay(i, q)")
    mine = accept(journal)
    assert {row.id: row.state for row in journal.rows()} == {
        running: "interrupted",
        queued: "interrupted",
        mine: "queued",
    }
    assert [row.id for row in journal.rows(states=["interrupted"])] == [queued, running]
    assert [row.id for row in journal.rows(states=["queued", "running"])] == [mine]
    assert [row.id for row in journal.rows(limit=1, states=["interrupted"])] == [queued]
    assert journal.row(running).state == State.INTERRUPTED


def test_each_dead_job_is_recovered_once_and_the_living_never(
    journal: Journal, child: Callable[[str], Child], tmp_path: Path
) -> None:
    living = child("j = Journal(path)\ni = accept(j)\nj.start(i)\nsay(i)\ntime.sleep(60)")
    alive = heard(living)
    far = accept(journal)
    disown(journal, far, replace(Owner.me(), host="elsewhere"))
    part = tmp_path / ".clip.mp4.part"
    part.write_bytes(b"half")
    dead = died_with(
        child,
        f"ids = [accept(j) for _ in range(20)]\nfor i in ids[::2]: j.start(i)\n"
        f"j.note(ids[0], scratch={str(part)!r})\nsay(*ids)",
    )
    recovered = answers([child("go()\nsay(*[row.id for row in Journal(path).recover()])") for _ in range(4)])
    assert sorted(job_id for ids in recovered for job_id in ids) == sorted(dead)
    assert not part.exists()
    states = {row.id: row.state for row in journal.rows()}
    assert {states[job_id] for job_id in dead} == {State.INTERRUPTED}
    assert (states[alive], states[far]) == (State.RUNNING, State.QUEUED)


def test_recover_returns_what_it_found(journal: Journal, child: Callable[[str], Child]) -> None:
    [job_id] = died_with(child, "say(accept(j))")
    assert journal.recover() == [journal.row(job_id)]
    assert journal.recover() == []


# What a dead job left half-written


def left_behind(journal: Journal, scratch: Path | str) -> str | None:
    """Have the owner of a job with this leftover die; return what stays named after recovery."""
    job_id = accept(journal)
    journal.start(job_id)
    journal.note(job_id, scratch=scratch)
    disown(journal, job_id, gone())
    [row] = journal.recover()
    assert row == journal.row(job_id)
    return row.scratch


def test_a_part_file_and_a_part_folder_are_removed(journal: Journal, tmp_path: Path) -> None:
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "kept.png").touch()
    part = tmp_path / ".clip.mp4.part"
    part.touch()
    folder = tmp_path / ".frames.part"
    folder.mkdir()
    (folder / "0001.png").touch()
    (folder / "link").symlink_to(outside)
    assert left_behind(journal, part) is None
    assert left_behind(journal, folder) is None
    assert left_behind(journal, tmp_path / ".never-made.part") is None
    assert not part.exists()
    assert not folder.exists()
    assert (outside / "kept.png").exists()


@pytest.mark.parametrize("name", ["clip.mp4", ".clip.mp4", "clip.part", ".part", "..part/clip.mp4", ".a.part/.."])
def test_nothing_else_is_removed(journal: Journal, tmp_path: Path, name: str) -> None:
    for folder in ("..part", ".a.part"):
        (tmp_path / folder).mkdir()
    precious = tmp_path / name
    if not precious.is_dir():
        precious.write_bytes(b"precious")
    assert left_behind(journal, str(precious)) == str(precious)
    assert precious.exists()
    assert journal.rows()


def test_links_pipes_and_relative_names_are_left_alone(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target, folder = tmp_path / "video.mp4", tmp_path / "videos"
    target.touch()
    folder.mkdir()
    (folder / "one.mp4").touch()
    to_file, to_folder, pipe, here = (tmp_path / f".{n}.part" for n in ("x", "y", "pipe", "here"))
    to_file.symlink_to(target)
    to_folder.symlink_to(folder)
    os.mkfifo(pipe)
    here.touch()
    for scratch in (to_file, to_folder, pipe, here.name):
        assert left_behind(journal, scratch) == str(scratch)
    assert to_file.is_symlink()
    assert to_folder.is_symlink()
    assert pipe.is_fifo()
    assert here.exists()
    assert target.exists()
    assert (folder / "one.mp4").exists()


def test_a_leftover_that_a_living_job_took_over_stays(journal: Journal, tmp_path: Path) -> None:
    part = tmp_path / ".clip.mp4.part"
    part.touch()
    living = accept(journal)
    journal.start(living)
    journal.note(living, scratch=part)
    assert left_behind(journal, part) == str(part)
    assert part.exists()
    journal.finish(living, output=None, seconds=None)
    assert left_behind(journal, part) is None
    assert not part.exists()


# The file


def test_the_journal_lies_in_the_users_state_folder() -> None:
    assert Journal().path == paths.state_dir() / "journal.sqlite3"


def test_only_the_user_reads_the_journal(journal: Journal, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    Journal(path)
    with Database(path, [""]).writing() as db:
        db.execute("UPDATE jobs SET state = 'queued'")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("journal*")}
    assert modes.keys() > {path.name}
    assert set(modes.values()) == {0o600}, modes


def test_a_newer_journal_is_refused_and_untouched(journal: Journal, path: Path) -> None:
    accept(journal)
    with Database(path, [""]).reading() as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(RunError) as refused:
        Journal(path)
    assert refused.value.code == "journal-newer"
    assert any("Update" in sentence for sentence in refused.value.suggestions)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.corrupt-*"))


def test_an_older_file_is_migrated_whole_or_not_at_all(path: Path) -> None:
    first = "CREATE TABLE a (x); INSERT INTO a VALUES (1)"
    with Database(path, [first]).reading() as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
    with pytest.raises(sqlite3.OperationalError):
        Database(path, [first, "ALTER TABLE a ADD COLUMN y; ALTER TABLE nowhere ADD COLUMN z"])
    with Database(path, [first]).reading() as db:
        assert [column[1] for column in db.execute("PRAGMA table_info(a)")] == ["x"]
    with Database(path, [first, "ALTER TABLE a ADD COLUMN y"]).reading() as db:
        assert [tuple(row) for row in db.execute("SELECT x, y FROM a")] == [(1, None)]
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2


def scribble(path: Path) -> None:
    path.write_bytes(b"this was never a database\n" * 100)


def tear(path: Path) -> None:
    """Overwrite everything after the first page, as a dying disk may."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


@pytest.mark.parametrize("damage", [scribble, tear])
def test_a_damaged_journal_is_set_aside_and_told(journal: Journal, path: Path, damage: Callable[[Path], None]) -> None:
    for _ in range(20):
        accept(journal)
    damage(path)
    before = path.read_bytes()
    fresh = Journal(path)
    [aside] = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes() == before
    assert fresh.notice is not None
    assert str(aside) in fresh.notice
    assert fresh.notice.isprintable()
    assert fresh.rows() == []
    accept(fresh)
    again = Journal(path)
    assert again.notice is None
    assert len(again.rows()) == 1


def test_the_log_of_a_damaged_journal_goes_with_it(journal: Journal, path: Path) -> None:
    for _ in range(10):
        accept(journal, prompt="long " * 1000)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("SELECT * FROM jobs").fetchone()  # while somebody reads, the log stays
        accept(journal)
        tear(path)
        fresh = Journal(path)
        [log] = path.parent.glob("*.corrupt-*-wal")
        assert fresh.notice
        assert str(log).removesuffix("-wal") in fresh.notice
        assert fresh.rows() == []


def test_damage_found_while_in_use_is_told_and_then_mended_on_opening(journal: Journal, path: Path) -> None:
    accept(journal)
    scribble(path)
    with pytest.raises(RunError) as refused:
        journal.rows()
    assert refused.value.code == "journal-corrupt"
    assert path.read_bytes().startswith(b"this was never")
    assert Journal(path).notice
    assert accept(journal), "an open journal goes on with the new file"


def test_a_full_disk_is_told(journal: Journal, path: Path) -> None:
    accept(journal)
    with pytest.raises(RunError) as refused, Database(path, [""]).writing() as db:
        db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to say there is no more room
        for _ in range(100):
            db.execute(
                "INSERT INTO jobs SELECT id || random(), state, created, started, finished, model, task, prompt,"
                " hex(randomblob(4000)), file, device, owner, cancel_requested, output, scratch, seconds, error,"
                " recorded FROM jobs LIMIT 1"
            )
    assert refused.value.code == "journal-disk-full"
    assert refused.value.suggestions
    assert len(journal.rows()) == 1


def test_a_folder_that_cannot_be_written_is_told(child: Callable[[str], Child]) -> None:
    # pytest's own folders are closed to the user nobody, whom root has to become for a mode to mean anything.
    base = Path(tempfile.mkdtemp())
    try:
        base.chmod(0o777)
        process = child(f"""
if os.geteuid() == 0: os.setuid(65534)
base = Path({str(base)!r})
journal = Journal(base / "journal.sqlite3")
accept(journal)
go()
def accept_in_a_closed_file(): journal.path.chmod(0); accept(journal)  # of which SQLite says only that it cannot
for attempt in (lambda: accept(journal), lambda: Journal(base / "other.sqlite3"), accept_in_a_closed_file):
    try: attempt()
    except WanError as error: say(error.code, len(error.suggestions))
""")
        assert heard(process) == "ready"
        base.chmod(0o555)
        tell(process)
        assert [heard(process) for _ in range(3)] == ["journal-read-only 1"] * 3
    finally:
        base.chmod(0o755)
        shutil.rmtree(base)


def test_a_place_where_no_file_can_be_is_told(path: Path) -> None:
    path.mkdir()
    with pytest.raises(RunError) as refused:
        Journal(path)
    assert refused.value.code == "journal-unavailable"
    assert path.is_dir()
    with pytest.raises(RunError):
        Journal(Path("/proc/journal.sqlite3"))
    with pytest.raises(RunError):
        Journal(path.parent / "journal.sqlite3.lock" / "journal.sqlite3")


def test_a_journal_that_vanished_is_told(journal: Journal, path: Path) -> None:
    path.unlink()
    with pytest.raises(RunError) as refused:
        accept(journal)
    assert refused.value.code == "journal-unavailable"
    assert not path.exists(), "and not made again without its tables"


# Where the file lies

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:45 / /home rw,relatime shared:1 - nfs4 server:/export/home rw,vers=4.2
41 40 0:46 / /home/ann/local rw,relatime shared:2 master:3 - xfs /dev/vdb rw
42 27 0:47 / /mnt/with\040space rw - cifs //server/share rw
43 27 0:48 / /mnt/remote rw - fuse.sshfs user@host:/ rw
44 27 0:49 / /mnt/plain rw - ext4 /dev/vdc rw
45 44 0:50 / /mnt/plain rw - lustre mds@tcp:/scratch rw
46 27 0:51 / /mnt/auto rw - autofs /etc/auto.home rw
47 46 0:52 / /mnt/auto rw - nfs server:/auto rw
48 27 0:53 / /mnt/host rw - 9p drvfs rw
49 27 0:54 / /mnt/ntfs rw - fuseblk /dev/sdd1 rw
"""


@pytest.mark.parametrize(
    ("where", "local"),
    [
        ("/var/lib/j", True),
        ("/home/ann/.local/state/j", False),
        ("/home/ann/local/j", True),
        ("/home/ann/localised/j", False),
        ("/homes/j", True),
        ("/mnt/with space/j", False),
        ("/mnt/with", True),
        ("/mnt/remote/j", False),
        ("/mnt/plain/j", False),
        ("/mnt/auto/j", False),
        ("/mnt/host/j", False),
        ("/mnt/ntfs/j", True),
    ],
)
def test_what_counts_as_local(where: str, local: bool) -> None:
    assert is_local(Path(where), MOUNTS.strip()) is local


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/home/ann/.local")
    assert not is_local(tmp_path / "link" / "j", MOUNTS.strip())


def test_nothing_is_local_where_mounts_are_unknown() -> None:
    assert not is_local(Path("/var/lib/j"), "")


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete")])
def test_the_log_follows_the_file_system(path: Path, kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = path.with_name("mountinfo")
    monkeypatch.setattr(database, "_MOUNTINFO", mounts)
    for earlier in ("ext4", "nfs4", kind):  # a home folder may move
        mounts.write_text(f"27 1 254:0 / / rw - {earlier} device rw\n")
        accept(Journal(path))
    with Database(path, [""]).reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == mode
    assert len(Journal(path).rows()) == 3


def test_one_journal_serves_many_threads(journal: Journal) -> None:
    job_id = accept(journal)
    won: list[bool] = []
    threads = [threading.Thread(target=lambda: won.append(journal.start(job_id))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_a_file_where_the_state_folder_should_be_is_named(own_home: Path) -> None:
    place = own_home / "state" / "wan-tui"
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    with pytest.raises(RunError) as caught:
        Journal()
    assert caught.value.code == "journal-unavailable"
    assert place.read_text() == "in the way"
