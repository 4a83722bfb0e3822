"""Who gets how many rows: as much of each card as fits, the job before its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wan_tui.screens.monitor_card import FULL, ONE, TWO, Seen, height

_MOST_ROWS = 8  # of a curve, more on a very high screen
_LOG = 4  # rows, its title among them, that it gets before curves grow


@dataclass(frozen=True)
class Rooms:
    """Rows: of the cards and how detailed each is, of the host's curves, of the job and of the end of its log."""

    level: int
    cards: int
    host_curves: int
    job: int
    log: int


def divided(rows: int, cards: Sequence[Seen], said: int, host: int, job: int, log: int, *, stacked: bool) -> Rooms:
    """`said` rows are needed above the cards, `host` and `job` by these; `log` lines there are to show. `stacked`: all
    stand in one column, else the job and its log beside the rest."""
    own = rows - said - host - (job if stacked else 0)
    kept = min(log + 1, _LOG) if stacked and log else 0
    most = max(_MOST_ROWS, rows // 4)
    level = ONE
    for wanted in (*range(FULL + most - 1, TWO, -1), TWO):
        spare = 0 if wanted <= FULL else kept + (2 if stacked else 0)
        if sum(height(card, wanted) for card in cards) <= own - spare:
            level = wanted
            break
    needed = sum(height(card, level) for card in cards)
    given = max(1, min(needed, own)) if cards else 0
    left = max(0, own - given)
    curves = min(most, left - (kept + 2 if stacked else 1)) if level >= FULL or not cards else 0
    curves = curves if curves >= 2 else 0
    log_rows = left - curves if stacked else rows - job
    return Rooms(level, given, curves, job, log_rows if log and log_rows >= 2 else 0)
