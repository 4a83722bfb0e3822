"""How missing packages are installed: by pip or uv, into this installation."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from engine.compat.needs import Need
from engine.control import Control
from engine.errors import Cancelled

_LOOK_S = 0.2
_PATIENCE_S = 10.0  # for pip to take back what it began


def install_command(needs: Sequence[Need]) -> tuple[str, ...] | None:
    """What installs these needs into this installation; None where there is neither pip nor uv."""
    requirements = tuple(need.requirement for need in needs)
    if not sys.executable:
        return None
    if find_spec("pip"):
        return (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *requirements)
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", "--python", sys.executable, *requirements)
    return None


def install(command: Sequence[str], control: Control | None = None, *, answered: bool = True) -> int:
    """Run an installer and return its exit status; what it says goes to standard error.

    `answered` is whether what it asks, such as a password, may be answered at the terminal: a screen has that for
    itself. A stop is passed on, and the installer takes back what it began. Raises `Cancelled`.
    """
    with subprocess.Popen(
        command,
        stdin=None if answered and os.isatty(0) else subprocess.DEVNULL,
        stdout=2,
        stderr=2,
    ) as installer:
        try:
            status = _wait(installer, control or Control())
        finally:
            importlib.invalidate_caches()
    return status


def _wait(installer: subprocess.Popen[bytes], control: Control) -> int:
    try:
        while True:
            control.check()
            try:
                return installer.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                continue
    except Cancelled:
        installer.send_signal(signal.SIGINT)
        try:
            installer.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            installer.kill()
        raise
