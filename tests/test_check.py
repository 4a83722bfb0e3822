"""What `check` tells of the library's models: on disk or not, in which state, on which box, and what else would do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from engine.catalog import load_catalog
from engine.compat import machine as machines
from engine.compat.anatomy import read_anatomy
from engine.compat.fallback import Alternative
from engine.compat.finding import Finding, Remedy
from engine.compat.identify import component_parameters, parameters
from engine.compat.machine import Machine, this_machine
from engine.hardware import Card
from engine.library.item import Item
from engine.runtime import check as checking
from engine.runtime.check import check, subject
from engine.runtime.report import Report
from engine.units import counted
from engine.units import parameters as in_words
from tests.corpus import Bench, split
from tests.giant import giant
from tests.runs import environment, wan_tui
from tests.shelf import Shelf, flip, make_shelf
from tests.test_recognise import lora, modules, prefixed, wan, write_gguf, write_safetensors
from wan_tui.cli.check import lines
from wan_tui.cli.layout import cut, laid_out
from wan_tui.text import plain

GB = 10**9
TWO = ["tokenizer", "text_encoder", "transformer", "transformer_2", "vae", "scheduler"]


def report(reference: object = "tiny") -> Report:
    catalog = load_catalog()
    return check(subject(str(reference), catalog), catalog)


def codes(found: Report, severity: str | None = None) -> list[str]:
    return [finding.code for finding in found.findings if severity in (None, finding.severity)]


def of_code(found: Report, code: str) -> Finding:
    return next(finding for finding in found.findings if finding.code == code)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]) -> Iterator[Shelf]:
    """A library with tiny models that run, of one expert and of two, and variants that do not run."""
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    with make_shelf(tmp_path, monkeypatch) as shelf:
        hub = tmp_path / "hub" / "demo"
        split(Path(shutil.copytree(tiny_model("t2v"), hub / "tiny")))
        shutil.copytree(tiny_model("t2v-two"), hub / "pair")
        (hub / "files").mkdir()
        write_gguf(hub / "files" / "Wan2.2-T2V-HighNoise.gguf", {"blocks.0.x": (4,)})
        small = {name: tuple(min(side, 4) for side in shape) for name, shape in lora(modules("1.3B"), 4).items()}
        write_safetensors(hub / "files" / "lora.safetensors", small)
        table = {name: tuple(min(side, 4) for side in shape) for name, shape in wan("1.3B").items()}
        write_safetensors(hub / "files" / "fp8.safetensors", prefixed(table, "model.diffusion_model."))
        for file in hub.rglob("*"):
            os.utime(file, (1, 1))
        variants = [
            {"name": "bf16", "kind": "bf16"},
            {"name": "q4", "kind": "gguf", "repo": "demo/files", "files": ["Wan2.2-T2V-HighNoise.gguf"]},
            {"name": "fp8", "kind": "fp8-scaled", "repo": "demo/files", "files": ["fp8.safetensors"]},
            {"name": "light", "kind": "lora-4-steps", "repo": "demo/files", "files": ["lora.safetensors"]},
        ]
        model = {"title": "Tiny", "family": "t2v", "revision": "main"}
        pair = {**model, "repo": "demo/pair", "boundary_ratio": 0.875, "required": TWO, "allowed": []}
        tiny = {**model, "repo": "demo/tiny", "variants": variants}
        shelf.write_manifest(**{"tiny@1.0": tiny, "pair@1.0": pair})
        yield shelf


def file(shelf: Shelf, name: str, reference: str = "tiny") -> Path:
    return shelf.file(name, reference).path


VAE = "vae/diffusion_pytorch_model.safetensors"

# ── In the library ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_catalog_model_that_is_absent_is_judged_from_the_catalog() -> None:
    found = report("t2v-A14B")
    assert found.verdict == "conditions" and found.state == "absent"
    absent = of_code(found, "model-absent")
    assert absent.actions == ("download",) and "126.2 GB" in absent.message
    assert absent.remedies[0].command == "wan-tui models download t2v-A14B@2.2.0"
    assert (found.family, found.version, found.need and found.need.component) == ("t2v", "2.2", "transformer")


@pytest.mark.parametrize("id", [spec.id for spec in load_catalog().models])
def test_every_model_of_the_catalog_can_be_asked_about(id: str) -> None:
    found = report(id)
    families = ("t2v", "i2v", "ti2v")
    expected = "runs" if id == "demo@1" else "conditions" if found.family in families else "cannot-run"
    assert found.verdict == expected, found.findings
    assert ("not-yet" in codes(found)) == (expected == "cannot-run")
    json.dumps(found.as_dict())


def test_from_absent_to_verified(shelf: Shelf) -> None:
    assert (report().verdict, report().state) == ("conditions", "absent")
    shelf.download("tiny")
    found = report()
    assert (found.verdict, found.state) == ("runs", "verified") and found.path
    assert not codes(found, "error") and not codes(found, "warning")
    gone = file(shelf, VAE)
    gone.unlink()
    found = report()
    assert (found.verdict, found.state) == ("conditions", "partial")
    assert (
        of_code(found, "model-absent").actions == ("download",) and "in part" in of_code(found, "model-absent").message
    )


def test_complete_is_enough(shelf: Shelf, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Files that lie in the right place and were never hashed."""
    shelf.download("tiny")
    state = Path(os.environ["XDG_STATE_HOME"])
    shutil.rmtree(state)
    state.mkdir()
    found = report()
    assert (found.verdict, found.state) == ("runs", "complete")


def test_a_damaged_copy_is_to_be_repaired(shelf: Shelf) -> None:
    shelf.download("tiny")
    damaged = file(shelf, VAE)
    damaged.chmod(0o600)
    flip(damaged)
    shelf.verify("tiny")
    found = report()
    assert (found.verdict, found.state) == ("cannot-run", "corrupt")
    corrupt = of_code(found, "model-corrupt")
    assert VAE in corrupt.message and corrupt.actions == ("repair",)
    assert corrupt.remedies[0].command == "wan-tui models verify tiny@1.0 --repair"


def test_swapped_experts_are_told_from_damage(shelf: Shelf) -> None:
    """A folder alone cannot tell: both experts have the same shapes. The listed SHA-256 can."""
    shelf.download("pair")
    assert report("pair").verdict == "runs"
    folder = report("pair").path
    assert folder
    (folder / "transformer").rename(folder / "aside")
    (folder / "transformer_2").rename(folder / "transformer")
    (folder / "aside").rename(folder / "transformer_2")
    assert report(folder).verdict == "runs"
    shelf.verify("pair")
    found = report("pair")
    assert found.verdict == "cannot-run" and codes(found, "error") == ["swapped-experts"]
    swapped = of_code(found, "swapped-experts")
    assert swapped.actions == ("repair",) and "other's place" in swapped.message


def test_bf16_is_made_here(shelf: Shelf) -> None:
    found = report("tiny:bf16")
    assert found.verdict == "conditions" and of_code(found, "model-absent").actions == ("download",)
    assert of_code(found, "model-absent").remedies[0].command == "wan-tui models download tiny@1.0:bf16"
    shelf.download("tiny:bf16")
    found = report("tiny:bf16")
    assert found.verdict == "runs", found.findings
    assert found.anatomy and found.anatomy.components["transformer"].dtypes[0] == "BF16"


@pytest.mark.parametrize(("variant", "word"), [("q4", "unknown weights"), ("light", "LoRA of rank 4"), ("fp8", "Wan")])
def test_variants_that_do_not_run_yet_are_recognised(shelf: Shelf, variant: str, word: str) -> None:
    found = report(f"tiny:{variant}")
    assert found.verdict == "cannot-run" and codes(found, "error")[0] == "not-yet"
    assert set(codes(found, "error")[1:]) <= {"missing-dependency"}  # of a kind that needs more packages
    assert of_code(found, "not-yet").remedies[0].command == "wan-tui check tiny@1.0"
    shelf.download(f"tiny:{variant}")
    found = report(f"tiny:{variant}")
    assert codes(found, "error")[0] == "not-yet" and found.anatomy
    assert any(word in one.name for one in found.anatomy.recognised.values()), found.anatomy.recognised


def test_a_listed_model_of_another_family(shelf: Shelf, tiny_model: Callable[[str], Path]) -> None:
    model = {"title": "Odd", "family": "t2v", "path": str(tiny_model("i2v-two"))}
    shelf.write_manifest(**{"odd@1.0": model})
    found = report("odd")
    assert found.verdict == "cannot-run" and codes(found, "error")[0] == "wrong-family"
    assert "i2v" in of_code(found, "wrong-family").message


def test_a_listed_folder_that_is_not_there(shelf: Shelf, tmp_path: Path) -> None:
    shelf.write_manifest(**{"gone@1.0": {"title": "Gone", "family": "t2v", "path": str(tmp_path / "gone")}})
    found = report("gone")
    assert found.verdict == "cannot-run" and codes(found, "error") == ["model-absent"]


# ── What is installed ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    own = Path(platformdirs.user_config_dir("wan-tui")) / "registry.toml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text('form = 1\n[models."ti2v-5B@2.2.0"]\nrequires = ["no-such-package>=2", "numpy>=999"]\n')
    found = report("ti2v-5B")
    missing = [finding for finding in found.findings if finding.code == "missing-dependency"]
    assert found.verdict == "cannot-run" and len(missing) == 2
    assert missing[0].remedies == (Remedy("install-deps", "wan-tui install-deps ti2v-5B@2.2.0"),)
    told = " ".join(finding.message for finding in missing)
    assert "no-such-package>=2, and it is not installed" in told and "numpy>=999, and 2." in told


def test_a_class_the_library_lacks(monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]) -> None:
    monkeypatch.setattr("engine.compat.libraries.has_class", lambda library, kind: kind != "WanPipeline")
    found = report(tiny_model("t2v"))
    assert found.verdict == "cannot-run" and codes(found, "error") == ["class-missing"]
    assert "WanPipeline" in of_code(found, "class-missing").message


# ── The box ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def card(gigabytes: float | None, capability: tuple[int, int] | None = (8, 9), name: str = "Card") -> Card:
    size = None if gigabytes is None else int(gigabytes * GB)
    return Card(f"GPU-{name}", name, size, size, capability)


def box(
    monkeypatch: pytest.MonkeyPatch, *cards: Card, ram: int = 256, torch: str | None = "cuda", disk: int = 1000
) -> None:
    real = this_machine()
    made = Machine(cards, "570.1", ram * GB, ram * GB, disk * GB, real.disk, torch, real.versions)
    monkeypatch.setattr(checking, "this_machine", lambda: made)


@pytest.mark.parametrize(
    ("cards", "torch", "ram", "expected"),
    [
        ((card(5),), "cuda", 256, {"vram-low"}),
        ((card(8),), "cuda", 256, {"size-too-large"}),
        ((card(24),), "cuda", 256, set()),  # 28.6 GB an expert: streamed
        ((card(24),), "cuda", 24, {"ram-low"}),
        ((card(80),), "cuda", 256, set()),
        ((card(80),), "hip", 256, set()),
        ((card(80, (7, 5)),), "cuda", 256, {"no-bf16"}),  # 57.2 GB in fp32
        ((card(48, (7, 5)),), "cuda", 256, {"no-bf16"}),
        ((card(80, None),), "cuda", 256, set()),
        ((card(80),), "cpu", 256, {"torch-without-gpu"}),
        ((card(80),), None, 256, {"cpu-only"}),
        ((), "cuda", 256, {"cpu-only"}),
        ((), "cpu", 32, {"cpu-only", "ram-low"}),
        ((card(80),), "cuda", 16, {"ram-low"}),
        ((card(8, name="small"), card(80, name="large")), "cuda", 256, set()),
        ((card(None, (9, 0), "MIG 1g.10gb"),), "cuda", 256, set()),  # its memory is not told
    ],
)
def test_the_box(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...], torch: str | None, ram: int, expected: set[str]
) -> None:
    box(monkeypatch, *cards, torch=torch, ram=ram)
    found = report("t2v-A14B")
    known = {"vram-low", "ram-low", "size-too-large", "no-bf16", "cpu-only", "torch-without-gpu"}
    assert known & set(codes(found)) == expected
    half = torch in ("cuda", "hip") and any(one.has_bf16 for one in cards)
    assert found.need and found.need.dtype == ("bf16" if half else "fp32")


def test_what_does_not_fit_has_a_way_out_and_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    box(monkeypatch, card(5))
    found = report("t2v-A14B")
    low = of_code(found, "vram-low")
    assert low.severity == "warning" and low.actions == ("lower-memory-profile",)
    assert "Card: for 1280x720, 81 frames it takes" in low.message and "than the 5.0 GB there" in low.message
    assert found.outlook and found.outlook.word == "no"
    (first,) = found.alternatives
    assert first.fits and not first.on_disk and first.command == "wan-tui models download t2v-1.3B@2.1.0"
    assert "one expert instead of two" in first.lost and any("billion parameters" in lost for lost in first.lost)


def test_a_size_that_alone_fits_is_a_condition(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of a folder is the one of the published model it is built like."""
    box(monkeypatch, card(8))
    for found in (report("t2v-A14B"), report(giant(load_catalog().find("t2v-A14B")[0], tmp_path / "giant"))):
        large = of_code(found, "size-too-large")
        assert "1280x720, 81 frames, does not fit on Card: it takes" in large.message
        assert large.suggestions == ("At 832x480 it fits.",)
        assert large.remedies[0].command == "wan-tui --run JOB.toml --set 'size=832*480'"
        assert (found.verdict, found.alternatives) == ("conditions", ())
        told = list(lines(found))
        assert told[0].endswith("runs, with conditions")
        assert any(
            line.startswith("memory   fits streamed: 832x480, 81 frames; its 1280x720 does not; ") for line in told
        )
        assert found.as_dict()["outlook"]["word"] == "at 480p"


def test_the_built_in_model_is_planned_by_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    box(monkeypatch, card(24))
    found = report("demo")
    assert (found.verdict, found.outlook and found.outlook.word) == ("runs", "fits")


def test_of_what_no_plan_is_made_the_largest_component_tells(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
    box(monkeypatch, card(0.0001))
    shelf.download("tiny")
    found = report("tiny")
    assert found.outlook is None and found.as_dict()["outlook"] is None
    low = of_code(found, "vram-low")
    assert "its vae takes" in low.message and "largest component alone" in (low.cause or "")
    assert any("largest component alone" in line for line in lines(found) if line.startswith("memory   "))


def test_what_is_on_disk_comes_first(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
    box(monkeypatch, card(5))
    shelf.download("tiny")
    found = report("t2v-A14B")
    assert (found.alternatives[0].id, found.alternatives[0].on_disk) == ("tiny@1.0", True)
    assert found.alternatives[0].command == "wan-tui models show tiny@1.0"
    assert [one.on_disk for one in found.alternatives] == [True, False, False]


def test_an_image_model_is_replaced_by_image_models(monkeypatch: pytest.MonkeyPatch) -> None:
    box(monkeypatch, card(12), ram=24)
    found = report("i2v-A14B")
    assert found.alternatives and all("image" in load_catalog().find(one.id)[0].tasks for one in found.alternatives)
    assert any(lost.startswith("does not do first-last") for lost in found.alternatives[0].lost)


def test_no_alternatives_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    box(monkeypatch, card(80))
    assert report("t2v-A14B").alternatives == ()


def test_a_disk_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    box(monkeypatch, card(80), disk=100)
    low = of_code(report("t2v-A14B"), "disk-low")
    assert "126.2 GB" in low.message and "100.0 GB free" in low.message and low.actions == ("free-disk",)
    box(monkeypatch, card(80), disk=200)
    assert "disk-low" not in codes(report("t2v-A14B"))


def test_what_torch_was_built_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read from the text of its version file; torch is not loaded."""
    for text, kind in (
        ("cuda: Optional[str] = '12.8'\nhip = None", "cuda"),
        ("cuda = None\nhip: str = '6.4'", "hip"),
        ("cuda = None\nhip = None", "cpu"),
    ):
        (tmp_path / "version.py").write_text(text)
        spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
        monkeypatch.setattr(machines.importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert machines._torch_for() == kind
    monkeypatch.setattr(machines.importlib.util, "find_spec", lambda name: None)
    assert machines._torch_for() is None


# ── What is left ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_usable_components(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    folder = Bench(tiny_model, tmp_path / "bench").copy("t2v-two")
    os.truncate(next((folder / "transformer").glob("*.safetensors")), 5000)
    found = report(folder)
    assert found.verdict == "cannot-run" and set(found.usable) == {"transformer_2", "vae", "text_encoder"}
    assert found.alternatives and found.alternatives[0].id


# ── Full size ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("id", ["t2v-A14B@2.2.0", "i2v-14B-480P@2.1.0", "ti2v-5B@2.2.0"])
def test_a_folder_of_full_size(tmp_path: Path, id: str) -> None:
    spec = load_catalog().find(id)[0]
    folder = giant(spec, tmp_path / "giant")
    found = report(folder)
    assert found.family == spec.family and found.version == spec.version[:3]
    assert id in found.like and not codes(found, "error"), found.findings
    assert found.anatomy and component_parameters(found.anatomy) == parameters(spec)
    assert read_anatomy(folder).largest
    if spec.two_experts:
        assert found.like == ("t2v-A14B@2.2.0",)
        assert parameters(spec)["transformer"] == 14_288_491_584
        assert found.as_dict()["architecture"]["experts"] == 2


def test_knowing_a_full_size_folder_needs_no_torch(tmp_path: Path) -> None:
    folder = giant(load_catalog().find("t2v-A14B")[0], tmp_path / "giant")
    script = (
        "import sys; from wan_tui.cli import main; main(['check', '--json', sys.argv[1]]);"
        "print(*{'torch', 'diffusers', 'transformers', 'numpy', 'textual'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr.strip() == "" and json.loads(done.stdout)["like"] == ["t2v-A14B@2.2.0"]


# ── In words ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    box(monkeypatch, card(5, name="RTX 4090"))
    told = list(lines(report(giant(load_catalog().find("t2v-A14B")[0], tmp_path / "giant"))))
    assert told[0] == "giant: does not fit this box as it is"
    assert told[1].startswith("warning  It does not fit on RTX 4090: for 1280x720, 81 frames it takes ")
    assert told[1].endswith("[vram-low]")
    assert told[2].startswith("  do:  ")
    instead = next(index for index, line in enumerate(told) if line.startswith("instead  "))
    assert told[instead].startswith("instead  t2v-1.3B@2.1.0: 1.4 instead of 14.3 billion parameters; ")
    assert "one expert instead of two" in told[instead]
    assert told[instead + 1] == "  do:  wan-tui models download t2v-1.3B@2.1.0"
    facts = told[told.index("model    Wan 2.2 t2v: text, built like t2v-A14B@2.2.0") :]
    assert {line.split()[0] for line in facts} <= {"model", "place", "part", "memory", "box", "known"}
    assert facts[1] == f"place    {tmp_path / 'giant'}"
    parts = [line for line in facts if line.startswith("part     ")]
    assert any(
        "transformer_2: WanTransformer3DModel, 14.3 billion parameters, 57.2 GB in F32" in part for part in parts
    )
    assert any("vae: AutoencoderKLWan 2.1" in part for part in parts)
    assert any(line.startswith("memory   does not fit: 1280x720, 81 frames; ") for line in facts)
    assert "largest component" not in "\n".join(told)
    assert any(line.startswith("box      RTX 4090 with 5.0 GB; 256.0 GB RAM") for line in facts)
    assert "[stored-in-fp32]" in "\n".join(told)


def test_where_there_is_no_gpu_nothing_is_said_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    box(monkeypatch, torch="cpu")
    found = report(giant(load_catalog().find("t2v-A14B")[0], tmp_path / "giant"))
    assert "stored-in-fp32" in codes(found)
    told = "\n".join(lines(found))
    assert "stored-in-fp32" not in told and "[cpu-only]" not in told
    assert "box      no GPU: all runs in fp32 on the CPU; " in told


def test_what_publishers_say_and_what_is_known_is_told() -> None:
    own = Path(platformdirs.user_config_dir("wan-tui")) / "registry.toml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text('form = 1\n[models."t2v-1.3B@2.1.0"]\nvram_advice_bytes = 24000000000\nnotes = ["A word."]\n')
    told = list(lines(report("t2v-1.3B")))
    assert any("at least 8.2 GB, better a card with 24.0 GB, as its publishers say" in line for line in told)
    assert "known    A word." in told


@pytest.mark.parametrize("width", [60, 80])
def test_a_report_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", "/models")
    box(monkeypatch, ram=25, disk=80)
    told = list(lines(report("t2v-A14B")))
    assert laid_out(told, None).split("\n") == told  # a script gets one line a finding
    shown = laid_out(told, width).split("\n")
    assert all(len(line) <= width for line in shown)
    assert " ".join(" ".join(shown).split()) == " ".join(" ".join(told).split())
    assert width < 80 or len(shown) <= 22  # beside the command and the next prompt
    assert [line for line in shown if line.startswith(" " * 9)]


def test_what_is_copied_and_long_words_stay_whole() -> None:
    long = "  do:  wan-tui check '/a folder " + "x" * 80 + " y'"
    assert laid_out([long], 60) == long
    assert laid_out([f"place    /{'x' * 80} (verified)"], 60).count("\n") == 0
    assert laid_out([f"warning  /{'x' * 80} is odd"], 60).split("\n")[1:] == [
        f"         /{'x' * 80}",
        "         is odd",
    ]
    assert laid_out([f"do       {'a sentence ' * 9}"], 60).split("\n")[1].startswith(" " * 9 + "sentence")
    assert laid_out(["warning  " + "t2v-A14B " * 9], 60).count("\n") == 1


def test_long_lists_are_cut() -> None:
    rows = [f"file     {number}" for number in range(20)]
    assert list(cut(rows, "file", "with --json")) == [*rows[:8], "file     and 12 more with --json"]
    assert list(cut(rows[:8], "file", "")) == rows[:8]


def test_a_variant_is_told_by_its_id() -> None:
    assert wan_tui("check", "t2v-A14B:gguf-q4").stdout.startswith("t2v-A14B@2.2.0:gguf-q4: cannot run\n")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_has_gone_does_not_change_the_verdict(more: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "wan_tui", "check", "s2v-14B", *more], env=environment(), stdout=gone,
            stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")


def test_parameters_in_words() -> None:
    counts = {0: "0", 999: "999", 20_100: "20.1 thousand", 999_999: "1 million", 14_288_491_584: "14.3 billion"}
    assert {count: in_words(count) for count in counts} == counts
    assert [counted(count, "note") for count in (0, 1, 2)] == ["0 notes", "1 note", "2 notes"]


def test_names_out_of_files_are_harmless(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    folder = Bench(tiny_model, tmp_path / "bench").copy(name="m\n\x1b[31mred\u202e" + os.fsdecode(b"\xff"))
    done = wan_tui("check", folder)
    assert done.returncode == 0 and "\x1b" not in done.stdout and "\u202e" not in done.stdout
    assert done.stdout.startswith(r"m\x0a\x1b[31mred\u202e\xff: runs")
    assert all(plain(line) == line for line in done.stdout.splitlines())
    assert plain("\t\x9b\u2028\ud800") == "\t" + r"\x9b\u2028\ud800"


def test_json_is_one_object(tiny_model: Callable[[str], Path]) -> None:
    done = wan_tui("check", tiny_model("t2v"), "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert (answer["verdict"], answer["family"], answer["task"]) == ("runs", "t2v", "text")
    assert answer["architecture"]["layout"] == "diffusers" and answer["environment"]["ram_bytes"] > 0
    for finding in answer["findings"]:
        assert {"severity", "code", "message", "cause", "actions"} <= finding.keys()


def test_the_demo_runs() -> None:
    done = wan_tui("check", "demo")
    assert done.returncode == 0 and done.stdout.startswith("demo@1: runs\n")


def test_alternatives_are_whole_in_json() -> None:
    one = Alternative("x@1", False, None, ("a",), "wan-tui models download x@1")
    assert one.as_dict() == {"id": "x@1", "on_disk": False, "fits": None, "lost": ["a"], "command": one.command}
    spec = load_catalog().find("ti2v-5B")[0]
    assert Item(replace(spec)).id == "ti2v-5B@2.2.0"
