"""`pandom audit watch`: the scheduled drift check, a container of the stack.

Each round audits access, the object store and the trail as the auditor, keeps report and
anchors in the bucket for evidence, and says the verdict: in one line of the log that
names the findings, and in a file that the container's health check reads. Drift makes
the container unhealthy, and so does everything that could not be told. With monitoring
another file has it as metrics.
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

# What is not clean is looked at again soon: somebody heals it. The more a round costs,
# the later: the trail of years must not be read without a pause.
_AGAIN_S: Final = 30
_SHARE: Final = 20
# One line: exit code and findings; its age is that of the round.
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


def look(place: AuditTarget) -> Round:
    """One round, without keeping anything but new anchors.

    Raises PandomError when database or object store cannot be reached.
    """
    store, given = place.store(AUDITOR), accepted.load()
    with catalog.connect(place.dsn) as connection:
        report = audit(connection, place.opt_in, given, objects=store, settings=place.settings)
        kept = anchors.from_bucket(store.s3, store.evidence, connection.info.dbname)
        verdict = verify(connection, kept).accepting(given)
    if not verdict.problems:
        writer = place.store(EVIDENCE)
        anchors.to_bucket(writer.s3, writer.evidence, kept.fresh(verdict.heads))
    codes = {report.exit_code, verdict.exit_code}
    names = (
        *(one.id for one in report.findings),
        *(f"{one.kind}: {one.text}" for one in verdict.problems),
        *report.unknown,
        *verdict.late,
    )
    code = next(one for one in (DRIFT, FAILED, DONE) if one in codes)
    text = report_json.text(
        {**report_json.document(report), "exit_code": code, "trail": verdict.as_json()}
    )
    return Round(code, names, text)


def keep(place: AuditTarget, report: str, now: datetime) -> None:
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


def once(place: AuditTarget, before: Round | None, *, due: bool) -> Round:
    """One round; its report is kept when it is due, and when the verdict has changed."""
    try:
        found = look(place)
        if found.report and (
            due or before is None or (found.code, found.names) != (before.code, before.names)
        ):
            keep(place, found.report, datetime.now(UTC))
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


def run(place: AuditTarget, pause: Callable[[float], None] = time.sleep) -> None:
    """Rounds for ever, PANDOM_AUDITOR_INTERVAL_S seconds apart while all is clean."""
    wanted = setting("PANDOM_AUDITOR_INTERVAL_S")
    if not wanted.isdigit() or int(wanted) < 1:
        raise UsageError(f"PANDOM_AUDITOR_INTERVAL_S must be 1 or more, found {wanted!r}")
    interval = int(wanted)
    before: Round | None = None
    kept = float("-inf")
    while True:
        started = time.monotonic()
        due = started - kept >= interval
        found = once(place, before, due=due)
        if due:
            kept = started
        if before is None or due or str(found) != str(before):
            print(found, flush=True)
        before = found
        took = time.monotonic() - started
        soon = max(_AGAIN_S, _SHARE * took)
        pause(interval if found.code == DONE else min(interval, soon))
