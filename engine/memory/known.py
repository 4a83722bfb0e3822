"""The traces of all models of the catalog, made for the package: `python -m engine.memory.known`.

Figures of the same versions and format are kept as they are; what no model asks for any more is left out. With them the
first plan of a known model needs no torch. They hold for a minor version of diffusers and a major one of transformers;
with others each is made again when it is first needed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from engine.catalog import ModelSpec, load_catalog
from engine.compat.folder import open_folder
from engine.memory import traced
from engine.memory.parts import PRECISIONS, model_of_folder, model_of_spec
from engine.memory.unknown import trace
from engine.paths import shipped

_FILE = Path(__file__).with_name("known.json")


def main() -> None:
    """Trace every model, and write what was found beside this file."""
    values: dict[str, Any] = {}
    traced.begin_collecting(values)
    for spec in load_catalog().models:
        model = model_of_folder(open_folder(shipped(spec.name))) if spec.builtin else model_of_spec(spec)
        since, before = time.monotonic(), len(values)
        for precision in PRECISIONS:
            trace(model, precision, _pictures(spec))
        print(f"{spec.id}: {len(values) - before} traces, {time.monotonic() - since:.1f} s", flush=True)
    table = {"format": traced.FORMAT, "versions": traced.versions(), "values": dict(sorted(values.items()))}
    _FILE.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{len(values)} traces, {_FILE.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


def _pictures(spec: ModelSpec) -> tuple[bool, ...]:
    """Whether a first image is given: which of the two a model does."""
    return tuple(
        given
        for given, tasks in ((False, {"text"}), (True, {"image", "first-last"}))
        if not tasks.isdisjoint(spec.tasks)
    )


if __name__ == "__main__":
    main()
