"""`wan-tui completion bash|zsh|fish`: a script made from the parser, so that it knows what this version knows."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.catalog import load_catalog
from engine.errors import Exit
from wan_tui.cli.errors import answered

# What stands where a value is due, by the name the help gives it; where nothing is known nothing is offered.
KINDS = {
    "JOB.toml": "toml",
    "JOB.toml|MODEL": "planned",
    "FILE": "file",
    "DIR": "folder",
    "FOLDER": "folder",
    "MODEL": "model",
    "MODEL|FOLDER": "place",
}
WORDS = {"DEVICE": "auto cpu cuda:0", "ID": "last"}
# What goes into a script and onto a command line; a user's manifest may name models, and is no program.
_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]*")


@dataclass(frozen=True)
class Option:
    """`kind` is what its value is, "" when it takes none; `many` values may follow."""

    names: tuple[str, ...]
    help: str
    kind: str
    many: bool


@dataclass(frozen=True)
class Level:
    """What may follow a command: `path` is "" or "models" or "models download"; `kinds` are its arguments, of which
    the last repeats when there is no end to them. A kind that begins with "=" is a choice of words."""

    path: str
    commands: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    kinds: tuple[str, ...]
    endless: bool


def command(args: argparse.Namespace) -> int:
    from wan_tui.cli import shells

    return answered(getattr(shells, args.shell)(list(levels()), model_names()), Exit.DONE)


def levels() -> Iterator[Level]:
    """Every command of the program, from the parser."""
    from wan_tui.cli import _parser

    yield from _levels(_parser(), "")


def model_names() -> list[str]:
    """What MODEL can be, the version left out where it is the newest."""
    catalog = load_catalog()
    names = []
    for model in catalog.models:
        short = model.name if catalog.find(model.name)[0] is model else model.id
        names += [short, *(f"{short}:{variant.name}" for variant in model.variants)]
    return [name for name in names if _HARMLESS.fullmatch(name)]


def _levels(parser: argparse.ArgumentParser, path: str) -> Iterator[Level]:
    commands: list[tuple[str, str]] = []
    below: list[Level] = []
    options: list[Option] = []
    places: list[argparse.Action] = []
    for action in parser._actions:  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):
            commands = [(choice.dest, choice.help or "") for choice in action._choices_actions]
            for name, _ in commands:
                below += _levels(action.choices[name], f"{path} {name}".lstrip())
        elif action.option_strings:
            kind = "" if action.nargs == 0 else _kind(action)
            many = action.nargs in ("+", "*")
            options.append(Option(tuple(action.option_strings), action.help or "", kind, many))
        else:
            places.append(action)
    endless = bool(places) and places[-1].nargs in ("+", "*")
    yield Level(path, tuple(commands), tuple(options), tuple(map(_kind, places)), endless)
    yield from below


def _kind(action: argparse.Action) -> str:
    if action.choices:
        return "=" + " ".join(map(str, action.choices))
    name = str(action.metavar)
    return "=" + WORDS[name] if name in WORDS else KINDS.get(name, "none")
