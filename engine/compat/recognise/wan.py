"""Wan's transformers: which family, version, size and expert."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from engine.compat.recognise.table import Recognised, Table, last_side, second_side, shown_name, told_facts
from engine.compat.recognise.told import Told, narrowed, of_versions

_SIZES = {(1536, 8960, 30): "1.3B", (3072, 14336, 30): "5B", (5120, 13824, 40): "14B"}
TASKS = {
    "t2v": "text-to-video",
    "i2v": "image-to-video",
    "flf2v": "first-and-last-frame",
    "ti2v": "text-and-image-to-video",
    "vace": "VACE",
    "animate": "Animate",
    "s2v": "speech-to-video",
}
# Names in the original layout and in that of diffusers. Three of these make a Wan transformer.
_SIGNS = {
    "normed self-attention queries": ("blocks.N.self_attn.norm_q.weight", "blocks.N.attn1.norm_q.weight"),
    "normed cross-attention queries": ("blocks.N.cross_attn.norm_q.weight", "blocks.N.attn2.norm_q.weight"),
    "a modulation table in each block": ("blocks.N.modulation", "blocks.N.scale_shift_table"),
    "Wan's feed-forward": ("blocks.N.ffn.0.bias", "blocks.N.ffn.net.0.proj.bias"),
}
_PICTURE = (
    "img_emb.proj.1.weight",
    "condition_embedder.image_embedder.ff.net.0.proj.weight",
    "blocks.N.cross_attn.k_img.bias",
    "blocks.N.cross_attn.add_k_proj.bias",
    "blocks.N.attn2.add_k_proj.bias",
)
_PICTURE_PAIR = ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed")
_VACE = ("vace_patch_embedding.weight", "vace_blocks.N.modulation", "vace_blocks.N.scale_shift_table")
_ANIMATE = ("pose_patch_embedding.weight", "face_adapter.fuser_blocks.N.linear1_q.bias", "face_adapter.N.to_q.bias")
_SPEECH = ("casual_audio_encoder.weights", "audio_injector.injector.N.q.bias", "trainable_cond_mask.weight")
SCALED = (".scale_weight", ".scale_input", ".comfy_quant")  # beside weights in 8 bits


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Everything a published model may hold, by top, by module of a block, by part of an attention.
_TOPS = _words(
    "patch_embedding text_embedding time_embedding time_projection head img_emb vace_patch_embedding "
    "pose_patch_embedding motion_encoder face_adapter face_encoder cond_encoder trainable_cond_mask frame_packer "
    "casual_audio_encoder audio_injector condition_embedder proj_out scale_shift_table rope freqs scaled_fp8"
)
_IN_BLOCK = _words("ffn norm1 norm2 norm3 modulation scale_shift_table before_proj after_proj proj_in proj_out")
_IN_ATTENTION = _words(
    "q k v o norm_q norm_k k_img v_img norm_k_img to_q to_k to_v to_out add_k_proj add_v_proj norm_added_k"
)
_IN_EMBEDDER = _words("time_embedder time_proj text_embedder image_embedder timesteps_proj")
_ADDED = {
    "control_adapter": "camera control, as in Fun-Camera",
    "ref_conv": "a reference picture, as in Fun-Control",
    "blocks.cam_encoder": "camera paths, as in ReCamMaster",
    "audio_proj": "speech, as in MultiTalk or HuMo",
    "blocks.audio_cross_attn": "speech, as in MultiTalk or HuMo",
    "fps_embedding": "a frame rate, as in SkyReels V2",
    "patch_embedding_pose": "poses, as in SCAIL",
    "patch_short": "a long history, as in Helios",
}


def _extra(table: Table) -> list[str]:
    """Modules that no published Wan model has, most tensors first."""
    extra: Counter[str] = Counter()
    for pattern, count in table.count.items():
        parts = pattern.split(".", 5)
        top = parts[0]
        if top in ("blocks", "vace_blocks") and len(parts) > 2:
            inner = parts[3:] if parts[2] == "block" else parts[2:]
            module = inner[0] if inner else ""
            if module in ("self_attn", "cross_attn", "attn1", "attn2"):
                if len(inner) < 2 or inner[1] not in _IN_ATTENTION:
                    extra[f"{top}.{module}.{inner[1] if len(inner) > 1 else ''}"] += count
            elif module not in _IN_BLOCK:
                extra[f"{top}.{module}"] += count
        elif top == "condition_embedder" and len(parts) > 1:
            if parts[1] not in _IN_EMBEDDER:
                extra[f"{top}.{parts[1]}"] += count
        elif top not in _TOPS:
            extra[top] += count
    return [name for name, _ in extra.most_common()]


def find_wan(table: Table, told: Told, comfyui: bool) -> Recognised | None:
    signs = [sign for sign, names in _SIGNS.items() if table.any(*names)]
    if len(signs) < 3:
        return _vace_module(table)
    diffusers = table.any(
        "blocks.N.attn1.norm_q.weight", "blocks.N.self_attn.to_q.bias", "blocks.N.attn2.norm_q.weight"
    )
    width = last_side(table.shape(*_SIGNS["normed self-attention queries"], *_SIGNS["normed cross-attention queries"]))
    ffn = last_side(table.shape(*_SIGNS["Wan's feed-forward"]))
    patch = table.shape("patch_embedding.weight")
    channels = second_side(patch)
    if len(patch) == 4 and width and not patch[0] % width:  # some GGUF files join the first two of five dimensions
        channels = patch[0] // width
    values_out = last_side(table.shape("head.head.bias", "proj_out.bias"))
    facts = told_facts(
        layers=table.layers("blocks"),
        width=width,
        heads=width // 128,
        ffn=ffn,
        in_channels=channels,
        out_channels=values_out // 4,  # of each pixel of a 1x2x2 patch
        text_dim=second_side(
            table.shape("text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight")
        ),
        vace_layers=table.layers("vace_blocks"),
        vace_in_channels=second_side(table.shape("vace_patch_embedding.weight")),
    )
    why = signs
    partial = not patch or not values_out
    if partial:
        why.append("no first or last layer: a part of a model")
    size = _SIZES.get((width, ffn, facts.get("layers", 0)))
    if size is None and partial:
        size = next((name for (w, f, _), name in _SIZES.items() if w == width and ffn in (f, 0)), None)
    families, versions, signs_of_family = _family(table, width, channels, facts.get("out_channels", 0), size)
    why += signs_of_family
    extra = _extra(table)
    if extra:
        known = [f"{shown_name(name)} ({_ADDED[name]})" if name in _ADDED else shown_name(name) for name in extra[:4]]
        why.append(f"not in the published models: {', '.join(known)}")
        families = ()  # a pipeline of these families would leave those weights out
        facts["extra"] = len(extra)
    layout = "diffusers" if diffusers else "comfyui" if comfyui else "original"
    found = Recognised("transformer", layout, True, "", families, versions, size, facts=facts, why=tuple(why))
    found = narrowed(found, told)
    return replace(found, name=_wan_name(found, partial, bool(extra), table))


def _family(
    table: Table, width: int, channels: int, out: int, size: str | None
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Families, versions and the signs of them. A number that is 0 is one the file does not tell."""
    if table.any(*_SPEECH):
        return ("s2v",) if channels in (0, 16) else (), ("2.2",), ["modules that hear speech"]
    if table.any(*_ANIMATE):
        return ("animate",) if channels in (0, 36) else (), ("2.2",), ["modules for poses and faces"]
    if table.any("blocks.N.self_attn.to_q.bias", "blocks.N.block.self_attn.q.bias"):
        return ("animate",) if channels in (0, 36) else (), ("2.2",), ["names as in Animate 2"]
    if table.any(*_VACE):
        versions = ("2.1",) if size == "1.3B" else ("2.1", "2.2")
        return ("vace",) if channels in (0, 16) else (), versions, ["VACE blocks"]
    seen = f"{channels} channels in" if channels else "channels untold"
    if table.any(*_PICTURE_PAIR):
        return ("flf2v",) if channels in (0, 36) else (), ("2.1",), [seen, "positions for two pictures"]
    if table.any(*_PICTURE):
        if not channels:
            return ("i2v", "flf2v", "animate"), ("2.1", "2.2"), [seen, "attends to a picture's CLIP features"]
        return ("i2v",) if channels == 36 else (), ("2.1",), [seen, "attends to a picture's CLIP features"]
    both = ("2.1", "2.2")
    if (channels == 48 and out in (0, 48)) or (not channels and width == 3072):
        return ("ti2v",), ("2.2",), [seen]
    if not channels:
        if width == 1536:
            return ("t2v", "vace"), ("2.1",), [seen]
        return ("t2v", "i2v", "vace", "s2v"), both, [seen]
    if channels == 16 and out in (0, 16):
        return ("t2v",), ("2.1",) if size == "1.3B" else both, [seen]
    if channels == 36 and out in (0, 16):
        return ("i2v",), ("2.2",), [seen, "no CLIP features"]
    return (), ("2.2",) if width == 3072 else both, [f"{seen}: none of the published models"]


def _wan_name(found: Recognised, partial: bool, extra: bool, table: Table) -> str:
    tasks = "" if partial and len(found.families) > 1 else " or ".join(TASKS[family] for family in found.families)
    if tasks == "Animate" and table.any("blocks.N.self_attn.to_q.bias", "blocks.N.block.self_attn.q.bias"):
        tasks = "Animate 2"
    size = found.size or f"{found.facts.get('width', 0)}-wide"
    words = ["Wan", tasks, size, "transformer"]
    if not found.families:
        words = ["Wan", size, "transformer", "with additions" if extra else "of no published kind"]
        if channels := found.facts.get("in_channels"):
            words[-1] += f" and {channels} channels in" if extra else f": {channels} channels in"
    if partial:
        words = ["part of a", *words]
    expert = f", {found.expert}-noise expert" if found.expert else ""
    return " ".join(word for word in words if word) + expert + of_versions(found)


def _vace_module(table: Table) -> Recognised | None:
    """VACE blocks by themselves, to be added to a text-to-video transformer."""
    if not table.any(*_VACE):
        return None
    width = last_side(table.shape("vace_blocks.N.modulation", "vace_blocks.N.scale_shift_table"))
    size = {1536: "1.3B", 5120: "14B"}.get(width)
    return Recognised(
        "transformer",
        "diffusers" if table.any("vace_blocks.N.scale_shift_table") else "original",
        True,
        f"VACE blocks for a Wan {size or f'{width}-wide'} transformer, without the transformer",
        size=size,
        facts=told_facts(width=width, vace_layers=table.layers("vace_blocks")),
        why=("VACE blocks", "no blocks of a transformer"),
    )
