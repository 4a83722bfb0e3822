"""Downloads killed, stopped and taken up again, many times over."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled
from engine.library.digest import Digests
from engine.library.hub import Manners
from engine.library.item import Item
from engine.library.locate import look
from tests.local_hub import LocalHub, spawn
from tests.runs import Running
from tests.test_download import (
    BIG,
    BIG_URL,
    MIB,
    STALLS,
    WEIGHTS,
    get,
    hub,
    killed_at_random,
    repo,
    right,
    root,
    sha,
    signalled,
)

pytestmark = pytest.mark.soak
__all__ = ["hub", "repo"]  # fixtures
TRIES = 20


@pytest.mark.parametrize("seed", range(100, 120))
def test_kill_at_random_moments(seed: int, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spawn(repo.parent.parent, rate=4e6) as remote:
        monkeypatch.setenv("HF_ENDPOINT", remote.url)
        killed_at_random(seed, remote)


@pytest.mark.parametrize("state", ["flowing", "silent in the body"])
def test_a_signal_stops_a_download_at_once(state: str, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[float] = []
    with spawn(repo.parent.parent) as remote:
        monkeypatch.setenv("HF_ENDPOINT", remote.url)
        for number in [signal.SIGINT, signal.SIGTERM] * (TRIES // 2):
            shutil.rmtree(root(), ignore_errors=True)
            remote.clear_log()
            run, seconds = signalled(number, state, remote)
            assert run.process.returncode == (130 if number == signal.SIGINT else 143)
            assert (run.told[-1]["event"], run.told[-1]["code"], run.errors) == ("failed", "stopped", "")
            late.append(seconds)
    print(f"\nsignal to end of the process, {state}: {TRIES} tries, {_figures(late)}")
    assert max(late) < 1.5


@pytest.mark.parametrize("state", STALLS)
def test_a_cancel_is_obeyed_at_once(state: str, hub: LocalHub) -> None:
    path, fault = STALLS[state]
    late: list[float] = []
    for _ in range(TRIES):
        shutil.rmtree(root(), ignore_errors=True)
        hub.log.clear()
        injected = hub.fault(path, **fault)
        control, asked = Control(), [0.0]

        def stop(control: Control = control, asked: list[float] = asked) -> None:
            while not hub.requests("GET", path):
                time.sleep(0.005)
            time.sleep(random.uniform(0.02, 0.1))
            asked[0] = time.monotonic()
            control.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        result = get(Manners(stalled_s=60, pause_s=30), control=control)
        late.append(time.monotonic() - asked[0])
        thread.join()
        assert isinstance(result.error, Cancelled)
        hub.faults.remove(injected)
    print(f"\ncancel to return, {state}: {TRIES} tries, {_figures(late)}")
    assert max(late) < 1.0
    right(get())


@pytest.mark.parametrize("seed", range(20))
def test_stops_at_random_moments(seed: int, layout: str, hub: LocalHub) -> None:
    """In one process: what was kept goes on, whatever the link does meanwhile."""
    chance = random.Random(seed)
    hub.rate = 8e6
    kept = 0
    for _ in range(chance.randint(2, 6)):
        hub.fault(BIG_URL, times=1, **chance.choice([{"drop_after": 400_000}, {"delay": 0.1}, {"status": 503}, {}]))
        control = Control()
        timer = threading.Timer(chance.uniform(0.01, 0.4), control.cancel)
        timer.start()
        result = get(control=control)
        timer.cancel()
        assert result.error is None or isinstance(result.error, Cancelled)
        held = look(Item(*load_catalog().find("mine")), Digests()).files
        now = next((file.present_bytes for file in held if file.info.path == BIG), 0)
        assert now >= kept
        kept = now
        hub.faults.clear()
    hub.rate = None
    right(get())
    hub.settled()
    assert sum(end - start for start, end in hub.fetched(BIG_URL)) <= len(WEIGHTS[BIG]) + 6 * MIB


@pytest.mark.parametrize("seed", range(10))
def test_many_processes_some_of_them_killed(
    seed: int, layout: str, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    with spawn(repo.parent.parent, rate=3e6) as remote:
        monkeypatch.setenv("HF_ENDPOINT", remote.url)
        runs = [Running("models", "download", "mine") for _ in range(3)]
        time.sleep(chance.uniform(0.4, 1.2))
        victim = runs.pop(chance.randrange(3))
        victim.process.kill()
        assert [run.end() for run in runs] == [0, 0], [run.told[-1] for run in runs]
        victim.process.wait()
        victim.stdout.close()
        victim.stderr.close()
        for name, data in WEIGHTS.items():
            assert sum(end - start for start, end in remote.fetched(f"*/{name}")) <= len(data) + MIB
    right(get())


def test_a_large_file_over_a_bad_link(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MB over a link that breaks every 3 MiB, by turns cleanly, by a reset and by silence."""
    data = b"".join(random.Random(number).randbytes(50 * MIB) for number in range(6))
    (repo / BIG).write_bytes(data)
    with spawn(repo.parent.parent) as remote:
        monkeypatch.setenv("HF_ENDPOINT", remote.url)
        for _ in range(30):
            remote.fault(BIG_URL, times=1, drop_after=3 * MIB)
            remote.fault(BIG_URL, times=1, drop_after=3 * MIB, reset=True)
        remote.fault(BIG_URL, times=3, stall_after=3 * MIB)
        since = time.monotonic()
        result = get(Manners(stalled_s=1, pause_s=0.01))
        assert result.error is None and result.copy and result.copy.path
        with (result.copy.path / BIG).open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == sha(data)
        asked = len(remote.requests("GET", BIG_URL))
        print(f"\n300 MB, {asked} requests, {time.monotonic() - since:.1f} s")


def _figures(late: list[float]) -> str:
    return f"median {statistics.median(late):.2f} s, worst {max(late):.2f} s"
