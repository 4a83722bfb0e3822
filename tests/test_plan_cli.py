"""`wan-tui plan`, its table, and the plan of `--dry-run`: what a person and a script read before anything runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.hardware import Device, cpu
from engine.memory.pace import Pace, keep_pace
from tests.corpus import edit
from tests.nvml import Box, a_4090, build
from tests.runs import environment, events, job_file, wan_tui
from wan_tui.cli.layout import laid_out
from wan_tui.telling_plan import brief, duration, lines

GIB = 2**30
KEYS = {"fits", "profile", "device", "vram_bytes", "ram_bytes", "disk_bytes", "seconds", "stages", "windows"}
KEYS |= {"alternatives", "max_frames", "reasons"}
TEXT = {"width": None, "height": None, "frames": None, "steps": None, "fps": None, "device": None}
# The program on a box with so much RAM, with a torch built for that; at the end it says what heavy libraries it loaded.
CODE = """import sys
import engine.compat.machine, engine.hardware, engine.memory.room, wan_tui.cli.plan_table
ram = int(sys.argv.pop(1))
engine.hardware.host_memory = engine.memory.room.host_memory = wan_tui.cli.plan_table.host_memory = lambda: (ram, ram)
engine.compat.machine._torch_for = lambda built_for=sys.argv.pop(1): built_for
from wan_tui.cli import main
status = main(sys.argv[1:])
heavy = ("torch", "diffusers", "transformers", "huggingface_hub", "textual", "numpy")
print("LOADED", [name for name in heavy if name in sys.modules], file=sys.stderr)
sys.exit(status)
"""


def on_a_box(ram: int, *arguments: object, torch: str = "cpu", **more: str) -> subprocess.CompletedProcess[str]:
    """Run `wan-tui` where there are so many GiB of RAM, and a torch that was built for the CPU or for `cuda`."""
    command = [sys.executable, "-c", CODE, str(ram * GIB), torch, *map(str, arguments)]
    return subprocess.run(command, env=environment() | more, capture_output=True, text=True, timeout=300)


def a_job(folder: Path, model: str = "ti2v-5B", **values: Any) -> Path:
    return job_file(folder, model, **{**TEXT, **values})


def planned(ram: int, *arguments: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(on_a_box(ram, "plan", *arguments, "--json").stdout)
    return told


# ── One job ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_keys_of_the_contract_for_a_model_that_is_not_here(tmp_path: Path, own_home: Path) -> None:
    done = on_a_box(64, "plan", a_job(tmp_path), "--vram", "12GiB", "--json")
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")
    told = json.loads(done.stdout)
    assert set(told) >= KEYS
    assert told["device"] == {
        "name": "another card with 12.9 GB",
        "uuid": None,
        "total_bytes": 12 * GIB,
        "free_bytes": 12 * GIB,
    }
    assert (told["fits"], told["profile"], told["seconds"]) == (True, "streamed", None)
    assert 8 * GIB < told["vram_bytes"] <= 12 * GIB
    assert any(reason.startswith("time is not known") for reason in told["reasons"])
    for stage in told["stages"]:
        assert {"name", "weights_bytes", "activations_bytes", "vram_bytes", "seconds"} <= set(stage)
    assert [stage["name"] for stage in told["stages"]] == ["text", "denoise", "decode"]
    assert [file for file in own_home.rglob("*") if file.is_file()] == []
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".toml"] == ["job.toml"]
    assert not (tmp_path / "outputs").exists()


def test_more_memory_no_slower_rung(tmp_path: Path) -> None:
    file = a_job(tmp_path, "t2v-A14B")
    order = ["resident", "staged", "streamed", "leaf"]
    found = [planned(200, file, "--vram", f"{size}GiB") for size in (8, 12, 16, 24, 48, 80, 100)]
    fitting = [order.index(told["profile"]) for told in found if told["fits"]]
    assert fitting == sorted(fitting, reverse=True)
    assert (fitting[0], fitting[-1]) == (2, 0)
    assert [told["fits"] for told in found] == sorted(told["fits"] for told in found)


def test_words(tmp_path: Path) -> None:
    done = on_a_box(64, "plan", a_job(tmp_path, seed=7, frames=121), "--vram", "24GiB")
    said = done.stdout.splitlines()
    assert said[0] == "fits: staged on another card with 25.8 GB"
    assert said[1].startswith("memory   24.2 GB of 25.8 GB free")
    labels = list(dict.fromkeys(line.split()[0] for line in said[1:]))
    assert labels == ["memory", "RAM", "disk", "time", "stage", "because", "instead", "do:", "most"]
    assert any(line.startswith("because  resident would take") for line in said)
    assert [line[:18] for line in said if "was never measured" in line] == ["time     not known"]
    told = planned(64, a_job(tmp_path, seed=7, frames=121), "--vram", "24GiB")
    again = list(lines(told))
    assert [line for line in said if not line.startswith("disk")] == [a for a in again if not a.startswith("disk")]
    assert all(len(line) <= 80 for line in laid_out(lines(told), 80).splitlines())
    first, second = brief(told)
    assert first == "plan     fits: staged on another card with 25.8 GB; 24.2 GB of VRAM; 13.5 GB of RAM"
    assert second.startswith("because  another card")


@pytest.mark.parametrize(
    "size",
    [
        {"size": "1280*704"},
        *(pytest.param(one, marks=pytest.mark.soak) for one in ({"width": 1280, "height": 704}, {})),
    ],
)
def test_what_is_proposed_instead_can_be_pasted_and_fits(tmp_path: Path, size: dict[str, Any]) -> None:
    proposed: set[str] = set()
    for profile, card in (("staged", "12GiB"), ("auto", "6GiB"), ("auto", "24GiB")):
        file = a_job(tmp_path, frames=401, **size, memory={"profile": profile})
        done = on_a_box(64, "plan", file, "--vram", card)
        for line in done.stdout.splitlines():
            if line.startswith("  do:  "):
                words = line.removeprefix("  do:  ")
                again = on_a_box(64, "plan", file, "--vram", card, *shlex.split(words))
                assert (again.returncode, again.stdout[:5]) == (0, "fits:"), (words, again.stdout, again.stderr)
                proposed |= set(re.findall(r"--set ([a-z._]+)=", words))
    assert {"width", "height", "frames", "memory.profile"} <= proposed


def test_a_long_clip_goes_in_windows_and_that_is_said(tmp_path: Path) -> None:
    done = on_a_box(64, "plan", a_job(tmp_path, frames=401), "--vram", "12GiB")
    assert done.stdout.startswith("fits: windows, the VAE in tiles, on ")
    assert "windows  6 of 81 frames each\n" in done.stdout
    assert "another video than in one piece" in done.stdout


def test_overrides_before_and_behind_the_verb(tmp_path: Path) -> None:
    file = a_job(tmp_path, size="1280*704")
    done = wan_tui("--set", "seed=1", "plan", file, "--set", "size=832x480", "--set", "count=3", "--vram", "24GiB")
    assert "3 videos are asked for" in done.stdout
    told = json.loads(wan_tui("--set", "frames=9", "plan", file, "--vram", "24GiB", "--json").stdout)
    more = json.loads(wan_tui("plan", file, "--vram", "24GiB", "--json").stdout)
    assert told["ram_bytes"] <= more["ram_bytes"] and told["disk_bytes"] * 10 < more["disk_bytes"]
    assert wan_tui("--set", "frames=9", "gpu").returncode == 2


@pytest.fixture
def paced(own_home: Path) -> None:
    """The pace of the CPU and of a card is known."""
    (own_home / "cache" / "wan-tui" / "paces").unlink()
    for device, half in ((cpu(), False), (Device("cuda", "GPU-4090", "", None, None), True)):
        keep_pace(device, half, Pace(flops=1e12, copy=1e10, load=1e9, pictures=1e12))


@pytest.mark.soak
def test_the_pace_of_this_box_is_measured_once(own_home: Path, tmp_path: Path) -> None:
    (own_home / "cache" / "wan-tui" / "paces").unlink()
    file = a_job(tmp_path, "t2v-1.3B", device="cpu")
    first, second = on_a_box(64, "plan", file), on_a_box(64, "plan", file)
    assert "Measuring how fast this CPU is: a few seconds, once." in first.stderr
    assert second.stderr == "LOADED []\n"
    times = [[line for line in done.stdout.splitlines() if line.startswith("time ")] for done in (first, second)]
    assert times[0] == times[1] and times[0][0].startswith("time     about")


@pytest.mark.usefixtures("paced")
def test_this_box_without_a_gpu(tmp_path: Path) -> None:
    done = on_a_box(64, "plan", a_job(tmp_path, "t2v-1.3B", device="cpu"))
    said = done.stdout.splitlines()
    assert (done.returncode, said[0]) == (0, "fits: staged on the CPU"), done.stdout + done.stderr
    assert not [line for line in said if line.startswith("memory") or "VRAM" in line]
    assert "time     about" in done.stdout and done.stderr == "LOADED []\n"
    little = on_a_box(8, "plan", a_job(tmp_path, "t2v-1.3B", device="cpu"))
    assert little.returncode == 4 and "more than the 8.6 GB there" not in little.stdout.splitlines()[1]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.mark.usefixtures("paced")
@pytest.mark.soak
def test_the_card_of_this_box_with_what_others_use(driver: Path, tmp_path: Path) -> None:
    box = Box(driver, tmp_path)
    box.has(a_4090())
    file = a_job(tmp_path)
    done = on_a_box(64, "plan", file, "--json", torch="cuda", **box.environment)
    assert (done.returncode, done.stderr) == (0, "LOADED []\n"), done.stdout
    told = json.loads(done.stdout)
    assert told["device"]["uuid"] == "GPU-4090" and told["device"]["total_bytes"] == 24 * GIB
    assert told["vram_bytes"] <= told["room"]["vram_bytes"] == told["device"]["free_bytes"] < 24 * GIB
    assert "NVIDIA GeForce RTX 4090: it is the only GPU" in told["reasons"]
    assert any(reason.endswith("are used by others") for reason in told["reasons"])
    table = on_a_box(64, "plan", "--table", "ti2v-5B", torch="cuda", **box.environment).stdout
    assert "*: fits NVIDIA GeForce RTX 4090 with 16.1 GB free, and the 68.7 GB of RAM free here\n" in table
    elsewhere = file, "--set", "device=GPU-other"
    assert on_a_box(64, "plan", *elsewhere, torch="cuda", **box.environment).returncode == 2
    assert on_a_box(64, "plan", *elsewhere, "--vram", "80GiB", torch="cuda", **box.environment).returncode == 0


def test_a_folder_never_seen_is_traced_once(tiny_model: Callable[[str], Path], own_home: Path, tmp_path: Path) -> None:
    (own_home / "cache" / "wan-tui" / "traces").unlink()
    file = job_file(tmp_path, tiny_model("t2v"))
    first, second = wan_tui("plan", file, "--json"), wan_tui("plan", file, "--json")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stderr.startswith("Tracing the modules of ") and first.stderr.count("\n") == 1
    assert second.stderr == ""
    assert json.loads(first.stdout)["stages"] == json.loads(second.stdout)["stages"] != []
    assert json.loads(second.stdout)["fits"] is True


def test_the_built_in_model_is_known(tmp_path: Path, own_home: Path) -> None:
    (own_home / "cache" / "wan-tui" / "traces").unlink()
    done = on_a_box(64, "plan", a_job(tmp_path, "demo"), "--vram", "2GiB")
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")
    assert done.stdout.startswith("fits: resident on another card with 2.1 GB\n")


@pytest.mark.soak
def test_what_is_not_known_is_no_failure(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    edit(folder / "transformer" / "config.json", rope_max_seq_len=3)  # nothing of any size goes through it
    job = job_file(tmp_path, folder)
    done = on_a_box(64, "plan", job, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.startswith("not known whether it fits: staged on the CPU\nRAM      - of ")
    assert "it could not be traced" in done.stdout and "\\u" not in done.stdout


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limit", "status", "words"),
    [
        ("0", 2, "must be a size with its unit"),
        ("-1", 2, "must be a size with its unit"),
        ("0GiB", 2, "must be more than nothing"),
        ("abc", 2, "must be a size with its unit"),
        ("12", 2, "must be a size with its unit"),
        ("", 2, "must be a size with its unit"),
        ("5000TiB", 2, "1024TiB at most"),
        ("1KiB", 4, "does not fit: leaf, the VAE on the CPU, on another card with 1.0 kB: it takes "),
        ("100TB", 0, "fits: resident on another card with "),
    ],
)
@pytest.mark.sampled(2)
def test_limits(limit: str, status: int, words: str, tmp_path: Path) -> None:
    done = on_a_box(200, "plan", a_job(tmp_path), f"--vram={limit}")
    said = done.stderr.splitlines()[0] if status == 2 else done.stdout.splitlines()[0]
    assert done.returncode == status and words in said
    assert len(done.stderr.splitlines()) == (3 if status == 2 else 1)
    if status == 2:
        assert done.stdout == ""
        error = json.loads(on_a_box(64, "plan", a_job(tmp_path), f"--vram={limit}", "--json").stdout)
        assert error["code"] == "bad-value"
    else:
        assert planned(200, a_job(tmp_path), f"--vram={limit}")["fits"] is (status == 0)


def test_the_limit_of_the_job_is_kept_on_another_card(tmp_path: Path) -> None:
    file = a_job(tmp_path, memory={"vram_limit": "8GiB"})
    told = planned(64, file, "--vram", "24GiB")
    assert told["fits"] and told["vram_bytes"] < 8 * GIB
    assert told["room"]["vram_bytes"] == 8 * GIB
    done = on_a_box(64, "plan", file, "--set", "memory.vram_limit=1KiB", "--vram", "24GiB")
    assert done.returncode == 4 and "memory.vram_limit is 1.0 kB" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["plan"], 2, "No job file is named."),
        (["plan", "a.toml", "b.toml"], 2, "several are named"),
        (["plan", "nothing.toml"], 2, "does not exist"),
        (["plan", "--table", "nonesuch"], 2, "There is no model"),
        (["plan", "--table", "--set", "frames=9"], 2, "--set goes with a job file"),
        (["plan", "job.toml", "--set", "frames=8"], 2, "4k+1"),
        (["plan", "job.toml", "--set", "model=vace-14B"], 2, "does not do what the inputs ask for"),
        (["plan", "job.toml", "--set", "model=t2v-A14B:gguf-q4"], 3, "does not run the variant"),
        (["plan", "job.toml", "--set", "model=auto"], 3, "no model that does text is on disk"),
        (["plan", "job.toml", "--set", "model=./nowhere"], 3, "nowhere"),
        (["plan", "job.toml", "--set", "device=cuda:63"], 2, "not on this box"),
    ],
)
def test_what_is_refused_in_one_message(arguments: list[str], status: int, words: str, tmp_path: Path) -> None:
    a_job(tmp_path)
    done = wan_tui(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_model_of_which_nothing_is_known_has_to_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "own.toml"
    manifest.write_text('[models."mine@1.0"]\ntitle = "Mine"\nfamily = "t2v"\nrepo = "a/b"\n')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))
    done = wan_tui("plan", a_job(tmp_path, "mine"))
    assert done.returncode == 3 and "mine@1.0 is not on this box" in done.stderr


def test_a_model_that_is_here_in_part_is_taken_from_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(tmp_path / "models"))
    folder = tmp_path / "models" / "Wan-AI" / "Wan2.2-TI2V-5B-Diffusers"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    file = a_job(tmp_path)
    assert planned(64, file, "--vram", "24GiB")["fits"] is True
    assert wan_tui("--run", file, "--dry-run").returncode == 3


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_all_models() -> None:
    done = on_a_box(64, "plan", "--table", "--vram", "24GiB")
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")
    said = done.stdout.splitlines()
    assert max(map(len, said[:-1])) <= 80
    head = next(line for line in said if line.startswith("model "))
    assert head.split() == ["model", "clip", "resident", "staged", "streamed", "leaf", "cpu"]
    rows = [line.split() for line in said[said.index(head) + 1 : -1]]
    assert len(rows) == 8 * 2 * 3 and all(len(row) == 7 for row in rows)
    five = next(row for row in rows if row[:2] == ["ti2v-5B", "1280x704x121"])
    assert [cell.endswith("*") for cell in five[2:]] == [False, True, True, True, True]
    assert "*: fits another card with 25.8 GB, and the 68.7 GB of RAM free here" in said
    assert said[-1].startswith("not predicted") and "vace-14B" in said[-1] and "demo" in said[-1]


def test_the_table_as_json_is_monotone() -> None:
    answer = json.loads(on_a_box(16, "plan", "--table", "t2v-A14B", "t2v-1.3B", "--vram", "24GiB", "--json").stdout)
    assert {row["model"] for row in answer["rows"]} == {"t2v-A14B@2.2.0", "t2v-1.3B@2.1.0"}
    assert (answer["not_predicted"], answer["vram_bytes"], answer["ram_bytes"]) == ([], 24 * GIB, 16 * GIB)
    by = {(row["model"], row["width"], row["frames"], row["rung"]): row for row in answer["rows"]}
    for (model, width, frames, rung), row in by.items():
        assert row["fits"] == (row["vram_bytes"] * 1.05 <= 24 * GIB and row["ram_bytes"] * 1.05 <= 16 * GIB)
        if width == 832:
            assert row["vram_bytes"] <= by[model, 1280, frames, rung]["vram_bytes"]
        if frames == 49:
            assert row["vram_bytes"] <= by[model, width, 81, rung]["vram_bytes"]


def test_a_table_of_none_that_can_be_predicted() -> None:
    done = wan_tui("plan", "--table", "vace-14B")
    assert done.stdout == "not predicted, their parts are not known to this version: vace-14B\n"


# ── A dry run ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_tells_the_same_plan(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"))
    done = wan_tui("--run", file, "--dry-run", "--json")
    event = next(event for event in events(done.stdout) if event["event"] == "plan")
    assert set(event) >= KEYS
    assert event["seconds"] > 0 and event["fits"] is True
    said = wan_tui("--run", file, "--dry-run").stderr.splitlines()
    start = said.index("fits: staged on the CPU")
    labels = [line[:8].strip() for line in said[start + 1 :]]
    assert labels[:3] == ["RAM", "disk", "time"] and {"stage", "because", "most"} <= set(labels)
    assert said[-1] == "dry run  nothing was made"
    planned = json.loads(wan_tui("plan", file, "--json").stdout)
    for key in ("profile", "ram_bytes", "disk_bytes", "windows"):
        assert planned[key] == event[key], key
    assert planned["seconds"] == pytest.approx(event["seconds"], rel=1e-6)  # the pace was measured by the dry run


def test_a_run_tells_its_plan_in_two_lines(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    said = wan_tui("--run", job_file(tmp_path, tiny_model("t2v"))).stderr.splitlines()
    told = [line for line in said if line.startswith(("plan ", "because"))]
    assert len(told) == 2 and told[0].startswith("plan     fits: staged on the CPU; ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "—"), (0.2, "less than 1 s"), (40, "40 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_long_durations() -> None:
    assert [duration(hours * 3600) for hours in (2, 3.5, 71, 100)] == ["2.0 h", "3.5 h", "71.0 h", "4 days"]


def test_it_is_in_the_help() -> None:
    assert "plan " in wan_tui("--help").stdout
    assert "--vram" in wan_tui("plan", "--help").stdout
