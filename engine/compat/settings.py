"""Settings that no tensor tells: of the scheduler, the tokenizer and the image processor, and the plain numbers of the
others. Every rule here is something the installed classes do: where one of them takes a value, it passes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.compat.anatomy import Anatomy, Component
from engine.compat.finding import Finding
from engine.compat.folder import EXPERTS, LOADABLE, ModelFolder
from engine.compat.needs import installed_version
from engine.compat.shapes import config_value
from engine.compat.shapes.keys import FLAG, Rule
from engine.compat.shapes.layers import show

_LARGEST = 1 << 63
_RESTORE = "Restore {} from the repository of the model."


def judge_settings(folder: ModelFolder, anatomy: Anatomy) -> Iterator[Finding]:
    """Findings about values that make a component fail to load, or to do its work.

    A component whose class is not one of those known here comes with code of its own: nothing is said of it.
    """
    judges: dict[str, Callable[[ModelFolder, Component], Iterator[Finding]]] = {
        "scheduler": _scheduler,
        "tokenizer": _tokenizer,
        "vae": _vae,
        "text_encoder": _text_encoder,
        "image_encoder": _image_encoder,
        **dict.fromkeys(EXPERTS, _transformer),
    }
    known = {name: part for name, part in anatomy.components.items() if part.kind in LOADABLE.get(name, ())}
    for name, part in known.items():
        if part.config and name in judges:
            yield from judges[name](folder, part)
    if "image_processor" in known and "image_encoder" in known and _looks(known):
        yield from _image_processor(folder, known["image_processor"], known["image_encoder"])


def _looks(parts: Mapping[str, Component]) -> bool:
    """Whether a picture goes through the image encoder: some folders have one that nothing asks for."""
    return any(name in parts and parts[name].config.get("image_dim") is not None for name in EXPERTS)


# --- rules ------------------------------------------------------------------------------------------------------------


def _number(value: object) -> bool:
    """What Python calculates with, true and false too, and what a float can hold."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST)


def _real(value: object) -> bool:
    return _number(value) and not isinstance(value, bool)


def _one_of(*names: str) -> Rule:
    words = ", ".join(names[:-1]) + f" or {names[-1]}"
    return words, lambda value: isinstance(value, str) and value in names


_NUMBER: Rule = ("a number", _number)
_SWITCH: Rule = ("true or false", lambda value: _number(value) and value in (0, 1))
_COUNT: Rule = ("a whole number above 0", lambda value: isinstance(value, int) and 0 < value <= 10**7)
_STEPS: Rule = ("a whole number above 0", lambda value: type(value) is int and 0 < value <= 10**7)
_CLASS: Rule = ("the name of a class", lambda value: isinstance(value, str | list))
_CHANCE: Rule = ("a number from 0 to 1", lambda value: _number(value) and 0 <= value <= 1)
# transformers 5 holds its configurations to their types: a number with a point is one, and 1 is none.
_FLOAT: Rule = ("a number with a decimal point", lambda value: type(value) is float)
_PLAIN: Rule = ("a number", _real)
_PLAIN_OR_NULL: Rule = ("a number, or null", lambda value: value is None or _real(value))
_ID: Rule = ("a whole number, or null", lambda value: value is None or type(value) is int)
_EPSILON: Rule = ("a number with a decimal point, 0 or above", lambda value: type(value) is float and value >= 0)


def _broken(part: Component, rules: Mapping[str, Rule]) -> Iterator[tuple[str, str]]:
    """Keys whose value breaks its rule, and how. A key that is left out never does: the class has a value for it."""
    for key, (right, fits) in rules.items():
        if key in part.config and not fits(part.config[key]):
            yield key, f"{key} = {show(part.config[key])}: it takes {right}"


def _bad(
    folder: ModelFolder,
    part: Component,
    problem: str,
    cause: str | None = None,
    *,
    severity: str = "error",
    code: str = "bad-config",
) -> Finding:
    file = _file(folder, part)
    more = (_RESTORE.format(file.name),)
    return Finding(severity, code, f"{file}: {problem}.", cause, more, component=part.name)


def _file(folder: ModelFolder, part: Component) -> Path:
    names = {
        "scheduler": "scheduler_config.json",
        "tokenizer": "tokenizer_config.json",
        "image_processor": "preprocessor_config.json",
    }
    return folder.path / part.name / names.get(part.name, "config.json")


# --- the scheduler ----------------------------------------------------------------------------------------------------

_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
_ANY_SCHEDULER: dict[str, Rule] = {
    "_class_name": _CLASS,  # of any class: that of the index is loaded
    "num_train_timesteps": _STEPS,
    **dict.fromkeys(_SPACINGS, _SWITCH),
}
_SOLVER: dict[str, Rule] = {
    "solver_order": _COUNT,
    # The names of the other solver are taken for the own default.
    "solver_type": _one_of("bh1", "bh2", "midpoint", "heun", "logrho"),
    "timestep_spacing": _one_of("linspace", "leading", "trailing"),
    "final_sigmas_type": _one_of("zero", "sigma_min"),
}
_BETAS: dict[str, Rule] = {
    "beta_schedule": _one_of("linear", "scaled_linear", "squaredcos_cap_v2"),
    "beta_start": _NUMBER,
    "beta_end": _NUMBER,
}
_SCHEDULERS: dict[str, dict[str, Rule]] = {
    "UniPCMultistepScheduler": {
        **_SOLVER,
        "disable_corrector": ("a list of steps", lambda value: isinstance(value, list | dict)),
        "predict_x0": ("true: a flow is predicted in no other way", bool),
        "solver_p": ("null: no other solver comes out of a file", lambda value: not value),
    },
    "DPMSolverMultistepScheduler": {
        **_SOLVER,
        "algorithm_type": _one_of("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis"),
        "lambda_min_clipped": _NUMBER,
    },
    "FlowMatchEulerDiscreteScheduler": {"shift": _NUMBER, "time_shift_type": _one_of("exponential", "linear")},
}


def _scheduler(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    rules = {**_ANY_SCHEDULER, **_SCHEDULERS.get(part.kind, {})}
    if "timestep_spacing" in rules:
        own = part.config.get("trained_betas") is not None
        rules |= (
            {"trained_betas": ("a list of numbers", lambda value: _number(value) or value == [] or _numbers(value))}
            if own
            else _BETAS
        )
    found = [_bad(folder, part, f"{part.kind} cannot have {problem}") for _, problem in _broken(part, rules)]
    found = found or list(_together(folder, part))
    yield from found


def _together(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    """Settings that are right by themselves and fail together, or with the way the pipeline calls."""
    config = part.config
    if config.get("use_dynamic_shifting") and part.kind != "DPMSolverMultistepScheduler":  # which goes on without
        why = "It asks for a shift by the size of the picture, which no pipeline of Wan gives it."
        yield _bad(folder, part, f"use_dynamic_shifting = {show(config['use_dynamic_shifting'])} fails", why)
    shift = None if part.kind == "DPMSolverMultistepScheduler" else config.get("shift_terminal")
    if shift and (shift == 1 or not _number(shift)):
        yield _bad(folder, part, f"shift_terminal = {show(shift)}: it takes a number other than 1, or null")
    spaced = [key for key in _SPACINGS if config.get(key)]
    if len(spaced) > 1:
        yield _bad(folder, part, f"{' and '.join(spaced)} are both set, and one of them may be")
    elif spaced == ["use_beta_sigmas"] and installed_version("scipy") is None:
        yield Finding(
            "error",
            "missing-dependency",
            f"{_file(folder, part)}: use_beta_sigmas needs the package scipy, and it is not installed.",
            suggestions=("Install scipy beside this program.", "Or set use_beta_sigmas = false in that file."),
            component=part.name,
        )
    yield from _endless(folder, part)
    algorithm = config.get("algorithm_type", "dpmsolver++")
    ends = config.get("final_sigmas_type", "zero")
    if part.kind == "DPMSolverMultistepScheduler" and not algorithm.endswith("++"):
        if algorithm != "deis":
            yield _bad(folder, part, f"algorithm_type = {show(algorithm)} predicts no flow")
        elif ends == "zero":
            yield _bad(folder, part, "algorithm_type = 'deis' needs final_sigmas_type = 'sigma_min'")


def _endless(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    """Settings that run, and end in numbers that are none."""
    config = part.config
    solver = part.kind in ("UniPCMultistepScheduler", "DPMSolverMultistepScheduler")
    # Their noise levels are those of diffusion and go far above 1, where a flow has none. UniPC folds Karras's back.
    wrong = [*_SPACINGS[1:], "use_lu_lambdas", *(_SPACINGS[:1] if part.kind.startswith("DPM") else ())]
    usual = config.get("beta_end", 0.02) == 0.02 and config.get("trained_betas") is None
    if solver and usual and (key := next((key for key in wrong if config.get(key)), None)):
        yield _bad(folder, part, f"{key} and use_flow_sigmas give noise levels beyond those of a flow")
    if part.kind == "UniPCMultistepScheduler" and config.get("final_sigmas_type", "zero") == "zero":
        if config.get("solver_type") == "bh1":
            yield _bad(folder, part, "solver_type = 'bh1' divides by zero where final_sigmas_type = 'zero'")
        elif not config.get("lower_order_final", True) and config.get("solver_order", 2) > 1:
            problem = "lower_order_final is off, and of more than one step the last divides by zero"
            yield _bad(folder, part, problem, severity="warning")


# --- the tokenizer ----------------------------------------------------------------------------------------------------

_TOKENS = ("pad_token", "eos_token", "unk_token")
_HEAD = 4096  # bytes of tokenizer.json, in which its settings stand before 16 MB of words
_NO_PADDING = re.compile(rb'"padding"\s*:\s*null')


def _tokenizer(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    config, place = part.config, folder.path / "tokenizer"
    length = config.get("model_max_length")
    if length is not None and not _number(length):
        yield _bad(folder, part, f"model_max_length = {show(length)}: it takes a number")
    if os.path.lexists(place / "special_tokens_map.json"):
        return  # which has the last word
    for key in _TOKENS:
        if key in config and not _is_token(config[key]):
            yield _bad(folder, part, f"{key} = {show(config[key])}: it takes a text, or an AddedToken")
            return
    # T5's classes have a pad token by themselves; one that is null takes it away.
    own = part.kind.startswith("T5") and "pad_token" not in config
    if config.get("pad_token") is None and not own and _names_no_padding(place, config):
        yield _bad(folder, part, "it names no pad_token", "Every prompt is padded to the same length.")


def _is_token(value: object) -> bool:
    if isinstance(value, Mapping):
        return value.get("__type") == "AddedToken" and isinstance(value.get("content"), str)
    return value is None or isinstance(value, str)


def _names_no_padding(place: Path, config: Mapping[str, Any]) -> bool:
    """Whether nothing else in the folder names a pad token either; where that cannot be told, it may."""
    more = config.get("extra_special_tokens")
    if more and (not isinstance(more, Mapping) or "pad_token" in more):
        return False
    file = place / "tokenizer.json"
    if not os.path.lexists(file):
        return True
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            return _NO_PADDING.search(stream.read(_HEAD) or b"") is not None
    except OSError:
        return False


# --- the image processor ----------------------------------------------------------------------------------------------

_MEANS: Rule = ("3 numbers", lambda value: _number(value) or _numbers(value, 3))
_DEVIATIONS: Rule = (
    "3 numbers, none of them 0",
    lambda value: _MEANS[1](value) and value != 0 and 0 not in _list(value),
)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: object, count: int | None = None) -> bool:
    """Whether it is a list of numbers; NaN and infinity are none."""
    return (
        isinstance(value, list)
        and bool(value)
        and (count is None or len(value) == count)
        and all(_number(one) and math.isfinite(one) for one in value)
    )


def _image_processor(folder: ModelFolder, part: Component, encoder: Component) -> Iterator[Finding]:
    if not part.config or os.path.lexists(folder.path / part.name / "processor_config.json"):
        return  # of newer versions, and read in place of this one
    config = part.config
    rules: dict[str, Rule] = {}
    if config.get("do_normalize", True):
        rules |= {"image_mean": _MEANS, "image_std": _DEVIATIONS}
    if config.get("do_rescale", True):
        rules["rescale_factor"] = _NUMBER
    if config.get("do_resize", True):
        rules["resample"] = ("the number of a filter", lambda value: value is not None)
        rules["size"] = ('a whole number above 0, {"shortest_edge": …} or {"height": …, "width": …}', _is_size)
    for _, problem in _broken(part, rules):
        yield _bad(folder, part, problem)
    due = _side(folder, encoder)
    if due is None:
        return
    if config.get("do_center_crop", True):
        height, width = _crop(config.get("crop_size", 224))
        if (height, width) != (due, due):
            yield _bad(
                folder,
                part,
                f"crop_size = {show(config.get('crop_size', 224))}, and the image encoder takes {due}x{due}",
                "The image processor is that of another image encoder, or the image encoder is.",
                code="config-mismatch",
            )
    elif not (config.get("do_resize", True) and _crop(config.get("size")) == (due, due)):
        problem = f"do_center_crop is off, and the image encoder takes no picture other than {due}x{due}"
        yield _bad(folder, part, problem, severity="warning", code="config-mismatch")


def _side(folder: ModelFolder, encoder: Component) -> int | None:
    """The side of the pictures an image encoder takes; None where its configuration is not sound, which is told."""
    if not encoder.config or not isinstance(encoder.config.get("vision_config", {}), Mapping):
        return None
    side = config_value(encoder.kind, encoder.config, "image_size")
    return side if type(side) is int else None


def _is_size(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, int) and one > 0 for one in value)
    if isinstance(value, Mapping):
        edges = [value.get(key) for key in ("shortest_edge", "height", "width", "max_height", "max_width")]
        named = [edge for edge in edges if edge is not None]
        return bool(named) and all(_number(edge) and edge > 0 for edge in named)
    return isinstance(value, int) and value > 0


def _crop(value: object) -> tuple[Any, Any]:
    """Height and width, as the image processor reads them."""
    if isinstance(value, Mapping):
        return value.get("height"), value.get("width")
    if isinstance(value, list):
        return (value[0], value[1]) if len(value) == 2 else (None, None)
    return value, value


# --- the components with weights --------------------------------------------------------------------------------------

# As ACT2FN of transformers 5 has them; the first few for all of 4.x.
_ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_python_tanh",
    "gelu_accurate", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh", "prelu", "xielu",
)  # fmt: skip
_ACTIVATION: Rule = ("the name of an activation", lambda value: isinstance(value, str) and value in _ACTIVATIONS)
_TEXT_ENCODER: dict[str, Rule] = {
    "layer_norm_epsilon": _EPSILON,
    "initializer_factor": _FLOAT,
    "dropout_rate": ("a number from 0 to 1", lambda value: _real(value) and 0 <= value <= 1),
    "classifier_dropout": _PLAIN,
    "relative_attention_max_distance": ("a whole number", lambda value: type(value) is int),
    "num_decoder_layers": _ID,
    "pad_token_id": _ID,
    "decoder_start_token_id": _ID,
    "eos_token_id": ("a whole number, or null", lambda value: isinstance(value, list) or _ID[1](value)),
    "is_decoder": ("false", lambda value: value is False),
    **dict.fromkeys(("is_encoder_decoder", "use_cache"), FLAG),
    "dense_act_fn": _ACTIVATION,  # left out: as feed_forward_proj says
    "feed_forward_proj": (
        'the name of an activation, "gated-" before it or not',
        lambda value: isinstance(value, str) and value.removeprefix("gated-") in _ACTIVATIONS,
    ),
}
_IMAGE_ENCODER: dict[str, Rule] = {
    "layer_norm_eps": _EPSILON,
    "initializer_factor": _FLOAT,
    "initializer_range": _FLOAT,
    "attention_dropout": _PLAIN_OR_NULL,
    "hidden_act": _ACTIVATION,
}
_TRANSFORMER: dict[str, Rule] = {"_class_name": _CLASS, "eps": _NUMBER}
_VAE: dict[str, Rule] = {
    "_class_name": _CLASS,
    "dropout": _CHANCE,
    "latents_mean": ("a list of numbers", _numbers),
    "latents_std": ("a list of numbers, none of them 0", lambda value: _numbers(value) and 0 not in _list(value)),
}


def _text_encoder(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    rules = dict(_TEXT_ENCODER)
    if "dense_act_fn" in part.config:  # which has the last word
        rules.pop("feed_forward_proj")
    yield from _cannot(folder, part, rules)


def _image_encoder(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    if "vision_config" not in part.config:  # of a whole CLIP transformers takes one half
        yield from _cannot(folder, part, _IMAGE_ENCODER)


def _transformer(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    yield from _cannot(folder, part, _TRANSFORMER)


def _vae(folder: ModelFolder, part: Component) -> Iterator[Finding]:
    yield from _cannot(folder, part, _VAE)


def _cannot(folder: ModelFolder, part: Component, rules: Mapping[str, Rule]) -> Iterator[Finding]:
    for _, problem in _broken(part, rules):
        yield _bad(folder, part, f"{part.kind} cannot have {problem}")
