"""Every test has a home of its own: no journal, cache or model of the user is read or touched."""

from __future__ import annotations

import gc
import importlib
import os
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import nursery

if TYPE_CHECKING:
    from tests.shelf import Shelf

KNOWN = ("traces", "paces")


@pytest.fixture(scope="session")
def known_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is found out about models and this box once for all tests, of all workers: traces, and the device's pace."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "known"
    for name in KNOWN:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known_here: Path) -> Path:
    """Folders of the user, for this process and for those it starts."""
    home = tmp_path / "home"
    for name, folder in {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "XDG_STATE_HOME": home / "state",
        "XDG_DATA_HOME": home / "data",
        "XDG_CONFIG_HOME": home / "config",
        "HF_HOME": home / "hf",
        "WAN_TUI_LOCKS": home / "locks",
    }.items():
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(folder))
    cache = home / "cache" / "wan-tui"
    cache.mkdir(mode=0o700)
    for name in KNOWN:
        (cache / name).symlink_to(known_here / name)
    hub = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN")
    for name in ("MODELS_ROOT", "WAN_MODELS_MANIFEST", "WAN_TUI_CONFIG", "NO_COLOR", *hub):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny folder of each kind, built on demand by `tiny_model`."""
    return tmp_path_factory.getbasetemp() / "tiny"


@pytest.fixture
def tiny_model(tiny_models: Path):  # type: ignore[no-untyped-def]
    """`tiny_model("t2v")` is a folder with a pipeline of that kind."""

    def get(kind: str) -> Path:
        from tests import tiny

        folder = tiny_models / kind
        if not (folder / "model_index.json").is_file():
            tiny.save(kind, folder)
        return folder

    return get


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """A library beside a Hub of its own."""
    from tests.shelf import make_shelf

    with make_shelf(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(params=["cache", "plain"])
def layout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Models in the Hugging Face cache, or in `MODELS_ROOT`."""
    if request.param == "plain":
        monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `MODELS_ROOT`."""
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def late(*_: object) -> None:
        pytest.fail("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a fresh checkout pytest rewrites every test module once. Workers begin at different ends, so that each finds
    most of it done: a minute of work on two cores. None of what is imported is ever garbage."""
    if own := re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", "")):
        gc.disable()
        names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
        begin = int(own[1]) * len(names) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for name in (*names[begin:], *names[:begin]):
            with suppress(Exception), redirect_stderr(StringIO()):  # it is told where it is collected
                importlib.import_module(f"tests.{name}")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Two a core: most tests wait half their time, for a process or a screen."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test marked `sampled(n)` every n-th runs with all tests, the others in the soak. Those marked
    `early` come first: a long one that begins last is waited for alone."""
    counts: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            if counts[test] % mark.args[0]:
                item.add_marker("soak")
            counts[test] += 1
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs begin with their bytecode, as installed ones do
    if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers on few cores wait for each other, spinning
        os.environ["OMP_NUM_THREADS"] = "1"
    else:
        folder = os.environ[nursery.FOLDER] = tempfile.mkdtemp(prefix="nursery-")
        config.add_cleanup(lambda: shutil.rmtree(folder))
