"""What the terminal can do, told by the environment alone: nothing is asked of the terminal itself."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Colours = Literal["truecolor", "256", "16", "none"]
Multiplexer = Literal["tmux", "screen"]

# Terminals with 24-bit colour that say so by name: ssh passes TERM on, but not COLORTERM.
_TRUECOLOR = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour", "iterm2")
_DUMB = ("dumb", "unknown")
_CONSOLE = re.compile(r"linux(-|$)|vt\d")  # few glyphs, at most 16 colours


@dataclass(frozen=True)
class Means:
    """What may be shown."""

    utf8: bool
    colours: Colours
    multiplexer: Multiplexer | None


def means(environ: Mapping[str, str], encoding: str) -> Means:
    """Read from the environment, and the `encoding` of the user's locale by Python's name for it."""
    term = environ.get("TERM", "").lower()
    return Means(
        utf8=encoding == "utf-8" and not _CONSOLE.match(term),
        colours=_colours(environ, term),
        multiplexer=_multiplexer(environ, term),
    )


def is_dumb(environ: Mapping[str, str]) -> bool:
    """Whether the terminal cannot place the cursor."""
    return environ.get("TERM", "").lower() in _DUMB


def _colours(environ: Mapping[str, str], term: str) -> Colours:
    if environ.get("NO_COLOR") or re.match(r"vt\d", term):
        return "none"
    if term.startswith("linux"):
        return "16"
    within_screen = term.startswith("screen") and not environ.get("TMUX")  # GNU screen drops 24-bit colours
    if not within_screen and environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "truecolor"
    if term.startswith(_TRUECOLOR) or term.endswith("-direct"):
        return "truecolor"
    return "256" if "256color" in term else "16"


def _multiplexer(environ: Mapping[str, str], term: str) -> Multiplexer | None:
    if environ.get("TMUX") or term.startswith("tmux"):
        return "tmux"
    return "screen" if environ.get("STY") or term.startswith("screen") else None


def locale_encoding() -> str:
    """The encoding the user's locale names, as Python calls it.

    Python turns the C locale into UTF-8 and writes that into the environment, so the one this process began with is
    read. A locale that is not set at all is a container's: its terminal is somebody's UTF-8 one. One set to C is meant.
    """
    try:
        pairs = (entry.partition("=") for entry in os.fsdecode(Path("/proc/self/environ").read_bytes()).split("\0"))
        began = {name: value for name, _, value in pairs}
    except OSError:  # no /proc
        began = dict(os.environ)
    named = next((began[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if began.get(name)), "")
    if not named:
        return "utf-8"
    name, _, charset = named.partition("@")[0].partition(".")
    charset = charset or ("ascii" if name in ("C", "POSIX") else _of_locale())
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "utf-8"


def _of_locale() -> str:
    """Of a locale that names none, such as `en_US`: what the C library makes of it."""
    import locale

    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:  # not installed on this box
        return "utf-8"
    return locale.nl_langinfo(locale.CODESET)


def prepare_environment(found: Means, low_bandwidth: bool, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set what Textual reads while it is imported. What the user has set stays, except what would be unreadable."""
    if found.colours == "none":
        environ["NO_COLOR"] = "1"
    else:
        environ.pop("NO_COLOR", None)  # Textual obeys an empty one as well
    if found.colours in ("none", "16"):
        # How colours are taken away is settled by the first theme: with another than an ansi one it is black on black.
        environ["TEXTUAL_THEME"] = "ansi-dark"
    environ.setdefault("TEXTUAL_COLOR_SYSTEM", _color_system(found.colours, low_bandwidth))
    environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")
    # A key waits for the next frame but one where a frame was painted just before: at 30 a second up to 66 ms, at 120
    # up to 17. What is news is painted ten times a second at most, however many frames there may be.
    environ.setdefault("TEXTUAL_FPS", "10" if low_bandwidth else "120")


def _color_system(colours: Colours, low_bandwidth: bool) -> str:
    """By Textual's names. 256 colours look alike and take a third fewer bytes."""
    if colours == "truecolor":
        return "256" if low_bandwidth else "truecolor"
    return "256" if colours == "256" else "standard"
