"""How a failed command is told: one message for people, one object for programs, never a traceback."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress

from engine.errors import Exit, WanError
from wan_tui.text import plain


def reported(command: Callable[[], int], *, as_json: bool) -> int:
    """Run a command; its failure becomes a message and its exit status."""
    try:
        return command()
    except BrokenPipeError:
        return Exit.DONE  # the reader has gone (| head)
    except KeyboardInterrupt:
        return Exit.CANCELLED
    except Exception as error:  # noqa: BLE001  (named and told)
        from engine.runtime.failure import explain  # half of the engine, and most commands do not fail

        named = explain(error)
        with suppress(OSError):  # where nobody can be told, the status has to do
            if as_json:
                print(json.dumps(named.as_dict()), flush=True)
            elif sys.stderr:
                from wan_tui.cli.layout import laid_out, width_of

                print(laid_out(described(named).splitlines(), width_of(sys.stderr)), file=sys.stderr)
        return named.status


def answered(text: str, status: int) -> int:
    """Print an answer, and return the status it ends with: what was found stays so when the reader has gone."""
    with suppress(BrokenPipeError):
        print(text, flush=True)
    return status


def described(error: WanError) -> str:
    """What, why, what to do."""
    lines = [f"error: {error.message}"]
    lines += [f"  why: {error.cause}"] if error.cause else []
    lines += [f"  do:  {suggestion}" for suggestion in error.suggestions]
    return "\n".join(plain(line) for line in lines)


def log_to_file() -> None:
    """Everything that is logged goes to the log file; nothing to the screen."""
    from logging.handlers import RotatingFileHandler

    from engine.paths import log_file

    handler: logging.Handler = logging.NullHandler()
    with suppress(OSError):  # no state folder: no log
        handler = RotatingFileHandler(log_file(), maxBytes=2_000_000, backupCount=2, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(force=True, level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk under the log is no reason to write on the screen
