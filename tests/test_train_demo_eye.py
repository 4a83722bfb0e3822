"""The evaluation's eye tells drawn scenes, through a real mp4, and tells when they are not what they should be."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from engine.video.write import open_writer
from tools.train_demo.eye import Frames, Seen, look, read_frames
from tools.train_demo.scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Scene, draw, held_out, sample


def filmed(frames: Frames, folder: Path) -> Seen:
    with open_writer(folder / "clip.mp4", width=64, height=64, fps=16) as writer:
        writer.write(frames)
        return look(read_frames(writer.finish(lambda path: "")))


def scenes(frames: int, held: bool) -> list[Scene]:
    """Eight of them, with all words among them; those that are not held out begin anywhere."""
    wanted = list(zip(cycle(SHAPES), COLOURS, cycle(BACKGROUNDS), MOTIONS, strict=False))
    rng = np.random.default_rng([frames, held])
    found: list[Scene] = []
    for number in range(8):
        while True:
            scene = sample(rng, frames, held, anywhere=not held)
            if (scene.shape, scene.motion) == (wanted[number][0], wanted[number][3]):
                found.append(scene)
                break
    return found


@pytest.mark.parametrize(("frames", "held"), [(17, False), (33, True)])
def test_it_tells_drawn_scenes(frames: int, held: bool, tmp_path: Path) -> None:
    for scene in scenes(frames, held):
        assert held_out(scene.shape, scene.colour, scene.background, scene.motion) == held
        seen = filmed(draw(scene, frames), tmp_path)
        assert (seen.shape, seen.colour, seen.background, seen.motion) == (
            scene.shape,
            scene.colour,
            scene.background,
            scene.motion,
        )


@pytest.fixture
def scene() -> Scene:
    return Scene("star", "orange", "black", "left", 45.0, 30.0, 11.0, 0.9)


def test_frames_backwards_move_the_other_way(scene: Scene) -> None:
    assert look(draw(scene, 17)).motion == "left"
    assert look(draw(scene, 17)[::-1]).motion == "right"


def test_channels_swapped_are_another_colour(scene: Scene) -> None:
    assert look(draw(scene, 17)[..., ::-1]).colour != "orange"


def test_two_motions_at_once_are_none(scene: Scene) -> None:
    both = np.concatenate([draw(scene, 9), draw(replace(scene, x=37.8, motion="down"), 9)[1:]])
    assert look(both).motion is None


def test_nothing_is_no_shape() -> None:
    flat = np.full((17, 64, 64, 3), 128, np.uint8)
    seen = look(flat)
    assert (seen.background, seen.colour, seen.shape, seen.motion) == ("gray", None, None, None)
    noise = np.random.default_rng(0).integers(0, 256, flat.shape, np.uint8)
    assert look(noise).shape is None


def test_places_are_those_of_the_scene(scene: Scene) -> None:
    seen = look(draw(replace(scene, shape="circle"), 17))
    assert abs(seen.x - (45.0 - 0.9 * np.arange(17))).max() < 0.2
    assert abs(seen.y - 30.0).max() < 0.2
    assert abs(seen.area - np.pi * 11.0**2).max() < 12
