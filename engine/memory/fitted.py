"""From a few traces to any size: curves through them, kept from then on.

A stage's memory is affine in the tokens of a video, or in its pixels and, apart from that, in its frames, as long as it
peaks with the same operation; its operations are of the second degree, because of attention. With a few tokens a step
peaks elsewhere, where the text is the larger part: it has a second line. On a CPU a convolution's kernel depends on
channels times height: a VAE far narrower than the real ones is encoded in up to twice or half of what its curve says.
Tests state how near all this comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, TypeVar

from engine.memory.parts import Clip, Model, Part, Precision
from engine.memory.traced import Curve, Fitted, Traced, Weights, as_json, fitted_from, keep, kept, weights_from

Size = tuple[int, int, int]
Powers = tuple[tuple[int, int], ...]

_Value = TypeVar("_Value", Weights, Fitted)

_ONE: Powers = ((0, 0),)
_LINE: Powers = ((0, 0), (1, 0))
_PLANE: Powers = ((0, 0), (1, 0), (1, 1))
_BOTH: Powers = ((0, 0), (1, 0), (0, 1), (1, 1))
_OPERATIONS: Powers = ((1, 0), (2, 0), (1, 1), (2, 1))  # of a VAE, whose middle attends over a frame
# Latent frames, height, width. A VAE's feature caches are full from the third latent frame on.
_STEPS: tuple[Size, ...] = ((5, 32, 32), (13, 48, 80), (21, 64, 112))
_SMALL_STEPS: tuple[Size, ...] = ((1, 8, 8), (1, 16, 16))
_FULL = 3
_FRAMES: tuple[Size, ...] = ((3, 48, 64), (4, 48, 64), (3, 64, 96), (4, 64, 96))
_LOOPS: tuple[Size, ...] = ((3, 16, 16), (5, 16, 16), (3, 16, 32))


def weights(part: Part, precision: Precision, *, trace: bool = True) -> Weights | None:
    """The bytes of a component; None where they are not known and may not be found now."""
    what = {"stage": "weights", "of": part.identity, "dtype": precision.of(part.name)}

    def find() -> Weights:
        from engine.memory import trace as traces

        return traces.weights(part, precision)

    return _kept_or(what, weights_from, find, trace)


def text(part: Part, precision: Precision, *, trace: bool = True) -> Fitted | None:
    """One prompt; no `s`, no `n`."""

    def find() -> Fitted:
        from engine.memory import trace as traces

        return _constant(traces.text(part, precision))

    return _kept_or(_stage("text", part, precision), fitted_from, find, trace)


def vision(part: Part, precision: Precision, pictures: int, *, trace: bool = True) -> Fitted | None:
    """The image encoder; no `s`, no `n`."""

    def find() -> Fitted:
        from engine.memory import trace as traces

        return _constant(traces.vision(part, precision, pictures))

    return _kept_or(_stage("vision", part, precision, pictures=pictures), fitted_from, find, trace)


def step(part: Part, precision: Precision, *, per_token: bool, trace: bool = True) -> Fitted | None:
    """One call of an expert; `s` is tokens. The third size gives the second degree of the operations alone."""

    def find() -> Fitted:
        from engine.memory import trace as traces

        sizes, count = (*_SMALL_STEPS, *_STEPS), len(_SMALL_STEPS)
        all_runs = traces.steps(part, precision, sizes, per_token=per_token)
        all_points = [(traces.tokens(part, size), 1) for size in sizes]
        few = all_runs[:count], all_points[:count]
        runs, points = all_runs[count:], all_points[count:]
        last = runs[1:], points[1:]
        large = _through(_LINE, *last, lambda run: run.activation_bytes)
        return Fitted(
            activation=replace(large, small=_through(_LINE, *few, lambda run: run.activation_bytes).factors),
            output=_through(_LINE, *last, lambda run: run.output_bytes),
            flops=_through((*_LINE, (2, 0)), runs, points, lambda run: run.flops),
            kept=Curve((), ()),
        )

    return _kept_or(_stage("step", part, precision, per_token=per_token), fitted_from, find, trace)


def decode(part: Part, precision: Precision, n: int, *, trace: bool = True) -> Fitted | None:
    """Whole pictures, a group at a time, for `n` latent frames; `s` is latents of a frame, `kept` the feature caches.

    Up to three latent frames the caches are still filling, and each number of them has curves of its own.
    """

    def find() -> Fitted:
        from engine.memory import trace as traces

        return _of_frames(lambda sizes: traces.decodes(part, precision, sizes), n)

    what = _stage("decode", part, precision, frames=min(n, _FULL))
    return _kept_or(what, fitted_from, find, trace)


def encode(model: Model, precision: Precision, n: int, *, trace: bool = True) -> Fitted | None:
    """A first image, as the pipeline encodes it; `s` is latents of a frame, `n` latent frames, as for `decode`."""

    def find() -> Fitted:
        from engine.memory import trace as traces

        return _of_frames(lambda sizes: traces.encodes(model, precision, sizes), n)

    what = _stage("encode", model.parts["vae"], precision, alone=model.expand_timesteps, frames=min(n, _FULL))
    return _kept_or(what, fitted_from, find, trace)


def loop(model: Model, precision: Precision, clip: Clip, *, trace: bool = True) -> Fitted | None:
    """The loop beside its experts; `s` is latents of a frame, `n` latent frames. `kept` is what lives when an expert is
    called, `activation` the most that ever does."""

    def find() -> Fitted:
        from engine.memory import loop as loops

        found = [loops.loop(model, precision, clip, size) for size in _LOOPS]
        runs = [Traced(0, peak, 0, 0, held) for held, peak in found]
        points = [(h * w, n) for n, h, w in _LOOPS]
        return Fitted(
            activation=_through(_PLANE, runs, points, lambda run: run.activation_bytes),
            output=Curve((), ()),
            flops=Curve((), ()),
            kept=_through(_PLANE, runs, points, lambda run: run.kept_bytes),
        )

    expert = model.parts[model.experts[0]]
    what = {
        "stage": "loop",
        **{key: expert.get(key) for key in ("in_channels", "out_channels", "image_dim", "pos_embed_seq_len")},
        "patch": list(expert.get("patch_size")),
        "vae": [model.parts["vae"].get("z_dim"), model.spatial, model.temporal],
        "per_token": model.expand_timesteps,
        "clip": [clip.image, clip.guided],
        "dtype": precision.dtype,
    }
    return _kept_or(what, fitted_from, find, trace)


def _stage(name: str, part: Part, precision: Precision, **more: Any) -> dict[str, Any]:
    return {
        "stage": name,
        "of": part.identity,
        "dtype": precision.of(part.name),
        "kernels": precision.kernels,
        **more,
    }


def _kept_or(
    what: dict[str, Any], read: Callable[[Any], _Value | None], find: Callable[[], _Value], trace: bool
) -> _Value | None:
    """What is kept, else what is found now, and kept."""
    value = read(kept(what))
    if value is None and trace:
        value = find()
        keep(what, as_json(value))
    return value


def _of_frames(trace: Callable[[Sequence[Size]], list[Traced]], n: int) -> Fitted:
    sizes, bytes_, operations = _FRAMES, _BOTH, _OPERATIONS
    if n < _FULL:
        sizes, bytes_, operations = tuple((n, h, w) for _, h, w in _FRAMES[1:3]), _LINE, _OPERATIONS[:2]
    runs = trace(sizes)
    points = [(h * w, frames) for frames, h, w in sizes]
    return Fitted(
        activation=_through(bytes_, runs, points, lambda run: run.activation_bytes),
        output=_through(bytes_, runs, points, lambda run: run.output_bytes),
        flops=_through(operations, runs, points, lambda run: run.flops),
        kept=_through(bytes_, runs, points, lambda run: run.kept_bytes),
    )


def _constant(run: Traced) -> Fitted:
    values = (run.activation_bytes, run.output_bytes, run.flops, run.kept_bytes)
    return Fitted(*(Curve(_ONE, (float(value),)) for value in values))


def _through(
    powers: Powers, runs: Sequence[Traced], points: Sequence[tuple[int, int]], figure: Callable[[Traced], int]
) -> Curve:
    """The curve of these powers through as many points, solved exactly."""
    rows = [
        [Fraction(s) ** a * Fraction(n) ** b for a, b in powers] + [Fraction(figure(run))]
        for run, (s, n) in zip(runs, points, strict=True)
    ]
    for i in range(len(rows)):
        at = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[at] = rows[at], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [left - rows[j][i] * right for left, right in zip(rows[j], rows[i], strict=True)]
    return Curve(powers, tuple(float(row[-1]) for row in rows))
