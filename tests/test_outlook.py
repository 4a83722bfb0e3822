"""Whether models go onto a box, by what is predicted of their own clips."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from engine.catalog import load_catalog
from engine.hardware import Card
from engine.memory.pace import Pace
from engine.runtime import outlook
from engine.runtime.outlook import Outlook, outlooks
from tests.staged import machine
from wan_tui.telling_outlook import here_text

CATALOG = load_catalog()
PREDICTED = {spec.id for spec in CATALOG.models if spec.family in ("t2v", "i2v", "ti2v", "flf2v") and not spec.builtin}
ORDER = ("no", "at", "windows", "streams", "fits")


def on(vram: float, ram: float = 512, *, bf16: bool = True) -> dict[str, Outlook]:
    """On a card, and beside so much RAM; without a card for 0."""
    cards = [Card("GPU-1", "A card", int(vram * 1e9), 0, (8, 0) if bf16 else (7, 5))] if vram else []
    box = replace(machine(*cards, torch_for="cuda" if vram else "cpu"), ram_bytes=int(ram * 1e9))
    return dict(outlooks(CATALOG.models, box))


def test_every_model_whose_stages_are_known_has_one() -> None:
    found = on(80)
    assert set(found) >= PREDICTED and {found[id].word for id in PREDICTED} == {"fits"}
    assert not {"vace-14B@2.1.0", "s2v-14B@2.2.0"} & set(found)


def test_more_memory_is_never_worse() -> None:
    ranks: dict[str, list[int]] = {id: [] for id in PREDICTED}
    for vram in (2, 6, 10, 16, 24, 80):
        for id, one in on(vram).items():
            ranks[id].append(ORDER.index(one.word.partition(" ")[0]))
            assert one.fits == (one.word != "no") and (one.word == "fits") <= bool(one.plan.fits)
    assert all(found == sorted(found) for found in ranks.values())
    assert {one.word for one in on(2).values()} == {"no"}
    assert on(24)["t2v-A14B@2.2.0"].word == "streams" and on(24)["t2v-1.3B@2.1.0"].word == "fits"


@pytest.mark.soak
def test_a_size_that_alone_fits() -> None:
    """On the smallest card that takes 480p the same clip of 720p does not go."""
    id = "t2v-A14B@2.2.0"
    known = next(one for vram in range(3, 12) if (one := on(vram)[id]).fits)
    assert known.word == "at 480p" and known.plan.fits is False
    assert known.smaller and known.at_smaller and known.at_smaller.fits
    assert (known.smaller.width, known.smaller.height) in ((832, 480), (480, 832))


def test_what_fits_piece_by_piece_is_told_so() -> None:
    known = on(6)["ti2v-5B@2.2.0"]
    assert known.word == "windows" and known.fits
    assert known.plan.windows and known.plan.windows["count"] > 1
    count, frames = known.plan.windows["count"], known.plan.windows["frames"]
    assert here_text(known) == f"fits in {count} windows of {frames} frames: 1280x704, 121 frames"


def test_other_programs_do_not_count() -> None:
    """The card of `on` has nothing free: this is about the box, not about the moment."""
    assert on(80)["t2v-14B@2.1.0"].word == "fits"


def test_without_a_card_ram_decides() -> None:
    assert on(0, 512)["t2v-14B@2.1.0"].word == "fits" and on(0, 16)["t2v-14B@2.1.0"].word == "no"
    assert on(0, 512)["t2v-14B@2.1.0"].plan.vram_bytes == 0


def test_where_torch_alone_knows_the_device_nothing_is_told() -> None:
    assert outlooks(CATALOG.models, machine(torch_for="hip")) == {}


def test_time_is_told_once_the_pace_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(80)["ti2v-5B@2.2.0"].plan.seconds is None
    monkeypatch.setattr(outlook, "known_pace", lambda device, half: Pace(1e14, 2e10, 1e9))
    fast, slow = on(80)["ti2v-5B@2.2.0"], on(12)["ti2v-5B@2.2.0"]
    assert fast.plan.seconds and slow.plan.seconds and fast.plan.seconds <= slow.plan.seconds


def test_nothing_of_it_loads_torch() -> None:
    code = (
        "import sys; from engine.catalog import load_catalog; from engine.compat.machine import this_machine\n"
        "from engine.runtime.outlook import outlooks; outlooks(load_catalog().models, this_machine())\n"
        "sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_what_is_known_is_told_again_until_something_it_follows_from_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = on(24), on(24)
    assert all(again[id] is one for id, one in first.items())
    assert on(12)["t2v-A14B@2.2.0"] is not first["t2v-A14B@2.2.0"]
    assert on(12, ram=100)["t2v-A14B@2.2.0"] is not on(12)["t2v-A14B@2.2.0"]
    before = on(24)["ti2v-5B@2.2.0"]
    monkeypatch.setattr(outlook, "known_pace", lambda device, half: Pace(1e14, 2e10, 1e9))
    assert before.plan.seconds is None and on(24)["ti2v-5B@2.2.0"].plan.seconds
