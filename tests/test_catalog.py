"""The catalog: the facts of the models that ship, and what a user's own manifest may do to them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import FAMILY_TASKS, Catalog, ModelSpec, load_catalog, spec_from_table
from engine.errors import JobError

# Parameters of one transformer.
TRANSFORMERS = {
    "t2v-A14B@2.2.0": 14_288_491_584,
    "i2v-A14B@2.2.0": 14_288_901_184,
    "ti2v-5B@2.2.0": 4_999_787_712,
    "animate-14B@2.2.0": 17_274_816_884,
    "animate-2-14B@2.2.0": 16_394_878_784,
    "t2v-1.3B@2.1.0": 1_418_996_800,
    "t2v-14B@2.1.0": 14_288_491_584,
    "i2v-14B-480P@2.1.0": 16_394_878_784,
    "i2v-14B-720P@2.1.0": 16_394_878_784,
    "flf2v-14B-720P@2.1.0": 16_395_536_704,
    "vace-1.3B@2.1.0": 2_153_972_032,
    "vace-14B@2.1.0": 17_337_592_896,
}
VAE_21, VAE_22, UMT5, CLIP = 126_892_531, 704_688_668, 5_680_910_336, 630_766_080

REPOS = {
    "t2v-A14B@2.2.0": "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    "i2v-A14B@2.2.0": "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    "ti2v-5B@2.2.0": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "s2v-14B@2.2.0": "Wan-AI/Wan2.2-S2V-14B",
    "animate-14B@2.2.0": "Wan-AI/Wan2.2-Animate-14B-Diffusers",
    "animate-2-14B@2.2.0": "Wan-AI/Wan2.2-Animate-2-14B-Diffusers",
    "t2v-1.3B@2.1.0": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "t2v-14B@2.1.0": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "i2v-14B-480P@2.1.0": "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    "i2v-14B-720P@2.1.0": "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
    "flf2v-14B-720P@2.1.0": "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
    "vace-1.3B@2.1.0": "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
    "vace-14B@2.1.0": "Wan-AI/Wan2.1-VACE-14B-diffusers",
    "demo@1": None,
}
PINNED = {
    "t2v-A14B@2.2.0": "5be7df9619b54f4e2667b2755bc6a756675b5cd7",
    "i2v-A14B@2.2.0": "596658fd9ca6b7b71d5057529bbf319ecbc61d74",
    "ti2v-5B@2.2.0": "b8fff7315c768468a5333511427288870b2e9635",
    "t2v-1.3B@2.1.0": "0fad780a534b6463e45facd96134c9f345acfa5b",
    "t2v-14B@2.1.0": "38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
    "i2v-14B-480P@2.1.0": "b184e23a8a16b20f108f727c902e769e873ffc73",
    "vace-1.3B@2.1.0": "ec4d2cb062b548996b179d493fdd05340de702a1",
}
# steps, guidance, guidance_2, flow_shift, frames, fps, width, height
SETTINGS: dict[str, tuple[float | None, ...]] = {
    "t2v-A14B@2.2.0": (40, 4.0, 3.0, 12.0, 81, 16, 1280, 720),
    "i2v-A14B@2.2.0": (40, 3.5, 3.5, 5.0, 81, 16, 1280, 720),
    "ti2v-5B@2.2.0": (50, 5.0, None, 5.0, 121, 24, 1280, 704),
    "s2v-14B@2.2.0": (40, 4.5, None, 3.0, 77, 16, 1024, 704),
    "animate-14B@2.2.0": (20, 1.0, None, 5.0, 77, 30, 1280, 720),
    "animate-2-14B@2.2.0": (40, 3.0, None, None, 81, 24, 640, 800),
    "t2v-1.3B@2.1.0": (50, 5.0, None, 3.0, 81, 16, 832, 480),
    "t2v-14B@2.1.0": (50, 5.0, None, 5.0, 81, 16, 1280, 720),
    "i2v-14B-480P@2.1.0": (40, 5.0, None, 3.0, 81, 16, 832, 480),
    "i2v-14B-720P@2.1.0": (40, 5.0, None, 5.0, 81, 16, 1280, 720),
    "flf2v-14B-720P@2.1.0": (50, 5.5, None, 16.0, 81, 16, 1280, 720),
    "vace-1.3B@2.1.0": (50, 5.0, None, 16.0, 81, 16, 832, 480),
    "vace-14B@2.1.0": (50, 5.0, None, 16.0, 81, 16, 1280, 720),
    "demo@1": (8, 4.0, None, 3.0, 33, 16, 64, 64),
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes the user's manifest and names it in the environment."""

    def write(text: str) -> Path:
        file = tmp_path / "mine.toml"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setenv("WAN_MODELS_MANIFEST", str(file))
        return file

    return write


def get(reference: str) -> ModelSpec:
    return load_catalog().find(reference)[0]


def parameters(cls: Any, *args: Any, **kwargs: Any) -> int:
    import torch

    with torch.device("meta"):
        return sum(weight.numel() for weight in cls(*args, **kwargs).parameters())


class TestShipped:
    def test_every_model_is_there_with_its_repository(self, catalog: Catalog) -> None:
        assert {model.id: model.repo for model in catalog.models} == REPOS

    def test_commits_are_pinned_where_known_and_absent_elsewhere(self, catalog: Catalog) -> None:
        assert {model.id: model.revision for model in catalog.models if model.revision} == PINNED
        assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in PINNED.values())

    @pytest.mark.parametrize("id", SETTINGS)
    def test_settings(self, catalog: Catalog, id: str) -> None:
        d = catalog.find(id)[0].defaults
        found = (d.steps, d.guidance, d.guidance_2, d.flow_shift, d.frames, d.fps, d.width, d.height)
        assert found == SETTINGS[id]

    def test_high_noise_guidance_comes_first(self, catalog: Catalog) -> None:
        # The publishers write the pair the other way round.
        defaults = catalog.find("t2v-A14B")[0].defaults
        assert (defaults.guidance, defaults.guidance_2) == (4.0, 3.0)

    def test_experts(self, catalog: Catalog) -> None:
        ratios = {model.id: model.boundary_ratio for model in catalog.models if model.two_experts}
        assert ratios == {"t2v-A14B@2.2.0": 0.875, "i2v-A14B@2.2.0": 0.9}
        for model in catalog.models:
            assert model.two_experts == ("transformer_2" in model.required) == ("transformer_2" in model.architecture)
            assert model.two_experts == (model.defaults.guidance_2 is not None)

    def test_frames_and_sizes_are_possible(self, catalog: Catalog) -> None:
        for model in catalog.models:
            assert model.defaults.frames % 4 == 1, model.id
            assert (model.defaults.width, model.defaults.height) in model.sizes, model.id
            assert all(side % model.grid == 0 for size in model.sizes for side in size), model.id

    def test_grid(self, catalog: Catalog) -> None:
        assert {model.id for model in catalog.models if model.grid == 32} == {"ti2v-5B@2.2.0"}
        assert {model.grid for model in catalog.models} == {16, 32}

    def test_only_the_5b_expands_timesteps_besides_the_demo_made_like_it(self, catalog: Catalog) -> None:
        assert [model.id for model in catalog.models if model.expand_timesteps] == ["ti2v-5B@2.2.0", "demo@1"]

    def test_tasks(self, catalog: Catalog) -> None:
        narrower = {model.id: model.tasks for model in catalog.models if model.tasks != FAMILY_TASKS[model.family]}
        assert narrower == {
            "t2v-A14B@2.2.0": ("text",),
            "animate-2-14B@2.2.0": ("animate",),
            "i2v-14B-480P@2.1.0": ("image",),
            "i2v-14B-720P@2.1.0": ("image",),
        }

    def test_negative_prompts(self, catalog: Catalog) -> None:
        usual = catalog.find("t2v-A14B")[0].defaults.negative_prompt
        assert usual.startswith("色调艳丽，") and usual.endswith("，倒着走") and len(usual) > 100
        for model in catalog.models:
            prompt = model.defaults.negative_prompt
            if model.family == "animate" or model.builtin:
                assert prompt == ""
            else:
                assert (prompt == usual) == (model.family != "s2v") and prompt

    def test_components_of_a_model_are_required_or_allowed_not_forbidden(self, catalog: Catalog) -> None:
        for model in catalog.models:
            assert not set(model.forbidden) & {*model.required, *model.allowed, *model.architecture}, model.id
            if model.pipeline:
                assert set(model.architecture) <= set(model.required), model.id

    def test_what_cannot_run_says_so(self, catalog: Catalog) -> None:
        speech = catalog.find("s2v-14B")[0]
        assert speech.pipeline is None and speech.note and "diffusers" in speech.note
        assert [model.id for model in catalog.models if not model.pipeline] == [speech.id]
        assert {v.kind for model in catalog.models for v in model.variants if v.runnable} == {"bf16"}

    def test_variants_are_wholly_described(self, catalog: Catalog) -> None:
        variants = [variant for model in catalog.models for variant in model.variants]
        assert variants
        for variant in variants:
            assert variant.revision is None or re.fullmatch(r"[0-9a-f]{40}", variant.revision)
            assert all(re.fullmatch(r"[0-9a-f]{16}", digits) for digits in variant.sha256)
            assert len(variant.sha256) in (0, len(variant.files))
            assert isinstance(variant.files, tuple) and isinstance(variant.sha256, tuple)

    def test_demo(self, catalog: Catalog) -> None:
        demo = catalog.find("demo")[0]
        assert demo.builtin and demo.family == "ti2v" and not demo.architecture
        assert demo.sizes == ((64, 64),)

    def test_licences(self, catalog: Catalog) -> None:
        assert {model.licence for model in catalog.models} == {"Apache-2.0"}


class TestArchitecture:
    @pytest.mark.parametrize("id", TRANSFORMERS)
    def test_transformer(self, catalog: Catalog, id: str) -> None:
        import diffusers

        model = catalog.find(id)[0]
        kind = {
            "WanVACEPipeline": "WanVACETransformer3DModel",
            "WanAnimatePipeline": "WanAnimateTransformer3DModel",
            "WanAnimate2ModularPipeline": "WanAnimate2Transformer3DModel",
        }.get(model.pipeline or "", "WanTransformer3DModel")
        cls = getattr(diffusers, kind)
        for name in ("transformer", "transformer_2") if model.two_experts else ("transformer",):
            config = model.architecture[name]
            assert parameters(cls, **config) == TRANSFORMERS[id]
            # A plan must not move when diffusers changes a default.
            stated = {key for key, arg in inspect.signature(cls).parameters.items() if arg.default is not None}
            assert stated <= set(config)

    def test_every_model_with_a_pipeline_has_a_counted_transformer(self, catalog: Catalog) -> None:
        assert {model.id for model in catalog.models if "transformer" in model.architecture} == set(TRANSFORMERS)

    @pytest.mark.parametrize(("id", "count"), [("t2v-A14B", VAE_21), ("ti2v-5B", VAE_22)])
    def test_vae(self, catalog: Catalog, id: str, count: int) -> None:
        from diffusers import AutoencoderKLWan

        assert parameters(AutoencoderKLWan, **catalog.find(id)[0].architecture["vae"]) == count

    def test_the_5b_alone_has_the_vae_of_2_2(self, catalog: Catalog) -> None:
        wide = [m.id for m in catalog.models if m.architecture.get("vae", {}).get("z_dim") == 48]
        assert wide == ["ti2v-5B@2.2.0"]

    def test_text_encoder(self, catalog: Catalog) -> None:
        from transformers import UMT5Config, UMT5EncoderModel

        configs = [model.architecture["text_encoder"] for model in catalog.models if model.architecture]
        assert len(configs) == 13 and all(config == configs[0] for config in configs)
        assert parameters(UMT5EncoderModel, UMT5Config(**configs[0])) == UMT5

    def test_image_encoder(self, catalog: Catalog) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        seeing = [model for model in catalog.models if "image_encoder" in model.architecture]
        assert {m.id for m in seeing} == {
            "animate-14B@2.2.0",
            "animate-2-14B@2.2.0",
            "i2v-14B-480P@2.1.0",
            "i2v-14B-720P@2.1.0",
            "flf2v-14B-720P@2.1.0",
        }
        assert all(model.architecture["image_encoder"] == seeing[0].architecture["image_encoder"] for model in seeing)
        assert parameters(CLIPVisionModel, CLIPVisionConfig(**seeing[0].architecture["image_encoder"])) == CLIP

    def test_pipelines_exist(self, catalog: Catalog) -> None:
        import diffusers

        assert all(hasattr(diffusers, model.pipeline) for model in catalog.models if model.pipeline)

    @pytest.mark.parametrize(
        ("id", "weights"),
        [
            ("t2v-A14B", 2 * 4 * TRANSFORMERS["t2v-A14B@2.2.0"] + 4 * VAE_21 + 2 * UMT5),
            ("i2v-A14B", 2 * 4 * TRANSFORMERS["i2v-A14B@2.2.0"] + 4 * VAE_21 + 2 * UMT5),
            ("ti2v-5B", 4 * TRANSFORMERS["ti2v-5B@2.2.0"] + 4 * VAE_22 + 2 * UMT5),
            ("t2v-1.3B", 4 * TRANSFORMERS["t2v-1.3B@2.1.0"] + 4 * VAE_21 + 4 * UMT5),
            # Only the blocks added for VACE are stored in bf16.
            (
                "vace-1.3B",
                2 * (TRANSFORMERS["vace-1.3B@2.1.0"] + TRANSFORMERS["t2v-1.3B@2.1.0"]) + 4 * VAE_21 + 2 * UMT5,
            ),
        ],
    )
    def test_bytes_are_those_of_the_weights_and_a_tokenizer(self, catalog: Catalog, id: str, weights: int) -> None:
        size = catalog.find(id)[0].bytes
        assert size and 21_000_000 < size - weights < 40_000_000

    def test_bytes_are_given_only_where_known(self, catalog: Catalog) -> None:
        known = {model.name for model in catalog.models if model.bytes}
        assert known == {"t2v-A14B", "i2v-A14B", "ti2v-5B", "t2v-1.3B", "vace-1.3B"}


class TestShift:
    @pytest.mark.parametrize("id", ["t2v-1.3B", "t2v-14B", "i2v-14B-480P", "i2v-14B-720P"])
    def test_wan_2_1_shifts_by_size(self, catalog: Catalog, id: str) -> None:
        defaults = catalog.find(id)[0].defaults
        assert [defaults.shift_for(*size) for size in ((832, 480), (480, 832), (1280, 720), (720, 1280))] == [
            3,
            3,
            5,
            5,
        ]

    def test_other_sizes_take_the_nearest_area(self, catalog: Catalog) -> None:
        defaults = catalog.find("t2v-1.3B")[0].defaults
        assert defaults.shift_for(640, 640) == 3.0
        assert defaults.shift_for(960, 960) == 5.0
        assert defaults.shift_for(256, 256) == 3.0
        assert defaults.shift_for(1920, 1088) == 5.0

    def test_wan_2_2_has_one_shift(self, catalog: Catalog) -> None:
        defaults = catalog.find("t2v-A14B")[0].defaults
        assert {defaults.shift_for(832, 480), defaults.shift_for(1280, 720)} == {12.0}

    def test_the_size_itself_goes_before_one_of_the_same_area(self) -> None:
        by_size = {"480x832": 4.0, "832x480": 3.0}
        families = {"t2v": {"defaults": dict(DEFAULTS, flow_shift=7.0, width=1280, height=720)}}
        table = {"title": "x", "family": "t2v", "path": "/x", "defaults": {"flow_shift_by_size": by_size}}
        defaults = spec_from_table("x", table, families, {}, "/m.toml").defaults
        assert defaults.shift_for(832, 480) == 3.0
        assert defaults.shift_for(480, 832) == 4.0
        assert defaults.shift_for(1280, 704) == 7.0  # the default size counts too

    def test_unknown_stays_unknown(self, catalog: Catalog) -> None:
        assert catalog.find("animate-2-14B")[0].defaults.shift_for(832, 480) is None


DEFAULTS = {
    "steps": 10,
    "guidance": 5,
    "frames": 81,
    "fps": 16,
    "width": 832,
    "height": 480,
    "negative_prompt": "",
}


class TestFind:
    def test_by_id_and_by_name(self, catalog: Catalog) -> None:
        assert catalog.find("t2v-A14B@2.2.0") == catalog.find("t2v-A14B")
        model, variant = catalog.find("t2v-A14B")
        assert (model.id, model.name, model.version, variant) == ("t2v-A14B@2.2.0", "t2v-A14B", "2.2.0", None)

    def test_variant(self, catalog: Catalog) -> None:
        for reference in ("t2v-A14B:fp8", "t2v-A14B@2.2.0:fp8"):
            model, variant = catalog.find(reference)
            assert model.name == "t2v-A14B"
            assert variant and variant.kind == "fp8-scaled" and variant.bytes == 2 * 14_293_923_632

    def test_newest_version(self, manifest: Callable[[str], Path]) -> None:
        manifest("".join(ENTRY.replace("@1.0", f"@{version}") for version in ("2.9", "2.10", "2.2.0")))
        assert get("mine").version == "2.10"
        assert get("mine@2.9").version == "2.9"

    def test_an_id_may_have_no_version(self, manifest: Callable[[str], Path]) -> None:
        manifest(ENTRY.replace("@1.0", "") + ENTRY)
        assert get("mine").version == "" and get("mine@1.0").version == "1.0"

    @pytest.mark.parametrize(
        ("wrong", "right"),
        [
            ("t2v-a14b", "t2v-A14B@2.2.0"),
            ("t2v-A14B@9", "t2v-A14B@2.2.0"),
            ("vase-14B@2.1.0", "vace-14B@2.1.0"),
            ("t2v-A14B:fp9", "t2v-A14B@2.2.0:fp8"),
            ("t2v-A14B:", "t2v-A14B@2.2.0:fp8"),
            ("no such thing", "ti2v-5B@2.2.0"),  # nothing is near: all are named
            ("", "demo@1"),
        ],
    )
    def test_unknown(self, catalog: Catalog, wrong: str, right: str) -> None:
        with pytest.raises(JobError) as raised:
            catalog.find(wrong)
        assert raised.value.code == "unknown-model"
        assert right in raised.value.suggestions[0]

    def test_a_strange_reference_is_shown_escaped_and_short(self, catalog: Catalog) -> None:
        with pytest.raises(JobError) as raised:
            catalog.find("\x1b[31m" + "x" * 100_000)
        assert "\x1b" not in raised.value.message and len(raised.value.message) < 200


ENTRY = """
[models."mine@1.0"]
title = "My fine-tune"
family = "t2v"
repo = "owner/name"
revision = "main"
"""


class TestManifest:
    def test_the_least_entry_takes_the_rest_from_its_family(self, manifest: Callable[[str], Path]) -> None:
        file = manifest(ENTRY)
        model, family = get("mine"), get("t2v-1.3B")
        assert (model.id, model.title, model.repo, model.revision) == ("mine@1.0", "My fine-tune", "owner/name", "main")
        assert model.source == str(file) and model.bytes is None and model.licence is None
        assert model.defaults == family.defaults and model.pipeline == "WanPipeline"
        assert model.required == family.required and model.tasks == ("text", "video")
        assert load_catalog().models[-1] == model and len(load_catalog().models) == len(REPOS) + 1

    @pytest.mark.parametrize("family", FAMILY_TASKS)
    def test_every_family_is_complete(self, manifest: Callable[[str], Path], family: str) -> None:
        manifest(ENTRY.replace('"t2v"', f'"{family}"'))
        model = get("mine")
        assert model.defaults.steps and model.sizes and model.tasks == FAMILY_TASKS[family]
        assert family in ("s2v", "animate") or model.pipeline

    def test_overriding_a_model_key_by_key(self, manifest: Callable[[str], Path]) -> None:
        file = manifest('[models."t2v-A14B@2.2.0"]\ntitle = "Mine"\ndefaults = { steps = 30, guidance = 6 }\n')
        shipped, model = load_catalog().models[0], get("t2v-A14B")
        assert shipped == model and model.title == "Mine" and model.source == str(file)
        assert (model.defaults.steps, model.defaults.guidance, model.defaults.guidance_2) == (30, 6.0, 3.0)
        assert isinstance(model.defaults.guidance, float)
        assert model.revision == PINNED[model.id] and model.bytes == 126_200_628_126
        assert get("i2v-A14B").source.endswith("models.toml")

    def test_another_source_leaves_nothing_of_the_old_one(self, manifest: Callable[[str], Path]) -> None:
        # A commit or a size of one repository says nothing about another.
        manifest('[models."t2v-A14B@2.2.0"]\nrepo = "me/other"\n')
        model = get("t2v-A14B")
        assert (model.repo, model.revision, model.bytes, model.files) == ("me/other", None, None, None)
        manifest('[models."t2v-A14B@2.2.0"]\npath = "/there"\n')
        model = get("t2v-A14B")
        assert (model.repo, model.path, model.revision, model.bytes) == (None, Path("/there"), None, None)
        manifest('[models."t2v-A14B@2.2.0"]\nrevision = "main"\n')
        model = get("t2v-A14B")
        assert (model.repo, model.revision, model.bytes) == (REPOS[model.id], "main", None)

    def test_naming_the_same_source_again_keeps_what_is_known_of_it(self, manifest: Callable[[str], Path]) -> None:
        manifest(f'[models."t2v-A14B@2.2.0"]\nrepo = "{REPOS["t2v-A14B@2.2.0"]}"\n')
        model = get("t2v-A14B")
        assert model.revision == PINNED[model.id] and model.bytes == 126_200_628_126

    @pytest.mark.parametrize("shift", [3.0, 8.0])
    def test_a_shift_of_the_users_counts_for_every_size(self, manifest: Callable[[str], Path], shift: float) -> None:
        manifest(f'[models."t2v-1.3B@2.1.0".defaults]\nflow_shift = {shift}\n')
        defaults = get("t2v-1.3B").defaults
        assert {defaults.shift_for(832, 480), defaults.shift_for(1280, 720)} == {shift}

    def test_paths_are_relative_to_the_manifest(self, manifest: Callable[[str], Path], own_home: Path) -> None:
        entry = ENTRY.replace('repo = "owner/name"', 'path = "weights/mine"')
        assert manifest(entry).parent / "weights" / "mine" == get("mine").path
        manifest(entry.replace("weights", "~"))
        assert get("mine").path == own_home / "mine"
        manifest(entry.replace("weights", "/data"))
        assert get("mine").path == Path("/data/mine")

    def test_architectures_and_families_can_be_added_to(self, manifest: Callable[[str], Path]) -> None:
        manifest(
            '[architectures.small]\nbase = "dit-1B"\nnum_layers = 2\n'
            "[families.t2v.defaults]\nsteps = 7\n"
            + ENTRY
            + 'architecture = { transformer = "small", vae = "vae-2.2" }\n'
            'sizes = ["64x64"]\n'
        )
        model = get("mine")
        assert model.architecture["transformer"] == {**get("t2v-1.3B").architecture["transformer"], "num_layers": 2}
        assert model.defaults.steps == get("t2v-1.3B").defaults.steps == 7
        assert model.grid == 32 and model.sizes == ((64, 64),)

    def test_the_shipped_file_can_be_copied_and_changed(self, manifest: Callable[[str], Path]) -> None:
        text = Path(load_catalog().models[0].source).read_text(encoding="utf-8")
        file = manifest(text.replace("steps = 8\n", "steps = 9\n"))
        assert get("demo").defaults.steps == 9
        assert {model.source for model in load_catalog().models} == {str(file)}

    def test_an_empty_name_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WAN_MODELS_MANIFEST", "")
        assert len(load_catalog().models) == len(REPOS)

    def test_folder(self, catalog: Catalog, tmp_path: Path) -> None:
        model = catalog.folder_spec("ti2v", tmp_path / "odd\x1b name")
        assert model.path == tmp_path / "odd\x1b name" and model.id == str(model.path) and model.repo is None
        assert model.defaults == catalog.find("ti2v-5B")[0].defaults and model.expand_timesteps


# A manifest, what its message names, and what its remedy says.
BAD = {
    "no family": (ENTRY.replace('family = "t2v"', ""), ["mine@1.0", "family"], "family"),
    "no title": (ENTRY.replace('title = "My fine-tune"', ""), ["mine@1.0", "title"], "title"),
    "unknown family": (ENTRY.replace('"t2v"', '"t2w"'), ["family", "'t2w'"], "t2v, i2v, flf2v"),
    "repo and path": (ENTRY + 'path = "/x"', ["mine@1.0"], "one of repo"),
    "neither": (ENTRY.replace('repo = "owner/name"', ""), ["mine@1.0"], "one of repo"),
    "empty path": (ENTRY.replace('repo = "owner/name"', 'path = ""'), ["mine@1.0"], "one of repo"),
    "builtin": (ENTRY.replace('repo = "owner/name"', "builtin = true"), ["builtin"], "Leave it out"),
    "unknown key": (ENTRY + 'titel = "x"', ["titel"], "title"),
    "key in capitals": (ENTRY + 'LICENCE = "x"', ["LICENCE"], "Did you mean licence"),
    "unknown default": (ENTRY + "defaults = { guidence = 3 }", ["defaults.guidence"], "guidance"),
    "unknown section": ("[modells]", ["modells"], "models"),
    "unknown family table": ("[families.t3v]", ["families.t3v"], "t2v"),
    "wrong type": (ENTRY + 'defaults = { steps = "ten" }', ["defaults.steps", "'ten'"], "whole number"),
    "flag for a number": (ENTRY + "defaults = { steps = true }", ["defaults.steps"], "whole number"),
    "zero": (ENTRY + "defaults = { steps = 0 }", ["defaults.steps"], "above 0"),
    "not a number": (ENTRY + "defaults = { guidance = nan }", ["defaults.guidance"], "a number"),
    "infinite": (ENTRY + "defaults = { flow_shift = inf }", ["defaults.flow_shift"], "a number"),
    "frames": (ENTRY + "defaults = { frames = 80 }", ["defaults.frames", "80"], "4k+1"),
    "height off the grid": (ENTRY + "defaults = { height = 488 }", ["mine@1.0", "832x488"], "16"),
    "width off the grid": (ENTRY + "defaults = { width = 840 }", ["mine@1.0", "840x480"], "16"),
    "sizes off the grid": (ENTRY + 'sizes = ["100x100"]', ["mine@1.0", "100x100"], "16"),
    "sizes": (ENTRY + "sizes = [[832, 480]]", ["sizes.0"], "832x480"),
    "shift without a size": (ENTRY + "defaults = { flow_shift_by_size = { 480p = 3 } }", ["480p"], "832x480"),
    "a table in place of text": (ENTRY + "[models.'mine@1.0'.licence]", ["licence"], "text"),
    "text in place of a table": (ENTRY + 'defaults = "few"', ["defaults"], "a table"),
    "text in place of a model": ('[models]\nmine = "x"', ["models.mine"], "a table"),
    "a model in place of models": ("models = 3", ["models"], "a table"),
    "text in place of a list": (ENTRY + 'required = "vae"', ["required"], "a list"),
    "boundary": (ENTRY + "boundary_ratio = 875.0", ["boundary_ratio"], "between 0 and 1"),
    "task": (ENTRY + 'tasks = ["image"]', ["tasks", "'image'"], "text, video"),
    "component": (ENTRY + 'architecture = { vea = "vae-2.1" }', ["architecture.vea"], "vae"),
    "architecture": (ENTRY + 'architecture = { vae = "vae-2.0" }', ["architecture.vae"], "vae-2.1"),
    "base": ('[architectures.a]\nbase = "b"\n[architectures.b]', ["architectures.a.base"], ""),
    "base of itself": ('[architectures.a]\nbase = "a"', ["architectures.a.base"], ""),
    "factor": ('[architectures.a]\nscale_factor_spatial = "x"', ["scale_factor_spatial"], "whole number"),
    "variant": (ENTRY + '[[models."mine@1.0".variants]]\nname = "x"', ["variants"], "kind"),
    "variant without repo": (
        ENTRY + '[[models."mine@1.0".variants]]\nname = "x"\nkind = "gguf"',
        ["variants"],
        "repo",
    ),
    **{
        f"variant file {file}": (
            ENTRY + f'[[models."mine@1.0".variants]]\nname = "x"\nkind = "gguf"\nrepo = "a/b"\nfiles = ["{file}"]',
            ["variants.0.files.0"],
            "a path within the repository",
        )
        for file in ("../x", "a/../x", "/etc/x", "a//x", "./x", "a\\u0007x", "a\\\\x", "..")
    },
    "variant digits": (
        ENTRY + '[[models."mine@1.0".variants]]\nname = "x"\nkind = "gguf"\nrepo = "a/b"\nsha256 = ["XYZ"]',
        ["variants.0.sha256.0"],
        "SHA-256",
    ),
    "variant name": (
        ENTRY + '[[models."mine@1.0".variants]]\nname = "../x"\nkind = "bf16"',
        ["variants.0.name"],
        "letters",
    ),
    "variant repo": (ENTRY + '[[models."mine@1.0".variants]]\nrepo = "x"', ["variants.0.repo"], "owner/name"),
    "not TOML": ('[models."mine"\n', ["not valid TOML", "line 1"], "Correct"),
    "deep": ("a = " + "[" * 5000, ["not valid TOML"], "Correct"),
    "control character": (ENTRY.replace("My", r"\u001b[31m"), ["title", r"\x1b"], "control characters"),
    "turned text": (ENTRY.replace("My", "\u202e"), ["title", r"\u202e"], "control characters"),
    "control character in a key": (r'[architectures."\u001b"]', ["architectures", r"\x1b"], "control characters"),
    "control character in a default": (
        ENTRY + r'defaults = { negative_prompt = "a\nb" }',
        ["negative_prompt"],
        "control",
    ),
}
for _id in ("-mine", "mine@", "mine:q4", "mi ne", "../mine", "mine@1@2", "", "modèle"):
    BAD[f"id {_id}"] = (ENTRY.replace("mine@1.0", _id), ["is no model id"], "letters, digits")
for _repo in ("name", "a/b/c", "owner/", "/name", "../name", "owner/na..me", "owner/na me", "", "https://x/y", "-o/n"):
    BAD[f"repo {_repo}"] = (ENTRY.replace("owner/name", _repo), ["mine@1.0"], "owner/name")
for _revision in ("../main", "a..b", "ma in", "", "-x", "main;rm", "/main", "mäin"):
    BAD[f"revision {_revision}"] = (ENTRY.replace('"main"', f'"{_revision}"'), ["revision"], "a commit")


class TestBadManifest:
    @pytest.mark.parametrize("name", BAD)
    def test_is_refused_naming_the_file_the_key_and_the_remedy(
        self, manifest: Callable[[str], Path], name: str
    ) -> None:
        text, names, remedy = BAD[name]
        file = manifest(text)
        with pytest.raises(JobError) as raised:
            load_catalog()
        error = raised.value
        assert error.code == "bad-manifest" and error.status == 2
        assert error.message.startswith(f"{file}") and all(part in error.message for part in names), error.message
        assert len(error.suggestions) == 1 and remedy in error.suggestions[0], error.suggestions
        assert "\x1b" not in error.message + error.suggestions[0] and len(error.message) < 400

    def test_missing_file_folder_and_foreign_bytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "latin.toml").write_bytes(b'[models."x@1"]\ntitle = "caf\xe9"\n')
        for name, problem in (("absent.toml", "cannot be read"), (".", "cannot be read"), ("latin.toml", "not valid")):
            monkeypatch.setenv("WAN_MODELS_MANIFEST", str(tmp_path / name))
            with pytest.raises(JobError, match=problem) as raised:
                load_catalog()
            assert raised.value.code == "bad-manifest" and str(tmp_path) in raised.value.message

    @pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", PINNED["t2v-A14B@2.2.0"]])
    def test_good_revisions_are_taken(self, manifest: Callable[[str], Path], revision: str) -> None:
        manifest(ENTRY.replace('"main"', f'"{revision}"'))
        assert get("mine").revision == revision


class TestCost:
    def test_no_torch(self) -> None:
        code = (
            "import sys, engine.catalog as c; c.load_catalog(); print(sorted({m.split('.')[0] for m in sys.modules}))"
        )
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert not {"torch", "diffusers", "transformers", "textual", "numpy"} & set(re.findall(r"\w+", loaded))
