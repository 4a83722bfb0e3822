"""Fills this user's journal with finished videos, for benchmarks: `python -m benchmarks.many_clips COUNT`."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

from engine.job import Job
from engine.runtime.journal import Journal, State


def main() -> None:
    count = int(sys.argv[1])
    journal = Journal()
    folder = Path.home() / "outputs"
    folder.mkdir(exist_ok=True)
    job = Job(model="t2v-1.3B", prompt="a cat walks along a wall", width=832, height=480, frames=81, seed=1)
    first = journal.accept(model=job.model, task="text", prompt=job.prompt, job_toml=job.toml())
    with sqlite3.connect(journal.path) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        row = dict(zip(columns, db.execute("SELECT * FROM jobs WHERE id = ?", (first,)).fetchone(), strict=True))
        for number in range(count):
            video = folder / f"clip-{number}.mp4"
            video.write_bytes(b"\0" * 64)
            done = {"id": f"20260101-{number:06}-0000", "state": State.FINISHED, "output": str(video), "seconds": 60.0}
            new = row | done | {"finished": row["created"], "recorded": json.dumps({"frames": 81, "seed": number})}
            marks = ", ".join("?" * len(columns))
            db.execute(f"INSERT INTO jobs VALUES ({marks})", [new[name] for name in columns])
        db.execute("DELETE FROM jobs WHERE id = ?", (first,))


if __name__ == "__main__":
    main()
