"""What to do about a finding or an error, done by the app: a remedy is a command line, and each maps to what the app
does at a key. What the app has no way for is shown and copied."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from engine.errors import WanError
from wan_tui.text import one_line
from wan_tui.widgets.trouble import Way

if TYPE_CHECKING:
    from engine.runtime.report import Report
    from wan_tui.app import WanApp

_PROGRAM = "wan-tui "
_WORD = re.compile(r"""\$'(?P<bytes>[ -&(-~]*)'|(?:'[^']*'|"[^"]*"|[^\s'"\\])+""")
_BYTE = re.compile(r"\\x([0-9a-f]{2})")
# Within a sentence a command stands in backticks or at its end, behind a colon.
_COMMAND = re.compile(r"^(wan-tui .*)$|`(wan-tui [^`]*)`|: (wan-tui .*?)\.?$", re.DOTALL)
_PLACEHOLDER = re.compile(r"\b(ID|MODEL|FOLDER|JOB\.toml)\b")
# What an error's actions are where no command stands beside them; the item is the one the error is about.
_ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "download": (("models", "download"), ()),
    "verify": (("models", "verify"), ()),
    "repair": (("models", "verify"), ("--repair",)),
    "trust": (("trust", "add"), ()),
}


# --- which there are --------------------------------------------------------------------------------------------------


def ways(error: WanError, item_id: str | None = None) -> list[Way]:
    """What the app can do about an error: the commands it names, and its actions on the item it is about."""
    found = [command for suggestion in error.suggestions for command in commands_in(suggestion)]
    for action in error.actions:
        verb, flags = _ACTIONS.get(action, ((), ()))
        if action == "remove":
            found.append("wan-tui models list --installed")
        elif verb and item_id:
            found.append(shlex.join(("wan-tui", *verb, item_id, *flags)))
    return [Way(command, label(command)) for command in _once(found)]


def ways_out(report: Report) -> list[Way]:
    """What the app can do about a report: its remedies, then the models to take instead, in the order it shows them."""
    return [Way(command, label(command)) for command in _once(_commands_of(report))]


def _commands_of(report: Report) -> Iterator[str]:
    from wan_tui.telling import reasons  # loads a good part of the engine, as a report has done already

    shown, _ = reasons(report)
    for finding in shown:
        for suggestion in finding.suggestions:
            yield from commands_in(suggestion)
        yield from (remedy.command for remedy in finding.remedies)
    yield from (one.command for one in report.alternatives)


def commands_in(sentence: str) -> list[str]:
    """The commands of this program a sentence names; not those with a word in the place of a name."""
    found = [next(filter(None, match.groups())) for match in _COMMAND.finditer(sentence)]
    return [command for command in found if not _PLACEHOLDER.search(command)]


def _once(commands: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(commands))


def words_of(command: str) -> tuple[str, ...]:
    """The words of a command line as a shell would take them, `wan-tui` left out."""
    words = []
    for match in _WORD.finditer(command.removeprefix(_PROGRAM)):
        coded = match["bytes"]
        words.append(shlex.split(match[0])[0] if coded is None else _decoded(coded))
    return tuple(words)


def _decoded(text: str) -> str:
    r"""What stands in $'…': bytes that are no printable text are written \xHH."""
    return os.fsdecode(_BYTE.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1"))


def label(command: str) -> str:
    """What doing it means, in words."""
    match words_of(command):
        case ("models", "download", id):
            return f"Download {one_line(id)}"
        case ("models", "verify", id, "--repair"):
            return f"Repair {one_line(id)}: fetch again what is bad or missing, and only that"
        case ("models", "verify", id):
            return f"Verify {one_line(id)}: every byte against its SHA-256"
        case ("models", "import", id, folder):
            return f"Take over files of {one_line(id)} from {one_line(folder)}"
        case ("models", "list", *_):
            return "Go to the library: see what is on disk, and remove some"
        case ("models", "show", name) | ("check", name):
            return f"Check {one_line(name)}"
        case ("test-load", name):
            return f"Load every component of {one_line(name)}, and render its smallest clip"
        case ("diagnose", name):
            return f"Write all there is to know about {one_line(name)} into a file"
        case ("install-deps", name):
            return f"Install the packages {one_line(name)} misses; shows the command, and asks"
        case ("trust", "add", name):
            return f"Trust {one_line(name)}; shows its files with their hashes, and asks"
        case ("trust", "revoke", name):
            return f"Trust {one_line(name)} no longer"
        case ("demo",):
            return "A first video with the built-in model"
    return f"Copy the command {one_line(command)}"


# --- doing it ---------------------------------------------------------------------------------------------------------


def take(app: WanApp, command: str) -> None:
    """Do what a command line of this program says."""
    match words_of(command):
        case ("models", "download", id):
            _transfer(app, id, "download")
        case ("models", "verify", id, "--repair"):
            _transfer(app, id, "repair")
        case ("models", "verify", id):
            _transfer(app, id, "verify")
        case ("models", "import", id, folder):
            _transfer(app, id, "import", folder)
        case ("models", "list", *_):
            app.call_later(app.action_library)
        case ("models", "show", name) | ("check", name):
            app.diagnose(name)
        case ("test-load", name):
            app.diagnose(name, then="smoke")
        case ("diagnose", name):
            app.diagnose(name, then="export")
        case ("install-deps", name):
            from wan_tui.screens.diagnostics_install import ask_to_install

            ask_to_install(app, name)
        case ("trust", "add", name):
            from wan_tui.screens.diagnostics_trust import ask_to_trust

            ask_to_trust(app, name)
        case ("trust", "revoke", name):
            from wan_tui.screens.diagnostics_trust import revoke

            revoke(app, name)
        case ("demo",):
            app.call_later(app.action_demo)
        case _:
            app.copy_to_clipboard(command)
            app.tell(f"Copied, to be run in a shell: {command}")


def _transfer(app: WanApp, reference: str, kind: str, folder: str = "") -> None:
    from wan_tui.screens.diagnostics_transfer import transfer

    transfer(app, reference, kind, folder)


def after(app: WanApp) -> Callable[[str | None], None]:
    """For the end of a question that answers with one of the ways."""

    def chosen(command: str | None) -> None:
        if command:
            take(app, command)

    return chosen
