"""Memory of a run beside plain diffusers, each in a process of its own: `python -m benchmarks.memory`.

1. A folder whose text encoder and two experts take some 500 MB each in fp32: ours, staged, against a plain
   `from_pretrained` and call, which holds their sum.
2. Decoding and writing 17 and 161 frames of 832x480: ours, streamed, against a plain decode and export.

Figures are peaks above what the process had after its imports. Anonymous memory is what counts against a limit;
pages of files (memory-mapped weights) can be dropped by the kernel at any time, and are shown apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MB = 1e6
STAGED_FRAMES, STAGED_SIZE, STAGED_STEPS = 17, 128, 4
W, H = 832, 480


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "half-gigabyte"
        _child("build", model)
        largest = max(_bytes(model / part) for part in ("text_encoder", "transformer", "transformer_2"))
        total = sum(_bytes(part) for part in model.iterdir() if part.is_dir())
        print(f"model: largest component {largest / MB:.0f} MB, all {total / MB:.0f} MB\n")
        staged, plain = _child("staged", model), _child("plain", model)
        _row("staged (ours)", staged, largest)
        _row("plain diffusers", plain, largest)
        print(f"  plain / ours: {plain['anon'] / staged['anon']:.2f}x anonymous\n")

        vae = Path(folder) / "vae"
        _child("build-vae", vae)
        for name in ("streamed", "export"):
            short, long = (_child(name, vae, frames) for frames in (17, 161))
            for frames, figures in ((17, short), (161, long)):
                print(f"{name:<9} {frames:>3} frames  {_figures(figures)}, peak RSS {figures['rss'] / MB:.0f} MB")
            print(f"  161 / 17 frames: {long['rss'] / short['rss']:.2f}x peak RSS\n")


def _row(name: str, figures: dict[str, float], largest: int) -> None:
    print(f"{name:<16} {_figures(figures)}: {figures['anon'] / largest:.2f}x the largest component")


def _figures(figures: dict[str, float]) -> str:
    return f"anonymous {figures['anon'] / MB:>5.0f} MB, file pages {figures['file'] / MB:>5.0f} MB"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _child(task: str, *arguments: object) -> dict[str, float]:
    """Run one task of this file in a fresh process; what it measured."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else "benchmarks.memory", task, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout)) if done.stdout.strip() else {}


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Peaks of this process's memory in the block, sampled every few milliseconds; above its start, `rss` in all."""
    base = _status()
    peak = dict(base)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.003):
            for name, value in _status().items():
                peak[name] = max(peak[name], value)

    thread = threading.Thread(target=sample)
    thread.start()
    figures: dict[str, float] = {}
    since = time.monotonic()
    try:
        yield figures
    finally:
        stop.set()
        thread.join()
    figures["seconds"] = time.monotonic() - since
    figures |= {"anon": peak["RssAnon"] - base["RssAnon"], "file": peak["RssFile"] - base["RssFile"]}
    figures["rss"] = peak["VmRSS"]


def _status() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {
        words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[0] in ("RssAnon:", "RssFile:", "VmRSS:")
    }


# --- the tasks, each in its own process -------------------------------------------------------------------------------


def build(folder: Path) -> None:
    import torch
    from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    from tests.tiny import small_tokenizer

    def expert(seed: int) -> Any:
        torch.manual_seed(seed)
        return WanTransformer3DModel(
            num_attention_heads=8, attention_head_dim=128, text_dim=1024, ffn_dim=4096, num_layers=7
        )

    tokenizer = small_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=1024, d_kv=128, d_ff=4096, num_layers=8, num_heads=8, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(config).eval(),
        vae=_small_vae(),
        transformer=expert(0),
        transformer_2=expert(1),
        boundary_ratio=0.875,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ).save_pretrained(folder)


def build_vae(folder: Path) -> None:
    _small_vae().save_pretrained(folder)


def _small_vae() -> Any:
    """Of the real kind, narrow: memory of a decode grows with frames in the same way."""
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(2)
    return AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def staged(folder: Path) -> None:
    from engine.catalog import load_catalog
    from engine.control import Control
    from engine.events import Bus
    from engine.job import Job, Output
    from engine.runtime.heavy import load_libraries
    from engine.runtime.prepare import prepare
    from engine.runtime.way import Traveller, travel

    load_libraries()
    _warm()
    path = folder.parent / "staged.mp4"
    job = Job(
        model=str(folder),
        prompt="a red circle",
        width=STAGED_SIZE,
        height=STAGED_SIZE,
        frames=STAGED_FRAMES,
        steps=STAGED_STEPS,
        seed=1,
        device="cpu",
        output=Output(path),
    )
    asked = prepare(job, folder.parent / "job.toml", load_catalog())
    with measured() as figures:
        travel(Traveller(asked, "bench", Control(), Bus(), lambda **_: None))
    print(json.dumps(figures))


def plain(folder: Path) -> None:
    import torch
    from diffusers import WanPipeline
    from diffusers.utils import export_to_video

    _warm()
    with measured() as figures:
        pipe = WanPipeline.from_pretrained(folder, dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        frames = pipe(
            "a red circle",
            negative_prompt="blurry",
            width=STAGED_SIZE,
            height=STAGED_SIZE,
            num_frames=STAGED_FRAMES,
            num_inference_steps=STAGED_STEPS,
            guidance_scale=5.0,
            generator=torch.Generator().manual_seed(1),
        ).frames[0]
        _export(export_to_video, frames, folder.parent / "plain.mp4")
    print(json.dumps(figures))


def streamed(folder: Path, frames: int) -> None:
    from diffusers import AutoencoderKLWan

    from engine.video.decode import frame_groups, pixels
    from engine.video.write import open_writer

    vae, latents = AutoencoderKLWan.from_pretrained(folder).eval(), _latents(frames)
    with (
        measured() as figures,
        open_writer(folder.parent / "streamed.mp4", width=W, height=H, fps=16) as writer,
    ):
        for group in frame_groups(vae, latents, lambda: None):
            writer.write(pixels(group))
        writer.finish(lambda path: "")
    print(json.dumps(figures))


def export(folder: Path, frames: int) -> None:
    import torch
    from diffusers import AutoencoderKLWan
    from diffusers.utils import export_to_video
    from diffusers.video_processor import VideoProcessor

    vae, latents = AutoencoderKLWan.from_pretrained(folder).eval(), _latents(frames)
    with measured() as figures, torch.no_grad():
        video = vae.decode(latents, return_dict=False)[0]
        pictures = VideoProcessor(vae_scale_factor=8).postprocess_video(video, output_type="np")[0]
        _export(export_to_video, pictures, folder.parent / "export.mp4")
    print(json.dumps(figures))


def _export(export_to_video: Callable[..., Any], frames: Any, path: Path) -> None:
    """diffusers' own export, through the imageio it needs where that is installed, else its frames piped as a whole."""
    from engine.video.write import open_writer

    try:
        export_to_video(list(frames), str(path), fps=16)
    except ImportError:
        whole = (frames * 255).round().astype("uint8")
        with open_writer(path, width=whole.shape[2], height=whole.shape[1], fps=16) as writer:
            writer.write(whole)
            writer.finish(lambda _: "")


def _latents(frames: int) -> Any:
    import torch

    return torch.randn(1, 16, (frames - 1) // 4 + 1, H // 8, W // 8, generator=torch.Generator().manual_seed(0))


def _warm() -> None:
    """Load what the first call would load lazily: it is no part of a run's memory."""
    import torch
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel  # noqa: F401
    from transformers import UMT5EncoderModel  # noqa: F401

    torch.nn.functional.conv3d(torch.zeros(1, 1, 3, 8, 8), torch.zeros(1, 1, 3, 3, 3))


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            main()
        case [task, folder, *rest]:
            globals()[task.replace("-", "_")](Path(folder), *map(int, rest))
