"""Components that stay on disk until they are called, and leave when another comes.

A diffusers pipeline is built from `OnDemand` stand-ins. They know their configuration, dtype and device, so the
pipeline plans its shapes without any weights; the first call brings the real module, and sends away the one before.
So each stage of a pipeline call holds one component, whatever the pipeline: text encoder, image encoder, VAE, expert,
second expert. Peak memory follows the largest of them, not their sum. That is the rung `staged`; on `resident` nobody
leaves, and on rungs below a component streams its weights from RAM.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import inspect
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import FrozenDict
from torch import nn

from engine.compat.finding import remedy
from engine.compat.folder import FROM_TRANSFORMERS, HALF_ON_GPU, LIBRARIES, LOADABLE, UNREAD, WEIGHTLESS, ModelFolder
from engine.control import Control
from engine.errors import ModelError, WanError
from engine.memory.ladder import Hold, hold, ran_out
from engine.paths import shipped
from engine.pipelines.offload import lift, settle, settle_vae, store
from engine.pipelines.trusted import trusted_class
from engine.voice import Voice

_OURS = ("engine", "wan_tui")
# What torch says when the device or its driver failed, and nothing that was computed.
_DEVICE = ("CUDA", "CUBLAS", "CUDNN", "cuDNN", "HIP error", "NCCL", "NVML")

# A large vocabulary is read, for a second or more, in one piece that lets no other thread run: a screen stands still.
# So what is loaded is said, and has been painted, before.
_LARGE_BYTES = 2_000_000
_SEEN_S = 0.25

log = logging.getLogger("wan_tui")


@dataclass(frozen=True)
class Placement:
    """Where the weights go and in which precision the transformers and the text encoder run there."""

    device: torch.device
    dtype: torch.dtype

    def dtype_of(self, component: str) -> torch.dtype:
        """bf16 only where the publishers run it so: the VAE and the image encoder stay in fp32."""
        return self.dtype if component in HALF_ON_GPU else torch.float32


def place(device: str) -> Placement:
    """bf16 on GPUs that compute in it natively, fp32 everywhere else."""
    target = torch.device(device)
    # Asked of this very card; torch.cuda.is_bf16_supported() looks at the current one. bf16 came with Ampere.
    half = target.type == "cuda" and (
        torch.version.hip is not None or torch.cuda.get_device_properties(target).major >= 8
    )
    return Placement(target, torch.bfloat16 if half else torch.float32)


class Components:
    """The components of one model folder; `held` says which of them are in memory, and where."""

    def __init__(
        self, folder: ModelFolder, placement: Placement, control: Control, voice: Voice, held: Hold | None = None
    ) -> None:
        self.folder = folder
        self.placement = placement
        self.control = control
        self.voice = voice
        self.held = held or hold("staged")
        self.wanted: str | None = None  # the component last asked for, there or not
        self._modules: dict[str, nn.Module] = {}
        self._small: dict[str, Any] = {}

    def stand_in(self, name: str) -> OnDemand | None:
        """What a pipeline is built with; None where the folder has no such component."""
        return OnDemand(self, name) if name in self.folder.components else None

    def small(self, name: str) -> Any:
        """A component without weights (tokenizer, scheduler, image processor); None where there is none."""
        if name in self.folder.components and name not in self._small:
            with self.voice.during("load", name):
                kind = self.kind(name)
                try:
                    if _is_large(self.folder.path / name):
                        self.control.wait(_SEEN_S)
                    self._small[name] = kind.from_pretrained(self.folder.path / name, local_files_only=True)
                except Exception as error:  # over damaged files the libraries raise nearly anything
                    if ran_out(error):
                        raise
                    raise self._bad(name, error) from error
        return self._small.get(name)

    def bring(self, name: str) -> nn.Module:
        """The module itself, ready to run; whatever was there before has left, unless the rung keeps it."""
        if name not in self._modules:
            if self.held.rung.name != "resident":
                self.release()
            self.wanted = name
            self.control.check()
            with self.voice.during("load", name):
                self._modules[name] = self._load(name)
            self.control.check()
        self.wanted = name
        return self._modules[name]

    @property
    def present(self) -> tuple[str, nn.Module] | None:
        """The component last asked for, where its weights are in memory; None where they are not."""
        return (self.wanted, self._modules[self.wanted]) if self.wanted in self._modules else None

    def go(self, held: Hold, placement: Placement) -> None:
        """Free what is in memory; what is brought from now on is held so, and there."""
        self.release()
        self.held, self.placement = held, placement

    def release(self) -> None:
        """Free the weights in memory and give their pages back; whoever still has a module has it without hooks."""
        while self._modules:
            lift(self._modules.popitem()[1])
        self.wanted = None
        gc.collect()  # a module may hold itself in a cycle, and there is no room to wait for that to be found
        if self.placement.device.type == "cuda":
            torch.cuda.empty_cache()
            if hasattr(torch.accelerator, "empty_host_cache"):  # newer torch; pinned RAM is kept for later without it
                torch.accelerator.empty_host_cache()
        _trim_heap()

    @contextmanager
    def at_work(self, doing: str) -> Iterator[None]:
        """What the libraries raise in here is laid to the files of the model. Raises `ModelError` (`bad-component`).

        Not so what this code raised itself, what the device or the disk did, and anything of the built-in model:
        that goes on as it is. The traceback is kept in the log.
        """
        try:
            yield
        except WanError:
            raise
        except Exception as error:
            if self.folder.path == shipped("demo") or not _of_the_model(error):
                raise
            log.error("the model in %s failed while it %s", self.folder.path, doing, exc_info=error)
            where = str(self.folder.path)
            raise ModelError(
                "bad-component",
                f"The model in {self.folder.path} fails while it {doing}.",
                cause=" ".join(f"{type(error).__name__}: {error}".split())[:300],
                suggestions=[remedy(verb, verb, where).command for verb in ("test-load", "diagnose")],
            ) from error

    def kind(self, name: str) -> Any:
        """The class of a component: one of those that may be loaded, or one of code the user trusts."""
        grant = self.folder.grant
        if grant and name in grant.classes:
            return trusted_class(grant, name)
        library, wanted = self.folder.classes[name]
        if library not in LIBRARIES or wanted not in LOADABLE.get(name, ()):  # the folder was checked; still
            raise ModelError(
                "class-refused",
                f"{self.folder.path} asks for the class {library}.{wanted} as {name}, which is not one this program "
                "loads.",
                suggestions=["Use a model whose components are those of Wan."],
            )
        if name == "image_processor":
            wanted = "CLIPImageProcessorPil"  # the same pixels whether or not torchvision is installed
        library = "transformers" if name in FROM_TRANSFORMERS else "diffusers"
        return getattr(importlib.import_module(library), wanted)

    def _bad(self, name: str, cause: object) -> ModelError:
        return ModelError(
            "bad-component",
            f"The component {name} in {self.folder.path} cannot be loaded.",
            cause=str(cause).strip().split("\n")[0][:300],
            suggestions=["Download this component again."],
        )

    def _load(self, name: str) -> nn.Module:
        # dtype= keeps the modules diffusers wants in fp32 as they are; a later .to(dtype) would not.
        kind, grant = self.kind(name), self.folder.grant
        try:
            module, info = kind.from_pretrained(
                self.folder.path / name,
                dtype=self.placement.dtype_of(name),
                # Without safetensors both libraries call torch.load(weights_only=True), and that only if trusted.
                use_safetensors=not (grant and name in grant.pickled),
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # over damaged files the libraries raise nearly anything
            if ran_out(error):
                raise
            raise self._bad(name, error) from error
        # What a file lacks would be filled with random numbers, and the video be wrong without a word.
        lacking = [*info["missing_keys"], *map(str, info["mismatched_keys"])]
        lacking = [name for name in lacking if name not in UNREAD]
        if lacking:
            raise self._bad(name, f"{len(lacking)} tensors are missing or misshapen, among them {lacking[0]}")
        ready: nn.Module = module.eval().requires_grad_(False)
        store(ready, name, self.placement.dtype_of(name), self.held)
        (settle_vae if name == "vae" else settle)(ready, self.placement.device, self.held)
        _watch(ready, self.control)
        return ready


class OnDemand(nn.Module):
    """Stands in a pipeline for a component whose weights are on disk.

    An `nn.Module`, because pipelines take their device from their modules.
    """

    def __init__(self, components: Components, name: str) -> None:
        super().__init__()
        self._components = components
        self._component = name
        self.config = _full_config(components, name)

    @property
    def dtype(self) -> torch.dtype:
        return self._components.placement.dtype_of(self._component)

    @property
    def device(self) -> torch.device:
        return self._components.placement.device

    def _bring(self) -> Any:
        if self._component.startswith("transformer"):
            self._components.voice.enter("denoise")
        return self._components.bring(self._component)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._bring()(*args, **kwargs)

    def cache_context(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self._bring().cache_context(*args, **kwargs)
        return context

    def encode(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        vae = self._bring()
        return vae.encode(x.to(next(vae.parameters()).device), *args, **kwargs)  # which may be another than the run's


def _full_config(components: Components, name: str) -> FrozenDict:
    """The configuration with the class's defaults filled in: older folders lack newer keys."""
    config = components.folder.config(name)
    if name in FROM_TRANSFORMERS or name in WEIGHTLESS:
        return FrozenDict(config)
    parameters = inspect.signature(components.kind(name).__init__).parameters
    defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    return FrozenDict({**defaults, **config})


def _of_the_model(error: Exception) -> bool:
    """Whether a failure within the libraries comes from what they were given, and not from this box or this code."""
    if isinstance(error, OSError | MemoryError | ImportError) or ran_out(error):
        return False
    if isinstance(error, RuntimeError) and any(word in str(error) for word in _DEVICE):
        return False
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    raised_in = str(innermost.tb_frame.f_globals.get("__name__", "")) if innermost else ""
    return raised_in.split(".", 1)[0] not in _OURS


def _is_large(folder: Path) -> bool:
    return any(file.stat().st_size > _LARGE_BYTES for file in folder.iterdir())


def _watch(module: nn.Module, control: Control) -> None:
    """Check for a cancel before every block: a step of a large model takes many seconds."""

    def check(*_: object) -> None:
        control.check()

    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                block.register_forward_pre_hook(check)


def _trim_heap() -> None:
    """glibc keeps freed blocks below its mmap threshold; hand them back before the next component comes."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another libc: it trims by itself or not at all
