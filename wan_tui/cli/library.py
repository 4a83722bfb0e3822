"""`wan-tui models download|verify|import|remove`: what changes the library."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.catalog import Catalog, load_catalog
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError, ModelError, WanError
from engine.events import Bus, Mailbox
from engine.library.adopt import adopt
from engine.library.digest import Digests
from engine.library.download import download, needed
from engine.library.hub import Manners, token_source
from engine.library.item import Item
from engine.library.locate import FileState, look
from engine.library.remove import plan_removal, remove
from engine.library.verify import Verified, verify
from engine.runtime.using import refuse_running
from engine.units import size
from wan_tui.cli.ask import agreed
from wan_tui.cli.errors import described, log_to_file
from wan_tui.printing import JsonLines
from wan_tui.shelf import actual_digest, bad_because, expected_digest, removal_lines
from wan_tui.signals import Signals
from wan_tui.text import plain
from wan_tui.transfers import TransferBar, TransferLines

PATIENCE_S = 10.0
_LOOK_S = 0.2
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([kMG]?)(i?)B?(?:/s)?", re.IGNORECASE)
_BRANCH = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


def command(args: argparse.Namespace) -> int:
    signals = Signals()
    log_to_file()
    session = _Session(args, load_catalog(), Control())
    signals.on_stop(session.control.cancel)
    verbs = {"download": _download, "verify": _verify, "import": _import, "remove": _remove}
    try:
        return verbs[args.action](session)
    except Cancelled:
        return Exit.TERMINATED if session.control.reason == "terminated" else Exit.CANCELLED
    finally:
        session.settle()


class _Session:
    """One command: its arguments, its stop switch, and the bus whose events are shown as they come."""

    def __init__(self, args: argparse.Namespace, catalog: Catalog, control: Control) -> None:
        self.args, self.catalog, self.control = args, catalog, control
        self.json: bool = args.json
        self.bus = Bus()
        on_terminal = os.isatty(2) and os.environ.get("TERM") != "dumb"
        paths = args.action == "download"
        bar = on_terminal and not args.quiet
        self._lines = TransferBar(paths=paths) if bar else TransferLines(quiet=args.quiet, paths=paths)
        self._mailbox: Mailbox | None = None
        if not self.json:
            self._mailbox = self.bus.subscribe(self._lines)
        elif args.action == "download":
            self._mailbox = self.bus.subscribe(JsonLines())

    def settle(self) -> None:
        """Let what was said be shown before anything else is printed."""
        if self._mailbox:
            self._mailbox.close(PATIENCE_S)

    def tell(self, text: str) -> None:
        """Something for people, on standard error."""
        if not self.json:
            self._lines.tell("\n".join(plain(line) for line in text.splitlines()))

    def answer(self, value: object, text: str) -> None:
        """What the command was asked for, on standard output: JSON or text."""
        self.settle()
        print(json.dumps(value, indent=2) if self.json else "\n".join(plain(line) for line in text.splitlines()))

    def items(self, *, present: bool = False) -> list[Item]:
        """The items named, or with `--all` every model; `present` leaves out those that are not on disk."""
        if not self.args.all and not self.args.model:
            raise JobError("no-model-named", "No model is named.", suggestions=["Name one, or give --all."])
        if self.args.all and self.args.model:
            raise JobError("bad-usage", "Models are named, and --all is given.", suggestions=["Give one of the two."])
        if not self.args.all:
            named = (Item(*self.catalog.find(name)) for name in self.args.model)
            return list({item.id: item for item in named}.values())
        found = [Item(spec) for spec in self.catalog.models if spec.repo]
        if not present:
            return found
        found += [Item(spec, variant) for spec in self.catalog.models for variant in spec.variants]
        digests = Digests()
        return [item for item in found if _has_own(item, digests)]

    def confirmed(self, question: str) -> bool:
        """Whether the user says yes. Raises `JobError` when there is nobody to ask and no `--yes`."""
        if self._mailbox:
            self._mailbox.drain(PATIENCE_S)
        return agreed(question, self.control, yes=self.args.yes, as_json=self.json)


def _has_own(item: Item, digests: Digests) -> bool:
    """Whether some of its own files are here; for a variant those it borrows do not count."""
    own = item.sources[0].repo if item.sources else None
    files = look(item, digests).files
    return any(file.present_bytes for file in files if not file.place or own in (None, file.place.repo))


# --- download ---------------------------------------------------------------------------------------------------------


def _download(session: _Session) -> int:
    args = session.args
    manners = Manners(rate=_rate(args.limit_rate))
    revision = _revision(args.revision)
    items = session.items()
    if args.all:
        _ask_for_all(session, items, manners)
    if source := token_source():
        session.tell(f"token    the one of {source} goes to the Hub")
    statuses = [_one(session, item, manners, revision) for item in items]
    return next((status for status in statuses if status), Exit.DONE)


def _one(session: _Session, item: Item, manners: Manners, revision: str | None) -> int:
    """Download one item. Its failure has been said on the bus; the next one is not held up by it."""
    try:
        download(item, session.bus, session.control, revision=revision, manners=manners)
    except WanError as error:
        return error.status
    return Exit.DONE


def _ask_for_all(session: _Session, items: Sequence[Item], manners: Manners) -> None:
    total = missing = 0
    for item in items:
        try:
            need = needed(item, session.control, manners=manners)
        except WanError as error:  # said again, and counted, when its turn comes
            session.tell(f"{item.id:<22} {error.message}")
            continue
        total, missing = total + need.total_bytes, missing + need.missing_bytes
        session.tell(f"{item.id:<22} {size(need.total_bytes):>10}, {size(need.missing_bytes)} to fetch")
    if not session.confirmed(f"{len(items)} models, {size(total)}: fetch {size(missing)}?"):
        raise Cancelled


def _rate(text: str | None) -> float | None:
    """`20MB` (a second), `500k`, `1.5GiB`."""
    if text is None:
        return None
    match = _RATE.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise JobError("bad-rate", f"{text!r:.40} is no rate.", suggestions=["Give bytes a second, such as 20MB."])
    step = 1024.0 if match[3] else 1000.0
    return float(match[1]) * float(step ** ("", "k", "m", "g").index(match[2].lower()))


def _revision(text: str | None) -> str | None:
    if text is not None and not _BRANCH.fullmatch(text):
        raise JobError(
            "bad-revision", f"{text!r:.80} is no revision.", suggestions=["Give a branch, a tag or a commit."]
        )
    return text


# --- verify -----------------------------------------------------------------------------------------------------------


def _verify(session: _Session) -> int:
    results: list[Verified] = []
    failures: list[WanError] = []
    for item in session.items(present=True):
        try:
            result = verify(item, session.bus, session.control, quick=session.args.quick)
        except WanError as error:
            failures.append(error)
            session.tell(described(error))
            result = Verified(item.id, "unknown", ())
        if session.args.repair and result.state in ("partial", "corrupt"):
            session.tell(f"repair   {item.id}: {len(result.bad) or 'some'} files")
            try:
                download(item, session.bus, session.control)
            except WanError as error:  # said on the bus
                failures.append(error)
            result = verify(item, session.bus, session.control, quick=True)
        results.append(result)
    rows = [{"id": one.id, "state": one.state, "files": [_file_row(file) for file in one.files]} for one in results]
    text = "\n".join(_verified_lines(one) for one in results)
    answer: dict[str, Any] = {"models": rows}
    if failures:
        answer["errors"] = [error.as_dict() for error in failures]
    session.answer(answer, text or "Nothing is on disk yet.")
    bad = any(one.bad or one.state not in ("complete", "verified") for one in results)
    return failures[0].status if failures else Exit.MODEL if bad else Exit.DONE


def _file_row(file: FileState) -> dict[str, Any]:
    return {
        "path": file.info.path,
        "state": file.state,
        "bytes": file.info.size,
        "present_bytes": file.present_bytes,
        "expected": expected_digest(file),
        "actual": actual_digest(file),
    }


def _verified_lines(result: Verified) -> str:
    total = sum(file.present_bytes for file in result.files)
    lines = [f"{result.state:<9} {result.id}, {len(result.files)} files, {size(total)}"]
    lines += [f"  {file.state:<9} {plain(file.info.path)}: {bad_because(file)}" for file in result.bad]
    if result.bad or result.state == "partial":
        lines.append(f"  do: wan-tui models verify {result.id} --repair")
    elif result.state == "absent":
        lines.append(f"  do: wan-tui models download {result.id}")
    return "\n".join(lines)


# --- import -----------------------------------------------------------------------------------------------------------


def _import(session: _Session) -> int:
    item = Item(*session.catalog.find(session.args.model))
    folder = Path(os.path.expanduser(session.args.folder)).absolute()
    done = adopt(item, folder, session.bus, session.control, revision=_revision(session.args.revision))
    row = {
        "id": item.id,
        "state": done.copy.state,
        "path": str(done.copy.path) if done.copy.path else None,
        "taken": list(done.taken),
        "taken_bytes": done.taken_bytes,
        "lacking": list(done.lacking),
    }
    lines = [f"{item.id}: {len(done.taken)} files, {size(done.taken_bytes)} taken over; now {done.copy.state}"]
    lines += [f"  {len(done.lacking)} are still missing: wan-tui models download {item.id}"] if done.lacking else []
    session.answer(row, "\n".join(lines))
    if not done.taken and done.lacking:
        session.tell(f"{folder} holds no file of {item.id}.")
        return Exit.MODEL
    return Exit.DONE


# --- remove -----------------------------------------------------------------------------------------------------------


def _remove(session: _Session) -> int:
    item = Item(*session.catalog.find(session.args.model))
    plan = plan_removal(item, session.catalog)
    refuse_running(item, plan)
    if plan.empty:
        raise ModelError("model-absent", f"{item.id} is not on this box: there is nothing to remove.")
    session.tell("\n".join(removal_lines(plan)))
    if not session.confirmed(f"Remove {item.id} and free {size(plan.freed_bytes)}?"):
        session.tell("Nothing was removed.")
        return Exit.CANCELLED
    remove(plan)
    row = {
        "id": item.id,
        "freed_bytes": plan.freed_bytes,
        "shared_bytes": plan.shared_bytes,
        "removed": [str(path) for path in (*plan.folders, *plan.files)],
        "kept": [str(path) for path in plan.kept],
        "needed_by": list(plan.needed_by),
    }
    session.answer(row, f"removed  {item.id}, {size(plan.freed_bytes)} are free now")
    return Exit.DONE
