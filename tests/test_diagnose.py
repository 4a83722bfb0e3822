"""`diagnose`: the file it writes, what stands in it, and what must not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engine.runtime.diagnose as room
from engine.catalog import load_catalog
from engine.compat.redact import known_secrets, redacted
from engine.control import Control
from engine.errors import Cancelled, FitError, JobError, ModelError
from engine.events import Bus
from engine.runtime.check import subject
from engine.runtime.smoke import file_name
from tests.damage import copy, spoil
from tests.runs import wan_tui
from tests.test_layers import HEAVY, _loaded_by

TinyModel = Callable[[str], Path]
KEYS = {
    "made", "versions", "system", "model", "report", "load_attempt", "errors", "warnings", "notes", "recommendations",
    "alternatives",
}  # fmt: skip
TOKEN, SAVED = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567", "a-token-of-another-form"


def diagnosed(model: Path | str, folder: Path, **more: Any) -> dict[str, Any]:
    """The report, as it stands in its file."""
    catalog = load_catalog()
    path, facts = room.diagnose(subject(str(model), catalog), catalog, folder, Bus(), Control(), device="cpu", **more)
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(facts))
    assert set(kept) == KEYS
    return kept


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_from_the_outside_without_a_secret(
    tiny_model: TinyModel, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model below the home, tokens and passwords wherever they may be: none of it is in the report."""
    model = copy(tiny_model("t2v"), own_home / "models" / "mine")
    (model / f"notes_{TOKEN}_{SAVED}.txt").write_text("x")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", "https://anna:pass@word@mirror.example/hub")
    monkeypatch.setenv("HTTPS_PROXY", "http://only-a-token-here@proxy.example:3128")
    monkeypatch.setenv("MODELS_ROOT", str(own_home / "models"))
    (own_home / "hf").mkdir(exist_ok=True)
    (own_home / "hf" / "token").write_text(SAVED)
    done = wan_tui("diagnose", model, "--output", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "mine_compat.json"
    text = file.read_text(encoding="utf-8")
    told = json.loads(text)
    assert told == json.loads(done.stdout)
    assert set(told) == KEYS
    for secret in (str(own_home), TOKEN, SAVED, "anna", "pass@word", "only-a-token-here"):
        assert secret not in text
    assert told["model"]["path"] == "~/models/mine"
    assert told["system"]["disk"].startswith("~")
    settings = told["system"]["settings"]
    assert (settings["HF_TOKEN"], settings["HF_ENDPOINT"]) == ("(set)", "https://[token]@mirror.example/hub")
    assert "notes_[token]_[token].txt" in [one["path"] for one in told["model"]["files"]]
    assert (told["report"]["verdict"], told["load_attempt"]["state"]) == ("runs", "loaded")
    assert [part["state"] for part in told["load_attempt"]["components"]] == ["loaded"] * 5
    assert told["model"]["architecture"]["components"]["transformer"]["class"] == "WanTransformer3DModel"


def test_a_saved_token_and_one_under_another_name_are_secrets(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    monkeypatch.setenv("SHORT_TOKEN", "ab")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disabled")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: SAVED)
    found = known_secrets()
    assert {SAVED, "sk-0123456789"} <= set(found)
    assert {"ab", "disabled", ""}.isdisjoint(found)


def test_a_model_that_cannot_run_is_reported_all_the_same(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    shutil.rmtree(model / "vae")
    done = wan_tui("diagnose", model, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("model: cannot run\n")
    assert "\nload     Not tried. " in done.stdout
    assert str(tmp_path / "out" / "model_compat.json") in done.stdout
    told = json.loads((tmp_path / "out" / "model_compat.json").read_text())
    assert told["report"]["verdict"] == "cannot-run"
    assert told["load_attempt"]["attempted"] is False
    assert "lacks" in told["load_attempt"]["why"]
    assert told["errors"] == [one for one in told["report"]["findings"] if one["severity"] == "error"]
    assert told["recommendations"]
    assert len(set(told["recommendations"])) == len(told["recommendations"])


def test_a_model_that_is_not_here_is_judged_from_the_catalog(tmp_path: Path) -> None:
    told = diagnosed("t2v-A14B", tmp_path)
    (file,) = tmp_path.glob("*_compat.json")
    assert file.name == f"{told['model']['name']}_compat.json"
    assert (told["model"]["state"], told["load_attempt"]["attempted"]) == ("absent", False)
    assert f"wan-tui models download {told['model']['name']}" in told["recommendations"]


def test_what_fails_to_load_is_an_error_of_the_report(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = copy(tiny_model("t2v"), tmp_path / "model")
    name = spoil(model, "vae", "decoder.conv_in")
    told = diagnosed(model, tmp_path / "out")
    assert (told["report"]["verdict"], told["load_attempt"]["state"]) == ("runs", "failed")
    (error,) = told["errors"]
    assert (error["severity"], error["code"], error["component"]) == ("error", "weights-not-finite", "vae")
    assert name in error["message"]
    assert set(error["suggestions"]) <= set(told["recommendations"])


# --- when and where it is written -------------------------------------------------------------------------------------


def test_it_is_there_before_anything_is_loaded(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t2v_compat.json"
    seen: list[Any] = []

    def load(*_: Any, **__: Any) -> Any:
        seen.append(json.loads(file.read_text())["load_attempt"])
        raise Cancelled("user")

    monkeypatch.setattr(room, "try_load", load)
    with pytest.raises(Cancelled):
        diagnosed(tiny_model("t2v"), tmp_path)
    assert seen == [{"attempted": True, "state": "started"}]
    assert json.loads(file.read_text())["load_attempt"] == {"attempted": True, "state": "cancelled"}


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (FitError("does-not-fit", "too large"), {"attempted": False, "why": "too large"}),
        (ModelError("odd", "an odd thing"), {"attempted": True, "state": "failed"}),
        (ZeroDivisionError("ours"), {"attempted": True, "state": "failed"}),
    ],
    ids=["fit", "named", "bug"],
)
def test_a_load_that_fails_as_a_whole_leaves_a_report(
    error: Exception, attempt: dict[str, Any], tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(room, "try_load", load)
    told = diagnosed(tiny_model("t2v"), tmp_path)
    assert {key: told["load_attempt"].get(key) for key in attempt} == attempt
    assert bool(told["errors"]) == attempt["attempted"]


def test_without_loading_torch_stays_away(tiny_model: TinyModel, tmp_path: Path) -> None:
    arguments = ["diagnose", str(tiny_model("t2v")), "--no-load", "--output", str(tmp_path)]
    assert _loaded_by(f"from wan_tui.cli import main; main({arguments!r})", HEAVY) == []
    assert json.loads((tmp_path / "t2v_compat.json").read_text())["load_attempt"]["attempted"] is False


def test_a_report_replaces_the_one_before_and_nothing_else(tiny_model: TinyModel, tmp_path: Path) -> None:
    model, file = tiny_model("t2v"), tmp_path / "t2v_compat.json"
    first = diagnosed(model, tmp_path, load=False)
    assert first["model"]["mark"] == diagnosed(model, tmp_path, load=False)["model"]["mark"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [file.name]
    precious = tmp_path / "precious"
    precious.write_text("mine")
    file.unlink()
    file.symlink_to(precious)
    with pytest.raises(JobError, match="cannot be written"):
        diagnosed(model, tmp_path, load=False)
    file.unlink()
    file.mkdir()
    with pytest.raises(JobError, match="cannot be written"):
        diagnosed(model, tmp_path, load=False)
    assert precious.read_text() == "mine"


def test_models_of_one_name_have_a_report_each(tiny_model: TinyModel, tmp_path: Path) -> None:
    out, models = tmp_path / "out", [tmp_path / name for name in ("x/a b", "x/a-b", "y/a-b")]
    for model in models:
        model.parent.mkdir(exist_ok=True)
        copy(tiny_model("t2v"), model)
    for _ in range(2):
        for model in models:
            diagnosed(model, out, load=False)
    told = {file.name: json.loads(file.read_text())["model"]["path"] for file in out.iterdir()}
    names = ("a-b_compat.json", "a-b-2_compat.json", "a-b-3_compat.json")
    assert told == dict(zip(names, map(str, models), strict=True))


@pytest.mark.parametrize("text", ["old", "", "[]", '{"model": 5}', '{"model": {"name": "t2v"}}'])
def test_what_does_not_say_whose_report_it_is_stays(text: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    file = tmp_path / "t2v_compat.json"
    file.write_text(text)
    diagnosed(tiny_model("t2v"), tmp_path, load=False)
    assert file.read_text() == text
    assert (tmp_path / "t2v-2_compat.json").exists()


def test_without_a_key_no_report_is_replaced(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a file"))  # no folder can be made there
    for _ in range(2):
        diagnosed(tiny_model("t2v"), tmp_path, load=False)
    assert len(list(tmp_path.glob("*_compat.json"))) == 2


def test_a_variant_is_told_by_its_id(tmp_path: Path) -> None:
    done = wan_tui("diagnose", "t2v-A14B:gguf-q4", "--no-load", "--output", tmp_path)
    assert done.stdout.startswith("t2v-A14B@2.2.0:gguf-q4: cannot run\n"), done.stderr
    assert "1 notes" not in done.stdout and "1 errors" not in done.stdout
    assert (tmp_path / "t2v-A14B@2.2.0-gguf-q4_compat.json").exists()


def test_a_place_that_cannot_be_written_is_one_message(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = wan_tui("diagnose", tiny_model("t2v"), "--output", tmp_path / "taken" / "deeper")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("error:") == 1
    assert "cannot be written" in done.stderr


def test_a_folder_that_may_not_be_written_is_said(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(room, "write_atomic", refuse)  # root may write anywhere
    with pytest.raises(JobError, match="cannot be written") as caught:
        diagnosed(tiny_model("t2v"), tmp_path, load=False)
    assert caught.value.cause == "Permission denied"


def test_nothing_at_a_path_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing at"):
        diagnosed(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_odd_names_of_folders_make_plain_names_of_files(tiny_model: TinyModel, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b".a b\n\xff" + b"x" * 230)
    odd.symlink_to(tiny_model("t2v"))
    diagnosed(odd, tmp_path / "out", load=False)
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "a-b--" + "x" * 145 + "_compat.json"
    assert [file_name(name) for name in ("t2v@2.1-bf16", "../..", "", "猫", "a/b")] == [
        "t2v@2.1-bf16", "model", "model", "猫", "a-b"
    ]  # fmt: skip


# --- what may leave the box -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("{home}/models/x lacks vae", "~/models/x lacks vae"),
        ("in {home}.", "in ~."),
        ("file://{home}", "file://~"),
        ("{home}2/x", "{home}2/x"),
        ("{home}-old/x", "{home}-old/x"),
        ("/home/bob/x and '/Users/eve'", "/home/[user]/x and '/Users/[user]'"),
        ("/srv/home/bob", "/srv/home/bob"),
        ("file_hf_AbCdEfGh12.txt", "file_[token].txt"),
        ("Authorization: Bearer abc.def-12345=", "Authorization: [token]"),
        ("https://u:p@ss@host/x?to=a@b", "https://[token]@host/x?to=a@b"),
        ("https://tok@host", "https://[token]@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("the word my-secret stands here", "the word [token] stands here"),
    ],
)
def test_redaction(text: str, clean: str, own_home: Path) -> None:
    given, due = (one.replace("{home}", str(own_home)) for one in (text, clean))
    secrets = ("", "my-secret", "my-sec")
    assert redacted(given, secrets) == due
    assert redacted({given: [(given, 5, None)]}, secrets) == {due: [[due, 5, None]]}


def test_a_path_is_redacted_too(own_home: Path) -> None:
    assert redacted(own_home / "x") == "~/x"
    assert redacted(Path("https://u:p@host/x")) == "https:/[token]@host/x"
