"""What is on disk, and what verify, import and remove do to it: in the Hugging Face cache and in plain folders."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, JobError, ModelError, RunError
from engine.events import Bus, Import, LibraryProgress, Verify
from engine.library import adopt as adopting
from engine.library import verify as verifying
from engine.library.adopt import Adopted, adopt
from engine.library.digest import Digests, count
from engine.library.locate import made_folder
from engine.library.place import OURS
from engine.library.remove import Removal, plan_removal, remove
from engine.library.verify import verify
from engine.paths import hub_cache, models_root
from tests.runs import environment, events, job_file, wan_tui
from tests.shelf import (
    SHARD,
    Heard,
    Shelf,
    flip,
    inodes,
    model_files,
    rand,
    sha256,
    snapshot,
    tick,
    write,
)

pytestmark = pytest.mark.sampled(4)

NEEDED = 11  # files of a repository that a model runs with


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def states(shelf: Shelf, reference: str = "mine") -> dict[str, str]:
    return {file.info.path: file.state for file in shelf.look(reference).files}


def not_verified(shelf: Shelf, reference: str = "mine") -> dict[str, str]:
    return {path: state for path, state in states(shelf, reference).items() if state != "verified"}


def real(shelf: Shelf, name: str = SHARD, reference: str = "mine") -> Path:
    """Where a file's bytes lie."""
    return Path(os.path.realpath(shelf.file(name, reference).path))


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_model_that_is_nowhere_is_absent(shelf: Shelf, layout: str) -> None:
    copy = shelf.look()
    assert (copy.state, copy.path, copy.present_bytes, copy.files) == ("absent", None, 0, ())
    assert shelf.look("mine:fp8").state == shelf.look("mine:whole").state == "absent"


def test_a_downloaded_model_is_verified_and_says_what_it_has(shelf: Shelf, layout: str) -> None:
    copy = shelf.download()
    assert copy.state == "verified"
    assert len(copy.files) == NEEDED
    assert copy.bytes == copy.present_bytes == sum(file.info.size for file in copy.files)
    assert copy.revision == shelf.hub.resolve("demo/one", "main")[0]  # type: ignore[index]
    assert copy.path
    assert (copy.path / "model_index.json").is_file()
    assert not {"README.md", "old.bin", "assets/picture.png"} & states(shelf).keys()


def test_states_of_single_files_and_of_the_whole(shelf: Shelf, layout: str) -> None:
    shelf.download()
    name, spoilt = "vae/diffusion_pytorch_model.safetensors", real(shelf, "vae/diffusion_pytorch_model.safetensors")
    whole = spoilt.read_bytes()

    spoilt.write_bytes(whole[:100])
    assert not_verified(shelf) == {name: "corrupt"}
    spoilt.write_bytes(b"")
    assert not_verified(shelf) == {name: "corrupt"}
    spoilt.write_bytes(whole + b"more")
    assert not_verified(shelf) == {name: "corrupt"}
    assert shelf.look().state == "corrupt"

    tick()
    spoilt.write_bytes(whole)  # the right bytes, but nobody has counted them
    assert not_verified(shelf) == {name: "complete"}
    assert shelf.look().state == "complete"

    spoilt.unlink()
    assert not_verified(shelf) == {name: "absent"}
    copy = shelf.look()
    assert copy.state == "partial"
    assert copy.bytes is not None
    assert copy.present_bytes == copy.bytes - len(whole)


def test_a_touched_file_is_complete_and_no_longer_verified(shelf: Shelf, layout: str) -> None:
    shelf.download()
    written = real(shelf).stat().st_mtime_ns
    tick()
    os.utime(real(shelf))
    assert not_verified(shelf) == {SHARD: "complete"}
    os.utime(real(shelf), ns=(1, written))  # a tool that puts the time back does not go unseen
    assert not_verified(shelf) == {SHARD: "complete"}


@pytest.mark.parametrize("kind", ["folder", "fifo"])
@pytest.mark.parametrize("size", [0, 4096])
def test_what_is_no_file_is_corrupt_whatever_size_it_has(shelf: Shelf, layout: str, kind: str, size: int) -> None:
    place = shelf.hub.root / "demo" / "one" / "vae" / "odd.safetensors"
    place.write_bytes(rand("odd", size))
    shelf.download()
    spoilt = real(shelf, "vae/odd.safetensors")
    spoilt.unlink()
    spoilt.mkdir() if kind == "folder" else os.mkfifo(spoilt)
    assert not_verified(shelf) == {"vae/odd.safetensors": "corrupt"}
    assert shelf.verify().state == "corrupt"  # and a FIFO is not waited for


def test_a_part_makes_a_model_partial(shelf: Shelf, layout: str) -> None:
    shelf.break_off("*-00001-of-*", 20_000)
    with pytest.raises(RunError) as failure:
        shelf.download()
    assert failure.value.code == "unreachable"
    file = shelf.file(SHARD)
    assert file.state == "partial"
    assert file.present_bytes == 20_000
    assert shelf.look().state == "partial"
    assert shelf.look().path is not None


def test_a_link_that_leads_nowhere_and_a_blob_that_no_link_leads_to(shelf: Shelf) -> None:
    shelf.download()
    file = shelf.file(SHARD)
    file.path.unlink()
    assert not_verified(shelf) == {SHARD: "partial"}
    assert shelf.file(SHARD).present_bytes == 50_000  # its bytes are here
    (file.path.parent / file.path.name).symlink_to("../nowhere")
    assert not_verified(shelf) == {SHARD: "partial"}
    file.place.store(file.info).unlink()  # type: ignore[union-attr]
    assert not_verified(shelf) == {SHARD: "absent"}


@pytest.mark.parametrize("tree", ["with its list", "without a list"])
def test_the_cache_of_the_hugging_face_client(shelf: Shelf, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.client(ignore_patterns=["*.md", "*.bin", "assets/*"])
    repo = hub_cache() / "models--demo--one"
    assert list((repo / "trees").iterdir()), "the client keeps a list"
    if tree == "without a list":
        shutil.rmtree(repo / "trees")
    offline(monkeypatch)
    copy = shelf.look()
    assert copy.state == "complete"
    assert copy.bytes == copy.present_bytes > 150_000
    assert copy.revision
    assert shelf.verify().state == "verified"
    assert not not_verified(shelf)

    config = real(shelf, "transformer/config.json")  # no LFS file: known by its git id alone
    flip(config)
    assert not_verified(shelf) == {"transformer/config.json": "complete"}
    (bad,) = shelf.verify().bad
    assert (bad.info.path, bad.state) == ("transformer/config.json", "corrupt")
    assert bad.actual
    assert bad.info.git != bad.actual.git

    link = shelf.file(SHARD).path
    Path(os.path.realpath(link)).unlink()  # dangling
    assert shelf.look().state == "corrupt"
    assert states(shelf)[SHARD] == "absent"
    assert {file.info.path for file in shelf.verify().bad} == {"transformer/config.json", SHARD}


def test_a_dangling_link_is_seen_without_a_list_too(shelf: Shelf) -> None:
    shelf.client()
    repo = hub_cache() / "models--demo--one"
    shutil.rmtree(repo / "trees")
    (repo / "snapshots").rename(repo / "away")
    (repo / "away").rename(repo / "snapshots")
    Path(os.path.realpath(shelf.file("scheduler/scheduler_config.json").path)).unlink()
    copy = shelf.look()
    assert copy.state == "partial"
    assert copy.bytes is None
    assert [file.info.path for file in shelf.verify().bad] == ["scheduler/scheduler_config.json"]


def test_a_truncated_blob_of_the_client_is_corrupt(shelf: Shelf) -> None:
    shelf.client()
    os.truncate(real(shelf), 1000)
    assert states(shelf)[SHARD] == "corrupt"
    shutil.rmtree(hub_cache() / "models--demo--one" / "trees")  # by names alone its size cannot be told, its digest can
    assert shelf.look().state == "complete"
    assert [file.info.path for file in shelf.verify().bad] == [SHARD]


def test_a_plain_folder_made_by_the_client(shelf: Shelf, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.client(local_dir=root / "demo" / "one")
    offline(monkeypatch)
    copy = shelf.look()
    assert (copy.state, copy.path, len(copy.files)) == ("complete", root / "demo" / "one", NEEDED)
    assert shelf.verify().state == "verified"
    flip(root / "demo" / "one" / "vae" / "config.json")
    assert [file.info.path for file in shelf.verify().bad] == ["vae/config.json"]


def test_a_plain_folder_with_lists_of_two_revisions_goes_by_the_newer(shelf: Shelf, root: Path) -> None:
    folder = root / "demo" / "one"
    shelf.client(local_dir=folder)
    (shelf.hub.root / "demo" / "one" / "vae" / "config.json").write_bytes(b'{"z_dim": 48, "new": true}')
    tick()
    shelf.client(local_dir=folder)
    assert len(list((folder / ".cache" / "huggingface" / "trees").iterdir())) == 2
    assert shelf.look().state == "complete"
    assert shelf.verify().state == "verified"


def test_a_plain_folder_without_any_list(shelf: Shelf, root: Path) -> None:
    folder = write(root / "demo" / "one", model_files("one"))
    assert shelf.look().state == "complete"
    with pytest.raises(ModelError) as failure:
        shelf.verify()
    assert failure.value.code == "nothing-to-compare"
    (folder / SHARD).unlink()
    copy = shelf.look()
    assert (copy.state, copy.bytes) == ("partial", None)


def test_of_two_whole_revisions_the_branch_is_read_not_the_larger(shelf: Shelf) -> None:
    shelf.client()
    (shelf.hub.root / "demo" / "one" / "vae" / "config.json").write_bytes(b"{}")  # smaller
    shelf.client()
    assert shelf.look().revision == shelf.hub.resolve("demo/one", "main")[0]  # type: ignore[index]


def test_of_two_whole_revisions_the_one_last_asked_for_is_read(shelf: Shelf) -> None:
    old = shelf.download().revision
    config = shelf.hub.root / "demo" / "one" / "vae" / "config.json"
    config.write_bytes(b"{}")
    new = shelf.download(revision="main").revision
    assert new and new != old
    assert shelf.download(revision=new).revision == new
    shutil.copytree(shelf.hub.root / "demo" / "one", shelf.hub.root / "demo" / "one@old")
    (shelf.hub.root / "demo" / "one@old" / "vae" / "config.json").write_bytes(b'{"z_dim": 16}')
    assert shelf.download(revision=old).revision == old
    assert shelf.look().revision == old


def test_what_a_kill_left_of_a_lock_file_goes_with_the_next_download(shelf: Shelf, layout: str) -> None:
    place = shelf.download().files[0].place
    assert place is not None
    left = [place.lock.with_name(f".{place.lock.name}.0123abcd.part")]
    left += [place.root / "refs" / ".main.0123abcd.part"] if place.cached else []
    for part in left:
        part.write_bytes(b"{")
    shelf.download()
    assert not any(part.exists() for part in left)


def test_looking_loads_nothing_heavy_and_opens_lists_alone(shelf: Shelf, layout: str) -> None:
    shelf.download()
    shelf.download("mine:fp8")
    code = """
import sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(str(args[0]))
from engine.catalog import load_catalog
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import look
items = [Item(spec, variant) for spec in load_catalog().models for variant in (None, *spec.variants)]
sys.addaudithook(hook)
digests = Digests()
for item in items:
    print(item.id, look(item, digests).state)
heavy = {"torch", "diffusers", "transformers", "huggingface_hub", "httpx2", "hf_xet"} & set(sys.modules)
assert not heavy, heavy
print(*(name for name in opened if "demo" in name and "/.wan-tui/" not in name and "/refs/" not in name))
"""
    env = {**environment(), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "mine@1.0 verified" in lines
    assert "mine@1.0:fp8 verified" in lines
    assert "mine@1.0:q4 absent" in lines
    assert lines[-1] == ""


@pytest.mark.soak
def test_how_long_the_list_of_a_thousand_files_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    import tomli_w

    from engine.library.digest import Digest
    from engine.library.listing import File, Listing

    models, digests = {}, Digests()
    for number in range(40):
        repo, commit = f"big/repo{number}", f"{number:040x}"
        home = hub_cache() / f"models--big--repo{number}"
        files = []
        for name in ("model_index.json", *(f"transformer/{part}.safetensors" for part in range(24))):
            data = f"{number} {name}".encode()
            etag = hashlib.sha256(data).hexdigest()
            write(home, {f"blobs/{etag}": data})
            link = home / "snapshots" / commit / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(home / "blobs" / etag, link.parent))
            digests.learn(link, Digest(etag), link.stat())
            files.append(File(name, len(data), etag))
        Listing(repo, commit, tuple(files)).save(home / OURS / f"{commit}.json")
        models[f"big{number}@1"] = {"title": "Big", "family": "t2v", "repo": repo, "revision": commit}
    digests.save()
    manifest = tmp_path / "manifest.toml"
    manifest.write_text(tomli_w.dumps({"models": models}))
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
    since = time.monotonic()
    done = wan_tui("models", "list", "--installed", "--json")
    took = time.monotonic() - since
    assert [row["state"] for row in json.loads(done.stdout)] == ["verified"] * 40
    print(f"1000 files of 40 models: {took:.2f} s with the start of the program")


HOSTILE: dict[str, Any] = {
    "leaves its folder": lambda lock: lock["files"][0].update(path="../../../../victim"),
    "absolute": lambda lock: lock["files"][0].update(path="/etc/passwd"),
    "another repository's": lambda lock: lock.update(repo="demo/two", files=lock["files"][:1]),
    "no repository": lambda lock: lock.update(repo=["demo/one"]),
    "no commit": lambda lock: lock.update(commit="../../x"),
    "a revision that leaves": lambda lock: lock.update(asked="../" * 5 + "victim"),
    "no size": lambda lock: lock["files"][0].update(size="many"),
    "below nothing": lambda lock: lock["files"][0].update(size=-1),
    "no digest": lambda lock: lock["files"][0].update(sha256="../../victim", git=None),
    "escape codes": lambda lock: lock["files"][0].update(path="\x1b[2Jx"),
    "rows that are none": lambda lock: lock.update(files=[1, 2]),
    "no list": lambda lock: lock.update(files=None),
}


@pytest.mark.parametrize("how", [*HOSTILE, "truncated", "no text", "nested", "folder"])
@pytest.mark.sampled(4)
def test_a_bad_lock_file_is_ignored(shelf: Shelf, layout: str, tmp_path: Path, how: str) -> None:
    shelf.download()
    (tmp_path / "victim").write_bytes(b"mine")
    lock = shelf.file(SHARD).place.lock  # type: ignore[union-attr]
    table = json.loads(lock.read_bytes())
    if how in HOSTILE:
        HOSTILE[how](table)
        lock.write_text(json.dumps(table))
    elif how == "folder":
        lock.unlink()
        lock.mkdir()
    else:
        bad = {"truncated": lock.read_bytes()[:500], "no text": b"\xff\xfe", "nested": b"[" * 100_000}
        lock.write_bytes(bad[how])
    copy = shelf.look()
    assert copy.state in ("complete", "verified")  # by its structure, and in the cache by its links
    assert copy.path
    assert copy.path.is_relative_to(tmp_path)
    if how == "folder":
        lock.rmdir()
    assert shelf.download().state == "verified"
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "models") == [
        *("home", "hub", "manifest.toml", "victim"),
    ]
    remove(plan_removal(shelf.item(), load_catalog()))
    assert (tmp_path / "victim").read_bytes() == b"mine"


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_names_each_bad_file_with_both_digests(shelf: Shelf, layout: str) -> None:
    shelf.download()
    flip(real(shelf))
    flip(real(shelf, "vae/config.json"))
    shelf.file("text_encoder/config.json").path.unlink()
    os.truncate(real(shelf, "vae/diffusion_pytorch_model.safetensors"), 10)
    result = shelf.verify()
    bad = {file.info.path: file for file in result.bad}
    assert result.state == "corrupt"
    assert {path: file.state for path, file in bad.items()} == {
        SHARD: "corrupt",
        "vae/config.json": "corrupt",
        "vae/diffusion_pytorch_model.safetensors": "corrupt",
        "text_encoder/config.json": "partial" if layout == "cache" else "absent",
    }
    assert bad[SHARD].info.sha256 == sha256(shelf.hub.root / "demo/one" / SHARD)
    assert bad[SHARD].actual
    assert bad[SHARD].actual.sha256 == sha256(real(shelf))
    assert len(result.files) == NEEDED


def test_quick_sees_size_and_time_and_reads_nothing(shelf: Shelf, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.download()
    monkeypatch.setattr(verifying, "count", None)  # calling it would fail
    assert shelf.verify(quick=True).state == "verified"
    flip(real(shelf))
    result = shelf.verify(quick=True)
    assert result.state == "complete"
    assert [file.info.path for file in result.files if file.state != "verified"] == [SHARD]
    os.truncate(real(shelf, "vae/config.json"), 3)
    assert [file.info.path for file in shelf.verify(quick=True).bad] == ["vae/config.json"]


def test_a_known_bad_file_stays_bad_for_quick(shelf: Shelf, layout: str) -> None:
    shelf.download()
    flip(real(shelf))
    assert shelf.verify().state == shelf.verify(quick=True).state == shelf.look().state == "corrupt"


def test_verify_tells_how_far_it_is(shelf: Shelf, layout: str) -> None:
    shelf.download()
    bus = Bus()
    heard = Heard(bus)
    verify(shelf.item(), bus, Control())
    told = [event for event in heard.all() if isinstance(event, Verify)]
    assert {event.file for event in told} == set(states(shelf))
    last = told[-1]
    assert last.id == "mine@1.0"
    assert last.all_done == last.all_total == shelf.look().bytes


def test_verify_stops_when_asked_and_keeps_what_it_knows(
    shelf: Shelf, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.client() if layout == "cache" else shelf.client(local_dir=models_root() / "demo" / "one")  # type: ignore[operator]
    control, seen = Control(), []

    def counting(file: Path, inner: Control, **more: Any) -> Any:
        if len(seen) == 3:
            control.cancel()
            inner.wait(5)
        seen.append(file)
        return count(file, inner, **more)

    monkeypatch.setattr(verifying, "count", counting)
    monkeypatch.setattr(verifying, "cores", lambda: 1)
    with pytest.raises(Cancelled):
        verify(shelf.item(), Bus(), control)
    assert sorted(states(shelf).values()) == ["complete"] * (NEEDED - 3) + ["verified"] * 3


def test_a_file_that_cannot_be_read_is_corrupt(shelf: Shelf, layout: str) -> None:
    (shelf.hub.root / "demo" / "one" / "vae" / "empty.safetensors").write_bytes(b"")
    shelf.download()
    spoilt = real(shelf, "vae/empty.safetensors")
    spoilt.unlink()
    spoilt.symlink_to("/proc/self/mem")  # a regular file of 0 bytes whose first read fails
    result = shelf.verify()
    assert [file.info.path for file in result.bad] == ["vae/empty.safetensors"]
    assert result.state == "corrupt"
    tick()
    assert shelf.download().state == "verified"


REPAIRS: dict[str, Any] = {
    "flipped byte": flip,
    "right-sized wrong file": lambda path: (tick(), path.write_bytes(rand("wrong", path.stat().st_size))),
    "truncated": lambda path: os.truncate(path, 1000),
    "missing": lambda path: path.unlink(),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "fifo": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("/nowhere")),
}


@pytest.mark.parametrize(
    ("how", "name"), [*((how, SHARD) for how in REPAIRS), ("flipped byte", "transformer/config.json")]
)
@pytest.mark.sampled(3)
def test_repair_fetches_the_bad_file_alone(shelf: Shelf, layout: str, how: str, name: str) -> None:
    shelf.download()
    others = snapshot(real(shelf).parent)
    spoilt = real(shelf, name)
    REPAIRS[how](spoilt)
    before = len(shelf.bodies())
    assert [file.info.path for file in shelf.verify().bad] == [name]
    shelf.download()  # what --repair does
    assert shelf.bodies()[before:] == [name]
    assert not not_verified(shelf)
    assert shelf.verify().state == "verified"
    after = snapshot(real(shelf).parent)
    assert {path for path in others if others[path] != after[path]} == ({str(spoilt)} & others.keys())


@pytest.mark.parametrize("how", ["missing", "leads nowhere", "leads to another blob", "is a file of its own"])
def test_repair_of_a_link_fetches_nothing(shelf: Shelf, how: str) -> None:
    shelf.download()
    link = shelf.file(SHARD).path
    other = os.readlink(shelf.file("vae/diffusion_pytorch_model.safetensors").path)
    link.unlink()
    match how:
        case "leads nowhere":
            link.symlink_to("../../../blobs/nothing")
        case "leads to another blob":
            link.symlink_to(other)
        case "is a file of its own":
            link.write_bytes(b"mine")
    before = len(shelf.bodies())
    assert [file.info.path for file in shelf.verify().bad] == [SHARD]
    assert shelf.download().state == "verified"
    assert shelf.bodies()[before:] == []


def test_repair_of_the_client_s_cache(shelf: Shelf) -> None:
    shelf.client()
    flip(real(shelf, "vae/config.json"))
    flip(real(shelf))
    before = len(shelf.bodies())
    assert len(shelf.verify().bad) == 2
    assert shelf.download().state == "verified"
    assert sorted(shelf.bodies()[before:]) == [SHARD, "vae/config.json"]


def test_verify_of_a_variant_covers_what_it_borrows(shelf: Shelf, layout: str) -> None:
    shelf.download("mine:fp8")
    flip(real(shelf, "vae/config.json", "mine:fp8"))
    result = shelf.verify("mine:fp8")
    assert shelf.look("mine:fp8").bytes == sum(file.info.size for file in result.files)
    assert (result.id, result.state) == ("mine@1.0:fp8", "corrupt")
    assert [file.info.path for file in result.bad] == ["vae/config.json"]


# --- import -----------------------------------------------------------------------------------------------------------


def take(shelf: Shelf, folder: Path, reference: str = "mine", control: Control | None = None, **more: Any) -> Adopted:
    return adopt(shelf.item(reference), folder, Bus(), control or Control(), **more)


def scattered(folder: Path) -> Path:
    """The files of demo/one under other names in other places."""
    for number, data in enumerate(model_files("one").values()):
        write(folder, {f"deep/{number % 3}/x{number}": data})
    return folder


def test_files_are_taken_by_their_bytes_whatever_they_are_called(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    folder = scattered(tmp_path / "theirs")
    before = snapshot(folder)
    done = take(shelf, folder)
    assert len(done.taken) == NEEDED
    assert (done.lacking, done.copy.state) == ((), "verified")
    assert done.taken_bytes == done.copy.bytes
    assert snapshot(folder) == before
    assert shelf.bodies() == []
    assert shelf.verify().state == "verified"


def test_what_is_writable_is_never_linked(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs", model_files("one"))
    take(shelf, folder)
    assert not os.path.samefile(real(shelf), folder / SHARD)
    tick()
    (folder / SHARD).write_bytes(b"edited")
    assert shelf.verify().state == "verified"


@pytest.fixture
def no_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot clone files."""
    monkeypatch.setattr("engine.library.share._clone", lambda source, part: False)


@pytest.mark.usefixtures("no_clones")
def test_what_nobody_can_write_is_linked(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs", model_files("one"))
    (folder / SHARD).chmod(0o444)
    take(shelf, folder)
    assert os.path.samefile(real(shelf), folder / SHARD)
    assert not_verified(shelf) == {}
    assert (folder / SHARD).stat().st_mode & 0o777 == 0o444


@pytest.mark.usefixtures("no_clones")
def test_another_cache_is_shared(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    other = tmp_path / "other-cache"
    snapshot_download("demo/one", endpoint=shelf.hub.url, cache_dir=other)
    before, held, bodies = snapshot(other), inodes(tmp_path), len(shelf.bodies())
    done = take(shelf, other)
    assert done.copy.state == "verified"
    assert snapshot(other) == before
    assert shelf.bodies()[bodies:] == []
    blob = next(path for path in (other / "models--demo--one" / "blobs").iterdir() if path.name == sha256(real(shelf)))
    assert os.path.samefile(blob, real(shelf))
    new = {key: size for key, size in inodes(tmp_path).items() if key not in held}
    assert max(new.values()) < 20_000, "no weights were stored twice"


def test_a_linked_import_needs_no_room(shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("engine.library.room.free_bytes", lambda place: 30_000)
    folder = write(tmp_path / "theirs", model_files("one"))
    with pytest.raises(RunError) as failure:
        take(shelf, folder)
    assert failure.value.code == "disk-full"
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    assert take(shelf, folder).copy.state == "verified"


def test_links_loops_fifos_and_files_that_cannot_be_read_do_no_harm(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    (shelf.hub.root / "demo" / "one" / "vae" / "empty.safetensors").write_bytes(b"")
    folder = write(tmp_path / "theirs", {"a/b": b"unrelated"})
    target = write(tmp_path / "far", {"weights": model_files("one")[SHARD]}) / "weights"
    (folder / "link").symlink_to(target)
    (folder / "twice").symlink_to(folder / "link")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to("self")
    (folder / "nowhere").symlink_to("/nowhere")
    os.mkfifo(folder / "fifo")
    (folder / "memory").symlink_to("/proc/self/mem")
    done = take(shelf, folder)
    assert done.taken == (SHARD,)
    assert len(done.lacking) == NEEDED
    assert done.copy.state == "partial"
    assert target.read_bytes() == model_files("one")[SHARD]
    assert not real(shelf).is_symlink()


def test_a_wrong_file_of_the_right_size_is_not_taken(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    files = model_files("one")
    folder = write(tmp_path / "theirs", {**files, SHARD: rand("wrong", len(files[SHARD]))})
    done = take(shelf, folder)
    assert done.lacking == (SHARD,)
    assert states(shelf)[SHARD] == "absent"


def test_only_what_is_lacking_is_taken(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    shelf.download()
    flip(real(shelf))
    real(shelf, "vae/config.json").unlink()
    done = take(shelf, scattered(tmp_path / "theirs"))
    assert sorted(done.taken) == [SHARD, "vae/config.json"]
    assert done.copy.state == "verified"
    assert take(shelf, tmp_path / "theirs").taken == ()


def test_files_of_a_variant_are_taken(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "theirs", {"mine.safetensors": rand("lora.safetensors", 6_000)})
    done = take(shelf, folder, "mine:light")
    assert (done.taken, done.copy.state) == (("lora.safetensors",), "verified")
    assert shelf.look().state == "absent"


def test_an_import_without_a_list_says_what_is_missing(
    shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="is not a folder"):
        take(shelf, tmp_path / "nowhere")
    offline(monkeypatch)
    with pytest.raises(ModelError) as failure:
        take(shelf, scattered(tmp_path / "theirs"))
    assert failure.value.code == "offline"


@pytest.mark.parametrize("inside", [".", "hub"])
def test_offline_the_list_of_the_cache_that_is_imported_counts(
    shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download("demo/one", endpoint=shelf.hub.url, cache_dir=tmp_path / "disk" / inside)
    offline(monkeypatch)
    done = take(shelf, tmp_path / "disk")
    assert (done.copy.state, done.lacking) == ("verified", ())
    with monkeypatch.context() as online:
        online.delenv("HF_HUB_OFFLINE")
        online.setenv("HF_ENDPOINT", shelf.hub.url)
        for count in (1, 0):  # the Hub is asked once it can be, and then no more
            shelf.hub.log.clear()
            assert shelf.download().state == "verified"
            assert shelf.asked() == count
    shelf.write_manifest(**{"mine@1.0": {"title": "M", "family": "t2v", "repo": "demo/two", "revision": "f" * 40}})
    with pytest.raises(ModelError) as failure:  # no list of that repository, nor of that commit
        take(shelf, tmp_path / "disk")
    assert failure.value.code == "offline"


def test_an_import_tells_how_far_it_is(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    bus = Bus()
    heard = Heard(bus)
    adopt(shelf.item(), scattered(tmp_path / "theirs"), bus, Control())
    told = [event for event in heard.all() if isinstance(event, Import)]
    assert isinstance(told[-1], LibraryProgress)
    assert told[-1].all_done == told[-1].all_total > 150_000


def test_a_cancelled_import_leaves_nothing_half(
    shelf: Shelf, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, calls = Control(), []
    put = adopting.put

    def putting(source: Path, *more: Any) -> bool:
        if len(calls) == 2:
            control.cancel()
            more[-1].wait(5)  # the task's own switch is set
        calls.append(source)
        return put(source, *more)

    monkeypatch.setattr(adopting, "put", putting)
    monkeypatch.setattr(adopting, "cores", lambda: 1)
    folder = scattered(tmp_path / "theirs")
    before = snapshot(folder)
    with pytest.raises(Cancelled):
        take(shelf, folder, control=control)
    assert snapshot(folder) == before
    assert sorted(states(shelf).values()) == ["absent"] * (NEEDED - 2) + ["verified"] * 2
    where = models_root() or hub_cache()
    assert not [path for path in where.rglob("*") if path.name.endswith(".part")]
    monkeypatch.undo()


def test_a_full_disk_leaves_nothing_half(shelf: Shelf, layout: str, tmp_path: Path) -> None:
    folder = scattered(tmp_path / "theirs")
    code = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # a write beyond that fails as on a full disk
from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import RunError
from engine.events import Bus
from engine.library.adopt import adopt
from engine.library.item import Item
try:
    adopt(Item(*load_catalog().find("mine")), Path({str(folder)!r}), Bus(), Control())
except RunError as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "disk-full\n", done.stderr
    assert set(states(shelf).values()) <= {"absent", "verified", "complete"}
    assert states(shelf)[SHARD] == "absent"
    where = models_root() or hub_cache()
    assert not [path for path in where.rglob("*") if path.name.endswith(".part")]
    assert take(shelf, folder).copy.state == "verified"


# --- remove -----------------------------------------------------------------------------------------------------------


def empty(tops: list[Path]) -> set[Path]:
    return {Path(folder) for top in tops for folder, names, files in os.walk(top) if not names and not files}


def take_away(shelf: Shelf, reference: str = "mine") -> Removal:
    """Remove, and hold what was shown against what happened."""
    tops = [top for top in (models_root(), hub_cache(), hub_cache().parent / "wan-tui") if top]
    plan = plan_removal(shelf.item(reference), load_catalog())
    before, had = inodes(*tops), empty(tops)
    remove(plan)
    after = inodes(*tops)
    assert sum(size for key, size in before.items() if key not in after) == plan.freed_bytes
    assert empty(tops) - had <= {*tops, hub_cache() / ".locks"}
    return plan


def test_a_removed_model_is_gone_and_what_it_freed_was_shown(shelf: Shelf, layout: str) -> None:
    shelf.download()
    shelf.download("other")
    plan = take_away(shelf)
    assert plan.freed_bytes + plan.shared_bytes > 150_000
    assert plan.kept == plan.needed_by == ()
    assert shelf.look().state == "absent"
    assert shelf.look("other").state == "verified"
    assert not_verified(shelf, "other") == {}
    top = models_root() or hub_cache()
    assert not [path for path in top.rglob("*") if "one" in path.name]
    take_away(shelf, "other")
    assert top.is_dir()
    assert [path for path in top.rglob("*") if path.name != ".locks"] == []


def test_bytes_that_others_have_too_stay(shelf: Shelf, layout: str) -> None:
    shelf.download()
    shelf.download("other")  # its text encoder is the same
    text = "text_encoder/model.safetensors"
    linked = os.path.samefile(shelf.file(text).path, shelf.file(text, "other").path)
    plan = take_away(shelf)
    assert plan.shared_bytes == (30_000 if linked else 0)
    assert shelf.verify("other").state == "verified"


def test_all_revisions_of_a_repository_go(shelf: Shelf) -> None:
    shelf.client()
    (shelf.hub.root / "demo" / "one" / "vae" / "config.json").write_bytes(b'{"z_dim": 48}')
    tick()
    shelf.client()
    assert len(list((hub_cache() / "models--demo--one" / "snapshots").iterdir())) == 2
    plan = take_away(shelf)
    assert plan.folders == (hub_cache() / "models--demo--one",)
    assert not plan.folders[0].exists()
    assert not (hub_cache() / ".locks" / "models--demo--one").exists()


def test_of_a_repository_that_variants_share_only_one_s_own_files_go(shelf: Shelf, layout: str) -> None:
    for reference in ("mine:fp8", "mine:q4", "mine:light"):
        shelf.download(reference)
    plan = take_away(shelf, "mine:fp8")
    assert plan.freed_bytes == 17_000
    assert shelf.look("mine:fp8").state in ("absent", "partial")
    for reference in ("mine:q4", "mine:light"):
        assert shelf.verify(reference).state == "verified"
    assert states(shelf)["vae/config.json"] == "verified", "what it borrowed stays"
    take_away(shelf, "mine:q4")
    take_away(shelf, "mine:light")
    top = models_root() or hub_cache()
    assert not [path for path in top.rglob("*") if "single" in path.name]


def test_bytes_that_two_variants_have_in_common_stay(shelf: Shelf, layout: str) -> None:
    twins = write(shelf.hub.root / "demo" / "twins", {"a.gguf": rand("twin", 5_000), "b.gguf": rand("twin", 5_000)})
    model = {"title": "Mine", "family": "t2v", "repo": "demo/one"}
    variants = [{"name": name[0], "kind": "lora", "repo": "demo/twins", "files": [name]} for name in os.listdir(twins)]
    shelf.write_manifest(**{"mine@1.0": {**model, "variants": variants}})
    shelf.download("mine:a")
    shelf.download("mine:b")
    take_away(shelf, "mine:a")
    assert shelf.verify("mine:b").state == "verified"
    assert take_away(shelf, "mine:b").freed_bytes >= 5_000


def test_models_lie_behind_a_link_as_a_whole(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in (("cache", "HF_HUB_CACHE"), ("plain", "MODELS_ROOT")):
        (tmp_path / "disk" / name).mkdir(parents=True)
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
        monkeypatch.setenv(variable, str(tmp_path / name))
        shelf.download("mine:light")
        take_away(shelf, "mine:light")
        assert shelf.look("mine:light").state == "absent"


def test_the_part_of_another_variant_stays(shelf: Shelf, layout: str) -> None:
    shelf.download("mine:light")
    shelf.break_off("*/q4.gguf", 3_000)
    with pytest.raises(RunError):
        shelf.download("mine:q4")
    assert shelf.file("q4.gguf", "mine:q4").present_bytes == 3_000
    take_away(shelf, "mine:light")
    assert shelf.file("q4.gguf", "mine:q4").present_bytes == 3_000
    take_away(shelf, "mine:q4")
    top = models_root() or hub_cache()
    assert not [path for path in top.rglob("*") if "single" in path.name]


def test_who_needs_it_too_is_named(shelf: Shelf, layout: str) -> None:
    shelf.download("mine:fp8")
    shelf.download()
    assert take_away(shelf).needed_by == ("mine@1.0:fp8",)


def test_parts_go_with_the_model(shelf: Shelf, layout: str) -> None:
    shelf.break_off("*-00001-of-*", 20_000)
    with pytest.raises(RunError):
        shelf.download()
    take_away(shelf)
    assert shelf.look().state == "absent"
    assert not [path for path in (models_root() or hub_cache()).rglob("*") if "one" in path.name]


@pytest.mark.parametrize("made_by", ["us", "the client", "hand"])
def test_files_of_the_user_stay_in_a_plain_folder(shelf: Shelf, root: Path, made_by: str) -> None:
    folder = root / "demo" / "one"
    match made_by:
        case "us":
            shelf.download()
        case "the client":
            shelf.client(local_dir=folder)
        case "hand":
            write(folder, {name: data for name, data in model_files("one").items() if "/" in name or "index" in name})
            shutil.rmtree(folder / "assets")
    mine = write(folder, {"my notes.txt": b"mine", "videos/clip.mp4": b"mine too"})
    plan = take_away(shelf)
    assert set(plan.kept) == {mine / "my notes.txt", mine / "videos" / "clip.mp4"}
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == ["my notes.txt", "videos/clip.mp4"]
    assert shelf.look().state == "absent" or made_by == "hand"


def test_a_folder_named_in_the_manifest_is_not_removed(shelf: Shelf, tmp_path: Path) -> None:
    folder = write(tmp_path / "own", model_files("one"))
    shelf.write_manifest(**{"own@1": {"title": "Own", "family": "t2v", "path": str(folder)}})
    with pytest.raises(ModelError) as failure:
        plan_removal(shelf.item("own"), load_catalog())
    assert failure.value.code == "not-ours"


def test_a_download_under_way_is_not_removed(shelf: Shelf, layout: str) -> None:
    shelf.hub.rate = 100_000
    control = Control()
    from engine.library.download import download

    def running() -> None:
        with pytest.raises(Cancelled):
            download(shelf.item(), Bus(), control)

    thread = threading.Thread(target=running)
    thread.start()
    try:
        until = time.monotonic() + 10
        while not any(file.state == "partial" for file in shelf.look().files) and time.monotonic() < until:
            time.sleep(0.01)
        with pytest.raises(RunError) as failure:
            plan_removal(shelf.item(), load_catalog())
        assert failure.value.code == "busy"
    finally:
        control.cancel()
        thread.join()
    take_away(shelf)


@pytest.mark.parametrize("lock", ["of the client", "of a variant being made"])
def test_what_somebody_works_on_is_not_removed(shelf: Shelf, lock: str) -> None:
    shelf.download()
    reference = "mine"
    file = hub_cache() / ".locks" / "models--demo--one" / f"{shelf.file(SHARD).info.etag}.lock"
    if lock == "of a variant being made":
        reference = "mine:made"
        shelf.write_manifest(
            **{
                "mine@1.0": {
                    "title": "Mine",
                    "family": "t2v",
                    "repo": "demo/one",
                    "variants": [{"name": "made", "kind": "bf16"}],
                }
            }
        )
        file = made_folder(shelf.item(reference)) / OURS / "making"
    write(file.parent, {file.name: b""})
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunError) as failure:
            plan_removal(shelf.item(reference), load_catalog())
        assert failure.value.code == "busy"
    plan_removal(shelf.item(reference), load_catalog())


def publish(shelf: Shelf, repo: str, name: str) -> Path:
    """Put a blob into the store that repositories of a cache share, the way the client does it after an Xet download;
    the name of a Xet file is a hash of its own."""
    from huggingface_hub.utils import _shared_blobs as store

    link = next((hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots").glob(f"*/{name}"))
    blob = Path(os.path.abspath(link.parent / os.readlink(link)))
    key = "ab" + sha256(blob)[2:]
    size = blob.stat().st_size
    if store.has_shared_blob(xet_hash=key, cache_dir=hub_cache(), expected_size=size):
        blob.unlink()
        made = store.try_link_from_shared_store(
            blob_path=str(blob), xet_hash=key, cache_dir=hub_cache(), expected_size=size
        )
    else:
        made = store.publish_blob_to_shared_store(
            blob_path=str(blob), xet_hash=key, cache_dir=hub_cache(), expected_size=size
        )
    assert made
    assert blob.is_symlink()
    return store.shared_blob_path(hub_cache(), key)


def test_blobs_in_the_store_of_the_client_are_freed_by_its_own_count(shelf: Shelf) -> None:
    text = "text_encoder/model.safetensors"
    shelf.client()
    shelf.client("demo/two")
    own = publish(shelf, "demo/one", SHARD)
    both = publish(shelf, "demo/one", text)
    assert publish(shelf, "demo/two", text) == both
    assert shelf.verify().state == "verified"
    plan = take_away(shelf)
    assert plan.shared_bytes == 30_000
    assert plan.freed_bytes > 50_000
    assert not own.exists()
    assert both.is_file()
    assert shelf.verify("other").state == "verified"
    take_away(shelf, "other")
    assert not both.exists()


def test_a_single_file_in_the_store_of_the_client_is_freed(shelf: Shelf) -> None:
    shelf.client("demo/single")
    stored = publish(shelf, "demo/single", "q4.gguf")
    assert take_away(shelf, "mine:q4").freed_bytes == 7_000
    assert not stored.exists()
    assert shelf.verify("mine:light").state == "verified"


def test_equal_commits_of_two_repositories_are_two(shelf: Shelf) -> None:
    shutil.copytree(shelf.hub.root / "demo" / "one", shelf.hub.root / "demo" / "copy")
    shelf.client()
    shelf.client("demo/copy")
    (one,) = (hub_cache() / "models--demo--one" / "snapshots").iterdir()
    (copy,) = (hub_cache() / "models--demo--copy" / "snapshots").iterdir()
    assert one.name == copy.name
    publish(shelf, "demo/one", SHARD)
    before = snapshot(hub_cache() / "models--demo--copy")
    take_away(shelf)
    assert snapshot(hub_cache() / "models--demo--copy") == before


@pytest.mark.parametrize("where", ["owner", "model", "notes", "client's notes", "component"])
def test_no_link_leads_a_removal_out(shelf: Shelf, root: Path, tmp_path: Path, where: str) -> None:
    shelf.download()
    precious = write(tmp_path / "precious", model_files("one"))
    write(precious, {"one/model_index.json": b"{}", "parts/x": b"mine", "huggingface/x": b"mine"})
    folder = root / "demo" / "one"
    link = {
        "owner": root / "demo",
        "model": folder,
        "notes": folder / OURS,
        "client's notes": folder / ".cache",
        "component": folder / "vae",
    }[where]
    if link.is_dir():
        shutil.rmtree(link)
    link.symlink_to(precious if where != "component" else precious / "vae")
    before = snapshot(precious)
    if where in ("owner", "model"):
        with pytest.raises(ModelError) as failure:
            plan_removal(shelf.item(), load_catalog())
        assert failure.value.code == "not-ours"
    else:
        remove(plan_removal(shelf.item(), load_catalog()))
    assert snapshot(precious) == before


@pytest.mark.parametrize("where", ["repository", "snapshot", "file", "folder of files"])
def test_no_link_in_the_cache_leads_a_removal_out(shelf: Shelf, tmp_path: Path, where: str) -> None:
    shelf.download("mine:fp8")
    shelf.download("mine:light")
    precious = write(tmp_path / "precious", {"high.safetensors": b"mine", "low.gguf": b"mine", "blobs/x": b"mine"})
    repo = hub_cache() / "models--demo--single"
    (snap,) = (repo / "snapshots").iterdir()
    link = {"repository": repo, "snapshot": snap, "file": snap / "split/low.gguf", "folder of files": snap / "split"}
    path = link[where]
    if where == "repository":
        shutil.copytree(path, precious / "repository", symlinks=True)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to({"file": precious / "low.gguf", "repository": precious / "repository"}.get(where, precious))
    before = snapshot(precious)
    for reference in ("mine:fp8", "mine:light"):
        if where == "repository":
            with pytest.raises(ModelError) as failure:
                plan_removal(shelf.item(reference), load_catalog())
            assert failure.value.code == "not-ours"
        else:
            remove(plan_removal(shelf.item(reference), load_catalog()))
        assert snapshot(precious) == before


# --- variants ---------------------------------------------------------------------------------------------------------


def test_single_file_weights_come_with_all_but_the_transformer(shelf: Shelf, layout: str) -> None:
    copy = shelf.download("mine:fp8")
    assert copy.state == "verified"
    assert {file.info.path for file in copy.files} == {
        *("split/high.safetensors", "split/low.gguf"),
        *(
            path
            for path in model_files("one")
            if path.endswith((".json", ".safetensors")) and "transformer/" not in path
        ),
    }
    assert shelf.look().state == "partial", "the model itself lacks its transformer"
    flip(real(shelf, "vae/config.json"))
    shelf.verify()
    assert shelf.look("mine:fp8").state == "corrupt"
    take_away(shelf)
    assert shelf.look("mine:fp8").state == "partial"


def test_an_add_on_is_its_own_files_alone(shelf: Shelf, layout: str) -> None:
    copy = shelf.download("mine:light")
    assert (copy.state, [file.info.path for file in copy.files]) == ("verified", ["lora.safetensors"])
    assert shelf.bodies() == ["lora.safetensors"]


def test_a_whole_repository_is_a_variant_too(shelf: Shelf, layout: str) -> None:
    copy = shelf.download("mine:whole")
    assert (copy.state, len(copy.files)) == ("verified", NEEDED)
    assert shelf.look().state == "absent"


def test_a_file_that_is_not_the_pinned_one_is_refused(shelf: Shelf, layout: str) -> None:
    def pinned(digits: str) -> None:
        variant = {"name": "q4", "kind": "gguf", "repo": "demo/single", "files": ["q4.gguf"], "sha256": [digits]}
        model = {"title": "Mine", "family": "t2v", "repo": "demo/one", "variants": [variant]}
        shelf.write_manifest(**{"mine@1.0": model})

    true = sha256(shelf.hub.root / "demo" / "single" / "q4.gguf")
    pinned("0" * 16)
    with pytest.raises(ModelError) as failure:
        shelf.download("mine:q4")
    assert failure.value.code == "not-the-pinned-file"
    assert shelf.bodies() == []
    pinned(true[:16])
    assert shelf.download("mine:q4").state == "verified"
    pinned("0" * 16)
    assert shelf.look("mine:q4").state == "absent", "what is here is another file"


@pytest.fixture
def tiny_shelf(shelf: Shelf, tiny_model: Any) -> Shelf:
    """`mine@1.0` is a model that renders."""
    folder = shelf.hub.root / "demo" / "tiny"
    shutil.copytree(tiny_model("t2v"), folder)
    model = {"title": "Mine", "family": "t2v", "repo": "demo/tiny"}
    made = {"name": "bf16", "kind": "bf16", "runnable": True}
    single = {"name": "q4", "kind": "gguf", "repo": "demo/single", "files": ["q4.gguf"]}
    shelf.write_manifest(**{"mine@1.0": {**model, "variants": [made, single]}})
    return shelf


@pytest.mark.early
def test_a_variant_made_here_renders_verifies_and_goes_alone(
    tiny_shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tiny_shelf
    done = wan_tui("models", "download", "mine:bf16")
    assert done.returncode == 0, done.stderr
    folder = made_folder(shelf.item("mine:bf16"))
    assert done.stdout == f"{folder}\n"
    assert shelf.look("mine:bf16").state == shelf.look().state == "verified"
    offline(monkeypatch)
    asked = shelf.asked()
    job = job_file(tmp_path, "mine@1.0:bf16")
    ran = wan_tui("--run", job, "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert events(ran.stdout)[-1]["event"] == "job-finished"
    assert shelf.verify("mine:bf16").state == "verified"

    spoilt = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = spoilt.read_bytes()
    flip(spoilt)
    assert [file.info.path for file in shelf.verify("mine:bf16").bad] == [str(spoilt.relative_to(folder))]
    ran = wan_tui("--run", job, "--json")
    last = events(ran.stdout)[-1]
    assert (ran.returncode, last["event"], last["code"]) == (3, "job-failed", "model-corrupt")
    assert last["actions"] == ["repair"]
    spoilt.write_bytes(whole)
    assert shelf.verify("mine:bf16").state == "verified"

    take_away(shelf)  # the model it was made of
    assert shelf.look().state == "absent"
    assert shelf.verify("mine:bf16").state == "verified"
    take_away(shelf, "mine:bf16")
    assert shelf.look("mine:bf16").state == "absent"
    assert not folder.exists()
    assert shelf.asked() == asked


def test_removing_what_was_made_leaves_the_model_whole(tiny_shelf: Shelf, layout: str) -> None:
    tiny_shelf.download("mine:bf16")
    before = snapshot(tiny_shelf.look().path or Path())
    plan = take_away(tiny_shelf, "mine:bf16")
    assert plan.freed_bytes > 0
    assert {path: row[1:] for path, row in snapshot(tiny_shelf.look().path or Path()).items()} == {
        path: row[1:] for path, row in before.items()
    }
    assert tiny_shelf.verify().state == "verified"


def test_a_variant_that_does_not_run_yet_says_so(tiny_shelf: Shelf, tmp_path: Path) -> None:
    ran = wan_tui("--run", job_file(tmp_path, "mine:q4"), "--json")
    last = events(ran.stdout)[-1]
    assert (ran.returncode, last["code"]) == (3, "not-yet")
    assert "does not run the variant q4" in last["message"]
