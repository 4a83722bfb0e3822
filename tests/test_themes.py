"""The themes: legible, told apart by colour-blind eyes, and loaded from files that anybody may have written."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from textual.color import Color
from textual.pilot import Pilot
from textual.theme import Theme

from engine.paths import shipped
from tests.app import painted, send, shown, until
from tests.runs import environment
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings, load_settings, save_setting
from wan_tui.themes import choose, load_themes, theme_folder

GROUNDS = ("background", "surface", "panel")
TEXTS = ("foreground", "foreground-muted", "primary", "secondary", "accent", "success", "warning", "error")
# Pairs of text and ground that Textual's own widgets make of a theme.
PAIRS = [
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("input-selection-foreground", "input-selection-background"),
    ("input-cursor-foreground", "input-cursor-background"),
    ("footer-key-foreground", "footer-background"),
    ("footer-description-foreground", "footer-background"),
    *((f"text-{state}", f"{state}-muted") for state in ("primary", "success", "warning", "error", "accent")),
    *(("button-color-foreground", state) for state in ("primary", "success", "warning", "error")),
]
LEGIBLE = 4.5  # WCAG AA for text
SEEN = 3.0  # WCAG AA for what is no text
# What a palette of 16 colours usually is (VGA), on the black of a console.
VGA = {"cyan": "#00aaaa", "green": "#00aa00", "white": "#aaaaaa", "bright_yellow": "#ffff55", "bright_red": "#ff5555"}
# Machado, Oliveira, Fernandes 2009: what eyes without one kind of cone see of linear red, green and blue.
BLIND = {
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
}
RGB = tuple[float, float, float]


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAN_TUI_CONFIG", "NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)


def themes() -> dict[str, Theme]:
    loaded, problems = load_themes()
    assert problems == ()
    return {theme.name: theme for theme in loaded}


def linear(color: Color) -> RGB:
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in color.normalized)
    return r, g, b


def contrast(one: Color, other: Color) -> float:
    def luminance(color: Color) -> float:
        r, g, b = linear(color)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: RGB) -> RGB:
    r, g, b = rgb
    x = (0.4124564 * r + 0.3575761 * g + 0.1804375 * b) / 0.95047
    y = 0.2126729 * r + 0.7151522 * g + 0.0721750 * b
    z = (0.0193339 * r + 0.1191920 * g + 0.9503041 * b) / 1.08883
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (max(x, 0), max(y, 0), max(z, 0)))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def seen_by(blind: str, color: Color) -> RGB:
    rgb = linear(color)
    r, g, b = (min(1.0, max(0.0, sum(w * v for w, v in zip(row, rgb, strict=True)))) for row in BLIND[blind])
    return lab((r, g, b))


def apart(one: RGB, other: RGB) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5


@pytest.mark.parametrize("name", ["wan-dark", "wan-light", "wan-clear"])
def test_text_is_legible_on_every_ground(name: str) -> None:
    made = {key: value for key, value in themes()[name].to_color_system().generate().items() if value[0] in "#a"}
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS] + PAIRS
    found = {pair: round(contrast(*(Color.parse(made[one]) for one in pair)), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in found.items() if ratio < LEGIBLE} == {}
    for part, ground in (("border", "background"), ("border", "surface"), ("scrollbar", "scrollbar-background")):
        assert contrast(Color.parse(made[part]), Color.parse(made[ground])) >= SEEN, part


def test_the_states_of_the_clear_theme_stay_apart_for_colour_blind_eyes() -> None:
    made = themes()["wan-clear"]
    states = {name: Color.parse(getattr(made, name)) for name in ("success", "warning", "error", "foreground")}
    pairs = [(a, b) for a in states for b in states if a < b]
    for blind in BLIND:
        seen = {name: seen_by(blind, color) for name, color in states.items()}
        for a, b in pairs:
            assert apart(seen[a], seen[b]) > 25, (blind, a, b, apart(seen[a], seen[b]))
    plain = themes()["wan-dark"]  # the measure measures: red and green of a usual theme come close
    green, red = (seen_by("deuteranopia", Color.parse(str(getattr(plain, name)))) for name in ("success", "error"))
    assert apart(green, red) < 20


def test_the_theme_of_16_colours_is_legible_on_a_console() -> None:
    theme = themes()["wan-16"]
    assert theme.ansi
    for name in TEXTS[2:]:
        color = str(getattr(theme, name)).removeprefix("ansi_")
        assert contrast(Color.parse(VGA[color]), Color.parse("#000000")) >= LEGIBLE, name
    made = theme.to_color_system().generate()
    assert made["block-cursor-text-style"] == "reverse"
    assert not [name for name, value in made.items() if name.endswith("-muted") and value != "ansi_default"]


def test_auto_and_what_is_not_there() -> None:
    known = themes()
    for wanted, environ, chosen in (
        ("auto", {"TERM": "xterm-256color"}, "wan-dark"),
        ("auto", {"TERM": "linux"}, "wan-16"),
        ("auto", {"TERM": "vt220"}, "wan-16"),
        ("wan-light", {"TERM": "linux"}, "wan-light"),
        ("wan-light", {"TERM": "xterm", "NO_COLOR": ""}, "wan-16"),
    ):
        assert choose(wanted, known, environ) == (chosen, None)
    assert choose("wan-drak", known, {}) == (
        "wan-dark",
        "There is no theme wan-drak. Did you mean wan-dark? wan-dark is used.",
    )


def own(name: str, text: str | bytes) -> Path:
    theme_folder().mkdir(parents=True, exist_ok=True)
    file = theme_folder() / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_theme_of_the_user_takes_the_place_of_ours() -> None:
    copied = (shipped("themes") / "wan-dark.toml").read_text().replace("#7ab7f0", "#123456")
    own("wan-dark.toml", copied)
    own("mine.toml", 'primary = "ansi_red"\nansi = true\n[variables]\nborder = "red 40%"\ntext-muted = "auto 60%"\n')
    found = themes()
    assert found["wan-dark"].primary == "#123456"
    assert found["mine"].variables["border"] == "red 40%"
    assert len(found) == len(list(shipped("themes").glob("*.toml"))) + 1


HOSTILE = {
    'primary = "#ffffff; } * { display: none"': "primary cannot be",
    'primary = "$background"': "primary cannot be",
    "primary = 3": "primary cannot be 3; give a colour",
    'primary = "#fff\\n"': "primary cannot be",
    f'primary = "{"#" * 100_000}"': "it has 10001",
    f'primary = "{"#" * 10_000}"': "primary cannot be",
    'secondary = "#fff"': "it has no primary colour",
    'primary = "#fff"\ndark = "yes"': "dark must be true or false, not 'yes'",
    'primary = "#fff"\nbackgruond = "#000"': "did you mean background?",
    'primary = "#fff"\ntext_alpha = 1e308': "text_alpha is no key of a theme",
    'name = "wan-dark"\nprimary = "#fff"': "a theme is named as its file",
    'primary = "#fff"\nvariables = 3': "variables must be a table",
    'primary = "#fff"\n[variables]\n"x; } * {" = "#fff"': "there is no variable",
    'primary = "#fff"\n[variables]\nborder = "red; } Screen { display: none"': "border cannot be",
    'primary = "#fff"\n[variables]\nborder = "$border"': "border cannot be",
    'primary = "#fff"\n[variables]\nborder = "red 400%"': "border cannot be",
    'primary = "#fff"\n[variables]\nlink-style = "url(x)"': "link-style cannot be",
    'primary = "#fff"\n[variables]\nlink-style = 3': "link-style cannot be",
    "[[": "not valid TOML",
    "\x00": "not valid TOML",
}


@pytest.mark.parametrize(("text", "told"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_file_that_is_no_theme_is_left_out_and_told(text: str, told: str) -> None:
    file = own("bad.toml", text)
    loaded, (problem,) = load_themes()
    assert "bad" not in {theme.name for theme in loaded}
    assert problem.startswith(f"{file} is no theme: ")
    assert told in problem
    assert len(problem) < 500


def test_bad_files_are_told_together_and_hold_nothing_up() -> None:
    own("Bad Name.toml", 'primary = "#fff"')
    own("latin.toml", 'primary = "é"'.encode("latin-1"))
    (theme_folder() / "folder.toml").mkdir()
    os.mkfifo(theme_folder() / "pipe.toml")
    (theme_folder() / "gone.toml").symlink_to("nowhere")
    loaded, problems = load_themes()
    assert len(problems) == 5
    assert len(loaded) == 4
    for number in range(101):
        own(f"a{number}.toml", 'primary = "#fff"')
    assert "those after the first 100 are left out" in load_themes()[1][0]


def test_every_theme_styles_an_app(own_home: Path) -> None:
    """Also one of the terminal's colours that says nothing more: Textual's own style sheet misses variables then."""
    from textual.app import App, ComposeResult
    from textual.widgets import Button, DataTable, Footer, Input

    own("bare.toml", 'primary = "ansi_red"\nansi = true\n')

    class Small(App[None]):
        CSS = "Screen { background: $surface-active; color: $foreground-disabled; }"

        def compose(self) -> ComposeResult:
            yield from (DataTable(), Input(), Button("Go", variant="error"), Footer())

    async def walk() -> None:
        app = Small()
        for theme in themes().values():
            app.register_theme(theme)
        async with app.run_test() as pilot:
            for name in themes():
                app.theme = name
                await pilot.pause()

    asyncio.run(walk())


PROGRAM = """
import os, sys
from textual.app import App
from textual.widgets import DataTable, Footer
from wan_tui.themes import choose, load_themes

class Small(App):
    BINDINGS = [("q", "quit", "Quit")]
    def __init__(self):
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        for theme in load_themes()[0]:
            self.register_theme(theme)
        self.theme = choose("auto", self.available_themes, os.environ)[0]
    def compose(self):
        table = DataTable(cursor_type="row", show_header=False)
        table.add_column("name")
        for name in ("CHOSEN", "OTHER"):
            table.add_row(name)
        yield table
        yield Footer()
    def on_mount(self):
        self.set_timer(0.3, self.exit)
Small().run()
"""


@pytest.mark.parametrize(
    "more", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "linux"}], ids=["plain", "console"]
)
def test_without_colours_what_is_chosen_is_seen(more: Mapping[str, str]) -> None:
    """In a real terminal: nothing black on black, and the row under the cursor reversed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM], {**environment(), **more})
    said = b""
    try:
        while data := os.read(terminal, 65536):
            said += data
    except OSError:  # the program has ended
        pass
    os.waitpid(pid, 0)
    styles = {name: re.findall(rb"\x1b\[([0-9;]*)m[^\x1b]*" + name, said)[0] for name in (b"CHOSEN", b"OTHER")}
    assert styles == {b"CHOSEN": b"7;39;49", b"OTHER": b"39;49"}
    used = {part for style in re.findall(rb"\x1b\[([0-9;]*)m", said) for part in style.split(b";")}
    assert not used & {b"38", b"48", b"30", b"40"}
    assert used <= {b"0", b"1", b"4", b"7", b"39", b"49"} or "NO_COLOR" not in more


def test_a_theme_that_is_saved_is_the_one_that_is_chosen() -> None:
    save_setting("theme", "wan-clear")
    settings, problems = load_settings()
    assert (settings, problems) == (Settings(theme="wan-clear"), ())
    assert choose(settings.theme, themes(), {})[0] == "wan-clear"


# While the app runs


def live(steps: Callable[[WanApp, Pilot[int]], Awaitable[None]], settings: Settings) -> None:
    async def go() -> None:
        app = WanApp(Session(), settings)
        async with app.run_test() as pilot:
            try:
                await until(pilot, lambda: "wan-tui" in shown(app))
                await steps(app, pilot)
            finally:
                await asyncio.to_thread(app.session.stop, "user")
        assert app.crash is None

    asyncio.run(go())


def ground(app: WanApp) -> str:
    """The colour that stands behind the most of the screen."""
    behind = Counter(part.style.bgcolor for line in painted(app) for part in line for _ in part.text if part.style)
    colour = behind.most_common(1)[0][0] if behind else None
    return colour.triplet.hex if colour and colour.triplet else ""


MINE = 'primary = "#7ab7f0"\nbackground = "{}"\nsurface = "{}"\npanel = "{}"\n'


def mine(colour: str) -> Path:
    return own("mine.toml", MINE.format(*[colour] * 3))


def test_a_theme_that_is_written_anew_is_shown_at_once() -> None:
    mine("#101010")
    other = own("other.toml", 'primary = "#ff0000"\n')

    async def steps(app: WanApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: ground(app) == "#101010")
        mine("#202020")  # as many bytes as before
        await until(pilot, lambda: ground(app) == "#202020")
        written = theme_folder() / "mine.new"
        written.write_text(MINE.format(*["#303030"] * 3))
        os.utime(written, ns=(1, 1))
        written.rename(theme_folder() / "mine.toml")  # as careful editors do
        await until(pilot, lambda: ground(app) == "#303030")
        other.write_text('primary = "#00ff00"\n')
        await until(pilot, lambda: app.available_themes["other"].primary == "#00FF00")
        assert ground(app) == "#303030"
        own("later.toml", 'primary = "#0000ff"\n')
        await until(pilot, lambda: "later" in app.available_themes)
        assert app.theme == "mine"
        assert not app.said

    live(steps, Settings(theme="mine"))


def test_places_that_are_hidden_have_the_new_colours_too() -> None:
    mine("#101010")

    async def steps(app: WanApp, pilot: Pilot[int]) -> None:
        for key, place in (("f6", "queue"), ("f2", "library")):
            await send(app, key)
            await until(pilot, lambda place=place: app.current_mode == place)  # type: ignore[misc]
        mine("#202020")
        await until(pilot, lambda: ground(app) == "#202020")
        await send(app, "f6")
        await until(pilot, lambda: app.current_mode == "queue" and ground(app) == "#202020")

    live(steps, Settings(theme="mine"))


def test_a_theme_that_breaks_is_told_once_and_keeps_its_colours() -> None:
    mine("#101010")

    async def steps(app: WanApp, pilot: Pilot[int]) -> None:
        file = own("mine.toml", 'primary = "no colour"\n')
        await until(pilot, lambda: app.said)
        for name in ("once", "twice"):  # it has looked again when these are there
            own(f"{name}.toml", 'primary = "#fff"\n')
            await until(pilot, lambda name=name: name in app.available_themes)  # type: ignore[misc]
        (said,) = app.said
        assert said.severity == "warning"
        assert said.text.startswith(f"{file} is no theme: primary cannot be 'no colour'; ")
        assert said.text.endswith(" The colours stay as they were.")
        assert ground(app) == "#101010"
        file.unlink()
        mine("#202020")
        await until(pilot, lambda: ground(app) == "#202020")
        assert len(app.said) == 1

    live(steps, Settings(theme="mine"))


def test_a_theme_that_was_broken_at_the_start_is_shown_once_it_is_mended() -> None:
    own("mine.toml", "[[")

    async def steps(app: WanApp, pilot: Pilot[int]) -> None:
        assert app.theme == "wan-dark"
        said = len(app.said)
        mine("#202020")
        await until(pilot, lambda: app.theme == "mine" and ground(app) == "#202020")
        assert len(app.said) == said

    live(steps, Settings(theme="mine"))


def test_a_folder_that_is_made_meanwhile_is_seen() -> None:
    async def steps(app: WanApp, pilot: Pilot[int]) -> None:
        assert not theme_folder().exists()
        own("wan-dark.toml", MINE.format(*["#202020"] * 3))
        await until(pilot, lambda: ground(app) == "#202020")

    live(steps, Settings())
