"""What the library's keys do to the model under the cursor."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from textual._context import NoActiveAppError

from engine.control import Control
from engine.errors import WanError
from engine.units import size
from wan_tui.screens.library_facts import Keys
from wan_tui.screens.library_rows import Now
from wan_tui.screens.library_work import Said, Work, fetching, importing, planned, removed, verifying
from wan_tui.screens.place import Place
from wan_tui.shelf import removal_lines
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.listing import Listing
from wan_tui.widgets.trouble import Trouble, Way

if TYPE_CHECKING:
    from engine.library.remove import Removal
    from wan_tui.screens.library_read import Entry, Shelf

_WAYS = {"download": "Download it again", "verify": "Verify it"}


class Doing(Place):
    """Holds the entries; the place itself shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf: Shelf | None = None
        self.entries: dict[str, Entry] = {}

    @property
    def listing(self) -> Listing:
        raise NotImplementedError

    def reload(self) -> None:
        raise NotImplementedError

    def touch(self, ids: set[str]) -> None:
        raise NotImplementedError

    @property
    def entry(self) -> Entry | None:
        """The one under the cursor."""
        under = self.listing.row
        return self.entries.get(under.key) if under else None

    def now(self, entry: Entry) -> Now:
        """What is going on with it. What is made here is told under its model's name while that is fetched."""
        transfers = self.app.live.transfers
        known = transfers.get(entry.id)
        running = entry.id in self.app.session.transfers
        if running and known and known.latest is None and entry.item.made:
            known = transfers.get(entry.item.base.id, known)
        return Now(known, running)

    def key(self, name: str) -> str:
        """The key of one of the place's actions, as the user has it."""
        id = f"library.{name}"
        return next((self.app.get_key_display(one) for one in self.app.own_bindings() if one.id == id), "")

    def keys(self) -> Keys:
        return Keys(*(self.key(name) for name in ("download", "stop", "repair", "verify", "explain")))

    def _under(self) -> Entry | None:
        """The entry under the cursor; where there is none that is said."""
        entry = self.entry
        if entry is None:
            self.app.tell("No model is chosen.", "warning")
        return entry

    # Transfers

    def _start(self, entry: Entry, work: Work) -> None:
        """Have it done in a thread of its own."""
        item, session = entry.item, self.app.session
        said: list[Said] = []

        def does(control: Control) -> None:
            sentence = work.does(item, session.bus, control)
            if sentence:
                said.append(sentence)

        def over(state: str) -> None:  # in that thread
            with suppress(NoActiveAppError):  # the app has ended meanwhile
                self.call_later(self._over, entry, said)

        if session.transfer(item.id, does, over, work.kind):
            self.touch({item.id})
            self.app.tell_place()
        else:
            self.app.tell(f"{item.id} is being worked on: {self.key('stop')} stops that.", "warning")

    def _over(self, entry: Entry, said: list[Said]) -> None:
        if not self.children:  # the app ends
            return
        for sentence, severity in said:
            self.app.tell(sentence, severity or "information")
        self.touch({entry.id, entry.item.base.id})
        self.reload()

    def forget_failures(self) -> None:
        """What failed is no longer told; what is on disk is."""
        running = self.app.session.transfers
        for id in [id for id in self.app.live.transfers if id not in running]:
            del self.app.live.transfers[id]

    def action_download(self) -> None:
        if entry := self._under():
            if entry.copy.state == "verified":
                self.app.tell(f"{entry.id} is here and verified: there is nothing to fetch.")
            elif not entry.item.sources and not entry.item.made:
                self.app.tell(f"{entry.id} comes from no repository: there is nothing to fetch.", "warning")
            else:
                self._start(entry, Work("download", fetching))

    def action_repair(self) -> None:
        if not (entry := self._under()):
            return
        if entry.copy.state in ("corrupt", "partial"):
            self._start(entry, Work("download", fetching))
        elif entry.copy.state == "absent":
            self.app.tell(f"{entry.id} is not on disk: {self.key('download')} downloads it.", "warning")
        else:
            self.app.tell(f"Nothing of {entry.id} is known to be bad; {self.key('verify')} reads every byte of it.")

    def action_verify(self) -> None:
        if entry := self._under():
            if not entry.on_disk:
                self.app.tell(f"{entry.id} is not on disk: there is nothing to verify.", "warning")
            elif not any(file.place for file in entry.copy.files):
                ways = f" {self.key('download')} compares it with the Hub." if entry.item.sources else ""
                self.app.tell(f"Nothing here tells what the files of {entry.id} should be.{ways}", "warning")
            else:
                self._start(entry, Work("verify", verifying))

    def action_stop(self) -> None:
        if entry := self._under():
            self.app.session.stop_transfer(entry.id)

    def action_import(self) -> None:
        entry = self._under()
        if entry is None:
            return
        if not entry.item.sources and not entry.item.made:
            self.app.tell(f"{entry.id} comes from no repository: nothing tells what its files should be.", "warning")
            return
        from wan_tui.screens.library_import import AskFolder

        def chosen(folder: str | None) -> None:
            if folder is not None:
                self._start(entry, Work("import", importing(folder)))

        self.app.push_screen(AskFolder(entry.id), chosen)

    # Removing

    def action_remove(self) -> None:
        entry, shelf = self._under(), self.shelf
        if entry is None or shelf is None:
            return
        if entry.id in self.app.session.transfers:
            self.app.tell(f"{entry.id} is being worked on: {self.key('stop')} stops that.", "warning")
        else:
            self.in_background(lambda: planned(entry.item, shelf.catalog), partial(self._ask_removal, entry))

    def _ask_removal(self, entry: Entry, plan: Removal) -> None:
        if plan.empty:
            self.app.tell(f"{entry.id} is not on this box: there is nothing to remove.", "warning")
            return

        def answered(agreed: bool | None) -> None:
            if agreed:
                self.in_background(lambda: removed(entry.item, plan), lambda _: gone(), failed)

        def gone() -> None:
            self.app.live.transfers.pop(entry.id, None)
            self.app.tell(f"{entry.id} is removed: {size(plan.freed_bytes)} are free now.")
            self.reload()

        def failed(error: WanError) -> None:
            self.app.show_error(error)
            self.reload()

        if not self.is_current:  # the user has gone on: a question elsewhere would be a trap
            return
        question = f"Remove {entry.id} and free {size(plan.freed_bytes)}?"
        self.app.push_screen(Ask(question, "\n".join(removal_lines(plan)), yes="remove it", no="keep it"), answered)

    # Elsewhere

    def action_explain(self) -> None:
        if not (entry := self._under()):
            return
        now = self.now(entry)
        told = now.transfer.error if now.transfer and now.failed else None
        if told is None:
            return
        ways = [Way(name, label) for name, label in _WAYS.items() if name == "download" or name in told.actions]
        error = WanError(told.code, told.message, cause=told.cause, suggestions=told.suggestions)

        def chosen(way: str | None) -> None:
            if way == "download":
                self._start(entry, Work("download", fetching))
            elif way == "verify":
                self._start(entry, Work("verify", verifying))

        self.app.push_screen(Trouble(error, ways, title=entry.id), chosen)

    def action_compose(self) -> None:
        if entry := self._under():
            self.app.compose_with(entry.id)

    def action_check(self) -> None:
        if entry := self._under():
            self.app.diagnose(entry.id)

    def action_copy_path(self) -> None:
        if entry := self._under():
            if entry.copy.path:
                self.app.copy_to_clipboard(str(entry.copy.path))
                self.app.tell(f"Copied: {entry.copy.path}")
            else:
                self.app.tell(f"{entry.id} is not on disk: it has no path.", "warning")
