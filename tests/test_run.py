"""`--run` from the outside: what is written, what is said, what is remembered."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from engine.runtime.journal import Journal
from engine.video.probe import probe, read_metadata
from tests.runs import Running, events, job_file, wan_tui

LAST = {"job-finished", "job-failed", "job-cancelled"}
TinyModel = Callable[[str], Path]


def test_a_video_its_sidecar_and_its_journal_entry(tiny_model: TinyModel, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), output={"path": "clip.mp4"})
    done = wan_tui("--run", file, "--json")
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    final = told[-1]
    assert final["event"] == "job-finished"
    assert final["output"] == str(tmp_path / "clip.mp4")
    clip = probe(tmp_path / "clip.mp4")
    assert (clip.codec, clip.width, clip.height, clip.frames, round(clip.fps)) == ("h264", 64, 64, 9, 8)
    sidecar = (tmp_path / "clip.job.toml").read_text(encoding="utf-8")
    assert read_metadata(tmp_path / "clip.mp4") == sidecar
    job = tomllib.loads(sidecar)
    assert job["flow_shift"] == 3.0
    assert len(job["negative_prompt"]) > 50
    assert job["recorded"]["plan"]["profile"] == "staged"
    (row,) = Journal().rows()
    assert (row.id, row.state, row.output) == (final["job"], "finished", final["output"])


def test_events_tell_the_whole_way_in_order(tiny_model: TinyModel, tmp_path: Path) -> None:
    told = events(wan_tui("--run", job_file(tmp_path, tiny_model("t2v-two")), "--json").stdout)
    assert [e["event"] for e in told[:2]] == ["job-queued", "job-started"]
    assert {e["event"] for e in told} >= {"plan", "stage", "progress"}
    assert all(set(e) >= {"event", "time", "job"} and e["time"].endswith("Z") for e in told)
    stages = [(e["name"], e["state"]) for e in told if e["event"] == "stage" and e["name"] != "load"]
    order = [name for name, state in stages if state == "started"]
    assert order == ["check", "encode", "denoise", "decode", "write"]
    assert sorted(stages) == sorted((name, state) for name in order for state in ("started", "finished"))
    loads = [e["component"] for e in told if e["event"] == "stage" and e["name"] == "load" and e["state"] == "finished"]
    heavy = [name for name in loads if name not in ("tokenizer", "scheduler")]
    assert heavy == ["text_encoder", "transformer", "transformer_2", "vae"]
    steps = [e for e in told if e["event"] == "progress" and e["stage"] == "denoise"]
    assert (steps[-1]["done"], steps[-1]["total"], steps[-1]["eta_s"]) == (2, 2, 0.0)
    assert steps[-1]["vram_bytes"] is None
    assert steps[-1]["rss_bytes"] > 10**8
    assert [e["event"] for e in told if e["event"] in LAST] == [told[-1]["event"]]


def test_the_sidecar_makes_the_same_video_again_beside_it(tiny_model: TinyModel, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), output={"path": "clip.png.mp4"}, seed=None)
    first = events(wan_tui("--run", file, "--json").stdout)[-1]
    again = events(wan_tui("--run", tmp_path / "clip.png.job.toml", "--json").stdout)[-1]
    assert again["output"] == str(tmp_path / "clip.png-2.mp4")
    assert (tmp_path / "clip.png-2.job.toml").is_file()
    assert again["seed"] == first["seed"]
    assert _pixels(Path(first["output"])) == _pixels(Path(again["output"]))


def test_a_sidecar_with_a_memory_limit_runs_again(tiny_model: TinyModel, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), memory={"vram_limit": "12.5GiB"}, output={"path": "clip.GIF"})
    assert wan_tui("--run", file).returncode == 0
    again = wan_tui("--run", tmp_path / "clip.job.toml", "--dry-run")
    assert again.returncode == 0, again.stderr


def test_an_input_that_goes_away_during_the_run_is_no_loss(tiny_model: TinyModel, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    file = job_file(tmp_path, tiny_model("i2v-two"), steps=20, inputs={"image": "a.png"}, output={"path": "clip.mp4"})
    run = Running("--run", file)
    run.until("progress", stage="denoise")
    picture.unlink()
    assert run.end() == 0, run.told[-1]
    recorded = tomllib.loads((tmp_path / "clip.job.toml").read_text())["recorded"]
    assert recorded["inputs_sha256"]["image"] == digest


def test_no_ffmpeg_is_told_before_the_run(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    told = events(wan_tui("--run", job_file(tmp_path, tiny_model("t2v")), "--json").stdout)
    assert [(e["event"], e["code"]) for e in told] == [("job-failed", "ffmpeg-missing")]


@pytest.mark.parametrize("place", ["cache", "state"])
def test_a_folder_of_ours_that_cannot_be(
    place: str, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is done without; without a state folder nothing runs, and that is said."""
    (tmp_path / "in the way").touch()
    monkeypatch.setenv(f"XDG_{place.upper()}_HOME", str(tmp_path / "in the way"))
    done = wan_tui("--run", job_file(tmp_path, tiny_model("t2v")), "--json")
    assert "Traceback" not in done.stderr
    last = events(done.stdout)[-1]
    assert (done.returncode, last["event"]) == ((0, "job-finished") if place == "cache" else (1, "job-failed"))


@pytest.mark.parametrize("damage", ["cut", "tensor", "half", "nested"])
def test_damaged_weights_are_status_3(damage: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("t2v"), folder)
    weights = folder / "text_encoder" / "model.safetensors"
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "tensor":
            tensors = load_file(weights)
            del tensors["encoder.block.0.layer.0.SelfAttention.q.weight"]
            save_file(tensors, weights, {"format": "pt"})
        case "half":
            weights.rename(weights.with_name("model.fp16.safetensors"))
        case "nested":
            (folder / "text_encoder" / "config.json").write_text('{"d_model": "wide"}')
    done = wan_tui("--run", job_file(tmp_path, folder))
    assert done.returncode == 3, done.stderr
    assert "text_encoder" in done.stderr
    assert "bug" not in done.stderr
    assert not list(tmp_path.glob("outputs/*"))


def test_count_makes_videos_of_following_seeds(tiny_model: TinyModel, tmp_path: Path) -> None:
    done = wan_tui("--run", job_file(tmp_path, tiny_model("t2v"), count=2, seed=5), "--quiet")
    name = tiny_model("t2v").name
    assert done.stdout.split() == [str(tmp_path / "outputs" / f"{name}-{seed}.mp4") for seed in (5, 6)]
    assert done.stderr == ""
    seeds = [tomllib.loads(Path(out).with_suffix(".job.toml").read_text())["seed"] for out in done.stdout.split()]
    assert seeds == [5, 6]


def test_image_job_takes_the_aspect_of_its_picture(tiny_model: TinyModel, tmp_path: Path) -> None:
    tall = Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 45, 3), dtype=np.uint8))
    tall.save(tmp_path / "tall.png")
    file = job_file(
        tmp_path, tiny_model("i2v-clip"), width=None, height=None, frames=1, steps=1, inputs={"image": "tall.png"}
    )
    done = wan_tui("--run", file, "--dry-run", "--json")
    assert done.returncode == 0, done.stdout
    assert events(done.stdout)[-1]["output"] is None
    file = job_file(tmp_path, tiny_model("i2v-clip"), inputs={"image": "tall.png"}, output={"path": "a.mp4"})
    final = events(wan_tui("--run", file, "--json").stdout)[-1]
    assert (final["width"], final["height"]) == (64, 64)
    recorded = tomllib.loads((tmp_path / "a.job.toml").read_text())
    assert recorded["inputs"]["image"] == str(tmp_path / "tall.png")
    assert len(recorded["recorded"]["inputs_sha256"]["image"]) == 64


@pytest.mark.parametrize("suffix", [".webm", ".gif", ""])
def test_other_formats(suffix: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), output={"path": f"clip{suffix}"})
    final = events(wan_tui("--run", file, "--json").stdout)[-1]
    output = Path(final["output"])
    assert output == tmp_path / f"clip{suffix}"
    assert (tmp_path / "clip.job.toml").is_file()
    if suffix:
        assert probe(output).frames == 9
    else:
        assert len(list(output.glob("*.png"))) == 9


def test_frames_are_kept_as_pictures_when_the_encoder_fails(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nhead -c 20000 >/dev/null\necho 'no such encoder' >&2\nexit 1\n")
    broken.chmod(0o755)
    file = job_file(tmp_path, tiny_model("t2v"), output={"path": "clip.mp4"})
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    done = wan_tui("--run", file, "--json")
    told = events(done.stdout)
    assert done.returncode == 0, done.stdout
    warning = next(e for e in told if e["event"] == "warning" and e["code"] == "encoding-failed")
    assert "no such encoder" in warning["message"]
    assert told[-1]["output"] == str(tmp_path / "clip")
    assert len(list((tmp_path / "clip").glob("*.png"))) == 9
    assert not (tmp_path / "clip.mp4").exists()


def test_dropped_words_are_quoted(tiny_model: TinyModel, tmp_path: Path) -> None:
    prompt = "circle " * 600 + "zebra at the end"
    file = job_file(tmp_path, tiny_model("t2v"), prompt=prompt, negative_prompt="")
    for _ in range(2):  # the second time the embedding comes from disk
        told = events(wan_tui("--run", file, "--json").stdout)
        (warning,) = [e for e in told if e["event"] == "warning" and e["code"] == "prompt-truncated"]
        assert "dropped from: “circle circle" in warning["message"]
    assert "text_encoder" not in [e.get("component") for e in told]


def test_kept_embeddings_hold_no_prompt_and_damage_is_mended(
    tiny_model: TinyModel, tmp_path: Path, own_home: Path
) -> None:
    file = job_file(tmp_path, tiny_model("t2v"), prompt="unmistakable walrus")
    assert wan_tui("--run", file).returncode == 0
    kept = sorted((own_home / "cache" / "wan-tui" / "prompts").iterdir())
    assert len(kept) == 2
    assert all(b"walrus" not in path.read_bytes() for path in (own_home / "cache").rglob("*") if path.is_file())
    kept[0].write_bytes(b"damaged")
    told = events(wan_tui("--run", file, "--json").stdout)
    assert told[-1]["event"] == "job-finished"
    assert "text_encoder" in [e.get("component") for e in told]


def test_an_absent_model_is_status_3_and_says_how_to_get_it(tmp_path: Path) -> None:
    done = wan_tui("--run", job_file(tmp_path, "ti2v-5B"), "--json")
    (event,) = events(done.stdout)
    assert done.returncode == 3
    assert event["code"] == "model-absent"
    assert "wan-tui models download ti2v-5B@2.2.0" in event["suggestions"][0]


@pytest.mark.parametrize(
    ("model", "task", "inputs"),
    [
        ("flf2v-14B-720P", "first-last", {"image": "a.png", "last_image": "a.png"}),
        ("i2v-A14B", "first-last", {"image": "a.png", "last_image": "a.png"}),
        ("t2v-1.3B", "video", {"video": "a.mp4"}),
        ("vace-1.3B", "vace", {"references": ["a.png"]}),
        ("animate-14B", "animate", {"image": "a.png", "pose_video": "a.mp4", "face_video": "a.mp4"}),
        ("s2v-14B", "speech", {"image": "a.png", "audio": "a.mp4"}),
    ],
)
def test_a_family_that_is_not_built_says_so(model: str, task: str, inputs: dict[str, str], tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.mp4").touch()
    done = wan_tui("--run", job_file(tmp_path, model, inputs=inputs))
    assert done.returncode == 3
    assert f"does not run {task}" in done.stderr
    assert done.stderr.count("error:") == 1


def test_a_repository_is_answered_with_its_id(tmp_path: Path) -> None:
    done = wan_tui("--run", job_file(tmp_path, "Wan-AI/Wan2.2-TI2V-5B-Diffusers"))
    assert done.returncode == 2
    assert 'Use model = "ti2v-5B@2.2.0"' in done.stderr


def take_for_t2v(folder: Path, root: Path) -> None:
    """Have a folder stand where t2v-1.3B is looked for."""
    (root / "Wan-AI").mkdir(parents=True)
    (root / "Wan-AI" / "Wan2.1-T2V-1.3B-Diffusers").symlink_to(folder)


def test_a_folder_of_another_family_is_not_taken_for_the_model(
    tiny_model: TinyModel, tmp_path: Path, root: Path
) -> None:
    take_for_t2v(tiny_model("ti2v"), root)
    done = wan_tui("--run", job_file(tmp_path, "t2v-1.3B"))
    assert done.returncode == 3
    assert "family ti2v" in done.stderr


def test_an_incomplete_folder_is_named_file_by_file(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("t2v"), folder)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "text_encoder" / "model.safetensors").unlink()
    done = wan_tui("--run", job_file(tmp_path, folder))
    assert done.returncode == 3
    assert "text_encoder" in done.stderr
    assert "vae" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_auto_chooses_a_model_that_is_on_disk_and_says_why(tiny_model: TinyModel, tmp_path: Path, root: Path) -> None:
    take_for_t2v(tiny_model("t2v"), root)
    done = wan_tui("--run", job_file(tmp_path, "auto"), "--json")
    told = events(done.stdout)
    assert done.returncode == 0, done.stdout
    (plan,) = [e for e in told if e["event"] == "plan"]
    assert "auto chose t2v-1.3B@2.1.0" in plan["reasons"][0]
    assert json.loads(wan_tui("models", "list", "--installed", "--json").stdout)[0]["state"] == "complete"


def test_auto_without_a_model_is_status_3(tmp_path: Path) -> None:
    done = wan_tui("--run", job_file(tmp_path, "auto"))
    assert done.returncode == 3
    assert "wan-tui demo" in done.stderr


def test_a_failed_job_does_not_stop_the_next(tiny_model: TinyModel, tmp_path: Path) -> None:
    absent = job_file(tmp_path, "t2v-14B", "absent.toml")
    good = job_file(tmp_path, tiny_model("t2v"), "good.toml")
    done = wan_tui("--run", absent, good, "--json")
    assert done.returncode == 3
    assert events(done.stdout)[-1]["event"] == "job-finished"


def test_the_demo_from_text_and_from_a_picture(tmp_path: Path) -> None:
    done = wan_tui("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert probe(Path(done.stdout.strip())).frames == 33
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    done = wan_tui("demo", "a red box", "--image", "red.png", "--output", "there", "--json", cwd=tmp_path)
    final = events(done.stdout)[-1]
    assert (final["width"], final["height"]) == (64, 64)
    assert Path(final["output"]).parent == tmp_path / "there"


def _pixels(video: Path) -> bytes:
    """What a video decodes to: two files of the same pictures differ in the time they name."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout
