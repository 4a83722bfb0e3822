"""Which tasks of a model this version runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from engine.catalog import ModelSpec
from engine.errors import ModelError
from engine.pipelines.families import recipe


@dataclass(frozen=True)
class Support:
    """Which tasks of a model this version runs, and which are to come."""

    runs: tuple[str, ...]
    waits: tuple[str, ...]

    @property
    def sentence(self) -> str | None:
        """What is to say of it; None where every task runs."""
        if not self.waits:
            return None
        if not self.runs:
            return "This version does not run this model yet: a job can be written and saved."
        return f"This version runs {' and '.join(self.runs)} with it, and not yet {' and '.join(self.waits)}."


def support(spec: ModelSpec) -> Support:
    runs = tuple(task for task in spec.tasks if task_runs(spec.family, task))
    return Support(runs, tuple(task for task in spec.tasks if task not in runs))


@cache
def task_runs(family: str, task: str) -> bool:
    """Whether this version runs a task with models of a family."""
    try:
        recipe(family, task)
    except ModelError:
        return False
    return True
