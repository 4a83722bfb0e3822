"""What a shell offers behind `wan-tui`: the scripts run in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from collections.abc import Callable
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
    "wan-tui check ./fo": "./folder/",
    "wan-tui diagnose demo --output ./fo": "./folder/",
    "wan-tui --run ./": "./clip.job.toml ./folder/",
    "wan-tui --run ./clip.job.toml ./": "./clip.job.toml",
    "wan-tui demo --image ./pic": "./picture.png",
    "wan-tui update-registry ./pic": "./picture.png",
}
NEVER = {
    "wan-tui --run mod": "models",
    "wan-tui demo mod": "models",
    "wan-tui --run ./pi": "./picture.png",
    "wan-tui models download --revision ti2": "ti2v-5B",
    "wan-tui jobs list --limit l": "last",
}

Ask = Callable[[list[str]], list[list[str]]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with something to complete."""
    folder = tmp_path / "place"
    (folder / "folder").mkdir(parents=True)
    for name in ("clip.job.toml", "picture.png"):
        (folder / name).touch()
    return folder


def _script(shell: str, place: Path) -> Path:
    done = wan_tui("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    file = place.parent / f"completion.{shell}"
    file.write_text(done.stdout)
    return file


def _typed(shell: str, script: Path, place: Path, lines: list[str]) -> list[str]:
    """What a line becomes when it is typed in a terminal, then Tab: the shell itself says what it holds."""
    begin = {
        "bash": (
            ["bash", "--norc", "--noprofile", "-i"],
            f"""PS1=; bind 'set bell-style none'; bind -x '"\\C-g": printf "<%s>\\n" "$READLINE_LINE"'; source {script}""",
        ),
        "zsh": (
            ["zsh", "-f", "-i"],
            f"PS1=; unsetopt beep prompt_sp; autoload -U compinit; compinit -u -D; tell() {{ print -r -- \"<$BUFFER>\" }}; "
            f"zle -N tell; bindkey '^G' tell; source {script}",
        ),
    }
    command, setup = begin[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place)
        os.execvp(command[0], command)
    try:
        os.write(terminal, f"{setup}; echo be''gun\n".encode())
        _until(terminal, b"begun")
        return [_line(terminal, line) for line in lines]
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def _line(terminal: int, line: str) -> str:
    os.write(terminal, b"\x15" + line.encode() + b"\t")
    _until(terminal, line.encode()[-3:])
    os.write(terminal, b"\x07")
    said = _until(terminal, b">")
    return said[said.rindex(b"<") + 1 : said.rindex(b">")].decode()


def _until(terminal: int, end: bytes) -> bytes:
    said = b""
    while end not in said:
        assert select.select([terminal], [], [], 20)[0], said
        said += os.read(terminal, 65536)
    return said


def _bash(script: Path, place: Path, lines: list[str]) -> list[list[str]]:
    """What the function itself offers; `compopt` and what it asks readline for work only while readline calls."""
    ask = "\n".join(
        f"COMP_LINE={line!r} COMP_POINT={len(line)}; _wan_tui; printf '%s\\n' \"${{COMPREPLY[@]}}\" --" for line in lines
    )
    ask = f"COMP_WORDBREAKS=$' \\t\\n\"\\'@><=;|&(:'; compopt() {{ :; }}; source {script}\n{ask}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=place, check=True)
    assert done.stderr == ""
    return [part.split() for part in done.stdout.split("--\n")][:-1]
