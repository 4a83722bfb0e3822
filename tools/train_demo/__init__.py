"""How the built-in demo model is made: scenes drawn by code, a VAE, a denoiser, an evaluation."""
