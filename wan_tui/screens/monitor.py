"""The place `monitor`, and what can be done there."""

from __future__ import annotations

from wan_tui.actions import bindings
from wan_tui.screens.monitor_cards import Cards, Scrolled
from wan_tui.screens.monitor_view import MonitorView


class Monitor(MonitorView):
    PLACE = "monitor"
    LABEL = "Monitor"
    ABOUT = "What the devices and the host do right now, and the job that runs. Bars: ours solid, others' striped."
    BINDINGS = bindings("monitor")

    def can(self, action: str) -> bool:
        """No key for a card where there is none, nor for another where there is one, nor for a job where none runs."""
        if action == "cancel":
            return self.app.live.at_work(self.app.session.waiting) is not None
        if action == "log":
            return bool(self.job and self.job.log)
        if action in ("next", "previous"):
            return len(self.cards) > 1
        return bool(self.cards) if action == "card" else True

    def action_cancel(self) -> None:
        self.app.action_cancel_job()

    async def action_queue(self) -> None:
        await self.app.action_queue()

    def action_log(self) -> None:
        if self.view == "log":
            self.turn_to("all")
        else:
            self.turn_to("log")

    def action_card(self) -> None:
        self.turn_to("all" if self.view == "card" else "card")

    def on_cards_chosen(self) -> None:
        if self.cards:
            self.turn_to("card")

    def action_next(self) -> None:
        self._move(1)

    def action_previous(self) -> None:
        self._move(-1)

    def _move(self, by: int) -> None:
        if not self.query_one(Cards).move(by):
            self.app.tell("This is the last card." if by > 0 else "This is the first card.", "warning")

    def key_escape(self) -> None:
        if self.view == "all":
            super().key_escape()
        else:
            self.turn_to("all")

    def turn_to(self, view: str) -> None:
        """Show `all`, one `card` in full, or the whole `log`."""
        self.view = view
        self.set_class(view == "card", "-card")
        self.set_class(view == "log", "-log")
        shown: dict[str, Scrolled] = {name: self.query_one(f"#monitor-{name}", Scrolled) for name in ("card", "log")}
        self.show()
        shown.get(view, self.query_one(Cards)).focus()
        if view in shown:
            self.call_after_refresh(shown[view].go, shown[view].count if view == "log" else 0)
