"""`pandom audit`: the auditor's command, on the host, in the operations image, against any DSN.

    pandom audit                            declared against actual, and controls
    pandom audit who-can update audit_logs  who can, and how
    pandom audit reach                      what every login can become and gains
    pandom audit trail                      was the trail touched
    pandom audit compare OLD.json NEW.json  what changed between two reviews
    pandom audit heal FINDING …             take back what the findings name (host)
    pandom audit record                     schema/catalog.json anew, from what the revisions make

Exit code: 0 clean, 2 drift, 1 could not tell.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pandom.runtime import surroundings
from pandom.runtime.errors import DONE, DRIFT, Failure, UsageError

if TYPE_CHECKING:
    from pandom.audit.target import AuditTarget
    from pandom.database.drift.catalog import Observed
    from pandom.database.drift.facts import Facts


FORMATS: Final = ("terminal", "json", "sarif", "html", "csv", "sql")

# Stands for the evidence bucket; a file of this name is ./bucket.
BUCKET: Final = "bucket"


def register(commands: Any) -> None:
    """Add ``audit`` and its questions to the sub-commands of ``pandom``."""
    parser = commands.add_parser(
        "audit",
        help="who can do what, is it what was declared, was the trail touched",
        description="Without a question: is access what was declared, and which controls hold.",
        epilog="Exit code: 0 clean, 2 drift, 1 could not tell.",
    )
    _common(parser)
    parser.add_argument("--store", action="store_true", help="the object store, too (of a stack)")
    parser.add_argument(
        "--host", action="store_true", help="the containers, too (of a stack of this host)"
    )
    parser.set_defaults(handler=_all)
    questions = parser.add_subparsers(metavar="QUESTION")
    who_can = _question(questions, "who-can", _who_can, "who can, by which path")
    who_can.add_argument("privilege", help="such as update, execute, become")
    who_can.add_argument("object", help="such as audit_logs, auth_users.password_hash, a role")
    _question(questions, "reach", _reach, "what every login can become and gains by it")
    trail = _question(questions, "trail", _trail, "was the audit trail touched")
    trail.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="FILE",
        help=f"heads, checked and extended; '{BUCKET}' is the stack's for evidence",
    )
    trail.add_argument(
        "--archive",
        metavar="FOLDER",
        help=f"exported months; '{BUCKET}' is the stack's for evidence",
    )
    heal = _question(questions, "heal", _heal, "take back what `up` leaves to a person (host)")
    heal.add_argument("findings", nargs="+", metavar="FINDING", help="ids of findings")
    compare = _question(questions, "compare", _compare, "what changed between two reviews")
    compare.add_argument("old", type=Path, metavar="OLD.json", help="of `--format json`")
    compare.add_argument("new", type=Path, metavar="NEW.json")
    record = _question(
        questions, "record", _record, "schema/catalog.json anew, from the revisions (in a clone)"
    )
    record.set_defaults(edits="audit record")


def _common(parser: argparse.ArgumentParser, again: bool = False) -> None:
    """Options of every question; ``again`` after one, where they are left as they are."""

    def default(value: Any) -> Any:
        return argparse.SUPPRESS if again else value

    parser.add_argument("--stack", default=default(os.environ.get("STACK")), help="of this host")
    parser.add_argument(
        "--dsn", default=default(None), help="any database; otherwise libpq's variables (PGHOST …)"
    )
    parser.add_argument(
        "--opt-in",
        default=default(os.environ.get("PANDOM_OPT_IN", "")),
        help="settings that are on there, such as serviceLogin (comma list)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default=default("terminal"), help="how to print it"
    )
    parser.add_argument(
        "--output", type=Path, default=default(None), help="a file instead of stdout"
    )
    parser.add_argument(
        "--accepted", type=Path, default=default(None), help="instead of schema/accepted.toml"
    )


def _question(
    questions: Any, name: str, handler: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = questions.add_parser(name, help=text)
    _common(parser, again=True)
    parser.set_defaults(handler=handler)
    return parser


def _find(args: argparse.Namespace) -> AuditTarget:
    """Return what --dsn, --stack or the surroundings name, in this order."""
    from pandom.audit.target import AuditTarget, of_container, of_outputs

    opt_in = frozenset(filter(None, (name.strip() for name in args.opt_in.split(","))))
    named = any(surroundings.given(name) for name in ("PGHOST", "PGSERVICE", "PGHOSTADDR"))
    if args.dsn is not None or (args.stack is None and named):
        surroundings.give_back()
        return AuditTarget(args.dsn or "", opt_in)
    if args.stack is None and os.environ.get("PANDOM_DB_HOST"):
        return of_container()
    if importlib.util.find_spec("pandom.host") is None:
        raise UsageError(
            "Say which database: --dsn, or libpq's variables (PGHOST, PGUSER, PGPASSFILE …)."
        )
    from pandom.host.access import outputs_of
    from pandom.host.stack import Stack

    return of_outputs(outputs_of(Stack(args.stack or "dev")), opt_in)


def _write(args: argparse.Namespace, text: str) -> None:
    if args.output is None:
        sys.stdout.write(text)
        return
    try:
        args.output.write_text(text)
    except OSError as error:
        raise Failure(f"{args.output} could not be written: {error}") from error


def _all(args: argparse.Namespace) -> int:
    from pandom.audit import accepted, render
    from pandom.audit.findings import for_stack
    from pandom.audit.run import run_at
    from pandom.database.drift import catalog
    from schema.storage import AUDITOR

    given = accepted.load(args.accepted or accepted.FILE)
    place = _find(args)
    objects = place.store(AUDITOR) if args.store else None
    containers = _containers(args, place) if args.host else None
    importlib.import_module("schema.models")  # what the declaration reads, before anybody connects
    if args.store:
        importlib.import_module("minio")  # before two threads would import it at once
    with catalog.connect(place.dsn) as connection:
        report = run_at(place, connection, given, objects, containers)
    if place.outputs is not None:
        stack = args.stack or "dev"
        report = replace(
            report,
            findings=for_stack(report.findings, stack),
            place=f"stack {stack} on {socket.gethostname()}",
        )
    _write(args, render.render(report, args.format))
    return report.exit_code


def _containers(args: argparse.Namespace, place: AuditTarget) -> Callable[[], tuple[Facts, Facts]]:
    """Only the host can ask Docker: no container is ever given its socket."""
    if place.outputs is None:
        raise UsageError("--host needs --stack: containers are those of a stack of this host.")
    from pandom.host import containers

    return partial(containers.read, args.stack or "dev")


def _observed(args: argparse.Namespace) -> Observed:
    from pandom.database.drift import catalog, declared

    with catalog.connect(_find(args).dsn) as connection:
        return catalog.read(connection, declared.OWNERS)


def _who_can(args: argparse.Namespace) -> int:
    from pandom.audit import reachability, report_terminal
    from pandom.database.drift import catalog, declared

    with catalog.connect(_find(args).dsn) as connection:
        observed = catalog.read(connection, declared.OWNERS)
        naming = partial(catalog.functions_naming, connection)
        answer = reachability.who_can(observed, args.privilege, args.object, naming)
    _write(args, report_terminal.who_can(answer, as_json=args.format == "json"))
    return DONE


def _reach(args: argparse.Namespace) -> int:
    from pandom.audit import reachability, report_terminal

    logins = reachability.every_login(_observed(args))
    _write(args, report_terminal.reach(logins, as_json=args.format == "json"))
    return DONE


def _trail(args: argparse.Namespace) -> int:
    from pandom.audit import accepted, anchors, report_terminal
    from pandom.audit.archive import Archive, Evidence, Folder
    from pandom.audit.trail import verify
    from pandom.database.drift import catalog
    from schema.storage import AUDITOR, EVIDENCE

    given = accepted.load(args.accepted or accepted.FILE)
    place = _find(args)
    files = [Path(name) for name in args.anchor if name != BUCKET]
    in_files = [anchors.from_file(file) for file in files]
    archive: Archive | None = Folder(Path(args.archive)) if args.archive else None
    if args.archive == BUCKET:
        store = place.store(AUDITOR)
        archive = Evidence(store.s3, store.evidence)
    with catalog.connect(place.dsn) as connection:
        in_bucket = anchors.Kept()
        if BUCKET in args.anchor:
            store = place.store(AUDITOR)
            in_bucket = anchors.from_bucket(store.s3, store.evidence, connection.info.dbname)
        verdict = verify(connection, sum(in_files, in_bucket), archive).accepting(given)
    _write(args, report_terminal.trail(verdict, as_json=args.format == "json"))
    if not verdict.problems:
        for file, kept in zip(files, in_files, strict=True):
            anchors.to_file(file, kept.fresh(verdict.heads))
        if BUCKET in args.anchor:
            writer = place.store(EVIDENCE)
            anchors.to_bucket(writer.s3, writer.evidence, in_bucket.fresh(verdict.heads))
    return verdict.exit_code


def _heal(args: argparse.Namespace) -> int:
    if args.dsn or importlib.util.find_spec("pandom.host") is None:
        raise UsageError(
            "`audit heal` needs --stack, on its host: the superuser's password is nowhere else.\n"
            "Next: run what `pandom audit --format sql` prints as that server's superuser."
        )
    from pandom.host import verdict

    return verdict.heal(args.stack or "dev", args.findings)


def _compare(args: argparse.Namespace) -> int:
    from pandom.audit import report_compare

    changes = report_compare.changes(report_compare.read(args.old), report_compare.read(args.new))
    _write(args, report_compare.render(changes, as_json=args.format == "json"))
    return DRIFT if changes else DONE


def _record(args: argparse.Namespace) -> int:
    """From a stack's server, in a database of its own: any other may have drifted."""
    if args.dsn is not None or args.opt_in or importlib.util.find_spec("pandom.host") is None:
        raise UsageError(
            "A recording is made from an empty, freshly migrated database only, which it makes "
            "itself: no --dsn, no --opt-in.\n"
            "Next: `.venv/bin/pandom audit record --stack NAME`, a stack of this host."
        )
    from pandom.host import record

    record.run(args.stack or "dev", args.output)
    return DONE
