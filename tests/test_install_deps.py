"""`install-deps`, for real: a package comes into an environment of its own, and into no other."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engine.compat import needs
from engine.compat.classes import has_class
from engine.compat.install import install, install_command
from engine.compat.needs import Need, read_requirement, unmet
from engine.compat.registry import own_file
from engine.control import Control
from engine.errors import Cancelled
from tests.runs import environment, wan_tui

pytestmark = pytest.mark.sampled(2)

MODEL = "t2v-1.3B@2.1.0"
PACKAGE = "wan-scratch-extra"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that sees the libraries of this one and installs into itself."""
    folder = tmp_path_factory.mktemp("scratch") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def python(scratch: Path) -> Path:
    """The same, without what an earlier test installed."""
    for left in scratch.parent.parent.glob("lib/python*/site-packages/wan_scratch_extra*"):
        shutil.rmtree(left)
    return scratch


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place pip knows."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(shelf), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return shelf


def wheel(folder: Path, version: str, name: str = "wan_scratch_extra", requires: str = "") -> Path:
    """A package of one line, as a wheel made by hand."""
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    texts = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n',
        f"{about}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in texts.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(text)}\n"
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**texts, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return file


def asks_for(*requirements: str, table: str = f'models."{MODEL}"') -> None:
    own_file().parent.mkdir(parents=True, exist_ok=True)
    own_file().write_text(f"[{table}]\nrequires = {json.dumps(requirements)}\n", encoding="utf-8")


def ask(python: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "wan_tui", "install-deps", *arguments]
    where = {**environment(), **more}
    return subprocess.run(command, env=where, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


def there(python: Path) -> str | None:
    """The version that this Python imports."""
    code = f"import {PACKAGE.replace('-', '_')} as extra; print(extra.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or None


def shown(output: str) -> list[str]:
    """The command that was shown."""
    (line,) = [line for line in output.splitlines() if line.startswith("command  ")]
    return shlex.split(line.removeprefix("command  "))


# --- for real ---------------------------------------------------------------------------------------------------------


@pytest.mark.early
def test_a_missing_extra_is_really_installed(python: Path, shelf: Path) -> None:
    wheel(shelf, "1.0")
    asks_for(f"{PACKAGE}>=1.0")
    looked = ask(python, MODEL)
    assert looked.returncode == 2
    assert f"missing  {PACKAGE}>=1.0: not installed; asked for by {own_file()}, models.'{MODEL}'" in looked.stdout
    assert shown(looked.stdout) == [
        *(str(python), "-m", "pip", "install", "--disable-pip-version-check", f"{PACKAGE}>=1.0")
    ]
    assert "--yes" in looked.stderr
    assert there(python) is None
    done = ask(python, MODEL, "--yes")
    assert done.returncode == 0, done.stderr
    assert "Successfully installed" in done.stderr  # pip's own words
    assert done.stdout.splitlines()[-1] == f"installed  {PACKAGE} 1.0: nothing is missing for {MODEL} now."
    assert (there(python), there(Path(sys.executable))) == ("1.0", None)
    again = ask(python, MODEL, "--yes")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"{MODEL}: nothing is missing.\n", "")


@pytest.mark.soak
def test_one_that_is_too_old_is_replaced(python: Path, shelf: Path) -> None:
    old = wheel(shelf, "0.9")
    subprocess.run([python, "-m", "pip", "install", "--quiet", old], check=True)
    old.unlink()
    wheel(shelf, "1.1")
    asks_for(f"{PACKAGE}>=1.0")
    done = ask(python, MODEL, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    source = f"{own_file()}, models.'{MODEL}'"
    assert said == {
        "model": MODEL,
        "missing": [{"requirement": f"{PACKAGE}>=1.0", "installed": "0.9", "asked_by": source}],
        "command": shown(f"command  {shlex.join(said['command'])}"),
        "installed": True,
        "also": {},
    }
    assert there(python) == "1.1"
    assert json.loads(ask(python, MODEL, "--json").stdout)["missing"] == []


@pytest.mark.soak
def test_what_comes_along_is_told(python: Path, shelf: Path) -> None:
    wheel(shelf, "1.0", requires="wan_scratch_extra_more")
    wheel(shelf, "3.0", "wan_scratch_extra_more")
    asks_for(f"{PACKAGE}>=1.0")
    done = ask(python, MODEL, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "also     wan-scratch-extra-more: absent before, 3.0 now"


@pytest.mark.soak
def test_a_folder_is_asked_by_its_family(python: Path, shelf: Path, tmp_path: Path) -> None:
    wheel(shelf, "1.0")
    asks_for(PACKAGE, table="pipelines.WanAnimatePipeline")
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text('{"_class_name": "WanAnimatePipeline"}')
    done = ask(python, str(model), "--json")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert (said["model"], said["installed"], said["code"]) == (str(model), False, "not-confirmed")
    assert [one["requirement"] for one in said["missing"]] == [PACKAGE]


@pytest.mark.soak
def test_an_installation_that_fails_is_told(python: Path, shelf: Path) -> None:
    wheel(shelf, "0.5")
    asks_for(f"{PACKAGE}>=1.0")
    done = ask(python, MODEL, "--yes")
    assert done.returncode == 1
    assert "No matching distribution found" in done.stderr
    assert "error: The installation ended with status 1; what it said stands above." in done.stderr
    assert there(python) is None


@pytest.mark.soak
def test_an_installation_elsewhere_is_noticed(python: Path, shelf: Path, tmp_path: Path) -> None:
    wheel(shelf, "1.0")
    asks_for(f"{PACKAGE}>=1.0")
    done = ask(python, MODEL, "--yes", "--json", PIP_TARGET=str(tmp_path / "elsewhere"))
    assert done.returncode == 3
    assert json.loads(done.stdout)["code"] == "still-missing"
    assert (tmp_path / "elsewhere" / "wan_scratch_extra").is_dir()


@pytest.mark.soak
def test_what_is_shown_is_what_runs(python: Path, tmp_path: Path) -> None:
    fake = tmp_path / "fake" / "pip"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    record = "import json, os, sys; print(json.dumps(sys.orig_argv), file=open(os.environ['RECORD'], 'a'))"
    (fake / "__main__.py").write_text(record)
    asks_for(f"{PACKAGE}>=1.0,!=1.5", "wan_scratch.zip")
    path = f"{fake.parent}:{environment()['PYTHONPATH']}"
    done = ask(python, MODEL, "--yes", PYTHONPATH=path, RECORD=str(tmp_path / "record"))
    assert done.returncode == 3
    (ran,) = (tmp_path / "record").read_text().splitlines()
    assert json.loads(ran) == shown(done.stdout)
    assert shown(done.stdout)[-2:] == [f"{PACKAGE}!=1.5,>=1.0", "wan-scratch-zip"]


@pytest.mark.parametrize(("answer", "status", "version"), [("y", 0, "1.0"), ("n", 130, None), ("", 130, None)])
def test_a_terminal_is_asked(python: Path, shelf: Path, answer: str, status: int, version: str | None) -> None:
    wheel(shelf, "1.0")
    asks_for(f"{PACKAGE}>=1.0")
    ours, theirs = pty.openpty()
    command = [python, "-m", "wan_tui", "install-deps", MODEL]
    with subprocess.Popen(command, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        assert "[y/N]" in said(ours, "[y/N]")
        os.write(ours, f"{answer}\n".encode())
        rest = said(ours, None)
        assert process.wait(60) == status
    assert ("Nothing was installed." in rest) == (version is None)
    assert there(python) == version


def said(terminal: int, until: str | None) -> str:
    text, end = "", time.monotonic() + 60
    while time.monotonic() < end and (until is None or until not in text):
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text += os.read(terminal, 4096).decode()
            except OSError:  # its other end is closed
                break
    return text


# --- parts ------------------------------------------------------------------------------------------------------------


def test_what_is_known_here_needs_no_installation() -> None:
    done = wan_tui("install-deps", "ti2v-5B", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"model": "ti2v-5B@2.2.0", "missing": [], "command": [], "installed": False}
    assert wan_tui("install-deps", "ti2v-6B").returncode == 2
    assert wan_tui("install-deps", "./nowhere").returncode == 3


def test_a_broken_addition_is_told_and_left_out() -> None:
    asks_for("a @ https://evil.example")
    done = wan_tui("install-deps", MODEL)
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: {own_file()} is left out: ")


@pytest.mark.parametrize(
    ("requirement", "installed", "met"),
    [
        ("a>=2.11", "2.13.0+cpu", True),
        ("a==2.13.0", "2.13.0+cu130", True),
        ("a>=2.13", "2.13.0.dev20261101+cpu", False),
        ("a>=2.12", "2.13.0.dev20261101+cpu", True),
        ("a>=0.42,<0.43", "0.42.1.dev0", True),
        ("a>=0.42", "0.43.0rc1", True),
        ("a>=1.0", "0.9", False),
        ("a<2", "2.4.6", False),
        ("a", "anything goes", True),
        ("a>=1", "anything goes", False),
        ("a", None, False),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, requirement: str, installed: str | None, met: bool) -> None:
    monkeypatch.setattr(needs, "installed_version", lambda name: installed)
    assert unmet([requirement]) == (() if met else (Need(requirement, installed),))


def test_a_distribution_without_a_version_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wan_scratch_extra-1.0.dist-info").mkdir()
    (tmp_path / "wan_scratch_extra-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    (tmp_path / "wan_scratch_left-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert unmet([PACKAGE, "wan-scratch-left"]) == (Need(PACKAGE, None), Need("wan-scratch-left", None))


def test_an_egg_info_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wan_scratch_extra.egg-info").mkdir()
    said = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.2\n\nVersion: 9 stands in its description.\n"
    (tmp_path / "wan_scratch_extra.egg-info" / "PKG-INFO").write_text(said)
    (tmp_path / "wan_scratch_flat-3.4.egg-info").write_text(said.replace(PACKAGE, "wan-scratch-flat"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (needs.installed_version(PACKAGE), needs.installed_version("wan-scratch-flat")) == ("1.2", "1.2")
    assert unmet([f"{PACKAGE}>=1.2"]) == ()
    assert unmet([f"{PACKAGE}>=1.3"]) == (Need(f"{PACKAGE}>=1.3", "1.2"),)


def test_names_are_those_of_packages_never_of_files() -> None:
    assert str(read_requirement("Evil.ZIP")) == "evil-zip"
    assert str(read_requirement("a_b.c ~= 1.2 , != 1.2.5")) == "a-b-c!=1.2.5,~=1.2"


def test_uv_installs_where_pip_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [Need("gguf>=0.10", None)]
    monkeypatch.setattr("engine.compat.install.find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", {"uv": "/opt/uv"}.get)
    assert install_command(missing) == ("/opt/uv", "pip", "install", "--python", sys.executable, "gguf>=0.10")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert install_command(missing) is None


def test_a_stop_is_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    control = Control()
    code = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nprint('began', flush=True)\n"
        "try: time.sleep(600)\nexcept KeyboardInterrupt: print('undone')"
    )
    threading.Timer(1.0, control.cancel).start()
    with pytest.raises(Cancelled):
        install((sys.executable, "-c", code), control)
    out, errors = capfd.readouterr()
    assert (out, errors.split()) == ("", ["began", "undone"])


@pytest.mark.parametrize(
    ("library", "name", "has"),
    [
        ("diffusers", "WanPipeline", True),
        ("diffusers", "WanAnimate2ModularPipeline", True),
        ("diffusers", "AutoencoderKLWan", True),
        ("diffusers", "WanPipelin", False),
        ("diffusers", "WanSpeechToVideoPipeline", False),
        ("diffusers", "Wan.*", False),
        ("diffusers", "os", False),
        ("transformers", "UMT5EncoderModel", True),
        ("transformers", "CLIPVisionModelWithProjection", True),
        ("transformers", "T5TokenizerFast", True),
        ("transformers", "CLIPImageProcessorFast", True),
        ("transformers", "PreTrainedTokenizerFast", True),
        ("transformers", "ASTModel", True),
        ("transformers", "UMT5EncoderModels", False),
        ("no_such_library", "UMT5EncoderModel", None),
    ],
)
def test_classes_are_found_without_an_import(library: str, name: str, has: bool | None) -> None:
    assert has_class(library, name) is has


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys\nfrom wan_tui.cli import main\nmain(['install-deps', 'ti2v-5B'])\n"
        "from engine.compat.classes import has_class\nhas_class('transformers', 'NoSuchClass')\n"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'numpy') if name in sys.modules])"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
