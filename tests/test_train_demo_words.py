"""What captions say, and what the demo's tokenizer makes of them."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.train_demo.clips import Shown
from tools.train_demo.scenes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES
from tools.train_demo.tokenizer import make_tokenizer
from tools.train_demo.words import BACKGROUNDS as SAID_BACKGROUNDS
from tools.train_demo.words import COLOURS as SAID_COLOURS
from tools.train_demo.words import FILLERS, caption, plain_caption, vocabulary
from tools.train_demo.words import MOTIONS as SAID_MOTIONS
from tools.train_demo.words import SHAPES as SAID_SHAPES

SAID = (SAID_SHAPES, SAID_COLOURS, SAID_BACKGROUNDS, SAID_MOTIONS)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def tokens(tokenizer: Any, text: str) -> list[str]:
    found: list[str] = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    return found


def test_every_thing_of_the_world_can_be_said_and_nothing_else() -> None:
    assert [tuple(said) for said in SAID] == [SHAPES, tuple(COLOURS), tuple(BACKGROUNDS), MOTIONS]


def test_a_word_says_one_thing() -> None:
    meant = [(way, name) for said in SAID for name, ways in said.items() for way in ways]
    assert len({way for way, _ in meant}) == len(meant)


def test_captions_say_all_four_things_in_known_words(tokenizer: Any) -> None:
    rng = np.random.default_rng(0)
    for words in product(SHAPES, list(COLOURS)[::3], BACKGROUNDS, MOTIONS):
        shown = Shown(*words)
        text = caption(shown, rng)
        said = [word for word in tokens(tokenizer, text) if word != "</s>"]
        assert "<unk>" not in said
        for ways, name in zip(SAID, words, strict=True):
            assert any(f" {way} " in f" {' '.join(said)} " for way in ways[name]), (text, name)
    assert set(tokens(tokenizer, plain_caption(shown))) <= {*vocabulary(), "</s>"}


def test_captions_differ_and_follow_the_seed() -> None:
    shown = Shown("star", "cyan", "gray", "bounce")
    many = {caption(shown, np.random.default_rng(seed)) for seed in range(100)}
    assert len(many) > 80
    assert caption(shown, np.random.default_rng(5)) == caption(shown, np.random.default_rng(5))


def test_unknown_words_case_and_punctuation_change_nothing(tokenizer: Any) -> None:
    plain = tokens(tokenizer, "a red square moving left on a gray background")
    assert plain == [*["a", "red", "square", "moving", "left", "on", "a", "gray", "background"], "</s>"]
    loud = "EPIC a Red, shiny square?! (moving ... left) on reddish a gray-4k background №7 ünknown"
    assert tokens(tokenizer, loud) == plain
    assert not set(FILLERS) & set(vocabulary())
    assert tokens(tokenizer, "") == tokens(tokenizer, "nothing like this, please") == ["</s>"]


def test_an_stands_before_vowels_alone(tokenizer: Any) -> None:
    orange = Shown("star", "orange", "white", "left")
    assert plain_caption(orange) == "an orange star moving left on a white background"
    assert tokens(tokenizer, "an orange star")[:2] == ["an", "orange"]
    many = [caption(orange, np.random.default_rng(seed)).lower().split() for seed in range(300)]
    pairs = {pair for words in many for pair in pairwise(words) if pair[0] in ("a", "an")}
    assert any(article == "an" for article, _ in pairs)
    assert all((article == "an") == (word[0] in "aeiou") for article, word in pairs)


def test_it_loads_as_any_tokenizer(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "On white, the Emerald disc zooms and grows"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert [again.convert_tokens_to_ids(token) for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
