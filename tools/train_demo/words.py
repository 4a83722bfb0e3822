"""What can be said of a scene: captions in free wording, and every word the demo's tokenizer knows.

A phrase of several words counts as one way of saying it. The names of shapes, colours, backgrounds and motions are
those of `scenes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

Ways = Mapping[str, Sequence[str]]

# The first way of each is the plain one, and is taken more often than the others.
SHAPES: Ways = {
    "circle": ("circle", "disc", "disk", "ball", "dot"),
    "square": ("square", "box", "block", "tile"),
    "triangle": ("triangle", "pyramid", "wedge"),
    "star": ("star", "starlet", "asterisk"),
}
COLOURS: Ways = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "lemon"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise", "aqua"),
    "blue": ("blue", "cobalt"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
}
BACKGROUNDS: Ways = {
    "black": ("black",),
    "gray": ("gray", "grey"),
    "white": ("white",),
    "brown": ("brown",),
}
_GOING = (
    "moving",
    "moves",
    "going",
    "goes",
    "sliding",
    "slides",
    "drifting",
    "drifts",
    "gliding",
    "glides",
    "travelling",
)


def _goes(*ways: str) -> tuple[str, ...]:
    return tuple(f"{verb} {way}" for verb in _GOING for way in ways)


_LEFT = _goes("left", "to the left", "leftwards", "leftward")
_RIGHT = _goes("right", "to the right", "rightwards", "rightward")
_UP = (*_goes("up", "upwards", "upward"), "rising", "rises", "climbing", "climbs", "ascending", "ascends")
_DOWN = (*_goes("down", "downwards", "downward"), "falling", "falls", "sinking", "sinks", "descending", "descends")
_STILL = (
    *("still", "standing still", "stands still", "keeping still", "holding still", "at rest", "resting", "rests"),
    *("motionless", "stationary", "static", "staying put", "stays put", "staying in place", "stays in place", "frozen"),
)
_GROW = (
    *("growing", "grows", "getting bigger", "gets bigger", "getting larger", "gets larger", "becoming bigger"),
    *("expanding", "expands", "swelling", "swells", "enlarging", "inflating", "inflates"),
)
_SHRINK = (
    *("shrinking", "shrinks", "getting smaller", "gets smaller", "becoming smaller", "contracting", "contracts"),
    *("dwindling", "dwindles", "deflating", "deflates"),
)
_BOUNCE = (
    *("bouncing", "bounces", "hopping", "hops", "jumping", "jumps", "leaping", "leaps"),
    *("bouncing up and down", "bounces up and down", "hopping up and down", "jumping up and down", "jumps up and down"),
)
MOTIONS: Ways = {
    "left": _LEFT,
    "right": _RIGHT,
    "up": _UP,
    "down": _DOWN,
    "still": _STILL,
    "grow": _GROW,
    "shrink": _SHRINK,
    "bounce": _BOUNCE,
}
_SUBJECTS = ("{colour} {shape}", "{shape} that is {colour}", "{shape}, {colour}", "{shape} coloured {colour}")
_GROUNDS = ("background", "backdrop", "ground", "canvas", "surface", "wall")
_OVER = ("on", "over", "upon", "against", "before", "across", "in front of", "with")
_ARTICLES = ("a", "the", "one", "")
_ORDERS = (
    "{subject} {motion} {ground}",
    "{subject} {ground} {motion}",
    "{ground}, {subject} {motion}",
    "{ground}: {subject}, {motion}",
    "{subject}, {motion}, {ground}",
    "{motion} {subject} {ground}",
    "{subject} that {motion} {ground}",
    "{subject} is {motion} {ground}",
)
_JOINING = "that is coloured and in then while"
# Words a prompt may hold besides; the tokenizer drops what it does not know, and these show it.
FILLERS = (
    *(
        "please",
        "make",
        "me",
        "video",
        "clip",
        "animation",
        "short",
        "cinematic",
        "beautiful",
        "simple",
        "nice",
        "cute",
    ),
    *("tiny", "huge", "glossy", "quickly", "slowly", "gently", "smoothly", "4k", "hd", "render", "scene", "showing"),
    *("there", "very", "quite", "just", "happily", "forever", "minimal", "geometric", "flat", "style", "epic"),
)


class Told(Protocol):
    """What a caption speaks of."""

    @property
    def shape(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def background(self) -> str: ...
    @property
    def motion(self) -> str: ...


def plain_caption(told: Told) -> str:
    """The same sentence for every scene, each thing by its plain name."""
    motion = MOTIONS[told.motion][0]
    return _with_an(f"a {told.colour} {told.shape} {motion} on a {told.background} background".split())


def caption(told: Told, rng: np.random.Generator) -> str:
    """One of many ways to say it, words in between that mean nothing included."""
    if rng.random() < 0.1:
        return plain_caption(told)
    words = {"colour": _way(COLOURS[told.colour], rng), "shape": _way(SHAPES[told.shape], rng)}
    subject = f"{_any(_ARTICLES, rng)} {_mostly_first(_SUBJECTS, rng).format(**words)}"
    parts = {"subject": subject, "motion": _way(MOTIONS[told.motion], rng), "ground": _ground(told.background, rng)}
    text = _any(_ORDERS, rng).format(**parts)
    return _filled(text.split(), rng)


def vocabulary() -> list[str]:
    """Every word of every caption but the fillers, sorted."""
    phrases = [way for ways in (SHAPES, COLOURS, BACKGROUNDS, MOTIONS) for some in ways.values() for way in some]
    phrases += [*_GROUNDS, *_OVER, *_ARTICLES, "an", _JOINING]
    return sorted({word for phrase in phrases for word in phrase.split()})


def _ground(background: str, rng: np.random.Generator) -> str:
    named = _way(BACKGROUNDS[background], rng)
    if rng.random() < 0.15:
        return f"{_any(('on', 'over', 'against'), rng)} {named}"
    return " ".join([_mostly_first(_OVER, rng), _any(_ARTICLES, rng), named, _mostly_first(_GROUNDS, rng)])


def _filled(words: list[str], rng: np.random.Generator) -> str:
    """The words with some fillers among them, some in capitals, and perhaps a full stop."""
    for _ in range(int(rng.integers(0, 4))):
        words.insert(int(rng.integers(0, len(words) + 1)), _any(FILLERS, rng))
    text = _with_an(words)
    if rng.random() < 0.3:
        text = text[:1].upper() + text[1:]
    return text + ("." if rng.random() < 0.3 else "")


def _with_an(words: Sequence[str]) -> str:
    """The words as a sentence, "an" where "a" stands before a vowel."""
    following = (*words[1:], "")
    return " ".join("an" if a == "a" and b[:1] in "aeiou" and b else a for a, b in zip(words, following, strict=True))


def _way(ways: Sequence[str], rng: np.random.Generator) -> str:
    """A way of saying it: the plain one in a third of the cases, else any."""
    return ways[0] if rng.random() < 0.33 else _any(ways, rng)


def _mostly_first(ways: Sequence[str], rng: np.random.Generator) -> str:
    return ways[0] if rng.random() < 0.5 else _any(ways, rng)


def _any(ways: Sequence[str], rng: np.random.Generator) -> str:
    return ways[int(rng.integers(len(ways)))]
