"""Settings that make a component fail are found by `check`; those that do not are let through; and what nobody foresaw
ends as a fault of the model, with its traceback in the log."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.catalog import load_catalog
from engine.compat import settings
from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import Cancelled, ModelError, RunError
from engine.events import Bus
from engine.paths import log_file, shipped
from engine.pipelines.components import Components, Placement
from engine.runtime.check import check, subject
from engine.runtime.report import Report
from engine.voice import Voice
from tests.corpus import GONE, edit
from tests.runs import events, job_file, wan_tui

TinyModel = Callable[[str], Path]
CATALOG = load_catalog()
UNIPC, EULER, DPM = "UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler"
FILES = {
    "scheduler": "scheduler_config.json",
    "tokenizer": "tokenizer_config.json",
    "image_processor": "preprocessor_config.json",
}
TOKEN = {"content": "<pad>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
ADDED = {"__type": "AddedToken", **TOKEN}
EXPONENTIAL = {"use_exponential_sigmas": True}


def changed(tiny: TinyModel, tmp_path: Path, kind: str, component: str, **changes: Any) -> Path:
    """A copy of a tiny folder with keys of one component's JSON changed."""
    folder = Path(shutil.copytree(tiny(kind), tmp_path / "model"))
    edit(folder / component / FILES.get(component, "config.json"), **changes)
    return folder


def scheduled(tiny: TinyModel, tmp_path: Path, kind: str, **changes: Any) -> Path:
    """A copy of a tiny folder with another scheduler, as diffusers saves it, and keys of that changed."""
    import diffusers

    folder = Path(shutil.copytree(tiny("t2v"), tmp_path / "model"))
    flow = {} if kind == EULER else {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    getattr(diffusers, kind)(**flow).save_pretrained(folder / "scheduler")
    edit(folder / "model_index.json", scheduler=["diffusers", kind])
    edit(folder / "scheduler" / FILES["scheduler"], **changes)
    return folder


def looked_at(folder: Path) -> Report:
    return check(subject(str(folder), CATALOG), CATALOG)


def refused(report: Report) -> set[tuple[str, str | None]]:
    return {(finding.code, finding.component) for finding in report.of("error")}


# --- the scheduler ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (UNIPC, {"use_dynamic_shifting": True}),
        (EULER, {"use_dynamic_shifting": True}),
        (UNIPC, {"use_karras_sigmas": True, **EXPONENTIAL}),
        (EULER, {"use_karras_sigmas": True, **EXPONENTIAL}),
        (DPM, {"use_karras_sigmas": True, **EXPONENTIAL}),
        (UNIPC, {"use_karras_sigmas": None}),
        (EULER, {"use_beta_sigmas": "x"}),
        (UNIPC, EXPONENTIAL),  # runs, and ends in NaN
        (DPM, {"use_karras_sigmas": True}),
        (DPM, {"use_lu_lambdas": True}),
        (UNIPC, {"timestep_spacing": "even"}),
        (DPM, {"timestep_spacing": None}),
        (UNIPC, {"final_sigmas_type": "one"}),
        (UNIPC, {"beta_schedule": "cosine"}),
        (DPM, {"beta_schedule": ["linear"]}),
        (UNIPC, {"beta_end": None}),
        (UNIPC, {"solver_type": "euler"}),
        (UNIPC, {"solver_type": "bh1"}),
        (UNIPC, {"solver_order": 0}),
        (DPM, {"solver_order": 2.0}),
        (DPM, {"algorithm_type": "heun"}),
        (DPM, {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
        (DPM, {"algorithm_type": "deis"}),
        (DPM, {"lambda_min_clipped": None}),
        (UNIPC, {"predict_x0": False}),
        (UNIPC, {"solver_p": "UniPC"}),
        (UNIPC, {"disable_corrector": None}),
        (UNIPC, {"shift_terminal": "x"}),
        (EULER, {"shift_terminal": 1}),
        (EULER, {"shift": None}),
        (EULER, {"time_shift_type": "cubic"}),
        *[(kind, {"num_train_timesteps": value}) for kind in (UNIPC, EULER, DPM) for value in (0, -1, None, 1e3, "x")],
        *[(kind, {"_class_name": value}) for kind in (UNIPC, EULER, DPM) for value in (None, 3, 0.5)],
    ],
)
def test_a_scheduler_that_fails_is_refused(
    kind: str, changes: dict[str, Any], tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = scheduled(tiny_model, tmp_path, kind, **changes)
    assert refused(looked_at(folder)) == {("bad-config", "scheduler")}
    with pytest.raises((ModelError, ArithmeticError)):  # and the installed diffusers agrees
        _works(folder)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *[(kind, {}) for kind in (UNIPC, EULER, DPM)],
        *[(kind, {"_class_name": value}) for kind in (UNIPC, EULER, DPM) for value in (GONE, "DDIMScheduler", [])],
        *[(kind, {"num_train_timesteps": GONE}) for kind in (UNIPC, EULER, DPM)],
        *[(kind, {"unknown_key": [1], "_diffusers_version": None}) for kind in (UNIPC, EULER, DPM)],
        (DPM, {"use_dynamic_shifting": True}),  # it goes on without
        (UNIPC, {"use_dynamic_shifting": None}),
        (UNIPC, {"use_karras_sigmas": True}),
        (UNIPC, {"use_karras_sigmas": 0}),
        (EULER, EXPONENTIAL),
        (UNIPC, {"solver_type": "midpoint"}),
        (UNIPC, {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
        (UNIPC, {"beta_schedule": "squaredcos_cap_v2"}),
        (UNIPC, {"trained_betas": [0.1, 0.2], "beta_schedule": None}),
        (DPM, {"algorithm_type": "deis", "final_sigmas_type": "sigma_min"}),
        (DPM, {"algorithm_type": "sde-dpmsolver++"}),
        (DPM, {"lambda_min_clipped": float("-inf"), "variance_type": "learned"}),
        (UNIPC, {"shift_terminal": 0.1, "disable_corrector": [0]}),
        (UNIPC, {"thresholding": True, "time_shift_type": None, "flow_shift": None}),  # a job has a shift of its own
    ],
)
def test_a_scheduler_that_works_is_let_through(
    kind: str, changes: dict[str, Any], tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = scheduled(tiny_model, tmp_path, kind, **changes)
    report = looked_at(folder)
    assert (report.verdict, report.of("error"), report.of("warning")) == ("runs", (), ())
    _works(folder)


def _works(folder: Path) -> None:
    """Go a few steps with the scheduler, as a run does. Raises `ModelError`; `ArithmeticError` where it makes NaN."""
    from engine.pipelines.assemble import shifted

    held = components(folder)
    with held.at_work("is tried"):
        scheduler = shifted(held.small("scheduler"), 5.0)
        scheduler.set_timesteps(4, device="cpu")
        latents = torch.randn(1, 4, 2, 2, 2, generator=torch.Generator().manual_seed(0))
        for step in scheduler.timesteps:
            latents = scheduler.step(torch.tanh(latents), step, latents, return_dict=False)[0]
    if not latents.isfinite().all():
        raise ArithmeticError("not finite")


def test_beta_sigmas_want_scipy(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scheduled(tiny_model, tmp_path, EULER, use_beta_sigmas=True)
    monkeypatch.setattr(settings, "installed_version", lambda name: None)
    assert refused(looked_at(folder)) == {("missing-dependency", "scheduler")}
    monkeypatch.setattr(settings, "installed_version", lambda name: "1.16.0")
    assert looked_at(folder).verdict == "runs"


def test_a_scheduler_that_fails_but_for_one_step_is_a_warning(tiny_model: TinyModel, tmp_path: Path) -> None:
    report = looked_at(scheduled(tiny_model, tmp_path, UNIPC, lower_order_final=False))
    assert (report.verdict, [finding.code for finding in report.of("warning")]) == ("conditions", ["bad-config"])


# --- the tokenizer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TokenizersBackend", "PreTrainedTokenizerFast", "T5TokenizerFast", "T5Tokenizer"])
@pytest.mark.parametrize(
    ("changes", "t5_alone"),
    [
        ({"pad_token": GONE}, True),  # T5's classes have one
        ({"pad_token": None}, False),
        ({"pad_token": 5}, False),
        ({"pad_token": TOKEN}, False),  # only an AddedToken is taken for a token
        ({"eos_token": []}, False),
        ({"model_max_length": "x"}, False),
    ],
)
def test_a_tokenizer_that_cannot_pad_is_refused(
    kind: str, changes: dict[str, Any], t5_alone: bool, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path, "t2v", "tokenizer", **changes)
    edit(folder / "model_index.json", tokenizer=["transformers", kind])
    works = t5_alone and kind.startswith("T5")
    assert refused(looked_at(folder)) == (set() if works else {("bad-config", "tokenizer")})
    assert _pads(folder) is works


@pytest.mark.parametrize("kind", ["TokenizersBackend", "T5TokenizerFast"])
@pytest.mark.parametrize("place", ["tokenizer_config", "special_tokens_map", "tokenizer", "extra"])
def test_a_pad_token_may_be_told_in_many_places(kind: str, place: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path, "t2v", "tokenizer", pad_token=GONE)
    edit(folder / "model_index.json", tokenizer=["transformers", kind])
    match place:
        case "tokenizer_config":
            edit(folder / "tokenizer" / FILES["tokenizer"], pad_token=ADDED)
        case "special_tokens_map":
            (folder / "tokenizer" / "special_tokens_map.json").write_text(json.dumps({"pad_token": TOKEN}))
        case "tokenizer":
            way = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_type_id": 0}
            edit(folder / "tokenizer" / "tokenizer.json", padding={**way, "pad_id": 0, "pad_token": "<pad>"})
        case _:
            edit(folder / "tokenizer" / FILES["tokenizer"], extra_special_tokens={"pad_token": "<pad>"})
    assert looked_at(folder).verdict == "runs"
    assert _pads(folder)


def _pads(folder: Path) -> bool:
    try:
        tokenizer = components(folder).small("tokenizer")
        tokenizer(["a red"], padding="max_length", max_length=512, truncation=True)
        return tokenizer.model_max_length is None or bool(tokenizer("x " * 900)["input_ids"])
    except Exception:  # noqa: BLE001  (over wrong settings the libraries raise nearly anything)
        return False


# --- the image processor ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"crop_size": {"height": 224, "width": 224}}, "config-mismatch"),
        ({"crop_size": 224}, "config-mismatch"),
        ({"crop_size": GONE}, "config-mismatch"),  # 224 by itself
        ({"crop_size": {"height": 30}}, "config-mismatch"),
        ({"size": None}, "bad-config"),
        ({"size": {"shortest_edge": "x"}}, "bad-config"),
        ({"size": 0}, "bad-config"),
        ({"resample": None}, "bad-config"),
        ({"image_mean": [0.5, 0.5]}, "bad-config"),
        ({"image_mean": None}, "bad-config"),
        ({"image_std": [0.5, "x", 0.5]}, "bad-config"),
        ({"image_std": [0.5, 0, 0.5]}, "bad-config"),
        ({"rescale_factor": "x"}, "bad-config"),
        ({"crop_size": 30}, None),
        ({"size": GONE}, None),
        ({"size": 30}, None),
        ({"size": {"height": 30, "width": 30}}, None),
        ({"image_mean": GONE, "image_std": GONE, "rescale_factor": GONE, "resample": GONE}, None),
        ({"image_mean": 0.5, "image_std": 0.5}, None),
        ({"image_mean": None, "do_normalize": False}, None),
        ({"do_center_crop": False, "size": {"height": 30, "width": 30}}, None),
        ({"feature_extractor_type": "CLIPFeatureExtractor", "image_processor_type": GONE}, None),
    ],
)
@pytest.mark.sampled(3)
def test_an_image_processor_has_to_fit_its_encoder(
    changes: dict[str, Any], code: str | None, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path, "i2v-clip", "image_processor", **changes)
    assert refused(looked_at(folder)) == ({(code, "image_processor")} if code else set())
    assert looked_at(folder).of("warning") == ()
    assert _sees(folder) is (code is None)


def _sees(folder: Path) -> bool:
    from PIL import Image

    held = components(folder)
    try:
        seen = held.small("image_processor")(images=Image.linear_gradient("L").convert("RGB"), return_tensors="pt")
        encoded = held.bring("image_encoder")(**seen, output_hidden_states=True).hidden_states[-2]
        return bool(encoded.isfinite().all())
    except Exception:  # noqa: BLE001  (over wrong settings the libraries raise nearly anything)
        return False


def test_without_a_crop_only_a_square_picture_fits(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path, "i2v-clip", "image_processor", do_center_crop=False)
    report = looked_at(folder)
    assert (report.verdict, [finding.component for finding in report.of("warning")]) == (
        "conditions",
        ["image_processor"],
    )


def test_an_image_processor_that_nothing_asks_for_may_be_anything(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    for name in ("image_processor", "image_encoder"):
        shutil.copytree(tiny_model("i2v-clip") / name, folder / name)
    edit(folder / "image_processor" / FILES["image_processor"], crop_size=224)
    pair = {
        "image_processor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModel"],
    }
    edit(folder / "model_index.json", **pair)
    assert ("config-mismatch", "image_processor") not in refused(looked_at(folder))


# --- components with weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "changes", "works"),
    [
        ("vae", {"latents_mean": "x"}, False),
        ("vae", {"latents_mean": ["a"] * 16}, False),
        ("vae", {"latents_mean": None}, False),
        ("vae", {"latents_std": [0] * 16}, False),
        ("vae", {"latents_mean": GONE, "latents_std": GONE}, True),
        ("vae", {"latents_mean": [0] * 16}, True),
        ("vae", {"dropout": "x"}, False),
        ("vae", {"dropout": 2}, False),
        ("vae", {"dropout": GONE}, True),
        ("vae", {"_class_name": None}, False),
        ("vae", {"_class_name": GONE, "_diffusers_version": GONE}, True),
        ("transformer", {"_class_name": 3}, False),
        ("transformer", {"eps": None}, False),
        ("transformer", {"eps": "1e-6"}, False),
        ("transformer", {"eps": GONE}, True),
        ("transformer", {"eps": 0}, True),
        ("transformer", {"qk_norm": None, "new_key": {}}, True),
        ("text_encoder", {"layer_norm_epsilon": "1e-6"}, False),
        ("text_encoder", {"layer_norm_epsilon": None}, False),
        ("text_encoder", {"dropout_rate": -1}, False),
        ("text_encoder", {"dropout_rate": "x"}, False),
        ("text_encoder", {"dropout_rate": 0}, True),
        ("text_encoder", {"is_decoder": True}, False),
        ("text_encoder", {"eos_token_id": "1"}, False),
        ("text_encoder", {"eos_token_id": [1, 2], "pad_token_id": None, "use_cache": True}, True),
        ("text_encoder", {"use_cache": None}, False),
        ("text_encoder", {"relative_attention_max_distance": None}, False),
        ("text_encoder", {"dense_act_fn": "gelu_newer"}, False),
        ("text_encoder", {"dense_act_fn": None}, False),
        ("text_encoder", {"dense_act_fn": GONE}, True),
        ("text_encoder", {"dense_act_fn": GONE, "feed_forward_proj": "gated-gelu_newer"}, False),
        ("text_encoder", {"dense_act_fn": "gelu", "feed_forward_proj": "gated-silu"}, True),
        ("text_encoder", {"architectures": GONE, "transformers_version": "4.30.0", "dtype": GONE}, True),
        ("image_encoder", {"hidden_act": "x"}, False),
        ("image_encoder", {"hidden_act": 3}, False),
        ("image_encoder", {"hidden_act": "gelu"}, True),
        ("image_encoder", {"layer_norm_eps": 1}, False),  # transformers 5 holds to its types
        ("image_encoder", {"layer_norm_eps": GONE}, True),
        ("image_encoder", {"attention_dropout": "x"}, False),
        ("image_encoder", {"attention_dropout": 0}, True),
        ("image_encoder", {"attention_dropout": None}, True),
        ("image_encoder", {"initializer_range": None}, False),
        ("image_encoder", {"dropout": 0.0, "torch_dtype": "float16"}, True),
    ],
)
@pytest.mark.sampled(3)
def test_plain_settings_of_components_with_weights(
    component: str, changes: dict[str, Any], works: bool, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path, "i2v-clip", component, **changes)
    found = {(code, part) for code, part in refused(looked_at(folder)) if code == "bad-config"}
    assert found == (set() if works else {("bad-config", component)})
    if works:
        components(folder).bring(component)


def test_what_fails_to_load_is_all_that_is_refused() -> None:
    from transformers.activations import ACT2CLS

    assert set(settings._ACTIVATIONS) == set(ACT2CLS)


# --- what nobody foresaw ----------------------------------------------------------------------------------------------


def components(folder: Path) -> Components:
    return Components(
        open_folder(folder),
        Placement(torch.device("cpu"), torch.float32),
        Control(),
        Voice(Bus(), "j", lambda: (None, None)),
    )


def test_a_failure_at_work_is_the_model_s(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    held = components(tiny_model("t2v"))
    with caplog.at_level(logging.ERROR, "wan_tui"), pytest.raises(ModelError) as caught, held.at_work("denoises"):
        json.loads("{")
    error = caught.value
    assert (error.code, error.status) == ("bad-component", 3)
    assert error.message == f"The model in {tiny_model('t2v')} fails while it denoises."
    assert error.cause and error.cause.startswith("JSONDecodeError: Expecting property name")
    assert [text.split()[:2] for text in error.suggestions] == [["wan-tui", "test-load"], ["wan-tui", "diagnose"]]
    assert "Traceback" in caplog.text and "json/decoder.py" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:73] can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        OSError(28, "No space left on device"),
        ImportError("no scipy"),
        RunError("not-finite", "NaN"),
        Cancelled(),
        KeyboardInterrupt(),
    ],
)
def test_what_the_box_did_is_not_laid_to_the_model(error: BaseException, tiny_model: TinyModel) -> None:
    held = components(tiny_model("t2v"))
    with pytest.raises(type(error)) as caught, held.at_work("denoises"):
        raise error
    assert caught.value is error


def test_a_mistake_of_this_code_is_not_laid_to_the_model(tiny_model: TinyModel) -> None:
    held = components(tiny_model("t2v"))
    with pytest.raises(KeyError), held.at_work("denoises"):
        held.kind("no such component")


def test_nor_is_anything_to_the_model_that_comes_with_the_program() -> None:
    with pytest.raises(ValueError), components(shipped("demo")).at_work("denoises"):
        json.loads("{")


@pytest.mark.parametrize(
    ("component", "changes", "unforeseen"),
    [
        ("scheduler", {"use_dynamic_shifting": True}, False),
        ("tokenizer", {"pad_token": None}, False),
        ("transformer", {"rope_max_seq_len": 3}, True),
        ("tokenizer", {"pad_token": "<zz>"}, True),  # a token of its own, which the text encoder does not know
    ],
)
def test_a_run_ends_as_the_model_s_fault(
    component: str, changes: dict[str, Any], unforeseen: bool, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = changed(tiny_model, tmp_path, "t2v", component, **changes)
    assert (looked_at(folder).verdict == "cannot-run") is not unforeseen
    done = wan_tui("--run", job_file(tmp_path, folder, frames=5), "--json")
    failed = events(done.stdout)[-1]
    assert done.returncode == 3, done.stdout
    assert failed["code"] == ("bad-component" if unforeseen else "bad-config")
    assert "file it as a bug" not in done.stdout + done.stderr
    if unforeseen:
        assert "Traceback" in log_file().read_text()
