"""The task `audit`: the drift check on a schedule.

Audits access, object store and trail as the auditor, stores report and anchors in the evidence
bucket, and prints the verdict in one line: drift, and whatever could not be checked, make the
container unhealthy. With monitoring the exporter reads it from a file, as metrics.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pandom.audit import accepted, anchors, evidence, report_json
from pandom.audit.run import run_at
from pandom.audit.target import AuditTarget, of_container
from pandom.audit.trail import verify
from pandom.database.drift import catalog
from pandom.operations.records import cut
from pandom.operations.run import DUE_VARIABLE, LAST_VARIABLE
from pandom.runtime.errors import DONE, DRIFT, FAILED, PandomError
from schema.storage import AUDITOR, EVIDENCE

METRICS: Final = os.environ.get("PANDOM_AUDITOR_METRICS")
PREFIX: Final = "audit/"
_WORDS: Final = {DONE: "clean", DRIFT: "drift", FAILED: "could not tell"}


@dataclass(frozen=True)
class Round:
    """The verdict of one round: exit code as of `pandom audit`, what it names, the evidence; when
    a drill last passed, where there are any."""

    code: int
    names: tuple[str, ...] = ()
    report: str | None = None
    drilled: float | None = None

    def __str__(self) -> str:
        names = f": {'; '.join(self.names)}" if self.names else ""
        return f"{_WORDS[self.code]}{names}"


def audit_round(place: AuditTarget) -> Round:
    """Run one round; keep nothing but new anchors.

    Raises PandomError when database or object store cannot be reached.
    """
    store, given = place.store(AUDITOR), accepted.load()
    with catalog.connect(place.dsn) as connection:
        report = run_at(place, connection, given, store)
        kept = anchors.from_bucket(store.s3, store.evidence, connection.info.dbname)
        verdict = verify(connection, kept).accepting(given)
    if not verdict.problems:
        writer = place.store(EVIDENCE)
        anchors.to_bucket(writer.s3, writer.evidence, kept.fresh(verdict.heads))
    codes = {report.exit_code, verdict.exit_code}
    names = (
        *(finding.id for finding in report.findings),
        *(f"{problem.kind}: {problem.text}" for problem in verdict.problems),
        *report.unknown,
        *verdict.late,
    )
    code = next(one for one in (DRIFT, FAILED, DONE) if one in codes)
    text = report_json.text(
        {**report_json.document(report), "exit_code": code, "trail": verdict.as_json()}
    )
    known = report.observed.archiving if place.drill_within is not None else None
    age = known.drill_age if known else None
    return Round(code, names, text, None if age is None else time.time() - age.total_seconds())


def store_report(place: AuditTarget, report: str, now: datetime) -> None:
    """Write a report under its time and as the latest; both stay as long as the lock."""
    evidence.keep(place.store(EVIDENCE), PREFIX, report, now)


def run() -> int:
    """Run one round; store its report when one is due or the verdict has changed.

    A repetition, soon after drift or failure, stores none that says the same again.
    """
    before = os.environ.get(LAST_VARIABLE, "")
    try:
        place = of_container()
        found = audit_round(place)
        due = os.environ.get(DUE_VARIABLE) != "no"
        if found.report and (due or cut(str(found)) != before):
            store_report(place, found.report, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - the verdict says what could not be told, and why
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, PandomError):
            reason = f"{type(error).__name__}: {reason}"
        found = Round(FAILED, (reason,))
    if METRICS:
        _publish(Path(METRICS), found, time.time())
    print(found, flush=True)
    return found.code


def _publish(path: Path, found: Round, now: float) -> None:
    """Write a verdict in Prometheus' text format; a full volume is no reason to end."""
    lines = [
        ("verdict", "Last verdict of the auditor: 0 clean, 1 could not tell, 2 drift", found.code),
        ("findings", "What the last verdict names", len(found.names)),
        ("time_seconds", "When the auditor last gave a verdict", f"{now:.0f}"),
    ]
    if found.drilled is not None:
        words = "When a drill last passed; before the first one, when the first backup was made"
        lines.append(("drill_time_seconds", words, f"{found.drilled:.0f}"))
    new = path.with_suffix(".new")
    with suppress(OSError):
        new.write_text(
            "".join(
                f"# HELP pandom_audit_{name} {words}\n# TYPE pandom_audit_{name} gauge\n"
                f"pandom_audit_{name} {value}\n"
                for name, words, value in lines
            )
        )
        new.replace(path)
