"""Image-to-video: Wan 2.1 with a CLIP image encoder beside the VAE, Wan 2.2 A14B with the VAE alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.job import Job
from engine.pipelines.families import Recipe
from engine.pipelines.families.t2v import BASE
from engine.video.image import fit_image, open_image


def first_image(job: Job) -> Mapping[str, Any]:
    """The first frame, scaled to cover the video's size and cropped to it."""
    assert job.inputs.image and job.width and job.height  # a checked job of this task has them
    return {"image": fit_image(open_image(job.inputs.image), job.width, job.height)}


RECIPES = {"image": Recipe("WanImageToVideoPipeline", BASE, first_image)}
