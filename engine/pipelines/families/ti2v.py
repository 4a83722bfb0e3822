"""Text- and image-to-video with one model (Wan 2.2 5B): its first latent may be a clean one, at timestep 0."""

from __future__ import annotations

from engine.pipelines.families import Recipe
from engine.pipelines.families.i2v import first_image
from engine.pipelines.families.t2v import BASE

RECIPES = {
    "text": Recipe("WanPipeline", BASE),
    "image": Recipe("WanImageToVideoPipeline", BASE, first_image),
}
