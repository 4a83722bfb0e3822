"""The N of torch's cuda:N for the devices of the driver: told where it is sure, left out where it would be a guess."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.hardware import visible
from engine.sampling.figures import GpuSample


def numbered(places: Sequence[tuple[GpuSample, ...]], before: Mapping[str, GpuSample]) -> dict[str, GpuSample]:
    """The devices by UUID, with their numbers. Of a split card CUDA sees the parts alone.

    `before` is how they were numbered earlier: CUDA counts once in a process, whatever is lost later.
    """
    computing = [tuple(part for part in place if part.mig_parent) or place for place in places]
    seen = [about.uuid for about in visible(computing)]
    sure = _is_sure(computing)
    every = {about.uuid for place in computing for about in place}
    found = {}
    for about in (about for place in places for about in place):
        index = seen.index(about.uuid) if sure and about.uuid in seen else None
        hidden = sure and about.uuid in every and about.uuid not in seen
        if about.uuid in before:
            index, hidden = before[about.uuid].torch_index, before[about.uuid].hidden
        found[about.uuid] = replace(about, torch_index=index, hidden=hidden)
    return found


def _is_sure(places: Sequence[tuple[GpuSample, ...]]) -> bool:
    """Whether the order of the bus is CUDA's.

    By default CUDA puts the fastest card first; of parts it takes one; it may count a lost card, an empty place.
    """
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None and not any(word.strip().isdecimal() for word in wanted.split(",")):
        return True  # named, or none at all
    every = [about for place in places for about in place]
    if len(every) > 1 and any(about.mig_parent for about in every):
        return False
    in_order = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return all(places) and (in_order or len({about.name for about in every}) <= 1)
