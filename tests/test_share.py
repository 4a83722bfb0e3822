"""Files brought to another place, on real file systems: nothing of the user's is moved, nothing of ours edited."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.control import Control
from engine.errors import Cancelled, ModelError
from engine.library.share import Shared, share

ROOT = Path(__file__).parent.parent
MEMORY = Path("/dev/shm")
TEXT = os.urandom(9 << 20)  # more than one chunk


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A folder where files cannot be cloned, whatever the disk of the tests can do."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else tmp_path) as folder:
        (Path(folder) / "ours").mkdir()
        (Path(folder) / "theirs").write_bytes(TEXT)
        yield Path(folder)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "ours").iterdir())


def test_a_copy_is_hashed_and_the_source_stays(here: Path) -> None:
    source, target = here / "theirs", here / "ours" / "file"
    before = source.stat()
    assert share(source, target, Control(), sealed=False) == Shared("copy", hashlib.sha256(TEXT).hexdigest())
    assert target.read_bytes() == source.read_bytes() == TEXT
    after = source.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    assert left(here) == ["file"]


def test_an_edit_of_the_users_file_does_not_reach_ours(here: Path) -> None:
    source, target = here / "theirs", here / "ours" / "file"
    share(source, target, Control(), sealed=False)
    with source.open("r+b") as stream:
        stream.write(b"edited")
    assert target.read_bytes() == TEXT


def test_what_is_sealed_is_linked(here: Path) -> None:
    source, target = here / "theirs", here / "ours" / "file"
    assert share(source, target, Control(), sealed=True) == Shared("hard link", None)
    assert target.samefile(source)
    assert left(here) == ["file"]


@pytest.mark.parametrize(
    ("mode", "how"), [(0o444, "hard link"), (0o400, "hard link"), (0o464, "copy"), (0o446, "copy")]
)
def test_what_nobody_may_write_is_linked(here: Path, mode: int, how: str) -> None:
    (here / "theirs").chmod(mode)
    assert share(here / "theirs", here / "ours" / "file", Control(), sealed=False).how == how


def test_a_link_to_a_file_is_followed(here: Path) -> None:
    (here / "link").symlink_to("theirs")
    (here / "further").symlink_to(here / "link")
    for sealed in (True, False):
        share(here / "further", here / "ours" / "file", Control(), sealed=sealed)
        assert not (here / "ours" / "file").is_symlink()
        assert (here / "ours" / "file").read_bytes() == TEXT


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "dangling", "loop"])
def test_only_a_regular_file_is_brought(here: Path, kind: str) -> None:
    source = here / kind
    match kind:
        case "folder":
            source.mkdir()
        case "pipe":
            os.mkfifo(source)
        case "dangling":
            source.symlink_to("nowhere")
        case "loop":
            source.symlink_to(source)
    with pytest.raises(ModelError) as refused:
        share(source, here / "ours" / "file", Control(), sealed=True)
    assert refused.value.code == "bad-source"
    assert left(here) == []


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_is_not_brought_to_itself(here: Path, sealed: bool) -> None:
    (here / "door").symlink_to(here)
    before = (here / "theirs").stat()
    with pytest.raises(ModelError) as refused:
        share(here / "theirs", here / "door" / "theirs", Control(), sealed=sealed)
    assert refused.value.code == "bad-source"
    assert (here / "theirs").stat() == before


@pytest.mark.parametrize("sealed", [True, False])
def test_what_was_there_is_replaced_in_one_step(here: Path, sealed: bool) -> None:
    target = here / "ours" / "file"
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        share(here / "theirs", target, Control(), sealed=sealed)
        assert reader.read() == b"old"
    assert target.read_bytes() == TEXT
    assert left(here) == ["file"]


def test_a_link_made_twice_leaves_no_second_name(here: Path) -> None:
    source, target = here / "theirs", here / "ours" / "file"
    for _ in range(2):
        assert share(source, target, Control(), sealed=True).how == "hard link"
    assert left(here) == ["file"]
    assert source.stat().st_nlink == 2


def test_a_link_to_what_is_no_longer_sealed_becomes_a_copy(here: Path) -> None:
    source, target = here / "theirs", here / "ours" / "file"
    share(source, target, Control(), sealed=True)
    assert share(source, target, Control(), sealed=False).how == "copy"
    assert not target.samefile(source)


def test_between_file_systems_it_is_copied(here: Path, tmp_path: Path) -> None:
    if here.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("only one file system")
    assert share(here / "theirs", tmp_path / "file", Control(), sealed=True).how == "copy"
    assert (tmp_path / "file").read_bytes() == TEXT
    assert [path.name for path in tmp_path.glob(".*")] == []


class Turn(Control):
    """Does something at its second check: the first lies before the copy, the second inside it."""

    def __init__(self, source: Path | None = None) -> None:
        super().__init__()
        self.checks, self.source = 0, source

    def check(self) -> None:
        self.checks += 1
        if self.checks == 2 and self.source:
            with self.source.open("ab") as stream:
                stream.write(b"more")
        elif self.checks == 2:
            self.cancel()
        super().check()


def test_a_cancel_leaves_what_was_there(here: Path) -> None:
    (here / "ours" / "file").write_bytes(b"old")
    with pytest.raises(Cancelled):
        share(here / "theirs", here / "ours" / "file", Turn(), sealed=False)
    assert (here / "ours" / "file").read_bytes() == b"old"
    assert left(here) == ["file"]


def test_a_cancelled_call_begins_nothing(here: Path) -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        share(here / "theirs", here / "ours" / "file", control, sealed=True)
    assert left(here) == []


def test_a_source_edited_meanwhile_is_refused(here: Path) -> None:
    with pytest.raises(ModelError) as refused:
        share(here / "theirs", here / "ours" / "file", Turn(here / "theirs"), sealed=False)
    assert refused.value.code == "bad-source"
    assert left(here) == []


FILLER = """
import json, sys
from pathlib import Path
from engine.control import Control
from engine.library.share import share

source, folder = map(Path, sys.argv[1:])
said = None
try:
    share(source, folder / "file", Control(), sealed=False)
except OSError as error:
    said = error.errno
print(json.dumps([said, [path.name for path in folder.iterdir()]]))
"""


def mounted(mount: str, folder: Path, program: str, *arguments: Path) -> str:
    """What a program says in which `mount` was done on `folder`; the test is skipped where nothing can be mounted."""
    space = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*space, mount, folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    job = [*space, f'{mount} && exec "$@"', folder, sys.executable, "-c", program, *arguments]
    answer = subprocess.run(job, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.stderr == ""
    return answer.stdout


@pytest.mark.parametrize("size", [len(TEXT), 6 << 20])
def test_a_full_disk_is_told_and_nothing_is_left(here: Path, size: int) -> None:
    os.truncate(here / "theirs", size)  # the last piece written may be one that the disk takes half of
    said = mounted('mount -t tmpfs -o size=4m none "$0"', here / "ours", FILLER, here / "theirs", here / "ours")
    assert json.loads(said) == [errno.ENOSPC, []]


CLONER = """
import json, sys
from pathlib import Path
from engine.control import Control
from engine.library.share import share

text, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
(folder / "theirs").write_bytes(text)
shared = [share(folder / "theirs", folder / "ours", Control(), sealed=sealed) for sealed in (True, False)]
with (folder / "theirs").open("r+b") as stream:
    stream.write(b"edited")
same = (folder / "ours").read_bytes() == text
print(json.dumps([[(one.how, one.sha256) for one in shared], same, sorted(path.name for path in folder.iterdir())]))
"""


def test_a_clone_where_the_file_system_has_them(here: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(128 << 20)
    if shutil.which("mkfs.btrfs") is None or subprocess.run(["mkfs.btrfs", "-q", disk]).returncode:
        pytest.skip("no file system that clones can be made here")
    said = mounted(f'mount -o loop "{disk}" "$0"', here / "ours", CLONER, here / "theirs", here / "ours")
    assert json.loads(said) == [[["reflink", None]] * 2, True, ["ours", "theirs"]]
