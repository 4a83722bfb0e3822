"""The composer's logic: forms, their jobs, what is known before a run, presets, files, the editor, the picker."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.catalog import ModelSpec, load_catalog
from engine.compat.anatomy import read_anatomy
from engine.compat.identify import component_parameters, parameters
from engine.compat.machine import Machine
from engine.errors import JobError
from engine.hardware import Card
from engine.job import MAX_SEED, Job
from engine.jobfile import PROMPT_BYTES, RULES, Refused, job_from_table, read_job
from engine.memory import unknown
from engine.runtime.seat import no_such_device, seat_of
from tests.runs import environment
from wan_tui.composing.editor import edit
from wan_tui.composing.entries import entries
from wan_tui.composing.examine import Untraced, examine
from wan_tui.composing.fields import Field, fields, fitted
from wan_tui.composing.files import load, save
from wan_tui.composing.form import KEPT, KEYS, Form
from wan_tui.composing.presets import apply, load_presets, name_problem, presets_folder, save_preset, shipped
from wan_tui.composing.read import NAME, changed, form_of, path_text, problem, read, table_of
from wan_tui.composing.support import support
from wan_tui.composing.sweep import MOST_CLIPS, Axis, axis, combinations, submit, sweep

CATALOG = load_catalog()
HERE = Path("/work-folder")
ALL = pytest.mark.parametrize("spec", CATALOG.models, ids=lambda spec: spec.id)
HOSTILE = (
    "closing [/b] tag",
    "[@click=app.quit]hi[/]",
    'quotes " \' """ \\ and # no comment',
    "שלום \u202eover\u202c",
    "a\tb\nc",
    "x" * 10_000,
    "👩‍👩‍👧 cat",
    "一只橘猫沿着花园墙走",
    "e\u0301\u0302\u0303",
    "  spaces around  ",
)


def a_form(**texts: str) -> Form:
    form = Form()
    for key, text in {"prompt": "a cat", **texts}.items():
        form = form.put(key.replace("__", "."), text)
    return form


def model(name: str) -> ModelSpec:
    return CATALOG.find(name)[0]


def filled(spec: ModelSpec) -> Form:
    """A form with something in every field a model takes."""
    form = Form({"model": spec.id, "inputs.video": "clips/v.mp4"} if "video" in spec.tasks else {"model": spec.id})
    for one in fields(spec, form):
        form = form.put(one.key, example(one))
    return form


def example(one: Field) -> str:
    special = {"seed": "42", "memory.vram_limit": "12GiB", "output.path": "outputs/a b.mp4", "output.crf": "20"}
    if one.key in special:
        return special[one.key]
    if one.kind in ("path", "paths"):
        return f"in/{one.label}.png" + ("\nin/二.png" if one.kind == "paths" else "")
    if one.choices:
        return one.choices[-1]
    return "0.5" if one.kind == "number" else "17" if one.kind == "whole" else f"{one.label} [/b] 猫"


# --- fields -----------------------------------------------------------------------------------------------------------

OF_INPUTS = {
    "t2v-A14B": "",
    "t2v-1.3B": "video",
    "i2v-A14B": "image! last_image",
    "i2v-14B-480P": "image!",
    "ti2v-5B": "image",
    "flf2v-14B-720P": "image! last_image!",
    "vace-14B": "video mask references",
    "animate-14B": "image! pose_video! face_video! background_video mask_video",
    "animate-2-14B": "image! pose_video! face_video!",
    "s2v-14B": "image! audio!",
    "demo": "image",
}
RUNNING = {"t2v-A14B": "", "t2v-1.3B": "", "i2v-A14B": "image", "ti2v-5B": "image", "demo": "image"}


@pytest.mark.parametrize("name", OF_INPUTS)
def test_inputs_follow_the_tasks(name: str) -> None:
    found = [one for one in fields(model(name), Form()) if one.section == "inputs"]
    assert " ".join(one.key.removeprefix("inputs.") + "!" * one.required for one in found) == OF_INPUTS[name]
    if name in RUNNING:
        assert " ".join(one.key.removeprefix("inputs.") for one in found if one.runs) == RUNNING[name]
    elif name != "i2v-14B-480P":
        assert not any(one.runs for one in found)


@ALL
def test_every_model_has_its_fields_in_order(spec: ModelSpec) -> None:
    found = fields(spec, Form())
    keys = [one.key for one in found]
    assert len(set(keys)) == len(keys)
    assert keys[:2] == ["prompt", "negative_prompt"] and keys[-2:] == ["output.path", "output.crf"]
    assert ("guidance_2" in keys) == spec.two_experts
    assert ("conditioning_scale" in keys) == (spec.family == "vace")
    assert "strength" not in keys
    video = {one.key for one in fields(spec, Form({"inputs.video": "v.mp4"}))}
    assert ("strength" in video) == ("video" in spec.tasks)
    by_key = {one.key: one for one in found}
    assert by_key["steps"].default == str(spec.defaults.steps)
    assert by_key["size"].choices == tuple(f"{width}*{height}" for width, height in spec.sizes)
    assert all(one.help.endswith(".") and one.label for one in found)


def test_every_key_of_a_job_is_a_field_or_kept() -> None:
    shown = {one.key for spec in CATALOG.models for one in fields(spec, Form({"inputs.video": "v"}))}
    assert shown | {"model"} == set(KEYS)
    assert set(RULES) - set(KEYS) - {"width", "height"} == set(KEPT) - {"segments"}


@ALL
def test_ranges_are_those_of_the_rules(spec: ModelSpec) -> None:
    for one in fields(spec, Form({"inputs.video": "v"})):
        if one.low is None or one.high is None or one.kind in ("size", "bytes"):
            continue
        step = 1 if one.kind in ("whole", "seed") else 0.001
        kind = int if one.kind in ("whole", "seed") else float
        for value in (kind(one.low) + step * one.above, kind(one.high)):
            RULES[one.key](value, HERE)
        for value in (kind(one.low) - step * (not one.above), kind(one.high) + step):
            with pytest.raises(Refused):
                RULES[one.key](value, HERE)


def test_auto_is_chosen_by_what_is_given() -> None:
    def inputs(form: Form) -> list[tuple[str, bool]]:
        return [(one.key, one.runs) for one in fields(None, form) if one.section == "inputs"]

    assert inputs(a_form()) == [("inputs.image", True)]
    form = a_form(inputs__video="v.mp4", guidance_2="3", strength="0.5", conditioning_scale="1")
    assert inputs(form) == [("inputs.image", True), ("inputs.video", False)]
    assert fitted(form, None).aside == ()  # nothing that is given drops out of the choice


def test_the_default_of_flow_shift_follows_the_size() -> None:
    def shift(size: str) -> str | None:
        found = fields(model("t2v-14B"), a_form(size=size))
        return next(one.default for one in found if one.key == "flow_shift")

    assert (shift("832*480"), shift("1280*720"), shift("nonsense")) == ("3.0", "5.0", "5.0")


def test_what_does_not_run_yet_is_said() -> None:
    assert support(model("ti2v-5B")).sentence is None
    assert "not run this model yet" in (support(model("s2v-14B")).sentence or "")
    assert "runs text with it, and not yet video" in (support(model("t2v-1.3B")).sentence or "")


def test_what_another_model_took_waits() -> None:
    form = a_form(guidance_2="3.0", inputs__image="a.png", model="t2v-A14B")
    assert fitted(form, model("i2v-A14B")).aside == ()
    there = fitted(form, model("ti2v-5B"))
    assert there.aside == ("guidance_2",) and "guidance_2" not in there.form.texts
    assert fitted(form, model("t2v-A14B")).aside == ("inputs.image",)


# --- form and job -----------------------------------------------------------------------------------------------------


def test_an_untouched_form_is_a_job_of_defaults() -> None:
    assert read(a_form(), HERE).job == Job(prompt="a cat")
    assert read(Form(), HERE).problems == {"prompt": "prompt is missing: say what is to be seen."}
    assert read(a_form().put("prompt", ""), HERE).job is None


def test_an_empty_text_may_be_meant() -> None:
    form = a_form(negative_prompt="blurry").put("negative_prompt", "")
    assert "negative_prompt" not in form.texts
    job = read(form.put_empty("negative_prompt"), HERE).job
    assert job and job.negative_prompt == "" and form_of(job, HERE).texts["negative_prompt"] == ""


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("steps", "0", "between 1 and 1000. The nearest valid value is 1."),
        ("steps", "twenty", "whole number, not a text"),
        ("steps", "20.0", "The nearest valid value is 20."),
        ("steps", "9" * 5000, "whole number"),
        ("steps", "1\nseed = 3", "whole number"),
        ("frames", "80", "4k+1"),
        ("guidance", "nan", "finite"),
        ("guidance", ".5", "must be a number"),
        ("size", "832", '"832*480"'),
        ("size", "8*480", "nearest valid value is 16"),
        ("prompt", "a\x1b[31m", "U+001B"),
        ("prompt", "x" * (PROMPT_BYTES + 1), "at most 100000"),
        ("inputs.image", "a\udc80.png", "UTF-8"),
        ("inputs.references", "a.png\nb\x00", "U+0000"),
        ("memory.vram_limit", "12", "12GiB"),
        ("memory.profile", "stagged", "'staged'"),
        ("device", "gpu0", "auto"),
        ("seed", "-1", "nearest valid value is 0"),
    ],
)
def test_a_bad_text_is_told_at_its_field_and_nowhere_else(key: str, text: str, says: str) -> None:
    form = replace(a_form(), texts={"prompt": "a cat", key: text, "fps": "16"})
    reading = read(form, HERE)
    assert reading.job is None and list(reading.problems) == [key]
    assert says in reading.problems[key] and "\x1b" not in reading.problems[key]


def test_paths_are_taken_as_typed() -> None:
    job = read(a_form(output__path="17", inputs__image="[2024]", inputs__references="1\n\n 2"), HERE).job
    assert job and (job.output.path, job.inputs.image) == (HERE / "17", HERE / "[2024]")
    assert job.inputs.references == (HERE / "1", HERE / " 2")


def test_fields_that_contradict_each_other_are_told_at_one() -> None:
    form = a_form(guidance="1", guidance_2="3", inputs__last_image="b.png", seed=str(MAX_SEED), count="2")
    problems = read(form, HERE).problems
    assert set(problems) == {"guidance_2", "inputs.last_image", "count"}
    assert "nearest valid value is 1.0" in problems["guidance_2"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_data(text: str, tmp_path: Path) -> None:
    form = a_form(negative_prompt=text, prompt=text)
    job = read(form, tmp_path).job
    assert job and job.prompt == text
    save(job, Path("job.toml"), tmp_path)
    assert load(Path("job.toml"), tmp_path).form.texts["prompt"] == text


# Texts as people type them, values as job files have them: the same verdict by both ways.
TYPED = "| |0|1|17|80|20.0|1e3|0x10|1_000|-1|+4|nan|inf|true|[1]|{}|832*480| 64 x 64 |12GiB|0.5MB|auto|cuda:1|cpu|~x"
typed = st.one_of(
    st.sampled_from([*TYPED.split("|"), "a.mp4", "'5'", "5 # five", "staged"]),
    st.integers(-5, 2**64).map(str),
    st.floats().map(str),
    st.text(max_size=8),
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(KEYS), typed, max_size=5), st.booleans())
def test_a_form_is_a_job_exactly_where_its_file_is(texts: dict[str, str], prompted: bool) -> None:
    form = Form({"prompt": "a cat", **texts} if prompted else texts)
    reading = read(form, HERE)
    assert (reading.job is None) == bool(reading.problems)
    table = table_of(form)
    try:
        table = tomllib.loads(tomli_w.dumps(table))
    except UnicodeError:  # which no file can hold
        assert reading.job is None
        return
    try:
        job = job_from_table(table, HERE / NAME)
    except JobError as error:
        assert reading.job is None
        assert any(_core(one) in error.message for one in reading.problems.values())
        return
    assert reading.job == job
    again = form_of(job, HERE)
    assert read(again, HERE).job == job  # what is a job stays the same job when it is shown and read again
    assert form_of(job, HERE) == again


def _core(sentence: str) -> str:
    return sentence.split(" The nearest")[0].split(": say")[0].rstrip(".")


@ALL
def test_a_form_comes_back_from_its_file(spec: ModelSpec, tmp_path: Path) -> None:
    form = filled(spec)
    reading = read(form, tmp_path)
    assert not reading.problems
    assert reading.job and reading.job.task in {*spec.tasks, "vace"}
    save(reading.job, Path("deep/er/job.toml"), tmp_path)
    loaded = load(tmp_path / "deep/er/job.toml", tmp_path)
    assert loaded.form == form and loaded.notes == () and loaded.recorded is None
    assert read(loaded.form, tmp_path).job == reading.job
    assert read_job(tmp_path / "deep/er/job.toml") == reading.job  # and it means the same to a run


# --- files ------------------------------------------------------------------------------------------------------------

SIDECAR = """# by hand
model = "./mine"
prompt = '''a # no comment'''
width = 64
height = 64
[inputs]
image = "cat.png"
[memory]
window = 81
overlap = 8
[[segments]]
frames = 81
prompt = "then"
[recorded]
started = "2026-01-01"
"""


def test_a_sidecar_is_loaded_and_nothing_of_it_lost_unsaid(tmp_path: Path) -> None:
    (tmp_path / "sub/mine").mkdir(parents=True)
    (tmp_path / "sub/clip.job.toml").write_text(SIDECAR)
    loaded = load(tmp_path / "sub/clip.job.toml", tmp_path)
    assert loaded.recorded == {"started": "2026-01-01"}
    assert loaded.form.texts["size"] == "64*64" and loaded.form.texts["inputs.image"] == "sub/cat.png"
    assert loaded.form.model == "sub/mine"
    said = " ".join(loaded.notes)
    assert all(word in said for word in ("segments", "memory.window", "memory.overlap", "comments"))
    job = read(loaded.form, tmp_path).job
    assert job and job.segments[0].prompt == "then" and (job.memory.window, job.memory.overlap) == (81, 8)
    save(job, tmp_path / "sub/again.toml", tmp_path)
    text = (tmp_path / "sub/again.toml").read_text()
    assert 'model = "./mine"' in text and 'image = "cat.png"' in text
    again = load(tmp_path / "sub/again.toml", tmp_path)
    assert again.form == loaded.form and "comments" not in " ".join(again.notes)
    assert not loaded.form.without_kept().kept


def test_a_hash_in_a_text_is_no_comment(tmp_path: Path) -> None:
    for number, text in enumerate(('"a # b"', "'a # b'", '"""a\n# b"""', "'''a\n# b'''", r'"\" # b"', '"""a # """"')):
        file = tmp_path / f"{number}.toml"
        file.write_text(f"prompt = {text}\n")
        assert load(file, tmp_path).notes == ()
        file.write_text(f"prompt = {text} # really\n")
        assert len(load(file, tmp_path).notes) == 1
    file.write_text('prompt = """a"""" # he said "hi"\n')
    assert len(load(file, tmp_path).notes) == 1


def test_a_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('prompt = "a"\nstpes = 3\n')
    with pytest.raises(JobError, match=r"job\.toml, line 2: stpes"):
        load(file, tmp_path)
    with pytest.raises(JobError, match="does not exist"):
        load(tmp_path / "absent.toml", tmp_path)


def test_nothing_is_written_over_unless_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    save(Job(prompt="one"), file, tmp_path)
    with pytest.raises(JobError, match="there already") as caught:
        save(Job(prompt="two"), file, tmp_path)
    assert caught.value.code == "file-exists" and read_job(file).prompt == "one"
    save(Job(prompt="two"), file, tmp_path, overwrite=True)
    assert read_job(file).prompt == "two"
    assert [one.name for one in tmp_path.iterdir() if one.name != "home"] == ["job.toml"]


@pytest.mark.parametrize("name", ["job.toml/below.toml", "sub", "x" * 300, "a\0b", "caf\udce9/\udce9.toml"])
def test_what_cannot_be_written_is_said(name: str, tmp_path: Path) -> None:
    save(Job(prompt="one"), tmp_path / "job.toml", tmp_path)
    (tmp_path / "sub").mkdir()
    if name.startswith("caf"):  # such a name is fine on this disk; nothing in the file needs it
        save(Job(prompt="a"), Path(name), tmp_path)
        return
    with pytest.raises(JobError) as caught:
        save(Job(prompt="a"), Path(name), tmp_path, overwrite=True)
    assert caught.value.code == "not-written"
    assert {one.name for one in tmp_path.iterdir()} == {"home", "job.toml", "sub"}


def test_paths_below_the_working_folder_are_short() -> None:
    assert path_text(HERE / "in/a.png", HERE) == "in/a.png"
    assert path_text(Path("/else/a.png"), HERE) == "/else/a.png"
    assert path_text(HERE / "~root/a.png", HERE) == "/work-folder/~root/a.png"  # no home is meant


# --- sweeps and seeds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("steps", "20, 30,40", "20 30 40"),
        ("seed", "1..4", "1 2 3 4"),
        ("seed", "4..2..-1, 9", "4 3 2 9"),
        ("steps", "10..30..10,20", "10 20 30"),
        ("guidance", "3..4.5..0.5", "3.0 3.5 4.0 4.5"),
        ("prompt", "a, cat\n\nb 1..4\n", "a, cat|b 1..4"),
        ("inputs.image", "a,b.png\nc.png", "a,b.png|c.png"),
        ("size", "832*480, 480*832", "832*480 480*832"),
    ],
)
def test_values_of_a_sweep(key: str, text: str, values: str) -> None:
    assert axis(key, text) == Axis(key, tuple(values.split("|" if "|" in values else " ")))


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("steps", " , ", "no values"),
        ("seed", "1..1000000000000", "1000000000000 clips; one makes at most 200"),
        ("seed", "4..2", "leads nowhere"),
        ("seed", "1..4..0", "leads nowhere"),
        ("prompt", "\n".join(map(str, range(MOST_CLIPS + 1))), "201 clips"),
    ],
)
def test_a_sweep_that_cannot_be(key: str, text: str, says: str) -> None:
    with pytest.raises(JobError, match=says):
        axis(key, text)


def test_a_sweep_is_every_combination_in_order() -> None:
    axes = (axis("steps", "2, 3"), axis("guidance", "1.5, 4"))
    jobs = sweep(a_form(fps="8"), axes, HERE)
    assert combinations(axes) == 4
    assert [(job.steps, job.guidance, job.fps) for job in jobs] == [(2, 1.5, 8), (2, 4, 8), (3, 1.5, 8), (3, 4, 8)]
    with pytest.raises(JobError, match=r"guidance_2 = 3\.0 is above 1 .*\(At steps = 2, guidance = 1\.\)"):
        sweep(a_form(guidance_2="3.0"), (axis("steps", "2"), axis("guidance", "1")), HERE)
    with pytest.raises(JobError, match="steps = 0 must lie"):
        sweep(a_form(), (axis("steps", "0, 1"),), HERE)
    with pytest.raises(JobError, match="400 clips"):
        sweep(a_form(), (axis("seed", "1..20"), axis("steps", "1..20")), HERE)
    with pytest.raises(JobError, match="300 clips"):
        sweep(a_form(count="100"), (axis("steps", "1..3"),), HERE)
    with pytest.raises(JobError, match="twice"):
        sweep(a_form(), (axis("steps", "1"), axis("steps", "2")), HERE)


def test_seeds() -> None:
    two = (axis("steps", "2, 3"),)
    drawn = submit(a_form(), two, HERE)
    assert drawn.form == a_form() and len({clip.seed for clip in drawn.jobs}) == 1  # one seed, so that they compare
    assert drawn.jobs[0].seed != submit(a_form(), two, HERE).jobs[0].seed

    typed = a_form(seed="7")
    assert typed.seed_mode == "fixed"
    assert submit(typed, (), HERE).form == typed
    lone = submit(a_form().with_seed_mode("fixed"), (), HERE)
    assert lone.form.texts["seed"] == str(lone.jobs[0].seed)  # drawn once, then it stays

    counting = typed.put("count", "3").with_seed_mode("increment")
    first = submit(counting, (), HERE)
    assert [(clip.seed, clip.count) for clip in first.jobs] == [(7, 1), (8, 1), (9, 1)]
    assert first.form.texts["seed"] == "10" and first.form.seed_mode == "increment"
    last = submit(a_form(seed=str(MAX_SEED)).with_seed_mode("increment"), (), HERE)
    assert last.form.texts["seed"] == "0"

    over = submit(a_form(), (axis("seed", "1..3"),), HERE)
    assert [clip.seed for clip in over.jobs] == [1, 2, 3] and over.form == a_form()
    assert "seed" not in typed.with_seed_mode("random").texts


# --- presets ----------------------------------------------------------------------------------------------------------


@ALL
def test_what_ships_makes_valid_jobs(spec: ModelSpec) -> None:
    plain, draft = shipped(spec)
    job = read(apply(draft, a_form()), HERE).job
    assert job and job.steps and job.steps <= spec.defaults.steps
    assert apply(plain, apply(draft, a_form(seed="3"))) == a_form(seed="3")


def test_presets_are_saved_loaded_and_laid_over_a_form(tmp_path: Path) -> None:
    folder = presets_folder()
    assert load_presets(folder, tmp_path) == ((), ())
    form = a_form(steps="20", negative_prompt="[/b] 猫", size="64*64", seed="3", inputs__image="a.png")
    file = save_preset("Mein Stil (2)", form, folder)
    assert tomllib.loads(file.read_text()) == {"steps": 20, "negative_prompt": "[/b] 猫", "size": "64*64"}
    with pytest.raises(JobError, match="there already"):
        save_preset("Mein Stil (2)", form, folder)
    (loaded,), failed = load_presets(folder, tmp_path)
    assert failed == () and loaded.name == "Mein Stil (2)"
    assert apply(loaded, a_form(steps="5", fps="9")) == a_form(
        steps="20", fps="9", negative_prompt="[/b] 猫", size="64*64"
    )
    with pytest.raises(JobError, match="nothing to save"):
        save_preset("empty", a_form(), folder)
    with pytest.raises(JobError, match="steps = 0 must lie"):
        save_preset("bad", a_form(steps="0"), folder)


def test_bad_presets_are_told_and_the_others_load(tmp_path: Path) -> None:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "good.toml").write_text('device = "auto"\nwidth = 64\nheight = 64\nprompt = ""\n[memory]\nwindow = 81')
    (folder / "key.toml").write_text("stpes = 3")
    (folder / "toml.toml").write_text("= 3")
    (folder / "bytes.toml").write_bytes(b"prompt = '\xff'")
    (folder / "loop.toml").symlink_to("loop.toml")
    (folder / "folder.toml").mkdir()
    os.mkfifo(folder / "pipe.toml")
    (folder / "notes.txt").write_text("no preset")
    (loaded,), failed = load_presets(folder, tmp_path)
    assert len(failed) == 6 and all(".toml" in sentence for sentence in failed)
    form = apply(loaded, a_form(device="cpu"))
    assert form == Form({"size": "64*64", "prompt": ""}, kept={"memory.window": 81})


@pytest.mark.parametrize("name", ["", " ", "a/b", "../a", ".hidden", "a\0", "a\n", "x" * 61, "猫" * 50, "a.toml", "-r"])
def test_a_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    assert name_problem(name)
    with pytest.raises(JobError):
        save_preset(name, a_form(steps="3"), tmp_path / "presets")
    assert not (tmp_path / "presets").exists()


# --- the editor -------------------------------------------------------------------------------------------------------


def run(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The environment with a shell script as the editor; $1 is its file."""

    def make(script: str) -> dict[str, str]:
        file = tmp_path / "an editor"
        file.write_text(f'#!/bin/sh\nfor file; do :; done\ncp "$file" {tmp_path}/seen\necho "$@" > {tmp_path}/args\n')
        file.write_text(f'{file.read_text()}stat -c "%a" "$file" "$(dirname "$file")" >> {tmp_path}/args\n{script}\n')
        file.chmod(0o700)
        return {"VISUAL": f"'{file}' --wait", "EDITOR": "false"}

    return make


def test_a_text_comes_back_from_the_editor(editor: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    text = "\n".join(HOSTILE)
    assert edit(text, editor('echo "" >> "$file"; touch "$file~"'), run) == edit(text, editor("true"), run)
    assert edit(text, editor("true"), run).text == text and (tmp_path / "seen").read_text() == text
    words, mode, above = (tmp_path / "args").read_text().splitlines()
    file = Path(words.removeprefix("--wait "))
    assert (mode, above) == ("600", "700") and not file.parent.exists()
    assert edit("a", editor('printf "new\\r\\nline\\r\\n" > "$file"'), run).text == "new\nline"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 3", "status 3"),
        ("kill -9 $$", "signal 9"),
        ('rm "$file"', "left no file"),
        ('rm "$file"; mkfifo "$file"', "cannot be a prompt"),
        ('printf "\\377" > "$file"', "not UTF-8"),
        ('head -c 100001 /dev/zero | tr "\\0" x > "$file"', "more than 100000 bytes"),
        ('head -c 1000000 /dev/zero > "$file"', "cannot be a prompt"),
    ],
)
def test_an_edit_that_failed_changes_nothing(script: str, says: str, editor: Callable[[str], dict[str, str]]) -> None:
    edited = edit("as it was", editor(script), run)
    assert edited.text == "as it was" and says in (edited.problem or "")


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "No editor is set"),
        ({"EDITOR": "/no/such/editor -w"}, "/no/such/editor cannot be run: No such file"),
        ({"EDITOR": "'open"}, "EDITOR cannot be read"),
        ({"EDITOR": "''"}, "cannot be run"),
    ],
)
def test_an_editor_that_is_not_there(environ: dict[str, str], says: str) -> None:
    edited = edit("as it was", environ, run)
    assert edited.text == "as it was" and says in (edited.problem or "")


# --- the picker -------------------------------------------------------------------------------------------------------


def test_a_folder_as_a_picker_shows_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for name in ("Zoo", "a [bold]", ".git"):
        (place / name).mkdir(parents=True)
    for name in ("b.PNG", "A.jpg", "clip.mp4", "s.wav", "job.toml", "notes", ".x.png", os.fsdecode(b"\xff.png")):
        (place / name).write_bytes(b"123")
    os.mkfifo(place / "pipe.png")
    (place / "loop.png").symlink_to("loop.png")
    (place / "gone.png").symlink_to("nowhere")
    (place / "round").symlink_to(".")
    (place / "good.png").symlink_to("b.PNG")
    found = entries(place, "image")
    assert [one.name for one in found.entries] == [
        *("a [bold]", "round", "Zoo"),
        *("A.jpg", "b.PNG", "good.png", os.fsdecode(b"\xff.png")),
    ]
    assert found.problem is None and found.entries[3].bytes == 3 and found.entries[3].modified
    assert found.entries[0].is_folder and found.entries[0].bytes is None
    assert entries(place / "round/round/round").folder == place  # a loop is no depth
    assert [one.name for one in entries(place, "audio").entries][-1] == "s.wav"
    assert [one.name for one in entries(place, "job").entries][-1] == "job.toml"
    assert [one.name for one in entries(place, "folder", hidden=True).entries] == [".git", "a [bold]", "round", "Zoo"]
    assert len(entries(place).entries) == 11 and len(entries(place, hidden=True).entries) == 13


def test_a_folder_that_cannot_be_read_is_a_state(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "absent", "No such file"), (tmp_path / "file", "Not a dir"), (Path("a\0"), "null")):
        assert why in (entries(path).problem or "")
    if os.geteuid():
        (tmp_path / "shut").mkdir(mode=0)
        assert "Permission denied" in (entries(tmp_path / "shut").problem or "")


def test_many_files(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    first = folder / "0.png"
    first.touch()
    for number in range(1, 20_000):
        os.link(first, folder / f"{number}.png")
    assert len(entries(folder, "image").entries) == 20_000


# --- what is known before a run ---------------------------------------------------------------------------------------


def test_a_prospect_of_a_model_that_is_here(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "a.png")
    form = a_form(model=str(tiny_model("ti2v")), device="cpu", inputs__image="a.png", frames="9")
    job = read(form, tmp_path).job
    assert job
    known = examine(job, tmp_path, CATALOG)
    assert known.problem is None and known.plan and known.plan.profile == "staged" and known.device == "CPU"
    assert known.total_bytes and known.free_bytes and known.need
    largest = max(component_parameters(read_anatomy(tiny_model("ti2v"))).values())
    assert known.need.bytes == 4 * largest  # a CPU computes in fp32
    assert known.refusal is None
    assert known.job and known.job.steps == 50 and known.job.seed is None and known.job.output.path is None
    assert read(form_of(known.job, tmp_path), tmp_path).job  # completed values may be shown as placeholders


BIG = Card("GPU-big", "Big", 80, 70, (9, 0))
OLD = Card("GPU-old", "Old", 16, 10, (7, 5))


@pytest.mark.parametrize(
    ("wanted", "cards", "torch_for", "device", "half", "there"),
    [
        ("auto", (OLD, BIG), "cuda", "Big", True, True),
        ("auto", (OLD,), "cuda", "Old", False, True),
        ("auto", (BIG,), "cpu", "CPU", False, True),
        ("auto", (), "hip", None, True, True),
        ("cpu", (BIG,), "cuda", "CPU", False, True),
        ("cuda", (BIG,), "cuda", "Big", True, True),
        ("cuda:0", (OLD, BIG), "cuda", None, True, True),  # torch counts in an order of its own
        ("cuda:1", (BIG,), "cuda", None, True, False),
        ("GPU-old", (OLD, BIG), "cuda", "Old", False, True),
        ("GPU-big", (BIG,), "cpu", None, False, False),
        ("GPU-no", (BIG,), "cuda", None, True, False),
        ("cuda:7", (), "hip", None, True, True),
        ("mps", (), "cpu", None, False, True),
    ],
)
def test_the_device_of_a_prospect(
    wanted: str, cards: tuple[Card, ...], torch_for: str, device: str | None, half: bool, there: bool
) -> None:
    machine = Machine(cards, "1", 64, 32, 1000, Path("/"), torch_for, {})
    seat = seat_of(wanted, machine)
    assert (seat.device.name if seat.device else None, seat.half) == (device, half)
    assert (no_such_device(wanted, machine) is None) == there


@pytest.mark.parametrize(
    ("texts", "code", "field"),
    [
        ({"model": "ti2v-5B", "device": "cpu"}, "model-absent", "model"),
        ({"model": "nonesuch"}, "unknown-model", "model"),
        ({"model": "s2v-14B"}, "wrong-task", None),
        ({"model": "t2v-A14B:fp8"}, "not-yet", "model"),
        ({"model": "demo", "size": "100*100"}, "off-grid", "size"),
        ({"model": "demo", "guidance_2": "3"}, "one-expert", "guidance_2"),
        ({"model": "demo", "strength": "0.5"}, "unused-key", "strength"),
        ({"model": "demo", "inputs.image": "none [b].png"}, "bad-input-image", "inputs.image"),
        ({"model": "demo", "output.path": "a.avi"}, "bad-output", "output.path"),
        ({"model": "demo", "output.crf": "60"}, "bad-value", "output.crf"),
        ({"model": "demo", "output.path": "a.gif", "fps": "200"}, "bad-value", "fps"),
        ({"model": "demo", "device": "cuda:77"}, "no-such-device", "device"),
        ({"model": "demo", "device": "GPU-00000000"}, "no-such-device", "device"),
    ],
)
def test_a_prospect_says_what_is_in_the_way(
    texts: dict[str, str], code: str, field: str | None, tmp_path: Path
) -> None:
    job = read(Form({"prompt": "a", **texts}), tmp_path).job
    assert job
    known = examine(job, tmp_path, CATALOG)
    assert known.problem and (known.problem.code, known.field) == (code, field)
    assert known.job is None
    if texts["model"] == "ti2v-5B":
        largest = max(parameters(model("ti2v-5B")).values())  # what it would take is known all the same
        assert known.need and known.need.bytes == 4 * largest and known.model == "ti2v-5B@2.2.0"
        assert known.plan and known.plan.ram_bytes and known.refusal is None  # so is its plan; what stops it is another


@pytest.mark.soak
def test_a_prospect_of_what_does_not_fit(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model nobody planned with is named, traced apart, and then known; so is what would fit instead."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing was kept
    folder = tiny_model("t2v")
    form = a_form(model=str(folder), device="cpu", frames="9", size="64*64")
    first = read(form, tmp_path).job
    assert first and examine(first, tmp_path, CATALOG).untraced == Untraced(str(folder), 2, False)
    unknown.main(str(folder), 2, False)
    known = examine(first, tmp_path, CATALOG)
    assert known.untraced is None and known.refusal is None and known.plan and known.plan.fits and known.plan.ram_bytes
    large = read(changed(form, {"frames": 90_001, "width": 4096, "height": 4096}), tmp_path).job
    assert large and (large.width, large.frames) == (4096, 90_001)
    known = examine(large, tmp_path, CATALOG)
    assert known.problem is None and known.job and known.plan and known.plan.fits is False
    assert known.refusal and known.refusal.code == "does-not-fit" and "RAM" in known.refusal.message
    assert known.plan.alternatives
    for other in known.plan.alternatives:  # taken into the form each is a job that fits
        job = read(changed(form_of(large, tmp_path), other.set), tmp_path).job
        found = examine(job, tmp_path, CATALOG).plan if job else None
        assert found and found.fits, other


def test_settings_of_an_alternative_in_the_form() -> None:
    form = a_form(frames="81", memory__profile="resident", device="cpu")
    taken = changed(form, {"width": 832, "height": 480, "frames": 49, "memory.profile": "auto", "memory.window": 33})
    assert taken.texts["size"] == "832*480" and taken.texts["frames"] == "49" and taken.texts["device"] == "cpu"
    assert "memory.profile" not in taken.texts and taken.kept == {"memory.window": 33}
    job = read(taken, HERE).job
    assert job and (job.memory.window, job.memory.profile, job.frames) == (33, "auto", 49)


def test_nothing_of_it_loads_torch_or_a_screen(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.catalog import load_catalog\n"
        "from wan_tui.composing import editor, entries, examine, fields, files, form, presets, read, sweep\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'textual', 'huggingface_hub'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "for device in ('auto', 'cpu', 'cuda:1', 'GPU-1', 'mps'):\n"
        "    job = read.read(form.Form({'prompt': 'a', 'model': 'demo', 'device': device}), Path('/tmp')).job\n"
        "    examine.examine(job, Path('/tmp'), load_catalog())\n"
        "assert not {'torch', 'diffusers', 'textual'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), cwd=tmp_path, check=True, timeout=120)


def test_a_problem_is_that_of_the_whole_form() -> None:
    form = a_form(steps="0")
    assert problem("steps", "0", HERE) == read(form, HERE).problems["steps"]
    assert problem("steps", "1", HERE) is None
