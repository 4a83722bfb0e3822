"""`wan-tui models` as people and scripts use it: texts, JSON, exit statuses, terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.paths import hub_cache
from engine.runtime.journal import Journal
from tests.runs import PROGRAM, environment, wan_tui
from tests.shelf import SHARD, Shelf, flip, model_files, rand, sha256, tick, write

pytestmark = pytest.mark.sampled(3)

ROW = {"id", "variant", "family", "state", "bytes", "present_bytes", "path", "revision"}
ERROR = {"code", "message", "cause", "suggestions", "actions"}
NEEDED = 11


def models(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return wan_tui("models", *arguments, **more)


def answer(*arguments: object, status: int = 0) -> Any:
    """What a command says as JSON: one value on standard output, and nothing on standard error."""
    done = models(*arguments, "--json")
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


class Terminal:
    """A command on a terminal of its own; `said` is everything it wrote there."""

    def __init__(self, *arguments: object, columns: int = 80, rows: int = 24, **more: Any) -> None:
        self._end, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        places = {"stdin": child, "stdout": child, "stderr": child, "env": environment(), **more}
        self.process = subprocess.Popen([*PROGRAM, "models", *map(str, arguments)], **places)
        os.close(child)
        self.said = ""

    def read(self, until: str | None = None, patience: float = 30) -> str:
        """Read until these words come, else to the end."""
        since = time.monotonic()
        while (until is None or until not in self.said) and time.monotonic() - since < patience:
            if not select.select([self._end], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(self._end, 65536)
            except OSError:  # the other side is gone
                break
            self.said += data.decode(errors="replace")
        return self.said

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def end(self) -> int:
        self.read()
        status = self.process.wait(30)
        with suppress(OSError):
            os.close(self._end)
        return status


# --- list and show ----------------------------------------------------------------------------------------------------


def test_list_shows_every_model_and_variant(shelf: Shelf) -> None:
    shelf.download("mine:light")
    rows = answer("list")
    assert all(row.keys() >= ROW for row in rows)
    assert {row["id"]: row["state"] for row in rows if row["state"] not in ("absent", "verified")} == {
        "demo@1": "complete"
    }
    (mine,) = [row for row in rows if row["state"] == "verified"]
    assert (mine["id"], mine["variant"], mine["bytes"], mine["present_bytes"]) == ("mine@1.0", "light", 6_000, 6_000)
    assert Path(mine["path"]).is_dir()
    assert len(mine["revision"]) == 40
    assert [row["id"] for row in answer("list", "--installed")] == ["demo@1", "mine@1.0"]
    text = models("list").stdout
    assert re.search(r"^  :light +t2v +verified +6\.0 kB  /", text, re.MULTILINE)
    assert re.search(r"^mine@1\.0 +t2v +absent +\?$", text, re.MULTILINE)
    assert models("list", "--installed").stdout.count("\n") == 3


def test_show_has_all_of_one_model(shelf: Shelf) -> None:
    shelf.download("mine:fp8")
    card = answer("show", "mine")
    assert card.keys() > ROW | {"title", "tasks", "repo", "variants", "files"}
    assert card["state"] == "partial"
    assert {one["variant"]: one["state"] for one in card["variants"]}["fp8"] == "verified"
    assert {"path": "vae/config.json", "state": "verified", "bytes": 13, "present_bytes": 13} in card["files"]
    text = models("show", "mine:fp8").stdout
    assert re.search(r"^state +verified$", text, re.MULTILINE)
    assert re.search(r"^  verified +9\.0 kB  split/high\.safetensors$", text, re.MULTILINE)


@pytest.mark.parametrize("verb", ["show", "download", "verify", "remove", "import"])
@pytest.mark.sampled(3)
def test_an_unknown_id_is_answered_with_a_near_one(shelf: Shelf, verb: str, tmp_path: Path) -> None:
    more = [tmp_path] if verb == "import" else []
    error = answer(verb, "mnie@1.0", *more, status=2)
    assert error.keys() == ERROR
    assert error["code"] == "unknown-model"
    assert error["suggestions"][0].startswith("Did you mean mine@1.0")


@pytest.mark.parametrize(
    "arguments",
    [
        ["download"],
        ["download", "mine", "--all"],
        ["download", "mine", "--limit-rate", "fast"],
        ["download", "mine", "--limit-rate", "0"],
        ["download", "mine", "--limit-rate", "-5"],
        ["download", "mine", "--limit-rate", "1e9"],
        ["download", "mine", "--revision", "../../x"],
        ["download", "mine", "--revision", ""],
        ["download", "mine", "--revision", "a b"],
        ["import", "mine"],
        ["import", "mine", "/nowhere"],
        ["import", "mine", "/tmp", "--revision", "~"],
        ["verify"],
        ["remove"],
        ["burn", "mine"],
        ["list", "--nothing"],
    ],
)
@pytest.mark.sampled(2)
def test_bad_usage_is_status_2_and_touches_nothing(shelf: Shelf, arguments: list[str]) -> None:
    done = models(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert shelf.asked() == 0
    assert not hub_cache().exists()


# --- download ---------------------------------------------------------------------------------------------------------


def test_download_says_where_it_lies_and_keeps_progress_off_standard_output(shelf: Shelf) -> None:
    done = models("download", "mine")
    assert done.returncode == 0
    assert done.stdout == f"{shelf.look().path}\n"
    assert "done     mine@1.0" in done.stderr
    assert "\x1b" not in done.stderr
    again = models("download", "mine", "--quiet")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "done" not in again.stderr


def test_download_as_json_is_events_a_line(shelf: Shelf) -> None:
    done = models("download", "mine", "--json", "--limit-rate", "500kB")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["event"] for row in rows} == {"download", "downloaded"}
    assert all(row.keys() >= {"id", "file", "done", "total", "rate"} for row in rows[:-1])
    assert rows[-1]["event"] == "downloaded"
    assert rows[-1]["id"] == "mine@1.0"


def test_a_failed_download_is_status_3_with_its_code(shelf: Shelf) -> None:
    shelf.write_manifest(**{"lost@1": {"title": "Lost", "family": "t2v", "repo": "demo/lost"}})
    done = models("download", "lost", "mine:light", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert rows[0]["event"] == "failed"
    assert rows[0].keys() >= {"code", "message", "actions"}
    assert rows[-1]["event"] == "downloaded", "the next one is not held up"
    text = models("download", "lost")
    assert text.returncode == 3
    assert text.stdout == ""
    assert text.stderr.count("error: ") == 1


def all_of_one(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every repository the program knows is on the Hub, small."""
    from engine.catalog import load_catalog

    for number, spec in enumerate(load_catalog().models):
        if spec.repo and not spec.repo.startswith("demo/"):
            names = (*spec.required, *spec.allowed)
            files = {f"{name}/config.json": b"{}" for name in names}
            files |= {f"{name}/w.safetensors": rand(f"{number}{name}", 300) for name in names}
            files |= {"model_index.json": b"{}", "vae/w.safetensors": rand(number, 1000)}
            write(shelf.hub.root / spec.repo, files)
    monkeypatch.setattr(shelf.hub, "resolve", _any_revision(shelf))


def _any_revision(shelf: Shelf) -> Any:
    resolve = type(shelf.hub).resolve

    def found(repo: str, revision: str) -> Any:
        known = resolve(shelf.hub, repo, "main")
        return (revision, known[1]) if known and re.fullmatch("[0-9a-f]{40}", revision) else known

    return found


def test_download_all_shows_the_sum_and_wants_a_yes(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_one(shelf, monkeypatch, tmp_path)
    done = models("download", "--all")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.search(r"mine@1\.0 +\S+ kB, \S+ kB to fetch", done.stderr)
    assert re.search(r"error: Nothing was done.*\n.*: \d+ models, .* kB: fetch .* kB\?", done.stderr)
    assert shelf.bodies() == []
    assert answer("download", "--all", status=2)["code"] == "not-confirmed"
    terminal = Terminal("download", "--all")
    terminal.read("[y/N] ")
    terminal.type("n\n")
    assert terminal.end() == 130
    assert shelf.bodies() == []
    done = models("download", "--all", "--yes", "--quiet")
    assert done.returncode == 0, done.stderr
    installed = {row["id"] for row in answer("list", "--installed")}
    assert {"mine@1.0", "other@1.0", "t2v-A14B@2.2.0"} <= installed
    assert answer("verify", "--all")["models"]


def test_ctrl_c_ends_a_download_with_130_and_keeps_what_came(shelf: Shelf) -> None:
    shelf.hub.rate = 30_000
    process = subprocess.Popen(
        [*PROGRAM, "models", "download", "mine"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 20
    while shelf.look().present_bytes < 10_000 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == b""
    assert b"was stopped" in error
    assert b"Traceback" not in error
    assert shelf.look().state == "partial"
    shelf.hub.rate = None
    assert models("download", "mine").returncode == 0


@pytest.mark.parametrize(
    ("columns", "rows", "piped"), [(80, 24, False), (30, 24, False), (30, 24, True), (30, 2, False), (80, 2, True)]
)
@pytest.mark.sampled(2)
def test_a_bar_on_a_terminal_fits_it(shelf: Shelf, columns: int, rows: int, piped: bool) -> None:
    name = "vae/" + "a_long_name_" * 8 + ".safetensors"
    write(shelf.hub.root / "demo" / "one", {name: rand("long", 60_000)})
    shelf.hub.rate = 400_000
    more = {"stdout": subprocess.PIPE} if piped else {}
    terminal = Terminal("download", "mine", columns=columns, rows=rows, **more)
    assert terminal.end() == 0
    assert "\x1b[" in terminal.said
    drawn = [line for line in re.split(r"\r?\n|\x1b\[\d*[AJ]|\r", terminal.said) if line.startswith(("fetch", "  "))]
    assert drawn
    assert max(map(len, drawn)) < columns
    for up in re.findall(r"\x1b\[(\d+)A", terminal.said):
        assert int(up) < max(rows, 2)
    if columns == 80:
        assert re.search(r"fetch +mine@1\.0 +\d", terminal.said)


@pytest.mark.soak
def test_a_bar_without_unicode_is_drawn_with_what_there_is(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.hub.rate = 100_000
    terminal = Terminal(
        "download", "mine", env={**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )
    assert terminal.end() == 0
    assert "=" in terminal.said
    assert "━" not in terminal.said
    assert terminal.said.isascii()


def test_quiet_and_dumb_terminals_get_no_bar(shelf: Shelf) -> None:
    terminal = Terminal("download", "mine:light", "--quiet")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    terminal = Terminal("verify", "mine:light", env={**environment(), "TERM": "dumb"})
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    assert "verified  mine@1.0:light" in terminal.said


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_names_what_is_bad_and_repairs_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.download()
    good = answer("verify", "mine")
    assert good.keys() == {"models"}
    assert [(row["id"], row["state"], len(row["files"])) for row in good["models"]] == [
        ("mine@1.0", "verified", NEEDED)
    ]
    assert all(row.keys() >= {"path", "state", "expected", "actual"} for row in good["models"][0]["files"])
    assert all(row["expected"] == row["actual"] for row in good["models"][0]["files"])

    spoilt = Path(os.path.realpath(shelf.file(SHARD).path))
    flip(spoilt)
    shelf.file("vae/config.json").path.unlink()
    quick = answer("verify", "mine", "--quick", status=3)
    assert {row["path"]: row["state"] for row in quick["models"][0]["files"] if row["state"] != "verified"} == {
        SHARD: "complete",
        "vae/config.json": "partial",
    }
    bad = answer("verify", "mine", status=3)["models"][0]
    assert bad["state"] == "corrupt"
    (row,) = [row for row in bad["files"] if row["path"] == SHARD]
    assert (row["state"], row["actual"]) == ("corrupt", sha256(spoilt))
    assert row["expected"] == sha256(shelf.hub.root / "demo/one" / SHARD)

    done = models("verify", "mine")
    assert done.returncode == 3
    assert f"{SHARD}: its digest is {row['actual'][:16]}…, and should be {row['expected'][:16]}…" in done.stdout
    assert "do: wan-tui models verify mine@1.0 --repair" in done.stdout
    before = len(shelf.bodies())
    done = models("verify", "mine", "--repair")
    assert done.returncode == 0
    assert "verified  mine@1.0" in done.stdout
    assert shelf.bodies()[before:] == [SHARD]


def test_a_repair_that_cannot_be_says_so_once(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.download("mine:light")
    flip(Path(os.path.realpath(shelf.file("lora.safetensors", "mine:light").path)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = models("verify", "mine:light", "--repair")
    assert done.returncode == 3
    assert done.stderr.count("error: ") == 1
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert "corrupt   lora.safetensors: its digest is" in done.stdout
    told = answer("verify", "mine:light", "--repair", status=3)
    assert told["models"][0]["state"] == "corrupt"
    assert [error["code"] for error in told["errors"]] == ["offline"]


def test_verify_of_what_is_not_here(shelf: Shelf) -> None:
    assert answer("verify", "mine", status=3) == {"models": [{"id": "mine@1.0", "state": "absent", "files": []}]}
    assert answer("verify", "--all") == {"models": []}
    assert models("verify", "--all").stdout == "Nothing is on disk yet.\n"


def test_verify_without_a_list_says_so(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    write(tmp_path / "models" / "demo" / "one", model_files("one"))
    done = models("verify", "mine")
    assert done.returncode == 3
    assert "No lock file says what the files of mine@1.0 should be." in done.stderr


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_takes_what_is_the_model_s(shelf: Shelf, tmp_path: Path) -> None:
    files = model_files("one")
    folder = write(tmp_path / "theirs", {"x": files[SHARD], "y": files["vae/config.json"], "z": b"other"})
    told = answer("import", "mine", folder)
    assert told.keys() >= {"id", "state", "path", "taken", "taken_bytes", "lacking"}
    assert told["taken"] == sorted([SHARD, "vae/config.json"])
    assert (told["state"], len(told["lacking"])) == ("partial", NEEDED - 2)
    write(folder, {"vae/w": files["vae/diffusion_pytorch_model.safetensors"]})
    done = models("import", "mine", folder)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "mine@1.0: 1 files, 20.0 kB taken over; now partial",
        f"  {NEEDED - 3} are still missing: wan-tui models download mine@1.0",
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = models("import", "mine", empty)
    assert done.returncode == 3
    assert f"{empty} holds no file of mine@1.0." in done.stderr


# --- remove -----------------------------------------------------------------------------------------------------------


def test_remove_wants_a_yes(shelf: Shelf) -> None:
    shelf.download("mine:light")
    done = models("remove", "mine:light")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Remove mine@1.0:light and free" in done.stderr
    assert "Give --yes" in done.stderr
    assert answer("remove", "mine:light", status=2)["code"] == "not-confirmed"

    for reply in ("n\n", "\n", "\x04"):
        terminal = Terminal("remove", "mine:light")
        terminal.read("[y/N] ")
        terminal.type(reply)
        assert terminal.end() == 130
        assert "Nothing was removed." in terminal.said
    assert shelf.look("mine:light").state == "verified"

    terminal = Terminal("remove", "mine:light")
    terminal.read("[y/N] ")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "removed  mine@1.0:light" in terminal.said
    assert shelf.look("mine:light").state == "absent"
    done = models("remove", "mine:light", "--yes")
    assert done.returncode == 3
    assert "there is nothing to remove" in done.stderr


def test_remove_as_json(shelf: Shelf) -> None:
    shelf.download("mine:fp8")
    shelf.download()
    told = answer("remove", "mine", "--yes")
    assert told.keys() >= {"id", "freed_bytes", "shared_bytes", "removed", "kept", "needed_by"}
    assert told["removed"] == [str(hub_cache() / "models--demo--one")]
    assert told["needed_by"] == ["mine@1.0:fp8"]


@pytest.mark.parametrize("how", ["by its id", "by its folder", "by a variant that borrows it"])
@pytest.mark.sampled(3)
def test_a_model_of_a_job_is_not_removed(shelf: Shelf, how: str) -> None:
    shelf.download()
    path = shelf.look().path
    if how == "by a variant that borrows it":
        shelf.download("mine:fp8")
    name = {"by its id": "mine@1.0", "by its folder": str(path)}.get(how, "mine@1.0:fp8")
    journal = Journal()
    job = journal.accept(model=name, task="text", prompt="a", job_toml="")
    error = answer("remove", "mine", "--yes", status=1)
    assert error["code"] == "busy"
    assert job in error["message"]
    assert shelf.look().state == "verified"
    journal.cancelled(job, "user")
    assert answer("remove", "mine", "--yes")["id"] == "mine@1.0"


def test_hostile_names_never_reach_a_terminal_raw(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "mod\x1b]0;els"))
    folder = tmp_path / "mod\x1b]0;els" / "demo" / "one"
    shelf.download()
    hostile = ["\x1b[2J\x1b]0;owned\x07", "a\nerror: forged", "vae/\x9b31m", os.fsdecode(b"\xff\xfe")]
    for name in hostile:
        (folder / name).write_bytes(b"x")
    shelf.hub.rewrite("demo/two", lambda rows: [{**rows[0], "path": "\x1b[2Jx", "rfilename": "\x1b[2Jx"}])
    for arguments in (
        ["list"],
        ["show", "mine"],
        ["verify", "mine"],
        ["remove", "mine"],
        ["download", "other"],
        ["import", "mine", folder / hostile[0]],
        ["show", "\x1b[2J"],
    ):
        done = models(*arguments)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout + done.stderr), arguments
        assert not re.search("^error: forged", done.stderr, re.MULTILINE), arguments
    assert models("show", "\x1b[2J").returncode == 2
    (folder / "model_index.json").unlink()
    manifest = shelf.manifest.read_text()
    shelf.manifest.write_text(manifest.replace('"Mine"', '"\\u001b[2J"'))
    done = models("list")
    assert (done.returncode, "\x1b" in done.stderr) == (2, False)


@pytest.mark.parametrize("arguments", [["list"], ["show", "mine"], ["verify", "mine:light"]])
def test_readers_that_go_and_streams_that_are_closed(shelf: Shelf, arguments: list[str]) -> None:
    shelf.download("mine:light")
    program = " ".join([*PROGRAM, "models", *arguments])
    for line, status in ((f"{program} | head -c 1", 0), (f"{program} >&-", 0), (f"{program} 2>&-", 0)):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"], env=environment(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, (line, done.stderr)
        assert done.stderr == ""


@pytest.mark.soak
def test_names_that_the_locale_lacks_are_escaped(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "Modèle-模型"))
    shelf.download("mine:light")
    for locale in ({"LC_ALL": "C"}, {"LC_ALL": "en_US.ISO-8859-1"}):
        env = {**environment(), **locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
        for arguments in (["list"], ["verify", "mine:light"], ["remove", "mine:light"]):
            done = subprocess.run([*PROGRAM, "models", *arguments], env=env, capture_output=True, timeout=60)
            assert done.returncode == (2 if arguments[0] == "remove" else 0), done.stderr
            assert b"Traceback" not in done.stderr
            assert (done.stdout + done.stderr).isascii()
            assert b"mine@1.0" in done.stdout + done.stderr or arguments[0] == "list"


def test_the_terminal_sees_no_progress_left_over(shelf: Shelf) -> None:
    shelf.download()
    tick()
    terminal = Terminal("verify", "mine")
    assert terminal.end() == 0
    assert terminal.said.rstrip().splitlines()[-1].startswith("verified  mine@1.0, 11 files")
