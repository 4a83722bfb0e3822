"""Whatever the files of a model hold, `check` answers: no crash, nothing that takes long or much memory.

The work is done in a child without torch, whose memory and CPU time are measured there.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import load_catalog
from engine.errors import ModelError
from engine.runtime.check import check, subject
from engine.runtime.report import Report
from tests.corpus import Bench, opened, put, sealed, shard, split
from tests.runs import environment
from tests.test_recognise import wan, write_gguf, write_safetensors
from wan_tui.cli.check import lines
from wan_tui.text import plain

CATALOG = load_catalog()
KINDS = ("t2v", "t2v-two", "i2v-clip", "ti2v", "vace", "animate")
MOST_CPU_S = 2.0
MOST_BYTES = 200 * 2**20
SAMPLE, SOAK = 50, 10_000

# ── What is done to a file ───────────────────────────────────────────────────────────────────────────────────────────

_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 48, 2**31, 2**63, -(2**63), 2**64, 10**400, 10**4000, 1e308, -0.0, 1e-320,
    float("nan"), float("inf"), "", "x", "x" * 100_000, "\0", "\ud800", "../../etc/passwd", "/dev/zero", "\x1b[31m",
    "WanPipeline", "AutoencoderKL", "F8_E4M3", [], {}, [[]] * 1000, ["diffusers", "WanTransformer3DModel"],
    [None, None], [0, 2**62], [-1, -2], [1] * 40, {"": {}}, {"weight_map": {}}, {"a": "b.safetensors"},
)  # fmt: skip


def _deep(levels: int, table: bool) -> str:
    return '{"a":' * levels + "1" + "}" * levels if table else "[" * levels + "]" * levels


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in a JSON document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(inner, (*path, key))


def _json(random: random.Random, text: bytes) -> bytes:
    """Another value, another key, a key twice, something very deep."""
    try:
        document = json.loads(text)
        places = list(_places(document))
    except (ValueError, RecursionError):
        return _bytes(random, text)
    if not places:
        return json.dumps(random.choice(_ODD)).encode()
    *above, key = random.choice(places)
    holder = document
    for step in above:
        holder = holder[step]
    marker, other = "@fuzz@", random.choice(_ODD)
    what = random.randrange(6)
    if what == 0 and isinstance(holder, dict):  # renamed
        holder[random.choice((*map(str, _ODD[:4]), "\x1b", "", "a.b", "_class_name", key + "x"))] = holder.pop(key)
    elif what == 1:
        del holder[key]
    elif what == 2 and isinstance(holder, dict):  # twice
        return _dumped(document).replace(
            f"{json.dumps(key)}:".encode(), f"{json.dumps(key)}: {json.dumps(other)}, {json.dumps(key)}:".encode(), 1
        )
    elif what == 3:
        holder[key] = marker
        deep = _deep(random.choice((3, 50, 900, 5000, 100_000)), random.random() < 0.5)
        return _dumped(document).replace(json.dumps(marker).encode(), deep.encode())
    elif what == 4 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] * random.choice((2, -1, 0, 10**6, 2**40)) + random.choice((0, 1, -1))
    else:
        holder[key] = other
    return _dumped(document)


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def _bytes(random: random.Random, data: bytes) -> bytes:
    """Flipped, cut off, cut out, doubled, or with something put in."""
    data = bytearray(data)
    at = random.randrange(len(data) + 1)
    length = random.choice((1, 2, 8, 64, 4096))
    match random.randrange(5):
        case 0:
            for _ in range(random.choice((1, 3, 30))):
                if data:
                    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        case 1:
            del data[at:]
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length] * random.choice((1, 2, 500))
        case _:
            put_in = (random.randbytes(length), b"[" * length, b'"' * length, b"\xff\xfe", b"9" * length)
            data[at:at] = random.choice(put_in)
    return bytes(data)


def _safetensors(random: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    match random.randrange(5):
        case 0:
            return _bytes(random, data[: 8 + length]) + rest
        case 1:
            wrong = random.choice((0, 1, length - 1, length + 1, 2**32, 2**60, 2**64 - 1, random.randrange(2**24)))
            return sealed(header, rest, wrong % 2**64)
        case 2:
            return data[: random.randrange(len(data))]
        case 3:
            return sealed(_bytes(random, header), rest)
    return sealed(_json(random, header), rest)


def _gguf(random: random.Random, data: bytes) -> bytes:
    head = min(len(data), 40_000)
    return _bytes(random, data[:head]) + data[head:]


_WAYS: dict[str, Callable[[random.Random, bytes], bytes]] = {".safetensors": _safetensors, ".gguf": _gguf}


def mutated(random: random.Random, name: str, data: bytes) -> bytes:
    way = _WAYS.get(Path(name).suffix, _json)
    for _ in range(random.choice((1, 1, 2, 3))):
        data = way(random, data) if random.random() < 0.8 or way is not _json else _bytes(random, data)
    return data


# ── What has to hold ─────────────────────────────────────────────────────────────────────────────────────────────────


def looked_at(path: Path) -> str:
    """The verdict, once everything that is told was made into text."""
    try:
        report = check(subject(str(path), CATALOG), CATALOG)
    except ModelError as error:
        json.dumps(error.as_dict())
        return "refused"
    assert isinstance(report, Report)
    assert report.verdict in ("runs", "conditions", "cannot-run")
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["verdict"] == report.verdict
    for line in lines(report):
        assert "\x1b" not in plain(line)
    return report.verdict


def peak() -> int:
    """The most memory this process had. What `getrusage` tells comes with a fork from the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(work: Iterator[tuple[str, Path]]) -> None:
    """Look at one thing after another, and print what was measured."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = peak()
    verdicts: dict[str, int] = {}
    failures, slowest, done = [], (0.0, ""), 0
    for what, path in work:
        since = time.process_time()
        try:
            verdict = looked_at(path)
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
        except Exception:  # noqa: BLE001  (what is looked for)
            failures.append(f"{what}: {traceback.format_exc()[-1500:]}")
        slowest = max(slowest, (time.process_time() - since, what))
        done += 1
    grown = peak() - before
    print(
        json.dumps(
            {"done": done, "verdicts": verdicts, "failures": failures[:5], "slowest": slowest, "grown": grown}
            | {"torch": "torch" in sys.modules}
        )
    )


def fuzzed(folders: list[Path], seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """`count` times one file of one of the folders is another one."""
    chosen = random.Random(seed)
    files = [(folder, file) for folder in folders for file in _targets(folder)]
    for folder, _ in files:
        looked_at(folder)
    for number in range(count):
        folder, file = chosen.choice(files)
        own = random.Random(f"{seed} {number}")
        data = file.read_bytes()
        put(file, mutated(own, file.name, data))
        yield f"{number} of {seed}: {file}", folder
        put(file, data)


def _targets(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.suffix in (".json", ".safetensors")]


def measured(*arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_check_fuzz", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert not found["failures"], "\n".join(found["failures"])
    assert found["slowest"][0] < MOST_CPU_S, found["slowest"]
    assert found["grown"] < MOST_BYTES, found["grown"]
    assert not found["torch"]
    return found


def print_measured(way: str, found: dict[str, Any]) -> None:
    grown = found["grown"] >> 20
    print(f"\n{way}: {found['done']}, {found['verdicts']}, slowest {found['slowest']}, grown by {grown} MiB")


@pytest.fixture
def folders(tiny_model: Callable[[str], Path], tmp_path: Path) -> list[Path]:
    """Small models of every kind, in one file and in shards, a GGUF file and a single file."""
    found = []
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        found.append(Bench(tiny_model, tmp_path / kind).copy(kind))
    for folder in found[::2]:
        split(folder)
    small = {name: shape for name, shape in wan("1.3B").items() if not name.startswith("blocks.") or ".0." in name[:10]}
    tiny = {name: tuple(min(side, 4) for side in shape) for name, shape in small.items()}
    found.append(write_gguf(tmp_path / "x.gguf", tiny))
    found.append(write_safetensors(tmp_path / "x.safetensors", tiny))
    return found


def test_sample(folders: list[Path]) -> None:
    found = measured("fuzz", 1, SAMPLE, *folders)
    assert found["done"] == SAMPLE
    assert found["verdicts"]["cannot-run"] > SAMPLE / 5  # the mutations are ones that matter
    assert found["verdicts"]["runs"] > SAMPLE / 50


@pytest.mark.soak
def test_soak(folders: list[Path]) -> None:
    found = measured("fuzz", random.randrange(2**32), SOAK, *folders)
    print_measured("fuzz", found)
    assert found["done"] == SOAK


# ── The worst that can be written ────────────────────────────────────────────────────────────────────────────────────

_MOST = (2 << 20) - 100  # of a JSON file that is read
_HEAVY: dict[str, Callable[[], str]] = {
    "lists": lambda: '{"a":[' + "[]," * (_MOST // 3) + "[]]}",
    "tables": lambda: '{"a":[' + '{"a":{}},' * (_MOST // 9) + "{}]}",
    "keys": lambda: "{" + ",".join(f'"{n:x}":{{}}' for n in range(_MOST // 12)) + "}",
    "texts": lambda: '{"a":[' + '"é",' * (_MOST // 5) + '""]}',
    "numbers": lambda: '{"a":[' + "1e5," * (_MOST // 4) + "1]}",
    "one number": lambda: '{"a":' + "9" * _MOST + "}",
    "digits after the point": lambda: '{"a":0.' + "9" * _MOST + "}",
    "depth": lambda: '{"a":' + "[" * (_MOST // 2) + "]" * (_MOST // 2) + "}",
    "names": lambda: '{"_class_name": "WanPipeline", ' + ",".join(f'"{n}":["a","b"]' for n in range(80_000)) + "}",
}
_BIG_FOLDER = 100_000


def worst(folder: Path) -> Iterator[tuple[str, Path]]:
    """Sound folders in which one file is the worst there can be."""
    looked_at(folder)
    for name, make in _HEAVY.items():
        for place in ("model_index.json", "vae/config.json"):
            yield from _with(f"{name} in {place}", folder, place, make())
    index = next((folder / "transformer").glob("*.index.json"))
    data = index.read_bytes()
    weight_map = {
        "10,000 shards": {f"t{n}": f"s{n}.safetensors" for n in range(10_000)},
        "1,000 absent shards": {f"t{n}": f"s{n % 1000}.safetensors" for n in range(40_000)},
        "one shard of many tensors": dict.fromkeys((f"t{n}" for n in range(60_000)), shard(folder).name),
    }
    for name, table in weight_map.items():
        put(index, json.dumps({"weight_map": table}))
        yield name, folder
    put(index, data)
    file = next((folder / "vae").glob("*.safetensors"))
    yield from _with("many tensors", folder, f"vae/{file.name}", _tiny_tensors())
    yield from _with("many metadata", folder, f"vae/{file.name}", _metadata())
    yield from _with("names of a tensor", folder, f"vae/{file.name}", _long_names())


def _with(what: str, folder: Path, place: str, data: str | bytes) -> Iterator[tuple[str, Path]]:
    file = folder / place
    before = file.read_bytes()
    put(file, data)
    yield what, folder
    put(file, before)


def _tiny_tensors() -> bytes:
    entries, length, number = [], 2, 0
    while length < (4 << 20) - 100:
        entries.append(f'"{number:x}":{{"dtype":"U8","shape":[1],"data_offsets":[{number},{number + 1}]}}')
        length += len(entries[-1]) + 1
        number += 1
    entries.pop()
    return sealed("{" + ",".join(entries) + "}", b"\0" * len(entries))


def _metadata() -> bytes:
    return sealed('{"__metadata__":{' + ",".join(f'"{n:x}":""' for n in range(380_000)) + "}}")


def _long_names() -> bytes:
    entries = [f'"{"blocks.1." * 20_000}{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(20)]
    return sealed("{" + ",".join(entries) + "}")


def crowded(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders of very many files, and files behind very many links."""
    looked_at(folder)
    many = folder.parent / "many"
    many.mkdir()
    for number in range(_BIG_FOLDER):
        os.close(os.open(many / f"{number}.txt", os.O_CREAT | os.O_WRONLY))
    yield "a folder of 100,000 texts", many
    (many / "x.safetensors").write_bytes(sealed("{}"))
    yield "a folder of 100,000 texts and weights", many
    for number in range(3000):
        (many / f"{number}.safetensors").symlink_to(many / "x.safetensors")
    yield "3,000 files of weights", many
    nested = folder.parent / "nested"
    for number in range(2000):
        (nested / f"{number}").mkdir(parents=True)
    yield "2,000 folders", nested
    deep = folder.parent / "deep"
    for _ in range(60):
        deep = deep / "deeper"
    deep.mkdir(parents=True)
    (deep / "x.safetensors").write_bytes(sealed("{}"))
    yield "60 folders in each other", folder.parent / "deep"
    last = next((folder / "vae").glob("*.safetensors"))
    real = last.rename(folder / "real")
    for number in range(60):
        link = folder / f"link{number}"
        link.symlink_to(real if number == 0 else folder / f"link{number - 1}")
    last.symlink_to(link)
    yield "weights behind 60 links", folder
    (folder / "transformer" / "around").symlink_to(folder)
    yield "a folder that holds itself", folder


@pytest.mark.parametrize("way", ["worst", "crowded"])
@pytest.mark.soak
def test_the_worst(tiny_model: Callable[[str], Path], tmp_path: Path, way: str) -> None:
    (tmp_path / "bench").mkdir()
    folder = split(Bench(tiny_model, tmp_path / "bench").copy())
    found = measured(way, folder)
    assert found["done"] >= 7
    print_measured(way, found)


def test_the_fuzz_changes_what_it_is_given(folders: list[Path]) -> None:
    """A mutator that does nothing would find nothing."""
    changed = set()
    for folder in folders[:1]:
        for file in _targets(folder):
            data = file.read_bytes()
            other = {mutated(random.Random(seed), file.name, data) for seed in range(40)}
            assert len(other - {data}) > 25
            changed.add(file.suffix)
    assert changed == {".json", ".safetensors"}
    table, _ = opened(next((folders[1] / "vae").glob("*.safetensors")))
    assert len(list(_places(table))) > 500


if __name__ == "__main__":
    way, *rest = sys.argv[1:]
    match way:
        case "fuzz":
            child(fuzzed([Path(path) for path in rest[2:]], int(rest[0]), int(rest[1])))
        case "worst":
            child(worst(Path(rest[0])))
        case "crowded":
            child(crowded(Path(rest[0])))
