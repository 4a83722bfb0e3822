"""The shapes told without torch are those of the classes themselves, and no configuration does harm."""

from __future__ import annotations

import inspect
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.catalog import load_catalog
from engine.compat.shapes import defaults, expected_shapes, same_tensor
from engine.errors import ModelError
from engine.library.weights import read_shard
from tests import tiny

# Keys of the classes that no tensor follows from; a key that is in neither list is new and has to be looked at.
_WITHOUT_TENSORS = {
    "WanTransformer3DModel": {"qk_norm", "eps"},
    "WanVACETransformer3DModel": {"qk_norm", "eps"},
    "WanAnimateTransformer3DModel": {"qk_norm", "eps", "motion_encoder_batch_size"},
    "WanAnimate2Transformer3DModel": {"eps", "text_len", "refer_stride"}.union(
        "refer_offset_" + axis for axis in "thw"
    ),
    "AutoencoderKLWan": {"dropout", "latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial"},
}
_CONFIGS = {
    "UMT5EncoderModel": "UMT5Config",
    "CLIPVisionModel": "CLIPVisionConfig",
    "CLIPVisionModelWithProjection": "CLIPVisionConfig",
}
_KINDS = (*_WITHOUT_TENSORS, *_CONFIGS)


def _real(kind: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        if kind in _CONFIGS:
            made = getattr(transformers, kind)(getattr(transformers, _CONFIGS[kind])(**config))
        else:
            made = getattr(diffusers, kind)(**config)
    tied = getattr(made, "_tied_weights_keys", None) or {}
    return {name: tuple(tensor.shape) for name, tensor in made.state_dict().items() if name not in tied}


def _same(kind: str, config: Mapping[str, Any]) -> None:
    """Compare, with a configuration that has been through JSON as those of folders have."""
    assert expected_shapes(kind, json.loads(json.dumps(config))) == _real(kind, config), config


# ── Against the classes ──────────────────────────────────────────────────────────────────────────────────────────────


def _architectures() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every architecture of the catalog: its class and its arguments, under the first model that has it."""
    other = {"vae": "AutoencoderKLWan", "text_encoder": "UMT5EncoderModel", "image_encoder": "CLIPVisionModel"}
    special = {
        "vace": "WanVACETransformer3DModel",
        "animate": "WanAnimateTransformer3DModel",
        "animate-2-14B": "WanAnimate2Transformer3DModel",
    }
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for model in load_catalog().models:
        usual = special.get(model.name, special.get(model.family, "WanTransformer3DModel"))
        for component, config in model.architecture.items():
            entry = (other.get(component, usual), dict(config))
            if entry not in found.values():
                found[f"{model.name} {component}"] = entry
    return found


_ARCHITECTURES = _architectures()


@pytest.mark.parametrize("name", _ARCHITECTURES)
def test_architectures_of_the_catalog(name: str) -> None:
    _same(*_ARCHITECTURES[name])


# From docs/models.md of the project, 6.3: counted on the meta device with diffusers 0.42.1.
_PARAMETERS = {
    "t2v-1.3B transformer": 1_418_996_800,
    "t2v-A14B transformer": 14_288_491_584,
    "i2v-A14B transformer": 14_288_901_184,
    "i2v-14B-480P transformer": 16_394_878_784,
    "flf2v-14B-720P transformer": 16_395_536_704,
    "ti2v-5B transformer": 4_999_787_712,
    "vace-1.3B transformer": 2_153_972_032,
    "vace-14B transformer": 17_337_592_896,
    "animate-14B transformer": 17_274_816_884,
    "t2v-A14B text_encoder": 5_680_910_336,
    "t2v-A14B vae": 126_892_531,
    "ti2v-5B vae": 704_688_668,
    "animate-14B image_encoder": 630_766_080,
}


def test_parameters_are_those_counted_before() -> None:
    counted = {name: expected_shapes(*architecture) for name, architecture in _ARCHITECTURES.items()}
    assert len(counted) == len(_PARAMETERS) + 1  # of Animate 2 only bytes are published
    sums = {name: sum(map(math.prod, shapes.values())) for name, shapes in counted.items() if shapes}
    animate_2 = sums.pop("animate-2-14B transformer")
    assert sums == _PARAMETERS
    assert round(animate_2 * 2 / 1e9, 2) == 32.79


@pytest.mark.parametrize("kind", _KINDS)
def test_defaults_are_those_of_the_class(kind: str) -> None:
    ours = defaults(kind)
    if kind in _CONFIGS:
        config = getattr(transformers, _CONFIGS[kind])()
        if kind == "UMT5EncoderModel":
            assert ours.pop("is_gated_act") is None
            assert config.is_gated_act is True
        assert ours == {key: getattr(config, key) for key in ours}
    else:
        parameters = inspect.signature(getattr(diffusers, kind)).parameters
        assert ours == {key: parameters[key].default for key in ours}
        assert set(parameters) - set(ours) - {"self"} == _WITHOUT_TENSORS[kind]
    assert expected_shapes(kind, {}) == _real(kind, {})


def _transformer(r: random.Random) -> dict[str, Any]:
    return {
        "patch_size": [r.randint(1, 3) for _ in range(3)],
        "num_attention_heads": r.randint(1, 4),
        "attention_head_dim": r.choice((6, 12, 16)),
        "in_channels": r.randint(1, 9),
        "out_channels": r.choice((0, None, 3, 16)),
        "text_dim": r.randint(1, 20),
        "freq_dim": r.randint(2, 20),
        "ffn_dim": r.randint(1, 30),
        "num_layers": r.randint(1, 4),
        "cross_attn_norm": r.random() < 0.5,
        "image_dim": r.choice((None, 7, 11)),
        "added_kv_proj_dim": r.choice((None, 5, 24)),
        "pos_embed_seq_len": r.choice((None, 3)),
        "rope_max_seq_len": 16,
    }


def _vace(r: random.Random) -> dict[str, Any]:
    config = _transformer(r)
    places = r.sample(range(1, config["num_layers"]), r.randint(0, config["num_layers"] - 1))
    return {**config, "vace_layers": [0, *places], "vace_in_channels": r.randint(1, 9)}


def _animate(r: random.Random) -> dict[str, Any]:
    latent = r.randint(1, 6)
    every = r.randint(1, 3)
    size = r.choice((4, 8, 16, 64))
    table = {str(2**power): r.randint(1, 9) for power in range(2, 7)}
    return {
        **_transformer(r),
        **r.choice(({"latent_channels": latent}, {"latent_channels": None}, {"latent_channels": latent})),
        "in_channels": 2 * latent + 4,
        **r.choice(({}, {}, {"in_channels": None, "latent_channels": latent})),
        "num_layers": every * r.randint(1, 2),
        "inject_face_latents_blocks": every,
        "motion_encoder_channel_sizes": r.choice((None, table)),
        "motion_encoder_size": size,
        "motion_style_dim": r.randint(1, 9),
        "motion_dim": r.randint(1, 9),
        "motion_encoder_dim": r.randint(1, 9),
        "face_encoder_hidden_dim": r.randint(1, 9),
        "face_encoder_num_heads": r.randint(1, 4),
    }


def _animate_2(r: random.Random) -> dict[str, Any]:
    heads = r.randint(1, 4)
    sizes = {key: r.randint(1, 20) for key in ("in_dim", "out_dim", "ffn_dim", "freq_dim", "text_dim")}
    flags = {key: r.random() < 0.5 for key in ("cross_attn_norm", "use_img_emb")}
    patch = [r.randint(1, 3) for _ in range(3)]
    more = {"num_heads": heads, "dim": 2 * heads * r.randint(1, 8), "num_layers": r.randint(1, 4)}
    return {**sizes, **flags, **more, "patch_size": patch}


def _vae(r: random.Random) -> dict[str, Any]:
    residual = r.random() < 0.5
    factors = [r.randint(1, 4) for _ in range(r.randint(1, 4))]
    if residual:  # most come out even
        factors = sorted(r.choice((1, 2, 2, 3, 4)) for _ in factors)
        factors[-1] = factors[-2] if len(factors) > 1 else 1
    return {
        "base_dim": r.randint(2, 5),
        "decoder_base_dim": r.choice((None, 2, 3, 6)),
        "z_dim": r.randint(1, 5),
        "dim_mult": factors,
        "num_res_blocks": r.randint(1, 3),
        "attn_scales": r.choice(([], [1.0], [1, 0.25], [0.5])),
        "temperal_downsample": [r.random() < 0.5 for _ in range(len(factors) - r.choice((0, 1)))],
        "is_residual": residual,
        "in_channels": r.randint(1, 12),
        "out_channels": r.randint(1, 12),
        "patch_size": r.choice((None, 2)),
    }


def _umt5(r: random.Random) -> dict[str, Any]:
    keys = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads", "relative_attention_num_buckets")
    more = r.choice(({}, {}, {"is_gated_act": False}, {"hidden_size": 5}, {"num_attention_heads": 3, "head_dim": 2}))
    projection = r.choice(("gated-gelu", "relu", "gated-silu", "gelu_new"))
    return {**{key: r.randint(1, 5) for key in keys}, "feed_forward_proj": projection, **more}


def _clip(r: random.Random) -> dict[str, Any]:
    heads = r.randint(1, 4)
    keys = ("intermediate_size", "projection_dim", "num_hidden_layers", "num_channels")
    more = {"num_attention_heads": heads, "hidden_size": heads * r.randint(1, 4)}
    return {**{key: r.randint(1, 6) for key in keys}, **more, "image_size": r.randint(10, 40), "patch_size": 5}


_RANDOM: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "WanTransformer3DModel": _transformer,
    "WanVACETransformer3DModel": _vace,
    "WanAnimateTransformer3DModel": _animate,
    "WanAnimate2Transformer3DModel": _animate_2,
    "AutoencoderKLWan": _vae,
    "UMT5EncoderModel": _umt5,
    "CLIPVisionModel": _clip,
    "CLIPVisionModelWithProjection": _clip,
}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.sampled(4)
def test_random_configurations(kind: str) -> None:
    r = random.Random(f"shapes of {kind}")
    made = 0
    for _ in range(40):
        config = _RANDOM[kind](r)
        try:
            _real(kind, config)
        except (ValueError, AssertionError):  # channels of the residual VAE that do not come out even
            with pytest.raises(ModelError, match="shortcuts cannot take"):
                expected_shapes(kind, config)
        else:
            _same(kind, config)
            made += 1
    assert 20 <= made < 40 if kind == "AutoencoderKLWan" else made == 40


@pytest.mark.parametrize("kind", ["t2v", "i2v-clip", "ti2v"])
def test_headers_of_saved_folders(kind: str, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind)
    index = json.loads((folder / "model_index.json").read_text())
    seen = 0
    for part in sorted(folder.glob("*/*.safetensors")):
        component = part.parent
        config = json.loads((component / "config.json").read_text())
        found = {tensor.name: tensor.shape for tensor in read_shard(part).tensors}
        assert expected_shapes(index[component.name][1], config) == found
        assert {same_tensor(index[component.name][1], name) for name in found} == set(found)
        seen += 1
    assert seen == (4 if kind == "i2v-clip" else 3)


def test_a_class_of_others_is_not_known() -> None:
    assert expected_shapes("UNet2DConditionModel", {"num_layers": -1}) is None
    assert same_tensor("UNet2DConditionModel", "vision_model.norm_added_q") == "vision_model.norm_added_q"


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prefixed(name: str) -> str:
    return f"vision_model.{name}"


_SPELLINGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "umt5, as saved": ("UMT5EncoderModel", lambda name: name),
    "umt5, the other tied name": (
        "UMT5EncoderModel",
        lambda name: name.replace("shared.weight", "encoder.embed_tokens.weight"),
    ),
    "umt5, with the prefix of its base": ("UMT5EncoderModel", lambda name: f"transformer.{name}"),
    "clip, as transformers 5 saves": ("CLIPVisionModel", lambda name: name),
    "clip, as transformers 4 saved": ("CLIPVisionModel", _prefixed),
    "projected, as saved": ("CLIPVisionModelWithProjection", lambda name: name),
    "projected, without the prefix": ("CLIPVisionModelWithProjection", lambda name: name.removeprefix("vision_model.")),
    "projected, with one prefix more": ("CLIPVisionModelWithProjection", _prefixed),
}


@pytest.mark.parametrize("case", _SPELLINGS)
def test_spellings_that_load_are_the_same_tensors(case: str, tmp_path: Path) -> None:
    kind, spell = _SPELLINGS[case]
    small = tiny.text_encoder(50) if kind == "UMT5EncoderModel" else tiny.image_encoder()
    made = getattr(transformers, kind)(small.config)
    made.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    config = json.loads((tmp_path / "config.json").read_text())
    assert expected_shapes(kind, config) == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    save_file({spell(name): tensor for name, tensor in tensors.items()}, file, {"format": "pt"})
    loaded, told = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in tensors.items())
    assert {spell(name): same_tensor(kind, spell(name)) for name in tensors} == {spell(name): name for name in tensors}


def test_what_the_classes_pass_over() -> None:
    spare = "blocks.0.attn2.norm_added_q.weight"
    for kind in _WITHOUT_TENSORS:
        ignored = getattr(diffusers, kind)._keys_to_ignore_on_load_unexpected or []
        assert (same_tensor(kind, spare) is None) == ("norm_added_q" in ignored)
        assert set(ignored) <= {"norm_added_q"}
    for kind in ("CLIPVisionModel", "CLIPVisionModelWithProjection"):
        assert same_tensor(kind, "vision_model.embeddings.position_ids") is None
        assert same_tensor(kind, "text_model.embeddings.position_ids") == "text_model.embeddings.position_ids"


def test_the_configuration_of_a_whole_clip() -> None:
    vision = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 3, "num_hidden_layers": 1}
    whole = {"model_type": "clip", "hidden_size": 99, "vision_config": vision}
    assert expected_shapes("CLIPVisionModel", whole) == expected_shapes("CLIPVisionModel", vision)


# ── Configurations that cannot be ────────────────────────────────────────────────────────────────────────────────────

_BAD: list[tuple[str, dict[str, Any], str]] = [
    ("WanTransformer3DModel", {"num_layers": 10**9}, "num_layers = 1000000000"),
    ("WanTransformer3DModel", {"num_layers": -1}, "num_layers = -1"),
    ("WanTransformer3DModel", {"num_layers": "40"}, "num_layers = '40'"),
    ("WanTransformer3DModel", {"num_layers": 40.0}, "num_layers = 40.0"),
    ("WanTransformer3DModel", {"num_layers": True}, "num_layers = True"),
    ("WanTransformer3DModel", {"num_layers": None}, "num_layers = None"),
    ("WanTransformer3DModel", {"num_layers": 10**5000}, "num_layers = a int too large to show"),
    ("WanTransformer3DModel", {"attention_head_dim": 127}, "attention_head_dim = 127"),
    ("WanTransformer3DModel", {"patch_size": [1, 2]}, "patch_size = [1, 2]"),
    ("WanTransformer3DModel", {"patch_size": 2}, "patch_size = 2"),
    ("WanTransformer3DModel", {"patch_size": [1, 2, 0]}, "patch_size = [1, 2, 0]"),
    ("WanTransformer3DModel", {"patch_size": "122"}, "patch_size = '122'"),
    ("WanTransformer3DModel", {"ffn_dim": 2**40}, "ffn_dim = "),
    ("WanTransformer3DModel", {"image_dim": 0}, "image_dim = 0"),
    ("WanTransformer3DModel", {"cross_attn_norm": "yes"}, "cross_attn_norm = 'yes'"),
    ("WanTransformer3DModel", {"rope_max_seq_len": 10**12}, "rope_max_seq_len = "),
    ("WanVACETransformer3DModel", {"vace_layers": []}, "vace_layers = []"),
    ("WanVACETransformer3DModel", {"vace_layers": [0, 40]}, "vace_layers = [0, 40]"),
    ("WanVACETransformer3DModel", {"vace_layers": [5]}, "vace_layers = [5]"),
    ("WanVACETransformer3DModel", {"vace_layers": [0, 0]}, "vace_layers = [0, 0]"),
    ("WanVACETransformer3DModel", {"vace_layers": [0, -1]}, "vace_layers = [0, -1]"),
    ("WanVACETransformer3DModel", {"vace_layers": [0] * 10**6}, "vace_layers = [0, 0"),
    ("WanAnimateTransformer3DModel", {"in_channels": 16}, "in_channels = 16 and latent_channels = 16"),
    ("WanAnimateTransformer3DModel", {"in_channels": 4, "latent_channels": None}, "in_channels = 4"),
    ("WanAnimateTransformer3DModel", {"in_channels": None, "latent_channels": None}, "in_channels = None"),
    ("WanAnimateTransformer3DModel", {"num_layers": 7}, "num_layers = 7"),
    ("WanAnimateTransformer3DModel", {"motion_encoder_size": 100}, "motion_encoder_size = 100"),
    ("WanAnimateTransformer3DModel", {"motion_encoder_size": []}, "motion_encoder_size = []"),
    ("WanAnimateTransformer3DModel", {"motion_encoder_channel_sizes": {"4": 8}}, "motion_encoder_channel_sizes = "),
    ("WanAnimateTransformer3DModel", {"motion_encoder_channel_sizes": {"4": "8"}}, "motion_encoder_channel_sizes = "),
    ("WanAnimate2Transformer3DModel", {"dim": 5000}, "dim = 5000"),
    ("AutoencoderKLWan", {"dim_mult": []}, "dim_mult = []"),
    ("AutoencoderKLWan", {"dim_mult": [1, 2.0]}, "dim_mult = [1, 2.0]"),
    ("AutoencoderKLWan", {"dim_mult": [1] * 10**6}, "dim_mult = [1, 1"),
    ("AutoencoderKLWan", {"dim_mult": [1, 3], "is_residual": True}, "dim_mult = [1, 3]"),
    ("AutoencoderKLWan", {"temperal_downsample": [True]}, "temperal_downsample = [True]"),
    ("AutoencoderKLWan", {"temperal_downsample": [0, 1, 1]}, "temperal_downsample = [0, 1, 1]"),
    ("AutoencoderKLWan", {"num_res_blocks": 10**9}, "num_res_blocks = "),
    ("AutoencoderKLWan", {"attn_scales": "all"}, "attn_scales = 'all'"),
    ("UMT5EncoderModel", {"vocab_size": 10**12}, "vocab_size = "),
    ("UMT5EncoderModel", {"feed_forward_proj": "gated-gelu-new"}, "feed_forward_proj = "),
    ("UMT5EncoderModel", {"feed_forward_proj": 1}, "feed_forward_proj = 1"),
    ("UMT5EncoderModel", {"is_gated_act": None}, "is_gated_act = None"),
    ("UMT5EncoderModel", {"hidden_size": "wide"}, "hidden_size = 'wide'"),
    ("CLIPVisionModel", {"hidden_size": 33, "num_attention_heads": 4}, "hidden_size = 33"),
    ("CLIPVisionModel", {"patch_size": 225}, "patch_size = 225"),
    ("CLIPVisionModel", {"image_size": [224, 224]}, "image_size = [224, 224]"),
    ("CLIPVisionModel", {"vision_config": [1]}, "vision_config = [1]"),
    ("CLIPVisionModelWithProjection", {"projection_dim": None}, "projection_dim = None"),
]


@pytest.mark.parametrize(("kind", "config", "named"), _BAD)
def test_bad_configurations(kind: str, config: dict[str, Any], named: str) -> None:
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        expected_shapes(kind, config)
    assert time.process_time() - start < 0.5
    assert caught.value.code == "bad-config"
    assert caught.value.message.startswith(f"{kind} cannot have {named}")
    assert len(caught.value.message) < 400


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


_ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    3,
    1.5,
    math.nan,
    math.inf,
    "",
    "40",
    "\x1b[2J",
    [],
    {},
    [None],
    [[1]],
    {"4": 4},
]
_ODD += [
    {4: None},
    10**9,
    2**31,
    10**5000,
    [10**5000],
    "x" * 10**6,
    list(range(10**5)),
    [1.5] * 64,
    object(),
    b"4",
    _deep(),
]


@pytest.mark.parametrize("kind", _KINDS)
def test_odd_values_are_refused_or_harmless(kind: str) -> None:
    for key in defaults(kind):
        for value in _ODD:
            try:
                shapes = expected_shapes(kind, {key: value})
            except ModelError as error:
                assert error.code == "bad-config"
                assert key in error.message
                assert len(error.message) < 400
                assert "\x1b" not in error.message
            else:
                assert shapes
                assert all(type(size) is int and size > 0 for shape in shapes.values() for size in shape)


_WIDEST: dict[str, dict[str, Any]] = {
    "WanTransformer3DModel": {},
    "WanVACETransformer3DModel": {"vace_layers": list(range(256))},
    "WanAnimateTransformer3DModel": {
        "in_channels": 2**16,
        "latent_channels": 2**15 - 2,
        "motion_encoder_size": 1024,
        "motion_encoder_channel_sizes": {str(2**power): 2**16 for power in range(2, 11)},
        "inject_face_latents_blocks": 1,
    },
    "WanAnimate2Transformer3DModel": {},
    "AutoencoderKLWan": {
        "dim_mult": [2**10] * 16,
        "temperal_downsample": [True] * 16,
        "attn_scales": [0.5**n for n in range(16)],
        "num_res_blocks": 32,
    },
    "UMT5EncoderModel": {"is_gated_act": True},
    "CLIPVisionModel": {"patch_size": 1},
    "CLIPVisionModelWithProjection": {"patch_size": 1},
}


@pytest.mark.parametrize("kind", _KINDS)
def test_limits_hold_for_the_widest_configuration(kind: str) -> None:
    """Every value at its own limit: the largest power of two that is taken, found by asking."""
    config: dict[str, Any] = {}
    for key, default in defaults(kind).items():
        if isinstance(default, bool):
            config[key] = True
        elif key == "patch_size" and isinstance(default, tuple):
            config[key] = [32, 32, 32]
        elif (type(default) is int or default is None) and key not in _WIDEST[kind]:
            config[key] = next((2**n for n in range(40, -1, -1) if _is_taken(kind, key, 2**n)), default)
    config = {key: value for key, value in config.items() if value is not None} | _WIDEST[kind]
    if kind == "AutoencoderKLWan":
        config.pop("is_residual")  # the plain kind has more
    shapes = expected_shapes(kind, config)
    assert shapes
    assert 3000 < len(shapes) <= 20_000 or kind.startswith(("UMT5", "CLIP"))
    assert 2**24 <= max(map(max, shapes.values())) <= 2**31


def _is_taken(kind: str, key: str, value: int) -> bool:
    """Whether a value is within its limit; that others would have to change with it does not count."""
    try:
        expected_shapes(kind, {key: value})
    except ModelError as error:
        return "a whole number from" not in error.message and "an even number from" not in error.message
    return True


# ── Cost ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_torch_is_needed() -> None:
    code = "import sys, engine.compat.shapes; sys.exit(bool({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
