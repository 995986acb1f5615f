"""The command line of `pandom audit`; what answers is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import Any, Final

FORMATS: Final = ("terminal", "json", "sarif", "html", "sql")

# Instead of a file or folder; a file of that name is ./bucket.
BUCKET: Final = "bucket"

_EPILOG: Final = """questions:
  (none)                    is access what was declared; which controls hold
  who-can PRIVILEGE OBJECT  who can, by which path: who-can update audit_logs
  reach                     what every login can become and gains by it
  trail                     was the audit trail touched
  heal FINDING …            take back what `up` leaves to a person (host)
  watch                     all of it, on a schedule, evidence kept (container)
  record                    schema/catalog.json anew, from what the revisions make
exit code: 0 clean, 2 drift, 1 could not tell"""


def register(commands: Any) -> None:
    """Add ``audit`` to the sub-commands of ``pandom``."""
    parser = commands.add_parser(
        "audit",
        help="who can do what, is it what was declared, was the trail touched",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", nargs="*", metavar="QUESTION", help="see below")
    parser.add_argument("--stack", default=os.environ.get("STACK"), help="a stack of this host")
    parser.add_argument("--dsn", help="any database; otherwise libpq's variables (PGHOST …)")
    parser.add_argument(
        "--opt-in",
        default=os.environ.get("PANDOM_OPT_IN", ""),
        help="settings that are on there, such as serviceLogin (comma list)",
    )
    parser.add_argument("--format", choices=FORMATS, default="terminal", help="how to print it")
    parser.add_argument("--output", type=Path, help="a file instead of stdout")
    parser.add_argument("--store", action="store_true", help="the object store, too (of a stack)")
    parser.add_argument(
        "--host", action="store_true", help="the containers, too (of a stack of this host)"
    )
    parser.add_argument("--accepted", type=Path, help="instead of schema/accepted.toml")
    parser.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="FILE",
        help=f"trail: heads, checked and extended; '{BUCKET}' is the stack's for evidence",
    )
    parser.add_argument(
        "--archive",
        metavar="FOLDER",
        help=f"trail: exported months; '{BUCKET}' is the stack's for evidence",
    )
    parser.set_defaults(handler=_run)


def _run(args: argparse.Namespace) -> Any:
    return importlib.import_module("pandom.audit.command").run(args)
