"""Loading torch, diffusers and transformers: once, off the caller's screen, and quietly."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import logging
import os
import threading
from pathlib import Path

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
        _link_torch()
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


def _link_torch() -> None:
    """Have the system link torch's libraries while Python goes on: an import would hold up all threads, 0.2 to 0.9 s.

    What fails here fails again in the import, which tells why.
    """
    if not (found := importlib.util.find_spec("torch")) or not found.origin:
        return
    link = ctypes.CDLL(None).dlopen  # called by ctypes, it lets go of the interpreter; `ctypes.CDLL` itself does not
    link.argtypes, link.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for name, how in (("_global_deps", os.RTLD_GLOBAL), ("_cpu", 0), ("", 0), ("_python", 0)):
        link(os.fsencode(Path(found.origin).parent / "lib" / f"libtorch{name}.so"), os.RTLD_LAZY | how)


def _into_the_log(library: object) -> None:
    """What a library has to say goes to our log, not to the terminal; its progress bars are off."""
    manner = library.utils.logging  # type: ignore[attr-defined]
    manner.disable_default_handler()
    manner.enable_propagation()
    manner.set_verbosity(logging.WARNING)
    manner.disable_progress_bar()
