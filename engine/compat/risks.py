"""What in a model folder could run code: told from names and JSON alone. Nothing of it is opened, parsed or imported.

The libraries read their own JSON files once more when they load a component, so every key of those that would make
them import code, open a pickle or reach out of the folder is looked for here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.compat.anatomy import PICKLES, Anatomy
from engine.compat.finding import Finding, as_finding
from engine.compat.folder import FROM_TRANSFORMERS, LIBRARIES, WEIGHTLESS, ModelFolder, weights_name
from engine.compat.grant import PIPELINE
from engine.errors import ModelError
from engine.library.jsonfile import read_json

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SHOWN = 6
_MOST_LOOKED_AT = 1000  # names of a folder
# What the libraries read of a component beside its weights.
_READ = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "scheduler_config.json",
    "generation_config.json",
)
_PLAIN_ATTENTION = (None, "eager", "sdpa")
_ATTENTION = tuple(
    f"{before}{what}_implementation{after}"
    for what in ("attn", "experts")
    for before, after in (("", ""), ("_", ""), ("_", "_internal"))
)
_REFUSED = "refused-config"


@dataclass(frozen=True)
class Use:
    """A class that comes with the model. `paths` are where its module may lie, the first that is there counts.

    `label` is unique within a folder; `part` is the component it would be, or `PIPELINE`.
    """

    label: str
    part: str
    kind: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Risks:
    """`uses` is code the model asks for, `pickles` the pickles that hold a component's only weights, by component;
    `refused` is what no trust allows, `notes` what is left alone."""

    uses: tuple[Use, ...] = ()
    pickles: Mapping[str, tuple[str, ...]] | None = None
    refused: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.uses or self.pickles)


def read_risks(anatomy: Anatomy) -> Risks:
    """Everything in a folder in diffusers layout that trust has to decide about."""
    folder = anatomy.folder
    if folder is None:
        return Risks()
    refused: list[Finding] = []
    uses = [*_index_uses(folder, refused)]
    for name in folder.classes:
        uses += _config_uses(folder, name, refused)
    pickles = {name: part.pickles for name, part in anatomy.components.items() if part.pickles and not part.files}
    for name in folder.classes:
        refused += _shards(folder, name, pickles.get(name, ()))
    return Risks(tuple(uses), pickles, tuple(refused), tuple(_notes(folder, uses, pickles)))


# --- code -------------------------------------------------------------------------------------------------------------


def _index_uses(folder: ModelFolder, refused: list[Finding]) -> Iterator[Use]:
    file = folder.path / "model_index.json"
    if folder.index.get("custom_pipeline") is not None:
        refused.append(_elsewhere(file, f"custom_pipeline = {folder.index['custom_pipeline']!r:.80}", None))
    if folder.pipeline_module is not None:
        name = f"{folder.pipeline_module}.{folder.pipeline}"
        yield from _use(PIPELINE, PIPELINE, name, ("",), file, refused)
    for part, (library, kind) in folder.classes.items():
        if library not in LIBRARIES:
            yield from _use(part, part, f"{library}.{kind}", (f"{part}/", ""), file, refused)


def _config_uses(folder: ModelFolder, part: str, refused: list[Finding]) -> Iterator[Use]:
    """The classes an `auto_map` of a component names; and what else its JSON may not say."""
    for name in _READ:
        file = folder.path / part / name
        if not os.path.lexists(file):
            continue
        try:
            table = read_json(file)
        except ModelError as error:
            refused.append(as_finding(error, component=part))
            continue
        for key, value in _pairs(table):
            if key == "auto_map":
                for auto, kind in _auto_map(value):
                    if _IDENTIFIER.fullmatch(auto):
                        yield from _use(f"{part}:{auto}", part, kind, (f"{part}/",), file, refused)
                    else:
                        refused.append(_not_plain(file, f"for {auto!r:.120} in its auto_map", part))
            elif why := _reaches(key, value):
                refused.append(_not_obeyed(file, f"{key} = {value!r:.80}", why, part))
    if os.path.lexists(folder.path / part / "adapter_config.json"):
        why = "With it a library loads weights from wherever the file says."
        refused.append(_not_obeyed(folder.path / part, "an adapter_config.json", why, part))


def _pairs(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep; the reader of JSON has bounded that."""
    waiting: list[Any] = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _auto_map(value: Any) -> Iterator[tuple[str, str]]:
    table = value if isinstance(value, dict) else {"AutoTokenizer": value}
    for key, kinds in table.items():
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if kind is not None:
                yield f"{key}", f"{kind}"


def _use(
    label: str, part: str, name: str, folders: tuple[str, ...], file: Path, refused: list[Finding]
) -> Iterator[Use]:
    component = None if part == PIPELINE else part
    module, _, kind = name.partition(".")
    if "--" in name:
        refused.append(_elsewhere(file, f"the class {name!r:.120}", component))
    elif not (_IDENTIFIER.fullmatch(module) and _IDENTIFIER.fullmatch(kind)) or module == "__init__":
        refused.append(_not_plain(file, f"for the class {name!r:.120}", component))
    else:
        yield Use(label, part, kind, tuple(f"{folder}{module}.py" for folder in folders))


def _not_plain(file: Path, what: str, component: str | None) -> Finding:
    return Finding(
        "error",
        "remote-code",
        f"{file} asks {what}, which is no plain name.",
        "Such a name could lead out of the folder, or say what is not so. It is refused whether or not the model is "
        "trusted.",
        ("Use a model that needs no code of its own.",),
        component=component,
    )


def _elsewhere(file: Path, what: str, component: str | None) -> Finding:
    return Finding(
        "error",
        "remote-code",
        f"{file} asks for {what}: code that lies somewhere else than the model.",
        "What lies there can change at any time. It is refused whether or not the model is trusted.",
        ("Use a model that needs no code of its own, or one whose code lies in its own folder.",),
        component=component,
    )


# --- what the libraries would do on a word of a JSON file -------------------------------------------------------------


def _reaches(key: str, value: Any) -> str | None:
    """Why a key of a component's JSON is refused; None when it is harmless."""
    if key in _ATTENTION and value not in _PLAIN_ATTENTION and not (isinstance(value, dict) and not value):
        return "With it a library fetches a compiled kernel and runs it."
    if key == "transformers_weights" and value is not None:
        return "With it a library opens another file than the weights that were checked, which may be a pickle."
    if key == "fast_tokenizer_files" and value:
        return "With it a library opens another file than the tokenizer's own."
    if key == "quantization_config" and value is not None:
        return "Quantised weights are unpacked by code of other packages; this version does not run them."
    return None


def _not_obeyed(file: Path, what: str, why: str, component: str) -> Finding:
    return Finding(
        "error",
        _REFUSED,
        f"{file} has {what}, which this program does not obey.",
        why,
        ("Take it out if it is not needed, or use the model's plain weights.",),
        component=component,
    )


def _shards(folder: ModelFolder, part: str, pickles: tuple[str, ...]) -> Iterator[Finding]:
    """What an index of shards that a library may follow names has to be weights beside it."""
    if part in WEIGHTLESS:
        return
    names = {weights_name(part): False}
    if pickles:  # beside safetensors no library looks at theirs
        names["pytorch_model.bin" if part in FROM_TRANSFORMERS else "diffusion_pytorch_model.bin"] = True
    for name, of_pickles in names.items():
        file = folder.path / part / f"{name}.index.json"
        if not os.path.lexists(file):
            continue
        try:
            shards = read_json(file).get("weight_map")
        except ModelError as error:
            yield as_finding(error, component=part)
            continue
        named = set(map(str, shards.values())) if isinstance(shards, dict) else set()
        odd = sorted(name for name in named if name not in pickles) if of_pickles else sorted(map(str, _odd(named)))
        if odd:
            cause = "Reading a pickle can run any code; a name that leads elsewhere is refused in any case."
            yield Finding(
                "error",
                "pickled-weights" if odd[0].lower().endswith(PICKLES) else "bad-model-file",
                f"{file} names {odd[0]!r:.120} as weights, which is no {'file' if of_pickles else 'safetensors file'} "
                "beside it.",
                cause,
                ("Use the safetensors edition of the model.",),
                component=part,
            )


def _odd(named: Iterable[str]) -> Iterator[str]:
    return (name for name in named if Path(name).name != name or not name.endswith(".safetensors"))


# --- what is left alone -----------------------------------------------------------------------------------------------


def _notes(folder: ModelFolder, uses: list[Use], pickles: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    lying = [path for path in _lying(folder.path) if path.split("/")[0] not in pickles or "/" not in path]
    if idle := [path for path in lying if path.lower().endswith(PICKLES)]:
        yield Finding("note", "pickle-ignored", f"{folder.path} holds pickles, which are never opened: {shown(idle)}.")
    if not uses and (programs := [path for path in lying if path.endswith(".py")]):
        message = f"{folder.path} holds programs that nothing refers to, and which are never run: {shown(programs)}."
        yield Finding("note", "code-ignored", message)


def _lying(path: Path) -> Iterator[str]:
    """The names in a folder and in those directly below it."""
    for parent, folders, names in os.walk(path):
        if Path(parent) != path:
            folders.clear()
        folders.sort()
        yield from (Path(parent, name).relative_to(path).as_posix() for name in sorted(names)[:_MOST_LOOKED_AT])


def shown(names: Iterable[str]) -> str:
    """Names for a message, the first of them."""
    names = list(names)
    return ", ".join(f"{name:.120}" for name in names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    )
