"""What the demo's denoiser is trained on, and Muon."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.train_demo.clips import Clips, Shown
from tools.train_demo.denoiser import Batch, Data, begin_with, fresh, set_task
from tools.train_demo.muon import Muon, orthogonal
from tools.train_demo.tokenizer import make_tokenizer

SHOWN = Shown("star", "red", "gray", "left")


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Usual clips are 1, those that begin anywhere 2 throughout; some are too short for nine latent frames."""
    (tmp_path / "config.json").write_text(json.dumps({"latents_mean": [0.5] * 16, "latents_std": [0.5] * 16}))

    def clips(value: float, frames: int) -> Clips:
        return Clips(torch.full((4, 16, frames, 8, 8), value), (SHOWN,) * 4)

    return Data(tmp_path, [clips(1.0, 5), clips(1.0, 9)], [clips(2.0, 9)])


def test_a_clip_that_begins_anywhere_comes_with_its_first_frame(data: Data) -> None:
    rng = np.random.default_rng(0)
    batches = [data.batch(rng, 9) for _ in range(40)]
    kinds = {
        given: {float(clip[0, 0, 0, 0]) for batch in batches if batch.given == given for clip in batch.latents}
        for given in (0, 1)
    }
    assert kinds == {0: {1.0}, 1: {1.0, 3.0}}  # normalised: (1 - 0.5) / 0.5 and (2 - 0.5) / 0.5
    assert {batch.latents.shape[2] for batch in batches} == {9}


def test_a_single_frame_is_never_given(data: Data) -> None:
    rng = np.random.default_rng(0)
    assert {data.batch(rng, 1).given for _ in range(20)} == {0}


def test_the_task_is_the_way_from_the_clip_to_noise_and_given_frames_are_clean() -> None:
    clean = torch.randn(4, 16, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    batch = Batch(clean, ["a red star"] * 4, given=1)
    task = set_task(batch, make_tokenizer(), torch.Generator().manual_seed(0), torch.device("cpu"))
    share = (task.times / 1000).view(-1, 1, 1, 1, 1)
    assert ((task.times > 0) & (task.times < 1000)).all()
    assert torch.equal(task.noisy[:, :, :1], clean[:, :, :1])
    assert torch.allclose((task.noisy - share * task.velocities)[:, :, 1:], clean[:, :, 1:], atol=1e-5)


def test_it_begins_with_a_folder_in_which_words_have_other_numbers(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    before = fresh(len(tokenizer) + 1)
    before.text_encoder.save_pretrained(tmp_path / "text_encoder")
    before.transformer.save_pretrained(tmp_path / "transformer")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    file = tmp_path / "tokenizer" / "tokenizer.json"
    table = json.loads(file.read_text())
    words = table["model"]["vocab"]
    star = words["star"]
    words["star"] = len(tokenizer)  # the last row; its own is "comet" now
    words["comet"] = star
    file.write_text(json.dumps(table))
    state = fresh(len(tokenizer))
    begin_with(state, tmp_path, tokenizer)
    name = "text_encoder.shared.weight"
    now, then = state.weights(), before.weights()
    assert torch.equal(now[name][star], then[name][len(tokenizer)])
    assert torch.equal(now[name][star + 1 :], then[name][star + 1 : -1])
    assert all(torch.equal(now[one], then[one]) for one in now if one != name)
    assert all(torch.equal(now[one], state.averaged[one]) for one in now)


@pytest.mark.parametrize("shape", [(192, 192), (192, 512), (512, 192), (3, 64, 96)])
def test_muon_makes_all_directions_alike(shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    matrices = torch.randn(shape, generator=random) * torch.logspace(0, -2, shape[-1])
    scale = 0.2 * max(shape[-2:]) ** 0.5
    values = torch.linalg.svdvals(orthogonal(matrices)) / scale
    before = torch.linalg.svdvals(matrices)
    assert (before.amax(-1) / before.median(-1).values > 3).all()
    assert values.median() == pytest.approx(1.0, abs=0.3) and values.max() < 1.4


def test_muon_steps_alike_whether_matrices_are_stacked_or_alone() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = (torch.randn(8, 12, generator=random) for _ in range(2))
    gradients = [torch.randn(8, 12, generator=random) for _ in range(2)]

    def stepped(*chosen: int) -> list[torch.Tensor]:
        weights = [torch.nn.Parameter((first, second)[one].clone()) for one in chosen]
        optimizer = Muon(weights, 0.1)
        for weight, one in zip(weights, chosen, strict=True):
            weight.grad = gradients[one]
        optimizer.step()
        return [weight.detach() for weight in weights]

    together = stepped(0, 1)
    assert torch.allclose(together[0], stepped(0)[0], atol=1e-2) and torch.allclose(
        together[1], stepped(1)[0], atol=1e-2
    )
    assert float(((together[0] - first) * gradients[0]).sum()) < -1.0  # downhill
