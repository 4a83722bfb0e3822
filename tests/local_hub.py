#!/usr/bin/env python3
"""A loopback stand-in for the Hugging Face Hub, for tests: standard library only, one file.

It serves ``ROOT/<owner>/<name>/**`` as model repositories and speaks enough of the Hub's HTTP API for the real,
unmodified ``huggingface_hub`` client when ``HF_ENDPOINT`` (set before the import) or ``endpoint=`` names it:

    GET              /api/models/{repo}[/revision/{rev}][?blobs=true]    model_info(files_metadata=...)
    GET              /api/models/{repo}/tree/{rev}[/{dir}]?recursive=    list_repo_tree, paged by a Link header
    POST             /api/models/{repo}/paths-info/{rev}                 get_paths_info
    HEAD/GET         /{repo}/resolve/{rev}/{path}                        ETag, X-Repo-Commit, X-Linked-*, Range
    GET/POST/DELETE  /__hub__/faults, /__hub__/log, /__hub__/settings    control from another process

A request with an absolute URI (``GET http://host/path``) is served as if by that host, so the url is a value for
``HTTP_PROXY`` too. TLS is not spoken: ``CONNECT`` is logged and refused.

A folder ``<name>@<rev>`` beside ``<name>`` is a further branch of that repository. A commit id is the SHA-1 of
the listing, so editing a file moves the commit as a push would. Weight files (by extension, or larger than
``lfs_threshold``) are LFS: their ETag is the SHA-256; any other file's is its git blob id.

Faults are declared, never random: the first ``Fault`` whose glob and method match a request is applied to it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".zip", ".mp4")
BLOCK = 1 << 20  # handed to the kernel at once; fewer when paced
PACED = 0.005  # seconds that one block of a paced body lasts
CATCH_UP = 0.25  # seconds of oversleeping, or of a slow reader, that a paced body may make good
SETTINGS = ("rate", "page_size", "cdn", "lfs_threshold")

Row = dict[str, Any]
Rewrite = Callable[[list[Row]], list[Any]]


@dataclass
class Fault:
    """One misbehaviour. ``path`` is a glob over the URL path; ``times`` < 0 means for ever.

    What is said of a body holds for files and JSON answers alike, unless it names the file.
    """

    path: str = "*"
    method: str = "GET"  # a glob: GET, HEAD, POST, *
    ranged: bool | None = None  # only requests with (True) or without (False) a Range header
    times: int = -1
    status: int | None = None  # answer this status instead of serving
    code: str | None = None  # X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound
    message: str = "injected fault"  # X-Error-Message
    redirect: str | None = None  # answer 302, or status, to this Location; "" is the request's own URL
    headers: dict[str, str | None] = field(default_factory=dict)  # put over those of any answer; None takes one out
    delay: float = 0.0  # seconds before the status line
    stall_in: str = ""  # "status": never answer; "headers": fall silent in the middle of a header
    rate: float | None = None  # body bytes per second
    drop_after: int | None = None  # send this many body bytes, then close the connection
    reset: bool = False  # with drop_after: TCP RST rather than FIN
    stall_after: int | None = None  # send this many body bytes, then hold the connection open and silent
    stall: float = 3600.0  # for how long, in the status, headers or body; then the connection is closed
    endless: bool = False  # keep sending past the announced Content-Length until the client goes
    chunked: bool = False  # Transfer-Encoding: chunked, with no Content-Length
    gzip: bool = False  # Content-Encoding: gzip, whatever the client accepts
    corrupt_at: int | None = None  # flip the bits of the byte at this offset of the file
    short_by: int = 0  # serve and announce this many bytes of the file too few; below 0, too many
    ignore_range: bool = False  # answer 200 with the whole file to a Range request
    range_shift: int = 0  # serve, and say so in Content-Range, a range that starts this much later than asked


@dataclass
class Request:
    """What a client asked and what it was given, for assertions. Logged on arrival, filled in as it is served."""

    method: str
    path: str
    query: str
    range: str | None
    token: str | None
    status: int = 0  # 0: no status line was sent
    sent: int = 0  # body bytes handed to the kernel, chunk framing left out
    seconds: float = 0.0  # 0 while under way
    start: int | None = None  # offset in the file of the first body byte; None: the body is not bytes of a file
    host: str = ""  # of the absolute URI, else of the Host header
    proxied: bool = False  # asked with an absolute URI, or CONNECT


@dataclass(frozen=True)
class Entry:
    """One file of a repository at a commit. ``sha256`` is set for LFS files only."""

    path: str
    file: Path
    size: int
    oid: str
    sha256: str | None
    xet: str | None

    def json(self) -> Row:
        """The row of the model, the tree and the paths-info answers at once: each reader takes the keys it knows."""
        row: Row = {"type": "file", "path": self.path, "rfilename": self.path, "size": self.size, "oid": self.oid}
        row |= {"blobId": self.oid, "xetHash": self.xet}
        if self.sha256:
            row["lfs"] = {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": 134}
        return row


class _Logged:
    """Questions about the log, the same in the server's process and outside it."""

    def records(self) -> list[Request]:
        raise NotImplementedError

    def requests(self, method: str = "*", path: str = "*") -> list[Request]:
        """The logged requests whose method and path match these globs, oldest first."""
        return [r for r in self.records() if fnmatch(r.method, method) and fnmatch(r.path, path)]

    def settled(self, path: str = "*", wait: float = 2.0) -> bool:
        """Whether every matching request is over, waiting at most this long: a client has its last byte a moment
        before the server's record has."""
        until = time.monotonic() + wait
        while not (done := all(r.seconds for r in self.requests(path=path))) and time.monotonic() < until:
            time.sleep(0.002)
        return done

    def fetched(self, path: str = "*", wait: float = 2.0) -> list[tuple[int, int]]:
        """The ranges ``(start, end)`` of file bytes that GETs of these paths were sent, oldest first. Waits for
        those under way as ``settled`` does. What a client that left had not read yet is counted with the rest."""
        self.settled(path, wait)
        return [(r.start, r.start + r.sent) for r in self.requests("GET", path) if r.start is not None and r.sent]


class _Pace:
    """One flow of bytes, shared by every body that draws on it; times are absolute, so lateness does not add up."""

    def __init__(self) -> None:
        self.lock, self.users, self.due = threading.Lock(), 0, 0.0

    def __enter__(self) -> Self:
        with self.lock:
            if not self.users:  # idle time is not saved up for a burst
                self.due = time.monotonic()
            self.users += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1

    def book(self, count: int, rate: float) -> float:
        """When these next bytes may go."""
        with self.lock:
            self.due = max(self.due, time.monotonic() - CATCH_UP) + count / rate
            return self.due


class LocalHub(_Logged):
    """The server, a context manager; ``url`` is the value for ``HF_ENDPOINT``."""

    def __init__(
        self,
        root: str | Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        lfs_threshold: int = 10 << 20,
        gated: dict[str, set[str]] | None = None,
        private: dict[str, set[str]] | None = None,
        cdn: bool = False,
        page_size: int = 1000,
        xet: tuple[str, dict[str, str]] | None = None,
        rate: float | None = None,
    ) -> None:
        """``gated`` and ``private`` map a repository id to the tokens let in: a gated repository still lists its
        files, a private one does not exist to anybody else. ``cdn`` makes LFS files answer a redirect to another
        origin (``localhost``, not ``127.0.0.1``), as the Hub's storage does. ``page_size`` splits tree listings.
        ``xet`` is a CAS URL (``local://DIR`` works with ``hf_xet``) and the Xet hash of each SHA-256 kept there.
        ``rate`` is the body bytes per second of all connections together; it may be set at any time."""
        self.root, self.gated, self.private = Path(root), gated or {}, private or {}
        self.lfs_threshold, self.cdn, self.page_size, self.xet = lfs_threshold, cdn, page_size, xet or ("", {})
        self.rate, self.pace = rate, _Pace()
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.rewrites: dict[str, tuple[Rewrite | None, str | None]] = {}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._digests: dict[tuple[str, int, int, bool], str] = {}
        self._digesting = threading.Lock()
        self._server = _Server((host, port), _Handler)
        self._server.hub = self
        self.port: int = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    def records(self) -> list[Request]:
        with self.lock:
            return list(self.log)

    def fault(self, path: str = "*", **kwargs: Any) -> Fault:
        """Declare a fault; ``hub.faults.clear()`` ends them all."""
        fault = Fault(path=path, **kwargs)
        with self.lock:
            self.faults.append(fault)
        return fault

    def rewrite(self, repo: str, function: Rewrite | None = None, *, commit: str | None = None) -> None:
        """Lie about a repository: ``function`` is given the file rows of each model, tree and paths-info answer and
        returns those to send, ``commit`` stands for the commit id (and is resolved, beside the true one). What
        resolve serves stays true. ``rfilename`` and ``blobId`` follow ``path`` and ``oid``; rows that are no
        dictionaries are sent as they are. Called again it replaces; with neither, the truth is back."""
        self.rewrites[repo] = (function, commit)

    def take_fault(self, method: str, path: str, ranged: bool = False) -> Fault:
        with self.lock:
            fits = (f for f in self.faults if f.times and fnmatch(method, f.method) and fnmatch(path, f.path))
            fault = next((f for f in fits if f.ranged in (None, ranged)), Fault())
            fault.times -= fault.times > 0
            return fault

    def revisions(self, repo: str) -> dict[str, Path]:
        """Branch name -> folder; empty where there is no such repository."""
        owner, _, name = repo.partition("/")
        if not owner or not name or ".." in repo:
            return {}
        return {
            p.name.partition("@")[2] or "main": p
            for p in (self.root / owner).glob(f"{name}*")
            if p.is_dir() and p.name.partition("@")[0] == name
        }

    def listing(self, folder: Path) -> tuple[str, dict[str, Entry]]:
        """The commit id and files of one folder."""
        entries: dict[str, Entry] = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            path, size = file.relative_to(folder).as_posix(), file.stat().st_size
            if not path.endswith(LFS_SUFFIXES) and size <= self.lfs_threshold:
                entries[path] = Entry(path, file, size, self._digest(file, lfs=False), None, None)
                continue
            sha256 = self._digest(file, lfs=True)  # and what git holds is a pointer to it
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
            entries[path] = Entry(path, file, size, _git_blob(pointer.encode()), sha256, self.xet[1].get(sha256))
        text = "".join(f"{e.oid} {e.path}\n" for e in entries.values())
        return hashlib.sha1(text.encode()).hexdigest(), entries

    def _digest(self, file: Path, lfs: bool) -> str:
        """A file is hashed once until it changes, and by one request only."""
        with self._digesting:
            stat = file.stat()
            key = (str(file), stat.st_size, stat.st_mtime_ns, lfs)
            if (known := self._digests.get(key)) is not None:
                return known
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest() if lfs else _git_blob(stream.read())
            if time.time() - stat.st_mtime > 0.1:  # another write in the same tick of the clock would not show
                self._digests[key] = digest
            return digest

    def resolve(self, repo: str, revision: str) -> tuple[str, dict[str, Entry]] | None:
        """A branch name or commit id -> its listing; None where unknown."""
        revisions, said = self.revisions(repo), self.rewrites.get(repo, (None, None))[1]
        if said is not None and revision == said:
            revision = "main"
        if revision in revisions:
            commit, entries = self.listing(revisions[revision])
            return commit if said is None else said, entries
        return next((found for found in map(self.listing, revisions.values()) if found[0] == revision), None)

    def rows(self, repo: str, entries: dict[str, Entry]) -> list[Any]:
        """The file rows of a listing, as told."""
        rows: list[Any] = [entry.json() for entry in entries.values()]
        function = self.rewrites.get(repo, (None, None))[0]
        if function is None:
            return rows
        rows = function(rows)
        for row in rows:
            if isinstance(row, dict):
                row |= {twin: row[key] for key, twin in (("path", "rfilename"), ("oid", "blobId")) if key in row}
        return rows


class Remote(_Logged):
    """A hub in another process; see ``spawn``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def records(self) -> list[Request]:
        return [Request(**row) for row in self._control("GET", "log")]

    def fault(self, path: str = "*", **kwargs: Any) -> Fault:
        """As ``LocalHub.fault``; what is returned is a copy and does not count down."""
        fault = Fault(path=path, **kwargs)
        self._control("POST", "faults", asdict(fault))
        return fault

    def clear_faults(self) -> None:
        self._control("DELETE", "faults")

    def clear_log(self) -> None:
        self._control("DELETE", "log")

    def set(self, **settings: Any) -> None:
        """Change rate, page_size, cdn or lfs_threshold."""
        self._control("POST", "settings", settings)

    def _control(self, method: str, what: str, value: object = None) -> Any:
        connection = HTTPConnection(self.url.partition("//")[2], timeout=10)  # past any HTTP_PROXY
        try:
            connection.request(method, f"/__hub__/{what}", json.dumps(value))
            response = connection.getresponse()
            answer = json.load(response)
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


@contextmanager
def spawn(root: str | Path, **options: Any) -> Iterator[Remote]:
    """A hub in a process of its own, so that it and the client do not share one interpreter's lock. ``options`` are
    those of ``LocalHub``. It ends with the block, or with the process that called."""
    told = json.dumps(options, default=list)  # sets of tokens
    command = [sys.executable, "-I", __file__, str(root), "--port", "0", "--until-eof", "--options", told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            first = process.stdout.readline().strip()
            if not first.startswith("HF_ENDPOINT="):
                raise RuntimeError("the hub did not start")
            yield Remote(first.removeprefix("HF_ENDPOINT="))
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a full queue costs a client a second
    hub: LocalHub

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def hang_up(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may go whenever they like
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each small answer waits 40 ms for the acknowledgement of its headers
    server: _Server
    connection: socket.socket

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Stderr stays quiet: LocalHub.log has it all."""

    def do_GET(self) -> None:
        self.hub, begun, tunnel = self.server.hub, time.monotonic(), self.command == "CONNECT"
        url = urlsplit(f"//{self.path}" if tunnel else self.path)
        self.url_path, self.query = unquote(url.path), {k: v[0] for k, v in parse_qs(url.query).items()}
        self.base = f"http://{url.netloc}" if url.netloc else self.hub.url
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.record = Request(self.command, self.url_path, url.query, self.headers.get("Range"), self.token)
        self.record.host, self.record.proxied = url.netloc or self.headers.get("Host", ""), bool(url.netloc)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.url_path.startswith("/__hub__/"):
            return self._control(body)
        self.fault = self.hub.take_fault(self.command, self.url_path, self.record.range is not None)
        with self.hub.lock:
            self.hub.log.append(self.record)
        try:
            if self.fault.stall_in:
                self._stall_early()
            elif self.fault.delay and not self._hold(self.fault.delay):
                self.close_connection = True
            elif self.fault.redirect is not None:
                location = self.fault.redirect or self.path
                self._answer(self.fault.status or 302, {"Location": location})
            elif self.fault.status is not None:
                self._error(self.fault.status, self.fault.code, self.fault.message)
            elif tunnel:
                self._error(501, None, "TLS is not spoken here")
            else:
                self._route([unquote(p) for p in url.path.strip("/").split("/")], body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away: it cancelled, or timed out
        finally:
            self.record.seconds = time.monotonic() - begun

    do_HEAD = do_POST = do_DELETE = do_CONNECT = do_GET

    def _control(self, body: bytes) -> None:
        self.fault, hub, what, answer = Fault(), self.hub, self.url_path.removeprefix("/__hub__/"), None
        kept: list[Any] = hub.log if what == "log" else hub.faults
        try:
            with hub.lock:
                if self.command == "DELETE":
                    kept.clear()
                elif self.command == "POST" and what == "settings":
                    for name, value in json.loads(body).items():
                        if name not in SETTINGS:
                            raise ValueError(f"no such setting: {name}")
                        setattr(hub, name, value)
                elif self.command == "POST":
                    hub.faults.append(Fault(**json.loads(body)))
                answer = {n: getattr(hub, n) for n in SETTINGS} if what == "settings" else [asdict(i) for i in kept]
        except (TypeError, ValueError) as error:
            return self._error(400, None, str(error))
        return self._json(answer)

    def _route(self, parts: list[str], body: bytes) -> None:
        """``parts`` were split before unquoting, so a revision may hold a slash."""
        cdn, api = parts[0] == "__cdn__", parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if api else parts[1:3] if cdn else parts[:2])
        rest = parts[4:] if api else parts[3:] if cdn else parts[2:]
        verb, private, gated = rest[0] if rest else "revision", self.hub.private.get(repo), self.hub.gated.get(repo)
        if not self.hub.revisions(repo) or (private is not None and self.token not in private and not cdn):
            return self._error(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if api and verb == "xet-read-token":
            soon = str(int(time.time()) + 3600)
            access = {"X-Xet-Cas-Url": self.hub.xet[0], "X-Xet-Access-Token": "local", "X-Xet-Token-Expiration": soon}
            return self._answer(200, access)
        if verb not in (("revision", "tree", "paths-info") if api else ("resolve",)):
            return self._error(404, None, "no such endpoint")
        if verb == "resolve" and gated is not None and self.token not in gated and not cdn:
            return self._error(403 if self.token else 401, "GatedRepo", f"Access to model {repo} is restricted.")
        found = self.hub.resolve(repo, rest[1] if len(rest) > 1 else "main")
        if found is None:
            return self._error(404, "RevisionNotFound", "Invalid rev id")
        commit, entries = found
        if verb == "resolve":
            return self._file(repo, commit, entries.get("/".join(rest[2:])), cdn)
        rows = self.hub.rows(repo, entries)
        if verb == "tree":
            return self._tree(repo, rows, entries, "/".join(rest[2:]), self.query.get("recursive") == "true")
        if verb == "paths-info":
            asked = parse_qs(body.decode()).get("paths", [])
            return self._json([row for row in rows if not isinstance(row, dict) or row.get("path") in asked])
        if self.query.get("blobs") != "true":
            rows = [{"rfilename": row.get("rfilename")} if isinstance(row, dict) else row for row in rows]
        model = {"id": repo, "modelId": repo, "sha": commit, "private": repo in self.hub.private, "tags": []}
        model |= {"gated": "manual" if repo in self.hub.gated else False, "downloads": 0, "siblings": rows}
        return self._json({**model, "lastModified": "2025-01-01T00:00:00.000Z"})

    def _tree(self, repo: str, rows: list[Any], entries: dict[str, Entry], under: str, recursive: bool) -> None:
        prefix = f"{under}/" if under else ""
        inside = [p for p in entries if p.startswith(prefix)]
        folders = {p[:i] for p in inside for i, letter in enumerate(p) if letter == "/" and i >= len(prefix)}
        rows = [{"type": "directory", "path": p, "size": 0, "oid": _git_blob(p.encode())} for p in folders] + rows
        if self.hub.rewrites.get(repo, (None, None))[0] is None:
            rows.sort(key=lambda row: str(row["path"]))  # a rewritten listing keeps the order it was given
        else:
            rows[: len(folders)] = sorted(rows[: len(folders)], key=lambda row: str(row["path"]))

        def shown(row: Any) -> bool:
            path = str(row.get("path", prefix)) if isinstance(row, dict) else prefix
            return path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])

        rows = [row for row in rows if shown(row)]
        end = (start := int(self.query.get("cursor", 0))) + self.hub.page_size
        query = "&".join(f"{k}={quote(v)}" for k, v in {**self.query, "cursor": str(end)}.items())
        link = f'<{self.base}{quote(self.url_path)}?{query}>; rel="next"'
        self._json(rows[start:end], {"Link": link} if end < len(rows) else {})

    def _file(self, repo: str, commit: str, entry: Entry | None, cdn: bool) -> None:
        said = "".join(letter for letter in commit if " " <= letter <= "~")  # a made-up one must not break the header
        headers = {"X-Repo-Commit": said, "Accept-Ranges": "bytes"}
        if entry is None:
            return self._error(404, "EntryNotFound", "Entry not found", headers)
        headers["ETag"] = f'"{entry.sha256 or entry.oid}"'
        if entry.sha256:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(entry.size)}
        if entry.xet:
            route = f"{self.base}/api/models/{repo}/xet-read-token/{quote(commit)}"
            headers |= {"X-Xet-Hash": entry.xet, "X-Xet-Refresh-Route": route}
        if entry.sha256 and self.hub.cdn and not cdn:
            path = f"{repo}/resolve/{quote(commit, safe='')}/{quote(entry.path)}"
            return self._answer(302, {**headers, "Location": f"http://localhost:{self.hub.port}/__cdn__/{path}?sig=x"})
        status, start, end = 200, 0, entry.size - self.fault.short_by
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if self.headers.get("If-Range", headers["ETag"]) != headers["ETag"] or self.fault.ignore_range:
            asked = None
        first, last = asked.groups() if asked else ("", "")
        if (first or last) and not (first and last and int(first) > int(last)):  # else it is no range, and ignored
            start = int(first) if first else max(entry.size - int(last), 0)
            if start >= entry.size:
                return self._answer(416, {"Content-Range": f"bytes */{entry.size}"})
            end = min(end, int(last) + 1) if first and last else end
            start = min(max(start + self.fault.range_shift, 0), end)
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{entry.size}"
        with entry.file.open("rb") as stream:
            if self.fault.gzip:
                stream.seek(start)
                return self._answer(status, headers, stream.read(end - start))
            if self.command == "GET":
                self.record.start = start
            return self._serve(status, headers, stream, start, end - start)

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        if self.fault.gzip and body:
            headers, body = {**headers, "Content-Encoding": "gzip"}, gzip.compress(body, 1, mtime=0)
        self._serve(status, headers, body, 0, len(body))

    def _serve(self, status: int, headers: dict[str, str], source: BinaryIO | bytes, start: int, size: int) -> None:
        """Answer with ``size`` bytes of the source from ``start``, and with what the fault adds to them."""
        framing = {"Transfer-Encoding": "chunked"} if self.fault.chunked else {"Content-Length": str(size)}
        laid_over = [{**headers, **framing}.items(), self.fault.headers.items()]
        said = {name.lower(): (name, value) for layer in laid_over for name, value in layer}
        self.record.status = status
        self.send_response(status)
        for name, value in said.values():
            if value is not None:
                self.send_header(name, value)
        framed = [name for name in framing if said[name.lower()][1] is not None]
        if not framed and self.command != "HEAD":
            self.send_header("Connection", "close")  # the end of the body is the end of the connection
        self.end_headers()
        if self.command != "HEAD":
            with self.hub.pace, _Pace() as own:
                self._body(source, start, size, own)

    def _body(self, source: BinaryIO | bytes, start: int, size: int, own: _Pace) -> None:
        """Write a body as fast, as far and as wrongly as the fault says; ``record.sent`` follows byte by byte."""
        fault, record = self.fault, self.record
        limit = fault.drop_after if fault.drop_after is not None else fault.stall_after
        while not self.hub.stopping.is_set():
            left = BLOCK if fault.endless else size - record.sent
            left = left if limit is None else min(left, limit - record.sent)
            paces = [(p, r) for p, r in ((own, fault.rate), (self.hub.pace, self.hub.rate)) if r]
            count = min([BLOCK, left, *(max(1, int(rate * PACED)) for _, rate in paces)])
            if count <= 0:
                break
            if paces:
                due = max(pace.book(count, rate) for pace, rate in paces)
                self.hub.stopping.wait(max(0.0, due - time.monotonic()))
            if fault.chunked:
                self.connection.sendall(b"%x\r\n" % count)
            until = record.sent + count
            while record.sent < until:
                record.sent += self._hand_over(source, start, start + record.sent, until - record.sent)
            if fault.chunked:
                self.connection.sendall(b"\r\n")
        if limit is not None and record.sent >= limit:
            self._break_off()
        elif fault.chunked:
            self.connection.sendall(b"0\r\n\r\n")

    def _hand_over(self, source: BinaryIO | bytes, start: int, at: int, count: int) -> int:
        """Give the kernel up to ``count`` bytes of the source at this offset; how many it took."""
        whole = len(source) if isinstance(source, bytes) else os.fstat(source.fileno()).st_size
        if at >= whole:  # past the end: zeros after a file, blanks (still JSON) after an answer
            return self.connection.send((b" " if isinstance(source, bytes) else b"\0") * count)
        count, bad = min(count, whole - at), self.fault.corrupt_at
        if bad is not None and at < bad < at + count:
            count = bad - at
        if isinstance(source, bytes):
            return self.connection.send(memoryview(source)[at : at + count])
        if bad == at:
            return self.connection.send(bytes([os.pread(source.fileno(), 1, at)[0] ^ 0xFF]))
        return os.sendfile(self.connection.fileno(), source.fileno(), at, count)

    def _break_off(self) -> None:
        self.close_connection = True
        if self.fault.drop_after is None:
            self._hold(self.fault.stall)
        elif self.fault.reset:
            self.hub.stopping.wait(0.1)  # a reset also throws away what the client has not read yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()  # the other holder of the socket: the next line now sends the RST
            self.connection.close()
        else:
            with suppress(OSError):  # the client has left first
                self.connection.shutdown(socket.SHUT_RDWR)

    def _stall_early(self) -> None:
        self.close_connection = True
        if self.fault.stall_in == "headers":
            self.record.status = 200
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le")
        self._hold(self.fault.stall)

    def _hold(self, seconds: float) -> bool:
        """Be silent for so long; False as soon as the client is gone or the hub stops."""
        gone, until = select.poll(), time.monotonic() + seconds
        gone.register(self.connection, select.POLLRDHUP)
        while (left := until - time.monotonic()) > 0:
            if gone.poll(min(50.0, left * 1000)) or self.hub.stopping.is_set():
                return False
        return True

    def _json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._answer(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def _error(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None) -> None:
        extra = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._answer(status, {"Content-Type": "application/json", **extra}, json.dumps({"error": message}).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a folder of repositories as a loopback Hugging Face Hub.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=8089, help="0 takes a free one")
    parser.add_argument("--rate", type=float, help="body bytes per second of all connections together")
    parser.add_argument("--options", type=json.loads, default={}, metavar="JSON", help="more arguments of LocalHub")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input")
    args = parser.parse_args()
    options = {"port": args.port, **({"rate": args.rate} if args.rate else {}), **args.options}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with LocalHub(args.root, **options) as hub, suppress(KeyboardInterrupt):
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        if args.until_eof:
            sys.stdin.read()
        else:
            threading.Event().wait()


if __name__ == "__main__":
    main()
