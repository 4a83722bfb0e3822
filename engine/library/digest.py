"""SHA-256 of files, remembered while size, inode and times stay the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from engine.control import Control
from engine.paths import cache_dir, write_atomic

_CHUNK = 8 << 20
_STORE = "digests.json"
_KEPT = 10_000  # remembered files


def digest(files: Iterable[Path], control: Control) -> str:
    """One SHA-256 over the names and contents of `files`, in order. Raises `Cancelled` between chunks."""
    known = _read()
    fresh: dict[str, str] = {}
    total = hashlib.sha256()
    for file in files:
        info = file.stat()
        key = json.dumps([str(file.resolve()), info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino])
        if key not in known:
            fresh[key] = file_digest(file, control)
        total.update(f"{file.name} {fresh.get(key) or known[key]}\n".encode())
    if fresh:
        kept = list({**_read(), **fresh}.items())[-_KEPT:]
        with suppress(OSError):  # what cannot be remembered is counted again
            write_atomic(cache_dir() / _STORE, json.dumps(dict(kept)).encode())
    return total.hexdigest()


def file_digest(file: Path, control: Control | None = None) -> str:
    """SHA-256 of one file."""
    sha = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        buffer = memoryview(bytearray(_CHUNK))
        while count := stream.readinto(buffer):
            sha.update(buffer[:count])
            if control:
                control.check()
    return sha.hexdigest()


def _read() -> dict[str, str]:
    try:
        value = json.loads((cache_dir() / _STORE).read_bytes())
    except (OSError, ValueError):
        return {}  # absent or damaged: it is made again
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, dict) else {}
