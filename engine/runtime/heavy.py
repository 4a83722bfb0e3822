"""Loading torch, diffusers and transformers: once, off the caller's screen, and quietly."""

from __future__ import annotations

import gc
import logging
import os
import threading

_once = threading.Lock()
_loaded = False


def load_libraries() -> None:
    """Import the heavy libraries. Their objects then count no more in garbage collections (174 ms each otherwise)."""
    global _loaded
    with _once:
        if _loaded:
            return
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        gc.disable()
        try:
            import diffusers
            import transformers
            from diffusers import AutoencoderKLWan, WanPipeline  # noqa: F401  (its lazy modules come with these)
        finally:
            gc.enable()
        gc.freeze()
        for library in (diffusers, transformers):
            _into_the_log(library)
        _loaded = True


def _into_the_log(library: object) -> None:
    """What a library has to say goes to our log, not to the terminal; its progress bars are off."""
    manner = library.utils.logging  # type: ignore[attr-defined]
    manner.disable_default_handler()
    manner.enable_propagation()
    manner.set_verbosity(logging.WARNING)
    manner.disable_progress_bar()
