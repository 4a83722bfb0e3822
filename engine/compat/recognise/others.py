"""Transformers and UNets of other models, so that none is taken for Wan."""

from __future__ import annotations

from engine.compat.recognise.table import Recognised, Table, last_side, told_facts

_OTHERS = (  # name, and what must all be there; the first that fits
    ("Flux 2", ("double_stream_modulation_img.lin.weight",)),
    ("Flux 2", ("double_stream_modulation_img.linear.weight",)),
    ("Chroma", ("distilled_guidance_layer.in_proj.weight",)),
    ("HunyuanVideo", ("txt_in.individual_token_refiner.blocks.N.adaLN_modulation.1.weight",)),
    ("HunyuanVideo", ("context_embedder.token_refiner.refiner_blocks.N.attn.to_q.weight",)),
    ("Flux", ("double_blocks.N.img_attn.norm.key_norm.scale",)),
    ("Flux", ("single_transformer_blocks.N.attn.norm_q.weight", "context_embedder.weight", "x_embedder.weight")),
    ("Stable Diffusion 3", ("joint_blocks.N.x_block.attn.qkv.weight",)),
    ("Stable Diffusion 3", ("transformer_blocks.N.norm1_context.linear.weight", "pos_embed.proj.weight")),
    ("Qwen-Image", ("transformer_blocks.N.img_mod.1.weight", "transformer_blocks.N.txt_mod.1.weight")),
    ("LTX-2", ("transformer_blocks.N.audio_attn1.norm_q.weight",)),
    ("LTX-Video", ("patchify_proj.weight", "transformer_blocks.N.scale_shift_table")),
    ("LTX-Video", ("proj_in.weight", "transformer_blocks.N.scale_shift_table", "caption_projection.linear_1.weight")),
    ("CogVideoX", ("patch_embed.text_proj.weight", "transformer_blocks.N.norm1.linear.weight")),
    ("Mochi", ("blocks.N.attn.qkv_x.weight",)),
    ("Mochi", ("pos_frequencies", "transformer_blocks.N.attn1.add_q_proj.weight")),
    ("Cosmos", ("blocks.N.self_attn.q_proj.weight", "x_embedder.proj.N.weight")),
    ("Cosmos", ("blocks.block0.blocks.N.block.attn.to_q.0.weight",)),
    ("Cosmos", ("transformer_blocks.N.norm1.linear_1.weight", "time_embed.t_embedder.linear_1.weight")),
    ("PixArt or Sana", ("blocks.N.cross_attn.q_linear.weight",)),
    ("Lumina or Z-Image", ("cap_embedder.N.weight", "layers.N.adaLN_modulation.0.weight")),
    ("Lumina or Z-Image", ("cap_embedder.N.weight", "layers.N.adaLN_modulation.1.weight")),
    ("HiDream", ("double_stream_blocks.N.block.adaLN_modulation.1.bias",)),
    ("Kandinsky 5", ("visual_transformer_blocks.N.visual_modulation.out_layer.weight",)),
)


def find_other(table: Table) -> Recognised | None:
    for name, signs in _OTHERS:
        if table.has(*signs):
            return Recognised("transformer", name=f"{name} transformer", why=(signs[0],))
    if table.any("controlnet_cond_embedding.conv_in.weight", "input_hint_block.N.weight"):
        return Recognised("transformer", name="ControlNet of Stable Diffusion", why=("a hint's first layers",))
    original = table.has("input_blocks.N.0.weight", "time_embed.0.weight")
    if original or table.has("down_blocks.N.resnets.0.conv1.weight", "time_embedding.linear_1.weight"):
        text = next((last_side(s) for name, s in table.shapes.items() if name.endswith("attn2.to_k.weight")), 0)
        layout = "original" if original else "diffusers"
        name = f"{_STABLE.get(text, 'Stable Diffusion')} UNet"
        return Recognised("transformer", layout, name=name, facts=told_facts(text_dim=text), why=("a UNet's blocks",))
    return None


_STABLE = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
