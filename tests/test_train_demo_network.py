"""The training's short forward pass says what diffusers' own says of text padded to 512 tokens."""

from __future__ import annotations

import copy

import pytest
import torch

from tools.train_demo.network import PADDED, embed, for_training, make_text_encoder, make_transformer, velocity


@pytest.mark.parametrize("given", [0, 1])
def test_the_short_pass_equals_the_pipelines(given: int) -> None:
    torch.manual_seed(0)
    text_encoder, public = make_text_encoder(50).eval(), make_transformer()
    with torch.no_grad():
        public.proj_out.weight.normal_(0, 0.1)
        ids = torch.tensor([[5, 6, 7, 8, 1], [9, 10, 1, 0, 0]])
        mask = (ids > 0).long()
        text = embed(text_encoder, ids, mask)
        latents, times = torch.randn(2, 16, 3, 8, 8), torch.tensor([900.0, 40.0])
        a_token = times[:, None].repeat(1, 3 * 16)
        a_token[:, : 16 * given] = 0
        padded = torch.nn.functional.pad(text, (0, 0, 0, PADDED - text.shape[1]))
        expected = public(latents, a_token, padded).sample
        found = velocity(for_training(copy.deepcopy(public)), latents, times, text, given)
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
