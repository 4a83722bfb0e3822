"""What a form holds: the text of each field as it was typed. A field that is absent takes the model's default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine.job import Inputs, Job
from engine.jobfile import RULES

SeedMode: TypeAlias = Literal["fixed", "random", "increment"]
SEED_MODES: tuple[SeedMode, ...] = ("random", "fixed", "increment")

KEPT = ("memory.allow_lossy", "memory.window", "memory.overlap", "segments")
"""Keys of a job that no field shows: they are carried from the file that held them into the job."""

# Names of fields are the keys of a job file, dotted inside a table; a size is one text.
KEYS = tuple(key for key in RULES if key not in (*KEPT, "width", "height"))
LONG_TEXTS = ("prompt", "negative_prompt")


def is_folder(model: str) -> bool:
    """Whether a model's name is meant as a path."""
    return "/" in model or model.startswith((".", "~"))


@dataclass(frozen=True)
class Form:
    """`texts` by field; `kept` holds the values, as TOML has them, of keys in `KEPT`.

    A text that is there and empty is meant: `negative_prompt = ""` switches the model's own off.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    seed_mode: SeedMode = "random"
    kept: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The reference that was given, or auto."""
        return self.texts.get("model", "auto")

    @property
    def task(self) -> str:
        """What the inputs ask for, in the words of `Job.task`."""
        given = {key.removeprefix("inputs."): Path(text) for key, text in self.texts.items() if "inputs." in key}
        references = (given.pop("references"),) if "references" in given else ()
        return Job(inputs=Inputs(**given, references=references)).task

    def put(self, key: str, text: str) -> Form:
        """The form with a field typed anew; nothing in it means the default. A seed that is typed is a fixed one."""
        if key not in KEYS:
            raise KeyError(key)
        blank = not text if key in LONG_TEXTS else not text.strip()
        if blank:
            return self.without((key,))
        mode: SeedMode = "fixed" if key == "seed" and self.seed_mode == "random" else self.seed_mode
        return replace(self, texts={**self.texts, key: text}, seed_mode=mode)

    def put_empty(self, key: str) -> Form:
        """The form with an empty text that is meant: no negative prompt at all, where the model has one."""
        if key not in LONG_TEXTS:
            raise KeyError(key)
        return replace(self, texts={**self.texts, key: ""})

    def without(self, keys: Iterable[str]) -> Form:
        """The form with these fields left to the model."""
        gone = set(keys)
        return replace(self, texts={key: text for key, text in self.texts.items() if key not in gone})

    def with_seed_mode(self, mode: SeedMode) -> Form:
        """The form with another way to come by seeds; a random one is not typed."""
        form = self.without(("seed",)) if mode == "random" else self
        return replace(form, seed_mode=mode)

    def without_kept(self) -> Form:
        """The form without what no field shows."""
        return replace(self, kept={})
