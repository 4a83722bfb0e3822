"""From a folder to latents, through diffusers' own pipelines."""
