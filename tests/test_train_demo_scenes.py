"""The demo model's world, and the VAE's training forward against diffusers' own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from tools.train_demo import pictures, scenes
from tools.train_demo.vae import ROOM
from tools.train_demo.whole import decode_whole, encode_whole

WORDS = (scenes.SHAPES, tuple(scenes.COLOURS), tuple(scenes.BACKGROUNDS), scenes.MOTIONS)


def _centres(clip: scenes.Frames) -> np.ndarray:
    """Centre (x, y) and area in pixels of what differs from the corner, of each frame."""
    differs = np.abs(clip.astype(int) - clip[:, :1, :1].astype(int)).max(-1) > 60
    rows, columns = np.mgrid[0 : scenes.SIDE, 0 : scenes.SIDE] + 0.5
    area = differs.sum((1, 2))
    return np.stack([(differs * columns).sum((1, 2)) / area, (differs * rows).sum((1, 2)) / area, area], axis=1)


def _drawn(motion: str, frames: int) -> Iterator[tuple[scenes.Scene, np.ndarray]]:
    rng = np.random.default_rng(5)
    kept = 0
    while kept < 4:
        scene = scenes.sample(rng, frames, None)
        if scene.motion == motion:
            kept += 1
            yield scene, _centres(scenes.draw(scene, frames))


def test_a_sixth_is_held_out_and_training_misses_no_word_and_no_pair() -> None:
    every = list(product(*WORDS))
    held = {words for words in every if scenes.held_out(*words)}
    assert len(every) == 1024
    assert 0.15 <= len(held) / len(every) <= 0.20
    for first, second in combinations(range(4), 2):
        pairs = set(product(WORDS[first], WORDS[second]))
        assert {(words[first], words[second]) for words in set(every) - held} == pairs
        assert {(words[first], words[second]) for words in held} == pairs


@pytest.mark.parametrize("held", [True, False])
def test_a_sample_is_of_the_asked_part(held: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        scene = scenes.sample(rng, 17, held)
        assert scenes.held_out(scene.shape, scene.colour, scene.background, scene.motion) == held


def test_a_seed_gives_the_same_scene() -> None:
    assert scenes.sample(np.random.default_rng(3), 21, None) == scenes.sample(np.random.default_rng(3), 21, None)


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("frames", [1, 17, 33])
def test_shapes_stay_inside(frames: int, anywhere: bool) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        xs, ys, sizes = scenes.path(scenes.sample(rng, frames, None, anywhere), frames)
        assert min((xs - sizes).min(), (ys - sizes).min()) >= 0.0
        assert max((xs + sizes).max(), (ys + sizes).max()) <= scenes.SIDE


def test_a_star_has_a_larger_box_than_other_shapes() -> None:
    rng = np.random.default_rng(6)
    drawn = [scene for scene in (scenes.sample(rng, 17, None) for _ in range(400)) if scene.motion == "still"]
    stars, others = ([s.size for s in drawn if (s.shape == "star") == star] for star in (True, False))
    assert min(stars) >= 12.5 and max(others) <= 12.5


def test_a_usual_path_lies_in_the_middle() -> None:
    rng = np.random.default_rng(4)
    usual, anywhere = (
        [scenes.path(scenes.sample(rng, 33, None, anyhow), 33) for _ in range(200)] for anyhow in (False, True)
    )
    off = [max(abs(along.max() + along.min() - scenes.SIDE) / 2 for along in path[:2]) for path in usual]
    assert 3.0 < max(off) <= 4.0
    assert max(max(abs(along.max() + along.min() - scenes.SIDE) / 2 for along in path[:2]) for path in anywhere) > 10.0


def test_a_longer_clip_than_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="33 frames"):
        scenes.sample(np.random.default_rng(0), 37, None)


@pytest.mark.parametrize(("motion", "way"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))])
def test_it_moves_the_named_way_at_constant_speed(motion: str, way: tuple[int, int]) -> None:
    for scene, seen in _drawn(motion, 17):
        assert 0.7 <= scene.speed <= 1.1
        assert seen[-1, :2] - seen[0, :2] == pytest.approx(np.array(way) * scene.speed * 16, abs=1.0)
        assert seen[8, :2] - seen[0, :2] == pytest.approx(np.array(way) * scene.speed * 8, abs=1.0)


@pytest.mark.parametrize(("motion", "low", "high"), [("grow", 1.75, 3.0), ("shrink", 0.3, 1 / 1.75), ("still", 1, 1)])
def test_it_grows_shrinks_or_stays_in_its_place(motion: str, low: float, high: float) -> None:
    for _, seen in _drawn(motion, 17):
        assert low <= seen[-1, 2] / seen[0, 2] <= high
        assert seen[-1, :2] == pytest.approx(seen[0, :2], abs=2.5)  # a triangle's centroid is below its box's centre


def test_a_bounce_leaves_the_floor_and_comes_back() -> None:
    for scene, seen in _drawn("bounce", 33):
        risen = seen[0, 1] - seen[:, 1]
        assert risen.max() == pytest.approx(scene.height, abs=1.5)
        assert risen[round(scene.period)] < 3.0
        assert risen[round(1.5 * scene.period)] > scene.height - 2.0
        assert seen[:, 0] == pytest.approx(np.full(33, seen[0, 0]), abs=0.5)


def test_a_frame_has_the_named_colours_and_soft_edges() -> None:
    scene = scenes.Scene("square", "orange", "brown", "still", 30.0, 40.5, 10.0)
    frame = scenes.draw(scene, 1)[0]
    assert tuple(frame[40, 30]) == scenes.COLOURS["orange"]
    assert tuple(frame[0, 0]) == scenes.BACKGROUNDS["brown"]
    half = (np.array(scenes.COLOURS["orange"]) + scenes.BACKGROUNDS["brown"]) / 2
    assert frame[30, 30] == pytest.approx(half, abs=1)


def test_training_pictures_are_in_range() -> None:
    made = pictures.batch(np.random.default_rng(0), 6, 5, 32)
    assert made.shape == (6, 3, 5, 32, 32)
    assert made.dtype == np.float32
    assert np.abs(made).max() <= 1.0


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_the_training_forward_is_diffusers_own(frames: int) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**{**ROOM, "base_dim": 4, "z_dim": 4}).eval()
    clip = torch.rand(2, 3, frames, 24, 16) * 2 - 1
    latents = torch.randn(2, 4, 1 + (frames - 1) // 4, 3, 2)
    with torch.no_grad():
        assert torch.allclose(encode_whole(vae, clip), vae.encode(clip).latent_dist.parameters, atol=1e-4)
        assert torch.allclose(decode_whole(vae, latents).clamp(-1, 1), vae.decode(latents).sample, atol=1e-4)
