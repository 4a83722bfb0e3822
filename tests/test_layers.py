"""The floor laws, and what starting up may load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = ("library", "diagnostics", "composer", "monitor", "queue", "gallery")
HEAVY = ("torch", "diffusers", "transformers", "textual")


def test_nobody_imports_upward() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import engine",
        "import wan_tui.cli",
        "import wan_tui.headless",
        "import wan_tui.composing.examine, wan_tui.composing.presets, wan_tui.composing.sweep, wan_tui.composing.draft",
        "import engine.runtime.worker, engine.video.write, engine.memory.plan, engine.jobfile",
        "from wan_tui.cli import main; main(['models', 'list'])",
        "from wan_tui.cli import main; main(['jobs', 'list'])",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert _loaded_by(statement, HEAVY) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import wan_tui.app",
        *(f"import wan_tui.app, wan_tui.screens.{name}" for name in PLACES),
        "import wan_tui.screens.welcome, wan_tui.screens.messages, wan_tui.widgets.picture",
    ],
)
def test_no_screen_loads_what_the_engine_computes_with(statement: str) -> None:
    computes = ("torch", "diffusers", "transformers", "numpy", "PIL", "huggingface_hub", "httpx")
    assert _loaded_by(statement, computes) == []


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_help_and_version_load_only_the_parser(flag: str) -> None:
    code = f"from wan_tui.cli import main\ntry: main([{flag!r}])\nexcept SystemExit: pass"
    assert _loaded_by(code, (*HEAVY, "rich", "numpy", "PIL", "psutil", "sqlite3", "engine")) == []


def _loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    """Which of `names` are in sys.modules after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint('\\nLOADED', *[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("LOADED")[2].split()
