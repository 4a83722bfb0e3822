"""What a run will take: for each stage the peaks of the device's memory and of RAM, and its operations.

Everything comes from traces of the real modules; what no trace can tell is a named constant below. Torch is needed only
for what was never traced before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.memory import tiling
from engine.memory.figures import Figures
from engine.memory.ladder import EXACT, Hold
from engine.memory.parts import PRECISIONS, TOKENS, Clip, Model, Precision
from engine.memory.tiling import Size
from engine.memory.traced import Weights
from engine.memory.windows import anchors_of, seen

_MIB = 2**20
# Not yet measured on a GPU; the context is the upper end of what engine.md §3 names (0.3-0.6 GiB).
CONTEXT = 600 * _MIB  # the CUDA context, as NVML counts it
WORKSPACES = 256 * _MIB  # of cuBLAS, cuDNN and attention
FRAGMENTATION = 0.05  # of activations: what torch's allocator reserves beside them
SEGMENT = 20 * _MIB  # what it takes from the driver at a time, for tensors of 1 to 10 MiB
HOST = 512 * _MIB  # the program with torch, diffusers and transformers: 384 MiB when loaded, 480 in a tiny run on a CPU
HOST_OF_CUDA = 1536 * _MIB  # what the driver and CUDA's libraries add to it: not yet measured
_FLOAT = 4


@dataclass(frozen=True)
class Stage:
    """A stage of a run, by the component it runs: peaks in bytes, and the operations of all of its calls together.

    `weights_bytes` and `activations_bytes` are where the component computes: on the device or, on the CPU, in RAM. A
    layer that is cast while it runs counts as activation.
    `moved_bytes` cross from RAM to the device, `loaded_bytes` come from disk, counted in the precision of the run.
    """

    name: str
    component: str
    vram_bytes: int
    ram_bytes: int
    flops: int
    weights_bytes: int = 0
    activations_bytes: int = 0
    moved_bytes: int = 0
    loaded_bytes: int = 0


@dataclass(frozen=True)
class Prediction:
    """What a run takes on a rung. The peaks are those of its most demanding stage."""

    rung: str
    form: str
    stages: tuple[Stage, ...]
    storage: str = EXACT

    @property
    def vram_bytes(self) -> int:
        return max(stage.vram_bytes for stage in self.stages)

    @property
    def ram_bytes(self) -> int:
        return max(stage.ram_bytes for stage in self.stages)

    @property
    def flops(self) -> int:
        return sum(stage.flops for stage in self.stages)

    def seconds(self, flops_per_second: float) -> float:
        """How long the run computes at a measured rate; loading comes on top."""
        return self.flops / flops_per_second


@dataclass(frozen=True)
class _Work:
    """A stage without its weights: bytes of its activations on the device and beside it in RAM, and its operations.

    Its component is called `calls` times, and comes `visits` times where components leave for each other.
    """

    name: str
    component: str
    activation: int
    flops: int
    waiting: int = 0
    calls: int = 1
    visits: int = 1


def can_predict(model: Model) -> bool:
    """Whether this version knows how a model's stages are called."""
    experts = [model.parts[name] for name in model.experts]
    known = bool(experts) and all(part.kind == "WanTransformer3DModel" for part in experts)
    return known and {"vae", "text_encoder"} <= model.parts.keys()


def predict(model: Model, clip: Clip, held: Hold, precision: Precision, *, trace: bool = True) -> Prediction | None:
    """What a clip takes when its model is held so.

    `precision` is that on the device; on the rung `cpu` everything runs in fp32. None for a model of a family this
    version cannot predict, and, without `trace`, when a trace of it is not kept from before: then torch stays away.
    """
    return predicted(Figures(model, precision, trace=trace), clip, held) if can_predict(model) else None


def predicted(figures: Figures, clip: Clip, held: Hold) -> Prediction | None:
    """The same for a model that can be predicted, from figures that were looked up before."""
    on_cpu = held.rung.name == "cpu" or figures.precision.kernels == "cpu"
    if on_cpu and figures.precision != PRECISIONS[-1]:
        figures = figures.on_cpu
    names = [name for name in figures.model.parts if name != "image_encoder" or clip.image]
    weights = {name: there for name in names if (there := figures.weights(name, held.storage)) is not None}
    found = tuple(_stages(figures, clip, held))
    work = tuple(one for one in found if one is not None)
    if len(work) < len(found) or len(weights) < len(names):
        return None
    if on_cpu:
        stages = tuple(_on_host(one, work[: i + 1], weights, held) for i, one in enumerate(work))
    else:
        stages = tuple(_on_device(one, work[: i + 1], weights, held) for i, one in enumerate(work))
    return Prediction(held.rung.name, held.form.name, stages, held.storage)


def size_of(model: Model, clip: Clip) -> Size:
    """Latent frames, height and width of a clip."""
    f = model.spatial
    return (clip.frames - 1) // model.temporal + 1, clip.height // f, clip.width // f


# --- the stages without their weights --------------------------------------------------------------------------------


def _stages(figures: Figures, clip: Clip, held: Hold) -> Iterator[_Work | None]:
    """Every stage in its order; None for one that is not known and may not be traced."""
    model, text = figures.model, figures.text()
    prompts = max(1, len(clip.layout.ends) if clip.layout else 1) + clip.guided
    yield (_Work("text", "text_encoder", text.activation(0), prompts * text.flops(0), calls=prompts) if text else None)
    first = model.parts[model.experts[0]]
    if clip.image and first.get("image_dim") is not None:
        seen_once = figures.vision(2 if first.get("pos_embed_seq_len") else 1)
        yield _Work("image", "image_encoder", seen_once.activation(0), seen_once.flops(0)) if seen_once else None
    windows = _windows(model, clip)
    if clip.image:
        yield _condition(figures, clip, held, windows[0])
    for name in model.experts:
        yield _denoise(figures, clip, name, windows)
    yield _decode(figures, clip, held)


def _windows(model: Model, clip: Clip) -> tuple[int, ...]:
    """The latent frames of each window; those of the whole clip where it is made in one piece."""
    if clip.layout is None:
        return (size_of(model, clip)[0],)
    return seen(clip.layout, in_turn=clip.image, anchors=anchors_of(model.expand_timesteps))


def _condition(figures: Figures, clip: Clip, held: Hold, n: int) -> _Work | None:
    """The picture is encoded once, with the empty frames of `n` latents behind it."""
    model = figures.model
    size = _, h, w = n, *size_of(model, clip)[1:]
    whole = figures.encode(n, held)
    given = (3 * clip.width * clip.height + model.parts["vae"].get("z_dim") * n * h * w) * _FLOAT
    if whole is None:
        return None
    taken = tiling.encode_bytes(model, held.form, size, whole) + given
    return _Work("condition", "vae", taken, whole.flops(h * w, n))


def _denoise(figures: Figures, clip: Clip, name: str, windows: tuple[int, ...]) -> _Work | None:
    """An expert in the loop. Operations are those of its share of the steps; both experts are alike.

    The loop of joint windows holds the whole clip, that of windows in turn a window, beside what is done.
    """
    step, loop = figures.step(name), figures.loop(clip)
    if step is None or loop is None:
        return None
    model, part = figures.model, figures.model.parts[name]
    n, h, w = size_of(model, clip)
    (a, b, c), branches = part.get("patch_size"), 1 + clip.guided
    tokens = [(one // a) * (h // b) * (w // c) for one in windows]
    prompts = (max(1, len(clip.layout.ends) if clip.layout else 1) + clip.guided) * TOKENS * part.get("text_dim")
    looped = max(windows) if clip.layout and clip.image else n
    beside = _beside(figures, clip, name, max(windows)) if clip.layout else 0
    most = max(loop.kept(h * w, looped) + step.activation(max(tokens)), loop.activation(h * w, looped))
    flops = sum(map(step.flops, tokens)) * branches * clip.steps // len(model.experts)
    calls = len(windows) * branches * clip.steps // len(model.experts)
    visits = len(windows) if clip.image and len(model.experts) > 1 else 1
    taken = prompts * figures.precision.width + beside + most
    return _Work("denoise", name, taken, flops, calls=calls, visits=visits)


def _beside(figures: Figures, clip: Clip, name: str, window: int) -> int:
    """What windows add to the loop: the input of one, and the prediction of the whole clip, twice while it changes its
    dtype or grows by a window."""
    model, part = figures.model, figures.model.parts[name]
    n, h, w = size_of(model, clip)
    whole = 2 * model.parts["vae"].get("z_dim") * n * h * w * _FLOAT
    return int(whole + part.get("in_channels") * window * h * w * figures.precision.width)


def _decode(figures: Figures, clip: Clip, held: Hold) -> _Work | None:
    model = figures.model
    n, h, w = size = size_of(model, clip)
    whole = figures.decode(n, held)
    if whole is None:
        return None
    latents = model.parts["vae"].get("z_dim") * n * h * w * _FLOAT
    on_device, waiting = tiling.decode_bytes(model, held.form, size, whole)
    pictures = 3 * 4 * clip.width * clip.height * (2 * _FLOAT + 1)  # a group on its way to the file
    flops = tiling.decode_flops(model, held.form, size, whole)
    return _Work("decode", "vae", on_device + latents, flops, waiting + pictures)


# --- with their weights ----------------------------------------------------------------------------------------------


def _on_host(one: _Work, until: tuple[_Work, ...], weights: dict[str, Weights], held: Hold) -> Stage:
    """On the CPU one component is there at a time, unless the rung keeps all that came."""
    there = weights[one.component]
    kept = _kept_by(until, weights, held) or there.parameters + there.buffers
    activation = one.activation + there.casting
    ram = HOST + kept + max(activation + one.waiting, there.loading)
    loaded = (there.parameters + there.loading) * _visits(one, until, held)
    return Stage(one.name, one.component, 0, ram, one.flops, kept, activation, 0, loaded)


def _on_device(one: _Work, until: tuple[_Work, ...], weights: dict[str, Weights], held: Hold) -> Stage:
    """On a GPU; `until` are the stages up to this one, whose components have stayed where the rung keeps them."""
    there, streams = weights[one.component], one.component != "vae"
    visits = _visits(one, until, held)
    loaded, moved = (there.parameters + there.loading) * visits, (there.parameters + there.buffers) * visits
    activation = one.activation + there.casting
    host = HOST + HOST_OF_CUDA + one.waiting + there.parameters
    at_first = host + there.loading
    kept = _kept_by(until, weights, held)
    if one.component == "vae" and held.form.on_cpu:
        here, host = there.parameters + there.buffers, host + one.activation
        return Stage(one.name, one.component, reserved(kept, 0), host, one.flops, here, one.activation, 0, loaded)
    if held.rung.name == "resident":
        on_device = kept
    elif held.rung.level == "block_level" and streams:
        on_device, pinned, moving = streamed(there, held.resident_bytes)
        host, moved = host + pinned, moved - moving * visits + moving * one.calls
    elif held.rung.level == "leaf_level" and streams:
        on_device = min(there.leaf, streamed(there, 0)[0]) + there.buffers
        host += 2 * there.leaf  # pinned on its way, rounded up to a power of two
        moved = there.buffers * visits + there.parameters * one.calls
    else:
        on_device = there.parameters + there.buffers
    vram, ram = reserved(on_device, activation), max(host, at_first)
    return Stage(one.name, one.component, vram, ram, one.flops, on_device, activation, moved, loaded)


def _visits(one: _Work, until: tuple[_Work, ...], held: Hold) -> int:
    """How often a component is loaded for a stage: not at all where the rung has kept it."""
    if held.rung.name != "resident":
        return one.visits
    return 0 if one.component in {before.component for before in until[:-1]} else 1


def _kept_by(until: tuple[_Work, ...], weights: dict[str, Weights], held: Hold) -> int:
    """Weights on the device by then, where nobody leaves."""
    if held.rung.name != "resident":
        return 0
    names = {work.component for work in until} - ({"vae"} if held.form.on_cpu else set())
    return sum(weights[name].parameters + weights[name].buffers for name in names)


def streamed(there: Weights, room: int) -> tuple[int, int, int]:
    """(on the device, pinned in RAM, copied by each call) while blocks stream: those that stay, all beside blocks, and
    two on their way."""
    stay = 0
    for block in there.blocks:
        if stay + block > room:
            break
        stay += block
    moving = sum(there.blocks) - stay
    in_flight = min(2 * max(there.blocks, default=0), moving)
    share = there.pinned * moving // (sum(there.blocks) or 1)
    return there.outside + there.buffers + stay + in_flight, share, moving


def reserved(weights: int, activation: int) -> int:
    """What NVML will see of them."""
    taken = weights + round(activation * (1 + FRAGMENTATION))
    return CONTEXT + WORKSPACES + -(-taken // SEGMENT) * SEGMENT
