"""What the library knows of the copy of a model on this box: how much is here, and whether its bytes are right."""

from __future__ import annotations

from collections.abc import Iterator

from engine.compat.finding import Finding, Remedy, remedy
from engine.compat.folder import EXPERTS
from engine.library.item import Item
from engine.library.locate import OnDisk
from engine.units import size

AGAIN = "It comes with the program: install wan-tui again."


def download(item: Item) -> Remedy:
    """Fetching a model, or making the variant that is made here."""
    return remedy("download", "models", "download", item.id)


def judge_copy(item: Item, disk: OnDisk) -> Iterator[Finding]:
    """What the library knows of a copy: how much is here, and whether its bytes are right."""
    repair = remedy("repair", "models", "verify", item.id, "--repair")
    if disk.state == "corrupt":
        if swapped := _swapped(disk):
            yield Finding(
                "error",
                "swapped-experts",
                f"The two experts of {item.id} stand in each other's place ({swapped}).",
                "The SHA-256 of each is the one the repository lists for the other.",
                ("Exchange the folders transformer and transformer_2, or fetch them again.",),
                (repair,),
                "transformer",
            )
            return
        bad = [file.info.path for file in disk.files if file.state == "corrupt"]
        yield Finding(
            "error",
            "model-corrupt",
            f"{item.id} has damaged files: {', '.join(bad[:5])}{' …' if bad[5:] else ''}.",
            "Their size or SHA-256 is not the one the repository lists.",
            remedies=(repair,),
        )
    elif disk.state in ("absent", "partial"):
        count = item.expected_bytes
        whole = f" The whole of it has {size(count)}." if count else ""
        part = "only in part" if disk.state == "partial" else "not"
        if item.sources or item.made:
            message = f"{item.id} is {part} on this box.{whole}"
            yield Finding("warning", "model-absent", message, remedies=(download(item),))
        elif item.spec.builtin:
            message = f"The built-in model {item.id} is {part} here: this installation is damaged."
            yield Finding("error", "model-absent", message, suggestions=(AGAIN,))
        else:
            message = f"{item.id} is {'not whole' if disk.state == 'partial' else 'not'} at {item.spec.path}."
            yield Finding("error", "model-absent", message, suggestions=("Check its path.",))


def _swapped(disk: OnDisk) -> str | None:
    """The first file whose bytes are those listed for the same file of the other expert."""
    listed = {file.info.path: file.info.sha256 for file in disk.files}
    one, other = EXPERTS
    for file in disk.files:
        place, _, name = file.info.path.partition("/")
        if place in EXPERTS and file.state == "corrupt" and file.actual and name.endswith(".safetensors"):
            twin = listed.get(f"{other if place == one else one}/{name}")
            if twin and twin == file.actual.sha256 != file.info.sha256:
                return file.info.path
    return None
