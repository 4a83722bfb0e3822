"""Where things live: what ships with the program, the user's folders, and atomic writes into them."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_APP = "wan-tui"


def shipped(name: str) -> Path:
    """A file or folder that ships with the program: `models.toml`, `themes`, the built-in model `demo`.

    They lie at the root of a checkout and, in an installed wheel, beside this file under `_data`.
    """
    here = Path(__file__).resolve().parent
    installed = here / "_data" / name
    return installed if installed.exists() else here.parent / name


def _private(folder: str) -> Path:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def state_place() -> Path:
    """Where the journal and the logs lie; it need not be there yet, and perhaps cannot be."""
    return Path(platformdirs.user_state_dir(_APP))


def state_dir() -> Path:
    """The journal and the logs: what must survive."""
    return _private(str(state_place()))


def cache_dir() -> Path:
    """What can be made again: prompt embeddings, digests."""
    return _private(platformdirs.user_cache_dir(_APP))


def data_place() -> Path:
    """Where facts lie that came after the program; it need not be there yet."""
    return Path(platformdirs.user_data_dir(_APP))


def data_dir() -> Path:
    """The same, made when absent."""
    return _private(str(data_place()))


def log_file() -> Path:
    return state_dir() / "wan-tui.log"


def models_root() -> Path | None:
    """The folder named by `MODELS_ROOT`, or None when models live in the Hugging Face cache alone."""
    value = os.environ.get("MODELS_ROOT")
    return Path(os.path.expanduser(value)).absolute() if value else None


def hub_cache() -> Path:
    """The Hugging Face cache, found the way its own client finds it, without importing that client."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def drop_oldest(folder: Path, pattern: str, most_bytes: int) -> None:
    """Remove the oldest of a folder's files of that pattern, so that the others take no more than so many bytes."""
    entries = sorted(((f.stat().st_mtime_ns, f.stat().st_size, f) for f in folder.glob(pattern)), reverse=True)
    total = 0
    for _, size, entry in entries:
        total += size
        if total > most_bytes:
            entry.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write `data` under a temporary name beside `path`, then rename: readers see the old bytes or the new.

    It is for this user alone, or `shared` with whom the umask lets read.
    """
    name = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}.part")
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if shared else 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
