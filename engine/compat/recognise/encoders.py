"""Text and image encoders: those Wan uses, and others by name."""

from __future__ import annotations

from engine.compat.recognise.table import Recognised, Table, last_side, told_facts

_RELATIVE = {  # the relative positions of T5: layout -> their pattern, the stem of layers, embedding, a vector
    "diffusers": (
        "encoder.block.N.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block",
        ("shared.weight", "encoder.embed_tokens.weight"),
        "encoder.block.N.layer.0.layer_norm.weight",
    ),
    "original": (
        "blocks.N.pos_embedding.embedding.weight",
        "blocks",
        ("token_embedding.weight",),
        "blocks.N.norm1.weight",
    ),
    "gguf": ("enc.blk.N.attn_rel_b.weight", "enc.blk", ("token_embd.weight",), "enc.blk.N.attn_norm.weight"),
}


def find_text_encoder(table: Table) -> Recognised | None:
    for layout, (relative, stem, embedding, vector) in _RELATIVE.items():
        gate = "blocks.N.ffn.gate.0.weight" if layout == "original" else vector
        if not table.layers(stem) or not table.has(vector) or not table.any(relative, gate):
            continue
        layers, width, biased = table.layers(stem), last_side(table.shape(vector)), table.count[relative]
        shape = table.shape(*embedding)
        vocabulary = shape[0] if shape else 0
        facts = told_facts(layers=layers, width=width, vocabulary=vocabulary)
        if biased < 2 and (biased == 0 or "0" in table.numbers[stem]):
            sign = "relative positions in the first block only" if biased else "no relative positions in its blocks"
            name = f"T5 text encoder ({width} wide), not the UMT5 that Wan uses"
            return Recognised("text_encoder", layout, False, name, facts=facts, why=(sign,))
        why: tuple[str, ...] = (f"relative positions in {biased} blocks", f"{width} wide")
        if width == 4096 and vocabulary in (0, 256384) and (layers == 24 or not vocabulary):
            name = "UMT5-XXL text encoder" if layers == 24 else "part of a UMT5-XXL text encoder"
            return Recognised("text_encoder", layout, True, name, facts=facts, why=why)
        name = f"UMT5 text encoder ({layers} layers, {width} wide), not the XXL that Wan uses"
        return Recognised("text_encoder", layout, False, name, facts=facts, why=why)
    if shape := table.shape("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight"):
        kind = {768: "CLIP-L", 1280: "CLIP-G", 1024: "CLIP-H"}.get(last_side(shape), "CLIP")
        why = ("a text model's token embedding",)
        facts = told_facts(width=last_side(shape))
        return Recognised(
            "text_encoder", "diffusers", False, f"{kind} text encoder, not one Wan uses", facts=facts, why=why
        )
    attention = ("layers.N.self_attn.q_proj.weight", "model.layers.N.self_attn.q_proj.weight", "blk.N.attn_q.weight")
    if table.any(*attention) and table.any("embed_tokens.weight", "model.embed_tokens.weight", "token_embd.weight"):
        name = "language model, not a text encoder Wan uses"
        return Recognised("text_encoder", "unknown", False, name, why=("a language model's blocks",))
    return None


def find_image_encoder(table: Table) -> Recognised | None:
    if shape := table.shape("vision_model.embeddings.class_embedding", "embeddings.class_embedding"):
        layout, layers = "diffusers", table.layers("vision_model.encoder.layers", "encoder.layers")
        patch = table.shape("vision_model.embeddings.patch_embedding.weight", "embeddings.patch_embedding.weight")
    elif shape := table.shape("visual.cls_embedding"):
        layout, layers = "original", table.layers("visual.transformer")
        patch = table.shape("visual.patch_embedding.weight")
    elif shape := table.shape("visual.class_embedding"):
        name = "CLIP vision encoder in OpenCLIP's layout"
        return Recognised(
            "image_encoder", "unknown", False, name, facts=told_facts(width=last_side(shape)), why=("its names",)
        )
    elif table.has("vision_model.embeddings.patch_embedding.weight"):
        name = "SigLIP vision encoder, not one Wan uses"
        return Recognised("image_encoder", "diffusers", False, name, why=("no class embedding",))
    else:
        return None
    width = last_side(shape)
    facts = told_facts(layers=layers, width=width, patch=last_side(patch))
    right = width == 1280 and layers == 32 and patch in ((), (1280, 3, 14, 14))
    name = (
        "CLIP ViT-H image encoder" if right else f"CLIP image encoder ({layers} layers, {width} wide), not one Wan uses"
    )
    why = [f"a class embedding of {width}", f"{layers} layers"]
    if table.any("text_model.embeddings.token_embedding.weight", "textual.token_embedding.weight"):
        why.append("with its text half")
    return Recognised("image_encoder", layout, right, name, facts=facts, why=tuple(why))
