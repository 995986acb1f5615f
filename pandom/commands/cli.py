"""The ``pandom`` command: parses, calls, and turns errors into messages and exit codes.

Sub-commands import what they need when they run: the same file runs on the host and in the jobs'
image, which does not have ``pandom.commands.host``.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import signal
import sys
from collections.abc import Sequence
from typing import Final

from pandom import __version__
from pandom.commands import audit
from pandom.commands.handler import Commands, call
from pandom.runtime import failures, streams, surroundings, wheel
from pandom.runtime.errors import DONE, FAILED, INTERRUPTED
from pandom.runtime.progress import say

_JOBS: Final = ("keys", "cluster", "storage")
# At Python's default threshold a fifth of start-up goes into collecting garbage.
_COLLECT_AFTER: Final = 50_000


def _container_commands(commands: Commands) -> None:
    """Add the commands that run inside the jobs' image."""
    job = commands.add_parser("job", help="a one-shot job of `up` (inside its container)")
    jobs = job.add_subparsers(dest="job", metavar="JOB", required=True)
    for name in _JOBS:
        jobs.add_parser(name).set_defaults(handler=call(f"pandom.jobs.{name}"))

    migrate = jobs.add_parser("migrate", help="bring the database to the newest revision")
    migrate.add_argument("--checkout", help="the revisions that it must find, number:digest,…")
    migrate.set_defaults(handler=call("pandom.jobs.migrate", "run", "checkout"))
    revert = jobs.add_parser("revert", help="take migrations back")
    revert.add_argument("target", help="a revision, or -1 for one step")
    revert.add_argument("--losing", choices=("yes", "no"), default="no", help="rows, too")
    revert.set_defaults(handler=call("pandom.jobs.migrate", "revert", "target", "losing"))
    shell = jobs.add_parser("shell")
    shell.add_argument("instead", nargs=argparse.REMAINDER, metavar="COMMAND", help="not bash")
    shell.set_defaults(handler=call("pandom.jobs.shell", "run", "instead"))

    for name, module, function in (
        ("aside", "pandom.jobs.aside", "run"),
        ("prepare", "pandom.jobs.restore", "prepare"),
        ("finish", "pandom.jobs.restore", "finish"),
    ):
        restore = jobs.add_parser(name, help="around a restore")
        restore.add_argument("name", metavar="DATABASE", help="its name in the server")
        restore.set_defaults(handler=call(module, function, "name"))

    jobs.add_parser("restored", help="look at a cluster that was restored beside").set_defaults(
        handler=call("pandom.jobs.restored")
    )

    audit.register(commands)

    operations = commands.add_parser("operations", help="the scheduler of tasks (container)")
    operations.set_defaults(handler=call("pandom.operations.scheduler"))
    inside = operations.add_subparsers(metavar="ACTION")
    for name, module, function, text in (
        ("run", "pandom.operations.scheduler", "run_now", "run a task now, as the scheduler does"),
        ("task", "pandom.operations.work", "run", "the process of one run"),
    ):
        action = inside.add_parser(name, help=text)
        action.add_argument("task", metavar="TASK")
        action.set_defaults(handler=call(module, function, "task"))
    dumps = inside.add_parser("dumps", help="the dumps that there are, as JSON")
    dumps.set_defaults(handler=call("pandom.backups.dump", "listed"))
    for name, text in (("get", "a dump, on stdout"), ("verify", "read a dump back")):
        action = inside.add_parser(f"{name}-dump", help=text)
        action.add_argument("name", metavar="NAME")
        action.set_defaults(handler=call("pandom.backups.dump", name, "name"))
    copying = inside.add_parser("copy-objects", help="copy documents and media now")
    copying.add_argument("--whole", choices=("yes", "no"), default="no", help="a whole list, too")
    copying.set_defaults(handler=call("pandom.backups.objects", "run", "whole"))
    objects = inside.add_parser("objects", help="what was copied, as JSON")
    objects.add_argument("what", choices=("all", "summary"))
    objects.set_defaults(handler=call("pandom.backups.objects", "listed", "what"))
    inside.add_parser("verify-objects", help="read every copy back").set_defaults(
        handler=call("pandom.backups.objects", "verify")
    )
    give = inside.add_parser("give-objects", help="content of copies, as a tar on stdout")
    give.add_argument("copies", metavar="COPY", nargs="+")
    give.set_defaults(handler=call("pandom.backups.objects", "give", "copies"))


def parser() -> argparse.ArgumentParser:
    """Return the whole command line; on a host with the host's commands."""
    root = argparse.ArgumentParser(
        prog="pandom",
        description="PostgreSQL 17 and an S3 object store for Pandom Stack, by Pulumi.",
        epilog="Exit code: 0 done, 1 failure, 2 your mistake or drift, 130 interrupted.",
    )
    root.add_argument("--version", action="version", version=f"pandom {__version__}")
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    if importlib.util.find_spec("pandom.host") is not None:
        importlib.import_module("pandom.commands.host").register(commands)
        importlib.import_module("pandom.commands.ci").register(commands)
    _container_commands(commands)
    return root


def _enter(stack: str | None) -> None:
    """Let every command find the stack of an environment for CI by its name."""
    if stack and stack.startswith("ci-") and importlib.util.find_spec("pandom.ci") is not None:
        importlib.import_module("pandom.ci.records").enter(stack)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    The traceback of an unexpected error goes into a file that the message names.
    """
    gc.set_threshold(_COLLECT_AFTER)
    surroundings.interrupt_by(signal.SIGTERM, signal.SIGHUP)
    streams.settle()
    code = DONE
    error: BaseException | None = None
    try:
        args = parser().parse_args(argv)
        if edits := getattr(args, "edits", None):
            wheel.refuse_to_edit(edits)
        if wheel.installed():
            wheel.run(sys.argv[1:] if argv is None else argv, getattr(args, "provides", False))
        surroundings.settle()
        _enter(getattr(args, "stack", None))
        code = int(args.handler(args) or DONE)
    except BaseException as raised:  # noqa: BLE001 - the last resort, instead of a traceback
        error = raised
    # What the handler raised may be that stdout cannot be written, in other words.
    if (lost := streams.finish()) and isinstance(error, (type(None), SystemExit, OSError)):
        error = lost
    return code if error is None else _failed(error)


def _failed(error: BaseException) -> int:
    """Say an error; its exit code."""
    if isinstance(error, KeyboardInterrupt):
        say(f"\n{str(error) or 'Interrupted.'}")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return FAILED  # whoever reads has enough
    if not isinstance(error, Exception):
        raise error  # argparse has said it
    text, code = failures.explain(error)
    say(f"\n{text}")
    return code
