"""The tensors of Wan's VAEs: the plain one of Wan 2.1, the residual one of Wan 2.2."""

from __future__ import annotations

from itertools import pairwise

from engine.compat.shapes.layers import Config, Conflict, Shapes, linear, numbered, show, under


def vae_shapes(config: Config) -> Shapes:
    z, levels, in_time = config["z_dim"], len(config["dim_mult"]), config["temperal_downsample"]
    if len(in_time) < levels - 1:
        wanted = f"it takes {levels - 1} flags, one less than dim_mult = {show(config['dim_mult'])}"
        raise Conflict(f"temperal_downsample = {show(in_time)}: {wanted}")
    return {
        **under("encoder", _encoder(config)),
        **linear("quant_conv", 2 * z, 2 * z, 1, 1, 1),
        **linear("post_quant_conv", z, z, 1, 1, 1),
        **under("decoder", _decoder(config)),
    }


def _residual(into: int, out: int) -> Shapes:
    return {
        "norm1.gamma": (into, 1, 1, 1),
        **linear("conv1", into, out, 3, 3, 3),
        "norm2.gamma": (out, 1, 1, 1),
        **linear("conv2", out, out, 3, 3, 3),
        **(linear("conv_shortcut", into, out, 1, 1, 1) if into != out else {}),
    }


def _vae_attention(dim: int) -> Shapes:
    return {"norm.gamma": (dim, 1, 1), **linear("to_qkv", dim, 3 * dim, 1, 1), **linear("proj", dim, dim, 1, 1)}


def _middle(dim: int) -> Shapes:
    return {
        **numbered("mid_block.attentions", [_vae_attention(dim)]),
        **numbered("mid_block.resnets", [_residual(dim, dim)] * 2),
    }


def _encoder(config: Config) -> Shapes:
    widths = [config["base_dim"] * factor for factor in (1, *config["dim_mult"])]
    blocks: list[Shapes] = []
    for level, (into, out) in enumerate(pairwise(widths)):
        down = level < len(widths) - 2
        in_time = down and config["temperal_downsample"][level]
        resnets = [_residual(into, out), *[_residual(out, out)] * (config["num_res_blocks"] - 1)]
        sample = linear("resample.1", out, out, 3, 3) if down else {}
        sample |= linear("time_conv", out, out, 3, 1, 1) if in_time else {}
        if config["is_residual"]:
            _check_shortcut(config, into, out, down, in_time)
            blocks.append({**numbered("resnets", resnets), **under("downsampler", sample)})
            continue
        sees = 0.5**level in config["attn_scales"]
        for resnet in resnets:
            blocks += [resnet, _vae_attention(out)] if sees else [resnet]
        blocks += [sample] if down else []
    return {
        **linear("conv_in", config["in_channels"], widths[0], 3, 3, 3),
        **numbered("down_blocks", blocks),
        **_middle(widths[-1]),
        "norm_out.gamma": (widths[-1], 1, 1, 1),
        **linear("conv_out", widths[-1], 2 * config["z_dim"], 3, 3, 3),
    }


def _decoder(config: Config) -> Shapes:
    base = config["base_dim"] if config["decoder_base_dim"] is None else config["decoder_base_dim"]
    factors = config["dim_mult"]
    widths = [base * factor for factor in (factors[-1], *reversed(factors))]
    residual = config["is_residual"]
    blocks: list[Shapes] = []
    for level, (above, out) in enumerate(pairwise(widths)):
        up = level < len(factors) - 1
        in_time = up and config["temperal_downsample"][-1 - level]
        into = above // 2 if level and not residual else above  # the plain kind halves its width as it goes up
        if residual and up:
            _check_shortcut(config, out, into, up, in_time)
        sample = linear("resample.1", out, out if residual else out // 2, 3, 3) if up else {}
        sample |= linear("time_conv", out, 2 * out, 3, 1, 1) if in_time else {}
        resnets = [_residual(into, out), *[_residual(out, out)] * config["num_res_blocks"]]
        name = "upsampler" if residual else "upsamplers.0"
        blocks.append({**numbered("resnets", resnets), **under(name, sample)})
    return {
        **linear("conv_in", config["z_dim"], widths[0], 3, 3, 3),
        **_middle(widths[0]),
        **numbered("up_blocks", blocks),
        "norm_out.gamma": (widths[-1], 1, 1, 1),
        **linear("conv_out", widths[-1], config["out_channels"], 3, 3, 3),
    }


def _check_shortcut(config: Config, finer: int, coarser: int, in_space: bool, in_time: bool) -> None:
    """The shortcut of a residual block folds pixels into channels and averages those: they must come out even."""
    if finer * (4 if in_space else 1) * (2 if in_time else 1) % coarser:
        dims = show(config["dim_mult"])
        raise Conflict(f"dim_mult = {dims}: its residual shortcuts cannot take {finer} channels to {coarser}")
