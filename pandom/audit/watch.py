"""`pandom audit watch`: the scheduled drift check, a container of the stack.

Each round audits access, object store and trail as the auditor, stores report and anchors in the
evidence bucket, and prints the verdict. Its health check reads the verdict from a file: drift, and
whatever could not be checked, make the container unhealthy. With monitoring the exporter reads it
from another file, as metrics.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pandom.audit import accepted, anchors, report_json
from pandom.audit.run import run as audit
from pandom.audit.target import AuditTarget
from pandom.audit.trail import verify
from pandom.database.drift import catalog
from pandom.runtime.errors import DONE, DRIFT, FAILED, PandomError, UsageError
from pandom.runtime.inputs import setting
from schema.storage import AUDITOR, EVIDENCE

# After drift the next round comes soon, because somebody is repairing it; but at most a
# twentieth of the time goes into rounds, since a trail of years takes long to read.
_AGAIN_S: Final = 30
_SHARE: Final = 20
# Holds exit code and findings in one line; its age is that of the last round.
VERDICT: Final = Path(os.environ.get("PANDOM_AUDITOR_VERDICT", "/tmp/auditor-verdict"))  # noqa: S108
METRICS: Final = os.environ.get("PANDOM_AUDITOR_METRICS")
PREFIX: Final = "audit/"
_WORDS: Final = {DONE: "clean", DRIFT: "drift", FAILED: "could not tell"}


@dataclass(frozen=True)
class Round:
    """The verdict of one round: exit code as of `pandom audit`, what it names, the evidence."""

    code: int
    names: tuple[str, ...] = ()
    report: str | None = None

    def __str__(self) -> str:
        names = f": {'; '.join(self.names)}" if self.names else ""
        return f"{_WORDS[self.code]}{names}"


def audit_round(place: AuditTarget) -> Round:
    """Run one round; keep nothing but new anchors.

    Raises PandomError when database or object store cannot be reached.
    """
    store, given = place.store(AUDITOR), accepted.load()
    with catalog.connect(place.dsn) as connection:
        report = audit(
            connection,
            place.opt_in,
            given,
            objects=store,
            settings=place.settings,
            backup_within=place.backup_within,
        )
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
    return Round(code, names, text)


def store_report(place: AuditTarget, report: str, now: datetime) -> None:
    """Write a report under its time and as the latest; both stay as long as the lock."""
    writer, body = place.store(EVIDENCE), report.encode()
    for name in (f"{now:%Y-%m-%dT%H-%M-%SZ}", "latest"):
        writer.s3.put_object(
            bucket_name=writer.evidence,
            object_name=f"{PREFIX}{name}.json",
            data=io.BytesIO(body),
            length=len(body),
            content_type="application/json",
        )


def run_once(find: Callable[[], AuditTarget], before: Round | None, *, due: bool) -> Round:
    """Run one round; store its report when one is due or the verdict has changed.

    ``find`` is asked each time: a rotation changes secrets while this runs.
    """
    try:
        place = find()
        found = audit_round(place)
        if found.report and (
            due or before is None or (found.code, found.names) != (before.code, before.names)
        ):
            store_report(place, found.report, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - one that ends would be silent, not unhealthy
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, PandomError):
            reason = f"{type(error).__name__}: {reason}"
        found = Round(FAILED, (reason,))
    VERDICT.write_text(f"{found.code} {found}\n")
    if METRICS:
        _publish(Path(METRICS), found, time.time())
    return found


def _publish(path: Path, found: Round, now: float) -> None:
    """Write a verdict in Prometheus' text format; a full volume is no reason to end."""
    lines = (
        ("verdict", "Last verdict of the auditor: 0 clean, 1 could not tell, 2 drift", found.code),
        ("findings", "What the last verdict names", len(found.names)),
        ("time_seconds", "When the auditor last gave a verdict", f"{now:.0f}"),
    )
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


def run(find: Callable[[], AuditTarget], pause: Callable[[float], None] = time.sleep) -> None:
    """Run rounds forever, PANDOM_AUDITOR_INTERVAL_S seconds apart while all is clean."""
    find()  # What is missing is told at once, and ends the container.
    wanted = setting("PANDOM_AUDITOR_INTERVAL_S")
    if not wanted.isdigit() or int(wanted) < 1:
        raise UsageError(f"PANDOM_AUDITOR_INTERVAL_S must be 1 or more, found {wanted!r}")
    interval = int(wanted)
    before: Round | None = None
    kept = float("-inf")
    while True:
        started = time.monotonic()
        due = started - kept >= interval
        found = run_once(find, before, due=due)
        if due:
            kept = started
        if before is None or due or str(found) != str(before):
            print(found, flush=True)
        before = found
        took = time.monotonic() - started
        soon = max(_AGAIN_S, _SHARE * took)
        pause(interval if found.code == DONE else min(interval, soon))
