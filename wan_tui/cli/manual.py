"""The man page, made from the parser: `python -m wan_tui.cli.manual > docs/wan-tui.1`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from wan_tui.cli import _parser

_ABOUT = (
    "Runs the Wan 2.1 and 2.2 video models with Hugging Face diffusers. Without a command it opens the app, in which "
    "F1 tells the keys; with a command it works without a terminal."
)
_STATUS = {
    0: "done",
    1: "failed",
    2: "bad usage or a bad job file",
    3: "model absent, corrupt or incompatible",
    4: "does not fit this box",
    130: "cancelled by the user",
    143: "terminated",
}
_ENVIRONMENT = {
    "MODELS_ROOT": "where weights are read from and written to; the Hugging Face cache when it is not set.",
    "WAN_MODELS_MANIFEST": "a manifest of your own, merged over the one that ships.",
    "WAN_TUI_CONFIG": "the settings, instead of config.toml in the configuration folder.",
    "HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE": "as the Hugging Face client takes them.",
    "NO_COLOR": "no colours.",
}


def manual() -> str:
    """The page in the form that man(1) reads."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    program = _parser()
    yield '.TH WAN-TUI 1 "" "wan-tui" "User Commands"'
    yield from (".SH NAME", r"wan\-tui \- runs the Wan video models, in a terminal and from scripts")
    yield from (".SH SYNOPSIS", r".B wan\-tui", ".br", r".B wan\-tui \-\-run", r"\fIJOB.toml\fR...", ".br")
    yield from (r".B wan\-tui", r"\fICOMMAND\fR [\fIOPTION\fR]...")
    yield from (".SH DESCRIPTION", _escaped(_ABOUT))
    yield ".SH OPTIONS"
    for action in program._actions:
        yield from _option(action)
    yield ".SH COMMANDS"
    yield from _commands(program, "wan-tui")
    yield ".SH EXIT STATUS"
    for status, meaning in _STATUS.items():
        yield from (".TP", rf"\fB{status}\fR", meaning)
    yield ".SH ENVIRONMENT"
    for name, meaning in _ENVIRONMENT.items():
        yield from (".TP", rf"\fB{_escaped(name)}\fR", _escaped(meaning))


def _commands(parser: argparse.ArgumentParser, path: str) -> Iterator[str]:
    for choices in (action for action in parser._actions if isinstance(action, argparse._SubParsersAction)):
        for named in choices._choices_actions:  # argparse has no public way to ask
            below: argparse.ArgumentParser = choices.choices[named.dest]
            if any(isinstance(action, argparse._SubParsersAction) for action in below._actions):
                yield from _commands(below, f"{path} {named.dest}")
                continue
            places = [action for action in below._actions if not action.option_strings]
            values = "".join(rf" \fI{_escaped(_value(action))}\fR" for action in places)
            yield from (f".SS {_escaped(path)} {_escaped(named.dest)}{values}", f"{_escaped(named.help or '')}.")
            for action in below._actions:
                yield from _option(action)


def _option(action: argparse.Action) -> Iterator[str]:
    if not action.option_strings or "--help" in action.option_strings:
        return
    names = ", ".join(rf"\fB{_escaped(name)}\fR" for name in action.option_strings)
    value = "" if action.nargs == 0 else rf" \fI{_escaped(_value(action))}\fR"
    yield from (".TP", names + value, _escaped(action.help or ""))


def _value(action: argparse.Action) -> str:
    """What stands for a value, as `--help` writes it."""
    words = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    name = str(action.metavar or words)
    return f"{name}..." if action.nargs in ("+", "*") else f"[{name}]" if action.nargs == "?" else name


def _escaped(text: str) -> str:
    """Dashes as dashes, and nothing that roff takes for a request."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    print(manual(), end="")
