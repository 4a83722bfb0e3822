"""What came of loading a model, in words, for the command line and the screen alike."""

from __future__ import annotations

from collections.abc import Iterator

from engine.runtime.testload import LoadTest, Tried
from engine.units import counted, parameters, size
from wan_tui.cli.errors import described


def lines(done: LoadTest, title: str | None = None) -> Iterator[str]:
    """What came of it, for people: the answer, what failed and why, then the figures."""
    yield f"{title or done.name}: {load_answer(done)}"
    for part in done.failed:
        yield from _row(part)
    clip = done.smoke
    if clip:
        yield from (f"warning: {warning}" for warning in clip.warnings)
        yield from described(clip.error).splitlines() if clip.error else ()
    for part in done.components:
        if not part.error:
            yield from _row(part)
    if clip and clip.done:
        made = clip.done
        peak = peaks(made.peak_rss_bytes, made.peak_vram_bytes)
        yield f"clip     {made.frames} frames of {made.width}x{made.height} in {made.seconds:.1f} s, {peak}"
        yield f"output   {made.output}"
        yield f"sha256   {made.output_sha256}"
    yield f"took     {done.seconds:.1f} s on {done.device.name}"


def load_answer(done: LoadTest) -> str:
    """What came of it, in one line."""
    if done.failed:
        bad = ", ".join(part.name for part in done.failed)
        fail = "fail" if done.failed[1:] else "fails"
        return f"{len(done.failed)} of {counted(len(done.components), 'component')} {fail}: {bad}"
    renders = {"done": ", and it renders", "failed": ", and it does not render"}
    return f"every component loads{renders.get(done.smoke.state, '') if done.smoke else ''}"


def _row(part: Tried) -> Iterator[str]:
    figures = [f"{part.seconds:.1f} s"]
    if part.parameters:
        figures.append(f"{parameters(part.parameters)} parameters in {', '.join(part.dtypes)}")
        figures.append(peaks(part.peak_rss_bytes, part.peak_vram_bytes))
    if part.finite:
        figures.append("every weight finite")
    yield f"{part.state:<8} {part.name}: {part.kind}, {', '.join(figures)}"
    yield from (f"warning: {part.name}: {warning}" for warning in part.warnings)
    yield from described(part.error).splitlines() if part.error else ()


def peaks(rss: int | None, vram: int | None) -> str:
    """The most memory it took."""
    return f"peak {size(rss)} RAM" + (f" and {size(vram)} VRAM" if vram is not None else "")
