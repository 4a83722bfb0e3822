"""Which keys a job file has, and the rule of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from engine.job import MAX_SEED, Inputs, Memory, Output
from engine.jobfile.rules import (
    SIDE,
    Rule,
    choice,
    device_name,
    flag,
    four_k_plus_one,
    number,
    path,
    paths,
    size,
    size_in_bytes,
    text,
    whole,
)

PROMPT_BYTES = 100_000
PROFILES = ("auto", "resident", "staged", "streamed", "leaf", "windows", "cpu")

_FRAMES = four_k_plus_one(5, 100_001)
_ONE_FRAME_TOO = four_k_plus_one(1, 100_001)

TOP: dict[str, Rule] = {
    "model": text(4096),
    "prompt": text(PROMPT_BYTES, lines=True),
    "negative_prompt": text(PROMPT_BYTES, lines=True),
    "width": SIDE,
    "height": SIDE,
    "frames": _ONE_FRAME_TOO,
    "fps": whole(1, 240),
    "steps": whole(1, 1000),
    "guidance": number(0, 100),
    "guidance_2": number(0, 100),
    "flow_shift": number(0, 100, above=True),
    "seed": whole(0, MAX_SEED),
    "count": whole(1, 1000),
    "strength": number(0, 1, above=True),
    "conditioning_scale": number(0, 10),
    "device": device_name,
}
TABLES: dict[str, dict[str, Rule]] = {
    "inputs": {f.name: paths if f.name == "references" else path for f in fields(Inputs)},
    "memory": {
        "profile": choice(*PROFILES),
        "vram_limit": size_in_bytes,
        "allow_lossy": flag,
        "window": _FRAMES,
        "overlap": whole(1, 100_000),
    },
    "output": {"path": path, "crf": whole(0, 63)},
}
SEGMENT: dict[str, Rule] = {"frames": _FRAMES, "prompt": text(PROMPT_BYTES, lines=True)}
MAKES: dict[str, type] = {"inputs": Inputs, "memory": Memory, "output": Output}
TOP_NAMES = (*TOP, "size", "segments", "recorded", *TABLES)

RULES: Mapping[str, Rule] = (
    TOP | {"size": size} | {f"{table}.{key}": rule for table, rules in TABLES.items() for key, rule in rules.items()}
)
