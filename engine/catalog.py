"""Which models exist: `models.toml`, with the user's own manifest merged over it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from engine.errors import JobError
from engine.paths import shipped
from engine.regular import regular_bytes
from engine.tomltext import loads

FAMILY_TASKS: dict[str, tuple[str, ...]] = {
    "t2v": ("text", "video"),
    "i2v": ("image", "first-last"),
    "flf2v": ("first-last",),
    "ti2v": ("text", "image"),
    "vace": ("vace",),
    "animate": ("animate", "replace"),
    "s2v": ("speech",),
}

_Table: TypeAlias = Mapping[str, Any]
_MOST_BYTES = 4 << 20  # of a manifest
_SHIPPED = shipped("models.toml")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a job takes when it does not say. No `flow_shift` means the one saved with the scheduler."""

    steps: int
    guidance: float
    guidance_2: float | None = None
    flow_shift: float | None = None
    flow_shift_by_size: Mapping[tuple[int, int], float] = field(default_factory=dict)
    frames: int
    fps: int
    width: int
    height: int
    negative_prompt: str

    def shift_for(self, width: int, height: int) -> float | None:
        """The flow shift published for this size, else for the size nearest in area."""
        known = {} if self.flow_shift is None else {(self.width, self.height): self.flow_shift}
        known.update(self.flow_shift_by_size)

        def distance(size: tuple[int, int]) -> tuple[bool, int]:
            return size != (width, height), abs(math.prod(size) - width * height)

        return known[min(known, key=distance)] if known else None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Other weights of a model: `files` of `repo`, all of it when none are named, or made here (`kind` bf16).

    `bytes` is the sum of its files, `sha256` holds the first digits of each.
    """

    name: str
    kind: str
    repo: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    bytes: int | None = None
    sha256: tuple[str, ...] = ()
    runnable: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """All that is known of a model without its folder; what is not known is None or empty.

    `architecture` holds the constructor arguments of `transformer`, `transformer_2`, `vae`, `text_encoder` and
    `image_encoder`; `source` is the file the entry came from.
    """

    id: str
    name: str
    version: str
    title: str
    family: str
    tasks: tuple[str, ...]
    repo: str | None = None
    path: Path | None = None
    revision: str | None = None
    licence: str | None = None
    bytes: int | None = None
    files: int | None = None
    pipeline: str | None = None
    defaults: Defaults
    sizes: tuple[tuple[int, int], ...] = ()
    required: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    architecture: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    boundary_ratio: float | None = None
    expand_timesteps: bool = False
    builtin: bool = False
    note: str | None = None
    variants: tuple[Variant, ...] = ()
    source: str

    @property
    def two_experts(self) -> bool:
        """One transformer for high noise, another below `boundary_ratio`."""
        return self.boundary_ratio is not None

    @property
    def grid(self) -> int:
        """Width and height are multiples of this: the VAE's spatial factor times the transformer's patch of 2."""
        return 2 * int(self.architecture.get("vae", {}).get("scale_factor_spatial", 8))


class Catalog:
    """The models, in the order of their files."""

    def __init__(self, models: Iterable[ModelSpec], families: Mapping[str, _Table]) -> None:
        self.models = tuple(models)
        self._families = families

    def find(self, reference: str) -> tuple[ModelSpec, Variant | None]:
        """What `id[@version][:variant]` names: the newest version when none is given."""
        name, colon, wanted = reference.partition(":")
        found = [model for model in self.models if model.id == name]
        found = found or [model for model in self.models if model.name == name]
        if not found:
            hint = _hint(name, (model.id for model in self.models))
            raise JobError("unknown-model", f"There is no model {_show(name)}.", suggestions=[hint])
        model = max(found, key=lambda model: _age(model.version))
        variants = {f"{model.id}:{variant.name}": variant for variant in model.variants}
        full = f"{model.id}:{wanted}"
        if colon and full not in variants:
            message = f"{model.id} has no variant {_show(wanted)}."
            raise JobError("unknown-model", message, suggestions=[_hint(full, variants)])
        return model, variants[full] if colon else None

    def folder_spec(self, family: str, folder: Path) -> ModelSpec:
        """A model known by its folder alone: it takes the defaults of its family."""
        table = {"title": "Folder", "family": family, "path": "."}
        spec = spec_from_table("folder", table, self._families, {}, str(folder / "model_index.json"))
        return replace(spec, id=str(folder), name=folder.name, title=folder.name, path=folder)


def load_catalog() -> Catalog:
    """The models that ship, and those of the manifest that `WAN_MODELS_MANIFEST` names."""
    own = os.environ.get("WAN_MODELS_MANIFEST")
    return _merged([_SHIPPED, Path(os.path.expanduser(own)).absolute()]) if own else _of_what_ships()


@cache
def _of_what_ships() -> Catalog:
    return _merged([_SHIPPED])


def _merged(sources: Sequence[Path]) -> Catalog:
    merged: dict[str, dict[str, Any]] = {"families": {}, "architectures": {}, "models": {}}
    origin: dict[str, str] = {}
    for source in sources:
        document = _read(source)
        for id, entry in document.get("models", {}).items():
            if entry.get("builtin") and origin and not merged["models"].get(id, {}).get("builtin"):
                raise (_Place(str(source)) / "models" / id / "builtin").bad("is for what ships", "Leave it out.")
        origin.update(dict.fromkeys(document.get("models", {}), str(source)))
        for section in merged:
            merged[section] = _layer(merged[section], document.get(section, {}))
    here = _Place(str(sources[-1]))
    families = _with_bases(here / "families", merged["families"])
    architectures = _with_bases(here / "architectures", merged["architectures"])
    entries = merged["models"].items()
    models = [spec_from_table(id, entry, families, architectures, origin[id]) for id, entry in entries]
    return Catalog(models, families)


def spec_from_table(
    id: str, table: _Table, families: Mapping[str, _Table], architectures: Mapping[str, _Table], source: str
) -> ModelSpec:
    """The model an entry describes: its own keys over those of its family."""
    here = _Place(source) / "models" / id
    if not _ID.fullmatch(id):
        raise here.bad("is no model id", "Use letters, digits, dots and dashes, and @ before a version: mine@1.0.")
    _check(here, table, _ENTRY)
    _need(here, table, "title", "family")
    if sum(bool(table.get(key)) for key in ("repo", "path", "builtin")) != 1:
        raise here.bad("needs either a repo or a path", 'Give one of repo = "owner/name" and path = "/folder".')
    entry = {"tasks": FAMILY_TASKS[table["family"]], **_layer(families.get(table["family"], {}), table)}
    if odd := set(entry["tasks"]).difference(FAMILY_TASKS[entry["family"]]):
        tasks = ", ".join(FAMILY_TASKS[entry["family"]])
        raise (here / "tasks").bad(f"cannot hold {_show(odd.pop())}", f"Give tasks of {entry['family']}: {tasks}.")
    name, _, version = id.partition("@")
    known = _tuples(entry) | {
        "defaults": _defaults(here / "defaults", entry.get("defaults", {})),
        "sizes": tuple(map(_size, entry.get("sizes", ()))),
        "architecture": _architecture(here / "architecture", entry.get("architecture", {}), architectures),
        "variants": tuple(_variant(here / "variants", variant) for variant in entry.get("variants", ())),
        "path": Path(source).parent / os.path.expanduser(entry["path"]) if "path" in entry else None,
    }
    spec = ModelSpec(id=id, name=name, version=version, source=source, **known)
    for width, height in ((spec.defaults.width, spec.defaults.height), *spec.sizes):
        if width % spec.grid or height % spec.grid:
            raise here.bad(f"has the size {width}x{height}", f"Give width and height in multiples of {spec.grid}.")
    return spec


def _defaults(here: _Place, table: _Table) -> Defaults:
    _need(here, table, "steps", "guidance", "frames", "fps", "width", "height", "negative_prompt")
    shifts = table.get("flow_shift_by_size", {})
    _check(here / "flow_shift_by_size", list(shifts), [_SIZE])
    floats = {key: float(table[key]) for key in ("guidance", "guidance_2", "flow_shift") if key in table}
    by_size = {_size(size): float(shift) for size, shift in shifts.items()}
    defaults = Defaults(**{**table, **floats, "flow_shift_by_size": by_size})
    return replace(defaults, flow_shift=defaults.shift_for(defaults.width, defaults.height))


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def _architecture(here: _Place, names: _Table, architectures: Mapping[str, _Table]) -> dict[str, dict[str, Any]]:
    for component, name in names.items():
        if name not in architectures:
            raise (here / component).bad(f"names no architecture: {_show(name)}", _hint(name, architectures))
    return {component: dict(architectures[name]) for component, name in names.items()}


def _variant(here: _Place, table: _Table) -> Variant:
    _need(here, table, "name", "kind", *(() if table.get("kind") == "bf16" else ("repo",)))
    if "sha256" in table and len(table["sha256"]) != len(table.get("files", ())):
        raise (here / "sha256").bad("does not have one entry a file", "Give the digests of all files, in their order.")
    return Variant(**{"runnable": table["kind"] == "bf16", **_tuples(table)})


def _tuples(table: _Table) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


# ── Reading and merging ──────────────────────────────────────────────────────────────────────────────────────────────

# What a key makes untrue below it: another repository has other commits, one shift for all leaves none by size.
_OUTDATES = {
    "repo": ("path", "revision", "bytes", "files"),
    "path": ("repo", "revision", "bytes", "files"),
    "revision": ("bytes", "files"),
    "flow_shift": ("flow_shift_by_size",),
}


def _read(path: Path) -> dict[str, Any]:
    here = _Place(str(path))
    try:
        document = loads(regular_bytes(path, _MOST_BYTES).decode("utf-8-sig"))
    except OSError as error:
        remedy = "Let WAN_MODELS_MANIFEST name a readable file, or unset it."
        raise here.bad(f"cannot be read: {error.strerror}", remedy) from error
    except (ValueError, RecursionError) as error:
        raise here.bad(f"is not valid TOML: {error}", "Correct the file at that place.") from error
    _check(here, document, _DOCUMENT)
    return document


def _layer(base: _Table, top: _Table) -> dict[str, Any]:
    """`top` over `base`: tables are merged, everything else is replaced."""
    outdated = {old for key in _OUTDATES.keys() & top for old in _OUTDATES[key] if top[key] != base.get(key)}
    merged = {key: value for key, value in base.items() if key not in outdated}
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _layer(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _with_bases(here: _Place, tables: Mapping[str, _Table]) -> dict[str, dict[str, Any]]:
    """Each table over the one its `base` names. Bases stand above, so that none can be its own."""
    done: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        own = dict(table)
        base = own.pop("base", None)
        if base and base not in done:
            raise (here / name / "base").bad(f"names nothing above it: {_show(base)}", _hint(base, done))
        done[name] = _layer(done[base], own) if base else own
    return done


# ── Checking ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# A rule is a pair (what is right, whether a value is), a table of rules ("*" for any key), or a list of one rule.
_Rule: TypeAlias = "tuple[str, Callable[[Any], object]] | dict[str, _Rule] | list[_Rule]"


@dataclass(frozen=True)
class _Place:
    """A key in a manifest, for messages."""

    file: str
    keys: tuple[str, ...] = ()

    def __truediv__(self, key: str) -> _Place:
        return _Place(self.file, (*self.keys, key))

    def bad(self, problem: str, remedy: str) -> JobError:
        key = ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _show(key) for key in self.keys)
        where = f"{self.file}: {key}" if key else self.file
        return JobError("bad-manifest", f"{where} {problem}", suggestions=[remedy])


def _check(here: _Place, value: Any, rule: _Rule) -> None:
    """Refuse what breaks the rule, naming the key."""
    if isinstance(rule, tuple):
        right, fits = rule
        if not fits(value):
            raise here.bad(f"cannot be {_show(value)}", f"Give {right}.")
    elif isinstance(rule, list):
        _check(here, value, _LIST)
        for number, item in enumerate(value):
            _check(here / str(number), item, rule[0])
    else:
        _check(here, value, _TABLE)
        for key, item in value.items():
            if _CONTROL.search(key):
                raise here.bad(f"has the key {_show(key)}", "Leave control characters out.")
            if key not in rule and "*" not in rule:
                raise (here / key).bad("is unknown", _hint(key, rule))
            _check(here / key, item, rule[key if key in rule else "*"])


def _need(here: _Place, table: _Table, *keys: str) -> None:
    for key in keys:
        if key not in table:
            raise here.bad(f"has no {key}", f"Add {key} = ….")


def _matches(pattern: str) -> Callable[[Any], object]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value)


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9._-]+)?")
# Control characters and those that turn the direction of text: a title must not rewrite the screen it is shown on.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_LIST: _Rule = ("a list", lambda value: isinstance(value, list))
_TABLE: _Rule = ("a table", lambda value: isinstance(value, dict))
_TEXT: _Rule = ("text without control characters", lambda value: isinstance(value, str) and not _CONTROL.search(value))
_COUNT: _Rule = ("a whole number above 0", lambda value: type(value) is int and value > 0)
_NUMBER: _Rule = ("a number, 0 or more", lambda value: type(value) in (int, float) and 0 <= value < math.inf)
_FLAG: _Rule = ("true or false", lambda value: isinstance(value, bool))
_PLAIN: _Rule = ("a plain value", lambda value: not isinstance(value, dict) and not _CONTROL.search(str(value)))
_FRAMES: _Rule = ("a whole number 4k+1", lambda value: type(value) is int and value > 0 and value % 4 == 1)
_SHARE: _Rule = ("a number between 0 and 1", lambda value: type(value) is float and 0 < value < 1)
_SIZE: _Rule = ('a size as "832x480"', _matches(r"[1-9][0-9]{0,5}x[1-9][0-9]{0,5}"))
_FAMILY: _Rule = (f"one of {', '.join(FAMILY_TASKS)}", _matches("|".join(FAMILY_TASKS)))
_REPO: _Rule = ("owner/name", _matches(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"))
_REVISION: _Rule = ("a branch, a tag or a commit", _matches(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*"))
_NAME: _Rule = ("letters, digits, dots and dashes", _matches(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*"))
_FILE: _Rule = ("a path within the repository", _matches(r"(?!.*(^|/)\.\.?(/|$))(?!/)(?!.*//)[^\\\x00-\x1f\x7f-\x9f]+"))
_DIGITS: _Rule = ("8 to 64 digits of a SHA-256", _matches("[0-9a-f]{8,64}"))


def _rules(table: type, **special: _Rule) -> dict[str, _Rule]:
    """The keys a table may have are the fields of its class, and their types say what fits."""
    usual: dict[str, _Rule] = {"str": _TEXT, "int": _COUNT, "float": _NUMBER, "bool": _FLAG, "tuple[str, ...]": [_TEXT]}
    return {key.name: special.get(key.name) or usual[str(key.type).removesuffix(" | None")] for key in fields(table)}


_ENTRY = _rules(
    ModelSpec,
    family=_FAMILY,
    repo=_REPO,
    path=_TEXT,
    revision=_REVISION,
    defaults=_rules(Defaults, frames=_FRAMES, flow_shift_by_size={"*": _NUMBER}),
    sizes=[_SIZE],
    architecture=dict.fromkeys(("transformer", "transformer_2", "vae", "text_encoder", "image_encoder"), _TEXT),
    boundary_ratio=_SHARE,
    variants=[_rules(Variant, name=_NAME, repo=_REPO, revision=_REVISION, files=[_FILE], sha256=[_DIGITS])],
)
for _key in ("id", "name", "version", "source"):  # these come from elsewhere
    del _ENTRY[_key]
_DOCUMENT: _Rule = {
    "families": {family: {**_ENTRY, "base": _TEXT} for family in FAMILY_TASKS},
    "architectures": {"*": {"base": _TEXT, "scale_factor_spatial": _COUNT, "*": _PLAIN}},
    "models": {"*": _TABLE},  # what they hold is checked once they are merged
}


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(value: object) -> str:
    """A value as messages show it: escaped and cut short."""
    return f"{value!r:.80}"


def _hint(wrong: str, known: Iterable[str]) -> str:
    """The known names nearest to a wrong one, else all of them."""
    folded = {name.casefold(): name for name in known}
    near = [folded[name] for name in get_close_matches(wrong[:100].casefold(), folded, 3, 0.45)]
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(folded.values()) or 'none'}."


def _age(version: str) -> list[tuple[int, str]]:
    """Sorts 2.10 after 2.9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"[._-]", version)]
