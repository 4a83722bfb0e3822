"""What there is to choose from in the composer: models, devices. Read in a thread, and imported there."""

from __future__ import annotations

import os
from pathlib import Path

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import read_anatomy
from engine.compat.examine import folder_in
from engine.compat.identify import folder_item
from engine.compat.machine import this_machine
from engine.errors import WanError
from engine.library.locate import locate
from engine.units import size
from wan_tui.composing.form import is_folder
from wan_tui.composing.support import support
from wan_tui.widgets.choose import Option


def spec_of(name: str, here: Path, catalog: Catalog) -> ModelSpec | None:
    """The model a name stands for; None for auto, and for what is none. Reads the disk for a folder."""
    try:
        if is_folder(name):
            anatomy = read_anatomy(Path(os.path.realpath(here / os.path.expanduser(name))))
            return folder_item(folder_in(anatomy), catalog).spec
        return None if name == "auto" else catalog.find(name)[0]
    except (WanError, ValueError):  # what is wrong with it the plan tells
        return None


def model_options(catalog: Catalog, folder_key: str) -> list[Option]:
    """Those on disk first, then those to download, then those this version does not run yet."""
    ranked = []
    for at, spec in enumerate(catalog.models):
        runs = support(spec).runs
        here = locate(spec).whole
        note = "does not run yet" if not runs else "built in" if spec.builtin else "on disk" if here else "to download"
        ranked.append(((not here, not runs, at), Option(spec.id, f"{spec.id}  {spec.title}", _about(spec), note)))
    return [
        Option("auto", "auto", "Model and task follow from the inputs and from what is on disk."),
        *(option for _, option in sorted(ranked, key=lambda pair: pair[0])),
        Option(folder_key, "a folder on this box…", "Any folder in the layout of diffusers."),
    ]


def _about(spec: ModelSpec) -> str:
    bytes_known = f", {size(spec.bytes)}" if spec.bytes else ""
    told = support(spec).sentence
    return f"{spec.family}: {', '.join(spec.tasks)}{bytes_known}." + (f" {told}" if told else "")


def device_options() -> list[Option]:
    machine = this_machine()
    return [
        Option("auto", "auto", "The card with most free memory; without one, the processor."),
        *(
            Option(
                card.uuid, f"{card.name}  {card.uuid}", note="" if card.total_bytes is None else size(card.total_bytes)
            )
            for card in machine.cards
        ),
        Option("cpu", "cpu", "Without a GPU: slow."),
    ]
