"""The real huggingface_hub client against local_hub: what an application's tests can rely on."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import HfApi, close_session, constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, IncompleteSnapshotError, RepositoryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils.tqdm import silent_tqdm

from tests.local_hub import LocalHub, Remote, _Pace, spawn

REPO, BIG = "demo/model", "*/resolve/*/weights.safetensors"
FILE, MODEL = f"/{REPO}/resolve/main/weights.safetensors", f"/api/models/{REPO}?blobs=true"
WEIGHTS = hashlib.shake_256(b"weights").digest(3 << 20)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    for repo in ("model", "gated", "secret"):
        folder = tmp_path / "hub" / "demo" / repo
        (folder / "vae").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"repo": repo}))
        (folder / "vae" / "config.json").write_text("{}")
        (folder / "weights.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 18)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    with LocalHub(tmp_path / "hub", gated={"demo/gated": {"tok"}}, private={"demo/secret": {"tok"}}) as running:
        yield running


def get(hub: LocalHub, where: Path, repo: str = REPO, **kwargs: Any) -> Path:
    return Path(snapshot_download(repo, endpoint=hub.url, cache_dir=where, **kwargs))


def test_metadata_names_sizes_and_digests(hub: LocalHub) -> None:
    info = HfApi(hub.url).model_info(REPO, files_metadata=True)
    files = {s.rfilename: s for s in info.siblings or []}
    weights = files["weights.safetensors"]
    assert weights.lfs and weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert weights.size == len(WEIGHTS) and files["config.json"].lfs is None
    assert {e.path for e in HfApi(hub.url).list_repo_tree(REPO, recursive=True)} == {*files, "vae"}


def test_tree_is_paged(hub: LocalHub) -> None:
    hub.page_size = 2
    assert len(list(HfApi(hub.url).list_repo_tree(REPO, recursive=True))) == 4
    assert len(hub.requests("GET", "*/tree/*")) == 2


def test_second_download_of_a_pinned_commit_asks_nothing(hub: LocalHub, tmp_path: Path) -> None:
    snapshot = get(hub, tmp_path / "c")
    hub.log.clear()
    assert get(hub, tmp_path / "c", revision=snapshot.name) == snapshot and not hub.log


def test_offline_knows_a_missing_file(hub: LocalHub, tmp_path: Path) -> None:
    snapshot = get(hub, tmp_path / "c")
    (snapshot / "vae" / "config.json").unlink()
    with pytest.raises(IncompleteSnapshotError):
        get(hub, tmp_path / "c", local_files_only=True)


def test_closed_connection_is_resumed_within_the_call(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, drop_after=1 << 20, times=1)
    assert (get(hub, tmp_path / "c") / "weights.safetensors").read_bytes() == WEIGHTS
    assert [r.range for r in hub.requests("GET", BIG)] == [None, f"bytes={1 << 20}-"]


def test_reset_connection_is_not_retried_and_nothing_is_kept(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, drop_after=1 << 20, reset=True, times=1)
    with pytest.raises(httpx2.ReadError):
        get(hub, tmp_path / "c")
    assert not list((tmp_path / "c").rglob("*.incomplete"))
    get(hub, tmp_path / "c")
    assert [r.range for r in hub.requests("GET", BIG)] == [None, None]  # from the first byte again


def test_stall_is_timed_out_and_resumed(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, stall_after=1 << 20, times=1)
    begun = time.monotonic()
    get(hub, tmp_path / "c")
    assert time.monotonic() - begun < 5


def test_one_flipped_byte_passes_the_client_and_fails_verification(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, corrupt_at=12345)
    snapshot = get(hub, tmp_path / "c")
    assert hashlib.sha256((snapshot / "weights.safetensors").read_bytes()).digest() != hashlib.sha256(WEIGHTS).digest()
    report = HfApi(hub.url).verify_repo_checksums(REPO, cache_dir=tmp_path / "c")
    assert [m["path"] for m in report.mismatches] == ["weights.safetensors"]


def test_short_body_is_refused(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, short_by=7)
    with pytest.raises(OSError, match="Consistency check failed"):
        get(hub, tmp_path / "c")


@pytest.mark.parametrize(
    ("repo", "token", "error", "status"),
    [
        ("demo/gated", None, GatedRepoError, 401),
        ("demo/gated", "bad", GatedRepoError, 403),
        ("demo/secret", None, RepositoryNotFoundError, 401),
        ("demo/none", "tok", RepositoryNotFoundError, 404),
    ],
)
def test_access(
    hub: LocalHub, tmp_path: Path, repo: str, token: str | None, error: type[HfHubHTTPError], status: int
) -> None:
    with pytest.raises(error) as caught:
        get(hub, tmp_path / "c", repo, token=token or False)
    assert caught.value.response.status_code == status


def test_token_lets_in_and_is_kept_from_the_cdn(hub: LocalHub, tmp_path: Path) -> None:
    hub.cdn = True
    get(hub, tmp_path / "c", "demo/gated", token="tok")
    assert [r.token for r in hub.requests("GET", "/__cdn__/*")] == [None]


def test_own_part_file_resumes_across_calls(hub: LocalHub, tmp_path: Path) -> None:
    url, part = hf_hub_url(REPO, "weights.safetensors", endpoint=hub.url), tmp_path / "part"
    size = get_hf_file_metadata(url).size
    hub.fault(BIG, drop_after=1 << 20, reset=True, times=1)
    for attempt in range(2):
        with part.open("ab") as file:
            try:
                http_get(url, file, resume_size=file.tell(), expected_size=size, tqdm_class=silent_tqdm)
            except httpx2.ReadError:
                assert attempt == 0
    assert part.read_bytes() == WEIGHTS and hub.requests("GET", BIG)[-1].range is not None


def test_raising_from_the_progress_bar_cancels(hub: LocalHub, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    stop = threading.Event()

    class Bar(silent_tqdm):
        n, total, format_dict = 0, 0, {"rate": None}

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise Stopped

        def __getattr__(self, name: str) -> object:
            return lambda *_, **__: None

    hub.fault(BIG, rate=1e6)
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Stopped):
        get(hub, tmp_path / "c", tqdm_class=Bar)
    assert not list((tmp_path / "c").rglob("*.incomplete"))


def ask(hub: LocalHub | Remote, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    """A plain client, which follows, decodes and retries nothing. Reading to the end closes the connection."""
    connection = HTTPConnection(hub.url.removeprefix("http://"), timeout=5)
    connection.request(method, path, headers={"Connection": "close", "Accept-Encoding": "identity", **headers})
    return connection.getresponse()


def raw(hub: LocalHub, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", hub.port), timeout=5)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client


def read(client: socket.socket, count: int) -> bytes:
    """At least so many bytes, fewer only where the other side ends."""
    data = bytearray()
    while len(data) < count and (block := client.recv(1 << 16)):
        data += block
    return bytes(data)


def siblings(hub: LocalHub) -> list[Any]:
    rows: list[Any] = json.load(ask(hub, MODEL))["siblings"]
    return rows


HOSTILE = ["../../evil", "/etc/passwd", "a\x00b", "line\nbreak", "weights.safetensors", "weights.safetensors"]


def test_rewritten_listing_reaches_model_tree_and_paths_info(hub: LocalHub) -> None:
    hub.rewrite(REPO, lambda rows: [{**rows[-1], "path": path, "size": 5} for path in HOSTILE])
    info = HfApi(hub.url).model_info(REPO, files_metadata=True)
    assert [(s.rfilename, s.size) for s in info.siblings or []] == [(path, 5) for path in HOSTILE]
    assert [s.rfilename for s in HfApi(hub.url).model_info(REPO).siblings or []] == HOSTILE
    tree = json.load(ask(hub, f"/api/models/{REPO}/tree/main?recursive=true"))
    assert [row["path"] for row in tree] == ["vae", *HOSTILE]
    assert len(HfApi(hub.url).get_paths_info(REPO, HOSTILE)) == len(HOSTILE)
    assert ask(hub, FILE).read() == WEIGHTS  # the file stays what it is
    hub.rewrite(REPO)
    assert [row["path"] for row in siblings(hub)] == ["config.json", "vae/config.json", "weights.safetensors"]


def test_rewritten_digests_and_rows_that_are_none(hub: LocalHub) -> None:
    hub.rewrite(REPO, lambda rows: [{**rows[-1], "oid": "0" * 40, "lfs": {"sha256": "1" * 64}}, None, 7, {}])
    row, *rest = siblings(hub)
    assert (row["blobId"], row["lfs"]["sha256"], rest) == ("0" * 40, "1" * 64, [None, 7, {}])


def test_listing_of_100_000_rows(hub: LocalHub) -> None:
    hub.rewrite(REPO, lambda rows: [{"path": str(n), "size": n} for n in range(100_000)])
    assert siblings(hub)[-1] == {"path": "99999", "rfilename": "99999", "size": 99999}


def test_overridden_commit_is_told_and_resolved(hub: LocalHub, tmp_path: Path) -> None:
    true = HfApi(hub.url).model_info(REPO).sha
    hub.rewrite(REPO, commit="e" * 40)
    assert get(hub, tmp_path / "c").name == "e" * 40 and true != "e" * 40
    assert HfApi(hub.url).model_info(REPO, revision=true).sha == true
    hub.rewrite(REPO, commit="../up\r\nX-Injected: 1")
    assert HfApi(hub.url).model_info(REPO).sha == "../up\r\nX-Injected: 1"
    assert ask(hub, FILE).getheader("X-Injected") is None


@pytest.mark.parametrize("sized", [True, False])
def test_endless_file_runs_past_its_size_until_the_client_goes(hub: LocalHub, sized: bool) -> None:
    hub.fault(BIG, endless=True, headers={} if sized else {"Content-Length": None})
    with raw(hub, FILE) as client:
        data = read(client, 3 * len(WEIGHTS))
    head, _, body = data.partition(b"\r\n\r\n")
    assert (f"Content-Length: {len(WEIGHTS)}".encode() in head) == sized
    assert body.startswith(WEIGHTS) and not any(body[len(WEIGHTS) :])
    assert hub.settled() and hub.requests()[0].sent >= len(body) > 2 * len(WEIGHTS)


def test_endless_chunked_file(hub: LocalHub) -> None:
    hub.fault(BIG, endless=True, chunked=True)
    answer = ask(hub, FILE)
    assert answer.getheader("Content-Length") is None and answer.getheader("Transfer-Encoding") == "chunked"
    assert answer.read(2 * len(WEIGHTS)) == WEIGHTS + bytes(len(WEIGHTS))
    answer.close()
    assert hub.settled()


def test_chunked_file_ends(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, chunked=True)
    assert ask(hub, FILE).read() == WEIGHTS
    assert (get(hub, tmp_path / "c") / "weights.safetensors").read_bytes() == WEIGHTS


def test_endless_json_never_becomes_invalid(hub: LocalHub) -> None:
    hub.fault("/api/*", endless=True, chunked=True)
    answer = ask(hub, MODEL)
    assert json.loads(answer.read(4 << 20))["id"] == REPO
    answer.close()
    assert hub.settled() and hub.requests()[0].sent >= 4 << 20


def test_endless_body_ends_with_the_hub(tmp_path: Path) -> None:
    (tmp_path / "demo" / "model").mkdir(parents=True)
    (tmp_path / "demo" / "model" / "weights.safetensors").write_bytes(WEIGHTS)
    with LocalHub(tmp_path) as hub:
        hub.fault(endless=True)
        client = raw(hub, FILE)
        assert read(client, 1)
    with client:
        assert hub.settled()  # though nobody read on and nobody went away


@pytest.mark.parametrize("size", [len(WEIGHTS) - 9, len(WEIGHTS) + 9])
def test_file_and_listing_disagree_on_the_size(hub: LocalHub, tmp_path: Path, size: int) -> None:
    hub.rewrite(REPO, lambda rows: [{**row, "size": size} for row in rows])
    assert siblings(hub)[-1]["size"] == size
    assert (get(hub, tmp_path / "c") / "weights.safetensors").stat().st_size == len(WEIGHTS)


def test_long_body_is_announced_and_served(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, short_by=-7)
    assert ask(hub, FILE).read() == WEIGHTS + bytes(7)
    with pytest.raises(OSError, match="Consistency check failed"):
        get(hub, tmp_path / "c")


@pytest.mark.parametrize("paths", [("config.json",), ("config.json", "vae/config.json")])
def test_redirect_loop(hub: LocalHub, tmp_path: Path, paths: tuple[str, ...]) -> None:
    for path, target in zip(paths, [*paths[1:], paths[0]], strict=True):
        location = "" if path == target else f"/{REPO}/resolve/main/{target}"
        hub.fault(f"*/resolve/*/{path}", redirect=location, headers={"X-Linked-Size": "1"})
    assert ask(hub, f"/{REPO}/resolve/main/config.json").status == 302
    with httpx2.Client(follow_redirects=True, trust_env=False) as client, pytest.raises(httpx2.TooManyRedirects):
        client.get(f"{hub.url}/{REPO}/resolve/main/config.json")
    assert len({r.path for r in hub.requests()}) == len(paths)


def test_redirect_to_a_foreign_scheme(hub: LocalHub) -> None:
    hub.fault(BIG, redirect="file:///etc/passwd", status=307)
    answer = ask(hub, FILE)
    assert (answer.status, answer.getheader("Location")) == (307, "file:///etc/passwd")
    with httpx2.Client(follow_redirects=True, trust_env=False) as client, pytest.raises(httpx2.UnsupportedProtocol):
        client.get(hub.url + FILE)


def test_shifted_range_says_so(hub: LocalHub) -> None:
    hub.fault(BIG, range_shift=-100)
    answer = ask(hub, FILE, Range="bytes=1000-1999")
    assert answer.status == 206 and answer.getheader("Content-Range") == f"bytes 900-1999/{len(WEIGHTS)}"
    assert answer.read() == WEIGHTS[900:2000] and hub.fetched() == [(900, 2000)]
    assert ask(hub, FILE).status == 200


@pytest.mark.parametrize("said", [None, "bytes 0-999/5"])
def test_missing_and_lying_content_range(hub: LocalHub, said: str | None) -> None:
    hub.fault(BIG, ranged=True, headers={"content-range": said})
    answer = ask(hub, FILE, Range="bytes=1000-1999")
    assert (answer.status, answer.getheader("Content-Range")) == (206, said)
    assert answer.read() == WEIGHTS[1000:2000]


def test_valid_range_is_refused_and_the_whole_file_is_not(hub: LocalHub) -> None:
    hub.fault(BIG, ranged=True, status=416)
    assert ask(hub, FILE, Range="bytes=1000-").status == 416
    assert ask(hub, FILE).status == 200 and hub.fetched() == [(0, hub.requests()[1].sent)]


def test_range_is_ignored(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, ranged=False, drop_after=1 << 20)
    hub.fault(BIG, ignore_range=True)
    assert (get(hub, tmp_path / "c") / "weights.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched(BIG) == [(0, 1 << 20), (0, len(WEIGHTS))]


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=-10", slice(-10, None)), ("bytes=5-3", slice(None)), ("bytes=0-1,4-5", slice(None)), ("x", slice(None))],
)
def test_unusual_ranges(hub: LocalHub, asked: str, part: slice) -> None:
    answer = ask(hub, FILE, Range=asked)
    assert answer.read() == WEIGHTS[part] and answer.status == (206 if part.start else 200)


def test_if_range_of_another_file_gets_the_whole(hub: LocalHub) -> None:
    etag = ask(hub, FILE, "HEAD").getheader("ETag") or ""
    assert ask(hub, FILE, Range="bytes=9-", **{"If-Range": etag}).status == 206
    assert ask(hub, FILE, Range="bytes=9-", **{"If-Range": '"other"'}).status == 200


def test_gzip_though_identity_was_asked(hub: LocalHub) -> None:
    hub.fault(gzip=True)
    answer = ask(hub, FILE, Range="bytes=100-")
    assert answer.status == 206 and answer.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.read()) == WEIGHTS[100:] and hub.fetched() == []
    assert HfApi(hub.url).model_info(REPO).id == REPO  # this client decodes


def test_every_connection_drops_and_each_is_resumed(hub: LocalHub, tmp_path: Path) -> None:
    hub.fault(BIG, drop_after=700_000)
    assert (get(hub, tmp_path / "c") / "weights.safetensors").read_bytes() == WEIGHTS
    starts = range(0, len(WEIGHTS), 1 << 19)  # this client keeps whole chunks of 1 << 18 only
    assert hub.fetched(BIG) == [(start, min(start + 700_000, len(WEIGHTS))) for start in starts]


@pytest.mark.parametrize(("where", "status", "said"), [("status", 0, b""), ("headers", 200, b"HTTP/1.1 200 OK\r\n")])
def test_stall_before_the_body(hub: LocalHub, where: str, status: int, said: bytes) -> None:
    hub.fault(MODEL.partition("?")[0], stall_in=where)
    with raw(hub, MODEL) as client:
        client.settimeout(0.2)
        data = b""
        with pytest.raises(TimeoutError):
            while block := client.recv(1 << 16):
                data += block
        assert data.startswith(said) and bool(data) == bool(said) and b"\r\n\r\n" not in data
        assert not hub.requests()[0].seconds
    assert hub.settled() and [r.status for r in hub.requests()] == [status]
    with httpx2.Client(timeout=0.2, trust_env=False) as web, pytest.raises(httpx2.ReadTimeout):
        web.get(hub.url + MODEL)


def test_stall_ends_by_itself(hub: LocalHub) -> None:
    hub.fault(stall_in="status", stall=0.1)
    with raw(hub, MODEL) as client:
        assert read(client, 1) == b""


def test_rate_of_the_server_is_shared_by_its_connections(hub: LocalHub) -> None:
    hub.rate = 15e6
    time.sleep(0.3)  # idle time is no credit
    begun = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: ask(hub, FILE).read() == WEIGHTS, range(3)))
    due = 3 * len(WEIGHTS) / 15e6
    assert 0.98 * due < time.monotonic() - begun < 1.5 * due


def test_rate_of_a_request_is_its_own(hub: LocalHub) -> None:
    hub.fault(BIG, rate=10e6)
    begun = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: ask(hub, FILE).read() == WEIGHTS, range(3)))
    due = len(WEIGHTS) / 10e6
    assert 0.98 * due < time.monotonic() - begun < 1.8 * due


def test_proxy_serves_as_the_host_that_was_asked(hub: LocalHub) -> None:
    hub.page_size = 2
    with httpx2.Client(proxy=hub.url, trust_env=False) as client:
        answer = client.get("http://hub.invalid/api/models/demo/model/tree/main?recursive=true")
        assert answer.links["next"]["url"].startswith("http://hub.invalid/api/")
        with pytest.raises(httpx2.ProxyError):
            client.get("https://hub.invalid/")
    ask(hub, MODEL).read()
    seen = [(r.method, r.host, r.proxied) for r in hub.requests()]
    assert seen[:2] == [("GET", "hub.invalid", True), ("CONNECT", "hub.invalid:443", True)]
    assert seen[2] == ("GET", hub.url.removeprefix("http://"), False)


def test_proxy_from_the_environment(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", hub.url)
    close_session()
    try:
        snapshot = snapshot_download(REPO, endpoint="http://hub.invalid", cache_dir=tmp_path / "c")
    finally:
        close_session()
    assert Path(snapshot, "weights.safetensors").read_bytes() == WEIGHTS
    assert {(r.host, r.proxied) for r in hub.requests()} == {("hub.invalid", True)}


def test_what_a_client_left_unread_is_not_counted_as_sent(hub: LocalHub, tmp_path: Path) -> None:
    with (tmp_path / "hub" / REPO / "large.bin").open("wb") as file:
        os.truncate(file.fileno(), 32 << 20)
    with raw(hub, f"/{REPO}/resolve/main/large.bin") as client:
        got = len(read(client, 1 << 20))
    [(start, end)] = hub.fetched("*/large.bin")
    assert start == 0 and got - 1000 < end < 24 << 20
    hub.rewrite(REPO, lambda rows: [{**rows[0], "filler": "x" * (32 << 20)}])
    with raw(hub, MODEL) as client:
        read(client, 1 << 20)
    assert hub.settled() and 1 << 19 < hub.requests(path="/api/*")[0].sent < 24 << 20


def test_sent_is_what_the_kernel_took(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.sendfile, iter([1000, 7])

    def sendfile(out: int, source: int, at: int, count: int) -> int:
        if (allowed := next(calls, 0)) == 0:
            raise ConnectionResetError
        return real(out, source, at, min(allowed, count))

    monkeypatch.setattr("tests.local_hub.os.sendfile", sendfile)
    with raw(hub, FILE) as client:
        assert read(client, 1 << 20).endswith(WEIGHTS[:1007])
    assert hub.fetched() == [(0, 1007)]


def test_fetched_tells_the_bytes_that_came_twice(hub: LocalHub) -> None:
    hub.fault(BIG, ranged=False, drop_after=2 << 20)
    with raw(hub, FILE) as client:
        assert len(read(client, 4 << 20)) > 2 << 20
    assert ask(hub, FILE, Range=f"bytes={1 << 20}-").read() == WEIGHTS[1 << 20 :]
    ask(hub, f"/{REPO}/resolve/main/none").read()
    ask(hub, FILE, "HEAD").read()
    assert hub.fetched() == [(0, 2 << 20), (1 << 20, 3 << 20)]
    assert hub.fetched("*.json") == [] and hub.requests("HEAD")[0].start is None


def test_edited_file_moves_the_commit_at_once(hub: LocalHub, tmp_path: Path) -> None:
    seen, file, tick = set(), tmp_path / "hub" / REPO / "config.json", time.time_ns() + 10**10
    for n in range(20):
        file.write_text(str(n % 10))
        os.utime(file, ns=(tick, tick))  # as if all within one tick of the clock
        seen.add(HfApi(hub.url).model_info(REPO).sha)
    assert len(seen) == 10


def test_small_answers_are_not_held_back(hub: LocalHub) -> None:
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=5)
    begun = time.monotonic()
    for _ in range(10):
        connection.request("GET", MODEL)
        assert connection.getresponse().read()
    connection.close()
    assert time.monotonic() - begun < 0.2


def test_own_process(hub: LocalHub) -> None:
    with spawn(hub.root, gated={"demo/gated": {"tok"}}, page_size=2) as remote:
        assert HfApi(remote.url).model_info(REPO).id == REPO
        assert ask(remote, "/demo/gated/resolve/main/config.json", Authorization="Bearer tok").status == 200
        assert ask(remote, "/demo/gated/resolve/main/config.json").status == 401
        remote.clear_log()
        remote.fault(BIG, drop_after=1 << 20, times=1)
        with pytest.raises(TypeError):
            remote.fault(BIG, no_such=1)
        assert len(ask(remote, FILE).read(1 << 20)) == 1 << 20
        assert remote.fetched(BIG) == [(0, 1 << 20)] and [r.status for r in remote.requests("GET", BIG)] == [200]
        remote.fault(BIG, status=503)
        assert ask(remote, FILE).status == 503
        remote.clear_faults()
        assert ask(remote, FILE).read() == WEIGHTS
        with pytest.raises(ValueError, match="no such setting"):
            remote.set(speed=1)
        remote.set(rate=100e6)
        begun = time.monotonic()
        for _ in range(10):
            assert ask(remote, FILE).read() == WEIGHTS
        assert time.monotonic() - begun > 0.98 * 10 * len(WEIGHTS) / 100e6
        begun = time.monotonic()
    assert time.monotonic() - begun < 4  # it went by itself
    with pytest.raises(ConnectionRefusedError):
        ask(remote, FILE)


def test_a_late_block_does_not_delay_the_next() -> None:
    with _Pace() as pace:
        due = pace.book(1000, 1e5)
        time.sleep(0.03)
        assert pace.book(1000, 1e5) - due == pytest.approx(0.01)


@pytest.mark.soak
def test_200_mb_per_second_are_held(hub: LocalHub, tmp_path: Path) -> None:
    with (tmp_path / "hub" / REPO / "large.bin").open("wb") as file:
        os.truncate(file.fileno(), 40_000_000)
    with spawn(hub.root, rate=200e6) as remote:
        path, took = f"/{REPO}/resolve/main/large.bin", []
        ask(remote, path, "HEAD")  # hashed
        for _ in range(2):
            begun, answer = time.monotonic(), ask(remote, path)
            while answer.read(1 << 20):
                pass
            took.append(time.monotonic() - begun)
    assert 0.195 < min(took) < 0.22 and max(took) < 0.5


def test_command_line(hub: LocalHub) -> None:
    command = [sys.executable, "-m", "tests.local_hub", str(hub.root), "--port", "0", "--rate", "20e6"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout and process.stderr
        try:
            name, _, url = process.stdout.readline().strip().partition("=")
            begun = time.monotonic()
            assert name == "HF_ENDPOINT" and ask(Remote(url), FILE).read() == WEIGHTS
            assert time.monotonic() - begun > 0.98 * len(WEIGHTS) / 20e6
            process.terminate()
            assert process.wait(5) == 0 and not process.stderr.read()
        finally:
            process.kill()
