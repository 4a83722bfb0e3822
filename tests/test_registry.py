"""Compatibility facts: what ships, what an update brings, what the user adds, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest
import tomli_w

from engine.catalog import load_catalog
from engine.compat.classes import has_class
from engine.compat.registry import Facts, kept_file, load_registry, own_file
from engine.compat.registry_rules import OPTIMISATIONS
from engine.compat.registry_update import update_registry
from engine.errors import JobError
from tests.disks import small_disk
from tests.runs import PROGRAM, wan_tui

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "engine" / "compat" / "registry.toml"
ID = "t2v-1.3B@2.1.0"
HEAD = "form = 1\nrevised = 2026-12-01\n"


def facts(reference: str = ID) -> Facts:
    return load_registry().facts(*load_catalog().find(reference))


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def own(text: str) -> Path:
    return written(own_file(), text)


def update(folder: Path, text: str, name: str = "newer.toml", revised: str = "2026-12-01") -> Path:
    return written(folder / name, f"form = 1\nrevised = {revised}\n{text}")


def needing(*requirements: str, id: str = ID) -> str:
    return tomli_w.dumps({"models": {id: {"requires": requirements}}})


# --- what ships -------------------------------------------------------------------------------------------------------


def test_every_model_and_variant_has_facts() -> None:
    registry = load_registry()
    assert registry.problems == ()
    for spec in load_catalog().models:
        for variant in (None, *spec.variants):
            known = registry.facts(spec, variant)
            assert known.pipeline == spec.pipeline
            assert set(known.optimisations) <= set(OPTIMISATIONS)
            if spec.family == "s2v":  # diffusers has no pipeline
                assert known.notes
                continue
            assert known.pipeline
            assert has_class("diffusers", known.pipeline)
            packages = {requirement.split(">")[0] for requirement in known.requires}
            assert packages >= {"diffusers", "transformers", "accelerate", "ftfy", "sentencepiece"}
            assert all(known.origin[f"requires.{name}"].startswith("shipped 2026-") for name in packages)


@pytest.mark.parametrize(
    ("model", "requirement", "table"),
    [
        ("t2v-1.3B", "diffusers>=0.33", "pipelines.WanPipeline"),
        ("t2v-A14B", "diffusers>=0.35", "models.'t2v-A14B@2.2.0'"),
        ("ti2v-5B", "diffusers>=0.35", "families.ti2v"),
        ("vace-14B", "diffusers>=0.34", "pipelines.WanVACEPipeline"),
        ("animate-14B", "diffusers>=0.36", "pipelines.WanAnimatePipeline"),
        ("animate-2-14B", "diffusers>=0.40", "pipelines.WanAnimate2ModularPipeline"),
        ("t2v-A14B:gguf-q4", "gguf>=0.10", "variants.gguf"),
        ("i2v-A14B:lightning", "peft>=0.17", "variants.lora-4-steps"),
    ],
)
def test_a_fact_says_where_it_stands(model: str, requirement: str, table: str) -> None:
    known = facts(model)
    assert requirement in known.requires
    assert known.asked_by(requirement) == f"shipped 2026-11-21, {table}"
    assert [one for one in known.requires if one.startswith("diffusers")] == [known.requires[0]]  # replaced, not added


def test_what_the_publishers_say_of_memory() -> None:
    assert facts("t2v-1.3B").vram_min_bytes == 8_190_000_000
    assert facts("ti2v-5B").vram_advice_bytes == 24_000_000_000
    assert facts("i2v-A14B").vram_advice_bytes == 80_000_000_000
    assert (facts("vace-14B").vram_min_bytes, facts("vace-14B").vram_advice_bytes) == (None, None)


def test_what_ships_names_only_models_and_kinds_that_exist() -> None:
    table = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    models = load_catalog().models
    assert set(table["models"]) <= {spec.id for spec in models}
    assert set(table["variants"]) <= {variant.kind for spec in models for variant in spec.variants}
    assert set(table["pipelines"]) - {"WanVideoToVideoPipeline"} == {spec.pipeline for spec in models} - {None}


# --- layers -----------------------------------------------------------------------------------------------------------


def test_the_users_additions_come_over_an_update_and_that_over_what_ships(tmp_path: Path) -> None:
    before = facts()
    file = update(tmp_path, f'[models."{ID}"]\nvram_min_bytes = 7\nvram_advice_bytes = 8\nrequires = ["One>=1","two"]')
    done = update_registry(file)
    assert [(one.key, one.old, one.new) for one in done.changes] == [
        (f"models.'{ID}'.vram_min_bytes", 8_190_000_000, 7),
        (f"models.'{ID}'.vram_advice_bytes", None, 8),
        (f"models.'{ID}'.requires", None, ("one>=1", "two")),
    ]
    own(f'[models."{ID}"]\nvram_advice_bytes = 9\nrequires = ["three", "one>=1.5"]\nnotes = ["mine"]')
    after = facts()
    assert (after.vram_min_bytes, after.vram_advice_bytes) == (7, 9)
    assert after.requires == (*before.requires, "one>=1.5", "two", "three")  # the user's are added
    assert after.notes == ("mine",)
    assert after.optimisations == before.optimisations
    assert after.origin["vram_min_bytes"] == f"{file} of 2026-12-01, models.'{ID}'"
    assert after.origin["requires.two"] == after.origin["vram_min_bytes"]
    assert after.origin["requires.one"] == after.origin["notes.0"] == f"{own_file()}, models.'{ID}'"
    assert after.origin["requires.ftfy"] == before.origin["requires.ftfy"]
    assert facts("ti2v-5B") == load_registry().facts(*load_catalog().find("ti2v-5B@2.2.0"))


def test_an_update_replaces_the_packages_of_a_table(tmp_path: Path) -> None:
    update_registry(update(tmp_path, '[variants.gguf]\nrequires = ["gguf>=0.20", "lz4"]'))
    update_registry(update(tmp_path, '[variants.gguf]\nrequires = ["gguf>=0.21"]', "next.toml"))
    known = facts("t2v-A14B:gguf-q4")
    assert known.requires[-1] == "gguf>=0.21"
    assert "lz4" not in known.requires
    update_registry(update(tmp_path, '[pipelines.WanPipeline]\nrequires = ["diffusers>=0.50"]', "last.toml"))
    assert facts().requires == ("diffusers>=0.50",)  # what ships as well


def test_each_update_keeps_its_provenance(tmp_path: Path) -> None:
    first = update(tmp_path, f'[models."{ID}"]\nvram_min_bytes = 1\nvram_advice_bytes = 2')
    second = update(tmp_path, f'[models."{ID}"]\nvram_min_bytes = 3', "second.toml", "2026-12-05")
    update_registry(first)
    update_registry(second)
    known = facts()
    assert (known.vram_min_bytes, known.vram_advice_bytes) == (3, 2)
    assert known.origin["vram_min_bytes"].startswith(f"{second} of 2026-12-05")
    assert known.origin["vram_advice_bytes"].startswith(f"{first} of 2026-12-01")
    kept = tomllib.loads(kept_file().read_text(encoding="utf-8"))["provenance"]
    assert [(one["file"], one["revised"], one["sha256"]) for one in kept] == [
        (str(first), date(2026, 12, 1), hashlib.sha256(first.read_bytes()).hexdigest()),
        (str(second), date(2026, 12, 5), hashlib.sha256(second.read_bytes()).hexdigest()),
    ]
    assert [one.kind for one in load_registry().sources] == ["shipped", "update", "update"]
    assert update_registry(second).changes == ()  # again: nothing new, and nothing piles up
    assert len(tomllib.loads(kept_file().read_text(encoding="utf-8"))["provenance"]) == 2


def test_an_update_of_a_far_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="9999-12-31"):
        update_registry(update(tmp_path, needing("one"), revised="9999-12-31"))
    assert not kept_file().exists()


@pytest.mark.parametrize("revised", ["2026-11-20", "1999-01-01"])
def test_an_update_older_than_what_ships_is_refused(tmp_path: Path, revised: str) -> None:
    with pytest.raises(JobError, match="older than what is here") as refused:
        update_registry(update(tmp_path, needing("one"), revised=revised))
    assert (refused.value.code, refused.value.status) == ("registry-older", 2)
    assert not kept_file().exists()


def test_an_update_older_than_the_last_is_refused(tmp_path: Path) -> None:
    update_registry(update(tmp_path, needing("one"), revised="2026-12-09"))
    before = kept_file().read_bytes()
    with pytest.raises(JobError, match=r"older than .*newer\.toml of 2026-12-09") as refused:
        update_registry(update(tmp_path, needing("two"), "older.toml", "2026-12-08"))
    assert str(kept_file()) in refused.value.suggestions[0]
    assert kept_file().read_bytes() == before


def test_what_was_merged_is_left_out_when_newer_facts_ship(tmp_path: Path) -> None:
    update_registry(update(tmp_path, needing("one")))
    kept_file().write_text(kept_file().read_text(encoding="utf-8").replace("2026-12-01", "2026-11-01"))
    registry = load_registry()
    assert "one" not in facts().requires
    assert registry.problems == ()  # that is how it should be
    assert "older than what ships" in (registry.sources[1].left_out or "")
    update_registry(update(tmp_path, needing("two")))
    assert '"one"' not in kept_file().read_text(encoding="utf-8")


def test_a_model_of_the_user_has_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = written(tmp_path / "mine.toml", '[models."mine@1"]\ntitle="M"\nfamily="t2v"\nrepo="me/mine"\n')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
    own('[models."mine@1"]\npipeline = "WanVACEPipeline"\n[models."t2v-A14B@2.2.0:bf16"]\nrequires = ["only-bf16"]')
    known = facts("mine")
    assert (known.pipeline, known.requires[0]) == ("WanVACEPipeline", "diffusers>=0.34")
    assert known.origin["pipeline"].startswith(str(own_file()))
    assert "only-bf16" in facts("t2v-A14B:bf16").requires
    assert "only-bf16" not in facts("t2v-A14B").requires


# --- what is broken or hostile ----------------------------------------------------------------------------------------

HOSTILE = {
    "no TOML": ("form = ", "not valid TOML"),
    "no UTF-8": (b"form = 1\xff", "not valid TOML"),
    "no form": ("revised = 2026-12-01\n" + needing("a"), "form is missing"),
    "a form to come": ("form = 2\nrevised = 2026-12-01\n" + needing("a"), "form is 2"),
    "a form that is true": ("form = true\nrevised = 2026-12-01", "form cannot be True"),
    "no date": ("form = 1\n" + needing("a"), "revised is missing"),
    "a date as text": ('form = 1\nrevised = "2026-12-01"', "revised cannot be"),
    "a date with a time": ("form = 1\nrevised = 2026-12-01T10:00:00", "revised cannot be"),
    "no facts": (HEAD, "holds no facts"),
    "an unknown section": (HEAD + "[model.x]", "model is unknown"),
    "an unknown family": (HEAD + "[families.t2w]\nnotes=[]", "families.t2w is unknown"),
    "an unknown key": (HEAD + "[models.x]\nrequire = []", "models.x.require is unknown"),
    "a class for a family": (HEAD + '[families.t2v]\npipeline = "X"', "families.t2v.pipeline is unknown"),
    "a class that is code": (HEAD + '[models.x]\npipeline = "os.system"', "models.x.pipeline cannot be"),
    "no table": (HEAD + "models = 3", "models cannot be 3"),
    "no list": (HEAD + '[models.x]\nrequires = "a"', "models.x.requires cannot be"),
    "no text": (HEAD + "[models.x]\nrequires = [7]", "models.x.requires.0 cannot be 7"),
    "a URL": (HEAD + needing("a @ https://evil.example/a.whl"), "carries a URL"),
    "a file": (HEAD + needing("a @ file:///tmp/a.whl"), "carries a URL"),
    "an option": (HEAD + needing("--index-url=https://evil.example"), "is not a package"),
    "an option after a name": (HEAD + needing("a --pre"), "is not a package"),
    "a short option": (HEAD + needing("-r/etc/passwd"), "is not a package"),
    "a path": (HEAD + needing("./a"), "is not a package"),
    "extras": (HEAD + needing("a[evil]>=1"), "carries extras"),
    "a marker": (HEAD + needing('a>=1; python_version > "3"'), "carries a marker"),
    "a shell": (HEAD + needing("a; rm -rf ~"), "is not a package"),
    "two lines": (HEAD + needing("a\nb"), "cannot be"),
    "an arbitrary version": (HEAD + needing("a===whatever"), "no version"),
    "a version that is a file": (HEAD + needing("a==1.0+x.zip"), "no version"),
    "a name of other letters": (HEAD + needing("аbc"), "plain text"),  # Cyrillic а
    "a long name": (HEAD + needing("a" * 300), "plain text"),
    "a terminal's language": (HEAD + '[models.x]\nnotes = ["\\u001b[2J"]', "models.x.notes.0 cannot be"),
    "text that turns": (HEAD + '[models.x]\nnotes = ["\\u202egnp"]', "models.x.notes.0 cannot be"),
    "a key that rewrites": (HEAD + '[models."\\u001b]0;x"]\nnotes = []', "without|cannot be"),
    "an unknown optimisation": (HEAD + '[models.x]\noptimisations = ["stagged"]', "optimisations.0 cannot be"),
    "an optimisation that is a table": (HEAD + "[models.x]\noptimisations = [{}]", "optimisations.0 cannot be"),
    "memory below none": (HEAD + "[models.x]\nvram_min_bytes = -1", "vram_min_bytes cannot be -1"),
    "memory that is true": (HEAD + "[models.x]\nvram_min_bytes = true", "vram_min_bytes cannot be True"),
    "memory in parts": (HEAD + "[models.x]\nvram_min_bytes = 1.5", "vram_min_bytes cannot be 1.5"),
    "memory beyond all": (HEAD + "[models.x]\nvram_min_bytes = 0x" + "f" * 9000, "vram_min_bytes cannot be"),
    "a bomb of brackets": (HEAD + "x = " + "[" * 200_000, "nested too deeply"),
    "a bomb of dots": (HEAD + "a" + ".a" * 400_000 + " = 1", "more than 64 dots in line 3"),
    "a megabyte": (HEAD + "#" * (1 << 20), "larger than 1 MiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_broken_or_hostile_file_is_refused(tmp_path: Path, name: str) -> None:
    data, problem = HOSTILE[name]
    file = tmp_path / "bad.toml"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(JobError, match=problem) as refused:
        update_registry(file)
    assert (refused.value.code, refused.value.status) == ("bad-registry", 2)
    assert str(file) in refused.value.message
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 600
    assert refused.value.suggestions
    assert not kept_file().exists()
    # As the user's own file it costs only itself.
    if not {"no form", "no date", "no facts"} & {name}:
        own("")
        own_file().write_bytes(file.read_bytes())
        registry = load_registry()
        assert len(registry.problems) == 1
        assert str(own_file()) in registry.problems[0]
        assert facts().vram_min_bytes == 8_190_000_000


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "device", "unreadable"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file.toml"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "unreadable":
        file.symlink_to(file)
    with pytest.raises(JobError, match=r"file\.toml (cannot be read|is no regular file)"):
        update_registry(file)


def test_the_nearest_known_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError) as refused:
        update_registry(update(tmp_path, "[models.x]\nvram_min_byte = 3"))
    assert refused.value.suggestions[0].startswith("Did you mean vram_min_bytes")


@pytest.mark.parametrize(
    "text",
    [
        "broken",
        "form = 2",
        "form = 1\nprovenance = 3",
        "form = 1\n[[provenance]]\nfile = 3",
        'form = 1\n[[provenance]]\nfile = "x"\nsha256 = "0"\nwhen = 2026-12-01T10:00:00Z\nrevised = 2026-12-01\n'
        '[provenance.facts.models.x]\nrequires = ["a @ https://evil.example"]',
    ],
)
def test_a_broken_kept_file_costs_only_itself_and_is_not_written_over(tmp_path: Path, text: str) -> None:
    written(kept_file(), text)
    assert "ftfy>=6.3" in facts().requires
    (problem,) = load_registry().problems
    assert str(kept_file()) in problem
    with pytest.raises(JobError) as refused:
        update_registry(update(tmp_path, needing("one")))
    assert str(kept_file()) in refused.value.message
    assert "Remove" in refused.value.suggestions[0]
    assert kept_file().read_text(encoding="utf-8") == text


@pytest.mark.soak
def test_merged_facts_do_not_grow_beyond_what_is_read(tmp_path: Path) -> None:
    big = tomli_w.dumps({"models": {f"m{n}": {"notes": ["n" * 400]} for n in range(2000)}})
    update_registry(update(tmp_path, big))
    before = kept_file().read_bytes()
    with pytest.raises(JobError, match="more than 1 MiB"):
        update_registry(update(tmp_path, big.replace("models.m", "models.other"), "more.toml"))
    assert kept_file().read_bytes() == before
    assert load_registry().problems == ()


def test_a_full_disk_leaves_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setenv("XDG_DATA_HOME", str(disk))
        update_registry(update(tmp_path, needing("one")))
        before = kept_file().read_bytes()
        big = tomli_w.dumps({"models": {f"m{n}": {"notes": ["n" * 400]} for n in range(500)}})
        done = wan_tui("update-registry", update(tmp_path, big, "big.toml"), "--json")
        assert (done.returncode, json.loads(done.stdout)["code"]) == (1, "disk-full")
        assert kept_file().read_bytes() == before
        assert [file.name for file in kept_file().parent.iterdir()] == [kept_file().name]


def test_two_updates_at_once_are_both_kept(tmp_path: Path) -> None:
    files = [update(tmp_path, needing("x", id=f"model-{n}"), f"{n}.toml") for n in range(6)]
    running = [
        subprocess.Popen([*PROGRAM, "update-registry", file], cwd=ROOT, stdout=subprocess.DEVNULL) for file in files
    ]
    assert [one.wait(60) for one in running] == [0] * 6
    kept = tomllib.loads(kept_file().read_text(encoding="utf-8"))["provenance"]
    assert {one["file"] for one in kept} == set(map(str, files))


# --- the command ------------------------------------------------------------------------------------------------------


def test_update_registry_says_what_changed(tmp_path: Path) -> None:
    file = update(tmp_path, f'[models."{ID}"]\nvram_min_bytes = 7\nrequires = ["one>=1"]')
    done = wan_tui("update-registry", file.name, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"changed  models.'{ID}'.vram_min_bytes: 8190000000 -> 7",
        f"added    models.'{ID}'.requires: one>=1",
        f"merged   2 facts of {file}, which is of 2026-12-01; kept in {kept_file()}",
    ]
    again = json.loads(wan_tui("update-registry", file, "--json").stdout)
    assert again["changes"] == []
    assert again["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_update_registry_refuses_in_one_message(tmp_path: Path) -> None:
    done = wan_tui("update-registry", update(tmp_path, needing("a @ https://evil.example")))
    assert (done.returncode, done.stdout) == (2, "")
    assert "models.'t2v-1.3B@2.1.0'.requires.0" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shipped_file_is_an_update_of_itself(tmp_path: Path) -> None:
    shutil.copy(SHIPPED, tmp_path / "same.toml")
    assert update_registry(tmp_path / "same.toml").changes == ()
    assert facts().vram_min_bytes == 8_190_000_000
