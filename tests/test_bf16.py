"""A bf16 folder loads to the very bits its source loads to, and survives what can happen while it is made."""

from __future__ import annotations

import errno
import gc
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import Cancelled, ModelError
from engine.events import Bus
from engine.library import bf16
from engine.library.bf16 import bf16_bytes, kept_in_fp32, make_bf16
from engine.pipelines.components import Components, Placement
from engine.voice import Voice
from tests import tiny

pytestmark = pytest.mark.sampled(2)

ROOT = Path(__file__).parent.parent
KINDS = ("t2v", "t2v-two", "i2v-clip", "i2v-two", "ti2v")
KEPT = ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
WITH_WEIGHTS = ("transformer", "transformer_2", "text_encoder", "image_encoder", "vae")
ODD = [float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4e38, 1.00390625, 1.01171875]


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Each staged load collects garbage, and looks through all that was imported if it is let."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`fp32("t2v")` is a folder of that kind none of whose weights bf16 can hold."""
    top = tmp_path_factory.mktemp("fp32")

    def get(kind: str) -> Path:
        folder = top / kind
        if not folder.exists():
            tiny.save(kind, folder)
            for file in folder.rglob("*.safetensors"):
                torch.manual_seed(7)
                rough = {name: t + torch.rand_like(t) * 1e-3 for name, t in load_file(file).items()}
                save_file(rough, file, {"format": "pt"})
        return folder

    return get


@pytest.fixture(scope="module")
def shards(fp32: Callable[[str], Path]) -> Path:
    """The same model in many shards."""
    folder, copy = fp32("t2v"), fp32("t2v").with_name("shards")
    shutil.copytree(folder, copy)
    for name in ("transformer", "text_encoder"):
        shutil.rmtree(copy / name)
        load(folder, name, torch.float32).save_pretrained(copy / name, max_shard_size="30KB")
    assert len(list(copy.rglob("*.safetensors"))) > 5
    return copy


@pytest.fixture
def source(shards: Path, tmp_path: Path) -> Path:
    """Those shards, to damage."""
    shutil.copytree(shards, tmp_path / "source")
    return tmp_path / "source"


def make(source: Path, target: Path, *, sealed: bool = False) -> dict[str, str]:
    return make_bf16(source, target, Control(), lambda *_: None, sealed=sealed)


def load(folder: Path, name: str, dtype: torch.dtype) -> Any:
    library, kind = json.loads((folder / "model_index.json").read_bytes())[name]
    return getattr(importlib.import_module(library), kind).from_pretrained(folder / name, dtype=dtype)


def bits(module: Any) -> dict[str, tuple[torch.dtype, torch.Size, bytes]]:
    """Every parameter and buffer, those that are not saved included."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: (t.dtype, t.shape, raw(t)) for name, t in tensors}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Those of all shards of a component."""
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, our own record aside."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".wan-tui" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_size) for p in found}


# --- the same bits ---------------------------------------------------------------------------------------------------


def check_same(source: Path, made: Path) -> None:
    folder = tiny.sound(made, tuple(open_folder(made).components))
    placement = Placement(torch.device("cpu"), torch.bfloat16)
    for name in WITH_WEIGHTS:
        if name not in folder.components:
            continue
        expected = load(source, name, torch.bfloat16)
        assert bits(load(made, name, torch.bfloat16)) == bits(expected), name
        staged = [
            bits(
                Components(open_folder(top), placement, Control(), Voice(Bus(), "a", lambda: (None, None))).bring(name)
            )
            for top in (source, made)
        ]
        assert staged[0] == staged[1], name
        if name in ("transformer", "transformer_2", "text_encoder"):
            stored = {key: t.dtype for key, t in tensors(made / name).items()}
            loaded = {key: t.dtype for key, t in expected.state_dict().items() if key in stored}
            assert stored == loaded, name  # what is stored is what is computed with: not a byte wider


def check_fresh(source: Path, made: Path) -> None:
    """It is what a first call makes."""
    fresh = made.with_name(f"{made.name}-fresh")
    make(source, fresh)
    assert files(made) == files(fresh)


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_to_the_same_bits(fp32: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    source, made = fp32(kind), tmp_path / "made"
    digests = make(source, made)
    check_same(source, made)
    found = files(made)
    assert found.keys() == files(source).keys()
    assert all(hashlib.sha256(found[path]).hexdigest() == digest for path, digest in digests.items())
    assert {path for path in found if path.endswith(".json") or path.startswith(("transformer", "text_"))} <= set(
        digests
    )
    assert bf16_bytes(source) == sum(map(len, found.values()))


def test_it_loads_to_the_same_bits_from_shards(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    make(source, made)
    check_same(source, made)
    assert files(made).keys() == files(source).keys()
    for index in made.rglob("*.index.json"):
        table, before = (json.loads((top / index.relative_to(made)).read_bytes()) for top in (made, source))
        stored = tensors(index.parent)
        assert table["metadata"].pop("total_size") == sum(t.numel() * t.element_size() for t in stored.values())
        before["metadata"].pop("total_size")
        assert table == before
        for name, shard in table["weight_map"].items():
            with safe_open(index.parent / shard, framework="pt") as file:
                assert name in file.keys()  # noqa: SIM118
    assert bf16_bytes(source) == sum(map(len, files(made).values()))


def test_what_diffusers_keeps_stays_fp32_in_the_file(fp32: Callable[[str], Path], tmp_path: Path) -> None:
    make(fp32("t2v"), tmp_path / "made")
    before, after = (tensors(top / "transformer") for top in (fp32("t2v"), tmp_path / "made"))
    kept = {name for name in before if set(KEPT) & set(name.split("."))}
    assert {name for name, t in after.items() if t.dtype == torch.float32} == kept
    assert len(kept) > 8
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert {t.dtype for name, t in after.items() if name not in kept} == {torch.bfloat16}


def test_wo_of_the_text_encoder_is_converted(fp32: Callable[[str], Path], tmp_path: Path) -> None:
    make(fp32("t2v"), tmp_path / "made")
    stored = tensors(tmp_path / "made" / "text_encoder")
    assert {t.dtype for name, t in stored.items() if ".wo." in name} == {torch.bfloat16}


@pytest.mark.parametrize("kind", bf16._TRANSFORMERS)
def test_each_class_keeps_its_own(tmp_path: Path, kind: str) -> None:
    import diffusers

    kept = getattr(diffusers, kind)._keep_in_fp32_modules
    assert set(kept) <= set(bf16._MAY_KEEP)  # else the estimate would be too low
    inside = {f"blocks.0.{part}.weight": torch.rand(3) for part in (*KEPT, *kept)}
    beside = {f"blocks.0.x{part}.weight": torch.rand(3) for part in kept} | {"norm_out.weight": torch.rand(3)}
    write_model(tmp_path / "source", inside | beside, kind)
    make(tmp_path / "source", tmp_path / "made")
    stored = tensors(tmp_path / "made" / "transformer")
    assert {name.split(".")[2] for name in inside if stored[name].dtype == torch.float32} == set(kept)
    assert {stored[name].dtype for name in beside} == {torch.bfloat16}


def test_every_wan_transformer_of_diffusers_is_known() -> None:
    import diffusers

    there = {name for name in dir(diffusers) if name.startswith("Wan") and name.endswith("Transformer3DModel")}
    assert there <= set(bf16._TRANSFORMERS)


def write_model(folder: Path, weights: dict[str, torch.Tensor], kind: str = "WanTransformer3DModel") -> Path:
    """A folder with a transformer alone, whose tensors need not be those of a transformer."""
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X", "transformer": ["diffusers", kind]}))
    (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": kind}))
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file(weights, file, {"format": "pt", "who": "us"})
    return file


def test_each_dtype_becomes_what_it_is_loaded_as(tmp_path: Path) -> None:
    odd = torch.tensor(ODD)
    weights = {
        "half": odd.half(),
        "brain": odd.bfloat16(),
        "double": odd.double() / 3,
        "single": odd,
        "eight": torch.rand(5).to(torch.float8_e4m3fn),
        "norm1.double": odd.double() / 3,
        "norm1.half": odd.half(),
        "norm1.single": odd.clone(),
        "whole": torch.tensor([[2**62, -1]]),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "one": torch.tensor(1 / 3),
        "none": torch.zeros(0, 4),
        "naïve": torch.rand(3),
    }
    file = write_model(tmp_path / "source", weights)
    make(tmp_path / "source", tmp_path / "made")
    made = tmp_path / "made" / "transformer" / file.name
    stored = load_file(made)
    for name, tensor in weights.items():
        wanted = tensor
        if tensor.is_floating_point() and "norm1" not in name:
            wanted = tensor.to(torch.bfloat16)
        elif name == "norm1.double":
            wanted = tensor.float()
        assert (stored[name].dtype, stored[name].shape) == (wanted.dtype, wanted.shape), name
        assert raw(stored[name]) == raw(wanted), name
    assert stored["single"][0].isnan()
    with safe_open(file, framework="pt") as before, safe_open(made, framework="pt") as after:
        assert after.metadata() == before.metadata() == {"format": "pt", "who": "us"}
        assert list(after.offset_keys()) == list(before.offset_keys())
    length = int.from_bytes(made.read_bytes()[:8], "little")
    assert length % 8 == 0
    assert made.stat().st_size == bf16_bytes(tmp_path / "source") - sum(
        (tmp_path / "source" / name).stat().st_size for name in ("model_index.json", "transformer/config.json")
    )


def test_slices_meet_without_a_seam(tmp_path: Path) -> None:
    torch.manual_seed(0)
    # Every pattern of bits a float can have, NaNs with a payload and the smallest numbers included.
    patterns = torch.randint(-(2**31), 2**31, (2 * bf16._SLICE + 3,), dtype=torch.int64).to(torch.int32)
    file = write_model(tmp_path / "source", {"a": patterns.view(torch.float32), "b": torch.rand(5)})
    make(tmp_path / "source", tmp_path / "made")
    stored, before = load_file(tmp_path / "made" / "transformer" / file.name), load_file(file)
    for name, tensor in before.items():
        assert raw(stored[name]) == raw(tensor.to(torch.bfloat16)), name


# --- what is brought, and how ----------------------------------------------------------------------------------------


def as_snapshot(folder: Path, cache: Path) -> Path:
    """The same as the Hugging Face cache keeps it."""
    snapshot, blobs = cache / "snapshots" / ("a" * 40), cache / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / f"{number:040}")
        link.symlink_to(os.path.relpath(blobs / f"{number:040}", link.parent))
    return snapshot


def test_a_cache_snapshot_is_a_source(fp32: Callable[[str], Path], tmp_path: Path) -> None:
    source, made = as_snapshot(fp32("i2v-clip"), tmp_path / "cache"), tmp_path / "made"
    for extra in ("README.md", "assets/a.png", ".cache/x.json", ".wan-tui/lock.json", "spare/config.json"):
        (source / extra).parent.mkdir(exist_ok=True)
        (source / extra).write_text("{}")
    (source / "vae" / "README.md").write_text("x")
    (source / "vae" / ".hidden.json").write_text("{}")
    os.mkfifo(source / "vae" / "pipe")
    before = state(tmp_path / "cache")
    make(source, made, sealed=True)
    check_fresh(fp32("i2v-clip"), made)
    assert not any(path.is_symlink() for path in made.rglob("*"))
    assert state(tmp_path / "cache") == before
    for path in ("vae/diffusion_pytorch_model.safetensors", "image_encoder/model.safetensors"):
        link = source / path
        assert link.resolve().stat().st_nlink == 2 or not link.samefile(made / path)  # a link, or a clone
    for path in made.rglob("*.json"):
        assert path.stat().st_nlink == 1


def test_a_source_of_ones_own_is_not_linked(fp32: Callable[[str], Path], tmp_path: Path) -> None:
    source, made = tmp_path / "source", tmp_path / "made"
    shutil.copytree(fp32("t2v"), source)
    make(source, made)
    before = files(made)
    for path in source.rglob("*"):
        if path.is_file():
            with path.open("r+b") as stream:
                stream.write(b"edited")
    assert files(made) == before


def test_what_is_bf16_already_is_shared(fp32: Callable[[str], Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make(fp32("t2v-two"), first)
    make(first, second, sealed=True)
    assert files(second) == files(first)
    shards = [path.relative_to(first) for path in first.rglob("*.safetensors")]
    assert len(shards) == 4
    assert all((second / path).samefile(first / path) for path in shards) or clones(tmp_path)


def clones(folder: Path) -> bool:
    (folder / "one").write_bytes(b"x")
    return (
        subprocess.run(["cp", "--reflink=always", folder / "one", folder / "two"], capture_output=True).returncode == 0
    )


def test_progress_counts_the_bytes_of_the_source(source: Path, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    make_bf16(source, tmp_path / "made", Control(), lambda p, d, t: seen.setdefault(p, []).append((d, t)), sealed=False)
    assert seen.keys() == files(source).keys()
    for path, told in seen.items():
        size = (source / path).stat().st_size
        assert [total for _, total in told] == [size] * len(told)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1] == (size, size)
    assert max(map(len, seen.values())) > 5


# --- going on --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class At:
    """Does something when told for the `turn`-th time."""

    turn: int
    act: Callable[[], None]
    told: list[str]

    def __call__(self, path: str, done: int, total: int) -> None:
        self.told.append(path)
        if len(self.told) == self.turn:
            self.act()


def killed(source: Path, target: Path, turn: int) -> None:
    """Make it in a process that gets a SIGKILL in the middle."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the threads of the parent are not here
            make_bf16(
                source, target, Control(), At(turn, lambda: os.kill(os.getpid(), signal.SIGKILL), []), sealed=False
            )
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_killed_call_is_taken_up(source: Path, tmp_path: Path, moment: float) -> None:
    whole, made = tmp_path / "whole", tmp_path / "made"
    told: list[str] = []
    digests = make_bf16(source, whole, Control(), At(0, lambda: None, told), sealed=False)
    killed(source, made, 1 + round(moment * (len(told) - 3)))  # before the last file
    assert not (made / "model_index.json").exists()
    finished = {path: text for path, text in files(made).items() if not path.endswith(".part")}
    assert finished.items() <= files(whole).items()
    assert moment == 1.0 or [path for path in files(made) if path.endswith(".part")]
    before = state(made)
    assert make(source, made) == digests
    assert files(made) == files(whole)
    recorded = set(json.loads((whole / ".wan-tui" / "bf16.json").read_bytes())["files"])
    kept = [path for path in finished if state(made)[path] == before[path]]
    assert len(kept) == len(finished) <= len(recorded)
    assert moment < 0.5 or len(kept) > 2


def test_a_cancel_keeps_the_finished_shards(source: Path, tmp_path: Path) -> None:
    control, made, whole, told = Control(), tmp_path / "made", list[str](), list[str]()
    make_bf16(source, tmp_path / "whole", Control(), At(0, lambda: None, whole), sealed=False)
    turn = max(whole.index(path) for path in whole if whole.count(path) > 3) + 1  # in the last of the larger shards
    with pytest.raises(Cancelled):
        make_bf16(source, made, control, At(turn, control.cancel, told), sealed=False)
    assert len(told) == turn  # at the next slice, not at the next file
    finished = files(made)
    assert finished
    assert not [path for path in finished if path.endswith((".part", "model_index.json"))]
    before = state(made)
    make(source, made)
    assert {path: state(made)[path] for path in finished} == {path: before[path] for path in finished}
    check_fresh(source, made)


def test_a_second_call_does_nothing(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    digests = make(source, made)
    before = state(made)
    assert make(source, made) == digests
    assert state(made) == before


def shards_of(folder: Path) -> list[Path]:
    return sorted((folder / "transformer").glob("*.safetensors"))


def test_what_changed_is_made_again(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    make(source, made)
    before = state(made)
    changed = shards_of(source)[0]
    save_file({name: t + 1 for name, t in load_file(changed).items()}, changed, {"format": "pt"})
    edited = shards_of(made)[1]
    edited.write_bytes(b"edited")
    (made / "scheduler" / "scheduler_config.json").unlink()
    make(source, made)
    check_fresh(source, made)
    again = {path for path, was in before.items() if state(made)[path] != was}
    expected = {str(path.relative_to(made)) for path in (made / "transformer" / changed.name, edited)}
    ours = {".wan-tui/bf16.json", "model_index.json"}
    assert again == expected | {"scheduler/scheduler_config.json"} | ours


def test_another_rule_is_followed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    make(source, tmp_path / "made")
    monkeypatch.setattr(diffusers.WanTransformer3DModel, "_keep_in_fp32_modules", ["proj_out"])
    make(source, tmp_path / "made")
    kept = {name for name, t in tensors(tmp_path / "made" / "transformer").items() if t.dtype == torch.float32}
    assert kept == {"proj_out.weight", "proj_out.bias"}


def test_a_failure_while_it_is_made_again_leaves_no_pipeline(source: Path, tmp_path: Path) -> None:
    control, made = Control(), tmp_path / "made"
    make(source, made)
    shards_of(made)[0].unlink()
    with pytest.raises(Cancelled):
        make_bf16(source, made, control, At(1, control.cancel, []), sealed=False)
    assert not (made / "model_index.json").exists()


def test_shards_the_source_has_no_more_go(source: Path, fp32: Callable[[str], Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    make(source, made)
    mine = made / "transformer" / "mine.safetensors"
    mine.write_bytes(b"not ours")
    make(fp32("t2v"), made)
    assert files(made).keys() == files(fp32("t2v")).keys() | {"transformer/mine.safetensors"}
    mine.unlink()
    check_fresh(fp32("t2v"), made)


ENTRY = {"source": [1, 1, 1], "kept": None, "sha256": None, "output": [1, 1]}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff{",
        b"[]",
        b'{"files": 3}',
        b'{"files": {"": 1, "vae": 2, "transformer/config.json": []}}',
        json.dumps({"files": {"../victim": ENTRY, "vae/../../victim": ENTRY, "/victim": ENTRY}}).encode(),
    ],
)
def test_a_damaged_record_costs_work_only(source: Path, tmp_path: Path, record: bytes) -> None:
    made, victim = tmp_path / "made", tmp_path / "victim"
    victim.write_text("here")
    make(source, made)
    expected = files(made)
    (made / ".wan-tui" / "bf16.json").write_bytes(record)
    make(source, made)
    assert files(made) == expected
    assert victim.exists()


# --- what is refused -------------------------------------------------------------------------------------------------


def header(table: object, data: int = 0) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def entry(dtype: Any = "F32", shape: Any = (2,), at: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": at}


DAMAGED = {
    "empty": b"",
    "no header": b"\0" * 7,
    "a header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "a header cut short": header({"a": entry()}, 8)[:30],
    "no JSON": header(b"{nonsense}"),
    "too deep": header(b"[" * 100_000),
    "no Unicode": header(b'{"a\xff": 1}'),
    "half a character": header(b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', 8),
    "a list": header([1]),
    "metadata of numbers": header({"__metadata__": {"a": 1}}),
    "metadata as a list": header({"__metadata__": [1]}),
    "data cut short": header({"a": entry()}, 7),
    "data too long": header({"a": entry()}, 9),
    "a gap": header({"a": entry(), "b": entry(at=(12, 20))}, 20),
    "an overlap": header({"a": entry(), "b": entry(at=(4, 12))}, 12),
    "not from the start": header({"a": entry(at=(4, 12))}, 12),
    "backwards": header({"a": entry(at=(8, 0))}, 8),
    "another size": header({"a": entry(shape=(3,))}, 8),
    "a negative shape": header({"a": entry(shape=(-1, -2))}, 8),
    "a shape that is true": header({"a": entry(shape=(2, True))}, 8),
    "a shape of fractions": header({"a": entry(shape=(2.0,))}, 8),
    "a shape that is a table": header({"a": entry(shape={}, at=(0, 4))}, 4),
    "another dtype": header({"a": entry(dtype="F4")}, 8),
    "a dtype that is a list": header({"a": entry(dtype=[])}, 8),
    "three offsets": header({"a": entry(at=(0, 4, 8))}, 8),
    "offsets as text": header({"a": entry(at="08")}, 8),
    "no entry": header({"a": None}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("component", ["transformer", "vae"])
def test_a_damaged_shard_is_named_before_anything_is_made(
    source: Path, tmp_path: Path, component: str, text: bytes
) -> None:
    damaged = sorted((source / component).glob("*.safetensors"))[0]
    damaged.write_bytes(text)
    for work in (lambda: make(source, tmp_path / "made"), lambda: bf16_bytes(source)):
        with pytest.raises(ModelError) as refused:
            work()
        assert refused.value.code == "bad-weights"
        assert str(damaged) in refused.value.message
    assert not (tmp_path / "made").exists()


def test_a_shard_that_changes_while_it_is_read_is_refused(source: Path, tmp_path: Path) -> None:
    shard = source / "text_encoder" / "model-00001-of-00003.safetensors"
    for act in (lambda: os.utime(shard, ns=(1, 1)), lambda: os.truncate(shard, shard.stat().st_size - 400)):
        with pytest.raises(ModelError) as refused:
            make_bf16(source, tmp_path / "made", Control(), At(1, act, []), sealed=False)
        assert refused.value.code == "bad-weights"
        assert f"text_encoder/{shard.name}" in refused.value.message
        assert files(tmp_path / "made") == {}


@pytest.mark.parametrize("name", ["../vae/diffusion_pytorch_model.safetensors", "..", "/etc/passwd", "a/b", "a\\b", ""])
def test_an_index_stays_in_its_folder(source: Path, tmp_path: Path, name: str) -> None:
    index = next((source / "transformer").glob("*.index.json"))
    table = json.loads(index.read_bytes())
    table["weight_map"]["proj_out.weight"] = name
    index.write_text(json.dumps(table))
    with pytest.raises(ModelError) as refused:
        make(source, tmp_path / "made")
    assert refused.value.code == "bad-weights"
    assert index.name in refused.value.message


@pytest.mark.parametrize(
    "text", ["{}", '{"weight_map": {}}', '{"weight_map": [1]}', '{"weight_map": {"a": "b"}, "metadata": 1}']
)
def test_an_index_that_is_none_is_refused(source: Path, tmp_path: Path, text: str) -> None:
    next((source / "transformer").glob("*.index.json")).write_text(text)
    with pytest.raises(ModelError) as refused:
        make(source, tmp_path / "made")
    assert refused.value.code == "bad-weights"


def lose_a_shard(source: Path) -> None:
    shards_of(source)[1].unlink()


def lose_all_shards(source: Path) -> None:
    for path in (source / "transformer").glob("*.safetensors*"):
        path.unlink()


def lose_a_component(source: Path) -> None:
    shutil.rmtree(source / "vae")


def lose_a_blob(source: Path) -> None:
    (source / "vae" / "config.json").unlink()
    (source / "vae" / "config.json").symlink_to("../../../blobs/gone")


@pytest.mark.parametrize("lose", [lose_a_shard, lose_all_shards, lose_a_component, lose_a_blob])
def test_a_source_that_lacks_something_is_refused(source: Path, tmp_path: Path, lose: Callable[[Path], None]) -> None:
    lose(source)
    with pytest.raises(ModelError) as refused:
        make(source, tmp_path / "made")
    assert refused.value.code == "incomplete-model"
    assert not (tmp_path / "made").exists()


def named(source: Path, file: str, **values: object) -> None:
    table = json.loads((source / file).read_bytes())
    (source / file).write_text(json.dumps(table | values))


def test_only_known_classes_are_asked_what_they_keep(source: Path, tmp_path: Path) -> None:
    named(source, "transformer/config.json", _class_name="FluxTransformer2DModel")
    with pytest.raises(ModelError) as refused:
        make(source, tmp_path / "made")
    assert refused.value.code == "class-refused"
    with pytest.raises(ModelError):
        kept_in_fp32("T5EncoderModel", source / "text_encoder")


@pytest.mark.parametrize("name", ["../vae", "a/b", "..", ".hidden", ""])
def test_components_lie_in_the_folder(source: Path, tmp_path: Path, name: str) -> None:
    named(source, "model_index.json", **{name: ["diffusers", "AutoencoderKLWan"]})
    with pytest.raises(ModelError) as refused:
        make(source, tmp_path / "made")
    assert refused.value.code == "bad-weights"


@pytest.mark.parametrize("text", ["", "[]", None])
def test_a_source_without_an_index_is_refused(source: Path, tmp_path: Path, text: str | None) -> None:
    (source / "model_index.json").unlink()
    if text is not None:
        (source / "model_index.json").write_text(text)
    for work in (lambda: make(source, tmp_path / "made"), lambda: bf16_bytes(source)):
        with pytest.raises(ModelError) as refused:
            work()
        assert refused.value.code == "bad-model-file"


def itself(source: Path, tmp_path: Path) -> Path:
    return source


def itself_by_a_link(source: Path, tmp_path: Path) -> Path:
    (tmp_path / "made").symlink_to(source)
    return tmp_path / "made"


def inside(source: Path, tmp_path: Path) -> Path:
    return source / "transformer" / "bf16"


def around(source: Path, tmp_path: Path) -> Path:
    source.rename(tmp_path / "vae")
    return tmp_path


def with_a_link(source: Path, tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "made" / "vae").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "made"


@pytest.mark.parametrize("place", [itself, itself_by_a_link, inside, around, with_a_link])
def test_nothing_is_made_where_it_would_hurt(source: Path, tmp_path: Path, place: Callable[[Path, Path], Path]) -> None:
    target = place(source, tmp_path)
    real = tmp_path / "vae" if place is around else source
    before = files(real)
    with pytest.raises(ModelError) as refused:
        make(real, target)
    assert refused.value.code == "bad-target"
    assert files(real) == before


def test_a_folder_of_its_own_beside_the_components_will_do(source: Path) -> None:
    before = files(source)
    make(source, source / ".wan-tui" / "bf16")
    assert files(source) == before
    assert (source / ".wan-tui" / "bf16" / "model_index.json").is_file()


# --- in a process of its own -----------------------------------------------------------------------------------------


def text_encoder(folder: Path, count: int) -> Path:
    """A folder with one text encoder of one tensor of `count` elements, with a hole for its weights."""
    (folder / "text_encoder").mkdir(parents=True)
    index = {"text_encoder": ["transformers", "UMT5EncoderModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "text_encoder" / "config.json").write_text("{}")
    with (folder / "text_encoder" / "model.safetensors").open("wb") as stream:
        stream.write(header({"a": entry(shape=(count,), at=(0, count * 4))}))
        stream.truncate(stream.tell() + count * 4)
    return folder


def said_by(program: str, *arguments: object, before: tuple[str, ...] = ()) -> Any:
    job = [*before, sys.executable, "-c", program, *map(str, arguments)]
    answer = subprocess.run(job, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


ESTIMATE = """
import json, sys
from pathlib import Path
from engine.library.bf16 import bf16_bytes

size = bf16_bytes(Path(sys.argv[1]))
print(json.dumps([size, [name for name in ("torch", "diffusers", "transformers", "numpy") if name in sys.modules]]))
"""


def test_the_estimate_needs_no_torch(source: Path) -> None:
    assert said_by(ESTIMATE, source) == [bf16_bytes(source), []]


MEASURE = """
import json, re, sys
from pathlib import Path
import torch
from engine.control import Control
from engine.library.bf16 import make_bf16

def status(key):
    return int(re.search(rf"^{key}:\\s+(\\d+) kB", Path("/proc/self/status").read_text(), re.M)[1]) / 1024

torch.zeros(9).to(torch.bfloat16)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = status("VmRSS")
make_bf16(Path(sys.argv[1]), Path(sys.argv[2]), Control(), lambda *_: None, sealed=False)
print(json.dumps(status("VmHWM") - before))
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    count = 75_000_000  # 300 MB
    grown = said_by(MEASURE, text_encoder(tmp_path / "source", count), tmp_path / "made")
    assert (tmp_path / "made" / "text_encoder" / "model.safetensors").stat().st_size > 2 * count
    assert grown < 40


FILL = """
import json, subprocess, sys
from pathlib import Path
from engine.control import Control
from engine.library.bf16 import make_bf16

source, disk = map(Path, sys.argv[1:])
said = []
for size in ("1m", "9m"):
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
    try:
        make_bf16(source, disk / "made", Control(), lambda *_: None, sealed=False)
        said.append(0)
    except OSError as error:
        said.append(error.errno)
    found = (path for path in (disk / "made").rglob("*") if path.is_file() and ".wan-tui" not in path.parts)
    said.append(sorted(path.name for path in found))
print(json.dumps(said))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A place, and the words before a command for which it is a small disk."""
    place = tmp_path / "disk"
    place.mkdir()
    space = ("unshare", "--mount", *(() if os.getuid() == 0 else ("--map-root-user",)), "sh", "-c")
    mount = 'mount -t tmpfs none "$0"'
    if shutil.which("unshare") is None or subprocess.run([*space, mount, place], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield place, (*space, f'{mount} && exec "$@"', str(place))


@pytest.mark.soak
def test_a_full_disk_is_told_and_room_is_all_it_takes(tmp_path: Path, disk: tuple[Path, tuple[str, ...]]) -> None:
    said = said_by(FILL, text_encoder(tmp_path / "source", 1_000_000), disk[0], before=disk[1])
    assert said[:2] == [errno.ENOSPC, []]
    assert said[2:] == [0, ["config.json", "model.safetensors", "model_index.json"]]
