"""Clips written with the real ffmpeg and measured from what is on the disk."""

from __future__ import annotations

import functools
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
from PIL import Image

from engine.errors import Cancelled, JobError, RunError
from engine.video.ffmpeg import read_with_ffmpeg
from engine.video.place import place, sidecar_path
from engine.video.probe import probe, read_metadata
from engine.video.write import check_output, open_writer

pytestmark = pytest.mark.sampled(2)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SUFFIXES = [".mp4", ".webm", ".gif", ""]
ROOT = Path(__file__).resolve().parent.parent
W, H = 96, 64

# Red, green, blue, grey, and a colour that no two channels share.
SOLID = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [200, 100, 50]], np.uint8)


def noise(count: int, width: int = W, height: int = H) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def solid() -> NDArray[np.uint8]:
    return np.broadcast_to(SOLID[:, None, None, :], (len(SOLID), H, W, 3))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder that holds nothing but what the test makes."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def a_job(video: Path) -> str:
    return f'made = "{video.name}"\n'


def save(
    path: Path,
    frames: NDArray[np.uint8] | None = None,
    *,
    fps: float = 16,
    crf: int = 18,
    metadata: str | None = None,
) -> Path:
    """Write `frames` as the decoder hands them out: one, then groups of four."""
    frames = noise(5) if frames is None else frames
    _, height, width, _ = frames.shape
    with open_writer(path, width=width, height=height, fps=fps, crf=crf, metadata=metadata) as writer:
        writer.write(frames[:1])
        for start in range(1, len(frames), 4):
            writer.write(frames[start : start + 4])
        return writer.finish(a_job)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def ffmpegs() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def the_ffmpeg() -> psutil.Process:
    (child,) = ffmpegs()
    return child


# --- what is in the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
@pytest.mark.parametrize("fps", [16, 24, 23.976])
def test_video_is_what_was_asked(here: Path, suffix: str, codec: str, fps: float) -> None:
    clip = probe(save(here / f"clip{suffix}", noise(13), fps=fps))
    assert (clip.codec, clip.pix_fmt, clip.color) == (codec, "yuv420p", "tv, bt709")
    assert (clip.width, clip.height, clip.frames) == (W, H, 13)
    assert clip.fps == pytest.approx(fps, rel=1e-3)
    assert clip.seconds == pytest.approx(13 / fps, rel=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_colours_are_bt709(here: Path, suffix: str) -> None:
    path = save(here / f"clip{suffix}", solid())
    planes = read_with_ffmpeg(path, "-f", "rawvideo", "-pix_fmt", "yuv444p", "-").stdout
    y, u, v = np.moveaxis(np.frombuffer(planes, np.uint8).reshape(-1, 3, H, W).astype(float), 1, 0)
    luma, blue, red = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    # ITU-R BT.709, item 3: by hand, so that no converter of ffmpeg's vouches for the other.
    r = luma + 1.5748 * red
    b = luma + 1.8556 * blue
    g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152
    shown = np.stack([r, g, b], axis=-1) * 255
    assert np.abs(shown - solid()).max() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_players_show_the_same_picture(here: Path, suffix: str) -> None:
    """With detail, not only flat colour: frames in order, nothing mirrored, moved or lost."""
    x, y = np.meshgrid(np.linspace(0, 1, W), np.linspace(0, 1, H))
    frames = np.stack([255 * np.stack([x * k / 6, y, 1 - x], -1) for k in range(7)]).astype(np.uint8)
    path = save(here / f"clip{suffix}", frames, crf=4)
    raw = read_with_ffmpeg(path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
    shown = np.frombuffer(raw, np.uint8).reshape(frames.shape).astype(float)
    assert np.abs(shown - frames).mean() < 3


def test_mp4_starts_playing_before_it_is_loaded(here: Path) -> None:
    data = save(here / "clip.mp4").read_bytes()
    atoms, at = [], 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        atoms.append(kind)
        at += size
    assert atoms.index(b"moov") < atoms.index(b"mdat")


def test_gif_has_every_frame_its_time_and_its_colours(here: Path) -> None:
    frames = np.concatenate([solid(), solid(), solid()[-1:], solid()[-1:]])  # the last three are the same
    with Image.open(save(here / "clip.gif", frames)) as gif:
        assert gif.n_frames == len(frames)  # type: ignore[attr-defined]
        assert gif.info["loop"] == 0
        milliseconds = 0
        for index, frame in enumerate(frames):
            gif.seek(index)
            milliseconds += gif.info["duration"]
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() <= 2
    assert milliseconds == pytest.approx(1000 * len(frames) / 16, abs=10)


def test_gif_palette_belongs_to_its_frame(here: Path) -> None:
    """250 colours in every frame, and none of them in another: one palette for all would be far off."""
    frames = noise(10, 25, 10)
    with Image.open(save(here / "clip.gif", frames)) as gif:
        for index, frame in enumerate(frames):
            gif.seek(index)
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).max() <= 2


def test_frames_without_suffix_are_exact(here: Path) -> None:
    frames = noise(6)[:, ::-1, :, ::-1]  # a view, not contiguous
    folder = save(here / "100%d clip: é", frames)
    assert [path.name for path in sorted(folder.iterdir())] == [f"0000{n}.png" for n in range(1, 7)]
    for path, frame in zip(sorted(folder.iterdir()), frames, strict=True):
        with Image.open(path) as image:
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), frame)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_crf_is_obeyed(here: Path, suffix: str) -> None:
    fine = save(here / f"fine{suffix}", crf=8).stat().st_size
    coarse = save(here / f"coarse{suffix}", crf=45).stat().st_size
    assert coarse < fine / 2


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_equal_clips_are_equal_files(here: Path, suffix: str) -> None:
    one = save(here / "one" / f"clip{suffix}", metadata="same")
    two = save(here / "two" / f"clip{suffix}", metadata="same")
    assert one.read_bytes() == two.read_bytes()
    assert str(here).encode() not in one.read_bytes()


# --- the text in the container ---------------------------------------------------------------------------------------

NASTY = (
    '#=;\\ [CHAPTER]\n;FFMETADATA1\ntitle=x\r\nprompt = "é 日本 🎬 \x7f \u2028 \\\\\n"\n'
    "\n\n  comment=no\n[STREAM]\n \\\n"
)
TEXTS = {
    "nasty": NASTY,
    "110 kB": NASTY * 1600,
    "spaces": "  a  ",
    "backslash last": "a\\",
    "backslashes last": "\\\\",
    "newline": "\n",
}


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_comes_back_verbatim(here: Path, suffix: str, text: str) -> None:
    path = save(here / f"clip{suffix}", noise(1), metadata=text)
    assert read_metadata(path) == text
    assert probe(path).frames == 1


def test_no_text_is_none(here: Path) -> None:
    assert read_metadata(save(here / "clip.mp4", noise(1))) is None
    assert read_metadata(save(here / "clip.webm", noise(1), metadata="")) is None
    assert read_metadata(save(here / "clip.gif", noise(1), metadata="kept beside it alone")) is None


def test_only_the_comment_counts(here: Path) -> None:
    """Another program's title may hold what looks like a comment."""
    (here / "tags").write_text(";FFMETADATA1\ntitle=x\\\ncomment\\=title\ncomment=real\n")
    path = here / "other.mp4"
    source = save(here / "clip.mp4", noise(1))
    read_with_ffmpeg(source, "-i", str(here / "tags"), "-map_metadata", "1", "-c", "copy", str(path))
    assert read_metadata(path) == "real"


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_never_overwrites(here: Path, suffix: str) -> None:
    names = [save(here / "new" / "folder" / f"clip{suffix}", noise(1)) for _ in range(3)]
    assert [path.name for path in names] == [f"clip{suffix}", f"clip-2{suffix}", f"clip-3{suffix}"]
    for path in names:
        assert sidecar_path(path).name == f"{path.stem}.job.toml"
        assert sidecar_path(path).read_text() == a_job(path)
    left = {path.name for path in (here / "new" / "folder").iterdir()}
    assert left == {path.name for path in names} | {sidecar_path(path).name for path in names}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("taken", ["clip{}", "clip.job.toml"])
def test_what_is_there_stays(here: Path, suffix: str, taken: str) -> None:
    there = here / taken.format(suffix)
    there.write_text("mine")
    assert save(here / f"clip{suffix}", noise(1)) == here / f"clip-2{suffix}"
    assert there.read_text() == "mine"


def test_dangling_link_is_taken(here: Path) -> None:
    (here / "clip.mp4").symlink_to(here / "gone.mp4")
    assert save(here / "clip.mp4", noise(1)).name == "clip-2.mp4"
    assert not (here / "gone.mp4").exists()


def test_formats_share_a_sidecar_and_so_a_number(here: Path) -> None:
    names = [save(here / f"clip{suffix}", noise(1)).name for suffix in SUFFIXES]
    assert names == ["clip.mp4", "clip-2.webm", "clip-3.gif", "clip-4"]


def test_files_have_the_rights_of_any_new_file(here: Path) -> None:
    (here / "any").touch()
    (here / "folder").mkdir()
    video, frames = save(here / "clip.mp4", noise(1)), save(here / "frames", noise(1))
    for path in (video, sidecar_path(video), frames / "00001.png"):
        assert path.stat().st_mode == (here / "any").stat().st_mode
    assert frames.stat().st_mode == (here / "folder").stat().st_mode


def test_relative_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    assert save(Path("-clip.mp4"), noise(1)) == here / "-clip.mp4"
    assert tree(here) == ["-clip.job.toml", "-clip.mp4"]


RACER = """
import sys, time
from pathlib import Path
from engine.video.place import place
me, folder = sys.argv[1], Path(sys.argv[2])
(folder / f"ready{me}").touch()
while not (folder / "go").exists():
    pass
for turn in range(40):
    scratch = folder / f"{me}-{turn}"
    scratch.mkdir()
    part = scratch / "part"
    suffix = ("", ".mp4", ".webm")[turn % 3]
    if suffix:
        part.write_text(f"{me}-{turn}")
    else:
        part.mkdir()
        (part / "00001.png").write_text(f"{me}-{turn}")
    place(part, folder / "out" / f"clip{suffix}", lambda final: f"{me}-{turn} {final.name}")
"""


def test_processes_that_race_for_a_name(here: Path) -> None:
    (here / "out").mkdir()
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(me), str(here)], cwd=ROOT) for me in range(4)]
    while sum(1 for _ in here.glob("ready*")) < len(racers):
        assert all(racer.poll() is None for racer in racers)
        time.sleep(0.01)
    (here / "go").touch()
    assert [racer.wait() for racer in racers] == [0] * len(racers)
    assert_each_placed_once(here / "out", {f"{me}-{turn}" for me in range(4) for turn in range(40)})


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_threads_that_race_for_a_name(here: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")  # as a FAT file system does

        monkeypatch.setattr(os, "link", refuse)
    (here / "out").mkdir()
    start = threading.Barrier(8)

    def race(me: int) -> None:
        for turn in range(10):
            scratch = here / f"{me}-{turn}"
            scratch.mkdir()
            (scratch / "part").write_text(scratch.name)
            start.wait()
            place(scratch / "part", here / "out" / "clip.mp4", lambda final: f"{scratch.name} {final.name}")  # noqa: B023

    threads = [threading.Thread(target=race, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_each_placed_once(here / "out", {f"{me}-{turn}" for me in range(8) for turn in range(10)})


def assert_each_placed_once(out: Path, owners: set[str]) -> None:
    videos = [path for path in out.iterdir() if not path.name.endswith(".job.toml")]
    assert len(videos) == len(owners)
    assert len(list(out.iterdir())) == 2 * len(owners)
    seen = set()
    for video in videos:
        owner = (video / "00001.png" if video.is_dir() else video).read_text()
        assert sidecar_path(video).read_text() == f"{owner} {video.name}"
        seen.add(owner)
    assert seen == owners


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_lost_at_the_last_moment(here: Path, suffix: str) -> None:
    """Someone takes the name after it was found free: the next one is tried, with a text of its own."""

    def sidecar(final: Path) -> str:
        if final == here / f"clip{suffix}":
            final.touch() if suffix else final.mkdir()
        return a_job(final)

    with open_writer(here / f"clip{suffix}", width=W, height=H, fps=16) as writer:
        writer.write(noise(1))
        placed = writer.finish(sidecar)
    assert placed == here / f"clip-2{suffix}"
    assert sidecar_path(placed).read_text() == a_job(placed)
    theirs = here / f"clip{suffix}"
    assert not (list(theirs.iterdir()) if theirs.is_dir() else theirs.read_bytes())
    assert not sidecar_path(theirs).exists()


# --- nothing half-written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [Cancelled("user"), KeyboardInterrupt(), ValueError("x")], ids=repr)
def test_leaving_early_leaves_nothing(here: Path, suffix: str, error: BaseException) -> None:
    with (
        pytest.raises(type(error)) as caught,
        open_writer(here / f"clip{suffix}", width=W, height=H, fps=16, metadata="x") as writer,
    ):
        writer.write(noise(40))
        encoders = ffmpegs()
        assert len(encoders) == bool(suffix)  # pictures are written without one
        assert writer.scratch.exists()
        assert [path for path in here.iterdir() if not path.name.startswith(".clip")] == []
        raise error
    assert caught.value is error
    assert tree(here) == []
    assert not any(encoder.is_running() for encoder in encoders)


def test_not_finishing_leaves_nothing(here: Path) -> None:
    with open_writer(here / "clip.mp4", width=W, height=H, fps=16) as writer:
        writer.write(noise(1))
    assert tree(here) == []


def test_sidecar_that_fails_leaves_nothing(here: Path) -> None:
    def sidecar(_: Path) -> str:
        raise Cancelled("user")

    with pytest.raises(Cancelled), open_writer(here / "clip", width=W, height=H, fps=16) as writer:
        writer.write(noise(1))
        writer.finish(sidecar)
    assert tree(here) == []


def test_no_frames_is_a_mistake(here: Path) -> None:
    with (
        pytest.raises(ValueError, match="without frames"),
        open_writer(here / "clip.mp4", width=W, height=H, fps=16) as writer,
    ):
        writer.write(noise(0))
        writer.finish(a_job)
    assert tree(here) == []


@pytest.mark.parametrize(
    "frames", [noise(1).astype(np.float32), noise(1, W + 2), noise(1)[0], noise(1)[..., :2]], ids=lambda f: str(f.shape)
)
def test_wrong_frames_are_refused(here: Path, frames: NDArray[np.uint8]) -> None:
    with (
        pytest.raises(ValueError, match="are due"),
        open_writer(here / "clip.mp4", width=W, height=H, fps=16) as writer,
    ):
        writer.write(frames)


def test_terminal_signals_do_not_reach_ffmpeg(here: Path) -> None:
    with open_writer(here / "clip.mp4", width=W, height=H, fps=16):
        ffmpeg = the_ffmpeg().pid
        assert os.getsid(ffmpeg) == ffmpeg != os.getsid(0)


@pytest.mark.usefixtures("in_time")
def test_ffmpeg_that_hangs_is_left_at_once(here: Path) -> None:
    with pytest.raises(Cancelled), open_writer(here / "clip.mp4", width=W, height=H, fps=16):
        os.kill(the_ffmpeg().pid, signal.SIGSTOP)
        raise Cancelled("user")
    assert tree(here) == []


def test_signals_during_a_write_lose_nothing(here: Path) -> None:
    """A write that waits for ffmpeg is cut short by a signal, with a part of the frames handed over."""
    frames = noise(40)
    with open_writer(here / "clip.gif", width=W, height=H, fps=16) as writer:
        ffmpeg = the_ffmpeg().pid
        os.kill(ffmpeg, signal.SIGSTOP)
        before = signal.signal(signal.SIGALRM, lambda *_: os.kill(ffmpeg, signal.SIGCONT))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        writer.write(frames)
        signal.signal(signal.SIGALRM, before)
        placed = writer.finish(a_job)
    assert placed.read_bytes() == save(here / "undisturbed.gif", frames).read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
@pytest.mark.parametrize("when", ["writing", "finishing"])
def test_ffmpeg_killed(here: Path, suffix: str, when: str) -> None:
    with (
        pytest.raises(RunError) as caught,
        open_writer(here / f"clip{suffix}", width=W, height=H, fps=16, metadata="x" * 1000) as writer,
    ):
        writer.write(noise(4))
        os.kill(the_ffmpeg().pid, signal.SIGKILL)
        for _ in range(100 if when == "writing" else 0):
            writer.write(noise(4))
        writer.finish(a_job)
    assert caught.value.code == "encoding-failed"
    assert "signal 9" in str(caught.value.cause)
    assert tree(here) == []


def test_ffmpeg_that_refuses_says_why(here: Path) -> None:
    with pytest.raises(RunError) as caught:
        save(here / "clip.mp4", noise(200, 95, 63))
    assert caught.value.code == "encoding-failed"
    assert "width not divisible by 2 (95x63)" in str(caught.value.cause)
    assert "0x" not in str(caught.value.cause)
    assert tree(here) == []


def test_no_ffmpeg(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(here / "none"))
    with pytest.raises(RunError) as caught:
        save(here / "clip.mp4")
    assert caught.value.code == "ffmpeg-missing"
    assert tree(here) == []


FILLER = """
import json, resource, sys
from pathlib import Path
import numpy as np
from engine.errors import RunError
from engine.video.write import open_writer

folder, name, count, text, metadata, limit = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
frames = np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)
said = {}
try:
    with open_writer(folder / name, width=128, height=128, fps=16, metadata="m" * metadata) as writer:
        for frame in frames:
            writer.write(frame[None])
        writer.finish(lambda final: "x" * text)
except RunError as error:
    said = error.as_dict()
print(json.dumps({**said, "left": sorted(str(path) for path in folder.rglob("*"))}))
"""


@functools.cache
def small_disks_can_be_had() -> bool:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def fill(folder: Path, name: str, *, kib: int, frames: int, text: int = 10, metadata: int = 100) -> dict[str, object]:
    """Write on a disk of `kib` in a process of its own; where none can be had, with that limit on every file."""
    disk = small_disks_can_be_had()
    limit = 0 if disk else kib * 100
    job = [sys.executable, "-c", FILLER, str(folder), name, *map(str, (frames, text, metadata, limit))]
    if disk:
        mount = f'mount -t tmpfs -o size={kib}k none "$0" && exec "$@"'
        job = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder), *job]
    answer = subprocess.run(job, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.stderr == ""
    said: dict[str, object] = json.loads(answer.stdout)
    return said


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_disk_full(here: Path, suffix: str) -> None:
    said = fill(here, f"clip{suffix}", kib=256, frames=60)
    assert said["code"] == "disk-full"
    assert str(here) in str(said["message"])
    assert "MiB free" in str(said["cause"])
    assert said["left"] == []


def test_disk_full_when_the_sidecar_comes(here: Path) -> None:
    said = fill(here, "clip.mp4", kib=256, frames=1, text=1_000_000)
    assert (said["code"], said["left"]) == ("disk-full", [])


def test_disk_full_from_the_start(here: Path) -> None:
    said = fill(here, "folder/clip.mp4", kib=256, frames=1, metadata=1_000_000)
    assert (said["code"], said["left"]) == ("disk-full", [str(here / "folder")])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_size_limit(here: Path, suffix: str) -> None:
    """A limit the disk does not know of: FAT's 4 GiB, `ulimit -f`."""
    job = [sys.executable, "-c", FILLER, str(here), f"clip{suffix}", "60", "10", "100", "30000"]
    said = json.loads(subprocess.run(job, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert (said["code"], said["left"]) == ("disk-full", [])
    assert "File too large" in said["cause"]


# --- where output may go ---------------------------------------------------------------------------------------------


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that may not be written to, by us without root's rights."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.setresuid(65534, 65534, 0)
        yield Path(name)
        if root:
            os.setresuid(0, 0, 0)


def test_folder_that_may_not_be_written(locked: Path) -> None:
    with pytest.raises(JobError) as refused:
        check_output(locked / "deeper" / "clip.mp4")
    assert str(locked) in str(refused.value.cause)
    with pytest.raises(RunError) as failed, open_writer(locked / "deeper" / "clip.mp4", width=W, height=H, fps=16):
        pass
    assert (failed.value.code, failed.value.cause) == ("output-not-writable", "Permission denied")


def test_file_where_a_folder_should_be(here: Path) -> None:
    (here / "file").write_text("mine")
    with pytest.raises(RunError) as caught:
        save(here / "file" / "clip.mp4", noise(1))
    assert caught.value.code == "output-not-writable"
    assert tree(here) == ["file"]


def test_folder_that_vanishes(here: Path) -> None:
    folder = here / "folder"
    with pytest.raises(RunError) as caught, open_writer(folder / "clip.mp4", width=W, height=H, fps=16) as writer:
        writer.write(noise(1))
        writer.scratch.rename(here / "elsewhere")
        folder.rmdir()
        writer.finish(a_job)
    assert caught.value.code in ("output-not-writable", "encoding-failed")
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["clip.mp4", "clip.MP4", "clip.webm", "clip.gif", "frames", "new/deep/clip.mp4", "é 日"]
)
def test_good_outputs(here: Path, name: str) -> None:
    check_output(here / name)
    assert tree(here) == []
    assert save(here / name, noise(1)) == here / name


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("clip.mov", "'.mov'"),
        ("clip.mp4.part", "'.part'"),
        ("a\nb.mp4", "control"),
        ("a\x1b[31m.mp4", "control"),
        ("a\0.mp4", "control"),
        ("a\x9b.mp4", "control"),
        ("\ud800.mp4", "control"),
        ("..", "no file"),
        (".mp4", "no file"),
        ("x" * 300 + ".mp4", "longer than"),
        ("é" * 120 + ".mp4", "longer than"),
        ("x" * 300 + "/clip.mp4", "longer than"),
        ("file/clip.mp4", "no folder"),
        ("file/deep/clip.mp4", "no folder"),
        ("dangling/clip.mp4", "no folder"),
        ("folder.mp4", "it is a folder"),
    ],
)
def test_bad_outputs(here: Path, name: str, cause: str) -> None:
    (here / "file").touch()
    (here / "file").chmod(0o777)
    (here / "dangling").symlink_to("gone")
    (here / "folder.mp4").mkdir()
    before = tree(here)
    with pytest.raises(JobError) as caught:
        check_output(here / name)
    assert caught.value.code == "bad-output"
    assert cause in str(caught.value.cause)
    assert caught.value.suggestions
    assert not any(unicodedata.category(c) == "Cc" for c in caught.value.message)
    assert tree(here) == before


@pytest.mark.parametrize("path", ["", "/", ".", ".."])
def test_outputs_that_name_nothing(path: str) -> None:
    with pytest.raises(JobError, match="cannot be used"):
        check_output(Path(path))


def test_unknown_suffix_names_the_known(here: Path) -> None:
    with pytest.raises(JobError) as caught:
        save(here / "new" / "clip.mov")
    assert all(suffix in caught.value.suggestions[0] for suffix in (".mp4", ".webm", ".gif", "no suffix"))
    assert tree(here) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_longest_name(here: Path, suffix: str) -> None:
    """What the check lets pass can be written, also with its sidecar and a number."""
    name = "é" * ((240 - len(suffix)) // 2) + suffix
    check_output(here / name)
    assert [save(here / name, noise(1)).exists() for _ in range(2)] == [True, True]
    with pytest.raises(JobError):
        check_output(here / f"éé{name}")


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("read", [probe, read_metadata])
@pytest.mark.parametrize(
    "name", ["absent.mp4", "folder.mp4", "fifo.mp4", "empty.mp4", "text.mp4", "a\0.mp4", "list.mp4"]
)
def test_what_is_no_video(here: Path, name: str, read: object) -> None:
    (here / "folder.mp4").mkdir()
    os.mkfifo(here / "fifo.mp4")
    (here / "empty.mp4").touch()
    (here / "text.mp4").write_text("not a video, whatever its name")
    (here / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(JobError) as caught:
        read(here / name)  # type: ignore[operator]
    assert caught.value.code == "bad-input-video"
    assert caught.value.cause
    assert caught.value.suggestions


def test_video_cut_short_says_so(here: Path) -> None:
    """Where the index of an mp4 lies at its end, half of the file is nothing at all."""
    cut = here / "cut.mp4"
    read_with_ffmpeg(save(here / "clip.mp4"), "-c", "copy", str(cut))
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(JobError) as caught:
        probe(cut)
    assert caught.value.cause == "Invalid data found when processing input"


def test_sound_alone_is_no_video(here: Path) -> None:
    samples = bytes(8000)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 8000, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 8000
    )
    (here / "sound.wav").write_bytes(header + samples)
    with pytest.raises(JobError) as caught:
        probe(here / "sound.wav")
    assert caught.value.cause == "nothing in it decodes as video"
    assert read_metadata(here / "sound.wav") is None


def test_probe_is_not_fooled_by_the_text(here: Path) -> None:
    text = "x\n  Stream #0:0: Video: fake, rgb24(pc), 1x1\r  Stream #0:0: Video: fake, rgb24(pc), 1x1\n"
    clip = probe(save(here / "clip.mp4", noise(2), metadata=text))
    assert (clip.codec, clip.width, clip.frames) == ("h264", W, 2)


def test_probe_sees_a_video_as_it_is_shown(here: Path) -> None:
    """A phone held upright stores its picture on its side."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-display_rotation", "90", "-i", str(save(here / "clip.mp4"))]
    subprocess.run([*command, "-c", "copy", str(here / "turned.mp4")], capture_output=True, check=True)
    clip = probe(here / "turned.mp4")
    assert (clip.codec, clip.width, clip.height, clip.frames) == ("h264", H, W, 5)


def test_probe_of_a_gif(here: Path) -> None:
    clip = probe(save(here / "clip.gif", noise(16)))
    assert (clip.codec, clip.width, clip.height, clip.frames) == ("gif", W, H, 16)
    assert clip.seconds == pytest.approx(1, abs=0.011)


def test_nothing_heavy_is_imported() -> None:
    heavy = "{'numpy', 'PIL', 'imageio_ffmpeg', 'torch'}"
    modules = "engine.video.write, engine.video.image, engine.video.probe"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
