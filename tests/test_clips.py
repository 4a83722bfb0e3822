"""The index of finished clips: of the journal, of sidecars, of strangers; and deleting one, and nothing beside it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import JobError, RunError
from engine.job import Inputs, Job, Output
from engine.runtime.clips import Clip, find_clips, settings
from engine.runtime.discard import delete
from engine.runtime.journal import Journal
from engine.video.write import open_writer

JOB = Job(model="demo@1", prompt='a "red" circle\n[/b] ○', width=32, height=16, frames=5, fps=8, steps=2, seed=7)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "outputs"
    made.mkdir()
    return made


def write(path: Path, job: Job = JOB, recorded: dict[str, object] | None = None) -> Path:
    """A clip as a run writes it, with its sidecar."""
    job = replace(job, output=Output(path, 18))
    text = job.toml(recorded or {"task": job.task, "started": "2026-03-01T10:00:00+00:00", "plan": {"reasons": ["a"]}})
    frames = np.zeros((5, 16, 32, 3), np.uint8)
    with open_writer(path, width=32, height=16, fps=8, metadata=text) as writer:
        writer.write(frames)
        return writer.finish(lambda _: text)


def finish(journal: Journal, path: Path, job: Job = JOB) -> str:
    job_id = journal.accept(model=job.model, task=job.task, prompt=job.prompt, job_toml=job.toml())
    journal.start(job_id)
    journal.finish(job_id, output=path, seconds=2.5, recorded={"frames": 5, "seed": 7})
    return job_id


def listed(folder: Path) -> Clip:
    (clip,) = find_clips(None, [folder])
    return clip


# Finding


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip"])
def test_the_journal_and_the_sidecar_tell_the_same(journal: Journal, folder: Path, name: str) -> None:
    path = write(folder / name)
    alone = listed(folder)
    job_id = finish(journal, path)
    (clip,) = find_clips(journal, [folder])
    assert (clip.path, clip.job_id, clip.seconds) == (path, job_id, 2.5)
    assert (alone.job_id, alone.seconds) == (None, None)
    assert replace(clip, job_id=None, seconds=None, created=alone.created) == alone
    assert (clip.model, clip.task, clip.prompt) == ("demo@1", "text", JOB.prompt)
    assert (clip.width, clip.height, clip.frames, clip.fps, clip.seed) == (32, 16, 5, 8, 7)
    assert clip.exists
    assert clip.sidecar == folder / "clip.job.toml"
    assert clip.bytes == (sum(f.stat().st_size for f in path.iterdir()) if path.is_dir() else path.stat().st_size)


def test_newest_first_however_they_were_found(journal: Journal, folder: Path) -> None:
    for day, name in ((3, "c"), (1, "a"), (2, "b")):
        write(folder / f"{name}.mp4", recorded={"started": f"2026-01-0{day}T00:00:00+00:00"})
    finish(journal, write(folder / "now.mp4"))
    assert [clip.path.stem for clip in find_clips(journal, [folder])] == ["now", "c", "b", "a"]


def test_a_clip_that_is_gone_is_told_as_gone(journal: Journal, folder: Path) -> None:
    finish(journal, write(folder / "one.mp4"))
    write(folder / "two.webm")
    (folder / "one.mp4").unlink()
    (folder / "two.webm").unlink()
    clips = find_clips(journal, [folder])
    assert {clip.path.name for clip in clips} == {"one.mp4", "two.webm"}
    assert {(clip.exists, clip.bytes) for clip in clips} == {(False, None)}


def test_a_name_used_again_is_the_later_ones(journal: Journal, folder: Path) -> None:
    finish(journal, folder / "clip.mp4", replace(JOB, prompt="first"))
    finish(journal, write(folder / "clip.mp4"), replace(JOB, prompt="second"))
    assert [clip.prompt for clip in find_clips(journal)] == ["second"]


def test_a_folder_reached_on_two_ways_holds_each_clip_once(journal: Journal, folder: Path, tmp_path: Path) -> None:
    finish(journal, write(folder / "clip.mp4"))
    write(folder / "other.mp4")
    (tmp_path / "link").symlink_to(folder)
    assert len(find_clips(journal, [folder, tmp_path / "link", folder])) == 2


def test_folders_that_cannot_be_listed_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert find_clips(None, [tmp_path / "absent", tmp_path / "file"]) == []


def test_a_sidecar_edited_by_hand_is_read_as_well(folder: Path) -> None:
    (folder / "clip.job.toml").write_text(
        'model = "m"\r\nprompt = """\r\na cat\nwidth = 99\n"""\r\nheight = 480 # tall\r\n[output]\npath = "x/y.webm"\n'
    )
    clip = listed(folder)
    assert (clip.model, clip.prompt, clip.width, clip.height) == ("m", "a cat\nwidth = 99\n", None, 480)
    assert (clip.path, clip.exists) == (folder / "clip.webm", False)


HOSTILE = {
    "empty": b"",
    "no TOML": b"\x00\x01 = [[[",
    "no UTF-8": b'prompt = "caf\xe9"',
    "nested": b"x = " + b"[" * 100_000,
    "keys": b"# '''\n" + b"a." * 1_000_000 + b"a = 1",
    "quoted keys": b'# """\n[ ' + b'"a" . ' * 500_000 + b"a]",
    "digits": b"width = " + b"9" * 10_000,
    "other types": b'# """\nmodel = 3\nprompt = []\nwidth = "wide"\nframes = true\nseed = -1\n[recorded]\nstarted = 1',
    "dates": b'[recorded]\nstarted = "0001-01-01T00:00:00"\n',
    "output": b'"""\noutput = "x"\nrecorded = 3\n"""',
    "escapes": b'prompt = "\\u001b[2J"\n[output]\npath = "../../../etc/passwd"\n',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_sidecar_is_only_a_clip_of_which_little_is_known(folder: Path, kind: str) -> None:
    (folder / "clip.job.toml").write_bytes(HOSTILE[kind])
    for clip in find_clips(None, [folder]):
        assert clip.path.parent == folder
        assert not clip.exists
        assert clip.width is clip.frames is clip.seed is None
        try:
            settings(clip, None)
        except JobError as error:
            assert error.code == "no-settings"


def test_what_is_no_file_of_text_is_no_sidecar(folder: Path) -> None:
    os.mkfifo(folder / "pipe.job.toml")
    (folder / "loop.job.toml").symlink_to("loop.job.toml")
    (folder / "zero.job.toml").symlink_to("/dev/zero")
    (folder / "dir.job.toml").mkdir()
    with open(folder / "large.job.toml", "wb") as file:
        file.truncate(100 * 2**20)
    for name in (".job.toml", "..job.toml", "...job.toml", ".hidden.job.toml"):
        (folder / name).write_text('prompt = "x"')
    assert find_clips(None, [folder]) == []


def test_only_videos_and_folders_count_as_clips(folder: Path) -> None:
    for name in ("pipe.mp4", "folder.webm", "text.txt"):
        (folder / name).with_suffix(".job.toml").write_text(f'[output]\npath = "{name}"\n')
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.webm").mkdir()
    (folder / "text.txt").write_text("x")
    assert not any(clip.exists for clip in find_clips(None, [folder]))


# Settings


def test_settings_come_from_whoever_still_has_them(journal: Journal, folder: Path) -> None:
    finish(journal, write(folder / "clip.mp4"))
    (clip,) = find_clips(journal)
    asked = {"model": "demo@1", "prompt": JOB.prompt, "seed": 7, "steps": 2}
    assert settings(clip, journal)["recorded"]["plan"] == {"reasons": ["a"]}  # the sidecar
    (folder / "clip.job.toml").write_text("broken [")
    assert asked.items() <= settings(clip, journal).items()  # the journal, which records no plan
    assert "recorded" not in settings(clip, journal)
    assert settings(replace(clip, job_id=None), None)["recorded"]["task"] == "text"  # the video
    (folder / "clip.mp4").unlink()
    with pytest.raises(JobError) as caught:
        settings(replace(clip, job_id="another"), journal)
    assert caught.value.code == "no-settings"


# Deleting


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip"])
def test_deleting_takes_the_clip_and_its_sidecar_alone(folder: Path, name: str) -> None:
    write(folder / name)
    (folder / "clip.txt").write_text("mine")
    clip = listed(folder)
    delete(clip, None)
    assert [file.name for file in folder.iterdir()] == ["clip.txt"]
    delete(clip, None)  # gone already: as it should be


def test_a_lone_sidecar_goes(folder: Path) -> None:
    write(folder / "clip.mp4").unlink()
    delete(listed(folder), None)
    assert [*folder.iterdir()] == []


def kept(clip: Clip) -> str:
    with pytest.raises(RunError) as caught:
        delete(clip, None)
    assert caught.value.code == "clip-kept"
    return caught.value.cause or ""


def test_a_folder_with_anything_else_in_it_stays_whole(folder: Path) -> None:
    path = write(folder / "clip")
    clip = listed(folder)
    for other in ("notes.txt", "1.png", "00009.png"):
        if other == "00009.png":
            (path / other).mkdir()
        else:
            (path / other).write_text("mine")
        assert other in kept(clip)
        assert len([*path.iterdir()]) == 6
        assert clip.sidecar and clip.sidecar.exists()
        (path / other).rmdir() if other == "00009.png" else (path / other).unlink()
    delete(clip, None)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_no_link_is_followed(folder: Path, tmp_path: Path, name: str) -> None:
    path = write(folder / name)
    clip = listed(folder)
    elsewhere = path.rename(tmp_path / name)
    path.symlink_to(elsewhere)
    assert kept(clip)
    assert path.is_symlink()
    assert not elsewhere.is_dir() or len([*elsewhere.iterdir()]) == 5
    assert elsewhere.exists()


def test_another_file_under_the_name_stays(folder: Path) -> None:
    path = write(folder / "clip.mp4")
    clip = listed(folder)
    path.write_bytes(b"another")
    assert "another file" in kept(clip)
    assert path.read_bytes() == b"another"


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_what_a_waiting_job_reads_stays_until_it_is_over(journal: Journal, folder: Path, name: str) -> None:
    path = write(folder / name)
    clip = listed(folder)
    read = path / "00001.png" if path.is_dir() else path
    reader = replace(JOB, inputs=Inputs(video=read, references=(folder / "a.png",)))
    job_id = journal.accept(model="m", task="video", prompt="p", job_toml=reader.toml())
    with pytest.raises(RunError) as caught:
        delete(clip, journal)
    assert caught.value.code == "clip-in-use"
    assert job_id in (caught.value.cause or "")
    assert path.exists()
    journal.cancelled(job_id)
    delete(clip, journal)
    assert not path.exists()
