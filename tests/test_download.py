"""Downloads over a loopback Hub that misbehaves: what comes is right or is refused, and nothing that came is lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, WanError
from engine.events import Bus, Download, Downloaded, Event, Failed, Notice
from engine.library import store
from engine.library.digest import Digests
from engine.library.download import download, needed
from engine.library.hub import Line, Manners, file_url
from engine.library.item import Item
from engine.library.listing import File, Listing, read_lock
from engine.library.locate import OnDisk, look
from engine.library.place import OURS
from tests.disks import small_disk
from tests.local_hub import LocalHub, spawn
from tests.runs import Running, wan_tui

pytestmark = pytest.mark.sampled(5)

REPO = "demo/mine"
BIG, MIDDLE, SMALL = "transformer/big.safetensors", "vae/middle.safetensors", "vae/config.json"
API, FILES = f"/api/models/{REPO}*", f"*{REPO}/resolve/*"
BIG_URL = f"*{REPO}/resolve/*/{BIG}"
SECRET = "hf_NeverToBeSeenAnywhere"
MIB = 1 << 20
QUICK = Manners(stalled_s=0.3, tries=3, pause_s=0.01, longest_pause_s=0.05)


def noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


WEIGHTS = {BIG: noise("big", 3 * MIB), MIDDLE: noise("middle", MIB + 1)}
TEXTS = {"model_index.json": b"{}", SMALL: b'{"z_dim": 16}', "transformer/config.json": b"{ }", "vae/empty.txt": b""}
LEFT_OUT = {"README.md": b"# read me", ".gitattributes": b"", "assets/logo.json": b"{}", "transformer/old.bin": b"x"}
WANTED = WEIGHTS | TEXTS
TOTAL = sum(map(len, WANTED.values()))


def publish(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def manifest(file: Path, repo: str = REPO, revision: str | None = None) -> Path:
    text = f'[models."mine@1.0"]\ntitle = "Mine"\nfamily = "t2v"\nrepo = "{repo}"\nrequired = ["transformer", "vae"]\n'
    file.write_text(text + (f'revision = "{revision}"\n' if revision else ""))
    return file


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder on the server's side; the manifest names it."""
    folder = tmp_path / "served" / REPO
    publish(folder, WANTED | LEFT_OUT)
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest(tmp_path / "own.toml")))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return folder


@pytest.fixture
def hub(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with LocalHub(repo.parent.parent) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def root(place: str = "cache") -> Path:
    """Where the repository lies on this side."""
    models = os.environ.get("MODELS_ROOT")
    return Path(models, REPO) if models else Path(os.environ["HF_HOME"], "hub", "models--" + REPO.replace("/", "--"))


def parts(folder: Path | None = None) -> dict[str, int]:
    found = {}
    for path in ((folder or root()) / OURS / "parts").glob("*"):
        with suppress(FileNotFoundError):  # finished meanwhile
            found[path.name] = path.stat().st_size
    return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Try:
    """One call of `download` and all it said."""

    told: list[Event] = field(default_factory=list)
    copy: OnDisk | None = None
    error: BaseException | None = None
    seconds: float = 0.0

    @property
    def code(self) -> str:
        assert isinstance(self.error, WanError), self.error
        return self.error.code

    @property
    def text(self) -> str:
        """Everything that anybody could read of it."""
        return "\n".join(json.dumps(event.as_dict()) for event in self.told) + repr(self.error)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def warned(self) -> str:
        return "\n".join(event.message for event in self.of(Notice))


def get(
    manners: Manners = QUICK,
    *,
    control: Control | None = None,
    revision: str | None = None,
    name: str = "mine",
    listen: Callable[[Event], None] | None = None,
) -> Try:
    """Download in this process."""
    result, bus = Try(), Bus()
    boxes = [bus.subscribe(result.told.append), *([bus.subscribe(listen)] if listen else [])]
    begun = time.monotonic()
    try:
        result.copy = download(
            Item(*load_catalog().find(name)), bus, control or Control(), revision=revision, manners=manners
        )
    except (WanError, Cancelled) as error:
        result.error = error
    result.seconds = time.monotonic() - begun
    for box in boxes:
        assert box.close(5)
    last = result.told[-1]
    assert isinstance(last, Downloaded if result.copy else Failed), last
    assert len(result.of(Downloaded)) + len(result.of(Failed)) == 1
    return result


def right(result: Try, files: dict[str, bytes] = WANTED) -> Try:
    """It ended well: every byte of every file, all of it verified, no part left."""
    assert result.error is None, repr(result.error)
    assert result.copy and result.copy.state == "verified" and result.copy.path
    held = {f.info.path: f.path.read_bytes() for f in result.copy.files}
    assert {name: len(data) for name, data in held.items()} == {name: len(data) for name, data in files.items()}
    assert held == files
    assert not parts()
    return result


def refused(result: Try, code: str) -> Try:
    """It failed for this reason, and says what to do."""
    assert result.code == code, result.error
    assert isinstance(result.error, WanError)
    assert result.error.suggestions
    (failed,) = result.of(Failed)
    assert (failed.code, failed.message) == (code, result.error.message)
    return result


def final_names(folder: Path | None = None) -> set[str]:
    """Weights under a name that somebody would read them by."""
    there = [p for p in (folder or root()).rglob("*") if p.is_file() and OURS not in p.parts]
    return {p.name for p in there}


def nothing_here(tmp_path: Path) -> None:
    """Not a file of a model anywhere: no blob, part, link or lock file."""
    served, ours = tmp_path / "served", {"own.toml", "digests.json", "digests.json.lock", "wan-tui.log"}
    found = [p for p in tmp_path.rglob("*") if not p.is_dir() and not p.is_relative_to(served) and p.name not in ours]
    assert not found


def watcher(control: Control, when: Callable[[], bool], limit: float = 30.0) -> threading.Thread:
    """Cancels as soon as something is so."""

    def watch() -> None:
        until = time.monotonic() + limit
        while not when() and time.monotonic() < until:
            time.sleep(0.005)
        control.cancel()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def cut_short(hub: LocalHub, at: int, url: str = BIG_URL) -> Try:
    """A download that a person stops once `at` bytes of a file are there; the link is whole again afterwards."""
    fault = hub.fault(url, stall_after=at)
    control = Control()
    thread = watcher(control, lambda: parts().get(sha(WEIGHTS[BIG])) == at)
    result = get(Manners(stalled_s=30), control=control)
    thread.join()
    hub.faults.remove(fault)
    assert isinstance(result.error, Cancelled)
    hub.settled()
    hub.log.clear()
    return result


# --- it works ---------------------------------------------------------------------------------------------------------


def test_a_download_ends_verified_with_only_what_a_model_needs(layout: str, hub: LocalHub) -> None:
    result = right(get())
    (done,) = result.of(Downloaded)
    assert (done.bytes, done.fetched_bytes) == (TOTAL, TOTAL)
    assert done.revision == hub.resolve(REPO, "main")[0]  # type: ignore[index]
    assert len(hub.requests("*", API)) == 1
    assert sorted(r.path.split("/", 5)[5] for r in hub.requests("*", FILES)) == sorted(n for n in WANTED if WANTED[n])
    assert not {Path(name).name for name in LEFT_OUT} & final_names()
    lock = next((root() / OURS).glob("*.json"))
    listing = read_lock(lock)
    assert listing and (listing.repo, listing.commit) == (REPO, done.revision)
    for name, data in WANTED.items():
        assert (listing.by_path[name].size, listing.by_path[name].sha256) == (len(data), sha(data))


def test_a_second_call_asks_nothing(layout: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    right(get())
    hub.log.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (done,) = right(get()).of(Downloaded)
    assert done.fetched_bytes == 0
    assert not hub.log


# --- links that break -------------------------------------------------------------------------------------------------


def overlap(hub: LocalHub, url: str = BIG_URL) -> int:
    """Bytes that were asked for although they had been asked for and sent before."""
    starts = [int((r.range or "bytes=0-")[6:-1]) for r in hub.requests("GET", url) if r.start is not None]
    ends = [r.start + r.sent for r in hub.requests("GET", url) if r.start is not None]
    return sum(max(0, end - start) for end, start in zip(ends, starts[1:], strict=False))


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ({"drop_after": MIB, "times": 1}, 2),
        ({"drop_after": 300_000}, 11),
        ({"drop_after": 0, "times": 2}, 3),
        ({"drop_after": MIB, "reset": True, "times": 1}, 2),
        ({"drop_after": MIB + 1, "reset": True}, None),
        ({"stall_after": MIB, "times": 1}, 2),
        ({"stall_in": "status", "times": 1}, 2),
        ({"stall_in": "headers", "times": 1}, 2),
        ({"status": 500, "times": 2}, 3),
        ({"status": 502, "times": 1}, 2),
        ({"status": 503, "times": 1}, 2),
        ({"status": 408, "times": 1}, 2),
        ({"status": 429, "times": 1}, 2),
        ({"delay": 0.2}, 1),
        ({"chunked": True}, 1),
        ({"headers": {"Content-Length": None}}, 1),
        ({"headers": {"Content-Length": None}, "drop_after": MIB, "times": 1}, 2),
        ({"rate": 20e6}, 1),
    ],
    ids=str,
)
@pytest.mark.sampled(3)
def test_a_link_that_breaks_is_taken_up_again(fault: dict[str, Any], requests: int | None, hub: LocalHub) -> None:
    hub.fault(BIG_URL, **fault)
    right(get())
    if requests:
        assert len(hub.requests("GET", BIG_URL)) == requests
    if not fault.get("reset"):  # a reset throws away what was under way
        assert overlap(hub) == 0


@pytest.mark.parametrize(
    "fault",
    [{"stall_in": "status"}, {"stall_in": "headers"}, {"drop_after": 100}, {"status": 500}, {"status": 503}],
    ids=str,
)
@pytest.mark.parametrize("times", [1, -1])
def test_a_listing_that_does_not_come(fault: dict[str, Any], times: int, hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(API, times=times, **fault)
    if times == 1:
        right(get())
    else:
        refused(get(), "unreachable")
        assert len(hub.requests("GET", API)) == QUICK.tries
        nothing_here(tmp_path)


def test_a_slow_listing_is_waited_for(hub: LocalHub) -> None:
    hub.fault(API, delay=0.15)
    right(get())
    assert len(hub.requests("GET", API)) == 1


@pytest.mark.parametrize(
    "fault",
    [{"stall_after": MIB}, {"drop_after": MIB}, {"stall_in": "status", "ranged": True}, {"status": 503}],
    ids=str,
)
def test_a_link_that_stays_silent_is_given_up_and_the_parts_stay(fault: dict[str, Any], hub: LocalHub) -> None:
    """Every try that brings something starts the count again; this one brings nothing more."""
    bad = hub.fault(BIG_URL, **fault)
    if "stall_after" in fault or "drop_after" in fault:
        bad.times = 1
        hub.fault(BIG_URL, status=502)
    if fault.get("ranged"):
        hub.fault(BIG_URL, drop_after=MIB, ranged=False)
    result = refused(get(), "unreachable")
    assert sha(WEIGHTS[BIG]) not in final_names()
    assert result.seconds < 6
    kept = parts().get(sha(WEIGHTS[BIG]), 0)
    assert kept == (0 if fault.get("status") else MIB)
    hub.faults.clear()
    hub.log.clear()
    right(get())
    assert overlap(hub) == 0
    assert hub.fetched(BIG_URL) == [(kept, len(WEIGHTS[BIG]))]


def test_a_server_that_is_not_there(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        result = refused(get(), "unreachable")
    assert "trying again" in result.warned
    nothing_here(tmp_path)


def test_the_wait_a_server_asks_for_is_kept(hub: LocalHub) -> None:
    hub.fault(BIG_URL, status=429, times=1, headers={"Retry-After": "1"})
    result = right(get())
    assert len(hub.requests("GET", BIG_URL)) == 2
    assert result.seconds > 1
    assert "429; trying again in 1 s" in result.warned


# --- bytes that are wrong ---------------------------------------------------------------------------------------------


def test_one_bad_byte_is_fetched_again(layout: str, hub: LocalHub) -> None:
    hub.fault(BIG_URL, corrupt_at=MIB, times=1)
    result = right(get())
    assert hub.fetched(BIG_URL) == [(0, len(WEIGHTS[BIG]))] * 2
    assert result.of(Downloaded)[0].fetched_bytes == TOTAL + len(WEIGHTS[BIG])
    assert "fetching it again" in result.warned


@pytest.mark.parametrize("name", [BIG, SMALL])
def test_bytes_that_stay_wrong_get_no_name(name: str, layout: str, hub: LocalHub) -> None:
    bad = bytearray(WANTED[name])
    bad[3] ^= 0xFF
    hub.fault(f"*/resolve/*/{name}", corrupt_at=3)
    result = refused(get(), "corrupt-download")
    assert isinstance(result.error, WanError) and result.error.status == 3
    assert len(hub.fetched(f"*/resolve/*/{name}")) == 2
    assert not [path for path in root().rglob("*") if path.is_file() and path.read_bytes() == bad]
    hub.faults.clear()
    right(get())


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"short_by": 100}, "bad-answer"),
        ({"short_by": -100}, "bad-answer"),
        ({"gzip": True}, "bad-answer"),
        ({"status": 416}, "bad-answer"),
        ({"short_by": -100, "chunked": True}, "corrupt-download"),
        ({"endless": True, "chunked": True}, "corrupt-download"),
        ({"endless": True, "headers": {"Content-Length": None}}, "corrupt-download"),
        ({"headers": {"Content-Length": "1_000"}}, "unreachable"),
    ],
    ids=str,
)
@pytest.mark.parametrize("times", [1, -1])
@pytest.mark.sampled(2)
def test_a_body_that_is_not_the_file(fault: dict[str, Any], code: str, times: int, hub: LocalHub) -> None:
    hub.fault(BIG_URL, times=times, **fault)
    result = get()
    if times == 1:
        right(result)
    else:
        refused(result, code)
        assert sha(WEIGHTS[BIG]) not in final_names()
        assert max(parts().values(), default=0) <= len(WEIGHTS[BIG])


@pytest.mark.parametrize("fault", [{"chunked": True}, {"headers": {"Content-Length": None}}], ids=str)
def test_a_body_that_ends_early_without_a_length(fault: dict[str, Any], hub: LocalHub) -> None:
    hub.fault(BIG_URL, short_by=100, ranged=False, **fault)
    right(get())
    assert hub.fetched(BIG_URL)[1:] == [(3 * MIB - 100, 3 * MIB)]


def test_an_endless_body_with_a_length_ends_there(hub: LocalHub) -> None:
    hub.fault(BIG_URL, endless=True)
    right(get())


@pytest.mark.parametrize(
    "fault",
    [
        {"ignore_range": True},
        {"range_shift": 1000},
        {"headers": {"Content-Range": None}},
        {"headers": {"Content-Range": "bytes 0-99/100"}},
        {"headers": {"Content-Range": "nonsense"}},
        {"status": 416},
    ],
    ids=str,
)
def test_a_server_that_cannot_resume(fault: dict[str, Any], hub: LocalHub) -> None:
    cut_short(hub, MIB)
    hub.fault(BIG_URL, ranged=True, **fault)
    result = right(get())
    assert "fetching it again" not in result.warned  # no wrong bytes were ever taken
    assert hub.fetched(BIG_URL)[-1] == (0, 3 * MIB)
    assert result.of(Downloaded)[0].fetched_bytes >= 3 * MIB  # and of the small files what the first call had not


@pytest.mark.parametrize(
    "fault",
    [
        {"gzip": True},
        {"status": 416},
        {"short_by": 1, "ignore_range": True},
        {"short_by": 1, "ignore_range": True, "chunked": True},
        {"headers": {"Content-Range": None, "Content-Length": "100"}, "short_by": 3 * MIB - 100},
        {"status": 403},
        {"status": 503},
        {"short_by": 1, "ignore_range": True, "times": 1},
    ],
    ids=str,
)
@pytest.mark.sampled(2)
def test_an_answer_that_is_not_the_file_costs_nothing_of_the_part(fault: dict[str, Any], hub: LocalHub) -> None:
    """A hotel's log-in page, say, in place of the rest of 28 GB."""
    cut_short(hub, 2 * MIB)
    hub.fault(BIG_URL, **fault)
    result = get()
    if result.error:
        assert parts()[sha(WEIGHTS[BIG])] == 2 * MIB
        hub.faults.clear()
        hub.log.clear()
        result = get()
    right(result)
    assert [r.range for r in hub.requests("GET", BIG_URL) if r.status == 206][-1] == f"bytes={2 * MIB}-"


# --- refusals ---------------------------------------------------------------------------------------------------------


def nowhere_said(tmp_path: Path, secret: str = SECRET) -> None:
    """The token stands in no file on this side."""
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_relative_to(tmp_path / "served"):
            assert secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("token", [None, SECRET])
@pytest.mark.parametrize(
    ("where", "fault", "code", "helps"),
    [
        (FILES, {"status": 401, "code": "GatedRepo"}, "gated", "Accept the terms at {url}/demo/mine"),
        (FILES, {"status": 403, "code": "GatedRepo"}, "gated", "hf auth login"),
        (API, {"status": 403, "code": "GatedRepo"}, "gated", "HF_TOKEN"),
        (API, {"status": 401, "code": "RepoNotFound"}, "no-repository", "hf auth login"),
        (API, {"status": 404, "code": "RepoNotFound"}, "no-repository", "manifest"),
        (FILES, {"status": 404, "code": "RepoNotFound"}, "no-repository", "manifest"),
        (API, {"status": 404, "code": "RevisionNotFound"}, "no-revision", "--revision"),
        (FILES, {"status": 404, "code": "RevisionNotFound"}, "no-revision", "--revision"),
        (FILES, {"status": 404, "code": "EntryNotFound"}, "not-in-repository", "--revision main"),
        (API, {"status": 401, "message": "Invalid credentials in Authorization header"}, "token-refused", "HF_TOKEN"),
        (FILES, {"status": 401, "message": "bad token"}, "token-refused", "HF_TOKEN"),
        (FILES, {"status": 403}, "token-refused", "browser"),
        (API, {"status": 403}, "token-refused", "browser"),
        (API, {"status": 404}, "bad-answer", "HF_ENDPOINT"),
        (FILES, {"status": 404}, "bad-answer", "HF_ENDPOINT"),
        (FILES, {"status": 400}, "bad-answer", "HF_ENDPOINT"),
        (API, {"status": 451}, "bad-answer", "HF_ENDPOINT"),
        (FILES, {"status": 204}, "bad-answer", "HF_ENDPOINT"),
        (FILES, {"status": 304}, "bad-answer", "HF_ENDPOINT"),
    ],
    ids=str,
)
@pytest.mark.sampled(2)
def test_a_refusal_says_what_to_do(
    where: str,
    fault: dict[str, Any],
    code: str,
    helps: str,
    token: str | None,
    hub: LocalHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
        fault = {**fault, "message": f"{fault.get('message', 'no')} {token}"}  # a server that says it again
    hub.fault(where, **fault)
    result = refused(get(), code)
    assert isinstance(result.error, WanError)
    assert any(helps.format(url=hub.url) in one for one in result.error.suggestions)
    assert REPO in result.error.message
    assert result.seconds < 2  # nothing is tried again
    if code in ("gated", "no-repository", "token-refused"):
        assert (result.error.cause or "").endswith("the token of HF_TOKEN was sent." if token else "no token was sent.")
    assert SECRET not in result.text
    nowhere_said(tmp_path)
    assert not set(map(sha, WEIGHTS.values())) & final_names()
    assert {r.token for r in hub.log} == {token}


def test_gated_and_private_repositories(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.gated = {REPO: {SECRET}}
    refused(get(), "gated")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "403" in (refused(get(), "gated").error.cause or "")  # type: ignore[union-attr]
    hub.private = {REPO: {SECRET}}
    refused(get(revision="main"), "no-repository")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert SECRET not in right(get(revision="main")).text
    nowhere_said(tmp_path)


@pytest.mark.parametrize("token", [f"{SECRET}\0", f"{SECRET}\x01x", f"{SECRET}é"])
def test_a_token_no_header_can_carry(token: str, hub: LocalHub, own_home: Path, tmp_path: Path) -> None:
    (own_home / "hf" / "token").write_text(token)
    run = wan_tui("models", "download", "mine", "--json")
    assert run.returncode == 3
    assert json.loads(run.stdout.splitlines()[-1])["code"] == "bad-token"
    (own_home / "hf" / "token").unlink()
    assert SECRET not in run.stdout + run.stderr
    nowhere_said(tmp_path)


def test_a_token_kept_by_the_client_is_sent_and_named(hub: LocalHub, own_home: Path) -> None:
    (own_home / "hf" / "token").write_text(SECRET)
    hub.gated = {REPO: {"another"}}
    run = wan_tui("models", "download", "mine", "--json")
    assert "the token of hf auth login was sent" in run.stdout
    assert SECRET not in run.stdout + run.stderr


def test_an_absent_repository_or_revision(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(get(revision="v9"), "no-revision")
    refused(get(revision="0" * 40), "no-revision")
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest(tmp_path / "own.toml", repo="demo/nothing")))
    refused(get(), "no-repository")


def test_an_error_page_without_end(hub: LocalHub) -> None:
    hub.fault(BIG_URL, status=403, endless=True, headers={"Content-Length": None})
    assert refused(get(), "token-refused").seconds < 3


def test_offline(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(get(), "offline")
    assert not hub.log
    nothing_here(tmp_path)


# --- ways to the server -----------------------------------------------------------------------------------------------


def test_the_token_stays_with_its_server(layout: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    hub.cdn = True
    right(get())
    stores = hub.requests("GET", "/__cdn__/*")
    assert len(stores) == len(WEIGHTS)
    assert not any(r.token for r in stores)
    assert all(r.token == SECRET for r in hub.log if r not in stores)


def test_a_stop_and_a_resume_through_a_cdn(hub: LocalHub) -> None:
    hub.cdn = True
    cut_short(hub, MIB, f"/__cdn__/*/{BIG}")
    right(get())
    assert hub.fetched(BIG_URL) == [(MIB, 3 * MIB)]


@pytest.mark.parametrize("where", [API, BIG_URL])
@pytest.mark.parametrize("to", ["", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[bad", "//"])
def test_a_redirect_that_leads_nowhere(where: str, to: str, hub: LocalHub) -> None:
    hub.fault(where, redirect=to)
    result = get()
    assert result.code in ("bad-answer", "unreachable")
    assert result.seconds < 3
    assert "root:" not in result.text


def test_a_refusal_of_the_storage_is_not_one_of_the_hub(hub: LocalHub) -> None:
    hub.cdn = True
    hub.fault("/__cdn__/*", status=403, times=1)  # its signature has run out, say
    right(get())
    publish(hub.root / REPO, {BIG: noise("other", MIB)})
    hub.fault("/__cdn__/*", status=403)
    assert "localhost answered 403" in str(refused(get(revision="main"), "unreachable").error)


@pytest.mark.parametrize("path", ["/", "/mirror", "/mirror/"])
def test_an_endpoint_with_a_path(path: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url + path)
    result = get()
    if path == "/":
        right(result)
    else:
        refused(result, "no-repository")  # nothing is served there, but that is where was asked
        assert [r.path for r in hub.log] == [f"/mirror/api/models/{REPO}/revision/main"]
        with Line(QUICK) as line:
            url = file_url(line, Listing(REPO, "f" * 40, ()), File("vae/a b#.json", 1))
        assert url == f"{hub.url}/mirror/{REPO}/resolve/{'f' * 40}/vae/a%20b%23.json"


def test_the_password_of_an_endpoint_is_never_told(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", f"//me:{SECRET}@"))
    right(get())
    for status in (403, 404, 500):
        hub.fault(API, status=status)
        assert SECRET not in get(revision="main").text
        hub.faults.clear()
    monkeypatch.setenv("HF_ENDPOINT", f"nothing://me:{SECRET}@x")
    assert SECRET not in refused(get(revision="main"), "bad-endpoint").text


@pytest.mark.parametrize("value", ["huggingface.co", "file:///etc", "http://", "http://[::1", "http://a b/"])
def test_an_endpoint_that_is_none(value: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    refused(get(), "bad-endpoint")


def test_through_a_proxy(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    right(get())
    assert all(r.proxied and r.host == "hub.invalid" for r in hub.log)


def test_a_stop_while_a_proxy_is_silent(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    cut_short(hub, MIB)
    right(get())


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "nonsense", "ftp://127.0.0.1:9", "http://[::1"])
def test_a_proxy_that_is_none(value: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    monkeypatch.setenv("ALL_PROXY", value)
    result = get()
    assert result.code in ("bad-proxy", "unreachable")


# --- stopped and taken up ---------------------------------------------------------------------------------------------


def test_a_resume_fetches_only_the_rest(layout: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_first")
    hub.gated = {REPO: {"hf_first", "hf_second"}}
    stopped = cut_short(hub, MIB + 17)
    (failed,) = stopped.of(Failed)
    assert failed.code == "stopped"
    assert re.search(r"[12]\.\d MB of it are kept", failed.message)
    assert sha(WEIGHTS[BIG]) not in final_names() and Path(BIG).name not in final_names()
    item = Item(*load_catalog().find("mine"))
    assert look(item, Digests()).state == "partial"
    need = needed(item, Control(), manners=QUICK)
    assert (need.total_bytes, need.missing_bytes) == (TOTAL, 2 * MIB - 17)
    monkeypatch.setenv("HF_TOKEN", "hf_second")
    (done,) = right(get()).of(Downloaded)
    assert done.fetched_bytes == 2 * MIB - 17
    (request,) = hub.log
    assert (request.range, request.status, request.token) == (f"bytes={MIB + 17}-", 206, "hf_second")


def part_of_big(data: bytes) -> None:
    """What an earlier call may have left."""
    folder = root() / OURS / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha(WEIGHTS[BIG])).write_bytes(data)


@pytest.mark.parametrize(
    ("left", "starts"),
    [
        (WEIGHTS[BIG][:MIB], [MIB]),
        (WEIGHTS[BIG], []),
        (WEIGHTS[BIG] + b"x", [0]),
        (b"x" * (5 * MIB), [0]),
        (b"x" * MIB, [MIB, 0]),
        (b"x" * 3 * MIB, [0]),
        (WEIGHTS[BIG][:-1], [3 * MIB - 1]),
        (b"", [0]),
    ],
    ids=["half", "whole", "longer", "much longer", "wrong", "wrong and whole", "a byte short", "empty"],
)
def test_whatever_part_there_is_it_ends_right(left: bytes, starts: list[int], layout: str, hub: LocalHub) -> None:
    part_of_big(left)
    result = right(get())
    assert [start for start, _ in hub.fetched(BIG_URL)] == starts
    assert result.of(Downloaded)[0].fetched_bytes == sum(e - s for s, e in hub.fetched(FILES))


def test_a_part_that_is_a_link_is_not_written_through(hub: LocalHub, tmp_path: Path) -> None:
    (root() / OURS / "parts").mkdir(parents=True)
    (tmp_path / "private").write_bytes(b"mine")
    (root() / OURS / "parts" / sha(WEIGHTS[BIG])).symlink_to(tmp_path / "private")
    result = get()
    assert (tmp_path / "private").read_bytes() == b"mine"
    assert result.code == "cannot-write"


def killed_at_random(seed: int, hub: Any) -> None:
    """Kill the program several times; whatever it left, the last call ends right and little came twice."""
    chance = random.Random(seed)
    bodies: dict[str, int] = {}
    for _ in range(chance.randint(2, 4)):
        run = Running("models", "download", "mine")
        wait = chance.uniform(0.35, 0.9)
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(wait)
        run.process.kill()
        run.process.wait()
        bodies = parts()
        run.stdout.close()
        run.stderr.close()
    hub.set(rate=None)
    run = Running("models", "download", "mine")
    assert run.end() == 0, run.told[-1:]
    assert run.told[-1]["event"] == "downloaded"
    copy = look(Item(*load_catalog().find("mine")), Digests())
    assert copy.state == "verified"
    for name, data in WANTED.items():
        assert (copy.path / name).read_bytes() == data  # type: ignore[operator]
    for name in WEIGHTS:
        pieces = hub.fetched(f"*/{name}")
        for (_, end), (start, _) in pairwise(pieces):
            assert end - start <= MIB, pieces
        assert pieces[-1][1] == len(WANTED[name])
    if bodies:
        assert hub.fetched(FILES)
    nothing_but_a_cache()


def nothing_but_a_cache() -> None:
    """No orphan of any kind: blobs, links to them, the branch, lock files."""
    cache = root().parent
    for path in cache.rglob("*"):
        name = path.relative_to(cache).as_posix()
        kind = re.sub(r"[0-9a-f]{64}|[0-9a-f]{40}", "#", name)
        kind = re.sub(r"snapshots/#/(" + "|".join(map(re.escape, WANTED)) + ")$", "snapshots/#/file", kind)
        if path.is_file():
            ours = {"models--demo--mine/blobs/#", "models--demo--mine/snapshots/#/file", "models--demo--mine/refs/main"}
            ours |= {f"models--demo--mine/{OURS}/#.json", ".locks/models--demo--mine/#.lock"}
            kind = re.sub(r"/\.#\.json\.[0-9a-f]{8}\.part$", "/#.json", kind)  # killed while it was written
            assert kind in ours, name
    assert not (root() / OURS / "parts").exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_at_random_moments(seed: int, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spawn(repo.parent.parent, rate=4e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        killed_at_random(seed, hub)


# --- several at once --------------------------------------------------------------------------------------------------


def once_each(hub: Any) -> None:
    for name, data in WANTED.items():
        if data:
            assert sum(end - start for start, end in hub.fetched(f"*/{name}")) == len(data), name


def test_two_processes_fetch_every_file_once(layout: str, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spawn(repo.parent.parent, rate=8e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        runs = [Running("models", "download", "mine") for _ in range(2)]
        assert [run.end() for run in runs] == [0, 0], [run.told[-1] for run in runs]
        once_each(hub)
    told = [event for run in runs for event in run.told]
    assert sum(event["fetched_bytes"] for event in told if event["event"] == "downloaded") == TOTAL
    assert any(event.get("code") == "waiting" for event in told)
    assert not parts()


def test_two_threads_fetch_every_file_once(layout: str, hub: LocalHub) -> None:
    hub.rate = 20e6
    results: list[Try] = []
    threads = [threading.Thread(target=lambda: results.append(get())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [right(result).copy is not None for result in results] == [True] * 3
    once_each(hub)


def test_another_process_takes_over_from_a_killed_one(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spawn(repo.parent.parent) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.fault(BIG_URL, stall_after=MIB, ranged=False)
        first = Running("models", "download", "mine")
        first.until("download", file=BIG, done=MIB)
        second = Running("models", "download", "mine")
        second.until("warning", code="waiting")
        first.process.kill()
        assert second.end() == 0
        assert second.told[-1]["event"] == "downloaded"
        assert second.told[-1]["fetched_bytes"] == 2 * MIB
        first.end()
        once_each(hub)


def client_command(*, offline: bool = False) -> list[str]:
    call = f"from huggingface_hub import snapshot_download as s; print(s({REPO!r}, local_files_only={offline}))"
    return [sys.executable, "-c", call]


def test_beside_the_client_of_the_hub(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with spawn(repo.parent.parent, rate=6e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        client = subprocess.Popen(client_command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        result = right(get(Manners(stalled_s=5)))
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert result.copy and Path(out.strip()) == result.copy.path
        for name, data in WANTED.items():
            assert (result.copy.path / name).read_bytes() == data  # type: ignore[operator]
        assert sum(end - start for start, end in hub.fetched(BIG_URL)) == len(WEIGHTS[BIG])


# --- stopping ---------------------------------------------------------------------------------------------------------

STALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "flowing": (BIG_URL, {"rate": 2e5}),
    "silent in the body": (BIG_URL, {"stall_after": MIB}),
    "silent before the answer": (BIG_URL, {"stall_in": "status"}),
    "silent in the headers": (BIG_URL, {"stall_in": "headers"}),
    "silent listing": (API, {"stall_in": "status"}),
    "half a listing": (API, {"stall_after": 100}),
    "told to wait": (BIG_URL, {"status": 429, "headers": {"Retry-After": "600"}}),
    "told to wait for the listing": (API, {"status": 503, "headers": {"Retry-After": "600"}}),
    "pausing": (BIG_URL, {"status": 500}),
    "error page that stalls": (BIG_URL, {"status": 403, "stall_after": 3}),
}


@pytest.mark.parametrize("state", STALLS)
@pytest.mark.sampled(2)
def test_a_stop_is_obeyed_at_once(state: str, hub: LocalHub) -> None:
    path, fault = STALLS[state]
    hub.fault(path, **fault)
    control, asked = Control(), 0.0

    def there() -> bool:
        nonlocal asked
        asked = time.monotonic() + 0.1
        return bool(hub.requests("GET", path)) and (path != BIG_URL or "rate" not in fault or bool(parts()))

    def stop() -> None:
        while not there():
            time.sleep(0.01)
        time.sleep(0.1)
        control.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    result = get(Manners(stalled_s=60, pause_s=30), control=control)
    late = time.monotonic() - asked
    thread.join()
    assert isinstance(result.error, Cancelled)
    assert result.of(Failed)[0].code == "stopped"
    assert late < 1
    assert not [thread for thread in threading.enumerate() if thread.name == "library"]
    hub.faults.clear()
    right(get())


def test_a_stop_with_a_rate_limit(hub: LocalHub) -> None:
    control = Control()
    thread = watcher(control, lambda: max(parts().values(), default=0) > 1000)
    result = get(Manners(rate=1000), control=control)
    thread.join()
    assert isinstance(result.error, Cancelled) and result.seconds < 3
    assert max(parts().values()) > 1000  # what came is kept, also what came too early for the limit


def test_a_stop_while_another_process_writes(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spawn(repo.parent.parent) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.fault(BIG_URL, stall_after=MIB)
        writer = Running("models", "download", "mine")
        writer.until("download", file=BIG, done=MIB)
        control = Control()
        result = get(control=control, listen=lambda e: control.cancel() if isinstance(e, Notice) else None)
        assert isinstance(result.error, Cancelled) and result.seconds < 2
        assert parts()[sha(WEIGHTS[BIG])] == MIB
        writer.process.kill()
        writer.end()


def signalled(number: int, state: str, hub: Any) -> tuple[Running, float]:
    """Send a signal to a download in this state; the run, ended, and how long it took."""
    path, fault = STALLS[state]
    hub.fault(path, **fault)
    run = Running("models", "download", "mine")
    while not any(r for r in hub.requests("GET", path)):
        time.sleep(0.02)
    if path == BIG_URL and fault.get("rate"):
        run.until("download", file=BIG)
    time.sleep(0.1)
    begun = time.monotonic()
    run.process.send_signal(number)
    run.process.wait(20)
    late = time.monotonic() - begun
    run.end()
    hub.clear_faults()
    return run, late


@pytest.mark.parametrize(
    ("number", "status", "state"),
    [
        (signal.SIGINT, 130, "flowing"),
        (signal.SIGTERM, 143, "silent in the body"),
        (signal.SIGINT, 130, "silent listing"),
        (signal.SIGTERM, 143, "told to wait"),
    ],
)
@pytest.mark.sampled(2)
def test_a_signal_stops_a_download(
    number: int, status: int, state: str, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spawn(repo.parent.parent) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        run, late = signalled(number, state, hub)
    assert run.process.returncode == status
    assert (run.told[-1]["event"], run.told[-1]["code"]) == ("failed", "stopped")
    assert run.errors == ""
    assert late < 1.5
    if state == "silent in the body":
        assert parts()[sha(WEIGHTS[BIG])] == MIB


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """8 MiB for models."""
    with small_disk(tmp_path / "disk", "8m") as disk:
        monkeypatch.setenv("MODELS_ROOT", str(disk / "models"))
        yield disk


def fill(disk: Path, leave: int = 0) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            room = os.statvfs(disk).f_bavail * 4096 - leave
            if room <= 0 or not stream.write(b"x" * min(room, 65536)):
                break
    return filler


def test_a_disk_that_is_too_small_is_refused_first(disk: Path, hub: LocalHub) -> None:
    fill(disk, leave=4 * MIB)
    result = refused(get(), "disk-full")
    assert re.search(r"4\.2 MB more are needed, 4\.\d MB are free: [\d.]+ [kM]?B are missing", str(result.error.cause))  # type: ignore[union-attr]
    assert not hub.requests("GET", FILES)


def test_a_disk_too_small_for_two_repositories_is_refused_first(
    disk: Path, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variant takes the rest of its files from the model's own repository, on the same disk."""
    publish(hub.root / "demo/variant", {"v.safetensors": noise("v", 3 * MIB)})
    publish(hub.root / REPO, {"text_encoder/more.safetensors": noise("more", 3 * MIB)})
    text = (
        '[[models."mine@1.0".variants]]\nname = "q"\nkind = "gguf"\nrepo = "demo/variant"\nfiles = ["v.safetensors"]\n'
    )
    with (tmp_path / "own.toml").open("a") as file:
        file.write(text)
    fill(disk, leave=6 * MIB)  # room for each of them
    refused(get(name="mine:q"), "disk-full")
    assert not hub.requests("GET", "*/resolve/*")


def test_a_disk_that_becomes_full_keeps_the_parts(disk: Path, hub: LocalHub) -> None:
    hub.rate = 3e6
    filled = threading.Event()

    def listen(event: Event) -> None:
        if isinstance(event, Download) and event.file == BIG and event.done > MIB / 2 and not filled.is_set():
            filled.set()
            fill(disk)

    result = refused(get(listen=listen), "disk-full")
    assert re.search(r"became full: [\d.]+ [kM]?B more are needed, [\d.]+ k?B are free", str(result.error.cause))  # type: ignore[union-attr]
    kept = parts()
    assert kept[sha(WEIGHTS[BIG])] > MIB / 2
    assert Path(BIG).name not in final_names(root())
    refused(get(), "disk-full")
    hub.rate = None
    (disk / "filler").unlink()
    hub.settled()
    hub.log.clear()
    (done,) = right(get()).of(Downloaded)
    assert hub.fetched(BIG_URL) == [(kept[sha(WEIGHTS[BIG])], 3 * MIB)]
    assert done.fetched_bytes == TOTAL - sum(kept.values()) - sum(
        len(data) for name, data in WANTED.items() if not hub.requests("GET", f"*/resolve/*/{name}")
    )


def test_a_folder_that_cannot_be_written(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").write_text("a file")
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    refused(get(), "cannot-write")
    assert (tmp_path / "models").read_text() == "a file"


# --- listings from somebody hostile -----------------------------------------------------------------------------------

Rows = list[dict[str, Any]]


def named(*names: object) -> Callable[[Rows], list[Any]]:
    """The true listing with files of these names more."""
    return lambda rows: [*rows, *({**rows[-1], "path": name} for name in names)]


def of_big(**values: Any) -> Callable[[Rows], list[Any]]:
    """The true listing with other values for one file; `lfs` is merged."""

    def lie(rows: Rows) -> list[Any]:
        for row in rows:
            if row["path"] == BIG:
                row |= {**values, "lfs": {**row["lfs"], **values["lfs"]} if "lfs" in values else row["lfs"]}
        return list(rows)

    return lie


HOSTILE: dict[str, Callable[[Rows], list[Any]]] = {
    "up": named("../outside.json"),
    "up from inside": named("vae/../../../outside.json"),
    "up at the end": named("vae/.."),
    "here": named("./vae.json"),
    "absolute": named("/tmp/outside.json"),
    "two slashes": named("vae//x.json"),
    "slash at the end": named("vae/"),
    "backslash": named("..\\outside.json"),
    "newline": named("a\nb.json"),
    "escape": named("\x1b[2Jx.json"),
    "nul": named("a\0b.json"),
    "c1": named("a\x9bb.json"),
    "bidi": named("a\u202egnp.json"),
    "isolate": named("a\u2066b.json"),
    "line separator": named("a\u2028b.json"),
    "surrogate": named("a\ud800b.json"),
    "no name": named(""),
    "null": named(None),
    "number": named(7),
    "list": named(["a"]),
    "10 kB": named("a" * 10_000 + ".json"),
    "10 kB of folders": named("/".join(["abc"] * 2_500)),
    "file and folder": named("vae"),
    "folder of a file": named(f"{SMALL}/x.json"),
    "twice": named("model_index.json"),
    "a hundred thousand": named(*(f"f{n}.json" for n in range(100_000))),
    "negative": of_big(size=-1, lfs={"size": -1}),
    "huge": of_big(lfs={"size": 1 << 60}),
    "true": of_big(lfs={"size": True}),
    "text": of_big(lfs={"size": "3145728"}),
    "fraction": of_big(lfs={"size": 1.5}),
    "no size": of_big(lfs={"size": None}),
    "digest of a number": of_big(lfs={"sha256": 7, "oid": 7}),
    "digest of a list": of_big(lfs={"sha256": [1], "oid": [1]}),
    "digest too short": of_big(lfs={"sha256": "ab", "oid": "ab"}),
    "digest that is a path": of_big(lfs={"sha256": "../" * 21 + "x", "oid": "../" * 21 + "x"}),
    "digest in capitals": of_big(lfs={"sha256": "AB" * 32, "oid": "AB" * 32}),
    "digest and newline": of_big(lfs={"sha256": "ab" * 32 + "\n", "oid": "ab" * 32 + "\n"}),
    "no digest": lambda rows: [{**row, "lfs": None, "oid": None} for row in rows],
    "row of text": lambda rows: [*rows, "model.json"],
    "row of null": lambda rows: [*rows, None],
}


@pytest.mark.parametrize("lie", HOSTILE)
@pytest.mark.sampled(3)
def test_a_hostile_listing_is_refused_whole(lie: str, hub: LocalHub, tmp_path: Path) -> None:
    hub.rewrite(REPO, HOSTILE[lie])
    result = get(Manners(stalled_s=10))
    assert result.code in ("bad-listing", "bad-answer")
    refused(result, result.code)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202a-\u202e\u2066-\u2069]", str(result.error))
    assert len(str(result.error)) < 400
    nothing_here(tmp_path)


@pytest.mark.parametrize("commit", ["main", "../../x", "A" * 40, "0" * 39, "", "0" * 41])
def test_a_commit_that_is_none(commit: str, hub: LocalHub, tmp_path: Path) -> None:
    hub.rewrite(REPO, commit=commit)
    refused(get(), "bad-listing")
    nothing_here(tmp_path)


def one_answer(body: bytes, *headers: bytes) -> Iterator[str]:
    """A server that gives everybody the same bytes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    head = b"".join(header + b"\r\n" for header in headers)
                    connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"Connection: close\r\n\r\n" + body)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_another_commit_than_was_asked_for(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = {"rfilename": "model_index.json", "size": 2, "blobId": "a" * 40}
    for url in one_answer(json.dumps({"sha": "f" * 40, "siblings": [row]}).encode()):
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert "ffffffff" in str(refused(get(revision="a" * 40), "bad-answer").error.cause)  # type: ignore[union-attr]
    nothing_here(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>log in</html>",
        b"[]",
        b"null",
        b"7",
        b'{"siblings": 7, "sha": "x"}',
        b'{"siblings": {}}',
        b'{"siblings": [[]], "sha": "x"}',
        b'{"siblings": [{"rfilename": "a", "lfs": "text"}], "sha": "x"}',
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"siblings": [], "sha": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_that_is_no_listing(body: bytes, repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url in one_answer(body):
        monkeypatch.setenv("HF_ENDPOINT", url)
        refused(get(), "bad-answer")
    nothing_here(tmp_path)


def test_a_listing_that_comes_compressed_is_read(hub: LocalHub) -> None:
    hub.fault(API, gzip=True)
    right(get())


def test_a_listing_without_end(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(API, endless=True, chunked=True)
    assert "longer than" in str(refused(get(), "bad-answer").error.cause)  # type: ignore[union-attr]
    nothing_here(tmp_path)


@pytest.mark.parametrize("lacking", ["", "vae/", "transformer/"])
def test_a_repository_that_holds_no_model(lacking: str, hub: LocalHub, tmp_path: Path) -> None:
    hub.rewrite(REPO, lambda rows: [row for row in rows if not row["path"].startswith(lacking)])
    assert lacking.strip("/") in str(refused(get(), "not-in-repository").error)
    nothing_here(tmp_path)


@pytest.mark.parametrize("lie", [1000, 3 * MIB - 1, 3 * MIB + 1, 1 << 49])
def test_a_size_that_lies(lie: int, layout: str, hub: LocalHub) -> None:
    hub.rewrite(REPO, of_big(lfs={"size": lie}, size=lie))
    refused(get(), "disk-full" if lie == 1 << 49 else "bad-answer")
    assert not {sha(WEIGHTS[BIG]), Path(BIG).name} & final_names()
    assert not hub.requests("GET", FILES) or lie < 1 << 49


def test_one_digest_with_two_sizes(hub: LocalHub) -> None:
    def lie(rows: Rows) -> list[Any]:
        big = next(row for row in rows if row["path"] == BIG)
        return [*rows, {**big, "path": "vae/twin.safetensors", "size": 5, "lfs": {**big["lfs"], "size": 5}}]

    hub.rewrite(REPO, lie)
    assert get().code in ("bad-listing", "not-whole")


@pytest.mark.parametrize(
    "link", ["vae", "transformer", OURS, f"{OURS}/parts", "blobs", "snapshots", "refs", "vae/config.json"]
)
def test_nothing_is_written_through_a_link_that_leads_out(
    link: str, layout: str, hub: LocalHub, tmp_path: Path
) -> None:
    """Somebody else put it into a folder that several share."""
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (outside / "config.json").write_text("theirs")
    place = root() / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / "config.json" if link.endswith(".json") else outside)
    inside_cache = link in ("blobs", "snapshots", "refs")
    result = get()
    elsewhere = inside_cache != (layout == "cache") and not link.startswith(OURS)
    if link.endswith(".json") and layout == "plain":
        refused(result, "foreign-files")
    elif link.endswith(".json") or elsewhere:
        right(result)
    else:
        refused(result, "unsafe-folder")
    assert sorted(path.name for path in outside.iterdir()) == ["config.json", "kept"]
    assert (outside / "config.json").read_text() == "theirs"


def test_names_are_data(layout: str, hub: LocalHub) -> None:
    odd = {
        "vae/[red]x[/red].json": b"1",
        "vae/100% {0} $HOME ü ~.json": b"2",
        "vae/-rf #?&.safetensors": b"3",
        "%2e": b"4",
    }
    publish(hub.root / REPO, odd)
    result = right(get(), WANTED | odd)
    assert {event.file for event in result.of(Download)} == set(WANTED | odd)


# --- bytes that are here already --------------------------------------------------------------------------------------


def blob_elsewhere(data: bytes, name: str | None = None) -> Path:
    folder = Path(os.environ["HF_HOME"], "hub", "models--other--thing", "blobs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name or sha(data))).write_bytes(data)
    return folder / (name or sha(data))


def test_what_another_repository_has_is_linked(layout: str, hub: LocalHub) -> None:
    blob = blob_elsewhere(WEIGHTS[BIG])
    result = right(get())
    assert not hub.requests("GET", BIG_URL)
    assert result.copy and os.path.samefile(result.copy.path / BIG, blob)  # type: ignore[operator]
    assert result.of(Downloaded)[0].fetched_bytes == TOTAL - len(WEIGHTS[BIG])
    assert result.copy.shared_bytes == len(WEIGHTS[BIG])


def test_another_plain_folder_is_shared_with(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    right(get())
    publish(hub.root / "demo/second", WANTED)
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest(tmp_path / "own.toml", repo="demo/second")))
    hub.log.clear()
    result = get()
    assert result.copy and result.copy.state == "verified"
    assert not hub.requests("GET", "*.safetensors")
    assert os.path.samefile(result.copy.path / BIG, root() / BIG)  # type: ignore[operator]


@pytest.mark.parametrize("bad", [b"x" * 3 * MIB, b"short", b""])
def test_a_name_elsewhere_proves_nothing(bad: bytes, layout: str, hub: LocalHub) -> None:
    blob = blob_elsewhere(bad, sha(WEIGHTS[BIG]))
    right(get())
    assert blob.read_bytes() == bad
    assert len(hub.requests("GET", BIG_URL)) == 1


def test_equal_files_are_fetched_once(layout: str, hub: LocalHub) -> None:
    more = {"transformer_2/same.safetensors": WEIGHTS[BIG], "transformer_2/config.json": TEXTS[SMALL]}
    publish(hub.root / REPO, more)
    result = right(get(), WANTED | more)
    assert len(hub.requests("GET", "*.safetensors")) == 2
    assert len(hub.requests("GET", "*/*config.json")) == 2
    assert result.copy and os.path.samefile(result.copy.path / BIG, result.copy.path / "transformer_2/same.safetensors")  # type: ignore[operator]
    assert result.of(Downloaded)[0].fetched_bytes == TOTAL


def test_a_file_that_was_damaged_here_is_fetched_again(layout: str, hub: LocalHub) -> None:
    result = right(get())
    assert result.copy and result.copy.path
    file = (result.copy.path / BIG).resolve()
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(MIB)
        stream.write(b"damaged")
    hub.log.clear()
    right(get())
    assert [r.path.rpartition("/")[2] for r in hub.log] == [Path(BIG).name]


def test_counting_what_is_here_is_told(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model another program left is hashed before anything else, for minutes when it is large."""
    blob_elsewhere(WEIGHTS[BIG])
    real = store.has_bytes

    def slow(path: Path, file: File, digests: Digests, control: Control, *tick: Callable[[int], None]) -> Any:
        if path.is_file() and tick:
            tick[0](MIB)
            control.wait(0.9)
        return real(path, file, digests, control)

    monkeypatch.setattr("engine.library.download.has_bytes", slow)
    result = right(get())
    assert_forward(result)
    assert MIB in [event.done for event in result.of(Download) if event.file == BIG]
    assert not any(event.rate for event in result.of(Download) if event.file == BIG)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_rate_limit_holds(hub: LocalHub) -> None:
    run = wan_tui("models", "download", "mine", "--json", "--limit-rate", "3MB")
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert (run.returncode, told[-1]["event"]) == (0, "downloaded")
    pieces = [event for event in told if event["event"] == "download"]
    pace = TOTAL / told[-1]["seconds"]
    assert pace < 1.15 * 3e6
    late = [event for event in pieces if event["all_done"] > TOTAL / 2 and event["done"] < event["total"]]
    assert late
    for event in late:
        assert event["all_rate"] < 1.3 * 3e6
        assert event["eta_s"] == pytest.approx((TOTAL - event["all_done"]) / event["all_rate"], abs=0.5)
    assert len(pieces) < 2.6 * told[-1]["seconds"] * 2 + len(WANTED)  # two files are on their way, then one


def test_events_go_forward_and_end_at_the_whole(hub: LocalHub) -> None:
    hub.rate = 4e6
    hub.fault(BIG_URL, drop_after=700_000)
    result = right(get())
    assert_forward(result)


def test_events_of_a_resume_begin_at_what_is_here(hub: LocalHub) -> None:
    cut_short(hub, 2 * MIB)
    hub.rate = 1e6
    result = right(get())
    assert_forward(result)
    assert all(e.all_done >= 2 * MIB for e in result.of(Download)[-2:])
    rates = [e.all_rate for e in result.of(Download) if e.all_rate]
    assert max(rates) < 3e6  # what was here already is no speed


def assert_forward(result: Try) -> None:
    events: list[Download] = result.of(Download)
    for name in WANTED:
        done = [event.done for event in events if event.file == name]
        assert done == sorted(done) and done[-1] == len(WANTED[name]), name
    assert [event.all_done for event in events] == sorted(event.all_done for event in events)
    assert {event.all_total for event in events} == {TOTAL}
    assert all(event.done <= event.total == len(WANTED[event.file]) for event in events)
    assert (events[-1].all_done, events[-1].eta_s in (None, 0.0)) == (TOTAL, True)
    assert all(event.rate is None or event.rate >= 0 for event in events)
    assert all(event.eta_s is None or event.eta_s >= 0 for event in events)


# --- beside other programs --------------------------------------------------------------------------------------------


def hub_cache() -> Path:
    return Path(os.environ["HF_HOME"], "hub")


def test_the_client_of_the_hub_finds_what_we_fetched(hub: LocalHub) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    result = right(get())
    assert result.copy and result.copy.path and result.copy.revision
    hub.log.clear()
    for revision in (result.copy.revision, "main"):
        found = snapshot_download(
            REPO, revision=revision, cache_dir=hub_cache(), endpoint=hub.url, local_files_only=True
        )
        assert Path(found) == result.copy.path
    assert not hub.log
    snapshot_download(REPO, cache_dir=hub_cache(), endpoint=hub.url, ignore_patterns=list(LEFT_OUT))
    assert not hub.requests("GET", FILES)
    scanned = scan_cache_dir(hub_cache())
    assert not scanned.warnings
    (one,) = scanned.repos
    assert (one.repo_id, one.size_on_disk) == (REPO, TOTAL)
    assert [revision.commit_hash for revision in one.revisions] == [result.copy.revision]
    assert {ref for revision in one.revisions for ref in revision.refs} == {"main"}


def test_we_find_what_the_client_of_the_hub_fetched(hub: LocalHub) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(REPO, cache_dir=hub_cache(), endpoint=hub.url, ignore_patterns=list(LEFT_OUT))
    item = Item(*load_catalog().find("mine"))
    found = look(item, Digests())
    assert (found.state, found.path) == ("complete", Path(folder))
    hub.log.clear()
    result = right(get())
    assert result.of(Downloaded)[0].fetched_bytes == 0
    assert not hub.log
    assert result.copy and result.copy.path == Path(folder)


def test_a_part_of_what_the_client_fetched_is_enough(hub: LocalHub) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, BIG, cache_dir=hub_cache(), endpoint=hub.url)
    hub.log.clear()
    right(get())
    assert not hub.requests("GET", BIG_URL)


def test_diffusers_loads_what_we_fetched_without_a_request(
    hub: LocalHub, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    import torch
    from diffusers import WanPipeline

    shutil.copytree(tiny_model("t2v"), hub.root / "demo/tiny", ignore=shutil.ignore_patterns("*.bin"))
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest(tmp_path / "own.toml", repo="demo/tiny")))
    result = get()
    assert result.copy and result.copy.state == "verified"
    hub.log.clear()
    pipeline = WanPipeline.from_pretrained(str(result.copy.path), dtype=torch.float32)
    assert pipeline.transformer is not None
    assert not hub.log


# --- revisions --------------------------------------------------------------------------------------------------------


def test_a_pinned_commit(layout: str, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = hub.resolve(REPO, "main")[0]  # type: ignore[index]
    publish(hub.root / "demo/mine@old", WANTED | LEFT_OUT)
    publish(hub.root / REPO, {SMALL: b"moved on"})
    assert hub.resolve(REPO, "main")[0] != pinned  # type: ignore[index]
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest(tmp_path / "own.toml", revision=pinned)))
    assert right(get()).of(Downloaded)[0].revision == pinned
    assert [r.path for r in hub.requests("GET", API)] == [f"/api/models/{REPO}/revision/{pinned}"]
    hub.log.clear()
    assert right(get()).of(Downloaded)[0].fetched_bytes == 0
    assert not hub.log
    assert not (root() / "refs").exists()


def test_a_branch_that_moved(layout: str, hub: LocalHub) -> None:
    before = right(get()).copy
    news = {SMALL: b'{"z_dim": 48}', "vae/new.safetensors": noise("new", MIB)}
    publish(hub.root / REPO, news)
    (hub.root / REPO / MIDDLE).unlink()
    hub.log.clear()
    assert right(get()).copy == before  # without a revision what is here is kept
    assert not hub.log
    now = {name: data for name, data in (WANTED | news).items() if name != MIDDLE}
    result = right(get(revision="main"), now)
    assert sorted(r.path.partition("/resolve/")[2].split("/", 1)[1] for r in hub.requests("GET", FILES)) == sorted(news)
    assert result.of(Downloaded)[0].fetched_bytes == sum(map(len, news.values()))
    hub.log.clear()
    after = right(get(), now).copy
    assert after and before and after.revision == hub.resolve(REPO, "main")[0] != before.revision  # type: ignore[index]
    assert not hub.log
    if layout == "plain":
        assert not (root() / MIDDLE).exists()


def test_a_branch_with_a_slash_and_a_commit_asked_for(layout: str, hub: LocalHub) -> None:
    other = WANTED | {SMALL: b"of the branch"}
    publish(hub.root / "demo/mine@v2", other)
    commit = hub.resolve(REPO, "v2")[0]  # type: ignore[index]
    right(get(revision="v2"), other)
    right(get(revision=commit), other)
    assert right(get(revision="main")).copy.revision != commit  # type: ignore[union-attr]


def test_a_commit_that_is_not_the_one_here(layout: str, hub: LocalHub) -> None:
    right(get())
    publish(hub.root / "demo/mine@v2", WANTED | {SMALL: b"of the branch"})
    commit = hub.resolve(REPO, "v2")[0]  # type: ignore[index]
    hub.log.clear()
    assert get(revision=commit).error is None
    folder = root() / "snapshots" / commit if layout == "cache" else root()
    assert (folder / SMALL).read_bytes() == b"of the branch"
    assert (folder / BIG).read_bytes() == WEIGHTS[BIG]
    assert [r.path.rpartition("/")[2] for r in hub.log] == [commit, "config.json"]


def test_a_listing_that_lied_is_forgotten_when_it_is_asked_for_again(layout: str, hub: LocalHub) -> None:
    hub.rewrite(REPO, of_big(lfs={"size": 1000}, size=1000))
    refused(get(), "bad-answer")
    hub.rewrite(REPO)
    right(get(revision="main"))
