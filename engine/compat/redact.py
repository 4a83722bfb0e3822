"""What may leave the box: values without tokens, and without the names of its users."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

# In an address all that stands before the host: a password may hold an @, and a name be a token.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|api_org_)[A-Za-z0-9]{8,}"  # also behind an underscore, as in a file's name
    r"|(?i:bearer)\s+[\w.~+/-]{8,}=*"
    r"|(?:(?<=://)|(?<=https:/)|(?<=http:/))[^/\s\"'<>]+(?=@)"
)
_SECRET = {"TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY"}  # words in the names of variables that hold one
_LEAST_SECRET = 6  # characters; replacing shorter ones would leave nothing of a text
_OTHER_HOME = re.compile(r"(?<![\w.~])(/home|/Users)/[^/\s:;,\"'()\[\]]+")


def redacted(value: Any, secrets: Sequence[str] = ()) -> Any:
    """The same value without tokens, with the user's home written `~` and those of others without their names.

    A report is made to be passed on. `secrets` are taken out wherever they stand.
    """
    if isinstance(value, Mapping):
        return {redacted(key, secrets): redacted(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, secrets) for item in value]
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        value = value.replace(secret, "[token]")
    value = _TOKEN.sub("[token]", value)
    for home in _homes():
        value = re.sub(rf"{re.escape(home)}(?!\w|[.-]\w)", "~", value)
    return _OTHER_HOME.sub(r"\1/[user]", value)


def _homes() -> tuple[str, ...]:
    """The home folder under the names it may have in a message, the longest first; not one as short as `/`."""
    named = [os.path.expanduser("~").rstrip("/")]
    with suppress(KeyError):  # a container's user without a name
        named.append(pwd.getpwuid(os.getuid()).pw_dir.rstrip("/"))
    homes = {form for home in named for form in (home, os.path.realpath(home) if home else "")}
    homes |= {quote(home) for home in homes}  # as in a file: URL
    return tuple(sorted((home for home in homes if len(home) > 1), key=len, reverse=True))


def known_secrets() -> tuple[str, ...]:
    """The tokens and passwords this process can see, the longest first: no part of one may remain."""
    from huggingface_hub import constants, get_token

    found = {get_token() or ""}
    with suppress(OSError, UnicodeDecodeError):  # that of `hf auth login`, which HF_TOKEN hides from get_token
        found.add(Path(constants.HF_TOKEN_PATH).read_text(encoding="utf-8").strip())
    found |= {value.strip() for name, value in os.environ.items() if _SECRET & set(name.upper().split("_"))}
    return tuple(sorted((one for one in found if len(one) >= _LEAST_SECRET), key=len, reverse=True))
