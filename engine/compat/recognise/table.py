"""The names and shapes of a file's tensors, as a table to look signs up in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Recognised:
    """What a file is. `families` are those of the catalog it can belong to, several where names cannot tell."""

    part: str  # "transformer", "vae", "text_encoder", "image_encoder", "lora", "checkpoint" (several parts), "unknown"
    layout: str = "unknown"  # "diffusers", "original", "comfyui", "gguf"
    wan: bool = False  # Wan's own, or a part Wan uses
    name: str = "unknown weights"  # for people
    families: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    size: str | None = None  # of the published ones
    expert: str | None = None  # "high", "low"
    rank: int | None = None  # a LoRA's commonest
    dtypes: tuple[str, ...] = ()  # by elements, the commonest first
    parameters: int = 0
    facts: Mapping[str, int] = field(default_factory=dict)
    why: tuple[str, ...] = ()


NUMBER = re.compile(r"(?<=\.)[0-9]++(?=\.)")
_ANIMATE_2 = "blocks.N.block."  # Animate 2 wraps each block in another module
# What programs put before every name. Those of ComfyUI tell its layout.
COMFYUI = ("model.diffusion_model.", "diffusion_model.")
_WRAPPERS = (
    *COMFYUI,
    "base_model.model.",
    "first_stage_model.",
    "text_encoders.umt5xxl.transformer.",
    "text_encoders.umt5xxl.",
    "text_encoder.",
    "transformer.",
    "_orig_mod.",
    "module.",
    "model.",
    "vae.",
    "net.",
)


@dataclass(frozen=True)
class Table:
    shapes: dict[str, Shape]  # by name and by pattern; the first tensor of a pattern stands for all
    count: Counter[str]  # tensors of each pattern
    numbers: dict[str, set[str]]  # the first numbers after a stem: numbers["blocks"] are the blocks

    def has(self, *names: str) -> bool:
        return all(name in self.shapes for name in names)

    def any(self, *names: str) -> bool:
        return any(name in self.shapes for name in names)

    def shape(self, *names: str) -> Shape:
        """The shape of the first of these that is there, else `()`."""
        return next((self.shapes[name] for name in names if name in self.shapes), ())

    def layers(self, *stems: str) -> int:
        return max((len(self.numbers.get(stem, ())) for stem in stems), default=0)


def tabled(entries: Iterable[tuple[str, Shape]]) -> Table:
    table = Table({}, Counter(), {})
    for name, shape in entries:
        pattern = name
        if number := NUMBER.search(name):
            begin, end = number.span()
            pattern = f"{name[:begin]}N{name[end:]}"
            table.numbers.setdefault(name[: begin - 1], set()).add(number.group())
            table.shapes.setdefault(name, shape)
            if pattern.startswith(_ANIMATE_2):  # looked up as other blocks are, too
                table.shapes.setdefault(f"blocks.N.{pattern.removeprefix(_ANIMATE_2)}", shape)
        table.shapes.setdefault(pattern, shape)
        table.count[pattern] += 1
    return table


def unwrapped(entries: list[tuple[str, Shape]]) -> tuple[list[tuple[str, Shape]], bool]:
    """The names without what nearly all of them begin with, and whether that is ComfyUI's."""
    comfyui, most = False, len(entries) * 0.9
    for _ in range(4):
        heads = Counter(name.partition(".")[0] for name, _ in entries)
        likely = [prefix for prefix in _WRAPPERS if heads[prefix.partition(".")[0]] >= most]
        prefix = next((p for p in likely if sum(name.startswith(p) for name, _ in entries) >= most), None)
        if prefix is None or not entries:
            break
        entries = [(name.removeprefix(prefix), shape) for name, shape in entries]
        comfyui = comfyui or prefix in COMFYUI
    return entries, comfyui


def last_side(shape: Shape) -> int:
    return shape[-1] if shape else 0


def second_side(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else 0


def told_facts(**values: int) -> dict[str, int]:
    """What could be read."""
    return {name: value for name, value in values.items() if value}


def shown_name(name: str) -> str:
    """A name out of a file, fit for a screen."""
    return re.sub(r"[^\w.-]", "?", name[:60], flags=re.ASCII)
