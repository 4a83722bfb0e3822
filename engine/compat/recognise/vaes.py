"""VAEs: Wan's two, others for video, and those for pictures."""

from __future__ import annotations

from collections import Counter

from engine.compat.recognise.table import Recognised, Shape, Table, last_side, second_side, told_facts
from engine.compat.recognise.told import Told


def find_vae(table: Table, told: Told) -> Recognised | None:
    first = table.shape("decoder.conv1.weight", "decoder.conv_in.weight")
    gamma = table.any("decoder.middle.0.residual.0.gamma", "decoder.mid_block.resnets.N.norm1.gamma")
    if gamma and len(first) == 5:
        return _wan_vae(table, told, first)
    ours = [name for name in table.count if name.startswith(("decoder.", "encoder."))]
    if len(ours) * 2 < len(table.count) or not any(name.startswith("decoder.") for name in ours):
        return None
    image = table.shape("decoder.conv_in.weight", "decoder.layers.N.weight", "decoder.1.weight")
    kernels = Counter(len(table.shapes[name]) for name in ours if name.endswith(".weight"))
    if kernels[5]:
        for name, signs in _VIDEO_VAES:
            if table.has(*signs):
                return Recognised("vae", name=f"{name} VAE, not Wan's", why=("other names than Wan's VAE",))
        return Recognised("vae", name="a video VAE that is not Wan's", why=("kernels of three dimensions",))
    if not kernels[4] or any(".block." in name for name in ours):
        return None
    z = second_side(image)
    facts, why = told_facts(z=z), ("kernels of two dimensions",)
    if not table.any("decoder.conv_in.weight"):
        return Recognised("vae", name="a tiny preview decoder, not a VAE that can stand in", facts=facts, why=why)
    kind = {4: "Stable Diffusion", 16: "Flux or Stable Diffusion 3", 32: "Flux 2"}.get(z, "An image")
    name = f"{kind} VAE for images, not a video VAE"
    layout = "diffusers" if table.any("decoder.mid_block.resnets.N.conv1.weight") else "original"
    return Recognised("vae", layout, False, name, facts=facts, why=why)


_VIDEO_VAES = (
    ("CogVideoX", ("decoder.mid_block.resnets.N.norm1.conv_y.conv.weight",)),
    ("Mochi", ("decoder.block_out.resnets.N.norm1.norm_layer.weight",)),
    ("Cosmos", ("decoder.conv_out.conv_s.weight",)),
    ("HunyuanVideo 1.5", ("decoder.mid_block.resnets.N.norm1.gamma", "decoder.conv_in.conv.weight")),
    ("HunyuanVideo", ("decoder.mid_block.attentions.N.group_norm.weight", "decoder.conv_in.conv.weight")),
    ("HunyuanVideo", ("decoder.mid.block_1.conv1.conv.weight",)),
    ("LTX-Video", ("decoder.mid_block.resnets.N.conv1.conv.weight", "decoder.conv_in.conv.weight")),
    ("LTX-Video", ("decoder.up_blocks.N.res_blocks.0.conv1.conv.weight",)),
)


def _wan_vae(table: Table, told: Told, first: Shape) -> Recognised:
    layout = "original" if table.has("decoder.conv1.weight") else "diffusers"
    z, width = first[1], last_side(table.shape("encoder.conv1.bias", "encoder.conv_in.bias"))
    facts = told_facts(z=z, width=width)
    why: tuple[str, ...] = (f"{z} latent channels", "kernels of three dimensions with gammas")
    version = {16: "2.1", 48: "2.2"}.get(z)
    if not version:
        return Recognised("vae", layout, False, "VAE built like Wan's, with other latents", facts=facts, why=why)
    if version == "2.1" and "qwen" in told.text:
        why = (*why, "its name says Qwen: the same names and shapes as Wan's")
        return Recognised("vae", layout, False, "Qwen-Image VAE, by its name", facts=facts, why=why)
    name = f"Wan {version} VAE" if width in (0, 96, 160) else f"Wan {version} VAE, {width} wide instead of as published"
    return Recognised("vae", layout, True, name, versions=(version,), facts=facts, why=why)
