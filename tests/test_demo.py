"""The built-in model is the same wherever it is made, and two that make it at once do each other no harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.compat.folder import family_of
from engine.library.digest import file_digest
from engine.pipelines.demo import make_demo
from engine.pipelines.families.t2v import BASE
from tests import tiny


def contents(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): file_digest(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def test_it_is_made_from_a_seed() -> None:
    folder = tiny.sound(make_demo("one"), BASE)
    assert family_of(folder) == "ti2v"
    assert contents(folder.path) == contents(make_demo("other"))
    assert sum(f.stat().st_size for f in folder.path.rglob("*") if f.is_file()) < 40e6


def test_it_is_mended() -> None:
    folder = make_demo("demo")
    before = contents(folder)
    (folder / "model_index.json").unlink()
    assert contents(make_demo("demo")) == before
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert contents(make_demo("demo")) == before


def test_it_is_made_once(own_home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make_demo, ["demo"] * 4))
    assert len(set(made)) == 1
    assert [f.name for f in made[0].parent.iterdir()] == ["demo"]
    before = made[0].stat().st_mtime_ns
    assert make_demo("demo").stat().st_mtime_ns == before
