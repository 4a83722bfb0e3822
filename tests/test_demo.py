"""The built-in model is whole wherever the program is, stays as it is, and says what it does not understand."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from engine.catalog import load_catalog
from engine.compat.copy import AGAIN
from engine.compat.folder import family_of
from engine.errors import ModelError
from engine.job import Job, Output
from engine.library import locate
from engine.library.digest import file_digest
from engine.library.item import Item
from engine.library.remove import plan_removal
from engine.paths import shipped
from engine.pipelines.families.t2v import BASE
from engine.runtime.check import check, subject
from engine.runtime.prepare import prepare
from engine.video.thumbnail import Frame
from tests import tiny
from tests.pty_run import OnTerminal
from tests.runs import PROGRAM, events, wan_tui
from wan_tui import filmstrip

DEMO = shipped("demo")
NOTE = load_catalog().find("demo")[0].note or ""
RED, BLUE = bytes((225, 25, 30)), bytes((25, 60, 230))


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): (file_digest(file), file.stat().st_mtime_ns) for file in files}


def asked(folder: Path) -> Job:
    return Job(model="demo", prompt="a red circle", output=Output(folder / "clip.mp4"))


# ── The folder ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_an_ordinary_folder_that_fits_into_the_wheel() -> None:
    folder = tiny.sound(DEMO, BASE)
    assert family_of(folder) == "ti2v" and folder.expand_timesteps
    assert sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file()) <= 12e6
    for name in ("text_encoder", "transformer", "vae"):
        for file in folder.weight_files(name):
            with safe_open(file, "np") as weights:
                assert {weights.get_slice(key).get_dtype() for key in weights.keys()} == {"F16"}  # noqa: SIM118
    for file in DEMO.rglob("*.json"):
        assert not json.loads(file.read_text()).get("_name_or_path"), "where it was made is nobody's business"


def test_it_runs_here() -> None:
    report = check(subject("demo", load_catalog()), load_catalog())
    assert (report.verdict, report.state, report.path) == ("runs", "complete", DEMO)
    assert {one.severity for one in report.findings} <= {"note"}


def test_a_run_writes_nothing_beside_it(tmp_path: Path) -> None:
    before = contents(DEMO)
    assert wan_tui("demo", "a red circle", "--quiet", cwd=tmp_path).returncode == 0
    assert wan_tui("check", "demo").returncode == 0
    assert contents(DEMO) == before


@pytest.mark.parametrize("gone", ["", "vae", "model_index.json", "transformer/diffusion_pytorch_model.safetensors"])
def test_what_is_missing_comes_with_the_program(gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    shutil.rmtree(there / gone) if (there / gone).is_dir() else (there / gone).unlink()
    monkeypatch.setattr(locate, "shipped", lambda name: tmp_path / name)
    with pytest.raises(ModelError) as refused:
        prepare(asked(tmp_path), tmp_path / "job.toml", load_catalog())
    assert refused.value.suggestions == (AGAIN,)
    report = check(subject("demo", load_catalog()), load_catalog())
    assert report.verdict == "cannot-run"
    assert {one.suggestions for one in report.findings if one.severity == "error"} == {(AGAIN,)}


def test_so_does_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Path(shutil.copytree(DEMO, tmp_path / "demo"))
    weights = there / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setattr(locate, "shipped", lambda name: tmp_path / name)
    with pytest.raises(ModelError) as refused:
        prepare(asked(tmp_path), tmp_path / "job.toml", load_catalog())
    assert refused.value.suggestions == (AGAIN,)


def test_it_is_not_removed() -> None:
    catalog = load_catalog()
    with pytest.raises(ModelError, match="a part of this program"):
        plan_removal(Item(*catalog.find("demo")), catalog)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_knows_the_words_that_are_said_to_be_known() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO / "tokenizer", local_files_only=True)
    named = [word for word in re.findall(r"\w+", NOTE.partition(" knows ")[2].partition(".")[0]) if word != "or"]
    assert len(named) > 20
    assert [word for word in named if tokenizer(word, add_special_tokens=False).input_ids in ([], [2])] == []


def test_words_that_say_nothing_are_told_every_time(tmp_path: Path) -> None:
    said = []
    for _ in range(2):  # the second time from the embedding that was kept
        done = wan_tui("demo", "Please, a cat on a red wall, and a cat!", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        said += [one["message"] for one in events(done.stdout) if one.get("code") == "words-unknown"]
    assert said == [f"prompt has words that say nothing to this model: Please, cat. {NOTE}"] * 2


# ── A few frames on the terminal ─────────────────────────────────────────────────────────────────────────────────────


class Terminal(io.StringIO):
    """What claims to be one, with the encoding `signs`."""

    def __init__(self, signs: str = "utf-8") -> None:
        super().__init__()
        self._signs = signs

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._signs

    def isatty(self) -> bool:
        return True


@pytest.fixture
def truecolor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")


def test_frames_stand_side_by_side(truecolor: None) -> None:
    two = [Frame(3, 4, RED * 12), Frame(3, 4, BLUE * 12)]
    lines = filmstrip.side_by_side(two, Terminal()).splitlines()
    assert len(lines) == 2
    assert lines[0].index("225;25;30") < lines[0].index("25;60;230")
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines] == [" " * 7] * 2


def test_a_terminal_without_such_signs_gets_letters(truecolor: None) -> None:
    two = [Frame(3, 4, RED * 12), Frame(3, 4, bytes(36))]
    assert filmstrip.side_by_side(two, Terminal("ascii")) == ":::\n:::\n"


BLOCKS = re.compile(r"[▀▄█]")


def demo_on_terminal(tmp_path: Path, *arguments: str, **env: str) -> str:
    here = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    here.mkdir()
    one = OnTerminal([*PROGRAM, "demo", "--output", here, *arguments], **env)
    status, read = one.end(), -1
    while len(one.said) > read:  # what it wrote last may be on its way
        read = len(one.said)
        time.sleep(0.5)
    said = one.said.decode(errors="replace")
    one.clean()
    assert status == 0, said
    return said.partition(".mp4")[2]


@pytest.mark.soak
def test_the_demo_ends_with_some_frames(tmp_path: Path) -> None:
    said = demo_on_terminal(tmp_path)
    assert BLOCKS.search(said) and said.count("\n") == 1 + (80 - 3) // 4 // 2 + 1
    assert not BLOCKS.search(demo_on_terminal(tmp_path, NO_COLOR="1"))
    assert not BLOCKS.search(demo_on_terminal(tmp_path, "--quiet"))
    assert not BLOCKS.search(demo_on_terminal(tmp_path, "--json"))
    plain = demo_on_terminal(tmp_path, LANG="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert plain.isascii() and plain.count("\n") > 8
