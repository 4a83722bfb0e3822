"""Text-to-video: Wan 2.1 with one expert, Wan 2.2 A14B with two."""

from __future__ import annotations

from engine.pipelines.families import Recipe

BASE = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")

RECIPES = {"text": Recipe("WanPipeline", BASE)}
