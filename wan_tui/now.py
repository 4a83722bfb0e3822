"""What is known of one job, and of one transfer, of this session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Failed, JobCancelled, JobFailed, JobFinished, LibraryProgress, Notice, PlanMade, Progress

OVER = ("finished", "failed", "cancelled")


@dataclass(frozen=True)
class Spell:
    """A stage of a job: since when (epoch), and its seconds when it is over."""

    name: str
    since: float
    seconds: float | None = None


@dataclass(frozen=True)
class JobNow:
    """One job of this session. `spells` are its stages so far, in order; `progress` is that of the present stage;
    `log` holds (epoch, sentence)."""

    id: str
    state: str = "queued"
    model: str = ""
    file: str | None = None
    seed: int | None = None
    started: float | None = None
    device: str | None = None
    plan: PlanMade | None = None
    stage: str | None = None
    component: str | None = None
    spells: tuple[Spell, ...] = ()
    progress: Progress | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    warnings: tuple[Notice, ...] = ()
    log: tuple[tuple[float, str], ...] = ()
    end: JobFinished | JobFailed | JobCancelled | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True)
class TransferNow:
    """Work of the library on one item: `kind` is download, verify, import or convert; `state` is running, stopped,
    done or failed."""

    id: str
    kind: str
    state: str = "running"
    files: Mapping[str, LibraryProgress] = field(default_factory=dict)
    latest: LibraryProgress | None = None
    error: Failed | None = None
    notice: str | None = None
