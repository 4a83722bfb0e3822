"""Latents to a finished clip: decoded and written a group of frames at a time; of a long one the colours are watched.

Torch is needed here, and not loaded before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import RunError
from engine.job import Job
from engine.memory.windows import stretches, windows_of
from engine.runtime.rescue import Rescue
from engine.video.drift import Drift
from engine.video.write import open_writer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from engine.pipelines.components import Components
    from engine.pipelines.families import Recipe

Text = Callable[[tuple[float, ...]], str]
"""The sidecar's text of a clip whose windows drift so far apart, in CIE Lab; () for a clip without windows."""


@dataclass(frozen=True)
class Film:
    """A clip to be written: the checked job and its recipe, the text beside it, and who notes what comes of it."""

    job: Job
    recipe: Recipe
    text: Text
    note: Callable[..., None]

    def watch(self, components: Components) -> Drift | None:
        """Measures the colours of a clip in several windows; None for any other."""
        windows = windows_of(self.job, self.recipe.pipeline, components.folder.expand_timesteps)
        return Drift(stretches(windows)) if len(windows) > 1 else None


def decode_and_write(film: Film, components: Components, latents: torch.Tensor, rescue: Rescue) -> Path:
    """Stream frames into the file; when the encoder fails, decode again into a folder of PNGs."""
    path = film.job.output.path
    assert path  # a checked job has one
    try:
        return rescue.run("decode", lambda: _write(film, components, latents, path))
    except RunError as error:
        if error.code not in ("encoding-failed", "ffmpeg-missing") or not path.suffix:
            raise
        folder = path.with_suffix("")
        components.voice.warn(
            "encoding-failed", f"{error.message} {error.cause or ''} The frames are kept as PNGs in a folder instead."
        )
        return rescue.run("decode", lambda: _write(film, components, latents, folder))


def _write(film: Film, components: Components, latents: torch.Tensor, path: Path) -> Path:
    job, voice = film.job, components.voice
    shape: dict[str, Any] = {"width": job.width, "height": job.height, "fps": job.fps}
    if job.output.crf is not None:
        shape["crf"] = job.output.crf
    voice.enter("decode")
    components.bring("vae")
    drift = film.watch(components)
    with (
        voice.during("write"),
        open_writer(path, **shape, metadata=film.text(())) as writer,  # what is in a file is said before its frames
    ):
        film.note(scratch=str(writer.scratch))
        for frames in _decoded(components, latents, job.frames or 0):
            writer.write(frames)
            if drift:
                drift.add(frames)
        components.control.check()
        distances = _told(film, components, drift) if drift else ()
        return writer.finish(lambda _: film.text(distances))


def _told(film: Film, components: Components, drift: Drift) -> tuple[float, ...]:
    """The distance of each window's colour to the first window's, noted, and warned about where it grows."""
    distances = drift.distances()
    film.note(recorded={"drift": distances})
    if says := drift.warning():
        components.voice.warn("drift", says)
    return distances


def _decoded(components: Components, latents: torch.Tensor, total: int) -> Iterator[NDArray[np.uint8]]:
    """The `total` frames in groups (n, H, W, 3), in the form the VAE has now."""
    from engine.video.decode import frame_groups, pixels
    from engine.video.tiles import Tiles, tiled_frames

    vae, form, voice = components.bring("vae"), components.held.form, components.voice

    def tell(share: float) -> None:
        components.control.check()
        voice.progress(int(share * total), total)

    tiles = Tiles(form.tile, form.stride) if form.tile and form.stride else None
    with components.at_work("decodes the frames"):  # what is done with a frame does not come in here
        if tiles and tiles.are_needed(vae, latents):
            yield from tiled_frames(vae, latents, tiles, tell)
            return
        done = 0
        for group in frame_groups(vae, latents, components.control.check):
            frames = pixels(group)
            yield frames
            done += len(frames)
            voice.progress(done, total)
