"""What a shell offers behind `wan-tui`: the scripts run in the shells themselves."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.runs import wan_tui
from wan_tui.cli.completion import KINDS, WORDS, levels, model_names

# Where a line is written so far, and what must be offered behind it, or must not.
OFFERS = {
    "wan-tui mo": "models",
    "wan-tui ": "demo models check config completion jobs trust",
    "wan-tui --no": "--no-mouse",
    "wan-tui --ou": "--output",
    "wan-tui models dow": "download",
    "wan-tui models ": "list show download verify import remove",
    "wan-tui models download --re": "--revision",
    "wan-tui models show ti2": "ti2v-5B ti2v-5B:bf16",
    "wan-tui models show ti2v-5B:b": "ti2v-5B:bf16",
    "wan-tui models verify t2v-A14B flf": "flf2v-14B-720P",
    "wan-tui models download --revision main t2v-A14B:g": "t2v-A14B:gguf-q4",
    "wan-tui check ti2v-5B:fp": "ti2v-5B:fp16",
    "wan-tui test-load --device cp": "cpu",
    "wan-tui --json jobs ca": "cancel",
    "wan-tui jobs show l": "last",
    "wan-tui completion z": "zsh",
    "wan-tui check ./fo": "folder",
    "wan-tui diagnose demo --output ./fo": "folder",
    "wan-tui diagnose demo --output=./fo": "folder",
    "wan-tui --run ./": "clip.job.toml folder",
    "wan-tui plan ./": "clip.job.toml",
    "wan-tui plan --table t2v-A": "t2v-A14B",
    "wan-tui plan --vr": "--vram",
    "wan-tui --run ./clip.job.toml ./": "clip.job.toml",
    "wan-tui demo --image ./pic": "picture.png",
    "wan-tui update-registry ./pic": "picture.png",
}
NEVER = {
    "wan-tui --run mod": "models",
    "wan-tui demo mod": "models",
    "wan-tui --run ./pi": "picture.png",
    "wan-tui models download --revision ti2": "ti2v-5B",
    "wan-tui jobs list --limit l": "last",
}

# A key that writes all that is offered into the line, one that shows the line, and the script.
BASH = """PS1=; bind 'set bell-style none'; bind '"\\C-t": insert-completions'
bind -x '"\\C-g": printf "<%s>\\n" "$READLINE_LINE"'; source {script}; echo be''gun
"""
ZSH = """PS1=; unsetopt beep prompt_sp; autoload -U compinit; compinit -u -D; zle -N tell; bindkey '^G' tell
tell() {{ print -r -- "<$BUFFER>" }}; every() {{ _main_complete; compstate[insert]=all }}
zle -C every complete-word every; bindkey '^T' every; source {script}; echo be''gun
"""
TYPED = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
SHELLS = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with something to complete."""
    folder = tmp_path / "place"
    (folder / "folder").mkdir(parents=True)
    for name in ("clip.job.toml", "picture.png"):
        (folder / name).touch()
    return folder


def script_of(shell: str, place: Path) -> Path:
    done = wan_tui("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    file = place.parent / f"completion.{shell}"
    file.write_text(done.stdout)
    return file


def offered(shell: str, script: Path, place: Path, lines: Iterable[str]) -> list[list[str]]:
    """What the shell itself offers behind each line."""
    if shell == "fish":
        ask = f"cd {place}; source {script}; " + "; ".join(f"complete -C '{line}'; echo ==" for line in lines)
        done = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True)
        parts = done.stdout.split("==\n")[:-1]
        return [[row.partition("\t")[0].rstrip("/") for row in part.splitlines()] for part in parts]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvp(TYPED[shell][0], TYPED[shell])
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 1000, 0, 0))
        os.write(terminal, (BASH if shell == "bash" else ZSH).format(script=script).encode())
        _until(terminal, b"begun")
        _told(terminal, "wan-tui ")  # zsh loads its completion at the first call, and inserts nothing then
        told = [_told(terminal, line) for line in lines]
        return [[word.rstrip("/") for word in one.split()] for one in told]
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def _told(terminal: int, line: str) -> str:
    """The words behind the line as it was, the one that was begun among them."""
    os.write(terminal, b"\x15" + line.encode() + b"\x14\x07")
    said = _until(terminal, b">")
    whole = said[said.rindex(b"<") + 1 : said.rindex(b">")].decode()
    return whole[line.rindex(" ") :]


def _until(terminal: int, end: bytes) -> bytes:
    said = b""
    while end not in said:
        assert select.select([terminal], [], [], 20)[0], said
        said += os.read(terminal, 65536)
    return said


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_offers_what_may_follow(shell: str, place: Path) -> None:
    answers = offered(shell, script_of(shell, place), place, [*OFFERS, *NEVER])
    for (line, wanted), got in zip({**OFFERS, **NEVER}.items(), answers, strict=True):
        named = {word.removeprefix("--output=").removeprefix("./") for word in got}
        if line in OFFERS:
            assert set(wanted.split()) <= named, (line, got)
        elif shell != "fish" or wanted != "picture.png":  # fish puts the suffix first, and the other files behind it
            assert wanted not in named, (line, got)


def test_every_command_and_option_of_the_parser_is_in_it() -> None:
    known = list(levels())
    assert {"", "models download", "config init", "completion"} <= {level.path for level in known}
    for shell in ("bash", "zsh", "fish"):
        script = wan_tui("completion", shell).stdout
        for level in known:
            for name in [name for name, _ in level.commands] + [n for one in level.options for n in one.names]:
                assert name.lstrip("-") in script, (shell, level.path, name)


def test_a_value_that_names_files_or_models_is_completed() -> None:
    """A new metavar of the kind is not forgotten."""
    for level in levels():
        for option in level.options:
            assert option.kind in ("", "none", *KINDS.values()) or option.kind.startswith("=")
    metavars = set(re.findall(r"[A-Z|.a-z]+", " ".join(_metavars())))
    files = {name for name in metavars if re.search("MODEL|FILE|FOLDER|DIR|toml", name)}
    assert files <= {*KINDS, *WORDS}


def _metavars() -> Iterator[str]:
    from wan_tui.cli import _parser

    parsers = [_parser()]
    while parsers:
        for action in parsers.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif isinstance(action.metavar, str):
                yield action.metavar


@pytest.mark.soak
def test_names_of_a_manifest_are_words_and_never_commands(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = tmp_path / "own.toml"
    own = 'title = "`touch owned`"\nfamily = "t2v"\nrepo = "a/b"\n'
    manifest.write_text(f'[models."mine@1.0"]\n{own}[models."mine@2.0"]\n{own}')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
    assert {"mine", "mine@1.0"} <= set(model_names())
    assert "mine@2.0" not in model_names()
    for shell in SHELLS:
        script = script_of(shell, place)
        assert offered(shell, script, place, ["wan-tui check min"]) == [["mine", "mine@1.0"]], shell
        assert not (place / "owned").exists()
        assert "owned" not in script.read_text()
    for bad in ("$(touch owned)", "a b", "a;b", "'"):
        manifest.write_text(f'[models."{bad}"]\n{own}')
        assert wan_tui("completion", "bash").returncode == 2


def test_an_unknown_shell_is_bad_usage() -> None:
    done = wan_tui("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bash" in done.stderr
