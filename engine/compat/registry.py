"""What is known of pipelines, families, models and variants: packages, memory, what their architecture allows.

Facts lie in layers: what ships, what `update-registry` merged, what the user adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from engine.catalog import ModelSpec, Variant
from engine.compat.needs import read_requirement
from engine.compat.registry_file import Layer, Source, read_bytes, read_kept, read_layer
from engine.compat.registry_rules import dotted, shown
from engine.errors import JobError
from engine.paths import data_place

_JOINED = ("requires", "notes")  # of these the user's own add to what is there


@dataclass(frozen=True)
class Facts:
    """All that is known of a model. `origin` says for people where each fact comes from; its keys are those of the
    facts, `requires.<package>` and `notes.<number>`."""

    pipeline: str | None
    requires: tuple[str, ...]
    optimisations: tuple[str, ...]
    vram_min_bytes: int | None
    vram_advice_bytes: int | None
    notes: tuple[str, ...]
    origin: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "pipeline": self.pipeline,
            "requires": list(self.requires),
            "optimisations": list(self.optimisations),
            "vram_min_bytes": self.vram_min_bytes,
            "vram_advice_bytes": self.vram_advice_bytes,
            "notes": list(self.notes),
            "origin": dict(self.origin),
        }

    def asked_by(self, requirement: str) -> str:
        """Which fact asks for a package."""
        return self.origin[f"requires.{read_requirement(requirement).name}"]


@dataclass(frozen=True)
class Registry:
    """The facts, in the layers that count; `sources` are all files, those that were left out included."""

    sources: tuple[Source, ...]
    _layers: tuple[Layer, ...] = field(repr=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out because it is broken."""
        return tuple(f"{one.file} is left out: {one.left_out}" for one in self.sources if one.broken)

    def facts(self, spec: ModelSpec, variant: Variant | None = None) -> Facts:
        """What is known of a model, or of a variant of it."""
        origin: dict[str, str] = {}
        pipeline = spec.pipeline
        if pipeline:
            origin["pipeline"] = spec.source
        for value, source in self._said("models", spec.id).get("pipeline", ()):
            pipeline, origin["pipeline"] = value, source
        chain = [("pipelines", pipeline or ""), ("families", spec.family), ("models", spec.id)]
        if variant:
            chain += [("variants", variant.kind), ("models", f"{spec.id}:{variant.name}")]
        packages: dict[str, str] = {}
        notes: list[str] = []
        last: dict[str, Any] = {}
        for section, name in chain:
            for key, said in self._said(section, name).items():
                for value, source in said:
                    if key == "requires":
                        for one in map(read_requirement, value):
                            packages[one.name], origin[f"requires.{one.name}"] = str(one), source
                    elif key == "notes":
                        origin.update({f"notes.{len(notes) + number}": source for number in range(len(value))})
                        notes += value
                    elif key != "pipeline":
                        last[key], origin[key] = value, source
        return Facts(
            pipeline,
            tuple(packages.values()),
            last.get("optimisations", ()),
            last.get("vram_min_bytes"),
            last.get("vram_advice_bytes"),
            tuple(notes),
            origin,
        )

    def _said(self, section: str, name: str) -> dict[str, list[tuple[Any, str]]]:
        """What the layers say of one table, key by key: values and where they come from, the last one last."""
        said: dict[str, list[tuple[Any, str]]] = {}
        for layer in self._layers:
            source = f"{layer.source.title}, {dotted((section, name))}"
            for key, value in layer.tables.get(section, {}).get(name, {}).items():
                adds = layer.source.kind == "own" and key in _JOINED
                said[key] = [*(said.get(key, ()) if adds else ()), (value, source)]
        return said


def own_file() -> Path:
    """Where the user's own additions are looked for."""
    return Path(platformdirs.user_config_dir("wan-tui")) / "registry.toml"


def kept_file() -> Path:
    """Where what `update-registry` merged is kept."""
    return data_place() / "registry.toml"


def load_registry() -> Registry:
    """The facts of this installation. What is broken among a user's files is left out, and said in `problems`."""
    shipped = shipped_layer()
    layers, sources = [shipped], [shipped.source]
    try:
        kept, old = kept_layers(shipped)
        layers += kept
        sources += [layer.source for layer in (*kept, *old)]
    except JobError as error:
        sources.append(Source("update", shown(kept_file()), left_out=error.message, broken=True))
    try:
        if (data := read_bytes(own_file(), absent_ok=True)) is not None:
            layers.append(read_layer("own", shown(own_file()), data, dated=False))
            sources.append(layers[-1].source)
    except JobError as error:
        sources.append(Source("own", shown(own_file()), left_out=error.message, broken=True))
    return Registry(tuple(sources), tuple(layers))


def shipped_layer() -> Layer:
    file = Path(__file__).with_name("registry.toml")
    return read_layer("shipped", str(file), file.read_bytes())


def kept_layers(shipped: Layer) -> tuple[list[Layer], list[Layer]]:
    """What updates have been merged, the oldest first: those that count, and those older than what ships by now.

    Raises `JobError` when the file that keeps them is broken.
    """
    data = read_bytes(kept_file(), absent_ok=True)
    counting, old = [], []
    for layer in read_kept(shown(kept_file()), data) if data is not None else ():
        if str(layer.source.revised) >= str(shipped.source.revised):
            counting.append(layer)
        else:
            why = f"it is older than what ships, which is of {shipped.source.revised}"
            old.append(replace(layer, source=replace(layer.source, left_out=why)))
    return counting, old
