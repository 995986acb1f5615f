"""`pandom audit`: the auditor's command, on the host, in the operations image, against any DSN.

    pandom audit                            declared against actual, and controls
    pandom audit who-can update audit_logs  who can, and how
    pandom audit reach                      what every login can become and gains
    pandom audit trail                      was the trail touched
    pandom audit watch                      all of it, again and again, evidence kept (container)
    pandom audit heal FINDING …             take back what the findings name (host)
    pandom audit record                     schema/catalog.json anew, from what the revisions make

Exit code: 0 clean, 2 drift, 1 could not tell.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pandom.audit.arguments import BUCKET
from pandom.audit.place import Place, find
from pandom.errors import DONE, Failure, UserMistake
from schema.storage import AUDITOR, EVIDENCE

if TYPE_CHECKING:
    from pandom.audit.catalog import Observed
    from pandom.audit.facts import Facts


def run(args: argparse.Namespace) -> int:
    """Answer one question; returns the exit code."""
    question = args.question or ["all"]
    if question[0] == "who-can" and len(question) == 3:
        return _who_can(args, question[1], question[2])
    if question[0] == "heal" and len(question) > 1:
        return _heal(args, question[1:])
    answers = {
        "all": _all,
        "reach": _reach,
        "trail": _trail,
        "record": _record,
        "watch": _watch,
    }
    if len(question) != 1 or question[0] not in answers:
        raise UserMistake(
            f"pandom audit does not know {' '.join(question)!r}.\n"
            "There are: who-can PRIVILEGE OBJECT, reach, trail, heal FINDING …, watch, record; "
            "nothing for all of it."
        )
    return answers[question[0]](args)


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
    from pandom.audit.findings import for_stack
    from pandom.audit.run import run as audit

    given = accepted.load(args.accepted or accepted.FILE)
    place = find(args)
    objects = place.store(AUDITOR) if args.store else None
    containers = _containers(args, place) if args.host else None
    if args.store:
        importlib.import_module("minio")  # before two threads would import it at once
    with catalog.connect(place.dsn) as connection:
        report = audit(
            connection,
            place.opt_in,
            given,
            objects=objects,
            containers=containers,
            settings=place.settings,
        )
    if place.outputs is not None:
        report = replace(report, findings=for_stack(report.findings, args.stack or "dev"))
    _write(args, render.render(report, args.format))
    return report.exit_code


def _containers(args: argparse.Namespace, place: Place) -> Callable[[], tuple[Facts, Facts]]:
    """Only the host can ask Docker: no container is ever given its socket."""
    if place.outputs is None:
        raise UserMistake("--host needs --stack: containers are those of a stack of this host.")
    from pandom.host import containers

    return partial(containers.read, args.stack or "dev")


def _observed(args: argparse.Namespace) -> Observed:
    from pandom.audit import catalog, declared

    with catalog.connect(find(args).dsn) as connection:
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
    from pandom.audit import accepted, anchors, catalog, report_terminal
    from pandom.audit.archive import Archive, Evidence, Folder
    from pandom.audit.trail import verify

    given = accepted.load(args.accepted or accepted.FILE)
    place = find(args)
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


def _heal(args: argparse.Namespace, names: list[str]) -> int:
    if args.dsn or importlib.util.find_spec("pandom.host") is None:
        raise UserMistake(
            "`audit heal` needs --stack, on its host: the superuser's password is nowhere else.\n"
            "Next: run what `pandom audit --format sql` prints as that server's superuser."
        )
    from pandom.host import verdict

    return verdict.heal(args.stack or "dev", names)


def _watch(args: argparse.Namespace) -> int:
    from pandom.audit import watch

    watch.run(find(args))
    return DONE


def _record(args: argparse.Namespace) -> int:
    """From a stack's server, in a database of its own: any other may have drifted."""
    if args.dsn is not None or args.opt_in or importlib.util.find_spec("pandom.host") is None:
        raise UserMistake(
            "A recording is made from an empty, freshly migrated database only, which it makes "
            "itself: no --dsn, no --opt-in.\n"
            "Next: `.venv/bin/pandom audit record --stack NAME`, a stack of this host."
        )
    from pandom.host import record

    record.run(args.stack or "dev", args.output)
    return DONE
