"""`wan-tui plan --table`: what every known model takes, at two sizes and three lengths, on every rung."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from engine.catalog import Catalog, ModelSpec, load_catalog
from engine.compat.machine import this_machine
from engine.errors import Exit
from engine.host import host_memory
from engine.memory.ladder import NAMES
from engine.memory.table import Row, table
from engine.runtime.seat import seat_of
from engine.units import size
from wan_tui.cli.errors import answered
from wan_tui.cli.layout import for_terminal

_WIDTHS = (10, 10, 10, 10, 5)  # of the rungs' columns


def tabled(args: argparse.Namespace, vram: int | None) -> int:
    """Print the table, of all models or of those named, and mark what fits: on a card of `vram` bytes, or that here."""
    catalog = load_catalog()
    specs = [catalog.find(name)[0] for name in args.what] or list(catalog.models)
    specs = list({spec.id: spec for spec in specs}.values())
    half, ram = True, host_memory()[1]
    where = None if vram is None else f"another card with {size(vram)}"
    if vram is None:
        seat = seat_of("auto", this_machine())
        if seat.device and seat.device.torch_name != "cpu" and seat.device.free_bytes is not None:
            vram, half = seat.device.free_bytes, seat.half
            where = f"{seat.device.name} with {size(vram)} free"
    rows = table(specs, vram, ram, half=half)
    there = {row.model for row in rows}
    lacking = [spec for spec in specs if spec.id not in there]
    if args.json:
        answer = {
            "rows": [row.as_dict() for row in rows],
            "not_predicted": [spec.id for spec in lacking],
            "vram_bytes": vram,
            "ram_bytes": ram,
        }
        return answered(json.dumps(answer, indent=2), Exit.DONE)
    names = {spec.id: _short(spec, catalog) for spec in specs}
    fits = f"*: fits {where}, and the {size(ram)} of RAM free here" if where else None
    return answered(for_terminal(_lines(rows, names, lacking, half, fits)), Exit.DONE)


def _short(spec: ModelSpec, catalog: Catalog) -> str:
    """A model's name, without its version where it is the newest."""
    return spec.name if catalog.find(spec.name)[0] is spec else spec.id


def _lines(
    rows: Sequence[Row], names: dict[str, str], lacking: Sequence[ModelSpec], half: bool, fits: str | None
) -> Iterator[str]:
    if rows:
        yield f"GB of VRAM/RAM in {'bf16' if half else 'fp32'}, the VAE in tiles; on the CPU GB of RAM in fp32."
        if fits:
            yield fits
        width = max(len(names[row.model]) for row in rows)
        yield _line(width, "model", "clip", NAMES)
        for (model, *clip), same in groupby(rows, lambda row: (row.model, row.width, row.height, row.frames)):
            by_rung = {row.rung: row for row in same}
            yield _line(width, names[model], "x".join(map(str, clip)), [_cell(by_rung[name]) for name in NAMES])
    if lacking:
        told = ", ".join(names[spec.id] for spec in lacking)
        yield f"not predicted, their parts are not known to this version: {told}"


def _line(width: int, model: str, clip: str, cells: Sequence[str]) -> str:
    columns = " ".join(f"{cell:<{room}}" for cell, room in zip(cells, _WIDTHS, strict=True))
    return f"{model:<{width}} {clip:<12} {columns}".rstrip()


def _cell(row: Row) -> str:
    taken = _gb(row.ram_bytes) if row.rung == "cpu" else f"{_gb(row.vram_bytes)}/{_gb(row.ram_bytes)}"
    return f"{taken}*" if row.fits else taken


def _gb(count: int) -> str:
    figure = count / 1e9
    return f"{figure:.1f}" if figure < 99.95 else f"{figure:.0f}"
