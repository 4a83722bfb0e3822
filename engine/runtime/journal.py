"""The journal: every accepted job, from the queue to the history, in a file that survives a crash.

A job belongs to the process that accepted it, and only that process moves it on. Others may ask for a cancel, and may
say of a job whose process is gone that it was interrupted.

    queued ──> running ──> finished | failed | cancelled
    queued ──> cancelled
    queued | running ──> interrupted, when its process died
"""

from __future__ import annotations

import difflib
import json
import shutil
import sqlite3
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from engine import paths
from engine.errors import JobError
from engine.runtime.database import Database, explained
from engine.runtime.owner import Owner


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


LIVE = (State.QUEUED, State.RUNNING)
_IS_LIVE = "state IN ('queued', 'running')"  # worded as in the index, or SQLite does not use it

# One script a version of the file; those that shipped never change.
_MIGRATIONS = (
    f"""
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        created TEXT NOT NULL,
        started TEXT,
        finished TEXT,
        model TEXT NOT NULL,
        task TEXT NOT NULL,
        prompt TEXT NOT NULL,
        job_toml TEXT NOT NULL,
        file TEXT,
        device TEXT,
        owner TEXT NOT NULL,
        cancel_requested TEXT,
        output TEXT,
        scratch TEXT,
        seconds REAL,
        error TEXT,
        recorded TEXT
    );
    CREATE INDEX jobs_live ON jobs (state) WHERE {_IS_LIVE};
    """,
)
_NOTABLE = {"device", "output", "scratch", "seconds", "recorded"}


@dataclass(frozen=True)
class JobRow:
    """One job of the journal. Times are ISO 8601 in UTC."""

    id: str
    state: State
    created: str
    started: str | None
    finished: str | None
    model: str
    task: str
    prompt: str
    job_toml: str
    file: str | None
    device: str | None
    owner: Owner
    cancel_requested: str | None
    output: str | None
    scratch: str | None
    seconds: float | None
    error: dict[str, Any] | None
    recorded: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """The shape of a job printed as JSON."""
        return asdict(self)


class Journal:
    """The jobs of one user. `notice` is a sentence to show when opening it had to set a damaged file aside.

    `start`, `note`, `finish`, `fail` and `cancelled` return False and change nothing when the job belongs to another
    process or may not go there: one that is over stays as it is. They raise JobError `unknown-job`.

    Every method may raise RunError `journal-read-only`, `journal-disk-full`, `journal-busy`, `journal-corrupt` or
    `journal-unavailable`.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the journal, made or brought up to date first.

        Raises RunError `journal-newer` when a later version of the program wrote it.
        """
        if path is None:
            path = paths.state_place() / "journal.sqlite3"
            with explained(path):
                paths.state_dir()
        self._database = Database(path, _MIGRATIONS)
        self.path = self._database.path
        self.notice = self._database.notice

    # What the owner of a job does

    def accept(
        self,
        *,
        model: str,
        task: str,
        prompt: str,
        job_toml: str,
        file: Path | str | None = None,
        device: str | None = None,
    ) -> str:
        """Queue a job as ours and return its id. Ids sort as the jobs were accepted."""
        columns = {
            "state": State.QUEUED,
            "model": model,
            "task": task,
            "prompt": prompt,
            "job_toml": job_toml,
            "file": file,
            "device": device,
            "owner": Owner.me().as_text(),
        }
        with self._database.writing() as db:
            now, job_id = _new_id(db)
            _insert(db, id=job_id, created=_iso(now), **columns)
        return job_id

    def start(self, job_id: str) -> bool:
        """Queued to running."""
        return self._move(job_id, (State.QUEUED,), state=State.RUNNING, started=_iso(_now()))

    def note(self, job_id: str, **columns: Any) -> bool:
        """Write down `device`, `output`, `scratch`, `seconds` or `recorded` of a job that is not over.

        `scratch` is the unfinished file or folder, an absolute path, that `recover` removes should we die.
        """
        if unknown := columns.keys() - _NOTABLE:
            raise TypeError(f"not to be noted: {', '.join(sorted(unknown))}")
        return self._move(job_id, LIVE, **columns)

    def finish(
        self,
        job_id: str,
        *,
        output: Path | str | None,
        seconds: float | None,
        recorded: Mapping[str, Any] | None = None,
    ) -> bool:
        """Running to finished. `recorded` replaces what was noted, when given."""
        figures = {} if recorded is None else {"recorded": recorded}
        return self._end(
            job_id, (State.RUNNING,), State.FINISHED, output=output, seconds=seconds, scratch=None, **figures
        )

    def fail(self, job_id: str, error: Mapping[str, Any]) -> bool:
        """Running to failed; `error` is what `WanError.as_dict()` gives."""
        return self._end(job_id, (State.RUNNING,), State.FAILED, error=error)

    def cancelled(self, job_id: str, reason: str = "user") -> bool:
        """Queued or running to cancelled."""
        return self._end(job_id, LIVE, State.CANCELLED, cancel_requested=reason)

    def cancel_requests(self) -> dict[str, str]:
        """Jobs of this process that somebody asked to stop, with the reason given."""
        with self._database.reading() as db:
            asked = _each(db, f"{_IS_LIVE} AND owner = ? AND cancel_requested IS NOT NULL", Owner.me().as_text())
            return {row.id: row.cancel_requested or "" for row in asked}

    # What anybody does

    def request_cancel(self, job_id: str, reason: str = "user") -> str:
        """Have a job stopped, and say in a sentence what came of it. `job_id`, and what is raised, as for `row`.

        Its process is asked to stop it; where that process is certainly gone, the job is cancelled at once.
        """
        with self._database.writing() as db:
            row = _find(db, job_id)
            if row.state not in LIVE:
                return f"Job {row.id} is over already: {row.state}."
            if row.owner.alive() is not False:
                _update(db, row.id, cancel_requested=row.cancel_requested or reason)
                return f"Job {row.id} was asked to stop; {row.owner} has it {row.state}."
            scratch = _clear_scratch(db, row)
            _update(db, row.id, state=State.CANCELLED, finished=_iso(_now()), cancel_requested=reason, scratch=scratch)
            return f"Job {row.id} is cancelled; its {row.owner} was gone already."

    def recover(self) -> list[JobRow]:
        """Mark the jobs whose process died as interrupted, remove what they left half-written, and return them.

        Each is returned once, however many processes recover at a time. A leftover that could not be removed, or is
        not surely ours, stays named in `scratch`.
        """
        with self._database.writing() as db:
            dead = [row for row in _select(db, _IS_LIVE) if row.owner.alive() is False]
            for row in dead:
                _update(db, row.id, state=State.INTERRUPTED)
            for row in dead:
                _update(db, row.id, scratch=_clear_scratch(db, row))
            return [_find(db, row.id) for row in dead]

    def rows(self, limit: int | None = None, states: Collection[str] | None = None) -> list[JobRow]:
        """Jobs, newest first. One whose process is gone is shown as interrupted, though nobody has recovered it yet."""
        wanted = frozenset(State(s) for s in (State if states is None else states))
        stored = wanted.union(LIVE) if State.INTERRUPTED in wanted else wanted
        where = f"state IN ({', '.join('?' * len(stored))})"
        with self._database.reading() as db:
            seen = (_as_seen(row) for row in _each(db, where, *stored))
            return list(islice((row for row in seen if row.state in wanted), limit))

    def row(self, job_id: str) -> JobRow:
        """One job, by its id, an unambiguous beginning of it, or `last`.

        Raises JobError `unknown-job` with the nearest ids, or `ambiguous-job` with those that begin so.
        """
        with self._database.reading() as db:
            return _as_seen(_find(db, job_id))

    # How it is kept

    def _end(self, job_id: str, sources: Collection[State], state: State, **columns: Any) -> bool:
        return self._move(job_id, sources, state=state, finished=_iso(_now()), **columns)

    def _move(self, job_id: str, sources: Collection[State], **columns: Any) -> bool:
        me = Owner.me()
        with self._database.writing() as db:
            found = _select(db, "id = ?", _cell(job_id))
            if not found:
                raise _unknown(db, job_id)
            if found[0].state not in sources or found[0].owner != me:
                return False
            _update(db, job_id, **columns)
            return True


def runs_on(device: str, limit: int, path: Path | None = None) -> list[JobRow]:
    """The last jobs a device finished, newest first, of the last 500 there are; none where no journal can be read.

    The journal is neither made nor mended for it.
    """
    lately = "id >= (SELECT min(id) FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT 500))"
    path = path or paths.state_place() / "journal.sqlite3"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return _select(db, f"state = 'finished' AND device = ? AND {lately}", device, limit=limit)
    except (sqlite3.Error, TypeError, ValueError, RecursionError):  # or rows of a later version
        return []


def _select(db: sqlite3.Connection, where: str, *values: object, limit: int = -1) -> list[JobRow]:
    return [*_each(db, where, *values, limit=limit)]


def _each(db: sqlite3.Connection, where: str, *values: object, limit: int = -1) -> Iterator[JobRow]:
    """Jobs, newest first."""
    for found in db.execute(f"SELECT * FROM jobs WHERE {where} ORDER BY id DESC LIMIT {limit}", values):
        columns = dict(found)
        for name in ("error", "recorded"):
            columns[name] = columns[name] and json.loads(columns[name])
        yield JobRow(**columns | {"state": State(found["state"]), "owner": Owner.from_text(found["owner"])})


def _insert(db: sqlite3.Connection, **columns: object) -> None:
    places = ", ".join("?" * len(columns))
    db.execute(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({places})", [*map(_cell, columns.values())])


def _update(db: sqlite3.Connection, job_id: str, **columns: object) -> None:
    settings = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE jobs SET {settings} WHERE id = ?", (*map(_cell, columns.values()), job_id))


def _cell(value: object) -> object:
    """A value as SQLite keeps it."""
    if isinstance(value, Mapping):
        return json.dumps(dict(value), default=str)
    if isinstance(value, str | Path):  # half a surrogate pair, from a file name that is no UTF-8, becomes readable
        return str(value).encode(errors="backslashreplace").decode()
    return value


def _find(db: sqlite3.Connection, wanted: str) -> JobRow:
    """The job meant by an id, an unambiguous beginning of one, or `last`."""
    if wanted == "last":
        found = _select(db, "TRUE", limit=1)
    else:
        text = _cell(wanted)
        found = _select(db, "id >= ? AND id < ?", text, f"{text}\U0010ffff", limit=5) if text else []
    if not found:
        raise _unknown(db, wanted)
    if len(found) > 1:
        ids = ", ".join(row.id for row in found)
        raise JobError("ambiguous-job", f"More than one job begins with {wanted}: {ids}.", suggestions=["Type more."])
    return found[0]


def _unknown(db: sqlite3.Connection, wanted: str) -> JobError:
    ids = [row[0] for row in db.execute("SELECT id FROM jobs ORDER BY id DESC LIMIT 1000")]
    nearest = difflib.get_close_matches(wanted, ids)
    hint = f"The nearest are: {', '.join(nearest)}." if nearest else "`wan-tui jobs list` shows those there are."
    return JobError("unknown-job", f"The journal holds no job {wanted}.", suggestions=[hint])


def _as_seen(row: JobRow) -> JobRow:
    dead = row.state in LIVE and row.owner.alive() is False
    return replace(row, state=State.INTERRUPTED) if dead else row


def _clear_scratch(db: sqlite3.Connection, row: JobRow) -> str | None:
    """Remove what a dead job left half-written; return what is still there and so stays named."""
    if row.scratch is None or _select(db, f"{_IS_LIVE} AND scratch = ? AND id <> ?", row.scratch, row.id):
        return row.scratch  # a job that lives has taken the name over
    return None if _remove_scratch(Path(row.scratch)) else row.scratch


def _remove_scratch(path: Path) -> bool:
    """Remove a part file or part folder of ours, and nothing else. True when it is gone."""
    if not (path.is_absolute() and path.name.startswith(".") and path.suffix == ".part"):
        return False
    try:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        elif stat.S_ISREG(mode):
            path.unlink()
        else:
            return False
    except FileNotFoundError:
        return True
    except OSError:  # not permitted, a file system gone: the row goes on naming it
        return False
    return True


def _new_id(db: sqlite3.Connection) -> tuple[datetime, str]:
    """Now, and an id that tells it: day, time, and the fraction of the second in hex."""
    while True:
        now = _now()
        job_id = f"{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}"
        if not _select(db, "id = ?", job_id):
            return now, job_id


def _now() -> datetime:
    return datetime.now(UTC)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
