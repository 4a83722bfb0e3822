"""TOML from anybody, read in a time that grows with its length.

tomllib takes one that grows with the square of a key's parts: hours for what goes into a file of a few megabytes.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

MOST_PARTS = 20  # of a key; ours have three

_PART = r"""(?:[\w-]++|"(?:\\.|[^"\\\n])*+"|'[^'\n]*+')"""
# Comments and strings of several lines are passed over. Where one does not end tomllib goes no further, and nor do we.
_TOKEN = re.compile(
    r'#[^\n]*+|"""(?:\\.|(?!""").)*+(?:"{3,5}|\Z)|' + r"'''(?:(?!''').)*+(?:'{3,5}|\Z)|"
    rf"(?P<key>{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MOST_PARTS}}})|{_PART}",
    re.DOTALL,
)


def loads(text: str) -> dict[str, Any]:
    """Raises what `tomllib.loads` raises, `TOMLDecodeError` also for an endless key."""
    if found := next((token for token in _TOKEN.finditer(text) if token["key"]), None):
        line = text.count("\n", 0, found.start()) + 1
        raise tomllib.TOMLDecodeError(f"A key of more than {MOST_PARTS} parts (at line {line})")
    return tomllib.loads(text)
