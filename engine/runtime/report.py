"""The report about a model: verdict, findings, what it is made of, the box, and what else would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.compat.anatomy import Anatomy, Component
from engine.compat.fallback import Alternative
from engine.compat.finding import Finding, verdict
from engine.compat.fit import Need
from engine.compat.identify import vae_version
from engine.compat.machine import Machine
from engine.runtime.outlook import Outlook

_MOST_LISTED = 64
_CONFIG_KEYS = (
    "num_layers",
    "num_attention_heads",
    "attention_head_dim",
    "ffn_dim",
    "in_channels",
    "out_channels",
    "image_dim",
    "text_dim",
    "z_dim",
    "d_model",
    "vocab_size",
    "hidden_size",
    "vace_layers",
)


@dataclass(frozen=True)
class Report:
    """What `check` tells. `like` are models of the catalog of the same architecture; `usable` are the components
    that load on their own; `alternatives` do the same task; `facts` are the registry's. `outlook` tells how the model's
    own clip goes onto this box; None where no plan can be made, and `need`, its largest component, is all there is."""

    name: str
    path: Path | None
    family: str | None
    version: str | None
    tasks: tuple[str, ...]
    state: str | None
    anatomy: Anatomy | None
    findings: tuple[Finding, ...]
    machine: Machine
    need: Need | None = None
    like: tuple[str, ...] = ()
    usable: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    outlook: Outlook | None = None

    @property
    def verdict(self) -> str:
        return verdict(self.findings)

    def of(self, severity: str) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "name": self.name,
            "path": str(self.path) if self.path else None,
            "state": self.state,
            "family": self.family,
            "version": self.version,
            "task": self.tasks[0] if self.tasks else None,
            "tasks": list(self.tasks),
            "architecture": architecture(self.anatomy) if self.anatomy else None,
            "like": list(self.like),
            "memory": self.need.as_dict() if self.need else None,
            "outlook": self.outlook.as_dict() if self.outlook else None,
            "findings": [finding.as_dict() for finding in self.findings],
            "usable_components": list(self.usable),
            "alternatives": [one.as_dict() for one in self.alternatives],
            "registry": dict(self.facts),
            "environment": self.machine.as_dict(),
        }


def architecture(anatomy: Anatomy) -> dict[str, Any]:
    """The structure of what lies on disk, for programs."""
    folder = anatomy.folder
    return {
        "layout": anatomy.layout,
        "pipeline": folder.pipeline if folder else None,
        "experts": sum(name.startswith("transformer") for name in anatomy.components) if folder else None,
        "boundary_ratio": folder.boundary_ratio if folder else None,
        "expand_timesteps": folder.expand_timesteps if folder else None,
        "vae": vae_version(anatomy),
        "index_rebuilt": bool(folder and folder.rebuilt),
        "components": {name: _component(part) for name, part in anatomy.components.items()},
        "files": {
            name: {
                "part": found.part,
                "layout": found.layout,
                "wan": found.wan,
                "name": found.name,
                "families": list(found.families),
                "versions": list(found.versions),
                "size": found.size,
                "expert": found.expert,
                "rank": found.rank,
                "dtypes": list(found.dtypes),
                "parameters": found.parameters,
                "why": list(found.why),
            }
            for name, found in anatomy.recognised.items()
        },
    }


def _component(part: Component) -> dict[str, Any]:
    return {
        "library": part.library,
        "class": part.kind,
        "files": len(part.files),
        "tensors": len(part.tensors),
        "parameters": part.parameters or None,
        "bytes": part.bytes or None,
        "dtypes": list(part.dtypes),
        "config": {key: part.config[key] for key in _CONFIG_KEYS if _is_plain(part.config.get(key))},
    }


def _is_plain(value: Any) -> bool:
    """Whether a value of a configuration can be told: nobody has checked that of a broken one."""
    if isinstance(value, list):
        return len(value) <= _MOST_LISTED and all(type(one) is int for one in value)
    return type(value) is int
