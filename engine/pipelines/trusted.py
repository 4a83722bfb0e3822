"""Classes of code the user trusts, imported from its private copy: hashed right before it is compiled.

The modules of one folder make a package that exists in memory alone, so that `from .other import Thing` finds what was
trusted and nothing else. `sys.path` is left as it is, and no name in use is taken.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

from engine.compat.grant import Grant
from engine.errors import ModelError, WanError


def trusted_class(grant: Grant, part: str) -> Any:
    """The class that comes with a model as its `part`. Raises `ModelError` when its code cannot be used."""
    path, kind = grant.classes[part]
    folder, name = os.path.split(path)
    package = _package(grant, folder)
    try:
        module = importlib.import_module(f"{package}.{name.removesuffix('.py')}")
        found = getattr(module, kind, None)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:  # it is anybody's code
        raise _bad(grant, f"{path} cannot be imported", error) from error
    if not isinstance(found, type):
        raise _bad(grant, f"{path} has no class {kind}", None)
    return found


def answerable(grant: Grant, kind: Any) -> Any:
    """A class that is called, made so that what its own code raises then is laid to that code and to nothing else."""
    call = kind.__call__

    @functools.wraps(call)
    def named(self: Any, *args: Any, **values: Any) -> Any:
        try:
            return call(self, *args, **values)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            if not last.filename.startswith(f"{grant.copy}{os.sep}") or _of_this_box(error):
                raise
            where = f"{os.path.relpath(last.filename, grant.copy)}, line {last.lineno}"
            raise _bad(grant, f"{kind.__name__} fails in {where}", error) from error

    return type(kind.__name__, (kind,), {"__call__": named, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _of_this_box(error: Exception) -> bool:
    """Whether it was a disk, memory or a device that failed; these have names of their own."""
    if isinstance(error, WanError | OSError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("memory", "CUDA", "CUBLAS", "cuDNN"))


def _package(grant: Grant, folder: str) -> str:
    """The package of one folder's modules, named after all that is in it."""
    known = [str(grant.copy), folder, sorted(grant.code.items())]
    name = f"wan_tui_trusted_{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]}"
    if name not in sys.modules:
        package = types.ModuleType(name)
        package.__path__ = []
        sys.modules[name] = package
        sys.meta_path.append(_Finder(name, grant, folder))
    return name


class _Finder(importlib.abc.MetaPathFinder):
    """Knows the modules of one package, and no other."""

    def __init__(self, package: str, grant: Grant, folder: str) -> None:
        self._package, self._grant, self._folder = package, grant, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        parent, _, name = fullname.rpartition(".")
        file = os.path.join(self._folder, f"{name}.py")
        if parent != self._package or file not in self._grant.code:
            return None
        loader = _Loader(self._grant, file)
        return importlib.util.spec_from_loader(fullname, loader, origin=str(self._grant.copy / file))


class _Loader(importlib.abc.InspectLoader):
    def __init__(self, grant: Grant, path: str) -> None:
        self._grant, self._path = grant, path

    def is_package(self, fullname: str) -> bool:
        return False

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._grant.source(self._path))

    def get_code(self, fullname: str) -> types.CodeType:
        place = str(self._grant.copy / self._path)
        return self.source_to_code(self._grant.source(self._path), place)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__file__ = str(self._grant.copy / self._path)  # libraries look for the text of a class there
        super().exec_module(module)


def _bad(grant: Grant, what: str, error: BaseException | None) -> ModelError:
    return ModelError(
        "bad-code",
        f"The code that came with {grant.model} does not work: {what}.",
        cause=f"{type(error).__name__}: {error}".strip().split("\n")[0][:300] if error else None,
        suggestions=["Ask who made the model which versions of diffusers and transformers it needs."],
    )
