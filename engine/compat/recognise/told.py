"""What a file's name and its metadata tell, where the tensors leave it open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from engine.compat.recognise.table import Recognised

# A bare "high" or "low" must not belong to other words of file names: low_vram, high-res, low_rank.
_NOISE = re.compile(r"(?<![a-z])(high|low)[ ._-]?noise(?![a-z])")
_EXPERT = re.compile(
    r"(?<![a-z])(high|low)(?![a-z])(?![ ._-]?(?:v?ram|mem|rank|res|quality|steps?|fps|motion|detail|poly|light|speed))"
)
_VERSION = re.compile(r"wan[ ._-]?(?:video[ ._-]?)?2[._]?([12])(?![0-9])")
_TASK = re.compile(r"(?<![a-z0-9])(ti2v|t2v|i2v|flf2v|vace|animate|s2v)(?![a-z0-9])")
_TELLING = ("general.name", "modelspec.title", "ss_output_name", "ss_base_model_version", "title", "name")


@dataclass(frozen=True)
class Told:
    """What is said outside of the tensors."""

    text: str
    expert: str | None
    version: str | None
    task: str | None


def read_told(file_name: str, metadata: Mapping[str, str]) -> Told:
    path = PurePosixPath(file_name[-500:].replace("\\", "/").replace("\0", "?"))
    base = path.name.casefold()
    values = [str(metadata[key])[:300].casefold() for key in _TELLING if key in metadata]
    expert = None
    for pattern, text in (
        (_NOISE, base),
        (_EXPERT, base),
        (_NOISE, str(path).casefold()),
        *((_NOISE, v) for v in values),
    ):
        if len(said := set(pattern.findall(text))) == 1:
            expert = str(said.pop())
            break
    if expert is None and "transformer_2" in path.parts[:-1]:
        expert = "low"

    def only(pattern: re.Pattern[str]) -> str | None:
        for text in (base, str(path).casefold(), *values):
            if len(said := set(pattern.findall(text))) == 1:
                return str(said.pop())
        return None

    version = only(_VERSION) or ("2" if "a14b" in base else None)  # only Wan 2.2 calls itself A14B
    return Told(" ".join((base, *values)), expert, f"2.{version}" if version else None, only(_TASK))


def narrowed(found: Recognised, told: Told) -> Recognised:
    """Version and expert, as far as the file's name or metadata tell them and the tensors leave them open."""
    versions, why = found.versions, found.why
    paired = not found.families or bool(_PAIRED.intersection(found.families))
    expert = told.expert if "2.2" in versions and found.size == "14B" and paired else None
    version = "2.2" if expert else told.version
    if expert:
        why = (*why, f"its name says {expert} noise")
    if len(versions) > 1 and version in versions:
        why = why if expert else (*why, f"its name says Wan {version}")
        versions = (version,)
    return replace(found, versions=versions, expert=expert, why=why)


_PAIRED = {"t2v", "i2v", "vace"}  # families with two experts


def of_versions(found: Recognised) -> str:
    return f" (Wan {' or '.join(found.versions)})" if found.versions else ""
