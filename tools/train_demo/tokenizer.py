"""The demo's tokenizer: one token a word, lower case, no punctuation; words it does not know vanish."""

from __future__ import annotations

from typing import Any

from tools.train_demo.words import vocabulary


def make_tokenizer() -> Any:
    """T5's special tokens, then the words of `words.py`; saved and loaded as any tokenizer of transformers."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    ids = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\p{L}]+"), " "),
            normalizers.Replace(Regex(rf"\b(?!(?:{'|'.join(words)})\b)\p{{L}}+"), ""),  # unknown words
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
