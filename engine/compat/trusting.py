"""What trust says of a model folder: what may be used of its code and pickles, and what is told where nothing may.

Trust is given to one model, of what lies there at that moment. Whenever the model is looked at, what lies there then is
compared; where it differs the trust is taken back.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.compat.anatomy import Anatomy
from engine.compat.finding import Finding, Remedy, remedy
from engine.compat.grant import MOST_BYTES, PIPELINE, Grant
from engine.compat.risks import Risks, Use, read_risks, shown
from engine.compat.trust import Record, Store, Trusted, forget, key_of, read_store, store_file
from engine.control import Control
from engine.errors import RunError
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import look
from engine.library.store import counted_at
from engine.regular import regular_bytes

_AUTO = ("AutoModel", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor", "AutoFeatureExtractor")


@dataclass(frozen=True)
class Judged:
    """What trust says of a folder. `coded` are components whose class comes with the model."""

    findings: tuple[Finding, ...] = ()
    grant: Grant | None = None
    coded: frozenset[str] = frozenset()


def judge_trust(item: Item, anatomy: Anatomy) -> Judged:
    """The findings about code and pickles of a folder, and what may be used of them. Takes back trust that is stale."""
    risks = read_risks(anatomy)
    coded = frozenset(use.part for use in risks.uses)
    told = (*risks.refused, *risks.notes)
    if not risks.any:
        return Judged(told, None, coded)
    store = read_store()
    if store.broken:
        told = (*told, _broken(store))
    record = store.records.get(key_of(item))
    if record is None:
        return Judged((*told, *_asked_for(item, anatomy.path, risks)), None, coded)
    if changed := changes(item, anatomy.path, risks, record):
        try:
            forget(key_of(item))
        except RunError as error:  # it is compared, and refused, again next time
            return Judged((*told, _changed(item, changed, error)), None, coded)
        return Judged((*told, _changed(item, changed)), None, coded)
    return Judged((*told, _trusted(item, record, risks)), None if risks.refused else _grant(record, risks), coded)


def _asked_for(item: Item, path: Path, risks: Risks) -> Iterator[Finding]:
    absent = [] if _origin(item).sources else [use for use in risks.uses if not _is_there(path, use)]
    # What `trust add` would refuse is not offered. Code of a repository is fetched, and need not be there.
    remedies = () if absent or risks.refused else (add_remedy(item),)
    for use in risks.uses:
        part = None if use.part == use.label == PIPELINE else use.part
        if use in absent:
            yield Finding(
                "error",
                "no-code",
                f"{path} asks for code that is not there: the class {use.kind} in {' or '.join(use.paths)}, as its "
                f"{use.part}.",
                "No class that is installed here is taken in its place.",
                ("Restore the file from where the model came from, or use a model that needs no code of its own.",),
                component=part,
            )
            continue
        yield Finding(
            "error",
            "remote-code",
            f"{path} brings code of its own, which is not run: the class {use.kind} in {use.paths[0]}, as its "
            f"{use.part}.",
            "Code of a model can do everything you can do. It runs only for a model you trust.",
            ("Use a model that needs no code of its own, or read its code and trust it:",),
            remedies,
            part,
        )
    for part, names in (risks.pickles or {}).items():
        yield Finding(
            "error",
            "pickled-weights",
            f"{path / part} has no safetensors but pickled weights, which are not opened: {shown(names)}.",
            "Reading a pickle can run any code.",
            ("Use the safetensors edition of the model; or, if you trust who made it:",),
            remedies,
            part,
        )


def _is_there(path: Path, use: Use) -> bool:
    return any(os.path.lexists(path / name) for name in use.paths)


def _origin(item: Item) -> Item:
    """What the code of a model came with: the base, of a variant that was made here."""
    return item.base if item.made else item


def add_remedy(item: Item) -> Remedy:
    return remedy("trust", "trust", "add", item.id)


def _changed(item: Item, changed: str, failed: RunError | None = None) -> Finding:
    revoked = "The trust has been revoked."
    if failed:
        revoked = f"The trust could not be taken back ({failed.message} {failed.cause}); still nothing of it runs."
    return Finding(
        "error",
        "trust-changed",
        f"{item.id} is no longer what was trusted: {changed}. {revoked}",
        "What was trusted is known by its SHA-256; other code or pickles need a decision of their own.",
        ("Find out why it changed; then, if you trust it as it is now:",),
        (add_remedy(item),),
    )


def _trusted(item: Item, record: Record, risks: Risks) -> Finding:
    code = [f"the class {use.kind} of {record.uses[use.label][0]} as its {use.part}" for use in risks.uses]
    what = [f"code of its own runs: {', '.join(code)}"] if code else []
    what += [f"pickles are read: {shown(record.pickles)}"] if record.pickles else []
    return Finding(
        "warning",
        "trusted",
        f"{item.id} is trusted since {record.when[:10]}: {'; '.join(what)}.",
        suggestions=(f"To take that back: {remedy('trust', 'trust', 'revoke', item.id).command}",),
    )


def _broken(store: Store) -> Finding:
    return Finding(
        "warning",
        "trust-unreadable",
        f"{store_file()} cannot be used ({store.broken}): no model is trusted.",
        suggestions=(store.cure,),
    )


def _grant(record: Record, risks: Risks) -> Grant:
    classes: dict[str, tuple[str, str]] = {}
    for use in sorted(risks.uses, key=_rank):  # the class the index names before those an auto_map does
        if use.label == use.part or use.label.partition(":")[2].startswith(_AUTO):
            classes.setdefault(use.part, record.uses[use.label])
    hashes = {path: file.sha256 for path, file in {**record.code, **record.pickles}.items()}
    identity = hashlib.sha256(json.dumps([sorted(hashes.items()), sorted(classes.items())]).encode()).hexdigest()
    code = {path: file.sha256 for path, file in record.code.items()}
    return Grant(record.model, record.copy, code, classes, frozenset(risks.pickles or ()), identity)


def _rank(use: Use) -> tuple[bool, bool]:
    """The class the index names first; of an auto_map the model before the tokenizer."""
    return use.label != use.part, not use.label.endswith("AutoModel")


# --- what lies there against what was trusted -------------------------------------------------------------------------


def changes(item: Item, path: Path, risks: Risks, record: Record) -> str | None:
    """The first thing that is not as it was trusted; None when all of it is."""
    if risks.uses or record.uses:
        asked = {use.label: use for use in risks.uses}
        if asked.keys() != record.uses.keys():
            return "it asks for other classes"
        for label, (module, kind) in record.uses.items():
            if kind != asked[label].kind or module not in asked[label].paths:
                return f"it asks for another class as its {asked[label].part}"
        origin = _origin(item)
        now = look(origin, Digests()).revision if origin.sources else None
        if record.revision and now and now != record.revision:
            return f"it is at commit {now[:12]}, and its code was trusted at {record.revision[:12]}"
        for name, file in record.code.items():
            if os.path.lexists(path / name):
                if code_sha256(path / name) != file.sha256:
                    return f"{name} has changed"
            elif record.repo is None:
                return f"{name} is gone"
            if code_sha256(record.copy / name) != file.sha256:
                return f"the private copy of {name}, which is what runs, is gone or has changed"
    lying = pickle_paths(risks)
    if lying.keys() != record.pickles.keys():
        return "it has other pickles"
    for name, found in hashed(path, lying).items():
        if found is None or found.sha256 != record.pickles[name].sha256:
            return f"{name} has changed"
    return None


def pickle_paths(risks: Risks) -> dict[str, None]:
    return {f"{part}/{name}": None for part, names in (risks.pickles or {}).items() for name in names}


def code_sha256(file: Path) -> str | None:
    """Code is small: it is read anew each time. None where it cannot be read."""
    try:
        return hashlib.sha256(regular_bytes(file, MOST_BYTES)).hexdigest()
    except (OSError, ValueError):
        return None


def hashed(path: Path, names: Mapping[str, None], control: Control | None = None) -> dict[str, Trusted | None]:
    """The files below a folder with their hashes; those of files that did not change since are remembered."""
    digests = Digests()
    found: dict[str, Trusted | None] = {}
    for name in names:
        try:
            regular = stat.S_ISREG(os.stat(path / name).st_mode)
        except OSError:
            regular = False
        counted = counted_at(path / name, digests, control or Control(), git=False) if regular else None
        found[name] = Trusted(counted.digest.sha256, counted.info.st_size) if counted else None
    digests.save()
    return found
