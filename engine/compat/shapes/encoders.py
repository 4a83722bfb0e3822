"""The tensors of the text and image encoders, as transformers has them."""

from __future__ import annotations

from engine.compat.shapes.layers import Config, Conflict, Shapes, linear, norm, numbered, under


def umt5_shapes(config: Config) -> Shapes:
    dim, hidden, heads = config["d_model"], config["d_ff"], config["num_heads"]
    inner, gated = heads * config["d_kv"], config["is_gated_act"]
    if gated is None:  # what a configuration says itself wins
        gated = config["feed_forward_proj"].startswith("gated-")
    block = {
        **{f"layer.0.SelfAttention.{name}.weight": (inner, dim) for name in "qkv"},
        "layer.0.SelfAttention.o.weight": (dim, inner),
        "layer.0.SelfAttention.relative_attention_bias.weight": (config["relative_attention_num_buckets"], heads),
        "layer.0.layer_norm.weight": (dim,),
        **{f"layer.1.DenseReluDense.{name}.weight": (hidden, dim) for name in (("wi_0", "wi_1") if gated else ("wi",))},
        "layer.1.DenseReluDense.wo.weight": (dim, hidden),
        "layer.1.layer_norm.weight": (dim,),
    }
    return {
        "shared.weight": (config["vocab_size"], dim),
        **numbered("encoder.block", [block] * config["num_layers"]),
        "encoder.final_layer_norm.weight": (dim,),
    }


def clip_shapes(config: Config) -> Shapes:
    dim, hidden, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    image, patch = config["image_size"], config["patch_size"]
    if dim % heads:
        raise Conflict(f"hidden_size = {dim}: it takes a multiple of num_attention_heads = {heads}")
    if patch > image:
        raise Conflict(f"patch_size = {patch}: it takes no more than image_size = {image}")
    layer = {**norm("layer_norm1", dim), **norm("layer_norm2", dim)}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        layer |= linear(f"self_attn.{name}", dim, dim)
    layer |= {**linear("mlp.fc1", dim, hidden), **linear("mlp.fc2", hidden, dim)}
    return {
        "embeddings.class_embedding": (dim,),
        "embeddings.patch_embedding.weight": (dim, config["num_channels"], patch, patch),
        "embeddings.position_embedding.weight": ((image // patch) ** 2 + 1, dim),
        **norm("pre_layrnorm", dim),
        **numbered("encoder.layers", [layer] * config["num_hidden_layers"]),
        **norm("post_layernorm", dim),
    }


def projected_clip_shapes(config: Config) -> Shapes:
    projection = {"visual_projection.weight": (config["projection_dim"], config["hidden_size"])}
    return {**under("vision_model", clip_shapes(config)), **projection}
