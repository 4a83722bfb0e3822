"""Pickles are never opened and a model's code never runs, wherever they lie, until the user trusts exactly them.

A canary is a real pickle, or a real module, that makes a file when it is loaded. An audit hook sees every file that
this process opens and every class that an unpickler looks up, whoever asks for it.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from safetensors.torch import load_file

from engine.catalog import load_catalog
from engine.compat.anatomy import read_anatomy
from engine.compat.examine import admit
from engine.compat.finding import Finding
from engine.compat.folder import LOADABLE, ModelFolder, open_folder
from engine.compat.offer import make_offer
from engine.compat.trust import _write_over, copies, forget, read_store, remember
from engine.control import Control
from engine.errors import ModelError, RunError, WanError
from engine.events import Bus, JobFinished
from engine.jobfile import read_job
from engine.library.item import Item
from engine.paths import state_dir
from engine.pipelines.assemble import assemble
from engine.pipelines.components import Components, Placement
from engine.pipelines.families import recipe
from engine.runtime.check import check, subject
from engine.runtime.prepare import prepare
from engine.runtime.way import Traveller, travel
from engine.video.decode import frame_groups, pixels
from engine.voice import Voice
from tests.disks import small_disk
from tests.runs import PROGRAM, environment, events, job_file, wan_tui
from tests.shelf import MANNERS, Shelf, flip, make_shelf, sha256, tick

pytestmark = pytest.mark.sampled(4)

TinyModel = Callable[[str], Path]
BASE = recipe("t2v", "text").components
SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py")


class Witness:
    """What this process opens and unpickles, as the interpreter itself tells it."""

    def __init__(self) -> None:
        self.on = False
        self.below = ""
        self.opened: list[str] = []
        self.found: list[str] = []
        sys.addaudithook(self._heard)  # for good: there is no way to take one out

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(args[0], str) and args[0].startswith(self.below):
            self.opened.append(args[0])
        if event == "pickle.find_class":
            self.found.append(f"{args[0]}.{args[1]}")

    def clear(self) -> None:
        self.opened, self.found = [], []

    def forbidden(self) -> list[str]:
        return [path for path in self.opened if path.lower().endswith(SUFFIXES)]


WITNESS = Witness()


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    WITNESS.below, WITNESS.on = str(tmp_path), True
    yield WITNESS
    WITNESS.on = False


class Place:
    """A copy of a tiny model to tamper with, and the file that no canary may make."""

    def __init__(self, folder: Path, dead: Path) -> None:
        self.folder, self.dead = folder, dead

    @property
    def code(self) -> str:
        return f"open({str(self.dead)!r}, 'w').close()\n"

    def pickle(self, name: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(pickle.dumps(_Canary(self.dead)))
        return file

    def program(self, name: str, text: str = "") -> Path:
        file = self.folder / name
        file.write_text(self.code + text)
        return file

    def change(self, name: str, **values: Any) -> None:
        file = self.folder / name
        table = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(table | values))

    def findings(self) -> list[Finding]:
        catalog = load_catalog()
        return list(check(subject(str(self.folder), catalog), catalog).findings)

    def codes(self, severity: str = "error") -> set[str]:
        return {one.code for one in self.findings() if one.severity == severity}

    def run(self, **values: Any) -> JobFinished:
        """The way of a job, in this process."""
        file = job_file(self.folder.parent, self.folder, frames=5, steps=1, **values)
        asked = prepare(read_job(file), file, load_catalog())
        return travel(Traveller(asked, "job", Control(), Bus(), lambda **_: None))

    def offer(self) -> Any:
        return make_offer(self.item, read_anatomy(self.folder), Control(), print, MANNERS)

    def trust(self) -> None:
        offer = self.offer()
        remember(offer.record, offer.source)

    @property
    def item(self) -> Item:
        return Item(load_catalog().folder_spec("t2v", self.folder))

    def opened(self) -> ModelFolder:
        return admit(self.item, self.folder, BASE).folder


class _Canary:
    def __init__(self, dead: Path) -> None:
        self.dead = dead

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.dead), "w")


@pytest.fixture
def place(tiny_model: TinyModel, tmp_path: Path) -> Place:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("t2v"), folder)
    return Place(folder.resolve(), tmp_path / "canary-has-run")


def components(folder: ModelFolder) -> Components:
    where = Placement(torch.device("cpu"), torch.float32)
    return Components(folder, where, Control(), Voice(Bus(), "j", lambda: (None, None)))


# --- pickles ----------------------------------------------------------------------------------------------------------


def test_a_canary_is_a_canary(place: Place, witness: Witness) -> None:
    file = place.pickle("old.bin")
    witness.clear()
    pickle.loads(file.read_bytes()).close()
    assert place.dead.exists()
    assert witness.found
    assert witness.forbidden() == [str(file)]


BESIDE = (
    "transformer/diffusion_pytorch_model.bin",
    "text_encoder/pytorch_model.bin",
    "vae/diffusion_pytorch_model.pt",
    "tokenizer/spiece.bin",
    "tokenizer/vocab.PKL",
    "scheduler/state.pth",
    "training_args.bin",
    "optimizer.pt",
    "model.ckpt",
    "extra/old.bin",
)


def test_pickles_beside_safetensors_are_left_alone(place: Place, witness: Witness) -> None:
    for name in BESIDE:
        place.pickle(name)
    place.program("train.py")
    witness.clear()
    assert place.codes("note") >= {"pickle-ignored", "code-ignored"}
    assert "error" not in {one.severity for one in place.findings()}
    assert place.run().frames == 5
    assert (witness.forbidden(), witness.found) == ([], [])
    told = wan_tui("check", place.folder)
    ran = wan_tui("--run", job_file(place.folder.parent, place.folder, "again.toml"))
    assert (told.returncode, ran.returncode) == (0, 0), ran.stderr
    assert "never opened" in told.stdout
    assert not place.dead.exists()


def instead(name: str) -> Callable[[Place], None]:
    def tamper(place: Place) -> None:
        for file in (place.folder / Path(name).parent).glob("*.safetensors"):
            file.unlink()
        place.pickle(name)

    return tamper


def named(part: str, index: str, shard: str) -> Callable[[Place], None]:
    """An index of shards that names a pickle, with the pickle at that place."""

    def tamper(place: Place) -> None:
        place.pickle(f"{part}/canary.bin")
        (place.folder / part / index).write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard}}))

    return tamper


def also_index(place: Place) -> None:
    """The index that is looked at first is clean; the one the library follows is not."""
    named("transformer", "a.safetensors.index.json", "diffusion_pytorch_model.safetensors")(place)
    named("transformer", "diffusion_pytorch_model.safetensors.index.json", "canary.bin")(place)


def explicit(place: Place) -> None:
    place.pickle("text_encoder/adapter_model.bin")
    place.change("text_encoder/config.json", transformers_weights="adapter_model.bin")


def adapter(place: Place) -> None:
    place.pickle("text_encoder/adapter_model.bin")
    place.change("text_encoder/adapter_config.json", base_model_name_or_path=str(place.folder), peft_type="LORA")


SHARDS = "diffusion_pytorch_model.safetensors.index.json"
PICKLES: dict[str, tuple[Callable[[Place], Any], str]] = {
    "transformer": (instead("transformer/diffusion_pytorch_model.bin"), "pickled-weights"),
    "text-encoder": (instead("text_encoder/pytorch_model.bin"), "pickled-weights"),
    "vae-other-name": (instead("vae/weights.CKPT"), "pickled-weights"),
    "as-safetensors": (lambda place: place.pickle("text_encoder/model.safetensors"), "bad-weights"),
    "as-transformer": (
        lambda place: place.pickle("transformer/diffusion_pytorch_model.safetensors"),
        "bad-weights",
    ),
    "as-shard": (named("transformer", SHARDS, "canary.bin"), "bad-model-file"),
    "as-shard-above": (named("transformer", SHARDS, "../transformer/canary.bin"), "bad-model-file"),
    "second-index": (also_index, "pickled-weights"),
    "text-index": (named("text_encoder", "model.safetensors.index.json", "canary.bin"), "pickled-weights"),
    "as-config": (lambda place: place.pickle("transformer/config.json"), "bad-model-file"),
    "as-tokenizer-config": (lambda place: place.pickle("tokenizer/tokenizer_config.json"), "bad-model-file"),
    "named-by-config": (explicit, "refused-config"),
    "adapter": (adapter, "refused-config"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_anywhere_else_are_refused_unopened(name: str, place: Place, witness: Witness) -> None:
    tamper, code = PICKLES[name]
    tamper(place)
    witness.clear()
    assert code in place.codes()
    with pytest.raises(WanError) as refused:
        place.run()
    assert refused.value.status == 3
    assert (witness.forbidden(), witness.found) == ([], [])
    assert not place.dead.exists()


@pytest.mark.parametrize("name", ["transformer", "as-safetensors", "second-index", "as-config"])
def test_check_and_run_refuse_pickles_with_status_3(name: str, place: Place) -> None:
    PICKLES[name][0](place)
    job = job_file(place.folder.parent, place.folder)
    assert [wan_tui("check", place.folder).returncode, wan_tui("--run", job).returncode] == [3, 3]
    assert not place.dead.exists()


@pytest.mark.parametrize("name", ["canary.pt", "canary.ckpt", "canary.pkl", "only/canary.bin"])
def test_a_pickle_by_itself_is_refused_unopened(name: str, place: Place, witness: Witness) -> None:
    file = place.pickle(name)
    if "/" in name:
        file = file.parent
    witness.clear()
    assert Place(file, place.dead).codes() == {"pickled-weights"}
    assert (witness.forbidden(), witness.found) == ([], [])
    assert wan_tui("trust", "add", file, "--yes").returncode == 3
    assert not place.dead.exists()


@pytest.mark.parametrize("shard", ["../vae/canary.bin", "/canary.bin", "other.bin", "config.json"])
def test_an_index_of_trusted_pickles_names_those_alone(shard: str, place: Place, witness: Witness) -> None:
    instead("transformer/diffusion_pytorch_model.bin")(place)
    named("transformer", "diffusion_pytorch_model.bin.index.json", "diffusion_pytorch_model.bin")(place)
    place.trust()
    assert place.codes() == set()
    named("transformer", "diffusion_pytorch_model.bin.index.json", shard)(place)
    witness.clear()
    assert place.codes() & {"pickled-weights", "bad-model-file"}
    with pytest.raises(ModelError):
        place.opened()
    assert not place.dead.exists()


def test_a_refusal_names_the_file_the_reason_and_the_remedy(place: Place) -> None:
    instead("text_encoder/pytorch_model.bin")(place)
    told = json.loads(wan_tui("check", place.folder, "--json").stdout)
    found = next(one for one in told["findings"] if one["code"] == "pickled-weights")
    assert "pytorch_model.bin" in found["message"]
    assert "run any code" in found["cause"]
    assert found["actions"] == ["trust"]
    assert found["remedies"][0]["command"] == f"wan-tui trust add {place.folder}"
    line = events(wan_tui("--run", job_file(place.folder.parent, place.folder), "--json").stdout)[-1]
    assert (line["event"], line["code"], line["actions"]) == ("job-failed", "pickled-weights", ["trust"])


# --- code -------------------------------------------------------------------------------------------------------------


def own_pipeline(place: Place) -> None:
    place.program("canary.py", "class WanPipeline: pass\n")
    place.change("model_index.json", _class_name=["canary", "WanPipeline"])


def own_component(file: str) -> Callable[[Place], None]:
    def tamper(place: Place) -> None:
        place.program(file, "class WanTransformer3DModel: pass\n")
        place.change("model_index.json", transformer=["canary", "WanTransformer3DModel"])

    return tamper


def config(file: str, **values: Any) -> Callable[[Place], None]:
    def tamper(place: Place) -> None:
        place.program("canary.py", "class A: pass\n")
        for part in LOADABLE:
            if (place.folder / part).is_dir():
                place.program(f"{part}/canary.py", "class A: pass\n")
        place.change(file, **values)

    return tamper


CODE: dict[str, tuple[Callable[[Place], Any], str, bool]] = {  # what is done, the finding, whether trust would help
    "pipeline": (own_pipeline, "remote-code", True),
    "component": (own_component("transformer/canary.py"), "remote-code", True),
    "beside-the-index": (own_component("canary.py"), "remote-code", True),
    "auto-map": (config("text_encoder/config.json", auto_map={"AutoModel": "canary.A"}), "remote-code", True),
    "auto-map-deep": (config("vae/config.json", deep=[{"auto_map": {"AutoModel": "canary.A"}}]), "remote-code", True),
    "tokenizer": (
        config("tokenizer/tokenizer_config.json", auto_map=["canary.A", None], trust_remote_code=True),
        "remote-code",
        True,
    ),
    "tokenizer-map": (
        config("tokenizer/config.json", auto_map={"AutoTokenizer": [None, "canary.A"]}),
        "remote-code",
        True,
    ),
    "elsewhere": (config("transformer/config.json", auto_map={"AutoModel": "own/er--canary.A"}), "remote-code", False),
    "path": (config("transformer/config.json", auto_map={"AutoModel": "../canary.A"}), "remote-code", False),
    "dots": (config("model_index.json", transformer=["a..b", "A"]), "remote-code", False),
    "absolute": (config("vae/config.json", auto_map={"AutoModel": "/canary.A"}), "remote-code", False),
    "package": (config("model_index.json", _class_name=["__init__", "A"]), "remote-code", False),
    "custom-pipeline": (config("model_index.json", custom_pipeline="canary"), "remote-code", False),
    "custom-elsewhere": (config("model_index.json", custom_pipeline="own/er"), "remote-code", False),
    "installed": (config("model_index.json", vae=["subprocess", "Popen"]), "no-code", False),
    "own-tests": (config("model_index.json", scheduler=["tests", "tiny"]), "no-code", False),
    "forged": (
        config("vae/config.json", auto_map={"AutoModel\n  (none of it is code)\nTrusted by Wan-AI": "canary.A"}),
        "remote-code",
        False,
    ),
    "no-class": (config("model_index.json", vae=["diffusers", "utils"]), "class-refused", False),
    "kernel": (config("text_encoder/config.json", attn_implementation="own/er"), "refused-config", False),
    "kernel-private": (config("text_encoder/config.json", _attn_implementation="own/er:f"), "refused-config", False),
    "kernel-internal": (
        config("text_encoder/config.json", _attn_implementation_internal="own/er"),
        "refused-config",
        False,
    ),
    "experts-internal": (
        config("text_encoder/config.json", _experts_implementation_internal="own/er"),
        "refused-config",
        False,
    ),
    "quantised": (
        config("transformer/config.json", quantization_config={"quant_method": "x"}),
        "refused-config",
        False,
    ),
    "tokenizer-file": (
        config("tokenizer/tokenizer_config.json", fast_tokenizer_files=["tokenizer./../x.json"]),
        "refused-config",
        False,
    ),
}


@pytest.mark.parametrize("name", CODE)
def test_code_is_refused_unopened(name: str, place: Place, witness: Witness) -> None:
    tamper, code, curable = CODE[name]
    tamper(place)
    witness.clear()
    before = set(sys.modules)
    found = [one for one in place.findings() if one.code == code and one.severity == "error"]
    assert found
    assert {one.actions for one in found} == {("trust",) if curable else ()}
    with pytest.raises(WanError) as refused:
        place.run()
    assert refused.value.status == 3
    assert (witness.forbidden(), witness.found) == ([], [])
    assert not place.dead.exists()
    assert not [module for module in set(sys.modules) - before if "canary" in module or "trusted_" in module]


@pytest.mark.parametrize("name", ["pipeline", "component", "tokenizer"])
def test_check_run_and_test_load_refuse_code_with_status_3(name: str, place: Place) -> None:
    CODE[name][0](place)
    job = job_file(place.folder.parent, place.folder)
    said = wan_tui("--run", job)
    others = [wan_tui("check", place.folder), wan_tui("test-load", place.folder, "--smoke-test")]
    assert [said.returncode, *(one.returncode for one in others)] == [3, 3, 3]
    assert "wan-tui trust add" in said.stderr
    assert not place.dead.exists()


@pytest.mark.parametrize("name", [name for name, (_, _, curable) in CODE.items() if not curable and name != "no-class"])
def test_what_no_trust_allows_cannot_be_trusted(name: str, place: Place) -> None:
    CODE[name][0](place)
    with pytest.raises(ModelError):
        place.offer()
    assert not read_store().records


@pytest.mark.parametrize("key", ["../x", "a/b", "", "-x", "x\n", "/etc"])
def test_a_component_is_named_plainly(key: str, place: Place) -> None:
    place.change("model_index.json", **{key: ["diffusers", "AutoencoderKLWan"]})
    assert open_folder(place.folder).rebuilt  # the index is not believed


def test_without_trust_the_loaders_themselves_refuse(place: Place) -> None:
    own_pipeline(place)
    own_component("transformer/canary.py")(place)
    held = components(open_folder(place.folder))
    for load in (lambda: assemble(held, "WanPipeline"), lambda: held.bring("transformer")):
        with pytest.raises(ModelError):
            load()
    assert not place.dead.exists()


def test_code_of_another_repository_is_refused_with_the_reason(place: Place) -> None:
    CODE["elsewhere"][0](place)
    found = next(one for one in place.findings() if one.code == "remote-code")
    assert "somewhere else" in found.message
    assert "whether or not the model is trusted" in (found.cause or "")


@pytest.mark.parametrize("name", ["transformer/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"])
def test_without_trust_the_loaders_themselves_open_no_pickle(name: str, place: Place, witness: Witness) -> None:
    instead(name)(place)
    witness.clear()
    with pytest.raises(ModelError):
        components(open_folder(place.folder)).bring(name.split("/")[0])
    assert (witness.forbidden(), witness.found) == ([], [])


# --- trust ------------------------------------------------------------------------------------------------------------

OWN = """
from diffusers import WanPipeline

from .level import LEVEL


class Flat(WanPipeline):
    def __init__(
        self, tokenizer, text_encoder, vae, scheduler, transformer=None, transformer_2=None, boundary_ratio=None,
        expand_timesteps=False, times=1.0,
    ):
        super().__init__(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, scheduler=scheduler, transformer=transformer,
            transformer_2=transformer_2, boundary_ratio=boundary_ratio, expand_timesteps=expand_timesteps,
        )
        self.register_to_config(times=times)

    def __call__(self, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        made.frames = made.frames * 0 + LEVEL * self.config.times
        return made
"""


def flat(place: Place, times: float = 2.0) -> None:
    """A pipeline of its own that draws one flat colour, whatever the weights; it uses another file, and a setting."""
    (place.folder / "flat.py").write_text(OWN)
    (place.folder / "level.py").write_text("LEVEL = 0.25\n")
    place.change("model_index.json", _class_name=["flat", "Flat"], times=times)


def pixels_of(folder: Path | str | None) -> list[bytes]:
    return [Image.open(file).tobytes() for file in sorted(Path(str(folder)).glob("*.png"))]


def is_flat(folder: Path | str | None, model: Path) -> bool:
    """Whether these frames are what the model's VAE makes of the latents of `flat`: of one number all over."""
    vae = AutoencoderKLWan.from_pretrained(model / "vae").eval()
    groups = frame_groups(vae, torch.full((1, 16, 2, 8, 8), 0.5), lambda: None)
    return pixels_of(folder) == [frame.tobytes() for group in groups for frame in pixels(group)]


@pytest.mark.early
def test_a_trusted_pipeline_runs_until_a_byte_of_it_changes(place: Place) -> None:
    flat(place)
    job = job_file(place.folder.parent, place.folder, output={"path": "frames"}, frames=5, steps=1)
    refused = wan_tui("trust", "add", place.folder, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "Nothing was done" in refused.stderr
    for name in ("flat.py", "level.py"):  # shown before anything is agreed
        assert f"{name}, " in refused.stderr
        assert sha256(place.folder / name) in refused.stderr
    assert json.loads(wan_tui("trust", "list", "--json").stdout) == []
    assert wan_tui("--run", job).returncode == 3
    added = wan_tui("trust", "add", place.folder, "--yes", "--json")
    assert added.returncode == 0, added.stderr
    listed = json.loads(wan_tui("trust", "list", "--json").stdout)
    assert listed == [json.loads(added.stdout)]
    assert [(one["path"], one["sha256"]) for one in listed[0]["files"]] == [
        (name, sha256(place.folder / name)) for name in ("flat.py", "level.py")
    ]
    report = wan_tui("check", place.folder, "--json")
    assert (report.returncode, json.loads(report.stdout)["verdict"]) == (0, "conditions")
    ran = wan_tui("--run", job, "--json")
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert [line["code"] for line in events(ran.stdout) if line["event"] == "warning"][:1] == ["trusted"]
    assert is_flat(place.folder.parent / "frames", place.folder)
    loaded = wan_tui("test-load", place.folder)
    assert loaded.returncode == 0, loaded.stderr

    flip(place.folder / "level.py")
    first, second = wan_tui("--run", job, "--json"), wan_tui("--run", job, "--json")
    assert [first.returncode, second.returncode] == [3, 3]
    assert events(first.stdout)[-1]["code"] == "trust-changed"
    assert "revoked" in events(first.stdout)[-1]["message"]
    assert events(second.stdout)[-1]["code"] == "remote-code"
    assert json.loads(wan_tui("trust", "list", "--json").stdout) == []


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_trust_is_asked_for_on_a_terminal(answer: str, place: Place) -> None:
    flat(place)
    status, _ = asked(place, lambda ours, _: os.write(ours, f"{answer}\n".encode()))
    assert status == (0 if answer == "y" else 130)
    assert bool(read_store().records) == (answer == "y")


def asked(
    place: Place, then: Callable[[int, subprocess.Popen[bytes]], Any], ahead: bytes = b"", question: bytes = b"[y/N] "
) -> tuple[int, bytes]:
    """`trust add` on a terminal: what is done once it asks; its status, and all that stood on the screen."""
    ours, theirs = os.openpty()
    os.write(ours, ahead)
    command = [*PROGRAM, "trust", "add", str(place.folder)]
    seen = b""
    with subprocess.Popen(
        command, env=environment(), stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 4096):
                before, seen = question in seen, seen + data
                if not before and question in seen:
                    then(ours, process)
    os.close(ours)
    return process.returncode, seen


def test_what_was_typed_before_the_question_is_no_answer(place: Place) -> None:
    flat(place)
    status, _ = asked(place, lambda ours, _: os.write(ours, b"n\n"), ahead=b"y\n")
    assert status == 130
    assert not read_store().records


def test_a_stop_at_the_question_ends_its_line(place: Place) -> None:
    flat(place)
    status, seen = asked(place, lambda _, process: process.send_signal(signal.SIGINT))
    assert status == 130
    assert seen.endswith(b"[y/N] \r\n")


def test_an_untrusted_pipeline_is_not_the_one_that_draws(place: Place) -> None:
    """What `is_flat` sees is the work of the code alone."""
    assert not is_flat(place.run(output={"path": "frames"}).output, place.folder)


def test_trusted_code_is_imported_as_a_package_of_its_own(place: Place) -> None:
    flat(place)
    (place.folder / "os.py").write_text("raise RuntimeError('this is not os')\n")
    place.trust()
    paths, os_module = list(sys.path), sys.modules["os"]
    kind = type(assemble(components(place.opened()), "WanPipeline"))
    assert kind.__name__ == "Flat"
    assert kind.__module__.startswith("wan_tui_trusted_")
    assert (sys.path, sys.modules["os"]) == (paths, os_module)
    assert "flat" not in sys.modules
    assert Path(sys.modules[kind.__module__].__file__ or "").is_relative_to(copies())


def test_code_runs_from_the_private_copy_and_is_hashed_right_before(place: Place) -> None:
    flat(place)
    place.trust()
    folder = place.opened()
    (place.folder / "flat.py").write_text(place.code)  # after it was compared: it is not what runs
    assert type(assemble(components(folder), "WanPipeline")).__name__ == "Flat"
    assert not place.dead.exists()

    (place.folder / "flat.py").write_text(OWN + "\n# another\n")
    place.trust()
    folder = place.opened()
    copy = next(file for file in copies().rglob("flat.py") if file.read_text().endswith("# another\n"))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == stat.S_IMODE(copies().stat().st_mode) == 0o700
    copy.write_text(place.code + OWN)
    with pytest.raises(ModelError) as refused:
        assemble(components(folder), "WanPipeline")
    assert refused.value.code == "trust-changed"
    assert not place.dead.exists()


def test_code_that_breaks_is_said_to(place: Place) -> None:
    for text in ("raise SystemExit(7)\n", "class Flat: pass\n", "Flat = 3\n", "def (\n"):
        place.program("flat.py", text)
        place.change("model_index.json", _class_name=["flat", "Flat"])
        place.trust()
        with pytest.raises(ModelError) as broken:
            assemble(components(place.opened()), "WanPipeline")
        assert broken.value.code == "bad-code", text


def test_a_trusted_component_is_built_from_its_code(place: Place) -> None:
    """One named by the index in its folder, one by an auto_map."""
    text = "from diffusers import WanTransformer3DModel\nclass Mine(WanTransformer3DModel): pass\n"
    (place.folder / "transformer" / "mine.py").write_text(text)
    place.change("model_index.json", transformer=["mine", "Mine"])
    text = "from transformers import UMT5EncoderModel\nclass Other(UMT5EncoderModel): pass\n"
    (place.folder / "text_encoder" / "other.py").write_text(text)
    place.change("text_encoder/config.json", auto_map={"AutoConfig": "other.No", "AutoModel": "other.Other"})
    place.trust()
    held = components(place.opened())
    assert [type(held.bring(name)).__name__ for name in ("transformer", "text_encoder", "vae")] == [
        "Mine",
        "Other",
        "AutoencoderKLWan",
    ]
    assert place.run().frames == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda place: place.change("model_index.json", _class_name=["flat", "Other"]),
        lambda place: place.change("model_index.json", _class_name=["level", "Flat"]),
        lambda place: (place.folder / "level.py").unlink(),
        lambda place: place.change("text_encoder/config.json", auto_map={"AutoModel": "x.Y"}),
        instead("text_encoder/pytorch_model.bin"),
        lambda place: flip(place.folder / "flat.py"),
        lambda place: ((place.folder / "flat.py").unlink(), (place.folder / "flat.py").mkdir()),
    ],
)
def test_whatever_else_is_asked_for_takes_the_trust_back(change: Callable[[Place], Any], place: Place) -> None:
    flat(place)
    place.trust()
    assert place.codes() == set()
    change(place)
    assert "trust-changed" in place.codes()
    assert not read_store().records
    assert not list(copies().iterdir())
    assert place.codes() >= {"remote-code"}


def test_pickles_that_are_trusted_are_read_with_weights_only(place: Place, witness: Witness) -> None:
    parts = {
        "transformer": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        "text_encoder": ("model.safetensors", "pytorch_model.bin"),
    }
    before = {part: load_file(place.folder / part / old) for part, (old, _) in parts.items()}
    for part, (old, new) in parts.items():
        torch.save(before[part], place.folder / part / new)
        (place.folder / part / old).unlink()
    place.trust()
    held = components(place.opened())
    for part, tensors in before.items():
        now = held.bring(part).state_dict()
        assert all(torch.equal(now[name], tensor) for name, tensor in tensors.items())
    witness.clear()
    assert place.run().frames == 5
    assert {Path(path).name for path in witness.forbidden()} == {new for _, new in parts.values()}
    assert not witness.found  # the unpickler of weights_only looks nothing up

    tick()
    file = place.pickle("transformer/diffusion_pytorch_model.bin")
    assert place.codes() == {"trust-changed"}
    assert file.read_bytes() == pickle.dumps(_Canary(place.dead))


@pytest.mark.parametrize("name", ["transformer/diffusion_pytorch_model.bin", "text_encoder/pytorch_model.bin"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_trusted_canary_still_does_not_run(
    name: str, zipped: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    instead(name)(place)
    if zipped:
        torch.save({"a": _Canary(place.dead)}, place.folder / name)
    place.trust()
    assert "trusted" in place.codes("warning")
    with pytest.raises(ModelError) as refused:
        components(place.opened()).bring(name.split("/")[0])
    assert refused.value.code == "bad-component"
    assert not place.dead.exists()


# --- the store --------------------------------------------------------------------------------------------------------


def record(place: Place) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((state_dir() / "trust.json").read_text())
    return table["models"][str(place.folder)]


def rewrite(place: Place, change: Callable[[dict[str, Any]], Any]) -> None:
    file = state_dir() / "trust.json"
    row = record(place)
    change(row)
    file.write_text(json.dumps({"version": 1, "models": {str(place.folder): row}}))


HOSTILE: dict[str, Callable[[Place], Any]] = {
    "cut": lambda place: (state_dir() / "trust.json").write_text('{"version": 1, "mod'),
    "empty": lambda place: (state_dir() / "trust.json").write_text(""),
    "list": lambda place: (state_dir() / "trust.json").write_text("[]"),
    "deep": lambda place: (state_dir() / "trust.json").write_text("[" * 100_000),
    "binary": lambda place: (state_dir() / "trust.json").write_bytes(b"\xff\xfe\x00"),
    "pickle": lambda place: (state_dir() / "trust.json").write_bytes(pickle.dumps(_Canary(place.dead))),
    "folder": lambda place: ((state_dir() / "trust.json").unlink(), (state_dir() / "trust.json").mkdir()),
    "path": lambda place: rewrite(place, lambda row: row["code"].update({"../../x.py": row["code"]["flat.py"]})),
    "no-code": lambda place: rewrite(place, lambda row: row["code"].clear()),
    "sha": lambda place: rewrite(place, lambda row: row["code"]["flat.py"].update(sha256="0")),
    "number": lambda place: rewrite(place, lambda row: row.update(when=5)),
    "class": lambda place: rewrite(place, lambda row: row["uses"].update(pipeline=["other.py", "Flat"])),
    "others": lambda place: (state_dir() / "trust.json").chmod(0o666),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_store_trusts_nobody(name: str, place: Place) -> None:
    flat(place)
    place.trust()
    assert stat.S_IMODE((state_dir() / "trust.json").stat().st_mode) == 0o600
    HOSTILE[name](place)
    codes = [one.code for one in place.findings() if one.severity != "note"]
    assert codes.count("remote-code") == codes.count("trust-unreadable") == 1
    with pytest.raises(ModelError):
        place.opened()
    assert not place.dead.exists()


def test_a_damaged_store_is_put_aside_when_trust_is_given_again(place: Place) -> None:
    flat(place)
    (state_dir() / "trust.json").write_text("{}")
    assert wan_tui("trust", "list").stderr.count("warning:") == 1
    assert wan_tui("trust", "revoke", place.folder).returncode == 3
    added = wan_tui("trust", "add", place.folder, "--yes")
    assert added.returncode == 0
    assert str(state_dir() / "trust.broken") in added.stderr
    assert place.codes() == set()
    assert (state_dir() / "trust.broken").read_text() == "{}"


def test_trust_is_of_one_folder(place: Place) -> None:
    flat(place)
    place.trust()
    other = place.folder.with_name("other")
    shutil.copytree(place.folder, other)
    assert "remote-code" in Place(other, place.dead).codes()
    link = place.folder.with_name("link")
    link.symlink_to(place.folder)
    assert Place(link, place.dead).codes() == set()  # the same folder under another name
    assert wan_tui("trust", "revoke", link).returncode == 0
    assert "remote-code" in place.codes()
    assert not list(copies().iterdir())


def test_a_folder_that_is_gone_can_be_revoked(place: Place) -> None:
    flat(place)
    place.trust()
    shutil.rmtree(place.folder)
    assert wan_tui("trust", "revoke", place.folder).returncode == 0
    assert not read_store().records


def test_a_model_without_risks_has_nothing_to_trust(place: Place) -> None:
    told = wan_tui("trust", "add", place.folder, "--yes")
    assert told.returncode == 2
    assert "nothing to trust" in told.stderr
    assert wan_tui("trust", "add", "no-such-model", "--yes").returncode == 2
    assert wan_tui("trust", "revoke", place.folder).returncode == 3


def test_plain_names_in_small_numbers_and_sizes_alone_are_trusted(place: Place) -> None:
    flat(place)
    for name in ("with space.py", "-dash.py", "__init__.py", "ünï.py"):
        (place.folder / name).write_text(place.code)
    (place.folder / "sub").mkdir()
    (place.folder / "sub" / "deep.py").write_text(place.code)
    assert sorted(place.offer().source) == ["flat.py", "level.py"]
    (place.folder / "large.py").write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ModelError):
        place.offer()
    (place.folder / "large.py").unlink()
    os.mkfifo(place.folder / "pipe.py")
    with pytest.raises(ModelError):
        place.offer()
    (place.folder / "pipe.py").unlink()
    for number in range(50):
        (place.folder / f"n{number}.py").write_text("")
    with pytest.raises(ModelError) as refused:
        place.offer()
    assert refused.value.code == "too-much-code"


# --- no state folder, a full disk -------------------------------------------------------------------------------------


@pytest.fixture(params=["file", "read-only"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that cannot be made."""
    state = tmp_path / "no-state"
    if request.param == "file":
        state.write_text("")
    else:
        state = Path("/proc/no-state")  # where even root makes no folder
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    return state


@pytest.mark.soak
def test_without_a_state_folder_nothing_is_trusted(nowhere: Path, place: Place) -> None:
    flat(place)
    assert read_store().records == {}
    assert place.codes() == {"remote-code"}
    told = wan_tui("trust", "list")
    assert (told.returncode, told.stdout, told.stderr) == (0, "No model is trusted.\n", "")
    assert json.loads(wan_tui("check", place.folder, "--json").stdout)["verdict"] == "cannot-run"
    assert wan_tui("--run", job_file(place.folder.parent, place.folder)).returncode == 3
    assert wan_tui("trust", "revoke", place.folder).returncode == 3
    told = wan_tui("trust", "add", place.folder, "--yes", "--json")
    error = json.loads(told.stdout)
    assert (told.returncode, error["code"]) == (1, "trust-not-kept")
    assert str(nowhere) in error["message"]
    assert error["cause"]
    assert error["suggestions"]


def test_reading_what_is_trusted_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "later"))
    assert not read_store().records
    assert forget("mine@1.0") is None
    assert not (tmp_path / "later").exists()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk of its own for the state folder."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        monkeypatch.setenv("XDG_STATE_HOME", str(disk))
        yield disk


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 1024):
            pass


def test_trust_is_taken_back_on_a_full_disk(disk: Path, place: Place) -> None:
    flat(place)
    other = Place(place.folder.with_name("other"), place.dead)
    shutil.copytree(place.folder, other.folder)
    (other.folder / "level.py").write_text("LEVEL = 7\n")
    place.trust()
    other.trust()
    fill(disk)
    told = wan_tui("trust", "revoke", place.folder)
    assert told.returncode == 0, told.stderr
    assert list(read_store().records) == [str(other.folder)]
    assert other.codes() == set()
    assert [copy.name for copy in copies().iterdir()] == [read_store().records[str(other.folder)].name]


def test_trust_that_cannot_be_taken_back_is_not_said_to_be(place: Place) -> None:
    flat(place)
    place.trust()
    flip(place.folder / "level.py")
    (state_dir() / "trust.json.lock").unlink()
    (state_dir() / "trust.json.lock").mkdir()
    found = next(one for one in place.findings() if one.code == "trust-changed")
    assert "has been revoked" not in found.message
    assert "could not be taken back" in found.message
    assert "nothing of it runs" in found.message
    told = wan_tui("trust", "revoke", place.folder, "--json")
    assert (told.returncode, json.loads(told.stdout)["code"]) == (1, "trust-not-kept")
    with pytest.raises(ModelError):
        place.opened()


CUT = """
import os, sys
from pathlib import Path
from engine.compat.trust import _write_over
left = int(sys.argv[2])
def cut(file):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
os.fsync = cut
_write_over(Path(sys.argv[1]), b'{"models": {}}')
"""


@pytest.mark.parametrize("steps", [0, 1])
def test_a_store_that_is_written_over_in_part_is_none(steps: int, tmp_path: Path) -> None:
    """Whatever a crash leaves is no JSON, and so trusts nobody."""
    file = tmp_path / "store"
    file.write_bytes(b'{"models": {"a": 1}}')
    died = subprocess.run([sys.executable, "-c", CUT, str(file), str(steps)], env=environment())
    assert died.returncode == 9
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(file.read_bytes())
    _write_over(file, b'{"models": {}}')
    assert file.read_bytes() == b'{"models": {}}'


def test_trust_that_fails_leaves_no_copy(disk: Path, place: Place) -> None:
    flat(place)
    state_dir()
    (state_dir() / "trust.json.lock").touch()
    fill(disk)
    with pytest.raises(RunError) as refused:
        place.trust()
    assert refused.value.code == "trust-not-kept"
    assert not copies().exists()


# --- what is said -----------------------------------------------------------------------------------------------------


def test_names_of_strangers_forge_no_line(place: Place) -> None:
    instead("transformer/diffusion_pytorch_model.bin")(place)
    place.pickle("transformer/x\nTrusted by Wan-AI\u2028Trusted too.bin")
    for told in (wan_tui("trust", "add", place.folder, "--yes"), wan_tui("trust", "list")):
        assert told.returncode == 0
        lines = (told.stdout + told.stderr).splitlines()
        assert not [line for line in lines if line.startswith("Trusted")]
        assert any("x\\x0aTrusted by Wan-AI" in line for line in lines)


def run_in_bash(command: str) -> subprocess.CompletedProcess[str]:
    """A remedy as a user would paste it."""
    program = f'wan-tui() {{ "{sys.executable}" -m wan_tui "$@"; }}\n{command}'
    return subprocess.run(["bash", "-c", program], env=environment(), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "name", ["my model's $HOME", "two\nlines 'of' \\n", os.fsdecode(b"b\xff\xe9 c"), "ünï \u202e x"]
)
@pytest.mark.sampled(2)
def test_remedies_work_as_they_are_printed(name: str, place: Place) -> None:
    flat(place)
    folder = place.folder.with_name(name)
    place.folder.rename(folder)
    place = Place(folder, place.dead)
    told = json.loads(wan_tui("check", folder, "--json").stdout)
    command = next(one["remedies"][0]["command"] for one in told["findings"] if one["code"] == "remote-code")
    assert "\n" not in command
    assert run_in_bash(f"{command} --yes").returncode == 0
    assert list(read_store().records) == [str(folder)]
    warning = next(one for one in place.findings() if one.code == "trusted")
    assert run_in_bash(warning.suggestions[0].partition(": ")[2]).returncode == 0
    assert not read_store().records
    with pytest.raises(ModelError) as refused:
        assemble(components(open_folder(folder)), "WanPipeline")
    assert refused.value.suggestions == (command,)


def test_code_that_is_missing_is_said_to_be_and_not_offered(place: Place) -> None:
    place.change("model_index.json", vae=["os", "system"])
    found = [one for one in place.findings() if one.severity == "error"]
    assert [(one.code, one.remedies, one.component) for one in found] == [("no-code", (), "vae")]
    assert "vae/os.py or os.py" in found[0].message
    assert "trust add" not in wan_tui("check", place.folder).stdout


def test_a_store_that_others_may_write_is_cured_as_it_says(place: Place) -> None:
    flat(place)
    place.trust()
    (state_dir() / "trust.json").chmod(0o666)
    cure = f"chmod go-w {state_dir() / 'trust.json'}"
    found = next(one for one in place.findings() if one.code == "trust-unreadable")
    assert found.suggestions[0].endswith(cure)
    for told in (wan_tui("trust", "list"), wan_tui("trust", "revoke", place.folder)):
        assert cure in told.stderr
    assert run_in_bash(cure).returncode == 0
    assert place.codes() == set()


@pytest.mark.parametrize("way", [["check"], ["--dry-run", "--run"]])
def test_a_copy_that_was_tampered_with_is_seen_before_anything_runs(way: list[str], place: Place) -> None:
    flat(place)
    place.trust()
    job = job_file(place.folder.parent, place.folder)
    next(copies().rglob("level.py")).write_text(place.code)
    told = wan_tui(*way, job if "--run" in way else place.folder)
    assert told.returncode == 3
    assert "private copy of level.py" in told.stdout + told.stderr
    assert run_in_bash(f"wan-tui trust add {place.folder} --yes").returncode == 0
    assert place.codes() == set()
    assert not place.dead.exists()


def test_only_an_index_a_library_follows_counts(place: Place) -> None:
    """However many others there are: none of them is opened."""
    for name in ("a.safetensors.index.json", "diffusion_pytorch_model.fp16.safetensors.index.json"):
        named("transformer", name, "canary.bin")(place)
    (place.folder / "transformer" / "diffusion_pytorch_model.bin.index.json").write_text("no JSON")
    assert place.codes() == set()


def test_a_pipeline_of_its_own_that_fails_is_named(place: Place) -> None:
    flat(place)
    text = OWN.replace("made.frames = made.frames * 0", "made.frames = None * 0")
    (place.folder / "flat.py").write_text(text)
    place.trust()
    ran = wan_tui("--run", job_file(place.folder.parent, place.folder), "--json")
    failed = events(ran.stdout)[-1]
    assert (ran.returncode, failed["code"]) == (3, "bad-code")
    assert f"The code that came with {place.folder} does not work: Flat fails in flat.py, line " in failed["message"]
    assert "NoneType" in failed["cause"]
    assert "bug" not in " ".join(failed["suggestions"])


# --- from a repository ------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place) -> Iterator[Shelf]:
    """`mine@1.0` is a tiny model with a pipeline of its own."""
    flat(place)
    with make_shelf(tmp_path, monkeypatch) as made:
        root = tmp_path / "hub" / "demo" / "one"
        shutil.rmtree(root)
        shutil.copytree(place.folder, root)
        for file in root.rglob("*"):
            os.utime(file, (1, 1))
        made.download()
        yield made


def offered(shelf: Shelf) -> Any:
    path = shelf.look().path
    assert path
    return make_offer(shelf.item(), read_anatomy(path), Control(), print, MANNERS)


def codes(reference: str = "mine") -> set[str]:
    catalog = load_catalog()
    return {one.code for one in check(subject(reference, catalog), catalog).findings if one.severity == "error"}


@pytest.mark.soak
def test_code_of_a_repository_is_fetched_at_its_commit(shelf: Shelf, tmp_path: Path) -> None:
    commit = shelf.look().revision
    assert commit
    assert codes() == {"remote-code"}
    assert not [path for path in shelf.bodies() if path.endswith(".py")]  # no download brings programs
    (tmp_path / "hub" / "demo" / "one" / "later.py").write_text("")  # the branch moves on
    shutil.copytree(tmp_path / "hub" / "demo" / "one", tmp_path / "hub" / "demo" / f"one@{commit}")
    (tmp_path / "hub" / "demo" / "one" / "later.py").unlink()
    told = wan_tui("trust", "add", "mine", stdin=subprocess.DEVNULL)
    assert told.returncode == 2
    assert f"demo/one at commit {commit}" in told.stderr
    assert sha256(tmp_path / "hub" / "demo" / "one" / "flat.py") in told.stderr
    assert not read_store().records
    assert not list(state_dir().glob(".code-*"))
    assert wan_tui("trust", "add", "mine", "--yes").returncode == 0
    assert shelf.bodies().count("flat.py") == 2
    assert all(f"/resolve/{commit}/" in row.path for row in shelf.hub.requests("GET", "*.py"))
    path = shelf.look().path
    assert path
    assert not list(path.rglob("*.py"))
    assert codes() == set()
    job = job_file(tmp_path, "mine", output={"path": "frames"}, frames=5, steps=1)
    ran = wan_tui("--run", job)
    assert ran.returncode == 0, ran.stderr
    assert is_flat(tmp_path / "frames", path)


def test_another_commit_takes_the_trust_back(shelf: Shelf, tmp_path: Path) -> None:
    offer = offered(shelf)
    remember(offer.record, offer.source)
    assert codes() == set()
    (tmp_path / "hub" / "demo" / "one" / "level.py").write_text("LEVEL = 9\n")
    shelf.download(revision="main")
    assert codes() == {"trust-changed"}
    assert codes() == {"remote-code"}
    assert not read_store().records


@pytest.mark.parametrize("fault", [{"corrupt_at": 3}, {"short_by": 4}, {"short_by": -4}])
def test_other_bytes_than_the_listing_says_are_not_trusted(fault: dict[str, Any], shelf: Shelf) -> None:
    shelf.hub.fault("*/flat.py", **fault)
    with pytest.raises(WanError):
        offered(shelf)
    assert not read_store().records
    assert not list(state_dir().glob(".code-*"))


def test_code_that_lies_beside_the_weights_is_that_of_the_repository(shelf: Shelf, place: Place) -> None:
    path = shelf.look().path
    assert path
    (path / "flat.py").write_text(place.code)
    with pytest.raises(ModelError) as refused:
        offered(shelf)
    assert refused.value.code == "code-changed"
    shutil.copy(place.folder / "flat.py", path / "flat.py")
    offer = offered(shelf)
    remember(offer.record, offer.source)
    assert codes() == set()
    flip(path / "flat.py")
    assert codes() == {"trust-changed"}


def test_large_code_of_a_repository_is_not_fetched(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "hub" / "demo" / "one" / "large.py").write_bytes(b"#" * ((1 << 20) + 1))
    shelf.download(revision="main")
    with pytest.raises(ModelError) as refused:
        offered(shelf)
    assert refused.value.code == "too-much-code"
    assert not [path for path in shelf.bodies() if path.endswith(".py")]


def test_no_network_no_trust(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError) as refused:
        offered(shelf)
    assert refused.value.code == "offline"
