"""What the place `gallery` shows: the list, and beside it the picture and the settings of the clip under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content

from engine.events import Event, JobFinished
from engine.units import counted, size
from wan_tui.resting import Resting
from wan_tui.screens.gallery_book import COLUMNS, MARK, Found, folders, look
from wan_tui.screens.gallery_detail import Told, described, read_told
from wan_tui.screens.place import Place
from wan_tui.screens.queue_sheet import Block
from wan_tui.text import one_line
from wan_tui.widgets.ask import plain_lines
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Listing
from wan_tui.widgets.picture import Picture

if TYPE_CHECKING:
    from engine.errors import WanError
    from engine.runtime.clips import Clip

_REST_S = 0.15  # a cursor that stands still for so long is looking at something
_PACE = 16.0  # frames a second of a folder that does not tell


class GalleryView(Place):
    DEFAULT_CSS = """
    GalleryView #gallery { layout: vertical; height: 1fr; }
    GalleryView #gallery-left { height: 10fr; }
    GalleryView #gallery-side { height: 11fr; layout: horizontal; background: $surface; }
    GalleryView #gallery-notice { display: none; height: auto; max-height: 3; padding: 0 1; color: $warning; }
    GalleryView #gallery-notice.-told { display: block; }
    GalleryView #gallery-sum {
        height: 1; padding: 0 1; color: $text-muted; background: $panel; text-wrap: nowrap; text-overflow: ellipsis;
    }
    GalleryView #gallery-text { width: 1fr; height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    GalleryView #gallery-text Block { height: auto; }
    GalleryView.-none #gallery-side, GalleryView.-none #gallery-sum { display: none; }
    GalleryView.-medium #gallery, GalleryView.-wide #gallery { layout: horizontal; }
    GalleryView.-medium #gallery-left, GalleryView.-wide #gallery-left { width: 1fr; height: 1fr; }
    GalleryView.-medium #gallery-side, GalleryView.-wide #gallery-side { width: 46%; height: 1fr; layout: vertical; }
    GalleryView.-wide #gallery-side { width: 45%; }
    GalleryView.-wide #gallery-side Picture { height: 56%; }
    """

    def __init__(self) -> None:
        super().__init__()
        settings = self.app.settings
        self.folders = folders(settings.output)
        self.on_demand = settings.low_bandwidth or settings.preview == "off"
        self.found: Found | None = None
        self.gone_too = False
        self.marked: str | None = None
        self.pictured: Clip | None = None  # whose picture is there, or was asked for
        self._told: Told | None = None  # what stands beside the list
        self._reading = False
        self._looking = self._look_again = self._outdated = False
        self._resting = Resting(self, _REST_S, self.rested)

    def body(self) -> ComposeResult:
        with Container(id="gallery"):
            with Vertical(id="gallery-left"):
                yield Block(id="gallery-notice")
                yield Filtered(COLUMNS, empty="Looking…", id="gallery-clips")
                yield Block(id="gallery-sum")
            with Container(id="gallery-side"):
                yield Picture(
                    "",
                    slow_line=self.app.settings.low_bandwidth,
                    own_pixels=self.app.settings.preview == "auto",
                    id="gallery-picture",
                )
                with VerticalScroll(id="gallery-text", can_focus=False):
                    yield Block()

    def on_mount(self) -> None:
        self.add_class("-none")

    @property
    def listing(self) -> Listing:
        return self.query_one("#gallery-clips", Filtered).listing

    @property
    def picture(self) -> Picture:
        return self.query_one(Picture)

    @property
    def clip(self) -> Clip | None:
        """The one under the cursor."""
        row = self.listing.row
        return self.found.clips.get(row.key) if row and self.found else None

    # Which clips there are

    def refresh_all(self) -> None:
        self.look()

    def news(self, events: Sequence[Event]) -> None:
        if any(isinstance(event, JobFinished) for event in events):
            self.look()

    def look(self) -> None:
        """Find all clips anew, in a thread; what was found before stays meanwhile."""
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        journal, places, before = self.app.session.journal, self.folders, self.found
        self.in_background(lambda: look(journal, places, before), self._looked, self._not_looked)

    def _looked(self, found: Found) -> None:
        self._looking = False
        if not self._outdated:
            self.found = found
            self.show()
        if self._look_again:
            self._look_again = self._outdated = False
            self.look()

    def _not_looked(self, error: WanError) -> None:
        self._looking = self._look_again = self._outdated = False
        self.app.show_error(error)

    def changed(self, found: Found) -> None:
        """What is known is another, by something done here: a look under way may have begun before that."""
        self.found = found
        self._outdated = self._looking
        self.show()
        self.look()

    def show(self) -> None:
        found = self.found
        if found is None:
            return
        if self.marked not in found.clips:
            self.marked = None
        rows = found.shown(gone=self.gone_too, marked=self.marked)
        self.set_class(not rows, "-none")
        self.listing.show(rows, empty=self._nothing(found))
        self._tell_sum(found)
        self._tell_notice(found)
        self.look_at_keys()
        if not self._told or self.clip != self._told.clip:
            self.rest_soon()

    def key(self, id: str) -> str:
        """The key of an action, as the user has it."""
        keys = {binding.id: self.app.get_key_display(binding) for binding in reversed([*self.app.own_bindings()])}
        return keys.get(id, "the palette")

    def _nothing(self, found: Found) -> str:
        if found.gone:
            return f"No videos here any more. {self.key('gallery.gone')} lists the {found.gone:,} that are gone."
        return f"No videos yet: {self.key('app.composer')} composes one, {self.key('app.demo')} renders the demo."

    def _tell_sum(self, found: Found) -> None:
        parts = [f"{counted(len(found.clips) - found.gone, 'video')}, {size(found.bytes)}"]
        if found.gone:
            parts.append(f"{found.gone:,} gone" + ("" if self.gone_too else f" ({self.key('gallery.gone')} lists)"))
        told = Content(" · ".join(parts))
        if self.marked and (marked := found.clips.get(self.marked)):
            told = Content.assemble((f"{MARK} {one_line(marked.path.name)}", "$accent"), " · ", told)
        self.query_one("#gallery-sum", Block).show(told)

    def _tell_notice(self, found: Found) -> None:
        told = Content("")
        if problem := found.problem:
            why = " ".join(filter(None, (problem.message, problem.cause)))
            told = Content(plain_lines(f"Only videos in the folders for output are listed. {why}"))
        notice = self.query_one("#gallery-notice", Block)
        notice.set_class(bool(found.problem), "-told")
        notice.show(told)

    # The clip under the cursor

    @on(Listing.Moved, "#gallery-clips-list")
    def rest_soon(self) -> None:
        """Look at the clip as soon as the cursor rests: what is passed over is neither read nor painted."""
        self._resting.soon()

    def rested(self) -> None:
        """Show the clip under the cursor, at once."""
        self._resting.no_more()
        self.look_at_keys()
        clip = self.clip
        if self._told and clip == self._told.clip:
            return
        self.pictured = None
        if clip is None:
            self._told = None
            self.picture.clear("")
            self._describe(Content(""))
            return
        self.query_one("#gallery-text").scroll_home(animate=False)
        self._tell(Told(clip))
        self._read(clip)
        if not clip.exists:
            self.picture.clear("Its file is gone.")
        elif self.on_demand:
            self.picture.clear(f"{self.key('gallery.play')} shows the picture.")
        else:
            self.draw(clip)

    def draw(self, clip: Clip, *, moving: bool = False) -> None:
        """Show its first frame, or play it."""
        self.pictured = clip
        (self.picture.play if moving else self.picture.still)(clip.path, clip.fps or _PACE)

    def _tell(self, told: Told) -> None:
        self._told = told
        self._describe(described(told, airy=self.has_class("-tall")))

    def _describe(self, content: Content) -> None:
        self.query_one("#gallery-text Block", Block).show(content)

    def _read(self, clip: Clip) -> None:
        """Have its settings read in full. One at a time: the cursor may run."""
        if self._reading:
            return
        self._reading = True
        journal = self.app.session.journal

        def took(told: Told) -> None:
            self._reading = False
            wanted = self._told.clip if self._told else None
            if told.clip == wanted:
                self._tell(told)
            elif wanted:
                self._read(wanted)

        self.in_background(
            lambda: read_told(clip, journal), took, lambda error: took(Told(clip, problem=error.message))
        )
