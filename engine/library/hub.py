"""Talking to the Hub: its listing of a repository, the bytes of its files, and what its refusals mean.

The client of `huggingface_hub` can neither resume a download across calls nor be stopped while a link is stalled, so
the requests are made here; addresses, headers, tokens and the meaning of its errors stay its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from engine.control import Control
from engine.errors import ModelError, RunError, WanError
from engine.library.listing import File, Listing, checked_listing, is_commit

_CONNECT_S = 10.0
_SHORT_PAUSE_S = 0.1  # where the last try brought something
_BURST_S = 0.1  # a pause is not made up for by more than this
_REDIRECTS = 5
_LISTING_BYTES = 64 << 20
_MESSAGE_BYTES = 64 << 10
_LONGEST_WAIT_S = 3600.0
_TRUE = ("1", "ON", "YES", "TRUE")
_PASSING = (408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)


@dataclass(frozen=True)
class Manners:
    """How a download behaves: `files` at once, a link is `stalled_s` silent before it is given up, a file is tried
    `tries` times without a new byte, with `pause_s` doubling between them up to `longest_pause_s`; `rate` bytes/s."""

    files: int = 4
    stalled_s: float = 20.0
    tries: int = 10
    pause_s: float = 1.0
    longest_pause_s: float = 30.0
    rate: float | None = None


class Hiccup(Exception):
    """Something that passes: try again, after `wait` seconds where the server said so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class Line:
    """The connections of one download. `cut` ends every one of them at once, whatever they wait for."""

    def __init__(self, manners: Manners) -> None:
        check_online()
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs addresses, and those of a CDN are signed
        self.control = Control()  # set when the line is cut
        self.manners = manners
        self.pace = Pace(manners.rate, self.control)
        self.endpoint = endpoint()
        self.shown = shown(self.endpoint)
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._guard = threading.Lock()
        try:
            self._client = httpx2.Client(
                follow_redirects=True,
                max_redirects=_REDIRECTS,
                timeout=httpx2.Timeout(manners.stalled_s, connect=_CONNECT_S, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=manners.files),
            )
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:  # of HTTP_PROXY, SSL_CERT_FILE and such
            raise RunError(
                "bad-proxy",
                "The network settings of the environment cannot be used.",
                cause=str(error),
                suggestions=["Correct or unset HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE."],
            ) from error

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._client.close()

    def cut(self) -> None:
        """Shut every socket: a thread that waits for one wakes with an error at once."""
        self.control.cancel()
        with self._guard:
            for connection in list(self._sockets):
                self._shut(connection)

    def pause(self, tries: int, why: Hiccup, what: str, warn: Callable[[str], None]) -> None:
        """Wait before the next try, longer after each that brought nothing, or as long as the server asks."""
        usual = self.manners.pause_s * 2 ** (tries - 1) if tries else _SHORT_PAUSE_S
        wait = min(usual, self.manners.longest_pause_s) if why.wait is None else why.wait
        if tries > 1 or why.wait:
            warn(f"{what}: {why}; trying again in {wait:.0f} s")
        self.control.wait(wait)

    @contextmanager
    def open(self, url: str, *, start: int = 0, token: bool = True) -> Iterator[httpx2.Response]:
        """The answer to a GET, from byte `start` on; its body is read with `iter_raw`.

        Raises `Hiccup` for what passes, `WanError` for what does not, `Cancelled` when the download is to stop.
        """
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, but not marked so

        self.control.check()
        headers = build_hf_headers(library_name="wan-tui", token=None if token else False)  # the token as it is now
        said = headers.get("authorization", "")
        if not (said.isascii() and said.isprintable()):  # an error of the connection would show it
            raise ModelError(
                "bad-token",
                f"The token of {token_source()} holds characters that cannot be sent.",
                suggestions=["Log in again with `hf auth login`, or set HF_TOKEN anew."],
            )
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with self._client.stream("GET", url, headers=headers, extensions={"trace": self._watch}) as response:
                if response.status_code not in (200, 206, 416):
                    self._refused(response)
                yield response
        except httpx2.UnsupportedProtocol as error:
            raise bad_answer(url, str(error)) from error
        except httpx2.TransportError as error:
            self.control.check()
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise bad_answer(url, f"its certificate is not trusted ({error})") from error
            raise Hiccup(_said(error)) from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:  # a redirect that never ends, or leads nowhere
            raise bad_answer(url, _said(error)) from error
        except ValueError as error:
            raise bad_answer(url, str(error)) from error

    def _watch(self, event: str, info: dict[str, Any]) -> None:
        """Told of everything a connection does: keep the sockets, which `cut` needs before there is any answer."""
        stream = info.get("return_value")
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")) or stream is None:
            return
        connection = stream.get_extra_info("socket")
        with self._guard:
            self._sockets.add(connection)
            if self.control.cancelled:
                self._shut(connection)

    @staticmethod
    def _shut(connection: socket.socket) -> None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of the socket itself, also below TLS

    def _refused(self, response: httpx2.Response) -> None:
        """Say what an answer that is no body means."""
        status = response.status_code
        if response.history and response.url.origin != response.history[0].url.origin:
            raise Hiccup(f"{response.url.host} answered {status}")  # storage: the Hub gives a fresh address next time
        if status in _PASSING:
            raise Hiccup(f"the server answered {status}", _retry_after(response))
        raise refusal(response, self.shown)


class Pace:
    """A limit in bytes/s that all files of a download share; None for none."""

    def __init__(self, rate: float | None, control: Control) -> None:
        self._rate, self._control = rate, control
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may have come. Raises `Cancelled`."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - _BURST_S) + count / self._rate
            ahead = self._next - now
        if ahead > 0:
            self._control.wait(ahead)


# --- what is asked ----------------------------------------------------------------------------------------------------


def endpoint() -> str:
    """The Hub, or the mirror that `HF_ENDPOINT` names."""
    value = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", value)
    except ValueError:
        sound = False
    if not sound:
        raise ModelError(
            "bad-endpoint",
            f"HF_ENDPOINT is {shown(value)!r:.80}, which is no web address.",
            suggestions=["Set it to one such as https://huggingface.co, or unset it."],
        )
    return value


def shown(url: str) -> str:
    """An address as it may be told: without a name and password."""
    return re.sub("//.*@", "//", url)


def token_source() -> str | None:
    """Where the token comes from that is sent to the Hub; None when none is. Never the token itself."""
    from huggingface_hub import get_token

    if not get_token() or os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in _TRUE:
        return None
    named = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    return "HF_TOKEN" if named else "hf auth login"


def is_online() -> bool:
    """Whether the environment allows the network."""
    return _forbidden_by() is None


def check_online() -> None:
    """Raise `ModelError` (`offline`) when the environment forbids the network."""
    if name := _forbidden_by():
        raise ModelError(
            "offline",
            f"{name} is set: nothing is fetched.",
            suggestions=[f"Unset {name} and try again."],
            actions=["download"],
        )


def _forbidden_by() -> str | None:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").upper() in _TRUE), None)


def file_url(line: Line, listing: Listing, file: File) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=line.endpoint)


def ask_listing(line: Line, repo: str, revision: str | None, warn: Callable[[str], None]) -> Listing:
    """The files of a repository at a branch, tag or commit (`main` when None), every word of the answer checked."""
    asked = revision or "main"
    url = f"{line.endpoint}/api/models/{repo}/revision/{quote(asked, safe='')}?blobs=true"
    body = _read_listing(line, url, repo, warn)
    try:
        table = json.loads(body)
        rows = [_row(row) for row in table["siblings"]]
        commit = table["sha"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise bad_answer(url, "what was sent is no listing of a repository") from error
    if is_commit(asked) and commit != asked:
        raise bad_answer(url, f"commit {asked[:12]} was asked for, and {str(commit)[:12]!r} came")
    return checked_listing(repo, commit, rows, asked)


def _read_listing(line: Line, url: str, repo: str, warn: Callable[[str], None]) -> bytes:
    for tries in count(1):
        try:
            with line.open(url) as response:
                return _read_short(line, response, repo)
        except Hiccup as error:
            if tries >= line.manners.tries:
                raise RunError(
                    "unreachable",
                    f"{line.shown} cannot be reached: {error}.",
                    cause=f"It was tried {tries} times.",
                    suggestions=["Check the network, any proxy and HF_ENDPOINT, then try again."],
                    actions=["download"],
                ) from error
            line.pause(tries, error, repo, warn)
    raise AssertionError("the tries come to an end")


def _read_short(line: Line, response: httpx2.Response, repo: str) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():  # some proxies compress what nobody asked them to
        body += piece
        line.control.check()
        if len(body) > _LISTING_BYTES:
            raise bad_answer(str(response.url), f"the listing of {repo} is longer than {_LISTING_BYTES >> 20} MiB")
    return bytes(body)


def _row(row: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    lfs = row.get("lfs") or {}
    sha256 = lfs.get("sha256") or lfs.get("oid")
    size = lfs["size"] if sha256 and "size" in lfs else row.get("size")
    return row["rfilename"], size, sha256, None if sha256 else row.get("blobId")


# --- what is answered -------------------------------------------------------------------------------------------------


def refusal(response: httpx2.Response, address: str) -> WanError:
    """What a status that will not pass means, and what a person can do about it."""
    from huggingface_hub import errors
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # public, but not marked so

    source = token_source()
    sent = f"the token of {source} was sent" if source else "no token was sent"
    log_in = "Log in with `hf auth login`, or set HF_TOKEN, to a token that may read it."
    repo = _repo_in(str(response.request.url), address)
    try:
        hf_raise_for_status(_short(response))
    except errors.GatedRepoError:
        return ModelError(
            "gated",
            f"{repo} is gated: its files are given only to people who accepted its terms.",
            cause=f"The server answered {response.status_code}; {sent}.",
            suggestions=[f"Accept the terms at {address}/{repo} with the account of your token.", log_in],
        )
    except errors.RevisionNotFoundError:
        return ModelError("no-revision", f"{repo} has no such revision.", suggestions=["Check --revision."])
    except errors.EntryNotFoundError:
        return ModelError(
            "not-in-repository",
            f"A file of {repo} is not on the server.",
            cause=f"{response.request.url.path} is not there.",
            suggestions=["The repository may have changed: try --revision main."],
        )
    except errors.RepositoryNotFoundError:
        return ModelError(
            "no-repository",
            f"{address} has no repository {repo} for you: it does not exist, or it is private.",
            cause=f"The server answered {response.status_code}; {sent}.",
            suggestions=["Check its name in the manifest.", log_in],
        )
    except errors.HfHubHTTPError as error:
        if response.status_code in (401, 403):
            return ModelError(
                "token-refused",
                f"{address} refused the request for {repo}.",
                cause=f"It answered {response.status_code}; {sent}.",
                suggestions=[log_in, f"Open {address}/{repo} in a browser to see whether your account may read it."],
            )
        said = error.server_message or f"status {response.status_code}"
        if token := response.request.headers.get("Authorization", "").removeprefix("Bearer "):
            said = said.replace(token, "…")
        return bad_answer(str(response.request.url), re.sub(r"\s+", " ", said)[:200])
    return bad_answer(str(response.request.url), f"status {response.status_code}")


def _short(response: httpx2.Response) -> httpx2.Response:
    """The same answer with the beginning of its body, however long that goes on."""
    body = bytearray()
    with suppress(httpx2.HTTPError, httpx2.StreamError):
        for piece in response.iter_raw():
            body += piece
            if len(body) >= _MESSAGE_BYTES:
                break
    headers = {key: value for key, value in response.headers.items() if not key.startswith(("content-", "transfer-"))}
    content = bytes(body[:_MESSAGE_BYTES])
    return httpx2.Response(response.status_code, headers=headers, content=content, request=response.request)


def _repo_in(url: str, address: str) -> str:
    parts = urlsplit(url).path.removeprefix(urlsplit(address).path).strip("/").split("/")
    return "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds the server asks to wait (`Retry-After`, or the reset of a rate limit), within reason."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # public, but not marked so

    value = response.headers.get("Retry-After", "")
    if re.fullmatch(r"\d{1,9}", value):
        return min(float(value), _LONGEST_WAIT_S)
    if response.status_code == 429 and (limit := parse_ratelimit_headers(response.headers)):
        return min(float(limit.reset_in_seconds), _LONGEST_WAIT_S)
    return None


def _said(error: Exception) -> str:
    match error:
        case httpx2.ReadTimeout():
            return "nothing came any more"
        case httpx2.ConnectTimeout():
            return "the server cannot be reached in time"
        case httpx2.ConnectError():
            return f"the server cannot be reached ({error})"
        case httpx2.ProxyError():
            return f"the proxy refused ({error})"
        case httpx2.TooManyRedirects():
            return "it sends from one address to the next without end"
    return f"the connection broke ({error or type(error).__name__})"


def bad_answer(url: str, why: str) -> RunError:
    """What came from this address is not what it should be."""
    parts = urlsplit(shown(url))
    return RunError(
        "bad-answer",
        f"{parts.scheme}://{parts.netloc} gave no usable answer for {parts.path}.",
        cause=why,
        suggestions=["Check HF_ENDPOINT and any proxy, and try again."],
    )
