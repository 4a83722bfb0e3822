"""Bytes that are not the model's are never called verified, whatever is edited, moved, shared or cut off, and when."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import engine.events
from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, ModelError, RunError, WanError
from engine.events import Bus, Download, Event, Import, LibraryProgress, Mailbox, Notice
from engine.library import store as storing
from engine.library import verify as verifying
from engine.library.adopt import Adopted, adopt
from engine.library.crew import work
from engine.library.digest import Digest, Digests, count
from engine.library.keep import begin, finish
from engine.library.listing import Listing, read_lock
from engine.library.locate import OnDisk, made_folder
from engine.library.remove import plan_removal, remove
from engine.library.resolve import Want, resolve
from engine.paths import hub_cache, state_dir
from tests.disks import small_disk
from tests.runs import events, job_file, wan_tui
from tests.shelf import (
    MANNERS,
    SHARD,
    Heard,
    Shelf,
    flip,
    model_files,
    rand,
    sha256,
    snapshot,
    write,
)
from tests.test_models_cli import Terminal, all_of_one

pytestmark = pytest.mark.sampled(2)

CONFIG = "vae/config.json"
OTHER_SHARD = SHARD.replace("00001-of", "00002-of")
TEXT = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def tiny_shelf(shelf: Shelf, tiny_model: Any) -> Shelf:
    """`mine@1.0` is a model that renders."""
    shutil.copytree(tiny_model("t2v"), shelf.hub.root / "demo" / "tiny")
    made = {"name": "bf16", "kind": "bf16", "runnable": True}
    model = {"title": "Mine", "family": "t2v", "repo": "demo/tiny", "variants": [made]}
    shelf.write_manifest(**{"mine@1.0": model})
    return shelf


def states(shelf: Shelf, reference: str = "mine") -> dict[str, str]:
    return {file.info.path: file.state for file in shelf.look(reference).files}


def real(shelf: Shelf, name: str = SHARD, reference: str = "mine") -> Path:
    """Where a file's bytes lie."""
    return Path(os.path.realpath(shelf.file(name, reference).path))


def publish(shelf: Shelf, branch: str, files: dict[str, bytes | None], repo: str = "one") -> str:
    """A branch that differs from `main` in these files, None for those it lacks; returns its commit."""
    folder = shelf.hub.root / "demo" / f"{repo}@{branch}"
    shutil.copytree(shelf.hub.root / "demo" / repo, folder)
    for name, data in files.items():
        if data is None:
            (folder / name).unlink()
        else:
            write(folder, {name: data})
    for file in folder.rglob("*"):
        os.utime(file, (1, 1))
    return commit_of(shelf, branch, repo)


def publish_v2(shelf: Shelf) -> str:
    """Other weights of the very sizes those of `main` have."""
    return publish(
        shelf, "v2", {SHARD: rand("v2 1", 50_000), OTHER_SHARD: rand("v2 2", 50_000), VAE: rand("v2", 20_000)}
    )


def commit_of(shelf: Shelf, revision: str, repo: str = "one") -> str:
    found = shelf.hub.resolve(f"demo/{repo}", revision)
    assert found
    return found[0]


def sources(shelf: Shelf, branch: str = "") -> dict[str, str]:
    """The SHA-256 that each file of a branch has on the Hub."""
    top = shelf.hub.root / "demo" / f"one{branch and f'@{branch}'}"
    return {path.relative_to(top).as_posix(): sha256(path) for path in top.rglob("*") if path.is_file()}


def assert_honest(copy: OnDisk, true: dict[str, str]) -> None:
    """What is called verified is read, and is what the Hub has."""
    for file in copy.files:
        if file.state == "verified":
            assert sha256(file.path) == true[file.info.path], f"{file.info.path} is called verified"


def assert_all_right(copy: OnDisk, true: dict[str, str]) -> None:
    assert copy.state == "verified"
    assert copy.files
    assert_honest(copy, true)


def wants_of(shelf: Shelf, revision: str | None = None, reference: str = "mine") -> list[Want]:
    return resolve(shelf.item(reference), Control(), MANNERS, lambda _: None, revision)


def take(shelf: Shelf, folder: Path, reference: str = "mine", bus: Bus | None = None) -> Adopted:
    return adopt(shelf.item(reference), folder, bus or Bus(), Control(), manners=MANNERS)


def lock_of(shelf: Shelf, reference: str = "mine") -> Listing:
    place = shelf.look(reference).files[0].place
    assert place
    listing = read_lock(place.lock)
    assert listing
    return listing


def forget_digests() -> None:
    (state_dir() / "digests.json").unlink()


def served(shelf: Shelf) -> Counter[str]:
    """How often bytes of each file were sent."""
    shelf.hub.settled()
    rows = [row for row in shelf.hub.requests("GET", "*/resolve/*") if row.sent and row.status in (200, 206)]
    return Counter(row.path.split("/resolve/")[1].partition("/")[2] for row in rows)


def editing(edited: Path, times: int = 1) -> Callable[..., Digest]:
    """A count at whose end, so many times, the counted file is edited, when it is this one."""
    left = [times]

    def counting(file: Path, *arguments: Any, **more: Any) -> Digest:
        found = count(file, *arguments, **more)
        if left[0] and os.path.realpath(file) == os.path.realpath(edited):
            left[0] -= 1
            flip(Path(os.path.realpath(edited)))
        return found

    return counting


# --- what was found bad stays bad -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SHARD, CONFIG])
def test_an_import_does_not_make_a_bad_file_right(shelf: Shelf, layout: str, tmp_path: Path, name: str) -> None:
    shelf.download()
    before = lock_of(shelf).by_path[name]
    flip(real(shelf, name))
    assert [(bad.info.path, bad.state) for bad in shelf.verify().bad] == [(name, "corrupt")]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = take(shelf, empty)
    assert (done.taken, done.lacking, done.copy.state) == ((), (name,), "corrupt")
    assert lock_of(shelf).by_path[name] == before
    assert before.sha256 == sources(shelf)[name]
    again = shelf.verify()
    assert again.state == "corrupt"
    assert [(bad.info.path, bad.state) for bad in again.bad] == [(name, "corrupt")]


# --- revisions --------------------------------------------------------------------------------------------------------


def test_a_revision_that_begins_while_another_comes_keeps_its_list(shelf: Shelf, root: Path) -> None:
    publish_v2(shelf)
    older, newer = wants_of(shelf, "main"), wants_of(shelf, "v2")
    digests = Digests()
    begin(older, {want.file.path for want in older})
    write(older[0].place.root, {want.file.path: model_files("one")[want.file.path] for want in older})
    for want in older:
        digests.learn(want.store, count(want.store, git=True), want.store.stat())
    digests.save()
    begin(newer, {want.file.path for want in newer})
    lock = older[0].place.lock
    table = lock.read_bytes()
    assert read_lock(lock).commit == newer[0].listing.commit  # type: ignore[union-attr]

    finish(older, digests)
    assert lock.read_bytes() == table
    true = sources(shelf, "v2")
    copy = shelf.look()
    assert copy.revision == newer[0].listing.commit
    assert not copy.whole
    assert_honest(copy, true)
    assert not {SHARD, OTHER_SHARD, VAE} & {path for path, state in states(shelf).items() if state == "verified"}
    forget_digests()
    assert not shelf.look().whole, "sizes alone do not tell the revisions apart"
    assert_honest(shelf.look(), true)
    assert_all_right(shelf.download(revision="v2"), true)


def test_what_a_finished_revision_lacks_stays_where_a_newer_one_has_it(shelf: Shelf, root: Path) -> None:
    """From v1, that has a file, to v2, that lacks it, while v3, that has it again, begins."""
    extra = "vae/extra.safetensors"
    write(shelf.hub.root / "demo" / "one", {extra: rand("extra", 4_000)})
    publish(shelf, "v2", {extra: None, CONFIG: b'{"z_dim": 17}'})
    publish(shelf, "v3", {CONFIG: b'{"z_dim": 18}'})
    shelf.download()
    second, third = wants_of(shelf, "v2"), wants_of(shelf, "v3")
    digests = Digests()
    begin(second, {CONFIG})
    begin(third, {CONFIG})
    finish(second, digests)
    assert states(shelf)[extra] == "verified"


@pytest.mark.parametrize("pinned", [False, True], ids=["branches", "commits"])
def test_two_entries_of_a_repository_never_read_each_other_s_bytes(
    shelf: Shelf, layout: str, tmp_path: Path, pinned: bool
) -> None:
    commits = {"mine": commit_of(shelf, "main"), "newer": publish_v2(shelf)}
    revisions = commits if pinned else {"mine": "main", "newer": "v2"}
    true = {"mine": sources(shelf), "newer": sources(shelf, "v2")}
    model = {"title": "Mine", "family": "t2v", "repo": "demo/one"}
    shelf.write_manifest(**{f"{name}@1.0": {**model, "revision": revisions[name]} for name in revisions})

    def refused(name: str) -> None:
        assert shelf.look(name).state not in ("complete", "verified")
        assert_honest(shelf.look(name), true[name])
        ran = wan_tui("--run", job_file(tmp_path, f"{name}@1.0"), "--json")
        last = events(ran.stdout)[-1]
        assert (ran.returncode, last["event"]) == (3, "job-failed")
        assert last["code"] in ("model-absent", "model-corrupt")

    assert_all_right(shelf.download("mine"), true["mine"])
    refused("newer")
    assert_all_right(shelf.download("newer"), true["newer"])
    assert shelf.look("newer").revision == commits["newer"]
    if layout == "plain":
        refused("mine")
        assert_all_right(shelf.download("mine"), true["mine"])
        refused("newer")
        return
    for name in ("mine", "newer"):
        assert_all_right(shelf.look(name), true[name])
        assert shelf.look(name).revision == commits[name]
        assert shelf.verify(name).state == "verified"


def test_a_revision_cut_off_is_partial_even_where_digests_are_forgotten(shelf: Shelf, root: Path) -> None:
    shelf.download()
    publish_v2(shelf)
    true = sources(shelf, "v2")
    shelf.break_off("*-00002-of-*", 20_000)
    with pytest.raises(RunError) as failure:
        shelf.download(revision="v2")
    assert failure.value.code == "unreachable"
    assert not shelf.look().whole
    assert_honest(shelf.look(), true)
    forget_digests()
    copy = shelf.look()
    assert copy.state == "partial"
    assert states(shelf)[OTHER_SHARD] == "partial"
    assert_honest(copy, true)
    assert shelf.verify().state in ("partial", "corrupt")
    assert_honest(shelf.look(), true)
    assert states(shelf)[OTHER_SHARD] in ("partial", "corrupt")
    shelf.hub.faults.clear()
    assert_all_right(shelf.download(revision="v2"), true)
    assert shelf.verify().state == "verified"


@pytest.mark.parametrize("status", [404, 503])
def test_a_revision_that_does_not_come_costs_nothing_of_the_one_before(shelf: Shelf, layout: str, status: int) -> None:
    old = shelf.download()
    assert old.path
    renamed, moved = "vae/renamed.safetensors", rand("onevae", 20_000)
    assert moved == model_files("one")[VAE]
    new_shard = rand("v2 1", 50_000)
    publish(shelf, "v2", {VAE: None, renamed: moved, SHARD: new_shard})
    before = {str(file.path.relative_to(old.path)): file.path.read_bytes() for file in old.files}
    shelf.hub.fault("*/resolve/*", method="*", status=status)
    with pytest.raises(WanError):
        shelf.download(revision="v2")
    assert {name: (old.path / name).read_bytes() for name in before} == before
    shelf.hub.faults.clear()
    had = served(shelf)
    assert_all_right(shelf.download(revision="v2"), sources(shelf, "v2"))
    assert served(shelf) - had == Counter({SHARD: 1})
    if layout == "cache":
        assert {name: (old.path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("cut_off", [False, True])
def test_nothing_of_the_revision_before_is_left_to_be_loaded(shelf: Shelf, root: Path, cut_off: bool) -> None:
    """Diffusers goes by an index of shards where there is one, though the folder has whole weights as well."""
    index = "transformer/diffusion_pytorch_model.safetensors.index.json"
    gone: dict[str, bytes | None] = {index: None, SHARD: None, OTHER_SHARD: None}
    publish(shelf, "v2", {**gone, WEIGHTS: rand("whole", 60_000)})
    shelf.download()
    if cut_off:
        shelf.break_off(f"*/{WEIGHTS}", 20_000)
        with pytest.raises(RunError):
            shelf.download(revision="v2")
        shelf.hub.faults.clear()
    assert shelf.download(revision="v2").state == "verified"
    left = {path.name for path in (root / "demo" / "one" / "transformer").iterdir()}
    assert left == {"config.json", Path(WEIGHTS).name}


# --- variants made here -----------------------------------------------------------------------------------------------


def test_a_made_shard_with_a_bad_byte_and_its_old_time_is_made_anew(tiny_shelf: Shelf, layout: str) -> None:
    shelf = tiny_shelf
    shelf.download("mine:bf16")
    made = made_folder(shelf.item("mine:bf16")) / WEIGHTS
    before, info = sha256(made), made.stat()
    flip(made)
    os.utime(made, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert sha256(made) != before
    assert states(shelf, "mine:bf16")[WEIGHTS] != "verified"
    assert shelf.download("mine:bf16").state == "verified"
    assert sha256(made) == before
    assert shelf.verify("mine:bf16").state == "verified"


def test_a_made_variant_follows_the_model_it_is_made_of(tiny_shelf: Shelf, layout: str) -> None:
    shelf = tiny_shelf
    shelf.download()
    shelf.download("mine:bf16")
    made = made_folder(shelf.item("mine:bf16")) / WEIGHTS
    before = sha256(made)
    folder = shelf.hub.root / "demo" / "tiny@v2"
    shutil.copytree(shelf.hub.root / "demo" / "tiny", folder)
    flip(folder / WEIGHTS)
    commit = shelf.download(revision="v2").revision
    assert commit == commit_of(shelf, "v2", "tiny")

    copy = shelf.download("mine:bf16")
    assert copy.state == "verified"
    after = sha256(made)
    assert after != before
    assert copy.revision == lock_of(shelf, "mine:bf16").commit == commit
    assert lock_of(shelf, "mine:bf16").by_path[WEIGHTS].sha256 == after
    shutil.rmtree(made_folder(shelf.item("mine:bf16")))
    shelf.download("mine:bf16")
    assert sha256(made) == after, "it is what is made of v2 from nothing"


def test_a_made_variant_whose_model_was_removed_needs_nothing(
    tiny_shelf: Shelf, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tiny_shelf
    shelf.download("mine:bf16")
    remove(plan_removal(shelf.item(), load_catalog()))
    assert shelf.look().state == "absent"
    before, asked = snapshot(made_folder(shelf.item("mine:bf16"))), shelf.asked()
    assert shelf.download("mine:bf16").state == "verified"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert shelf.download("mine:bf16").state == "verified"
    assert shelf.asked() == asked
    assert shelf.look().state == "absent"
    assert snapshot(made_folder(shelf.item("mine:bf16"))) == before


# --- edits while bytes are counted ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SHARD, CONFIG])
def test_a_file_edited_while_it_is_verified_is_not_verified(
    shelf: Shelf, layout: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.download()
    forget_digests()
    monkeypatch.setattr(verifying, "count", editing(real(shelf, name)))
    result = shelf.verify()
    assert [file.info.path for file in result.bad] == [name]
    assert_honest(shelf.look(), sources(shelf))
    assert states(shelf)[name] != "verified"
    assert Digests().of(real(shelf, name)) is None


@pytest.mark.parametrize("name", [SHARD, CONFIG])
def test_a_file_edited_while_a_download_looks_at_it_is_fetched_again(
    shelf: Shelf, layout: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.download()
    forget_digests()
    had = served(shelf)
    monkeypatch.setattr(storing, "count", editing(real(shelf, name)))
    assert_all_right(shelf.download(), sources(shelf))
    assert served(shelf) - had == Counter({name: 1})
    assert sha256(real(shelf, name)) == sources(shelf)[name]


@pytest.mark.parametrize("sealed", [False, True], ids=["writable", "linked"])
def test_a_file_edited_while_it_is_imported_is_not_taken(
    shelf: Shelf, layout: str, tmp_path: Path, sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "theirs", model_files("one"))
    if sealed:
        (folder / SHARD).chmod(0o444)
    monkeypatch.setattr(storing, "count", editing(folder / SHARD))
    done = take(shelf, folder)
    assert done.lacking == (SHARD,)
    assert SHARD not in done.taken
    assert_honest(done.copy, sources(shelf))
    assert states(shelf)[SHARD] == "absent"
    assert Digests().of(folder / SHARD) is None
    with pytest.raises(FileNotFoundError):
        real(shelf).stat()


def test_a_file_edited_between_its_count_and_its_link_is_not_taken(
    shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "theirs", model_files("one"))
    (folder / SHARD).chmod(0o444)
    share = storing.share

    def late(source: Path, *arguments: Any, **more: Any) -> Any:
        if source == folder / SHARD:
            flip(source)
        return share(source, *arguments, **more)

    monkeypatch.setattr(storing, "share", late)
    assert take(shelf, folder).lacking == (SHARD,)
    assert_honest(shelf.look(), sources(shelf))
    assert states(shelf)[SHARD] == "absent"


# --- folders of the user ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["same sizes", "other sizes", "one file"])
def test_a_folder_filled_by_hand_is_not_written_over(shelf: Shelf, root: Path, tmp_path: Path, wrong: str) -> None:
    files = model_files("one")
    if wrong == "one file":
        files[SHARD] = rand("mine", 50_000)
    else:
        more = 0 if wrong == "same sizes" else 7
        files = {name: rand(f"my {name}", len(data) + more) for name, data in files.items()}
    folder = write(root / "demo" / "one", files)
    theirs = write(tmp_path / "theirs", model_files("one"))
    before = snapshot(root)
    for bring in (shelf.download, lambda: take(shelf, theirs)):
        with pytest.raises(ModelError) as failure:
            bring()
        assert failure.value.code == "foreign-files"
        assert str(folder) in failure.value.message
        assert snapshot(root) == before
    assert shelf.bodies() == []
    assert shelf.look().state != "verified"


def test_a_refused_folder_gets_nothing_that_lies_elsewhere(shelf: Shelf, root: Path) -> None:
    shelf.download("other")  # it has the same text encoder
    files = model_files("one")
    folder = write(root / "demo" / "one", {SHARD: rand("mine", 50_000), CONFIG: files[CONFIG]})
    before = snapshot(folder)
    with pytest.raises(ModelError) as failure:
        shelf.download()
    assert failure.value.code == "foreign-files"
    assert snapshot(folder) == before


def test_right_bytes_filled_in_by_hand_are_the_model_s(shelf: Shelf, root: Path) -> None:
    folder = write(root / "demo" / "one", model_files("one"))
    before = snapshot(folder)
    assert_all_right(shelf.download(), sources(shelf))
    assert shelf.bodies() == []
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before


def test_right_bytes_filled_in_by_hand_count_for_an_import(shelf: Shelf, root: Path, tmp_path: Path) -> None:
    files = model_files("one")
    theirs = write(tmp_path / "theirs", {SHARD: files.pop(SHARD)})
    folder = write(root / "demo" / "one", files)
    before = snapshot(folder)
    done = take(shelf, theirs)
    assert (done.taken, done.lacking) == ((SHARD,), ())
    assert_all_right(done.copy, sources(shelf))
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_who_shares_a_file_stays_verified_when_another_comes(shelf: Shelf, layout: str) -> None:
    shelf.write_manifest(**{"third@1.0": {"title": "Third", "family": "t2v", "repo": "demo/whole"}})
    here: list[str] = []
    for name in ("mine", "other", "third"):
        shelf.download(name)
        here.append(name)
        assert {one: shelf.look(one).state for one in here} == dict.fromkeys(here, "verified")
    assert served(shelf)[TEXT] == 1
    assert len({real(shelf, TEXT, one).stat().st_ino for one in here}) == 1


@pytest.mark.soak
def test_an_import_counts_each_of_many_equal_sized_files_once(
    shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"text_encoder/n{number:03}.json": b'{"n": "%03d"}' % number for number in range(300)}
    many |= {f"text_encoder/n{number:03}.safetensors": b'{"w": "%03d"}' % number for number in range(300)}
    write(shelf.hub.root / "demo" / "one", many)
    theirs = {f"{number}.dat": data for number, data in enumerate(sorted(many.values(), reverse=True))}
    folder = write(tmp_path / "theirs", theirs)
    counted: Counter[str] = Counter()
    lock = threading.Lock()

    def counting(file: Path, *arguments: Any, **more: Any) -> Digest:
        with lock:
            counted[str(file)] += 1
        return count(file, *arguments, **more)

    monkeypatch.setattr(storing, "count", counting)
    bus = Bus()
    heard = Heard(bus)
    done = take(shelf, folder, bus=bus)
    assert set(done.taken) == set(many)
    assert {path for path in counted if path.startswith(str(folder))} == {str(folder / name) for name in theirs}
    assert set(counted.values()) == {1}
    told = [event for event in heard.all() if isinstance(event, Import)]
    assert told
    assert all(event.done <= event.total and event.all_done <= event.all_total for event in told)
    assert told[-1].all_done == told[-1].all_total == sum(map(len, theirs.values()))


# --- a library nobody may write to ------------------------------------------------------------------------------------


@pytest.fixture
def disk(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of their own for the models."""
    where = "MODELS_ROOT" if layout == "plain" else "HF_HUB_CACHE"
    with small_disk(tmp_path / "disk", "16m") as disk:
        monkeypatch.setenv(where, str(disk / "models"))
        yield disk


@pytest.mark.parametrize("how", ["as downloaded", "digests forgotten", "asked for a branch", "by the client"])
def test_a_whole_library_that_is_read_only_is_verified(shelf: Shelf, disk: Path, layout: str, how: str) -> None:
    if how == "by the client":
        shelf.client(**({"local_dir": disk / "models" / "demo" / "one"} if layout == "plain" else {}))
    else:
        shelf.download()
    if how == "digests forgotten":
        forget_digests()
    had, before = served(shelf), snapshot(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    copy = shelf.download(**({"revision": "main"} if how == "asked for a branch" else {}))
    assert_all_right(copy, sources(shelf))
    assert served(shelf) == had
    assert snapshot(disk) == before


# --- on a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_a_yes_to_all_is_followed_by_progress_and_paths(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_one(shelf, monkeypatch, tmp_path)
    terminal = Terminal("download", "--all", columns=250)
    asked = len(terminal.read("[y/N] "))
    assert "[y/N] " in terminal.said
    terminal.type("y\n")
    assert terminal.end() == 0, terminal.said
    said = terminal.said[asked:]
    assert "done     mine@1.0" in said
    assert f"{shelf.look().path}" in said
    assert "fetch " in said
    assert shelf.look().state == shelf.look("other").state == "verified"


def test_one_ctrl_c_at_the_question_ends_it_and_removes_nothing(shelf: Shelf) -> None:
    shelf.download("mine:light")
    before = snapshot(hub_cache())
    terminal = Terminal(
        "remove",
        "mine:light",
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # else ^C is a signal to nobody
    )
    terminal.read("[y/N] ")
    since = time.monotonic()
    terminal.type("\x03")
    assert terminal.end() == 130, terminal.said
    assert time.monotonic() - since < 5
    assert "Traceback" not in terminal.said
    assert snapshot(hub_cache()) == before
    assert shelf.look("mine:light").state == "verified"


# --- threads that stop together ---------------------------------------------------------------------------------------


class Loop:
    """Tasks that work until they are stopped; `beats` goes on while one of them runs."""

    def __init__(self) -> None:
        self.beats = self.started = 0

    def __call__(self, control: Control) -> None:
        self.started += 1
        while True:
            control.wait(0.005)
            self.beats += 1

    def assert_still(self) -> None:
        beats, started = self.beats, self.started
        time.sleep(0.1)
        assert (self.beats, self.started) == (beats, started)


def test_a_listener_that_fails_stops_the_tasks() -> None:
    loop, stopped = Loop(), threading.Event()

    def say() -> None:
        if not stopped.is_set():
            raise OSError("nobody listens")

    with pytest.raises(OSError, match="nobody listens"):
        work([loop] * 5, 2, Control(), say=say, stop=stopped.set)
    assert stopped.is_set()
    loop.assert_still()
    assert loop.started == 2, "tasks that had not begun do not begin"


def test_a_task_that_fails_stops_the_others() -> None:
    loop, stopped = Loop(), threading.Event()

    def fails(control: Control) -> None:
        control.wait(0.05)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        work([loop, fails, loop, loop], 2, Control(), stop=stopped.set)
    assert stopped.is_set()
    loop.assert_still()
    assert loop.started == 1


def test_a_stop_reaches_every_task_with_its_reason() -> None:
    loop, control, reasons = Loop(), Control(), []

    def task(inner: Control) -> None:
        try:
            loop(inner)
        finally:
            reasons.append(inner.reason)

    timer = threading.Timer(0.1, lambda: control.cancel("terminated"))
    timer.start()
    with pytest.raises(Cancelled):
        work([task] * 3, 2, control)
    timer.join()
    assert reasons == ["terminated"] * 2
    loop.assert_still()


# --- many events on a stalled listener --------------------------------------------------------------------------------


def progress(file: int, done: int) -> Download:
    more: dict[str, Any] = dict.fromkeys(("rate", "all_rate", "eta_s"))
    return Download(job="x", id="x", file=str(file), done=done, total=9, all_done=done, all_total=9, **more)


def test_progress_of_many_files_waits_for_a_stalled_listener_at_little_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    files, gate, entered = 4_000, threading.Event(), threading.Event()
    heard: list[Event] = []

    def stalled(event: Event) -> None:
        entered.set()
        gate.wait(30)
        heard.append(event)

    looked = 0
    subject = engine.events._subject

    def counting(event: Any) -> tuple[str, str, str]:
        nonlocal looked
        looked += 1
        return subject(event)

    monkeypatch.setattr(engine.events, "_subject", counting)
    mailbox = Mailbox(stalled)
    mailbox.put(Notice(job="x", code="first", message=""))
    assert entered.wait(10)
    for done in (1, 2):
        for file in range(files):
            mailbox.put(progress(file, done))
    mailbox.put(Notice(job="x", code="between", message=""))
    for done in (3, 4):
        for file in range(files):
            mailbox.put(progress(file, done))
    mailbox.put(Notice(job="x", code="last", message=""))
    assert looked <= 4 * files * 3, "each event is looked for, not at all that wait"
    gate.set()
    mailbox.drain(10)
    assert len(heard) == 2 * files + 3, "a drain ends when all is delivered"
    marks = [index for index, event in enumerate(heard) if isinstance(event, Notice)]
    assert marks == [0, files + 1, 2 * files + 2]
    told = [(event.file, event.done) for event in heard if isinstance(event, LibraryProgress)]
    assert told == [(str(file), done) for done in (2, 4) for file in range(files)]

    mailbox.put(progress(1, 5))  # what was delivered is not replaced
    mailbox.drain(10)
    assert getattr(heard[-1], "done", None) == 5
    since = time.monotonic()
    mailbox.drain(10)
    assert time.monotonic() - since < 1
    assert mailbox.close(10)
