"""LoRAs and their kin: for which model, of which rank, for which expert."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice

from engine.compat.recognise.table import COMFYUI, NUMBER, Recognised, Shape, last_side, second_side, told_facts
from engine.compat.recognise.told import Told, narrowed, of_versions
from engine.compat.recognise.wan import TASKS

_DOWN = (".lora_A", ".lora_down", ".lora.down", "find_lora.down")
_UP = (".lora_B", ".lora_up", ".lora.up", "find_lora.up")
_MARK = re.compile(
    r"(?:\.(?:lora_A|lora_B|lora_down|lora_up|lora_mid|lora\.down|lora\.up|alpha|diff|diff_b|dora_scale"
    r"|lora_magnitude_vector|lokr_w1|lokr_w1_a|lokr_w1_b|lokr_w2|lokr_w2_a|lokr_w2_b|lokr_t2"
    r"|hada_w1_a|hada_w1_b|hada_w2_a|hada_w2_b|hada_t1|hada_t2|oft_blocks|oft_diag)|find_lora\.(?:down|up))(?=\.|$)"
)
_LORA_PREFIXES = (
    *COMFYUI,
    "transformer_2.",
    "transformer.",
    "base_model.model.",
    "pipe.dit.",
    "dit.",
    "unet.",
    "model.",
)
_KOHYA = ("lora_unet_", "lora_transformer_", "lycoris_")
_LORA_BLOCK = re.compile(  # a module of a Wan block, in the original names and in those of diffusers
    r"(?:vace_)?blocks\.[0-9]++\.(?:block\.)?(?:(?:self|cross)_attn\.(?:[qkvo]|k_img|v_img)|ffn\.[02]"
    r"|attn[12]\.(?:to_[qkv]|to_out\.0|add_[kv]_proj)|ffn\.net\.(?:0\.proj|2))"
)
_KOHYA_BLOCK = re.compile(r"((?:vace_)?blocks)_([0-9]++)_((?:self|cross)_attn|attn[12]|ffn)_(.{1,20})", re.S)
_OTHER_LORAS = (  # name, and one of these in a module's name
    ("Qwen-Image", ("img_mod.1", "img_mod_1", "img_mlp.net", "img_mlp_net", "txt_mlp.net", "txt_mlp_net")),
    ("HunyuanVideo", (".img_attn_qkv", "img_mlp.fc1", "img_mlp_fc1", "img_mod.linear", "token_refiner")),
    ("Flux", ("double_blocks.N.img_attn.", "img_mlp.0", "img_mlp_0", "img_mod.lin", "img_mod_lin", "img_attn.proj")),
    ("Flux or HunyuanVideo", ("double_blocks", "single_blocks", "single_transformer_blocks")),
    ("Stable Diffusion 3", ("joint_blocks",)),
    (
        "Stable Diffusion XL",
        ("lora_te2_", "text_encoder_2.", "input_blocks_8_", "down_blocks_2_attentions_1_transformer_blocks_9"),
    ),
    ("Stable Diffusion", ("down_blocks", "up_blocks", "input_blocks", "output_blocks", "lora_te_", "lora_te1_")),
    ("Qwen-Image or Stable Diffusion 3", ("attn.add_q_proj", "attn_add_q_proj")),
)


def find_lora(entries: list[tuple[str, Shape]], told: Told) -> Recognised | None:
    modules: dict[str, dict[str, Shape]] = {}
    marked = 0
    for name, shape in entries:
        if mark := _MARK.search(name):
            marked += 1
            modules.setdefault(name[: mark.start()], {})[mark.group()] = shape
    if not marked or marked * 2 < len(entries):
        return None
    ranks: Counter[int] = Counter()
    for parts in modules.values():
        ranks.update(parts[mark][0] for mark in (*_DOWN, ".hada_w1_b", ".lokr_w2_b", ".lokr_w1_b") if parts.get(mark))
    marks = {mark for parts in modules.values() for mark in parts}
    kind = "LoRA"
    if any(mark.startswith(".lokr") for mark in marks):
        kind = "LoKr"
    elif any(mark.startswith(".hada") for mark in marks):
        kind = "LoHa"
    elif not marks.intersection((*_DOWN, *_UP)):
        kind = "file of weight differences" if marks <= {".diff", ".diff_b"} else "adapter"
    rank = ranks.most_common(1)[0][0] if ranks else None
    ranked = kind if rank is None else f"{kind} of rank {rank}"
    plain = {_plain(name): parts for name, parts in modules.items()}
    ours = {name: parts for name, parts in plain.items() if _LORA_BLOCK.fullmatch(name)}
    why = [f"names of a {kind}"]
    if len(ours) * 2 < len(plain):
        return _foreign_lora(modules, plain, ranked, rank, why)
    if any(name.startswith(_KOHYA) for name in modules):
        why.append("kohya's names")
    return _wan_lora(modules, plain, ours, ranked, rank, why, told)


def _plain(module: str) -> str:
    """The module a LoRA's tensor is for, as the transformer names it."""
    for _ in range(3):
        for prefix in _LORA_PREFIXES:
            if module.startswith(prefix):
                module = module.removeprefix(prefix)
                break
        else:
            break
    for prefix in _KOHYA:
        if module.startswith(prefix):
            module = module.removeprefix(prefix)
            if block := _KOHYA_BLOCK.fullmatch(module):
                stem, number, part, leaf = block.groups()
                leaf = {"to_out_0": "to_out.0", "net_0_proj": "net.0.proj", "net_2": "net.2"}.get(leaf, leaf)
                return f"{stem}.{number}.{part}.{leaf}"
    return module


def _wan_lora(
    modules: Mapping[str, object],
    plain: Mapping[str, Mapping[str, Shape]],
    ours: Mapping[str, Mapping[str, Shape]],
    ranked: str,
    rank: int | None,
    why: list[str],
    told: Told,
) -> Recognised:
    width = _lora_width(dict(islice(ours.items(), 500)))  # enough to tell
    size = {1536: "1.3B", 3072: "5B", 5120: "14B"}.get(width)
    patch = next((parts for name, parts in plain.items() if name == "patch_embedding"), {})
    channels = second_side(next((patch[mark] for mark in (".diff", *_DOWN) if len(patch.get(mark, ())) == 5), ()))
    picture = any(name.endswith(("k_img", "v_img", "add_k_proj", "add_v_proj")) for name in ours)
    picture = picture or any(name.startswith(("img_emb", "condition_embedder.image_embedder")) for name in plain)
    families: tuple[str, ...] = ("t2v", "i2v", "flf2v", "vace", "animate", "s2v")
    versions: tuple[str, ...] = ("2.1", "2.2")
    if any(name.startswith("vace_") for name in plain):
        families, versions = ("vace",), ("2.1",) if size == "1.3B" else versions
        why.append("VACE blocks")
    elif size == "5B":
        families, versions = ("ti2v",), ("2.2",)
    elif any(name.startswith(("face_adapter", "pose_patch_embedding", "motion_encoder")) for name in plain):
        families, versions = ("animate",), ("2.2",)
    elif picture:
        animate = told.task == "animate"
        families, versions = (("animate",), ("2.2",)) if animate else (("i2v", "flf2v"), ("2.1",))
        why.append("modules for a picture's CLIP features")
    elif channels == 36:
        families = ("i2v",)
    elif size == "1.3B":
        families, versions = ("t2v", "vace"), ("2.1",)
    elif channels == 16:
        families = ("t2v", "vace", "s2v")
    elif channels or not size:
        families = ()
    if channels:
        why.append(f"{channels} channels in")
    if told.task in families and len(families) > 1:
        families = (told.task,) if told.task else families
        why.append(f"its name says {told.task}")
    why.append(f"{width} wide" if width else "width untold")
    diffusers = any(".attn1." in name or ".attn2." in name or ".ffn.net." in name for name in ours)
    comfyui = any(name.startswith(COMFYUI) for name in modules)
    second = told.expert is None and all(name.startswith("transformer_2.") for name in modules)
    found = Recognised(
        "lora",
        "diffusers" if diffusers else "comfyui" if comfyui else "original",
        True,
        "",
        families,
        versions,
        size,
        rank=rank,
        facts=told_facts(width=width, in_channels=channels, modules=len(plain), layers=_lora_layers(ours)),
        why=tuple(why),
    )
    found = narrowed(found, replace(told, expert="low") if second else told)
    task = f" {TASKS[families[0]]}" if len(families) == 1 else ""
    expert = f", {found.expert}-noise expert" if found.expert else ""
    name = f"{ranked} for Wan{task} {size or 'of an unknown size'}{expert}{of_versions(found)}"
    return replace(found, name=name)


def _lora_layers(ours: Iterable[str]) -> int:
    return len({name.split(".", 2)[1] for name in ours if name.startswith("blocks.")})


def _lora_width(ours: Mapping[str, Mapping[str, Shape]]) -> int:
    """The transformer's width, from what goes into or comes out of its attentions; 0 when no shape tells."""
    widths: Counter[int] = Counter()
    for name, parts in ours.items():
        if ".ffn." in name or name.endswith(("k_img", "v_img", "add_k_proj", "add_v_proj")):
            continue
        widths.update(parts[mark][0] for mark in (*_UP, ".diff", ".diff_b", ".hada_w1_a") if parts.get(mark))
        first = [parts[mark][0] for mark in (".lokr_w1", ".lokr_w1_a") if parts.get(mark)]
        second = [parts[mark][0] for mark in (".lokr_w2", ".lokr_w2_a") if parts.get(mark)]
        if first and second:
            widths[first[0] * second[0]] += 1
    if not widths:  # one half of the file, or feed-forwards alone
        for name, parts in ours.items():
            inner = name.endswith(("ffn.0", "ffn.net.0.proj", ".q", "to_q"))
            widths.update(second_side(parts[mark]) for mark in _DOWN if inner and len(parts.get(mark, ())) == 2)
            outer = name.endswith(("ffn.2", "ffn.net.2"))
            widths.update(parts[mark][0] for mark in (*_UP, ".diff_b") if outer and parts.get(mark))
    return widths.most_common(1)[0][0] if widths else 0


def _foreign_lora(
    modules: Mapping[str, object],
    plain: Mapping[str, Mapping[str, Shape]],
    ranked: str,
    rank: int | None,
    why: list[str],
) -> Recognised:
    names = "\n".join(NUMBER.sub("N", name, count=1) for name in (*modules, *plain))
    for model, signs in _OTHER_LORAS:
        if sign := next((sign for sign in signs if sign in names), None):
            name, sure = f"{ranked} for {model}", sign
            break
    else:
        name, sure = _by_width(plain, ranked)
    return Recognised("lora", "unknown", False, name, rank=rank, facts=told_facts(modules=len(plain)), why=(*why, sure))


def _by_width(plain: Mapping[str, Mapping[str, Shape]], ranked: str) -> tuple[str, str]:
    """LTX-Video and CogVideoX name their modules alike: cross-attention and width tell them apart."""
    queries = [
        parts for name, parts in plain.items() if name.startswith("transformer_blocks.") and name.endswith(".to_q")
    ]
    width = last_side(next((parts[mark] for parts in queries for mark in _DOWN if parts.get(mark)), ()))
    crossed = any(".attn2." in name for name in plain)
    model = {
        (True, 2048): "LTX-Video",
        (True, 4096): "LTX-Video",
        (False, 1920): "CogVideoX",
        (False, 3072): "CogVideoX",
    }
    if name := model.get((crossed, width)):
        return f"{ranked} for {name}", f"transformer_blocks, {width} wide"
    return f"{ranked} for an unknown model", "names of no model known here"
