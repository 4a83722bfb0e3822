"""Model folders and files, sound, damaged and foreign, each with what `check` has to say of it.

Every case makes its own copy in a folder of its own. What is foreign has the names and shapes those models have, and
holes where the tensors would be.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.compat.shapes import expected_shapes
from engine.library.weights import read_shard
from tests.giant import sparse
from tests.test_recognise import (
    FLUX,
    LANGUAGE,
    SD_VAE,
    animate,
    checkpoint,
    flat_unet,
    linear,
    lora,
    modules,
    prefixed,
    speech,
    t5,
    vace,
    wan,
    wan_vae,
    write_gguf,
    write_safetensors,
)

DIFFUSION, MODEL = "diffusion_pytorch_model.safetensors", "model.safetensors"
MAP = "diffusion_pytorch_model.safetensors.index.json"
GONE = object()  # a key that is taken out


@dataclass(frozen=True)
class Bench:
    """Where a case is made: `tiny` gives a sound folder of a kind, `folder` is empty."""

    tiny: Callable[[str], Path]
    folder: Path

    def copy(self, kind: str = "t2v", name: str = "model") -> Path:
        return Path(shutil.copytree(self.tiny(kind), self.folder / name))

    def mixed(self, kind: str, part: str, other: str) -> Path:
        """A copy with a component of another model in the place of its own."""
        folder = self.copy(kind)
        shutil.rmtree(folder / part)
        shutil.copytree(self.tiny(other) / part, folder / part)
        return folder


@dataclass(frozen=True)
class Case:
    """`code` is that of the first error, or of the first warning where there is no error; None when there is neither.

    `word` stands in what the finding says, `component` is the one it is about; `mortal` is whether the rights of root
    are laid down for it.
    """

    name: str
    make: Callable[[Bench], Path]
    verdict: str
    code: str | None
    word: str
    component: str | None
    mortal: bool


CASES: list[Case] = []
_Make = Callable[[Bench], Path]


def case(
    name: str, verdict: str, code: str | None = None, word: str = "", component: str | None = None, mortal: bool = False
) -> Callable[[_Make], _Make]:
    def add(make: _Make) -> _Make:
        assert name not in {other.name for other in CASES}
        CASES.append(Case(name, make, verdict, code, word, component, mortal))
        return make

    return add


def runs(name: str) -> Callable[[_Make], _Make]:
    return case(name, "runs")


def rebuilt(name: str, word: str = "", **more: Any) -> Callable[[_Make], _Make]:
    return case(name, "conditions", "index-rebuilt", word, **more)


def refused(
    name: str, code: str, word: str = "", component: str | None = None, **more: Any
) -> Callable[[_Make], _Make]:
    return case(name, "cannot-run", code, word, component, **more)


# ── Tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    table = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in table.items() if value is not GONE}))


def index(folder: Path, **changes: Any) -> Path:
    edit(folder / "model_index.json", **changes)
    return folder


def config(folder: Path, component: str, **changes: Any) -> Path:
    name = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}.get(component, "config.json")
    edit(folder / component / name, **changes)
    return folder


def put(file: Path, data: bytes | str) -> None:
    """Write a file in place of what is there."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    file.write_bytes(data % (b"W" * 50_000_000) if data == _BROKEN["50 MB"] else data)


def weights(folder: Path, component: str = "transformer") -> Path:
    """The one file of weights of a component."""
    return next((folder / component).glob("*.safetensors"))


def opened(file: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a file of weights, and its tensors."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def sealed(header: bytes | str | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A file of weights of these parts."""
    if isinstance(header, dict):
        header = json.dumps(header)
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def stored_as(folder: Path, dtype: str, more: dict[str, tuple[int, ...]] | None = None) -> Path:
    """The transformer as its configuration makes it, with weights of one type, and holes for them."""
    table = json.loads((folder / "transformer" / "config.json").read_text())
    sparse(weights(folder), {**(expected_shapes("WanTransformer3DModel", table) or {}), **(more or {})}, dtype)
    return folder


def change_tensor(file: Path, **changes: Any) -> None:
    """Change what the header says of the first tensor."""
    table, data = opened(file)
    name = next(name for name in table if name != "__metadata__")
    table[name] |= changes
    put(file, sealed(table, data))


def split(folder: Path, component: str = "transformer") -> Path:
    """Put a component's weights into two shards with an index."""
    file = weights(folder, component)
    table, data = opened(file)
    table.pop("__metadata__", None)
    names = sorted(table, key=lambda name: table[name]["data_offsets"])
    stem = file.name.removesuffix(".safetensors")
    weight_map = {}
    for number, some in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        first = table[some[0]]["data_offsets"][0]
        last = table[some[-1]]["data_offsets"][1]
        shard = f"{stem}-{number:05d}-of-00002.safetensors"
        moved = {n: {**table[n], "data_offsets": [at - first for at in table[n]["data_offsets"]]} for n in some}
        put(file.with_name(shard), sealed({"__metadata__": {"format": "pt"}, **moved}, data[first:last]))
        weight_map |= dict.fromkeys(some, shard)
    file.unlink()
    put(file.with_name(file.name + ".index.json"), json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def shard(folder: Path, number: int = 1) -> Path:
    return folder / "transformer" / f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"


def to_bf16(file: Path) -> None:
    """Store F32 tensors in bf16, by cutting off their lower half."""
    table, data = opened(file)
    half = bytearray(len(data) // 2)
    half[0::2], half[1::2] = data[2::4], data[3::4]
    for name, entry in table.items():
        if name != "__metadata__":
            entry["dtype"], entry["data_offsets"] = "BF16", [at // 2 for at in entry["data_offsets"]]
    put(file, sealed(table, bytes(half)))


def with_tensor(file: Path, name: str) -> None:
    """Add a tensor."""
    table, data = opened(file)
    table[name] = {"dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
    put(file, sealed(table, data + b"\0" * 8))


def without_tensor(file: Path) -> None:
    """Take away the last tensor."""
    table, data = opened(file)
    last = max((name for name in table if name != "__metadata__"), key=lambda name: table[name]["data_offsets"])
    begin = table.pop(last)["data_offsets"][0]
    put(file, sealed(table, data[:begin]))


def fifo(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder_at(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def loop(path: Path) -> None:
    """Two links that name each other."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    other = path.with_name(path.name + ".other")
    path.symlink_to(other)
    other.symlink_to(path)


def linked(path: Path, to: str | Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def locked(path: Path) -> None:
    path.chmod(0)


@contextmanager
def mortal() -> Iterator[None]:
    """Without the rights by which root reads what nobody may read."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of the call, this thread
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    had = sets[0]
    sets[0] = had & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(head, sets) == 0
    try:
        yield
    finally:
        sets[0] = had
        assert libc.capset(head, sets) == 0


@dataclass(frozen=True)
class Part:
    """A component of a foreign model: library, class, configuration, tensors."""

    library: str
    kind: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] | None = None


def foreign(bench: Bench, pipeline: str, **parts: Part) -> Path:
    """A folder as that pipeline saves it, over holes."""
    folder = bench.folder / "foreign"
    table: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.32.0"}
    for name, part in parts.items():
        table[name] = [part.library, part.kind]
        place = folder / name
        place.mkdir(parents=True)
        named = {"_class_name": part.kind} if part.library == "diffusers" else {"architectures": [part.kind]}
        file = {"scheduler": "scheduler_config.json"}.get(name, "config.json")
        file = "tokenizer_config.json" if name.startswith("tokenizer") else file
        put(place / file, json.dumps({**named, **part.config}))
        if part.shapes is not None:
            sparse(place / (DIFFUSION if part.library == "diffusers" else MODEL), part.shapes, "F16")
    put(folder / "model_index.json", json.dumps(table))
    return folder


def single(bench: Bench, name: str, table: dict[str, tuple[int, ...]], **dtypes: str) -> Path:
    return write_safetensors(bench.folder / name, table, dtypes)


def original(bench: Bench, transformers: dict[str, dict[str, tuple[int, ...]]], task: str, name: str) -> Path:
    """A repository in the authors' own layout: shards of the transformers, pickles of the rest."""
    folder = bench.folder / name
    for place, table in transformers.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        names = list(table)
        weight_map = {}
        for number, some in enumerate((names[::2], names[1::2]), 1):
            file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
            write_safetensors(folder / place / file, {key: table[key] for key in some})
            weight_map |= dict.fromkeys(some, file)
        put(folder / place / MAP, json.dumps({"metadata": {}, "weight_map": weight_map}))
        put(folder / place / "config.json", json.dumps({"_class_name": "WanModel", "model_type": task, "dim": 5120}))
    put(folder / "configuration.json", "{}")
    for pickle in ("models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"):
        put(folder / pickle, b"PK\x03\x04")
    put(folder / "google" / "umt5-xxl" / "tokenizer.json", "{}")
    return folder


# ── Sound ────────────────────────────────────────────────────────────────────────────────────────────────────────────

for _kind in ("t2v", "t2v-two", "i2v-clip", "i2v-two", "ti2v"):
    runs(f"sound {_kind}")(lambda bench, kind=_kind: bench.copy(kind))
    runs(f"sound {_kind}, in shards")(lambda bench, kind=_kind: split(split(bench.copy(kind)), "vae"))
for _kind in ("flf2v", "vace", "animate"):
    refused(f"sound {_kind}", "not-yet", _kind)(lambda bench, kind=_kind: bench.copy(kind))


@runs("stored in bf16")
def _bf16(bench: Bench) -> Path:
    folder = bench.copy("t2v-two")
    for component in ("transformer", "transformer_2", "text_encoder"):
        to_bf16(weights(folder, component))
    return folder


@runs("a fine-tune: other name, more tensors, comments")
def _fine_tune(bench: Bench) -> Path:
    folder = index(bench.copy(), _name_or_path="somebody/Wan-but-better", _comment="trained on cats")
    config(folder, "transformer", _name_or_path="/home/somebody/out/checkpoint-4000", my_own_key={"a": [1]})
    with_tensor(weights(folder), "ema.decay")
    put(folder / "README.md", "# Wan but better")
    return folder


@runs("as in the hub's cache: every file a link")
def _snapshot(bench: Bench) -> Path:
    folder = bench.copy()
    blobs = bench.folder / "blobs"
    blobs.mkdir()
    for number, file in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    return folder


@runs("component folders that are links")
def _linked_folders(bench: Bench) -> Path:
    folder = bench.copy()
    (folder / "vae").rename(bench.folder / "elsewhere")
    (folder / "vae").symlink_to(bench.folder / "elsewhere")
    return folder


@runs("a chain of links to the folder")
def _chain(bench: Bench) -> Path:
    last = bench.copy()
    for number in range(30):
        link = bench.folder / f"link-{number}"
        link.symlink_to(last)
        last = link
    return last


@runs("another flow scheduler")
def _euler(bench: Bench) -> Path:
    folder = index(bench.copy(), scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    put(
        folder / "scheduler" / "scheduler_config.json",
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, "num_train_timesteps": 1000}),
    )
    return folder


@runs("saved as a video-to-video pipeline")
def _v2v(bench: Bench) -> Path:
    return index(bench.copy(), _class_name="WanVideoToVideoPipeline")


@runs("a name that is no UTF-8")
def _odd_name(bench: Bench) -> Path:
    return bench.copy(name=os.fsdecode(b"m\xff\xfe"))


@runs("a name with line breaks and colours")
def _loud_name(bench: Bench) -> Path:
    return bench.copy(name="m\n\x1b[31mred")


@runs("an fp16 edition beside the weights")
def _edition(bench: Bench) -> Path:
    folder = bench.copy()
    sparse(folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors", {"a": (1,)}, "F16")
    put(
        folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors.index.json",
        json.dumps({"weight_map": {"a": "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"}}),
    )
    return folder


@runs("mixed types")
def _mixed(bench: Bench) -> Path:
    folder = split(bench.copy())
    to_bf16(shard(folder))
    return folder


# ── The index ────────────────────────────────────────────────────────────────────────────────────────────────────────

_BROKEN: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"_class_name": "WanPipeline", "vae": [',
    "a list": b"[1, 2]",
    "null": b"null",
    "invalid UTF-8": b'{"_class_name": "Wan\xff\xfePipeline"}',
    "UTF-16": '{"_class_name": "WanPipeline"}'.encode("utf-16"),
    "a key twice": b'{"_class_name": "WanPipeline", "_class_name": "WanImageToVideoPipeline"}',
    "NaN": b'{"_class_name": "WanPipeline", "boundary_ratio": NaN}',
    "an endless number": b'{"_class_name": "WanPipeline", "boundary_ratio": 1e999}',
    "100,000 deep": b'{"_class_name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "50 MB": b'{"_class_name": "%s"}',  # filled when it is written
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n",
}
for _name, _data in _BROKEN.items():

    @rebuilt(f"index: {_name}", "model_index.json")
    def _broken_index(bench: Bench, data: bytes = _data) -> Path:
        folder = bench.copy()
        put(folder / "model_index.json", data)
        return folder


for _name, _changes in {
    "no class": {"_class_name": GONE},
    "a class that is a number": {"_class_name": 7},
    "boundary_ratio 7": {"boundary_ratio": 7},
    "boundary_ratio in words": {"boundary_ratio": "0.9"},
    "a component that is a text": {"vae": "AutoencoderKLWan"},
    "a component with three parts": {"vae": ["diffusers", "AutoencoderKLWan", "main"]},
    "a component whose class is a path": {"vae": ["diffusers", "../../x"]},
    "a thousand keys": {f"k{number}": number for number in range(1000)},
}.items():
    rebuilt(f"index: {_name}")(lambda bench, changes=_changes: index(bench.copy("t2v-two"), **changes))
for _kind in ("t2v", "t2v-two", "i2v-clip", "i2v-two", "ti2v"):

    @rebuilt(f"index: missing from {_kind}", "is missing")
    def _no_index(bench: Bench, kind: str = _kind) -> Path:
        folder = bench.copy(kind)
        (folder / "model_index.json").unlink()
        return folder


for _name, _spoil in {"a FIFO": fifo, "a folder": folder_at, "a loop of links": loop}.items():

    @rebuilt(f"index: {_name}")
    def _odd_index(bench: Bench, spoil: Callable[[Path], None] = _spoil) -> Path:
        folder = bench.copy()
        spoil(folder / "model_index.json")
        return folder


@rebuilt("index: nobody may read it", "Permission denied", mortal=True)
def _locked_index(bench: Bench) -> Path:
    folder = bench.copy()
    locked(folder / "model_index.json")
    return folder


@refused("index: missing, as is the transformer's configuration", "single-file", "not a pipeline")
def _too_little(bench: Bench) -> Path:
    folder = bench.copy()
    (folder / "model_index.json").unlink()
    (folder / "transformer" / "config.json").unlink()
    return folder


@refused("index: broken, and there is no VAE", "bad-model-file", "model_index.json")
def _broken_and_less(bench: Bench) -> Path:
    folder = bench.copy()
    put(folder / "model_index.json", "{")
    shutil.rmtree(folder / "vae")
    return folder


for _name, _pipeline in {
    "a class nobody has": "WanPipelin",
    "another model's class": "StableDiffusionPipeline",
}.items():
    refused(f"index: {_name}", "not-wan", _pipeline)(
        lambda bench, name=_pipeline: index(bench.copy(), _class_name=name)
    )


@rebuilt("index: a class with control characters", "_class_name")
def _loud_class(bench: Bench) -> Path:
    return index(bench.copy(), _class_name="Wan\x1b[31mPipeline")


@refused("index: no boundary between two experts", "no-boundary", "second would never run")
def _no_boundary(bench: Bench) -> Path:
    return index(bench.copy("t2v-two"), boundary_ratio=GONE)


@refused("index: a boundary, and one expert", "incomplete-model", "transformer_2")
def _boundary(bench: Bench) -> Path:
    return index(bench.copy(), boundary_ratio=0.875)


@case("index: the 5B without expand_timesteps", "conditions", "no-expand-timesteps", "that is taken as true")
def _no_expand(bench: Bench) -> Path:
    return index(bench.copy("ti2v"), expand_timesteps=GONE)


@case("index: the 5B with expand_timesteps = false", "conditions", "no-expand-timesteps", "from text alone")
def _not_expanded(bench: Bench) -> Path:
    return index(bench.copy("ti2v"), expand_timesteps=False)


@runs("index: expand_timesteps on a small model of one's own")
def _own_expand(bench: Bench) -> Path:
    return index(bench.copy(), expand_timesteps=True)


@refused("index: text-to-video weights as image-to-video", "wrong-pipeline", "takes no picture", "transformer")
def _as_i2v(bench: Bench) -> Path:
    return index(bench.copy(), _class_name="WanImageToVideoPipeline")


@refused("index: image-to-video weights as text-to-video", "wrong-pipeline", "takes a picture", "transformer")
def _as_t2v(bench: Bench) -> Path:
    return index(bench.copy("i2v-two"), _class_name="WanPipeline")


@refused("index: VACE as text-to-video", "wrong-pipeline", "WanVACETransformer3DModel", "transformer")
def _vace_as_t2v(bench: Bench) -> Path:
    return index(bench.copy("vace"), _class_name="WanPipeline")


@refused("index: an image encoder in text-to-video", "wrong-components", "image_encoder", "image_encoder")
def _sees(bench: Bench) -> Path:
    folder = bench.copy()
    shutil.copytree(bench.tiny("i2v-clip") / "image_encoder", folder / "image_encoder")
    return index(folder, image_encoder=["transformers", "CLIPVisionModel"])


@refused("index: no tokenizer", "incomplete-model", "tokenizer")
def _null(bench: Bench) -> Path:
    return index(bench.copy(), tokenizer=[None, None])


for _name, _component, _class in (
    ("a transformer nobody knows", "transformer", "WanTransformer4DModel"),
    ("LTX's transformer", "transformer", "LTXVideoTransformer3DModel"),
    ("another text encoder", "text_encoder", "T5EncoderModel"),
    ("a scheduler of noise", "scheduler", "EulerDiscreteScheduler"),
    ("an operating system", "scheduler", "os.system"),
):

    @refused(f"index: {_name}", "class-refused", _class, _component)
    def _refused_class(bench: Bench, name: str = _component, kind: str = _class) -> Path:
        library = "transformers" if name == "text_encoder" else "diffusers"
        return index(bench.copy(), **{name: [library, kind]})


# ── Configurations ───────────────────────────────────────────────────────────────────────────────────────────────────

for _name, _data in _BROKEN.items():
    if _name in ("NaN", "an endless number"):
        continue  # diffusers itself writes such into configurations

    @refused(f"config: {_name}", "bad-model-file", "transformer/config.json", "transformer")
    def _broken_config(bench: Bench, data: bytes = _data) -> Path:
        folder = bench.copy()
        put(folder / "transformer" / "config.json", data)
        return folder


for _name, _spoil in {"a FIFO": fifo, "a folder": folder_at, "a loop of links": loop}.items():

    @refused(f"config: {_name}", "bad-model-file", "vae/config.json", "vae")
    def _odd_config(bench: Bench, spoil: Callable[[Path], None] = _spoil) -> Path:
        folder = bench.copy()
        spoil(folder / "vae" / "config.json")
        return folder


@refused("config: nobody may read it", "bad-model-file", "vae/config.json", "vae", mortal=True)
def _locked_config(bench: Bench) -> Path:
    folder = bench.copy()
    locked(folder / "vae" / "config.json")
    return folder


for _component in ("transformer", "text_encoder", "vae", "scheduler", "tokenizer"):

    @refused(f"config: missing from {_component}", "incomplete-model", f"{_component}/")
    def _no_config(bench: Bench, name: str = _component) -> Path:
        folder = bench.copy()
        for file in (folder / name).glob("*config.json"):
            file.unlink()
        return folder


for _name, _component, _changes, _code, _word in (
    ("a number in words", "transformer", {"in_channels": "16"}, "bad-config", "in_channels"),
    ("a billion layers", "transformer", {"num_layers": 10**9}, "bad-config", "num_layers"),
    ("less than no layers", "transformer", {"num_layers": -1}, "bad-config", "num_layers"),
    ("a number of 4,000 digits", "transformer", {"ffn_dim": 10**4000}, "bad-config", "ffn_dim"),
    ("true for a number", "transformer", {"num_layers": True}, "bad-config", "num_layers"),
    ("a patch of two sides", "transformer", {"patch_size": [2, 2]}, "bad-config", "patch_size"),
    ("a list for a flag", "vae", {"is_residual": []}, "bad-config", "is_residual"),
    ("a factor of no number", "vae", {"scale_factor_spatial": "8"}, "bad-config", "scale_factor_spatial"),
    ("a factor of other layers", "vae", {"scale_factor_spatial": 16}, "config-mismatch", "make it 8"),
    ("a factor in time of other layers", "vae", {"scale_factor_temporal": 8}, "config-mismatch", "make it 4"),
    ("latents of another VAE", "vae", {"latents_mean": [0.0] * 48}, "config-mismatch", "latents_mean"),
    ("more layers than weights", "transformer", {"num_layers": 3}, "config-mismatch", "blocks.2."),
    ("other heads than weights", "transformer", {"num_attention_heads": 4}, "config-mismatch", "shape"),
    ("keys left out", "transformer", {"num_layers": GONE}, "config-mismatch", "missing"),
    ("another width of the text encoder", "text_encoder", {"d_model": 64}, "config-mismatch", "shape"),
):

    @refused(f"config: {_name}", _code, _word, _component)
    def _changed_config(bench: Bench, name: str = _component, changes: dict[str, Any] = _changes) -> Path:
        return config(bench.copy(), name, **changes)


for _name, _changes, _word in (
    ("predicts noise", {"prediction_type": "epsilon"}, "epsilon"),
    ("no flow sigmas", {"use_flow_sigmas": False}, "use_flow_sigmas"),
    ("says nothing", {"prediction_type": GONE, "use_flow_sigmas": GONE}, "epsilon"),
):

    @refused(f"scheduler: {_name}", "scheduler-not-flow", _word, "scheduler")
    def _scheduler(bench: Bench, changes: dict[str, Any] = _changes) -> Path:
        return config(bench.copy(), "scheduler", **changes)


@refused("tokenizer: without its vocabulary", "incomplete-model", "tokenizer/tokenizer.json")
def _no_vocabulary(bench: Bench) -> Path:
    folder = bench.copy()
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return folder


# ── Components against each other ────────────────────────────────────────────────────────────────────────────────────


@refused("VAE of Wan 2.2 in Wan 2.1", "vae-mismatch", "Wan 2.2", "vae")
def _new_vae(bench: Bench) -> Path:
    return bench.mixed("t2v", "vae", "ti2v")


@refused("VAE of Wan 2.1 in the 5B", "vae-mismatch", "Wan 2.1", "vae")
def _old_vae(bench: Bench) -> Path:
    return bench.mixed("ti2v", "vae", "t2v")


@refused("VAE for images, with its index", "not-a-video-vae", "AutoencoderKL", "vae")
def _image_vae(bench: Bench) -> Path:
    folder = index(bench.copy(), vae=["diffusers", "AutoencoderKL"])
    put(folder / "vae" / "config.json", json.dumps({"_class_name": "AutoencoderKL", "latent_channels": 4}))
    sparse(folder / "vae" / DIFFUSION, SD_VAE)
    return folder


@refused("VAE for images, in the place of the video VAE", "not-a-video-vae", "AutoencoderKL", "vae")
def _image_vae_in_place(bench: Bench) -> Path:
    return index(_image_vae(bench), vae=["diffusers", "AutoencoderKLWan"])


@refused("VAE for images, its weights alone", "config-mismatch", "Stable Diffusion VAE", "vae")
def _image_vae_weights(bench: Bench) -> Path:
    folder = bench.copy()
    sparse(folder / "vae" / DIFFUSION, SD_VAE)
    return folder


@refused("text encoder of another width", "text-encoder-mismatch", "d_model", "text_encoder")
def _wide_text(bench: Bench) -> Path:
    folder = config(bench.copy(), "text_encoder", d_model=64)
    table = json.loads((folder / "text_encoder" / "config.json").read_text())
    sparse(folder / "text_encoder" / MODEL, expected_shapes("UMT5EncoderModel", table) or {})
    return folder


@refused("image encoder of another width", "image-encoder-mismatch", "hidden_size", "image_encoder")
def _wide_image(bench: Bench) -> Path:
    folder = config(bench.copy("i2v-clip"), "image_encoder", hidden_size=64)
    table = json.loads((folder / "image_encoder" / "config.json").read_text())
    sparse(folder / "image_encoder" / MODEL, expected_shapes("CLIPVisionModel", table) or {})
    return folder


@case("experts of two sizes", "conditions", "experts-differ", "transformer_2", "transformer_2")
def _uneven(bench: Bench) -> Path:
    folder = config(bench.copy("t2v-two"), "transformer_2", num_layers=1)
    table = json.loads((folder / "transformer_2" / "config.json").read_text())
    sparse(folder / "transformer_2" / DIFFUSION, expected_shapes("WanTransformer3DModel", table) or {})
    return folder


@refused("experts of two tasks", "wrong-pipeline", "takes a picture", "transformer_2")
def _two_tasks(bench: Bench) -> Path:
    return bench.mixed("t2v-two", "transformer_2", "i2v-two")


@refused("sees a picture, and has no image encoder", "incomplete-model", "image_encoder")
def _blind(bench: Bench) -> Path:
    folder = bench.copy("i2v-clip")
    shutil.rmtree(folder / "image_encoder")
    return index(folder, image_encoder=GONE)


# ── Weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_TINY = '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
_BAD_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"1234567", "impossible length"),
    "header length 2^60": (sealed(_TINY, b"1234", 1 << 60), "impossible length"),
    "header length 2^64 - 1": (sealed(_TINY, b"1234", (1 << 64) - 1), "impossible length"),
    "header length 0": (sealed("", b"1234"), "impossible length"),
    "header cut off": (sealed(_TINY, b"", 4000), "cut short"),
    "header of 5 MiB": (sealed(_TINY[:-1] + " " * (5 << 20) + "}", b"1234"), "impossible length"),
    "header that is no JSON": (sealed("hello world", b"1234"), "no readable header"),
    "header that is a list": (sealed("[1, 2]", b"1234"), "no table"),
    "header with a name twice": (sealed(_TINY[:-1] + "," + _TINY[1:], b"1234"), "no readable header"),
    "header 100,000 deep": (sealed("[" * 100_000 + "]" * 100_000), "no readable header"),
    "header with NaN": (sealed('{"a": NaN}'), "no readable header"),
    "header of invalid UTF-8": (sealed(b'{"\xff\xfe": 1}'), "no readable header"),
    "header with half a character": (sealed(_TINY.replace('"a"', '"\\ud800"'), b"1234"), "no readable header"),
    "metadata of numbers": (sealed('{"__metadata__": {"a": 1}}'), "metadata"),
    "a tensor of nothing": (sealed('{"a": null}'), "what cannot be"),
    "a tensor of an unknown type": (sealed(_TINY.replace("F32", "F31"), b"1234"), "what cannot be"),
    "a tensor of -1": (sealed(_TINY.replace("[1]", "[-1]"), b"1234"), "what cannot be"),
    "a tensor of 2^80": (sealed(_TINY.replace("[1]", f"[{2**80}]"), b"1234"), "what cannot be"),
    "a tensor of true": (sealed(_TINY.replace("[1]", "[true]"), b"1234"), "what cannot be"),
    "a tensor of a million sides": (sealed(_TINY.replace("[1]", f"[{'1,' * 10**6}1]"), b"1234"), "what cannot be"),
    "a byte too little": (sealed(_TINY, b"123"), "its header tells of"),
    "a byte too much": (sealed(_TINY, b"12345"), "its header tells of"),
    "a gap": (sealed(_TINY.replace("[0, 4]", "[4, 8]"), b"12345678"), "gap or an overlap"),
    "a pointer of Git LFS": (_BROKEN["a pointer of Git LFS"], "Git LFS"),
    "a web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
    "a pickle of torch": (b"PK\x03\x04" + b"\0" * 200, "pickle"),
}
for _name, (_data, _word) in _BAD_WEIGHTS.items():

    @refused(f"weights: {_name}", "bad-weights", _word, "transformer")
    def _bad_weights(bench: Bench, data: bytes = _data) -> Path:
        folder = bench.copy()
        put(weights(folder), data)
        return folder


for _name, _spoil, _word in (
    ("a FIFO", fifo, "regular file"),
    ("a folder", folder_at, "cannot be read"),
    ("a loop of links", loop, "symbolic links"),
    ("a device", lambda path: linked(path, "/dev/zero"), "regular file"),
    ("a file that cannot be read", lambda path: linked(path, "/proc/self/mem"), "error"),
):

    @refused(f"weights: {_name}", "bad-weights", _word, "vae")
    def _odd_weights(bench: Bench, spoil: Callable[[Path], None] = _spoil) -> Path:
        folder = bench.copy()
        spoil(folder / "vae" / DIFFUSION)
        return folder


@refused("weights: nobody may read them", "bad-weights", "Permission denied", "vae", mortal=True)
def _locked_weights(bench: Bench) -> Path:
    folder = bench.copy()
    locked(folder / "vae" / DIFFUSION)
    return folder


@refused("weights: their folder may not be entered", "bad-model-file", "cannot be entered", "vae", mortal=True)
def _locked_folder(bench: Bench) -> Path:
    folder = bench.copy()
    locked(folder / "vae")
    return folder


@refused("weights: a link to nowhere", "bad-weights", "No such file", "vae")
def _dangling(bench: Bench) -> Path:
    folder = bench.copy()
    linked(folder / "vae" / DIFFUSION, bench.folder / "blobs" / "gone")
    return folder


@refused("weights: none", "incomplete-model", "transformer/")
def _no_weights(bench: Bench) -> Path:
    folder = bench.copy()
    weights(folder).unlink()
    return folder


@refused("weights: only an fp16 edition", "incomplete-model", "fp16")
def _only_edition(bench: Bench) -> Path:
    folder = bench.copy()
    file = weights(folder)
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    return folder


@refused("weights: a file in the place of the folder", "incomplete-model", "vae/")
def _file_for_folder(bench: Bench) -> Path:
    folder = bench.copy()
    put(folder / "vae", "hello")
    return folder


@refused("weights: no folder", "incomplete-model", "vae/")
def _no_folder(bench: Bench) -> Path:
    folder = bench.copy()
    shutil.rmtree(folder / "vae")
    return folder


@refused("weights: the last bytes are missing", "bad-weights", "its header tells of", "transformer")
def _cut(bench: Bench) -> Path:
    folder = bench.copy()
    file = weights(folder)
    os.truncate(file, file.stat().st_size - 4096)
    return folder


@refused("weights: an overlap", "bad-weights", "what cannot be", "transformer")
def _overlap(bench: Bench) -> Path:
    folder = bench.copy()
    change_tensor(weights(folder), data_offsets=[0, 1 << 40])
    return folder


@refused("weights: a tensor is missing", "config-mismatch", "1 tensors are missing", "transformer")
def _one_less(bench: Bench) -> Path:
    folder = bench.copy()
    without_tensor(weights(folder))
    return folder


@refused("weights: those of a Flux", "config-mismatch", "Flux", "transformer")
def _flux_inside(bench: Bench) -> Path:
    folder = bench.copy()
    sparse(weights(folder), FLUX)
    return folder


@refused("weights: in the authors' own names", "config-mismatch", "original", "transformer")
def _own_names(bench: Bench) -> Path:
    folder = bench.copy()
    sparse(weights(folder), wan("1.3B"))
    return folder


@refused("weights: a LoRA in their place", "config-mismatch", "LoRA", "transformer")
def _lora_inside(bench: Bench) -> Path:
    folder = bench.copy()
    sparse(weights(folder), lora(modules("1.3B"), 8))
    return folder


@runs("weights: in fp8, without scales")
def _fp8(bench: Bench) -> Path:
    return stored_as(bench.copy(), "F8_E4M3")


@refused("weights: in fp8, with scales", "scaled-weights", "F8_E4M3", "transformer")
def _scaled_fp8(bench: Bench) -> Path:
    return stored_as(bench.copy(), "F8_E4M3", {"blocks.0.attn1.to_q.scale_weight": ()})


@refused("weights: of whole numbers", "scaled-weights", "I8", "transformer")
def _whole_numbers(bench: Bench) -> Path:
    return stored_as(bench.copy(), "I8")


# ── What sound folders of other versions and of fine-tunes hold besides ──────────────────────────────────────────────


@runs("sound: a saved DPM++ scheduler, with its -Infinity")
def _dpm(bench: Bench) -> Path:
    folder = index(bench.copy(), scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    settings = {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}
    settings |= {"use_flow_sigmas": True, "flow_shift": 3.0, "lambda_min_clipped": float("-inf")}
    put(folder / "scheduler" / "scheduler_config.json", json.dumps(settings))
    return folder


@runs("sound: entries of an index that no pipeline takes")
def _untaken(bench: Bench) -> Path:
    folder = index(bench.copy(), teacher=["fastvideo", "Teacher"], sizes=[480, 832], aux=["diffusers", "UNet2DModel"])
    put(folder / "aux" / "model.bin", b"PK")
    return folder


@runs("sound: another file of weights beside")
def _stray(bench: Bench) -> Path:
    folder = bench.copy()
    put(folder / "transformer" / MODEL, sealed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"))
    return folder


@runs("sound: the index of a text encoder in shards beside the one file transformers takes")
def _stale_index(bench: Bench) -> Path:
    folder = bench.copy()
    put(folder / "text_encoder" / f"{MODEL}.index.json", '{"weight_map": {"shared.weight": "model-1.safetensors"}}')
    return folder


@runs("sound: an index of shards that names a buffer no file holds")
def _buffer(bench: Bench) -> Path:
    folder = split(bench.copy())
    table = json.loads((folder / "transformer" / MAP).read_text())
    table["weight_map"]["rope.freqs"] = next(iter(table["weight_map"].values()))
    put(folder / "transformer" / MAP, json.dumps(table))
    return folder


@runs("sound: an expert with a tensor its class does not use")
def _gated(bench: Bench) -> Path:
    folder = bench.copy("t2v-two")
    shapes = {name: tensor.shape for name, tensor in ((t.name, t) for t in read_shard(weights(folder)).tensors)}
    sparse(weights(folder), {**shapes, "blocks.0.to_gate_compress.weight": (4,)})
    return folder


@runs("sound: a CLIP named with the projection it lacks")
def _unprojected(bench: Bench) -> Path:
    return index(bench.copy("i2v-clip"), image_encoder=["transformers", "CLIPVisionModelWithProjection"])


@refused("weights: under the name of another library", "incomplete-model", "vae/diffusion_pytorch_model.safetensors")
def _other_name(bench: Bench) -> Path:
    folder = bench.copy()
    (folder / "vae" / DIFFUSION).rename(folder / "vae" / MODEL)
    return folder


@refused("VAE 2.2 without its factor", "config-mismatch", "scale_factor_spatial is 8", "vae")
def _no_factor(bench: Bench) -> Path:
    return config(bench.copy("ti2v"), "vae", scale_factor_spatial=GONE)


@refused("image-to-video that gives as many channels as it takes", "vae-mismatch", "36 output", "vae")
def _wide_out(bench: Bench) -> Path:
    folder = config(bench.copy("i2v-two"), "transformer", out_channels=36)
    return stored_as(folder, "F32")


@refused("weights: those of the other task", "config-mismatch", "patch_embedding", "transformer")
def _other_weights(bench: Bench) -> Path:
    folder = bench.copy()
    put(weights(folder), weights(bench.tiny("i2v-two")).read_bytes())
    return folder


# ── Shards ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("shards: one is missing", "incomplete-model", "00002-of-00002")
def _lost_shard(bench: Bench) -> Path:
    folder = split(bench.copy())
    shard(folder, 2).unlink()
    return folder


@refused("shards: all are missing", "incomplete-model", "00001-of-00002")
def _lost_shards(bench: Bench) -> Path:
    folder = split(bench.copy())
    shard(folder, 1).unlink()
    shard(folder, 2).unlink()
    return folder


@refused("shards: one of another model", "index-mismatch", "none of the shards", "transformer")
def _strange_shard(bench: Bench) -> Path:
    folder = split(bench.copy())
    put(shard(folder, 2), weights(bench.tiny("t2v"), "vae").read_bytes())
    return folder


@refused("shards: one of a model of another size", "config-mismatch", "shape", "transformer")
def _shard_of_another_size(bench: Bench) -> Path:
    folder, other = split(bench.copy()), split(bench.copy("ti2v", "other"))
    put(shard(folder, 1), shard(other, 1).read_bytes())
    put(shard(folder, 2), shard(other, 2).read_bytes())
    return folder


@refused("shards: the same one twice", "index-mismatch", "none of the shards", "transformer")
def _same_shard(bench: Bench) -> Path:
    folder = split(bench.copy())
    put(shard(folder, 2), shard(folder, 1).read_bytes())
    return folder


@refused("shards: one cut off", "bad-weights", "00001-of-00002", "transformer")
def _cut_shard(bench: Bench) -> Path:
    folder = split(bench.copy())
    os.truncate(shard(folder), 1000)
    return folder


@refused("shards: one is a FIFO", "bad-weights", "regular file", "transformer")
def _fifo_shard(bench: Bench) -> Path:
    folder = split(bench.copy())
    fifo(shard(folder))
    return folder


for _name, _data in _BROKEN.items():

    @refused(f"shards: their index {_name}", "bad-model-file", MAP, "transformer")
    def _broken_map(bench: Bench, data: bytes = _data) -> Path:
        folder = split(bench.copy())
        put(folder / "transformer" / MAP, data)
        return folder


for _name, _map, _word in (
    ("names no shards", {}, "names no shards"),
    ("is a list", ["a"], "names no shards"),
    ("leads out of the folder", {"a": "../vae/diffusion_pytorch_model.safetensors"}, "no safetensors file beside it"),
    ("names an absolute path", {"a": "/etc/passwd"}, "no safetensors file beside it"),
    ("names itself", {"a": MAP}, "no safetensors file beside it"),
    ("names nothing", {"a": None}, "no safetensors file beside it"),
    ("names a file of 5,000 letters", {"a": "x" * 5000 + ".safetensors"}, "no safetensors file beside it"),
    ("names 20,000 shards", {f"t{n}": f"{n}.safetensors" for n in range(20_000)}, "more than"),
):

    @refused(f"shards: their index {_name}", "bad-model-file", _word, "transformer")
    def _odd_map(bench: Bench, table: Any = _map) -> Path:
        folder = split(bench.copy())
        put(folder / "transformer" / MAP, json.dumps({"weight_map": table}))
        return folder


@refused("shards: their index names absent files", "incomplete-model", "absent-1.safetensors")
def _absent_map(bench: Bench) -> Path:
    folder = bench.copy()
    names = [name for name in opened(weights(folder))[0] if name != "__metadata__"]
    weights(folder).unlink()
    table = {name: f"absent-{number % 3}.safetensors" for number, name in enumerate(names)}
    put(folder / "transformer" / MAP, json.dumps({"weight_map": table}))
    return folder


for _name, _spoil in {"a FIFO": fifo, "a folder": folder_at, "a loop of links": loop}.items():

    @refused(f"shards: their index is {_name}", "bad-model-file", MAP, "transformer")
    def _special_map(bench: Bench, spoil: Callable[[Path], None] = _spoil) -> Path:
        folder = split(bench.copy())
        spoil(folder / "transformer" / MAP)
        return folder


# ── Other models ─────────────────────────────────────────────────────────────────────────────────────────────────────

_CLIP_TEXT = {
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    **{f"text_model.encoder.layers.{n}.mlp.fc1.weight": (3072, 768) for n in range(12)},
}
_UNET = {
    "conv_in.weight": (320, 4, 3, 3),
    **linear("time_embedding.linear_1", 1280, 320),
    **{f"down_blocks.{n}.resnets.0.conv1.weight": (320, 320, 3, 3) for n in range(4)},
    **{f"down_blocks.{n}.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320 << n, 768) for n in range(3)},
}
_SCHEDULER = Part("diffusers", "EulerDiscreteScheduler", {})
_TOKENIZER = Part("transformers", "CLIPTokenizer", {})
_CLIP = Part("transformers", "CLIPTextModel", {"hidden_size": 768}, _CLIP_TEXT)
_T5 = Part("transformers", "T5EncoderModel", {"d_model": 4096}, t5(vocabulary=32128, shared=True))
_KL = Part("diffusers", "AutoencoderKL", {"latent_channels": 4}, SD_VAE)


def _transformer(kind: str, shapes: dict[str, tuple[int, ...]], **more: Any) -> Part:
    return Part("diffusers", kind, more, shapes)


_LTX = {
    "proj_in.weight": (2048, 128),
    "caption_projection.linear_1.weight": (2048, 4096),
    **{f"transformer_blocks.{n}.scale_shift_table": (6, 2048) for n in range(28)},
}
_HUNYUAN = {f"context_embedder.token_refiner.refiner_blocks.{n}.attn.to_q.weight": (3072, 3072) for n in range(2)}
_COG = {
    "patch_embed.text_proj.weight": (3072, 4096),
    **{f"transformer_blocks.{n}.norm1.linear.weight": (18432, 512) for n in range(42)},
}
_SD3 = {
    "pos_embed.proj.weight": (1536, 16, 2, 2),
    **{f"transformer_blocks.{n}.norm1_context.linear.weight": (9216, 1536) for n in range(24)},
}
_FLUX_D = {
    "context_embedder.weight": (3072, 4096),
    "x_embedder.weight": (3072, 64),
    **{f"single_transformer_blocks.{n}.attn.norm_q.weight": (128,) for n in range(38)},
}
_FOREIGN: dict[str, tuple[str, dict[str, Part]]] = {
    "Stable Diffusion 1.5": (
        "StableDiffusionPipeline",
        {"unet": _transformer("UNet2DConditionModel", _UNET), "vae": _KL, "text_encoder": _CLIP},
    ),
    "Stable Diffusion XL": (
        "StableDiffusionXLPipeline",
        {
            "unet": _transformer("UNet2DConditionModel", _UNET),
            "vae": _KL,
            "text_encoder": _CLIP,
            "text_encoder_2": _CLIP,
        },
    ),
    "Stable Diffusion 3": (
        "StableDiffusion3Pipeline",
        {"transformer": _transformer("SD3Transformer2DModel", _SD3), "vae": _KL, "text_encoder_3": _T5},
    ),
    "Flux": (
        "FluxPipeline",
        {"transformer": _transformer("FluxTransformer2DModel", _FLUX_D), "vae": _KL, "text_encoder_2": _T5},
    ),
    "LTX-Video": (
        "LTXPipeline",
        {"transformer": _transformer("LTXVideoTransformer3DModel", _LTX), "text_encoder": _T5},
    ),
    "HunyuanVideo": (
        "HunyuanVideoPipeline",
        {"transformer": _transformer("HunyuanVideoTransformer3DModel", _HUNYUAN), "text_encoder": _CLIP},
    ),
    "CogVideoX": (
        "CogVideoXPipeline",
        {"transformer": _transformer("CogVideoXTransformer3DModel", _COG), "text_encoder": _T5},
    ),
    "an audio model": (
        "StableAudioPipeline",
        {
            "transformer": _transformer("StableAudioDiTModel", {"preprocess_conv.weight": (64, 64, 1)}),
            "vae": Part("diffusers", "AutoencoderOobleck", {}, {"decoder.conv1.weight_v": (2048, 64, 7)}),
        },
    ),
    "Qwen-Image, with a VAE like Wan's": (
        "QwenImagePipeline",
        {
            "transformer": _transformer(
                "QwenImageTransformer2DModel",
                {f"transformer_blocks.{n}.{s}_mod.1.weight": (18432, 3072) for n in range(60) for s in ("img", "txt")},
            ),
            "vae": Part("diffusers", "AutoencoderKLQwenImage", {}, wan_vae(16, 96, False)),
        },
    ),
    "SkyReels V2, with Wan's VAE": (
        "SkyReelsV2Pipeline",
        {
            "transformer": _transformer("SkyReelsV2Transformer3DModel", wan("1.3B")),
            "vae": Part("diffusers", "AutoencoderKLWan", {}, wan_vae(16, 96, False)),
        },
    ),
}
for _name, (_pipeline, _parts) in _FOREIGN.items():

    @refused(f"foreign: {_name}", "not-wan", _pipeline)
    def _foreign(bench: Bench, pipeline: str = _pipeline, parts: dict[str, Part] = _parts) -> Path:
        return foreign(bench, pipeline, **parts, tokenizer=_TOKENIZER, scheduler=_SCHEDULER)


for _name, _word in (
    ("Stable Diffusion 1.5", "Stable Diffusion"),
    ("Flux", "Flux"),
    ("LTX-Video", "LTX-Video"),
    ("HunyuanVideo", "HunyuanVideo"),
    ("CogVideoX", "CogVideoX"),
):

    @refused(f"foreign: {_name} without its index", "not-wan", _word)
    def _foreign_bare(bench: Bench, name: str = _name) -> Path:
        pipeline, parts = _FOREIGN[name]
        folder = foreign(bench, pipeline, **parts, tokenizer=_TOKENIZER, scheduler=_SCHEDULER)
        (folder / "model_index.json").unlink()
        return folder


@refused("foreign: LTX-Video that calls itself Wan", "class-refused", "LTXVideoTransformer3DModel", "transformer")
def _ltx_as_wan(bench: Bench) -> Path:
    pipeline, parts = _FOREIGN["LTX-Video"]
    return index(
        foreign(bench, pipeline, **parts, tokenizer=_TOKENIZER, scheduler=_SCHEDULER), _class_name="WanPipeline"
    )


@refused("foreign: a language model", "not-wan", "language model")
def _language(bench: Bench) -> Path:
    folder = bench.folder / "qwen"
    put(folder / "config.json", json.dumps({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584}))
    names = list(LANGUAGE)
    for number, some in enumerate((names[::2], names[1::2]), 1):
        write_safetensors(folder / f"model-{number:05d}-of-00002.safetensors", {name: LANGUAGE[name] for name in some})
    return folder


@refused("foreign: a speech recogniser", "not-wan", "")
def _whisper(bench: Bench) -> Path:
    folder = bench.folder / "whisper"
    put(folder / "config.json", json.dumps({"architectures": ["WhisperForConditionalGeneration"]}))
    shapes = {f"model.encoder.layers.{n}.self_attn.q_proj.weight": (1280, 1280) for n in range(32)}
    write_safetensors(folder / MODEL, {"model.encoder.conv1.weight": (1280, 128, 3), **shapes})
    return folder


# ── Single files ─────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("file: a transformer as ComfyUI has it", "single-file", "text-to-video 14B transformer, high-noise")
def _comfyui(bench: Bench) -> Path:
    return single(bench, "wan2.2_t2v_high_noise_14B_fp16.safetensors", prefixed(wan(), "model.diffusion_model."))


@refused("file: a transformer in fp8", "single-file", "image-to-video 14B transformer, low-noise")
def _fp8_file(bench: Bench) -> Path:
    table = {**wan(channels=36), "scaled_fp8": (2,)}
    dtypes = {name: "F8_E4M3" for name in table if ".ffn." in name or name == "scaled_fp8"}
    return single(bench, "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", table, **dtypes)


@refused("file: a transformer in GGUF", "gguf-file", "text-and-image-to-video 5B")
def _gguf(bench: Bench) -> Path:
    return write_gguf(bench.folder / "Wan2.2-TI2V-5B-Q8_0.gguf", wan("5B", 48, 48))


@refused("file: VACE", "single-file", "VACE 14B")
def _vace_file(bench: Bench) -> Path:
    return single(bench, "wan_vace.safetensors", vace("14B"))


@refused("file: Animate", "single-file", "Animate 14B")
def _animate_file(bench: Bench) -> Path:
    return single(bench, "animate.safetensors", animate())


@refused("file: speech-to-video", "single-file", "speech-to-video 14B")
def _speech_file(bench: Bench) -> Path:
    return single(bench, "wan2.2_s2v_14B_bf16.safetensors", speech())


@refused("file: a VAE", "single-file", "Wan 2.2 VAE")
def _vae_file(bench: Bench) -> Path:
    return single(bench, "wan2.2_vae.safetensors", wan_vae(48, 160, True))


@refused("file: a text encoder", "single-file", "UMT5-XXL")
def _text_file(bench: Bench) -> Path:
    return single(bench, "umt5_xxl_fp16.safetensors", t5())


@refused("file: a LoRA", "is-a-lora", "LoRA of rank 64 for Wan 14B")
def _lora_file(bench: Bench) -> Path:
    return single(bench, "lora.safetensors", lora(modules("14B", "diffusion_model."), 64))


@refused("file: a LoRA in a folder", "is-a-lora", "LoRA of rank 8")
def _lora_folder(bench: Bench) -> Path:
    folder = bench.folder / "lora"
    folder.mkdir()
    write_safetensors(folder / "pytorch_lora_weights.safetensors", lora(modules("1.3B"), 8))
    put(folder / "README.md", "# A LoRA")
    return folder


@refused("file: a LoRA for another model", "not-wan", "for Flux")
def _flux_lora(bench: Bench) -> Path:
    found = {f"transformer.double_blocks.{n}.img_attn.proj": (3072, 3072) for n in range(19)}
    return single(bench, "flux-lora.safetensors", lora(found, 16))


@refused("file: Flux", "not-wan", "Flux transformer")
def _flux_file(bench: Bench) -> Path:
    return single(bench, "flux1-dev.safetensors", FLUX)


@refused("file: a checkpoint of Stable Diffusion", "not-wan", "Stable Diffusion 1")
def _sd_file(bench: Bench) -> Path:
    return single(bench, "v1-5.safetensors", checkpoint(768, "cond_stage_model", flat_unet(768)))


@refused("file: a VAE for images", "not-wan", "Stable Diffusion VAE")
def _sd_vae_file(bench: Bench) -> Path:
    return single(bench, "vae.safetensors", SD_VAE)


@refused("file: weights of nothing known", "not-wan", "unknown")
def _unknown_file(bench: Bench) -> Path:
    return single(bench, "x.safetensors", {"a.b": (3, 3), "\x1b[31m": (1,)})


@refused("file: a pickle", "pickled-weights", "any code")
def _pickle_file(bench: Bench) -> Path:
    put(bench.folder / "model.ckpt", b"PK\x03\x04")
    return bench.folder / "model.ckpt"


@refused("file: a damaged GGUF", "bad-weights", "ends within its header")
def _cut_gguf(bench: Bench) -> Path:
    file = write_gguf(bench.folder / "x.gguf", wan("1.3B"))
    os.truncate(file, 5000)
    return file


@refused("file: a GGUF that is none", "bad-weights", "no GGUF")
def _no_gguf(bench: Bench) -> Path:
    put(bench.folder / "x.gguf", "hello, world")
    return bench.folder / "x.gguf"


@refused("file: a damaged safetensors", "bad-weights", "impossible length")
def _cut_file(bench: Bench) -> Path:
    put(bench.folder / "x.safetensors", sealed(_TINY, b"", 1 << 60))
    return bench.folder / "x.safetensors"


@refused("file: the index itself", "not-a-pipeline", "Name the folder")
def _index_file(bench: Bench) -> Path:
    return bench.copy() / "model_index.json"


@refused("file: a text", "not-a-pipeline", "no weights")
def _text(bench: Bench) -> Path:
    put(bench.folder / "notes.txt", "hello")
    return bench.folder / "notes.txt"


for _name, _spoil in {"a FIFO": fifo, "a loop of links": loop, "a folder": folder_at}.items():

    @refused(f"file: {_name}", "not-a-pipeline" if _name == "a folder" else "bad-weights")
    def _special_file(bench: Bench, spoil: Callable[[Path], None] = _spoil) -> Path:
        spoil(bench.folder / "x.safetensors")
        return bench.folder / "x.safetensors"


@refused("file: a device", "not-a-pipeline", "neither a folder nor a regular file")
def _device(bench: Bench) -> Path:
    linked(bench.folder / "x.safetensors", "/dev/zero")
    return bench.folder / "x.safetensors"


@refused("file: a loop of links for a folder", "not-a-pipeline", "link")
def _loop(bench: Bench) -> Path:
    loop(bench.folder / "model")
    return bench.folder / "model"


# ── Folders ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@refused("folder: empty", "not-a-pipeline", "holds no model")
def _empty(bench: Bench) -> Path:
    (bench.folder / "empty").mkdir()
    return bench.folder / "empty"


@refused("folder: nobody may enter it", "not-a-pipeline", "Permission denied", mortal=True)
def _no_entry(bench: Bench) -> Path:
    folder = bench.copy()
    locked(folder)
    return folder


@refused("folder: a component", "one-component", "Name the folder above")
def _component(bench: Bench) -> Path:
    return bench.copy() / "transformer"


@refused("folder: the one above the model", "not-a-pipeline", "model")
def _above(bench: Bench) -> Path:
    bench.copy()
    return bench.folder


@refused("folder: pickles alone", "pickled-weights", "any code")
def _pickles(bench: Bench) -> Path:
    put(bench.folder / "old" / "pytorch_model.bin", b"PK\x03\x04")
    return bench.folder / "old"


@refused("folder: Wan 2.2 in the authors' layout", "original-layout", "wan-tui models download t2v-A14B@2.2.0")
def _original_two(bench: Bench) -> Path:
    both = {"high_noise_model": wan(), "low_noise_model": wan()}
    return original(bench, both, "t2v", "Wan2.2-T2V-A14B")


@refused("folder: Wan 2.1 in the authors' layout", "original-layout", "wan-tui models download t2v-1.3B@2.1.0")
def _original_one(bench: Bench) -> Path:
    return original(bench, {"": wan("1.3B")}, "t2v", "Wan2.1-T2V-1.3B")


@refused("folder: speech-to-video in the authors' layout", "original-layout", "speech-to-video")
def _original_speech(bench: Bench) -> Path:
    return original(bench, {"": speech()}, "s2v", "Wan2.2-S2V-14B")


@refused("folder: the files of ComfyUI", "single-file", "VAE")
def _comfyui_folder(bench: Bench) -> Path:
    folder = bench.folder / "ComfyUI" / "models"
    for place in ("diffusion_models", "vae", "text_encoders"):
        (folder / place).mkdir(parents=True)
    write_safetensors(folder / "diffusion_models" / "wan2.1_t2v_1.3B_fp16.safetensors", wan("1.3B"))
    write_safetensors(folder / "vae" / "wan_2.1_vae.safetensors", wan_vae(16, 96, False))
    write_safetensors(folder / "text_encoders" / "umt5_xxl_fp16.safetensors", t5())
    return folder


@refused("folder: GGUF files of two experts", "gguf-file", "low-noise expert")
def _gguf_folder(bench: Bench) -> Path:
    folder = bench.folder / "gguf"
    for place in ("HighNoise", "LowNoise"):
        (folder / place).mkdir(parents=True)
        write_gguf(folder / place / f"Wan2.2-I2V-A14B-{place}-Q8_0.gguf", wan(channels=36))
    return folder


@refused("folder: a modular pipeline", "not-yet", "animate")
def _modular(bench: Bench) -> Path:
    folder = bench.folder / "animate-2"
    put(
        folder / "modular_model_index.json",
        json.dumps({"_class_name": "WanAnimate2ModularPipeline", "_blocks_class_name": "WanAnimate2Blocks"}),
    )
    put(folder / "transformer" / "config.json", json.dumps({"_class_name": "WanAnimate2Transformer3DModel"}))
    table = expected_shapes("WanAnimate2Transformer3DModel", {}) or {}
    write_safetensors(folder / "transformer" / DIFFUSION, table)
    return folder
