"""A wheel installed alone, in an environment of its own, is the whole program."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    beside = (".dist-info", ".data/data/share/man/man1/wan-tui.1")
    rest = [name for name in names if not any(part in name for part in beside)]
    assert {name.split("/")[0] for name in rest} == {"engine", "wan_tui"}
    assert any(name.endswith(beside[1]) for name in names)
    assert "engine/_data/models.toml" in names
    assert "engine/_data/themes/wan-dark.toml" in names
    assert "engine/_data/demo/transformer/diffusion_pytorch_model.safetensors" in names


@pytest.mark.soak
def test_it_runs_from_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    # The libraries are borrowed as they are (gigabytes otherwise); a path file does not pass on the editable checkout.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})

    def run(*command: object) -> str:
        done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = environment / "bin" / "wan-tui"
    assert run(python, "-c", "import engine; print(engine.__file__)").startswith(str(site))
    assert "ti2v-5B@2.2.0" in run(program, "models", "list")
    assert Path(run(program, "demo", "--quiet").strip()).stat().st_size > 1000
