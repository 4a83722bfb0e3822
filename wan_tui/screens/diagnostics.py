"""The place `diagnostics`: this box, what can be checked, and the report of what was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.errors import WanError
from engine.events import Downloaded, Event, Failed
from wan_tui.actions import bindings
from wan_tui.remedies import after, take, ways, ways_out
from wan_tui.screens import diagnostics_box as box
from wan_tui.screens.diagnostics_pane import Line, Lines, Reading
from wan_tui.screens.diagnostics_report import error_lines, found_lines, known_lines, verdict_line
from wan_tui.screens.diagnostics_subjects import BOX, COLUMNS, Known, gather, rows
from wan_tui.screens.diagnostics_work import Work
from wan_tui.screens.place import Place
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Listing
from wan_tui.widgets.trouble import Way

if TYPE_CHECKING:
    from engine.compat.machine import Machine
    from engine.runtime.check import Subject
    from engine.runtime.report import Report
    from wan_tui.app import WanApp

_CARDS = 2  # at first sight, where there is little room
_LOOKING = Line("Looking at this box…", head=True)


@dataclass(frozen=True)
class Found:
    """What came of a check: a report, or why there is none. None of both: it is being made."""

    title: str
    about: Subject | None = None
    report: Report | None = None
    error: WanError | None = None


class Diagnostics(Place):
    PLACE = "diagnostics"
    LABEL = "Diagnostics"
    ABOUT = (
        "This box, and whether a model runs on it: Enter checks the one under the cursor, o any folder or file. Before "
        "a check, RUNS HERE is what is predicted for its own clip, with the device to itself."
    )
    BINDINGS = bindings("diagnostics")
    DEFAULT_CSS = """
    Diagnostics #split { height: 1fr; }
    Diagnostics #left { width: 1fr; }
    Diagnostics #box { height: auto; padding: 0 1; margin-bottom: 1; }
    Diagnostics #report { width: 1fr; display: none; }
    Diagnostics.-reading #left { display: none; }
    Diagnostics.-reading #report { display: block; }
    Diagnostics.-wide #left { display: block; width: 76; margin-right: 2; }
    Diagnostics.-wide #report { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._machine: Machine | None = None
        self._known: tuple[Known, ...] = ()
        self._folders: list[str] = []
        self._found: dict[str, Found] = {}
        self._shown = BOX  # what the pane is about
        self._then = ""
        self._work = Work(self)

    def body(self) -> ComposeResult:
        with Horizontal(id="split"):
            with Vertical(id="left"):
                yield Lines(_LOOKING, id="box")
                yield Filtered(COLUMNS, empty="Looking…", id="subjects")
            yield Reading(id="report")

    @property
    def _list(self) -> Listing:
        return self.query_one("#subjects", Filtered).listing

    # What there is

    def refresh_all(self) -> None:
        self.in_background(_machine, self._have_machine)
        self.in_background(gather, self._have_known, self._without_known)
        self.check_again()

    def news(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, Downloaded | Failed) for event in events):
            self.refresh_all()

    def _have_machine(self, machine: Machine) -> None:
        self._machine = machine
        self._show_box()
        self.show_pane()

    def _show_box(self) -> None:
        if self._machine:
            most = _CARDS if self.has_class("-short") else 8
            self.query_one("#box", Lines).show(box.brief(self._machine, most))

    def _have_known(self, known: tuple[Known, ...]) -> None:
        self._known = known
        if self._found.pop("", None) and not self._shown:  # the list is mended
            self._shown = BOX
            self.show_pane()
        self._show_list()

    def _without_known(self, error: WanError) -> None:
        self._known = ()
        first = "" not in self._found
        self._found[""] = Found("The list of models", error=error)
        self._show_list()
        if first:
            self.read("")

    def _show_list(self) -> None:
        reports = {key: one.report for key, one in self._found.items() if one.report or one.error}
        self._list.show(rows(self._known, self._folders, reports))
        self.look_at_keys()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_box)

    # Checking

    def check(self, reference: str, then: str = "") -> None:
        """Check a model or what lies at a path, and show the report; `then` is smoke or export."""
        key = reference
        if "/" in reference or reference.startswith((".", "~")):
            key = os.path.abspath(os.path.expanduser(reference))
            if key not in self._folders:
                self._folders.append(key)
        self._then = then
        self._found.setdefault(key, Found(key))
        self.read(key)
        self._make(key)

    def check_again(self) -> None:
        """Make the report that is shown again, and keep it in sight meanwhile."""
        if self._shown and self._shown != BOX:
            self._make(self._shown)

    def _make(self, key: str) -> None:
        self.in_background(partial(_report, key), partial(self._have, key), partial(self._failed, key))

    def _have(self, key: str, found: Found) -> None:
        if key != found.title and found.about and found.about.item:  # a model is known by its whole id
            self._found.pop(key, None)
            self._shown = found.title if self._shown == key else self._shown
            key = found.title
        self._found[key] = found
        then, self._then = self._then, ""
        self._done(key)
        if then == "smoke" and self._hopeless(key):
            self.app.tell(f"{key} cannot run here: the report tells why.", "warning")
        elif then == "smoke":
            self._work.smoke(key)
        elif then == "export":
            self._export(key)

    def _failed(self, key: str, error: WanError) -> None:
        self._found[key] = Found(self._found.get(key, Found(key)).title, error=error)
        self._then = ""
        self._done(key)

    def _done(self, key: str) -> None:
        self._show_list()
        if key == self._shown:
            self._list.go_to(key)
            self.show_pane()

    # The pane

    def read(self, key: str) -> None:
        """Show what is known of a model, a path or this box."""
        self._shown = key
        self.add_class("-reading")
        pane = self.query_one(Reading)
        self.show_pane()
        pane.scroll_to(y=0, animate=False)
        pane.focus()

    def show_pane(self) -> None:
        """Show what has changed of what is shown."""
        self.query_one(Reading).show(self._lines())
        self.look_at_keys()

    def _lines(self) -> list[Line]:
        if self._shown == BOX:
            return box.full(self._machine) if self._machine else [_LOOKING]
        key, found = self._shown, self._found.get(self._shown, Found(self._shown))
        numbers = {way.key: number for number, way in enumerate(self._ways(), 1)}
        work = list(self._work.lines(key, numbers))
        if found.error:
            return [*error_lines(found.error, found.title, numbers), *work]
        if found.report is None:
            return [Line(f"Checking {found.title}…", head=True), *work]
        return [
            verdict_line(found.report, found.title),
            *work,
            *found_lines(found.report, numbers),
            *known_lines(found.report),
        ]

    def _ways(self) -> list[Way]:
        """What the app can do about what is shown."""
        found = self._found.get(self._shown)
        if found is None:
            return []
        id = found.about.item.id if found.about and found.about.item else None
        every = ways(found.error) if found.error else ways_out(found.report) if found.report else []
        every += [way for error in self._work.errors(self._shown) for way in ways(error, id)]
        return list({way.key: way for way in every}.values())

    def key_escape(self) -> None:
        if self.has_class("-reading"):
            self.remove_class("-reading")
            self._list.focus()
            self.look_at_keys()
        else:
            super().key_escape()

    # Keys

    @on(Listing.Chosen)
    def _chosen(self, event: Listing.Chosen) -> None:
        self._open(event.row.key if event.row else "")

    @on(Reading.Chosen)
    def _enter(self) -> None:
        if self.check_action("mend", ()):
            self.action_mend()

    @on(Listing.Moved)
    def _moved(self) -> None:
        self.look_at_keys()

    def _target(self) -> str:
        """What a key is about: what is read, else what is under the cursor. Empty for this box."""
        if self.query_one(Reading).has_focus or self.has_class("-reading"):
            key = self._shown
        else:
            key = self._list.row.key if self._list.row else BOX
        return "" if key == BOX else key

    def can(self, action: str) -> bool:
        if not self.is_mounted:
            return True
        if action == "smoke":
            return bool(key := self._target()) and not self._hopeless(key)
        if action in ("check", "export"):
            return bool(self._target())
        if action == "mend":
            return bool(self._ways())
        if action == "stop":
            return bool(self._work.running)
        if action == "copy_path":
            return bool(self._path())
        return True

    def _hopeless(self, key: str) -> bool:
        """Whether it is known that it cannot run."""
        report = self._found[key].report if key in self._found else None
        return report is not None and report.verdict == "cannot-run"

    def _open(self, key: str) -> None:
        if key == BOX:
            self.read(BOX)
        elif key:
            self.check(key)

    def action_check(self) -> None:
        key = self._target()
        if key in self._found and self.has_class("-reading"):
            self.app.tell(f"{self._found[key].title} is checked again.")  # the report may well be the same
        self._open(key)

    def action_mend(self) -> None:
        from wan_tui.widgets.choose import Choose, Option

        found = self._ways()
        if len(found) == 1:
            take(self.app, found[0].key)
            return
        options = [Option(way.key, f"{number}  {way.label}", way.key) for number, way in enumerate(found, 1)]
        self.app.push_screen(Choose("What to do", options), after(self.app))

    def action_folder(self) -> None:
        from wan_tui.screens.diagnostics_folder import AskPath

        self.app.push_screen(AskPath("Which folder or file is to be checked?"), self._take_path)

    def _take_path(self, path: str | None) -> None:
        if path:
            self.check(path)

    def action_smoke(self) -> None:
        self._after_check("smoke")

    def action_export(self) -> None:
        self._after_check("export")

    def _after_check(self, then: str) -> None:
        """A smoke test or an export stands in the report: that is made first, where there is none."""
        key = self._target()
        found = self._found.get(key)
        if found is None or not found.report:
            self.check(key, then)
        elif then == "smoke":
            self.read(key)
            self._work.smoke(key)
        else:
            self.read(key)
            self._export(key)

    def _export(self, key: str) -> None:
        """Ask whether the model is to be loaded for it, where it can be."""
        from wan_tui.widgets.choose import Choose, Option

        report = self._found[key].report
        absent = {"model-absent", "vram-low", "ram-low"}
        if report is None or report.verdict == "cannot-run" or absent & {one.code for one in report.findings}:
            self._work.export(key, load=False)
            return
        options = (
            Option("read", "What was read, at once", "Configurations, findings, this box; no weights are loaded."),
            Option("load", "And load every component", "Takes as long as a run takes to load; tells more."),
        )

        def chosen(how: str | None) -> None:
            if how:
                self._work.export(key, load=how == "load")

        self.app.push_screen(Choose("What goes into the file", options), chosen)

    def action_stop(self) -> None:
        self._work.stop()

    def _path(self) -> str:
        key = self._target()
        report = self._found[key].report if key in self._found else None
        return self._work.path(key) or (str(report.path) if report and report.path else "")

    def action_copy_path(self) -> None:
        path = self._path()
        self.app.copy_to_clipboard(path)
        self.app.tell(f"Copied: {path}")


def check_again(app: WanApp) -> None:
    """Something was mended: where diagnostics are shown they are made again. Elsewhere they are when they are shown."""
    shown = app.screen_stack[0]
    if isinstance(shown, Diagnostics):
        shown.refresh_all()


def _machine() -> Machine:
    from engine.compat.machine import this_machine

    return this_machine()


def _report(reference: str) -> Found:
    """The report of what is named; the list itself has the empty name."""
    from engine.catalog import load_catalog
    from engine.runtime.check import check, subject
    from wan_tui.telling import title

    catalog = load_catalog()
    about = subject(reference, catalog)
    name = title(about) if about.item else reference
    return Found(name, about, check(about, catalog))
