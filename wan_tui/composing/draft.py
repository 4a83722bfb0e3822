"""The form as it was left, kept over restarts. It reads and writes the disk: call it from a thread."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.jobfile import job_of_keys
from engine.paths import state_dir, state_place, write_atomic
from engine.regular import regular_bytes
from wan_tui.composing.form import KEPT, KEYS, SEED_MODES, Form
from wan_tui.composing.read import NAME, table_of

_NAME = "draft.json"
_MOST_BYTES = 2 << 20
_PATHS = ("inputs.", "output.path")


@dataclass(frozen=True)
class Draft:
    """`form` is empty where there is none; `problem` says why one that is there cannot be used."""

    form: Form
    problem: str | None = None


def load_draft(here: Path) -> Draft:
    """The form that was left; its paths are named for `here`."""
    file = state_place() / _NAME
    try:
        found = json.loads(regular_bytes(file, _MOST_BYTES))
        return Draft(_moved(_form(found, here), Path(str(found["here"])), here))
    except FileNotFoundError:
        return Draft(Form())
    except OSError as error:
        return Draft(Form(), f"What you last composed, {file}, cannot be read: {error.strerror}.")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, JobError):
        return Draft(Form(), f"What you last composed, {file}, is damaged. The form begins empty.")


def _form(found: Any, here: Path) -> Form:
    form = Form(dict(found["texts"]), found["seed_mode"], dict(found["kept"]))
    known = set(form.texts) <= set(KEYS) and set(form.kept) <= set(KEPT) and form.seed_mode in SEED_MODES
    if not known or not all(isinstance(text, str) for text in form.texts.values()):
        raise ValueError("not a form")
    job_of_keys(table_of(Form(kept=form.kept)), here / NAME)  # what no field shows nobody could correct
    return form


def _moved(form: Form, origin: Path, here: Path) -> Form:
    """Relative paths meant the folder the app was in."""
    if origin == here:
        return form
    texts = {
        key: "\n".join(_from(origin, line) for line in text.split("\n")) if key.startswith(_PATHS) else text
        for key, text in form.texts.items()
    }
    if (model := texts.get("model", "")).startswith(".") or "/" in model:
        texts["model"] = _from(origin, model) if os.path.lexists(origin / model) else model
    return replace(form, texts=texts)


def _from(origin: Path, text: str) -> str:
    return text if not text or text.startswith(("/", "~")) else str(origin / text)


class Keeper:
    """Writes drafts, the newest last whatever threads come first."""

    def __init__(self, here: Path) -> None:
        self._here = here
        self._lock = threading.Lock()
        self._kept: Form | None = None
        self._newest = 0

    def number(self) -> int:
        """For the next draft: to be asked for in the order they are made."""
        with self._lock:
            self._newest += 1
            return self._newest

    def keep(self, form: Form, number: int) -> None:
        """Write it, unless there is a newer one. Raises `JobError`."""
        with self._lock:
            if number < self._newest or form == self._kept:
                return
            table = {
                "here": str(self._here),
                "texts": dict(form.texts),
                "seed_mode": form.seed_mode,
                "kept": dict(form.kept),
            }
            try:
                write_atomic(state_dir() / _NAME, json.dumps(table).encode())
            except OSError as error:
                message = f"What you compose cannot be kept for the next start: {error.strerror}."
                raise JobError("not-written", message) from None
            self._kept = form
