"""The cap on a device's memory: its arithmetic, which is all of it that a CPU can show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware import cpu
from engine.runtime.cap import fraction, limit_memory, measured_context
from engine.sampling.figures import GpuSample, HostSample, Sample

GIB, MIB = 2**30, 2**20
CARD = GpuSample("GPU-1", "a card", our_bytes=530 * MIB, torch_reserved_bytes=2 * MIB)


def sample(*gpus: GpuSample) -> Sample:
    return Sample(0.0, gpus, HostSample(), (), None, None, None)


@given(st.integers(1, 200 * GIB), st.integers(0, GIB), st.integers(GIB, 200 * GIB))
def test_allocator_and_context_stay_within_the_limit(limit: int, context: int, total: int) -> None:
    part = fraction(limit, context, total)
    assert 0 <= part <= 1
    if limit >= context:
        assert int(part * total) + context <= limit + 1
    if context <= limit <= total:
        assert part == pytest.approx((limit - context) / total)


def test_no_limit_is_no_cap() -> None:
    assert fraction(None, 600 * MIB, 24 * GIB) == fraction(48 * GIB, 600 * MIB, 24 * GIB) == 1.0
    assert fraction(GIB // 4, 600 * MIB, 24 * GIB) == 0.0


def test_the_context_is_what_the_driver_counts_beside_torch() -> None:
    assert measured_context(sample(replace(CARD, uuid="GPU-0", our_bytes=GIB), CARD), "GPU-1") == 528 * MIB
    assert measured_context(sample(replace(CARD, our_bytes=MIB)), "GPU-1") == 0


@pytest.mark.parametrize("gpus", [(), (replace(CARD, our_bytes=None),), (replace(CARD, torch_reserved_bytes=None),)])
def test_a_driver_that_does_not_tell(gpus: tuple[GpuSample, ...]) -> None:
    """In a container, say, or on another device."""
    assert measured_context(sample(*gpus), "GPU-1") is None
    assert measured_context(sample(CARD), "GPU-2") is None


def test_a_cpu_has_no_cap() -> None:
    limit_memory(cpu(), GIB)
