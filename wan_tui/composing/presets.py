"""Presets: parts of a job under a name, laid over a form. The user's own are TOML files in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from engine.catalog import ModelSpec
from engine.errors import JobError
from engine.jobfile import job_from_table, read_table
from wan_tui.composing.files import write_text
from wan_tui.composing.form import KEPT, Form
from wan_tui.composing.read import form_of, table_of
from wan_tui.settings import config_dir

# What a saved preset holds of a form: how a clip is made, not what is seen in it.
SETTINGS = (
    "negative_prompt",
    "size",
    "frames",
    "fps",
    "steps",
    "guidance",
    "guidance_2",
    "flow_shift",
    "strength",
    "conditioning_scale",
    "memory.profile",
    "memory.vram_limit",
    "output.crf",
)
_NAME = re.compile(r"[^\W_][\w +()-]{0,59}")
_SUFFIX = ".toml"


@dataclass(frozen=True)
class Preset:
    """`texts` are put into a form, the fields in `clears` are left to the model. `file` is None for one that ships."""

    name: str
    texts: Mapping[str, str]
    clears: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None


def presets_folder() -> Path:
    """Where the user's presets lie; it need not be there yet."""
    return config_dir() / "presets"


def shipped(spec: ModelSpec | None) -> tuple[Preset, ...]:
    """What there is without files: the model's own settings, and a quick draft."""
    plain = Preset("model's defaults", {}, tuple(key for key in SETTINGS if not key.startswith("memory.")))
    return (plain, _draft(spec)) if spec else (plain,)


def load_presets(folder: Path, here: Path) -> tuple[tuple[Preset, ...], tuple[str, ...]]:
    """Every preset of a folder, by name, and a sentence for each file that is none. It reads the disk."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == _SUFFIX and not file.name.startswith("."))
    except FileNotFoundError:
        return (), ()
    except OSError as error:
        return (), (f"{folder} cannot be read: {error.strerror}.",)
    loaded, failed = [], []
    for file in files:
        try:
            loaded.append(read_preset(file, here))
        except JobError as error:
            failed.append(" ".join((error.message, *error.suggestions)))
    return tuple(loaded), tuple(failed)


def read_preset(file: Path, here: Path) -> Preset:
    """The preset a file holds: any keys of a job. Raises `JobError`."""
    table, source = read_table(file)
    form = form_of(job_from_table({"prompt": "", **table}, file, source), here)
    given = _keys(table)
    texts = {key: form.texts[key] for key in given if key in form.texts}
    # A value that is the general default, such as device = "auto", is said by leaving the field empty.
    clears = tuple(key for key in given if key not in texts and key not in KEPT)
    return Preset(file.stem, texts, clears, form.kept, file)


def save_preset(name: str, form: Form, folder: Path, *, overwrite: bool = False) -> Path:
    """Save the settings of a form under a name.

    Raises `JobError`: `bad-name`, `empty-preset`, `file-exists` or `not-written`.
    """
    if problem := name_problem(name):
        raise JobError("bad-name", problem, suggestions=["Use letters, digits, spaces and dashes."])
    settings = Form({key: text for key, text in form.texts.items() if key in SETTINGS})
    if not settings.texts:
        raise JobError("empty-preset", "There is nothing to save: every setting is the model's default.")
    file = folder / f"{name}{_SUFFIX}"
    job_from_table({"prompt": "", **table_of(settings)}, file)  # refused as a file of that content would be
    write_text(file, tomli_w.dumps(table_of(settings)), overwrite=overwrite)
    return file


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a preset; None where it will do."""
    if not name.strip():
        return "A preset needs a name."
    if not _NAME.fullmatch(name) or name != name.strip() or len(name.encode()) > 120:
        return "The name begins with a letter or digit and holds letters, digits, spaces and -_+() only, 60 at most."
    return None


def apply(preset: Preset, form: Form) -> Form:
    """The form with a preset laid over it."""
    changed = form.without(preset.clears)
    for key, text in preset.texts.items():
        changed = changed.put(key, text) if text else changed.put_empty(key)
    return Form(changed.texts, changed.seed_mode, {**changed.kept, **preset.kept})


def _draft(spec: ModelSpec) -> Preset:
    """Half the steps, and the smallest size of the default's orientation."""
    defaults = spec.defaults
    upright = defaults.height > defaults.width
    alike = [size for size in spec.sizes if (size[1] > size[0]) == upright]
    width, height = min(alike, key=lambda size: size[0] * size[1], default=(defaults.width, defaults.height))
    texts = {"steps": str(max(4, defaults.steps // 2))}
    if width * height < defaults.width * defaults.height:
        texts["size"] = f"{width}*{height}"
    return Preset("draft", texts)


def _keys(table: Mapping[str, Any]) -> list[str]:
    """The fields a table speaks of."""
    keys: dict[str, None] = {}
    for key, value in table.items():
        if key in ("width", "height"):
            keys["size"] = None
        elif key == "segments":
            keys[key] = None
        elif isinstance(value, dict):
            keys |= dict.fromkeys(f"{key}.{name}" for name in value if key != "recorded")
        else:
            keys[key] = None
    return list(keys)
