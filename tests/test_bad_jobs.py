"""Bad job files: status 2, one message that says what, where and what to do, and nothing written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.runs import events, job_file, wan_tui

GOOD = 'model = "ti2v-5B"\nprompt = "a cat"\n'
I2V = 'model = "i2v-A14B"\nprompt = "a cat"\n'

# name: (job file, what the message has to say)
TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unclosed string": ('prompt = "a cat', ("not valid TOML", "end of document")),
    "unquoted prompt": ("prompt = a cat", ("not valid TOML", "quotes")),
    "key twice": (GOOD + "steps = 2\nsteps = 3", ("not valid TOML", "overwrite")),
    "endless key": (".".join(["a"] * 200_000) + " = 1", ("not valid TOML", "parts", "line 1")),
    "nested too deeply": ("prompt = " + "[" * 20000, ("nested too deeply",)),
    "no prompt": ('model = "ti2v-5B"', ("prompt is missing",)),
    "misspelt key": (GOOD + "stpes = 20", ("line 3", "stpes", "Did you mean steps?")),
    "key of another table": (GOOD + 'image = "a.png"', ("line 3", "belongs under [inputs]")),
    "top key in a table": (GOOD + "[memory]\nsteps = 3", ("line 4", "at the top")),
    "misspelt input": (GOOD + '[inputs]\nimmage = "a.png"', ("line 4", "Did you mean image?")),
    "misspelt table": (GOOD + "[input]\n", ("Did you mean inputs?",)),
    "table as a value": (GOOD + "inputs = 3", ("[inputs]",)),
    "steps as text": (GOOD + 'steps = "20"', ("line 3", "steps", "whole number")),
    "steps as float": (GOOD + "steps = 20.0", ("steps", "whole number", "is 20.")),
    "steps true": (GOOD + "steps = true", ("steps", "whole number")),
    "no steps": (GOOD + "steps = 0", ("steps", "between 1 and 1000", "is 1.")),
    "negative steps": (GOOD + "steps = -5", ("steps", "between")),
    "absurd steps": (GOOD + "steps = 1000000000000", ("steps", "is 1000.")),
    "prompt a number": ('prompt = 7\nmodel = "ti2v-5B"', ("line 1", "text in quotes")),
    "frames not 4k+1": (GOOD + "frames = 80", ("line 3", "4k+1", "is 81.")),
    "frames negative": (GOOD + "frames = -3", ("frames",)),
    "width off the grid": (GOOD + "width = 830\nheight = 480", ("830", "multiple of 32", "is 832.")),
    "grid of the 5B": (GOOD + "width = 848\nheight = 480", ("848", "multiple of 32", "is 832")),
    "width alone": (GOOD + "width = 832", ("width", "without height")),
    "size beside width": (GOOD + 'size = "832*480"\nwidth = 832', ("size", "one or the other")),
    "size in words": (GOOD + 'size = "large"', ("size", "832*480")),
    "absurd size": (GOOD + 'size = "99999*480"', ("size", "8192")),
    "negative height": (GOOD + "width = 832\nheight = -480", ("height", "between")),
    "guidance nan": (GOOD + "guidance = nan", ("guidance", "finite")),
    "guidance inf": (GOOD + "guidance = inf", ("guidance", "finite")),
    "guidance negative": (GOOD + "guidance = -1.0", ("guidance", "is 0")),
    "guidance_2 on one expert": (GOOD + "guidance_2 = 3.0", ("guidance_2", "one expert")),
    "guidance_2 without guidance": (
        'model = "t2v-A14B"\nprompt = "a"\nguidance = 1.0\nguidance_2 = 3.0',
        ("guidance_2", "switches guidance off"),
    ),
    "flow_shift zero": (GOOD + "flow_shift = 0", ("flow_shift", "greater than 0")),
    "seed negative": (GOOD + "seed = -1", ("seed", "is 0.")),
    "seed too large": (GOOD + "seed = 9223372036854775808", ("seed", "between")),
    "count zero": (GOOD + "count = 0", ("count",)),
    "count past the last seed": (GOOD + "seed = 9223372036854775807\ncount = 2", ("count", "2^63-1")),
    "fps zero": (GOOD + "fps = 0", ("fps",)),
    "strength without video": (GOOD + "strength = 0.5", ("strength", "does not use it")),
    "thousands of digits": (GOOD + "seed = " + "9" * 5000, ("too many digits",)),
    "hundreds of digits": (GOOD + "guidance = 1" + "0" * 400, ("guidance", "between")),
    "home of nobody": (I2V + '[inputs]\nimage = "~nosuchuser/a.png"', ("~nosuchuser", "no such file")),
    "gif too fast": (GOOD + 'fps = 200\n[output]\npath = "a.gif"', ("fps = 200", "is 100.")),
    "crf beyond H.264 in capitals": (GOOD + '[output]\npath = "a.MP4"\ncrf = 60', ("crf", "is 51.")),
    "device not here": (GOOD + 'device = "cuda:77"', ("cuda:77", "not on this box", "auto")),
    "device unknown": (GOOD + 'device = "gpu0"', ("device", "cuda:1")),
    "profile unknown": (GOOD + '[memory]\nprofile = "stagged"', ("profile", "'staged'")),
    "windows without new frames": (GOOD + "[memory]\nwindow = 5", ("memory.window = 5", "no new frames", "is 9.")),
    "overlap of a whole window": (GOOD + "[memory]\nwindow = 49\noverlap = 49", ("line 5", "overlap", "less than")),
    "windows from a video": (
        'model = "t2v-1.3B"\nprompt = "a"\n[inputs]\nvideo = "good.png"\n[memory]\nwindow = 81',
        ("memory.window", "from text or from one image"),
    ),
    "segments of more frames": (
        GOOD + "frames = 81\n" + 2 * '[[segments]]\nframes = 49\nprompt = "a"\n',
        ("frames = 81 is too few", "make 97 frames", "Set frames = 97"),
    ),
    "segments shorter than windows": (
        GOOD + '[memory]\nwindow = 81\n[[segments]]\nframes = 49\nprompt = "a"',
        ("49 frames are fewer", "81 frames or more"),
    ),
    "prompt of a segment too long": (
        GOOD + '[[segments]]\nframes = 49\nprompt = "' + "x" * 100_001 + '"',
        ("segments.prompt", "100000"),
    ),
    "control character in a segment": (
        GOOD + '[[segments]]\nframes = 49\nprompt = "a\\u001b[31mcat"',
        ("segments.prompt", "U+001B"),
    ),
    "vram without unit": (GOOD + "[memory]\nvram_limit = 12", ("vram_limit", "12GiB")),
    "vram negative": (GOOD + '[memory]\nvram_limit = "-1GiB"', ("vram_limit",)),
    "crf out of range": (GOOD + "[output]\ncrf = 99", ("crf", "63")),
    "crf beyond H.264": (GOOD + "[output]\ncrf = 60", ("crf", "is 51.")),
    "unknown suffix": (GOOD + '[output]\npath = "clip.avi"', ("clip.avi", ".mp4")),
    "unknown model": ('model = "ti2v-5C"\nprompt = "a"', ("ti2v-5C", "ti2v-5B")),
    "image to a text model": (
        'model = "t2v-A14B"\nprompt = "a"\n[inputs]\nimage = "good.png"',
        ("t2v-A14B", "i2v-A14B"),
    ),
    "text to an image model": (I2V, ("i2v-A14B", "text", "t2v-A14B")),
    "last image alone": (I2V + '[inputs]\nlast_image = "good.png"', ("last_image", "image beside it")),
    "references no list": (GOOD + '[inputs]\nreferences = "a.png"', ("references", "list")),
    "prompt too long": ('model = "ti2v-5B"\nprompt = "' + "x" * 100_001 + '"', ("prompt", "100000")),
    "control character": ('model = "ti2v-5B"\nprompt = "a\\u001b[31mcat"', ("prompt", "U+001B")),
    "null character": ('model = "ti2v-5B"\nprompt = "a\\u0000"', ("prompt", "U+0000")),
    "empty path": (GOOD + '[inputs]\nimage = ""', ("inputs.image", "empty")),
    "segment without prompt": (GOOD + "[[segments]]\nframes = 81", ("segments", "lacks prompt")),
}

# name: (what inputs.image points to, made by, what the message has to say)
INPUTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing": (lambda path: None, ("no such file",)),
    "text named png": (lambda path: path.write_text("I am no picture"), ("picture.png",)),
    "empty file": (lambda path: path.touch(), ("picture.png",)),
    "truncated": (lambda path: path.write_bytes(_png(path)[:100]), ("picture.png",)),
    "folder": (lambda path: path.mkdir(), ("picture.png",)),
    "fifo": (lambda path: os.mkfifo(path), ("picture.png",)),
    "loop of links": (lambda path: path.symlink_to(path), ("picture.png",)),
}


def _png(path: Path) -> bytes:
    Image.new("RGB", (64, 64), "red").save(path, "PNG")
    return path.read_bytes()


def refused(folder: Path, file: Path, says: tuple[str, ...], own_home: Path) -> None:
    """Run a bad job and hold it to all that is promised of one."""
    before = sorted(folder.rglob("*"))
    done = wan_tui("--run", file, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("error:") == 1
    for words in says:
        assert words in done.stderr, f"{words!r} is not said:\n{done.stderr}"
    assert sorted(folder.rglob("*")) == before
    assert not list(own_home.rglob("*.sqlite3"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs"
    made.mkdir()
    Image.new("RGB", (64, 48), "blue").save(made / "good.png")
    return made


@pytest.mark.parametrize("name", TEXTS)
def test_bad_text(name: str, folder: Path, own_home: Path) -> None:
    text, says = TEXTS[name]
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    refused(folder, file, ("job.toml", *says), own_home)


@pytest.mark.parametrize("name", INPUTS)
def test_bad_input(name: str, folder: Path, own_home: Path) -> None:
    make, says = INPUTS[name]
    make(folder / "picture.png")
    file = folder / "job.toml"
    file.write_text(I2V + '[inputs]\nimage = "picture.png"', encoding="utf-8")
    refused(folder, file, says, own_home)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("not UTF-8", lambda path: path.write_bytes(b'prompt = "caf\xe9"\n')),
        ("absent", lambda path: None),
        ("a folder", lambda path: path.mkdir()),
        ("a fifo", lambda path: os.mkfifo(path)),
        ("too large", lambda path: path.write_bytes(b"#" * 4_000_001)),
    ],
)
def test_bad_job_file(name: str, make: Callable[[Path], object], folder: Path, own_home: Path) -> None:
    make(folder / "job.toml")
    refused(folder, folder / "job.toml", ("job.toml",), own_home)


def test_a_path_that_is_not_utf_8(folder: Path, own_home: Path, tiny_model: Callable[[str], Path]) -> None:
    odd = folder / os.fsdecode(b"d\xff")
    odd.mkdir()
    picture = (folder / "good.png").rename(odd / os.fsdecode(b"caf\xe9.png"))
    done = wan_tui("demo", "--image", picture, cwd=folder)
    assert done.returncode == 2
    assert "not valid UTF-8" in done.stderr
    done = wan_tui("--run", job_file(odd, tiny_model("t2v")), "--output", folder)
    assert done.returncode == 2
    assert "not valid UTF-8" in done.stderr
    assert not list(own_home.rglob("*.sqlite3"))


def test_output_below_a_file(folder: Path, own_home: Path) -> None:
    (folder / "outputs").write_text("in the way")
    file = folder / "job.toml"
    file.write_text(GOOD, encoding="utf-8")
    refused(folder, file, ("outputs",), own_home)


def test_one_bad_file_stops_all(folder: Path, own_home: Path, tiny_model: Callable[[str], Path]) -> None:
    good = job_file(folder, tiny_model("t2v"), "good.toml")
    bad = job_file(folder, tiny_model("t2v"), "bad.toml", frames=10)
    done = wan_tui("--run", good, bad, "--json", cwd=folder)
    assert done.returncode == 2
    assert [(e["event"], e["job"], e["code"]) for e in events(done.stdout)] == [("job-failed", "bad.toml", "bad-value")]
    assert not (folder / "outputs").exists()
    assert not list(own_home.rglob("*.sqlite3"))


def test_overrides_are_held_to_the_same_rules(folder: Path) -> None:
    file = folder / "job.toml"
    file.write_text(GOOD, encoding="utf-8")
    for override, says in (("steps=-1", "steps"), ("stpes=1", "Did you mean steps?"), ("steps", "key=value")):
        done = wan_tui("--run", file, "--set", override, "--json")
        (event,) = events(done.stdout)
        assert done.returncode == 2
        assert says in json.dumps(event)


def test_a_message_cannot_write_to_the_terminal(folder: Path) -> None:
    file = folder / "evil\x1b[31m.toml"
    file.write_text("prompt = 3")
    done = wan_tui("--run", file)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def test_the_cases_are_many() -> None:
    assert len(TEXTS) + len(INPUTS) >= 40
