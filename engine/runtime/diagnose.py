"""`diagnose`: all there is to know about a model on this box, in one file that may be passed on."""

from __future__ import annotations

import errno
import hmac
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from engine.catalog import Catalog
from engine.compat.finding import Finding
from engine.compat.redact import known_secrets, redacted
from engine.control import Control
from engine.errors import Cancelled, FitError, JobError, ModelError
from engine.events import Bus
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.jsonfile import read_json
from engine.library.locate import look
from engine.paths import state_dir, write_atomic
from engine.runtime.check import Subject, check
from engine.runtime.failure import explain
from engine.runtime.record import versions
from engine.runtime.report import Report
from engine.runtime.smoke import file_name
from engine.runtime.testload import check_device, loadable, try_load

SUFFIX = "_compat.json"
_MOST_FILES = 500
_MOST_BYTES = 64 << 20  # of a report that is looked into
_KEY = "report.key"
# What decides where models are looked for and how they run; tokens and passwords in them are taken out.
_SETTINGS = (
    "MODELS_ROOT",
    "WAN_MODELS_MANIFEST",
    "WAN_TUI_LOCKS",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HTTPS_PROXY",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
)

Facts = dict[str, Any]


def diagnose(
    about: Subject,
    catalog: Catalog,
    folder: Path,
    bus: Bus,
    control: Control,
    *,
    load: bool = True,
    device: str = "auto",
) -> tuple[Path, Facts]:
    """Write the report about a model into `folder`; its path and what it says. Raises `JobError` where it cannot be
    written (`bad-output`) or there is no such device, `ModelError` where there is nothing to report about, and
    `Cancelled`.

    It is written before anything is loaded, and again after: a process that is ended for its memory leaves a report.
    """
    report = check(about, catalog)
    if load:
        check_device(device, report.machine)
    facts = _facts(about, report)
    hidden = known_secrets()
    path = _claim(folder, file_name(redacted(about.name, hidden)), facts["model"]["mark"])

    def write(attempt: Facts) -> Facts:
        facts["load_attempt"] = attempt
        facts["errors"] = [*_of(report, "error"), *_failures(attempt)]
        facts["recommendations"] = _recommendations(report, attempt)
        clean: Facts = redacted(facts, hidden)
        _write(path, clean)
        return clean

    if not load:
        return path, write({"attempted": False, "why": "It was not asked for."})
    try:
        item = loadable(about, report, catalog)
    except ModelError as error:
        return path, write({"attempted": False, "why": error.message})
    write({"attempted": True, "state": "started"})
    return path, write(_attempt(lambda: try_load(item, report, catalog, bus, control, device=device).as_dict(), write))


def _attempt(load: Callable[[], Facts], write: Callable[[Facts], Facts]) -> Facts:
    try:
        done = load()
    except FitError as error:
        return {"attempted": False, "why": error.message}
    except JobError:  # no such device: bad usage
        write({"attempted": False, "why": "The device asked for is not on this box."})
        raise
    except Cancelled:
        write({"attempted": True, "state": "cancelled"})
        raise
    except Exception as error:  # noqa: BLE001  (named, and part of the report)
        return {"attempted": True, "state": "failed", "error": explain(error).as_dict()}
    bad = any(part["error"] for part in done["components"])
    kept = {key: done[key] for key in ("device", "components", "seconds")}
    return {"attempted": True, "state": "failed" if bad else "loaded", **kept}


def _facts(about: Subject, report: Report) -> Facts:
    said = report.as_dict()
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": versions(),
        "system": {**said["environment"], "settings": _settings()},
        "model": {
            "name": report.name,
            "id": about.item.id if about.item else None,
            "mark": _mark(about),
            **{key: said[key] for key in ("path", "state", "family", "version", "tasks", "architecture", "like")},
            "memory": said["memory"],
            "outlook": said["outlook"],
            "files": list(_files(about.item, report)),
            "usable_components": said["usable_components"],
            "registry": said["registry"],
        },
        "report": {"verdict": report.verdict, "findings": said["findings"]},
        "load_attempt": {},
        "errors": [],
        "warnings": _of(report, "warning"),
        "notes": _of(report, "note"),
        "recommendations": [],
        "alternatives": said["alternatives"],
    }


def _of(report: Report, severity: str) -> list[Facts]:
    return [finding.as_dict() for finding in report.of(severity)]


def _failures(attempt: Facts) -> Iterator[Facts]:
    """The errors of a load attempt, in the form of findings."""
    told = [(part["name"], part["error"]) for part in attempt.get("components", ())]
    for component, error in [*told, (None, attempt.get("error"))]:
        if error:
            found = Finding(
                "error",
                error["code"],
                error["message"],
                error["cause"],
                tuple(error["suggestions"]),
                component=component,
            )
            yield {**found.as_dict(), "actions": error["actions"]}


def _recommendations(report: Report, attempt: Facts) -> list[str]:
    """What to do, the gravest first, each once: command lines and sentences."""
    steps: list[str] = []
    for finding in (*report.of("error"), *report.of("warning")):
        steps += [*(remedy.command for remedy in finding.remedies), *finding.suggestions]
    for error in _failures(attempt):
        steps += error["suggestions"]
    return list(dict.fromkeys(steps))


def _files(item: Item | None, report: Report) -> Iterator[Facts]:
    """What lies on disk of it; of a folder with very many files the first."""
    copy = look(item, Digests()) if item else None
    if copy and copy.files:
        for file in copy.files[:_MOST_FILES]:
            shown = {"path": file.info.path, "state": file.state, "bytes": file.info.size}
            yield {**shown, "present_bytes": file.present_bytes}
        return
    top = report.path
    if top is None or not top.is_dir():
        if top is not None and top.is_file():
            yield {"path": top.name, "bytes": top.stat().st_size}
        return
    count = 0
    for parent, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > _MOST_FILES:
                return
            file_path = Path(parent, name)
            try:
                size = file_path.stat().st_size
            except OSError:  # a broken link, or gone meanwhile
                size = None
            yield {"path": file_path.relative_to(top).as_posix(), "bytes": size}


def _settings() -> dict[str, str]:
    found = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    token = {name: "(set)" for name in ("HF_TOKEN",) if os.environ.get(name)}
    return {**found, **token}


def _mark(about: Subject) -> str:
    """Tells a model from others of its name. A report leaves the user's name out of paths, so the path is mixed with a
    key that stays on this box: of a bare hash the name could be guessed."""
    what = about.item.id if about.item else os.path.realpath(about.path or "")
    return hmac.new(_key(), os.fsencode(what), "sha256").hexdigest()[:24]


def _key() -> bytes:
    with suppress(OSError):
        file = state_dir() / _KEY
        if not file.exists():
            write_atomic(file, secrets.token_bytes(32))
        return file.read_bytes()
    return secrets.token_bytes(32)  # nowhere to keep one: no report is known again, and none is replaced


def _claim(folder: Path, name: str, mark: str) -> Path:
    """The file for the report: that of the same model, else a new one. Another model of the same name keeps its own."""
    path = folder / f"{name}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(2):
            with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                json.dump({"model": {"mark": mark}}, file)
                return path
            if not _is_ours(path):
                raise _unwritable(path, "something that is no report of yours has that name")
            if _marked(path) == mark:
                return path
            path = folder / f"{name}-{number}{SUFFIX}"
    except OSError as error:
        raise _refused(path, error) from None
    raise AssertionError  # there is always a next number


def _marked(path: Path) -> object:
    """Which model a report is about; None where it does not say."""
    try:
        model = read_json(path, _MOST_BYTES).get("model")
    except ModelError:
        return None
    return model.get("mark") if isinstance(model, dict) else None


def _write(path: Path, facts: Facts) -> None:
    try:
        # Paths that are no valid UTF-8 are escaped.
        write_atomic(path, (json.dumps(facts, indent=2) + "\n").encode(), shared=True)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> Exception:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # it has a name of its own
    return error if full else _unwritable(path, error.strerror or str(error))


def _is_ours(path: Path) -> bool:
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()


def _unwritable(path: Path, why: str) -> JobError:
    return JobError(
        "bad-output",
        f"The report cannot be written to {path}.",
        cause=why,
        suggestions=["Name another folder with --output."],
    )
