"""The place `gallery`, and what can be done there with the clip under the cursor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.units import size
from wan_tui.actions import bindings
from wan_tui.screens.gallery_book import without
from wan_tui.screens.gallery_compare import Compare
from wan_tui.screens.gallery_player import Player
from wan_tui.screens.gallery_view import GalleryView
from wan_tui.terminal.clipboard import osc52
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.clips import Clip

_WITH_A_CLIP = {"play", "watch", "compose", "copy_path", "copy_settings", "delete", "mark", "compare"}


class Gallery(GalleryView):
    PLACE = "gallery"
    LABEL = "Gallery"
    ABOUT = "Finished videos, the newest first: those of the journal, and those in the folders videos are written to."
    BINDINGS = bindings("gallery")

    def can(self, action: str) -> bool:
        """Without a clip there is nothing to do with one; something to compare once another one is marked."""
        if action not in _WITH_A_CLIP:
            return True
        clip = self.clip if self.is_mounted else None
        if action == "compare":
            return bool(clip and self.marked and self.marked != str(clip.path))
        return clip is not None

    def _chosen(self, *, there: bool = False) -> Clip | None:
        """The clip under the cursor, whose file has to be `there`; says so where it is not."""
        clip = self.clip
        if clip is None:
            self.app.tell("There is no video under the cursor.", "warning")
        elif there and not clip.exists:
            self.app.tell(f"Its file is gone: {clip.path}", "warning")
            return None
        return clip

    # Looking at it

    def action_play(self) -> None:
        clip = self._chosen(there=True)
        if clip is None:
            return
        self.rested()
        if self.picture.playing:
            self.picture.stop()
        else:
            self.draw(clip, moving=self.pictured == clip)

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.action_watch()

    def action_watch(self) -> None:
        if clip := self._chosen(there=True):
            self.app.push_screen(Player(clip, slow_line=self.app.settings.low_bandwidth))

    def action_mark(self) -> None:
        if clip := self._chosen():
            key = str(clip.path)
            self.marked = None if self.marked == key else key
            self.show()
            self.look_at_keys()

    def action_compare(self) -> None:
        other = self.found.clips.get(self.marked or "") if self.found else None
        clip = self._chosen()
        if clip and other:
            self.app.push_screen(Compare(other, clip, slow_line=self.app.settings.low_bandwidth))

    def action_scroll_down(self) -> None:
        self._scroll(3)

    def action_scroll_up(self) -> None:
        self._scroll(-3)

    def _scroll(self, lines: int) -> None:
        text = self.query_one("#gallery-text")
        text.scroll_to(y=text.scroll_y + lines, animate=False)

    # Its settings

    def action_compose(self) -> None:
        if clip := self._chosen():
            self.in_background(self._job_of(clip), lambda text: self.app.compose_job(text, str(clip.path)))

    def action_copy_settings(self) -> None:
        if clip := self._chosen():
            self.in_background(self._job_of(clip), lambda text: self._copy(text, "Copied: the settings, as TOML."))

    def _job_of(self, clip: Clip) -> Callable[[], str]:
        """Its job as TOML, without what was recorded of its run; to be called in a thread."""
        session = self.app.session

        def read() -> str:
            import tomli_w

            from engine.runtime.clips import settings

            table = settings(clip, session.journal() if clip.job_id else None)
            return tomli_w.dumps({name: value for name, value in table.items() if name != "recorded"})

        return read

    def action_copy_path(self) -> None:
        if clip := self._chosen():
            self._copy(str(clip.path), f"Copied: {clip.path}")

    def _copy(self, text: str, told: str) -> None:
        """The app itself tells where the terminal does not take it."""
        self.app.copy_to_clipboard(text)
        if osc52(text, {}) is not None:
            self.app.tell(told)

    # Deleting it

    def action_delete(self) -> None:
        clip = self._chosen()
        if clip is None:
            return
        parts = [f"video     {clip.path}  ({size(clip.bytes)})"] if clip.exists else []
        parts += [f"settings  {clip.sidecar}"] if clip.sidecar else []
        if not parts:
            self.app.tell("It is gone already; only the journal tells of it.", "warning")
            return
        question = f"Delete {clip.path.name}?" if clip.exists else f"Delete what tells of {clip.path.name}?"
        ask = Ask(question, "\n".join(parts), yes="delete it", no="keep it")
        self.app.push_screen(ask, lambda agreed: self._delete(clip) if agreed else None)

    def _delete(self, clip: Clip) -> None:
        session = self.app.session
        if self.picture.playing:
            self.picture.stop()

        def delete() -> None:
            from engine.runtime.discard import delete

            delete(clip, session.journal())

        def deleted(_: None) -> None:
            gone = [clip.path.name] if clip.exists else []
            gone += [clip.sidecar.name] if clip.sidecar else []
            self.app.tell(f"Deleted: {' and '.join(gone)}.")
            if self.found:
                left = replace(clip, exists=False, bytes=None, sidecar=None) if clip.job_id else None
                self.changed(without(self.found, clip, left))

        self.in_background(delete, deleted)

    # The list

    def action_gone(self) -> None:
        self.gone_too = not self.gone_too
        self.show()
        count = self.found.gone if self.found else 0
        if self.gone_too:
            self.app.tell(f"Listed, too: {count:,} whose files are gone." if count else "No video is gone.")

    def action_refresh(self) -> None:
        self.look()
        self.app.tell("Looking for videos again.")
