"""`pandom audit`: the auditor's command, on the host, in the operations image, against any DSN.

    pandom audit                            declared against actual, and controls
    pandom audit who-can update audit_logs  who can, and how
    pandom audit reach                      what every login can become and gains
    pandom audit trail                      was the trail touched
    pandom audit record                     schema/catalog.json anew, from a fresh database

Exit code: 0 clean, 2 drift, 1 could not tell.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import make_conninfo

from pandom.errors import DONE, Failure, UserMistake
from schema import access

if TYPE_CHECKING:
    from pandom.audit.catalog import Observed
    from pandom.audit.store import Store

AUDITOR: Final = "pandom_auditor"


@dataclass(frozen=True)
class _Place:
    dsn: str
    opt_in: frozenset[str]
    name: str


def run(args: argparse.Namespace) -> int:
    """Answer one question; returns the exit code."""
    question = args.question or ["all"]
    if question[0] == "who-can" and len(question) == 3:
        return _who_can(args, question[1], question[2])
    answers = {"all": _all, "reach": _reach, "trail": _trail, "record": _record}
    if len(question) != 1 or question[0] not in answers:
        raise UserMistake(
            f"pandom audit does not know {' '.join(question)!r}.\n"
            "There are: who-can PRIVILEGE OBJECT, reach, trail, record; nothing for all of it."
        )
    return answers[question[0]](args)


def _place(args: argparse.Namespace) -> _Place:
    """The database that is meant: --dsn, or libpq's environment, or a stack of this host."""
    opt_in = frozenset(filter(None, (name.strip() for name in args.opt_in.split(","))))
    if args.dsn is not None:
        return _Place(args.dsn, opt_in, "the given DSN")
    surroundings = any(os.environ.get(name) for name in ("PGHOST", "PGSERVICE", "PGHOSTADDR"))
    if args.stack is None and surroundings:
        return _Place("", opt_in, "libpq's environment")
    if importlib.util.find_spec("pandom.host") is None:
        raise UserMistake(
            "Say which database: --dsn, or libpq's variables (PGHOST, PGUSER, PGPASSFILE …)."
        )
    from pandom.host.access import outputs_of
    from pandom.host.stack import Stack

    name = args.stack or "dev"
    outputs = outputs_of(Stack(name))
    passwords = outputs["passwords"]
    wanted = {role.opt_in for role in access.ROLES if role.opt_in and role.name in passwords}
    dsn = make_conninfo(
        host=outputs["db_host"],
        port=int(outputs["db_port"]),
        user=AUDITOR,
        password=passwords[AUDITOR],
        dbname=outputs["db_database"],
        sslmode=outputs["db_sslmode"],
        sslrootcert=outputs["db_sslrootcert"],
        connect_timeout=5,
    )
    return _Place(dsn, opt_in | {one for one in wanted if one}, f"stack {name}")


def _write(args: argparse.Namespace, text: str) -> None:
    if args.output is None:
        sys.stdout.write(text)
        return
    try:
        args.output.write_text(text)
    except OSError as error:
        raise Failure(f"{args.output} could not be written: {error}") from error


def _all(args: argparse.Namespace) -> int:
    from pandom.audit import accepted, catalog, render
    from pandom.audit.run import run as audit

    given = accepted.load(args.accepted) if args.accepted else accepted.load()
    place = _place(args)
    objects = _store(args) if args.store else None
    with catalog.connect(place.dsn) as connection:
        report = audit(connection, place.opt_in, given, objects=objects)
    _write(args, render.render(report, args.format))
    return report.exit_code


def _store(args: argparse.Namespace) -> Store:
    """The object store of a stack, asked as its root: no other account may list users."""
    if args.dsn is not None or importlib.util.find_spec("pandom.host") is None:
        raise UserMistake("--store needs --stack: only a stack's state knows the store's account.")
    from pandom.audit.store import Store
    from pandom.host.access import outputs_of
    from pandom.host.pulumi_cli import Pulumi
    from pandom.host.stack import Stack
    from pandom.host.state import RANDOM, State
    from pandom.host.superuser import clear
    from pandom.objectstore import Account, Endpoint
    from stacks.job_settings import MINIO_ACCESS_KEY
    from stacks.keys import MINIO_ROOT_USER
    from toolchain import environment

    stack = Stack(args.stack or "dev")
    outputs = outputs_of(stack)
    exported = Pulumi(stack, environment.find().variables).export(secrets=True)
    passwords = [
        clear(one.outputs["result"])
        for one in State(exported).of_type(RANDOM)
        if one.urn.endswith(("::minio-root-password", "::minio-root"))
    ]
    if not passwords:
        raise Failure("The stack's state does not hold the object store's root account.")
    return Store(
        Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        Account(MINIO_ROOT_USER, passwords[0]),
        outputs["minio_bucket_name"],
        MINIO_ACCESS_KEY,
    )


def _observed(args: argparse.Namespace) -> Observed:
    from pandom.audit import catalog, declared

    with catalog.connect(_place(args).dsn) as connection:
        return catalog.read(connection, declared.OWNERS)


def _who_can(args: argparse.Namespace, privilege: str, target: str) -> int:
    from pandom.audit import reachability, report_terminal

    observed = _observed(args)
    answer = reachability.who_can(observed, privilege, target)
    _write(args, report_terminal.who_can(answer, as_json=args.format == "json"))
    return DONE


def _reach(args: argparse.Namespace) -> int:
    from pandom.audit import reachability, report_terminal

    logins = reachability.every_login(_observed(args))
    _write(args, report_terminal.reach(logins, as_json=args.format == "json"))
    return DONE


def _trail(args: argparse.Namespace) -> int:
    from pandom.audit import anchors, catalog, report_terminal
    from pandom.audit.archive import Archive
    from pandom.audit.trail import verify

    known = anchors.from_file(args.anchor) if args.anchor else []
    place = _place(args)
    with catalog.connect(place.dsn) as connection:
        verdict = verify(connection, known, Archive(args.archive) if args.archive else None)
    _write(args, report_terminal.trail(verdict, as_json=args.format == "json"))
    if args.anchor and not verdict.problems:
        anchors.to_file(args.anchor, verdict.heads, known)
    return verdict.exit_code


def _record(args: argparse.Namespace) -> int:
    from pandom.audit import recorded

    text = recorded.record(_observed(args))
    (args.output or recorded.FILE).write_text(text)
    return DONE
