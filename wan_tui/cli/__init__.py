"""The command line: one file a group of verbs. This one only parses, and imports a verb's file when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from wan_tui import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # Until a command has handlers of its own a Ctrl-C ends the program at once: Python's own handler would raise in the
    # middle of an import and leave its lock held.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    _hold_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is escaped, not a crash
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    try:
        args = parser.parse_args(argv)
    finally:
        _flush()  # --help and --version leave from there
    if args.run:
        return int(importlib.import_module("wan_tui.headless").run_files(args))
    if args.verb and (args.dry_run or (args.set and args.verb != "plan")):
        parser.error(f"--set and --dry-run go with --run, not with {args.verb}")
    from wan_tui.cli.errors import reported

    if args.verb is None:
        opening = importlib.import_module("wan_tui.opening")
        return int(reported(lambda: opening.open_app(mouse=not args.no_mouse), as_json=False))
    verb = importlib.import_module(f"wan_tui.cli.{args.verb.replace('-', '_')}")
    status = reported(lambda: verb.command(args), as_json=getattr(args, "json", False))
    _flush()
    return int(status)


def _hold_standard_descriptors() -> None:
    """Where the caller closed one of 0, 1, 2, no file of ours may take its number: it would be written over."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _flush() -> None:
    """Say what was printed. A reader that has gone (`| head`) is no failure: what is left goes nowhere."""
    try:
        if sys.stdout:  # None where the caller closed it
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wan-tui",
        description="Runs the Wan 2.1 and 2.2 video models. Without a command it opens the app.",
        epilog="Exit status: 0 done, 1 failed, 2 bad usage or job file, 3 model absent or unfit, 4 does not fit, "
        "130 cancelled, 143 terminated.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wan-tui {__version__}")
    parser.add_argument(
        "--run", nargs="+", action="extend", default=[], metavar="JOB.toml", help="run job files, one after another"
    )
    run_options(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the job files"
    )
    parser.add_argument("--dry-run", action="store_true", help="validate, check and plan only")
    parser.add_argument("--no-mouse", action="store_true", help="the app leaves the mouse to the terminal")
    verbs = parser.add_subparsers(dest="verb", title="commands", metavar="COMMAND")

    demo = verbs.add_parser("demo", help="render a clip with the built-in model", allow_abbrev=False)
    demo.add_argument("prompt", nargs="?", metavar="PROMPT")
    demo.add_argument("--image", metavar="FILE", help="begin from this picture")
    run_options(demo, default=argparse.SUPPRESS)

    models = verbs.add_parser("models", help="the models, and what is on disk", allow_abbrev=False)
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every model with its state on disk", allow_abbrev=False)
    listing.add_argument("--installed", action="store_true", help="only those on disk")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    show = actions.add_parser("show", help="one model in full", allow_abbrev=False)
    show.add_argument("model", metavar="MODEL", help="id[@version][:variant]")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    _library_actions(actions)

    check = verbs.add_parser("check", help="can a model or folder run here, and if not, what to do", allow_abbrev=False)
    check.add_argument("model", metavar="MODEL|FOLDER", help="id[@version][:variant], or a folder or file of weights")
    check.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")

    _plan_verb(verbs)
    _trying_verbs(verbs)
    _compat_verbs(verbs)

    jobs = verbs.add_parser("jobs", help="the journal: queue and history", allow_abbrev=False)
    actions = jobs.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="jobs, the newest first", allow_abbrev=False)
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most N (default 20; 0: all)")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    for name, what in (("show", "one job in full"), ("cancel", "stop a job, also one of another process")):
        verb = actions.add_parser(name, help=what, allow_abbrev=False)
        verb.add_argument("id", metavar="ID", help="a job's id, the beginning of one, or last")
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    _box_verbs(verbs)
    _settings_verbs(verbs)
    return parser


def _box_verbs(verbs: Any) -> None:
    """What there is on this box."""
    for name, what in (
        ("gpu", "the devices, what they do right now, RAM and disk"),
        ("info", "versions, places, devices, and what of the environment decides"),
    ):
        verb = verbs.add_parser(name, help=what, allow_abbrev=False)
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")


def _settings_verbs(verbs: Any) -> None:
    """The app's settings, and what a shell completes."""
    config = verbs.add_parser("config", help="the settings of the app", allow_abbrev=False)
    actions = config.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, what in (
        ("show", "every setting, its value, and where that comes from"),
        ("path", "where the file of the settings is"),
        ("init", "write that file, with every setting as a comment"),
    ):
        action = actions.add_parser(name, help=what, allow_abbrev=False)
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    completion = verbs.add_parser("completion", help="a script that completes commands in a shell", allow_abbrev=False)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")


def _library_actions(actions: Any) -> None:
    """What changes the library: download, verify, import, remove."""

    def add(name: str, what: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=what, allow_abbrev=False)
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
        action.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress")
        return action

    def named(action: argparse.ArgumentParser, every: str) -> None:
        action.add_argument("model", nargs="*", metavar="MODEL", help="id[@version][:variant]")
        action.add_argument("--all", action="store_true", help=every)

    download = add("download", "fetch models, or go on where a download stopped")
    named(download, "every model of the manifest; the sum is shown first")
    download.add_argument("--revision", metavar="REV", help="a branch, tag or commit instead of the manifest's")
    download.add_argument("--limit-rate", metavar="RATE", help="at most so many bytes a second, such as 20MB")
    download.add_argument("--yes", action="store_true", help="do not ask")
    verify = add("verify", "compare every byte on disk with its SHA-256, offline")
    named(verify, "every model on disk")
    verify.add_argument("--quick", action="store_true", help="only sizes and times since the last verification")
    verify.add_argument("--repair", action="store_true", help="fetch again what is bad or missing")
    adopt = add("import", "take over files you have already, by their SHA-256; yours stay where they are")
    adopt.add_argument("model", metavar="MODEL", help="id[@version][:variant]")
    adopt.add_argument("folder", metavar="FOLDER", help="where to look, with all below it")
    adopt.add_argument("--revision", metavar="REV", help="a branch, tag or commit instead of the manifest's")
    remove = add("remove", "take a model from this box; shows what that frees, and asks")
    remove.add_argument("model", metavar="MODEL", help="id[@version][:variant]")
    remove.add_argument("--yes", action="store_true", help="do not ask")


def _plan_verb(verbs: Any) -> None:
    """What tells beforehand whether a job fits, and how long it takes."""
    plan = verbs.add_parser("plan", help="will a job fit, and how long will it take", allow_abbrev=False)
    plan.add_argument("what", nargs="*", metavar="JOB.toml|MODEL", help="a job file; with --table any models")
    plan.add_argument("--vram", metavar="SIZE", help="plan for another card, with so much memory: 12GiB")
    plan.add_argument("--table", action="store_true", help="what models take, by size, frames and rung")
    plan.add_argument(
        "--set", action="append", default=[], dest="changes", metavar="KEY=VALUE", help="override a key of the job file"
    )
    plan.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")


def _trying_verbs(verbs: Any) -> None:
    """What loads a model to see whether it works."""
    what = "load every component, look at its weights, and render the smallest clip"
    load = verbs.add_parser("test-load", help=what, allow_abbrev=False)
    about = verbs.add_parser(
        "diagnose", help="write all there is to know about a model into a file", allow_abbrev=False
    )
    for verb, kept in ((load, "clip"), (about, "report")):
        verb.add_argument("model", metavar="MODEL|FOLDER", help="id[@version][:variant], or a folder")
        verb.add_argument("--device", default="auto", metavar="DEVICE", help="auto (default), cpu, cuda:1 or a UUID")
        help_output = f"put the {kept} there (default ./diagnostics)"
        verb.add_argument("--output", default=argparse.SUPPRESS, metavar="DIR", help=help_output)
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    load.add_argument("--smoke-test", action="store_true", help="render the smallest clip, and check it")
    about.add_argument("--no-load", action="store_true", help="load nothing: read what lies on disk alone")


def _compat_verbs(verbs: Any) -> None:
    """What brings the pieces a model needs: its packages, newer facts about it."""
    what = "show, and install, the packages that a model misses here"
    install = verbs.add_parser("install-deps", help=what, allow_abbrev=False)
    install.add_argument("model", metavar="MODEL", help="id[@version][:variant], or a folder")
    install.add_argument("--yes", action="store_true", help="do not ask")
    update = verbs.add_parser("update-registry", help="take over newer compatibility facts", allow_abbrev=False)
    update.add_argument("file", metavar="FILE", help="a TOML file of the form of the one that ships")
    for verb in (install, update):
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    _trust_actions(verbs.add_parser("trust", help="models whose code or pickles you accept", allow_abbrev=False))


def _trust_actions(trust: argparse.ArgumentParser) -> None:
    actions = trust.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is trusted, with every hash", allow_abbrev=False)
    add = actions.add_parser("add", help="show a model's code and pickles, and accept them", allow_abbrev=False)
    revoke = actions.add_parser("revoke", help="trust a model no more", allow_abbrev=False)
    for action in (add, revoke):
        action.add_argument("model", metavar="MODEL|FOLDER", help="id[@version][:variant], or a folder")
    add.add_argument("--yes", action="store_true", help="do not ask")
    revoke.add_argument("--yes", action="store_true", help="accepted for scripts; nothing is asked")
    for action in (listing, add, revoke):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")


def run_options(parser: argparse.ArgumentParser, **more: Any) -> None:
    """What everything that renders takes. A verb's own have no default: it would undo what stands before the verb."""
    parser.add_argument("--json", action="store_true", help="events as JSON, one object a line", **more)
    parser.add_argument("--output", metavar="DIR", help="put the videos there", **more)
    parser.add_argument("--quiet", action="store_true", help="only warnings, errors and the path of each video", **more)


if __name__ == "__main__":
    sys.exit(main())
