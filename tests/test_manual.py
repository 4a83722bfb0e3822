"""The man page is made from the parser and says what this version can."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from wan_tui.cli.manual import manual

PAGE = Path(__file__).parent.parent / "docs" / "wan-tui.1"


def test_the_page_that_ships_is_that_of_this_version() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual(), "python -m wan_tui.cli.manual > docs/wan-tui.1"


def test_every_command_and_option_is_there() -> None:
    text = manual().replace("\\-", "-")
    for words in ("wan-tui models download", "wan-tui config init", "--dry-run", "wan-tui gpu", "MODELS_ROOT"):
        assert words in text


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_it_is_well_formed() -> None:
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", PAGE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "does not fit this box" in done.stdout
