"""What is said of files on the shelf, in the app and by the commands: what a removal takes, why a file is bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.units import size
from wan_tui.text import plain

if TYPE_CHECKING:
    from engine.library.locate import FileState
    from engine.library.remove import Removal

_SHOWN = 5  # files of the user that stay in a folder


def removal_lines(plan: Removal) -> list[str]:
    """What goes, what that frees, what stays, and who will miss it."""
    lines = [f"goes     {plain(str(path))}" for path in plan.folders]
    parents = sorted({plain(str(path.parent)) for path in plan.files})
    lines += (
        [f"goes     {len(plan.files)} files in {parents[0]}" + (" and below" if parents[1:] else "")] if parents else []
    )
    lines += [f"frees    {size(plan.freed_bytes)}"]
    lines += [f"shared   {size(plan.shared_bytes)} stay: other models have them too"] if plan.shared_bytes else []
    lines += [f"stays    {plain(str(path))}: it is not the model's" for path in plan.kept[:_SHOWN]]
    lines += [f"stays    {len(plan.kept) - _SHOWN} more files that are not the model's"] if plan.kept[_SHOWN:] else []
    lines += [f"warning: {id} uses some of it, and will not be whole" for id in plan.needed_by]
    return lines


def expected_digest(file: FileState) -> str | None:
    return file.info.sha256 or file.info.git


def actual_digest(file: FileState) -> str | None:
    """Of the kind that is expected; None while it is not known."""
    return file.actual.sha256 if file.actual and file.info.sha256 else file.actual.git if file.actual else None


def bad_because(file: FileState) -> str:
    """Why a file is not what it should be."""
    expected, actual = expected_digest(file), actual_digest(file)
    if file.state == "corrupt" and expected and actual and actual != expected:
        return f"its digest is {actual[:16]}…, and should be {expected[:16]}…"
    if file.state == "corrupt" and file.present_bytes == file.info.size:
        return "it cannot be read"
    if file.state == "corrupt":
        return f"it has {file.present_bytes} bytes, and should have {file.info.size}"
    return "it is missing" if file.state == "absent" else "only part of it is here"
