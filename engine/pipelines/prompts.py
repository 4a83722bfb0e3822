"""Prompts to embeddings, kept on disk so that a re-roll never loads the text encoder.

A kept embedding is named by a hash of the cleaned text and of everything that decides its bits; the text itself is not
stored.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engine.compat.anatomy import PICKLES
from engine.library.digest import digest
from engine.paths import cache_dir, drop_oldest, write_atomic
from engine.pipelines.assemble import assemble
from engine.pipelines.components import Components

TOKENS = 512  # what the models were trained with; encode_prompt's own default is 226
KEPT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Embeddings:
    """Text embeddings of shape (1, 512, text width): the prompt's, or those of each segment's in their order.

    `negative` is None without guidance.
    """

    prompts: tuple[torch.Tensor, ...]
    negative: torch.Tensor | None

    @property
    def prompt(self) -> torch.Tensor:
        return self.prompts[0]


@dataclass(frozen=True)
class _Lost:
    """What of a cleaned text says nothing: from where on it is dropped, and words that no token stands for."""

    until: int | None
    unknown: tuple[tuple[int, int], ...]


def encode_prompts(
    components: Components,
    pipeline: str,
    prompt: str,
    negative: str | None,
    segments: Sequence[str] = (),
    known: str | None = None,
) -> Embeddings:
    """Embed both prompts, from disk where they are kept. Warns when words are dropped, or say nothing to the model.

    `segments` are the prompts of a job that has some: they are embedded in place of its own. `known` tells what a model
    of few words understands.
    """
    encode = _Encoder(components, pipeline, known)
    texts = {f"the prompt of segment {number}": text for number, text in enumerate(segments, 1)} or {"prompt": prompt}
    prompts = tuple(encode(text, label) for label, text in texts.items())
    return Embeddings(prompts, None if negative is None else encode(negative, "negative_prompt"))


class _Encoder:
    """Embeds one text after another with the components of one model."""

    def __init__(self, components: Components, pipeline: str, known: str | None) -> None:
        self._components, self._known = components, known
        # Only the text side: everything else of the pipeline stays away.
        self._pipe_parts = (pipeline, ("transformer", "transformer_2", "vae", "image_encoder", "image_processor"))
        self._pipe: Any = None
        folder, place = components.folder, components.placement
        tokenizer = sorted(file for file in (folder.path / "tokenizer").iterdir() if _is_read(file))
        files = [*tokenizer, folder.path / "text_encoder" / "config.json"]
        self._identity = [
            digest([*files, *folder.weight_files("text_encoder")], components.control),
            str(place.dtype_of("text_encoder")),
            _device_kind(place.device),
            *(version(name) for name in ("torch", "transformers", "tokenizers")),
            TOKENS,
            *([folder.grant.identity] if folder.grant else []),  # code and pickles decide bits as well
        ]
        self._width = folder.config("text_encoder").get("d_model")
        self._clean = _cleaner(pipeline)

    def __call__(self, text: str, label: str) -> torch.Tensor:
        cleaned = self._clean(text)
        key = hashlib.sha256(json.dumps([cleaned, *self._identity]).encode()).hexdigest()
        kept = _read(key, self._width)
        if kept is None:
            with self._components.at_work("encodes the prompt"):
                kept = self._encode(text), self._lost(cleaned)
            _keep(key, *kept)
        embedding, lost = kept
        self._tell(cleaned, lost, label)
        return embedding.to(self._components.placement.device)

    def _tell(self, cleaned: str, lost: _Lost, label: str) -> None:
        if lost.until is not None:
            self._components.voice.warn(
                "prompt-truncated",
                f"{label} is longer than {TOKENS} tokens; dropped from: “{_first_words(cleaned[lost.until :])}”.",
            )
        if lost.unknown:
            words = ", ".join(dict.fromkeys(cleaned[begin:end] for begin, end in lost.unknown))
            told = f"{label} has words that say nothing to this model: {_first_words(words)}."
            self._components.voice.warn("words-unknown", f"{told} {self._known}" if self._known else told)

    def _encode(self, text: str) -> torch.Tensor:
        if self._pipe is None:
            pipeline, without = self._pipe_parts
            self._pipe = assemble(self._components, pipeline, without=without)
        with torch.no_grad():  # with gradients other kernels run
            embedding, _ = self._pipe.encode_prompt(
                prompt=text,
                do_classifier_free_guidance=False,
                max_sequence_length=TOKENS,
                device=self._components.placement.device,
            )
        return embedding.cpu().contiguous()  # type: ignore[no-any-return]

    def _lost(self, cleaned: str) -> _Lost:
        tokenizer = self._components.small("tokenizer")
        words = [found.span() for found in re.finditer(r"\w+", cleaned)]
        each = tokenizer([cleaned[slice(*word)] for word in words], add_special_tokens=False).input_ids if words else []
        unknown = (word for word, ids in zip(words, each, strict=True) if {*ids} <= {tokenizer.unk_token_id})
        return _Lost(self._kept_until(tokenizer, cleaned), tuple(unknown))

    def _kept_until(self, tokenizer: Any, cleaned: str) -> int | None:
        """Where in the cleaned text the first dropped word begins; None when all of it fits."""
        if len(tokenizer(cleaned).input_ids) <= TOKENS:
            return None
        offsets = tokenizer(cleaned, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
        return int(offsets[TOKENS - 1][0])  # one token of the 512 closes the text


def _is_read(file: Path) -> bool:
    """Whether a file of the tokenizer's folder can matter to it; pickles are not even opened."""
    return file.is_file() and not file.name.lower().endswith((*PICKLES, ".py"))


def _cleaner(pipeline: str) -> Any:
    """The function by which the pipeline cleans its prompts."""
    import diffusers

    return importlib.import_module(getattr(diffusers, pipeline).__module__).prompt_clean


def _device_kind(device: torch.device) -> str:
    """Devices of one kind give the same bits."""
    if device.type != "cuda":
        return device.type
    return f"cuda {torch.cuda.get_device_name(device)}"


def _first_words(text: str) -> str:
    shown = " ".join(text.split()[:6])[:80]
    return shown + ("…" if len(shown) < len(text.strip()) else "")


def _store() -> Path:
    folder = cache_dir() / "prompts"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _read(key: str, width: object) -> tuple[torch.Tensor, _Lost] | None:
    """What is kept under `key`; None where nothing usable is: it is made again."""
    try:
        file = _store() / f"{key}.safetensors"
        with safe_open(file, "pt") as kept:
            until, unknown = json.loads(kept.metadata()["lost"])
            embedding = kept.get_tensor("embedding")
        file.touch()  # the oldest go first
        found = embedding, _Lost(until, tuple((begin, end) for begin, end in unknown))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return found if embedding.shape == (1, TOKENS, width) else None


def _keep(key: str, embedding: torch.Tensor, lost: _Lost) -> None:
    """Keep an embedding, and let the oldest go. A cache that cannot be written costs time later, nothing else."""
    data = save({"embedding": embedding}, {"lost": json.dumps([lost.until, lost.unknown])})
    with suppress(OSError):
        file = _store() / f"{key}.safetensors"
        write_atomic(file, data)
        drop_oldest(file.parent, "*.safetensors", KEPT_BYTES)
