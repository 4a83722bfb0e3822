"""Job files: every check that needs no model.

Each key has one rule, which returns the value or refuses it with the nearest valid one.
"""

from __future__ import annotations

from engine.jobfile.checker import conflicts
from engine.jobfile.keys import PROMPT_BYTES, RULES
from engine.jobfile.overrides import literal
from engine.jobfile.read import job_from_table, job_of_keys, read_job
from engine.jobfile.refusal import Refused, refusal_words
from engine.jobfile.rules import size, size_in_bytes
from engine.jobfile.source import FILE_BYTES, read_table

__all__ = [
    "FILE_BYTES",
    "PROMPT_BYTES",
    "RULES",
    "Refused",
    "conflicts",
    "job_from_table",
    "job_of_keys",
    "literal",
    "read_job",
    "read_table",
    "refusal_words",
    "size",
    "size_in_bytes",
]
