"""The whole way of a user by keyboard alone, from a model that is not here to a clip that is asked for again.

It is walked by hands that press keys and read the screen: those of a pilot, or those of a terminal.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w

from tests.local_hub import LocalHub

MODEL = "tiny@1.0"
PROMPT = "a red circle [/b] moving right"
PATIENCE_S = 60.0
_KEPT = os.environ.get("WAN_TUI_CAPTURES")  # a folder for the screens of each step, to be looked at


class Hands(ABC):
    """`screen()` is what is shown, line by line."""

    steps = 0

    @abstractmethod
    async def press(self, *keys: str) -> None:
        """Keys by Textual's names."""

    @abstractmethod
    def screen(self) -> str: ...

    @abstractmethod
    def keep(self, file: Path) -> None:
        """The screen with its colours, in a file of that name and some suffix."""

    async def sees(self, *texts: str) -> None:
        """Wait until all of it is shown, across the ends of lines, too."""
        end = time.monotonic() + PATIENCE_S
        while not all(text in (screen := self.screen()) or text in _joined(screen) for text in texts):
            assert time.monotonic() < end, f"waited in vain for {texts} in\n{screen}"
            await asyncio.sleep(0.03)

    async def lacks(self, text: str) -> None:
        await self.until(lambda: text not in self.screen())

    @abstractmethod
    def pictured(self) -> bool:
        """Whether a picture is shown."""

    async def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, self.screen()
            await asyncio.sleep(0.03)

    async def to(self, field: str) -> None:
        """Tab until the mark of the form stands at the field."""
        for _ in range(30):
            before = _marked(self.screen())[0]
            if before == field:
                return
            await self.press("tab")
            await self.until(lambda last=before: _marked(self.screen())[0] not in ("", last))  # type: ignore[misc]
        raise AssertionError(f"no field {field} in\n{self.screen()}")

    async def fill(self, field: str, value: str) -> None:
        await self.to(field)
        await self.press(*value)
        await self.until(lambda: _marked(self.screen()) == (field, value))

    async def done(self, step: str) -> None:
        """A step of the way is made; its screen is kept where somebody wants to look at it."""
        self.steps += 1
        if _KEPT:
            folder = Path(_KEPT)
            folder.mkdir(parents=True, exist_ok=True)
            await asyncio.sleep(0.3)  # what is still on its way to the screen belongs to it
            file = folder / f"{self.steps:02d}-{step}"
            file.with_suffix(".txt").write_text(self.screen() + "\n", encoding="utf-8")
            self.keep(file)


def _joined(screen: str) -> str:
    return re.sub(r"\s+", " ", screen.replace("▌", " "))


def _marked(screen: str) -> tuple[str, str]:
    """The field of the form where the mark stands, and what is typed there."""
    found = re.search(r"^▸(\S+(?: \S+)*)(?: +(\S+(?: \S+)*))?", screen, re.MULTILINE)
    return (found[1], found[2] or "") if found else ("", "")


@contextmanager
def small_library(folder: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A Hub that has a pipeline which renders, and a manifest that names it."""
    home = folder / "hub" / "demo"
    home.mkdir(parents=True)
    (home / "tiny").symlink_to(pipeline)
    model = {"title": "A tiny one", "family": "t2v", "repo": "demo/tiny", "revision": "main"}
    manifest = folder / "manifest.toml"
    manifest.write_text(tomli_w.dumps({"models": {MODEL: model}}), encoding="utf-8")
    with LocalHub(folder / "hub") as hub:
        monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


async def journey(hands: Hands, steps: int = 30) -> None:
    """Walk it; the job has so many steps, and takes a few seconds."""
    await get_a_model(hands)
    await ask_for_a_video(hands, steps)
    await watch_cancel_and_run_again(hands)
    await look_at_it_and_ask_again(hands)


async def get_a_model(hands: Hands) -> None:
    await hands.sees("Welcome to wan-tui", "Esc")
    await hands.done("welcome")
    await hands.press("escape")
    await hands.lacks("Welcome to wan-tui")
    await hands.sees("t2v-A14B@2.2.0")
    await hands.press("slash")
    await hands.sees(" filter")
    await hands.press(*"tiny")
    await hands.sees("▸tiny@1.0", "· absent")
    await hands.lacks("t2v-A14B@2.2.0")
    await hands.lacks("d Download")  # it would be typed
    await hands.press("enter")
    await hands.sees("d Download")
    await hands.done("found")
    await hands.press("d")
    await hands.sees("✓ verified", "tiny@1.0 is here")
    await hands.done("downloaded")
    await hands.press("v")
    await hands.sees("every byte")
    await hands.done("verified")
    await hands.press("c")
    await hands.sees("Diagnostics", "✓ runs: tiny@1.0", "text_encoder")
    await hands.done("checked")


async def ask_for_a_video(hands: Hands, steps: int) -> None:
    await hands.press("f2")
    await hands.sees("▸tiny@1.0")
    await hands.press("e")
    await hands.sees("Composer", MODEL, "It wants a prompt")
    await hands.done("composer")
    await hands.fill("Prompt", PROMPT)
    await hands.fill("Size", "64*64")
    await hands.fill("Frames", "9")
    await hands.fill("Steps", str(steps))
    await hands.fill("Seed", "7")
    await hands.fill("Device", "cpu")
    await hands.sees("✓ Ready", "Rung staged (fits)", "seed 7")
    await hands.done("planned")
    await hands.press("ctrl+r")
    await hands.sees("Queued: 1 clip")
    await hands.done("queued")


async def watch_cancel_and_run_again(hands: Hands) -> None:
    await hands.press("f5")
    await hands.sees("Monitor", "Devices", "▶ runs", "▶ denoise", "step ")
    await hands.done("watched")
    await hands.press("x")
    await hands.sees(f"Cancel the job that runs ({MODEL})?")
    await hands.done("asked")
    await hands.press("y")
    await hands.sees("– cancelled")
    await hands.done("cancelled")
    await hands.press("f6")
    await hands.sees("History", "– cancelled")
    await hands.done("queue")
    await hands.press("r")
    await hands.sees("The same once more")
    await hands.done("again")
    await hands.press("enter")
    await hands.sees("Running", "▶ denoise")
    await hands.done("running-again")
    await hands.sees("✓ finished")
    await hands.done("finished")


async def look_at_it_and_ask_again(hands: Hands) -> None:
    await hands.press("f7")
    await hands.sees("Gallery", "1 video", f"{MODEL}-7.mp4", "steps", "seed")
    await hands.until(hands.pictured)
    await hands.done("gallery")
    await hands.press("e")
    await hands.sees("Composer", "Loaded")
    await hands.sees("✓ Ready", "seed 7", PROMPT)  # on a low screen the sentence lay over it
    await hands.done("loaded")
