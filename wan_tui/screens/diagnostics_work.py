"""What takes its time in diagnostics, the smoke test and the export: begun, stopped, and what came of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import Cancelled, WanError
from wan_tui.inbox import Inbox
from wan_tui.screens.diagnostics_pane import GAP, Line
from wan_tui.screens.diagnostics_report import failure_lines
from wan_tui.screens.diagnostics_smoke import SmokeNow, fold, run_smoke, settled, smoke_lines

if TYPE_CHECKING:
    from engine.control import Control
    from wan_tui.screens.diagnostics import Diagnostics

_EVERY_S = 0.25
Export = Path | WanError | None  # where it lies, why it does not, or that it is being written


class Work:
    """By the key of the model: its latest smoke test and its latest export."""

    def __init__(self, place: Diagnostics) -> None:
        self._place = place
        self._smokes: dict[str, SmokeNow] = {}
        self._exports: dict[str, Export] = {}
        self._latest: dict[str, str] = {}  # the path that was last told of a model
        self._names: dict[str, str] = {}  # what runs, as the session calls it

    @property
    def _folder(self) -> Path:
        output = os.path.expanduser(self._place.app.settings.output)
        return Path(output).absolute() / "diagnostics"

    @property
    def running(self) -> list[str]:
        """The keys of models something runs for."""
        return list(self._names.values())

    def path(self, key: str) -> str:
        """Of the clip or the file that was made last."""
        return self._latest.get(key, "")

    def errors(self, key: str) -> list[WanError]:
        exported = self._exports.get(key)
        failed = [exported] if isinstance(exported, WanError) else []
        return [*(self._smokes[key].errors if key in self._smokes else ()), *failed]

    def stop(self) -> None:
        """Stop what runs; the first of several for the model that is shown."""
        session = self._place.app.session
        for name in self._names:
            session.stop_transfer(name)
        self._place.app.tell("Stopping…" if self._names else "Nothing runs here.")

    # The smoke test

    def smoke(self, key: str) -> None:
        name = f"smoke test of {key}"
        place, app = self._place, self._place.app
        inbox = Inbox(lambda: place.call_later(self._soon, key, inbox))

        def work(control: Control) -> None:
            ended = settled(partial(run_smoke, key, self._folder, inbox, control))
            place.call_later(self._smoked, key, ended)

        if self._begin(name, key, work):
            self._smokes[key] = SmokeNow()
            place.show_pane()
        else:
            app.tell("This test runs already; x stops it.", "warning")

    def _soon(self, key: str, inbox: Inbox) -> None:
        """Look at what it said a little later: more may have come by then. A timer that is late would never fire."""
        loop = asyncio.get_running_loop()
        loop.call_later(_EVERY_S, self._place.call_later, partial(self._news, key, inbox))

    def _news(self, key: str, inbox: Inbox) -> None:
        if (now := self._smokes.get(key)) and now.state == "running":
            self._smokes[key] = fold(now, inbox.take())
            self._show()

    def _smoked(self, key: str, ended: SmokeNow) -> None:
        self._smokes[key] = ended
        if ended.clip:
            self._latest[key] = ended.clip
        passed = {"done": ("passed", "information"), "stopped": ("was stopped", "warning")}
        how, severity = passed.get(ended.state, ("failed", "error"))
        self._place.app.tell(f"The smoke test of {key} {how}.", severity)
        self._show()

    # The export

    def export(self, key: str, *, load: bool) -> None:
        name = f"export of {key}"

        def work(control: Control) -> None:
            try:
                self._place.call_later(self._exported, key, _written(key, self._folder, control, load=load))
            except Cancelled:
                self._place.call_later(self._exported, key, None)
                raise
            except Exception as error:  # noqa: BLE001  (named and told)
                from engine.runtime.failure import explain

                self._place.call_later(self._exported, key, explain(error))

        if self._begin(name, key, work):
            self._exports[key] = None
            self._place.show_pane()
        else:
            self._place.app.tell("It is being written already; x stops that.", "warning")

    def _exported(self, key: str, made: Export) -> None:
        if made is None:
            del self._exports[key]
        else:
            self._exports[key] = made
        if isinstance(made, Path):
            self._latest[key] = str(made)
            self._place.app.tell(f"Written: {made}")
        self._show()

    # Both

    def _begin(self, name: str, key: str, work: object) -> bool:
        def over(state: str) -> None:
            self._place.call_later(self._over, name)

        if not self._place.app.session.transfer(name, work, over):  # type: ignore[arg-type]
            return False
        self._names[name] = key
        return True

    def _over(self, name: str) -> None:
        self._names.pop(name, None)
        self._show()
        self._place.app.tell_place()

    def _show(self) -> None:
        if self._place.is_current or self._place.app.screen_stack[0] is self._place:
            self._place.show_pane()

    def lines(self, key: str, numbers: Mapping[str, int]) -> Iterator[Line]:
        """What came of them, for the report."""
        if key in self._smokes:
            yield from smoke_lines(self._smokes[key], numbers)
        if key in self._exports:
            yield GAP
            made = self._exports[key]
            if isinstance(made, WanError):
                yield from failure_lines(made, numbers)
            elif made:
                yield Line(str(made), "export", "$accent")
            else:
                yield Line("being written…", "export")


def _written(key: str, folder: Path, control: Control, *, load: bool) -> Path:
    from engine.catalog import load_catalog
    from engine.events import Bus
    from engine.runtime.check import subject
    from engine.runtime.diagnose import diagnose

    catalog = load_catalog()
    path, _ = diagnose(subject(key, catalog), catalog, folder, Bus(), control, load=load)
    return path
