"""The CPU allocator's own record of what work takes: an independent witness of what traces say."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], after: str | None = None) -> int:
    """The most that was allocated at once beyond what there was before; only from the first range named `after` on."""
    gc.collect()
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kept = work()
    del kept
    events = record.profiler.kineto_results.events()
    since = min((event.start_ns() for event in events if event.name() == after), default=0)
    now = peak = 0
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda one: one.start_ns()):
        now += event.nbytes()
        if event.start_ns() >= since:
            peak = max(peak, now)
    return peak
