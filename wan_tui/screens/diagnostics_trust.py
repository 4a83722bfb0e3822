"""The remedy `trust add`: every file with its hash is shown before anybody agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from wan_tui.background import in_background
from wan_tui.text import one_line

if TYPE_CHECKING:
    from engine.compat.offer import Offer
    from wan_tui.app import WanApp


class Trusting(ModalScreen[bool]):
    """Ends with True when the user agrees. Enter does not: it is pressed too easily."""

    ABOUT = "What a model brings that needs trust. j and k scroll, y trusts exactly this; n or Esc leaves all as it is."
    BINDINGS = [
        Binding("y", "answer(True)", "Trust it"),
        Binding("n,escape,q", "answer(False)", "No"),
        Binding("j,down", "scroll(1)", "Down", show=False, priority=True),
        Binding("k,up", "scroll(-1)", "Up", show=False, priority=True),
        Binding("ctrl+d,pagedown,space", "scroll(8)", "Page down", show=False, priority=True),
        Binding("ctrl+u,pageup", "scroll(-8)", "Page up", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    Trusting { align: center middle; background: $background 60%; }
    Trusting > Vertical {
        width: 100; max-width: 98%; height: auto; max-height: 94%; padding: 0 1; border: round $warning;
        background: $surface;
    }
    Trusting VerticalScroll { height: auto; max-height: 60vh; scrollbar-size-vertical: 1; }
    Trusting Static { height: auto; }
    """

    def __init__(self, model: str, lines: list[str], code: bool) -> None:
        super().__init__()
        self._model, self._lines, self._code = model, lines, code

    def compose(self) -> ComposeResult:
        from wan_tui.vouching import CODE_CAN

        with Vertical():
            yield Static(Content(f"{one_line(self._model)} brings:").stylize("bold"))
            with VerticalScroll(can_focus=False):
                yield Static(Content("\n".join(map(one_line, self._lines))))
            if self._code:
                yield Static(Content(f"\n{CODE_CAN}").stylize("$warning"))
            question = Content("\nTrust it with exactly this, until any of it changes?\n")
            keys = Content.assemble(("y", "$accent bold"), " trust it    ", ("n", "$accent bold"), " no")
            yield Static(Content.assemble(question, keys))

    def action_scroll(self, lines: int) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.scroll_to(y=scroll.scroll_y + lines, animate=False)

    def action_answer(self, agreed: bool) -> None:
        self.dismiss(agreed)


def ask_to_trust(app: WanApp, reference: str) -> None:
    """Find what the model or folder brings, show it, and trust it when the user agrees."""

    def look() -> Offer:
        from engine.catalog import load_catalog
        from engine.compat.offer import make_offer
        from engine.control import Control
        from wan_tui.vouching import anatomy_at, found

        def warn(sentence: str) -> None:
            app.call_later(app.tell, sentence, "warning")

        item, path = found(reference, load_catalog())
        return make_offer(item, anatomy_at(path), Control(), warn)

    in_background(app, look, lambda offer: _ask(app, offer), app.show_error)


def _ask(app: WanApp, offer: Offer) -> None:
    from wan_tui.vouching import content

    record = offer.record

    def answered(agreed: bool | None) -> None:
        if agreed:
            in_background(app, keep, kept, app.show_error)

    def keep() -> str:
        from engine.compat.trust import remember

        aside = remember(record, offer.source)
        return f" The old list could not be used, and is now {aside}: what it held is not trusted." if aside else ""

    def kept(more: str) -> None:
        from wan_tui.screens.diagnostics import check_again

        app.tell(f"{record.model} is trusted, until any of it changes.{more}", "warning" if more else "information")
        check_again(app)

    app.push_screen(Trusting(record.model, list(content(record)), bool(record.code)), answered)


def revoke(app: WanApp, name: str) -> None:
    """Trust a model no longer: nothing is lost, and it can be trusted again."""

    def forgotten() -> str:
        from wan_tui.vouching import revoked

        return revoked(name).model

    def told(model: str) -> None:
        from wan_tui.screens.diagnostics import check_again

        app.tell(f"{model} is trusted no longer.")
        check_again(app)

    in_background(app, forgotten, told, app.show_error)
