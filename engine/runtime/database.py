"""The SQLite file under the journal: made, brought up to date, set aside when damaged, and its failures named.

Every use opens its own connection. That costs about a millisecond, a few times a job, and makes the file safe to share
between threads and across a fork, and keeps a process well after another has replaced a damaged file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import RunError

_PATIENCE_SECONDS = 15.0  # for other processes to end their write

_MOUNTINFO = Path("/proc/self/mountinfo")
_SHARED_FILESYSTEMS = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "fuse"),
    *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs"),
}

_FAILURES = {
    "journal-read-only": (
        "The journal {path} cannot be written.",
        "Make {folder} writable for yourself, or set XDG_STATE_HOME to a folder that is.",
    ),
    "journal-disk-full": (
        "The disk that holds the journal {path} is full.",
        "Free some space there, or set XDG_STATE_HOME to a folder on another disk.",
    ),
    "journal-busy": (
        "Another process has kept the journal {path} locked too long.",
        "Try again; if it stays so, look for a stopped wan-tui process.",
    ),
    "journal-corrupt": (
        "The journal {path} is damaged.",
        "Start wan-tui again: it sets the damaged file aside, deleting nothing, and begins a new one.",
    ),
    "journal-unavailable": (
        "The journal {path} cannot be used.",
        "Look at what {folder} is and holds, or set XDG_STATE_HOME to another folder.",
    ),
}

_SQLITE_CODES = {
    sqlite3.SQLITE_READONLY: "journal-read-only",
    sqlite3.SQLITE_PERM: "journal-read-only",
    sqlite3.SQLITE_FULL: "journal-disk-full",
    sqlite3.SQLITE_BUSY: "journal-busy",
    sqlite3.SQLITE_CORRUPT: "journal-corrupt",
    sqlite3.SQLITE_NOTADB: "journal-corrupt",
    sqlite3.SQLITE_CANTOPEN: "journal-unavailable",
    sqlite3.SQLITE_IOERR: "journal-unavailable",
}

_ERRNO_CODES = {
    errno.EACCES: "journal-read-only",
    errno.EPERM: "journal-read-only",
    errno.EROFS: "journal-read-only",
    errno.ENOSPC: "journal-disk-full",
    errno.EDQUOT: "journal-disk-full",
}


class Database:
    """One SQLite file, shared by threads and processes. `notice` tells of a damaged one set aside on opening.

    `migrations` are SQL scripts: version n of the file is what the first n of them make.
    """

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        """Open the file, made or migrated first.

        Raises RunError `journal-newer` when a later version of the program wrote it, and those of `explained`.
        """
        self.path = path.absolute()
        self.notice: str | None = None
        with explained(self.path), self._alone():
            self._prepare(migrations)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with. Raises the errors of `explained`."""
        with explained(self.path), self._connected() as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among writers, undone as a whole when anything is raised inside.

        Raises the errors of `explained`.
        """
        with self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.as_uri()}?mode=rw"  # never makes the file: `_prepare` does, with its mode and tables
        with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE_SECONDS, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            yield db

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off others that open the file: making, migrating and replacing it is for one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _prepare(self, migrations: Sequence[str]) -> None:
        if damage := self._damage(len(migrations)):
            self.notice = self._set_aside(damage)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        elif stat.S_IMODE(self.path.stat().st_mode) != 0o600:
            self.path.chmod(0o600)  # by name: closing a handle of ours would drop the locks SQLite holds on the file
        with self._connected() as db:
            db.execute(f"PRAGMA journal_mode = {'WAL' if is_local(self.path, _mountinfo()) else 'DELETE'}")
            version = _version(db)
            for number, script in enumerate(migrations[version:], version + 1):
                db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")

    def _damage(self, known: int) -> str | None:
        """What is broken inside the file, if anything is."""
        if not self.path.exists():
            return None
        try:
            with self._connected() as db:
                if _version(db) > known:  # first: an older SQLite may take a newer schema for damage
                    raise _newer(self.path)
                verdict = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            if _code(error, self.path) != "journal-corrupt":
                raise
            return str(error)
        return None if verdict == "ok" else verdict.splitlines()[-1]  # a heading comes first

    def _set_aside(self, damage: str) -> str:
        aside = f"{self.path}.corrupt-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        for tail in ("-wal", "-journal", "-shm", ""):  # the file last: a log left behind would be played into the new
            part = Path(f"{self.path}{tail}")
            if part.exists():
                part.rename(f"{aside}{tail}")
        return f"The journal was damaged ({damage}). It is kept as {aside}; a new, empty one takes its place."


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name what fails inside: RunError `journal-read-only`, `-disk-full`, `-busy`, `-corrupt` or `-unavailable`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        code = _code(error, path)
        if code is None:
            raise
        message, remedy = _FAILURES[code]
        raise RunError(
            code, message.format(path=path), cause=str(error), suggestions=[remedy.format(folder=path.parent)]
        ) from error


def _code(error: sqlite3.Error | OSError, path: Path) -> str | None:
    """The name of a failure of the file; None for a mistake of ours, such as wrong SQL."""
    if isinstance(error, OSError):
        return _ERRNO_CODES.get(error.errno or 0, "journal-unavailable")
    code = _SQLITE_CODES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)  # what is above the low byte is detail
    if code == "journal-unavailable":  # SQLite does not say why it cannot open or write; writing beside it does
        try:
            with tempfile.TemporaryFile(dir=path.parent) as probe:
                probe.write(bytes(1 << 16))
        except OSError as reason:
            return _code(reason, path)
    return code


def _newer(path: Path) -> RunError:
    return RunError(
        "journal-newer",
        f"The journal {path} was written by a newer version of wan-tui.",
        cause="This version could not keep all that the newer one records.",
        suggestions=["Update wan-tui.", f"Or move {path} away: a new journal is begun, without that history."],
    )


def is_local(path: Path, mountinfo: str) -> bool:
    """Whether `path` lies on a file system of this box alone, going by the text of /proc/self/mountinfo.

    SQLite's write-ahead log needs memory shared by all who use the file, and no network file system gives that.
    """
    real = Path(os.path.realpath(path))
    depth, kind = 0, ""
    for line in mountinfo.splitlines():
        where, _, what = line.partition(" - ")
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), where.split()[4]))
        if len(mount.parts) >= depth and real.is_relative_to(mount):  # of two on one spot, the later covers the earlier
            depth, kind = len(mount.parts), what.split()[0]
    return bool(kind) and kind.split(".")[0] not in _SHARED_FILESYSTEMS  # fuse.sshfs is a fuse


def _mountinfo() -> str:
    """Empty where the system has none: nothing is then taken for local."""
    try:
        return _MOUNTINFO.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
