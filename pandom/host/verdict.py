"""The verdict on a stack: does it work, and is everything as declared.

Checks of clients and containers (``health``) and the audit run at the same time and make one exit
code: 0 well, 2 not as declared, 1 failed or unknown.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pandom.audit import accepted, anchors, report_terminal
from pandom.audit.findings import Finding, for_stack
from pandom.audit.run import Report as Audit
from pandom.audit.run import run_at
from pandom.audit.target import AuditTarget, of_outputs
from pandom.audit.trail import Problem, heads
from pandom.audit.trail import Verdict as Trail
from pandom.database.drift import catalog
from pandom.database.drift.facts import Facts
from pandom.host import backup, containers, health
from pandom.host.engine import Engine
from pandom.host.stack import Stack
from pandom.host.state import State
from pandom.runtime.errors import DONE, DRIFT, FAILED, UsageError
from pandom.runtime.progress import say
from schema.storage import AUDITOR

Hosted = Callable[[], tuple[Facts, Facts]]

_SHOWN: Final = 10  # findings, the gravest first: more of them have one cause
_AUDITOR: Final = "task audit"
_DRIFT: Final = "drift: "
_THERE_AGAIN: Final = (
    "It was taken back and is there again: somebody else changes it, or what is declared does not "
    "agree with its own recording; `make record` shows whether schema/catalog.json is behind."
)
# Kinds that the storage job repairs.
STORE: Final = ("bucket", "store user", "store policy")


@dataclass(frozen=True)
class Verdict:
    """What was found. Without ``audit`` and ``trail`` a check says why there is none."""

    report: health.Report
    audit: Audit | None
    trail: Trail | None
    seconds: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Where the audit found something else than what is declared and accepted."""
        return self.audit.findings if self.audit else ()

    def again(self, healed: Collection[str]) -> Verdict:
        """Return the verdict with other advice for findings that were healed a moment ago."""
        if self.audit is None or not healed:
            return self
        findings = tuple(
            replace(finding, advice=_THERE_AGAIN) if finding.id in healed else finding
            for finding in self.findings
        )
        return replace(self, audit=replace(self.audit, findings=findings))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was done to the trail."""
        return self.trail.problems if self.trail else ()

    @property
    def failed(self) -> list[health.Check]:
        """The checks that failed. That the auditor sees drift is none of them."""
        return [check for check in self.report.checks if not check.ok and check not in self.watched]

    @property
    def watched(self) -> list[health.Check]:
        """What the scheduled audit says: it verifies every row of the trail, too."""
        return [
            check
            for check in self.report.checks
            if check.name == _AUDITOR and not check.ok and _DRIFT in check.detail
        ]

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is in the scope and could not be seen."""
        return self.audit.unknown if self.audit else ()

    @property
    def exit_code(self) -> int:
        """1 failed, 2 drift, 1 could not tell, 0 well; the first of them that is true."""
        if self.failed:
            return FAILED
        if self.findings or self.problems or self.watched:
            return DRIFT
        return FAILED if self.unknown else DONE

    def show(self) -> None:
        """For people, on stderr: one line when all is well, and else all that is wrong."""
        for warning in self.report.warnings:
            say(f"  health: warning: {warning}")
        if self.report.healthy:
            say(f"  health: {len(self.report.checks)} checks passed")
        else:
            self.report.show()
        if self.audit is not None and not (self.findings or self.problems or self.unknown):
            blocks = f", {self.trail.blocks:,} blocks of the trail in order" if self.trail else ""
            say(
                f"  audit: {len(self.audit.expected):,} facts as declared{blocks}"
                f" ({self.seconds:.1f} s)"
            )
        for finding in for_stack(self.findings[:_SHOWN], self.report.stack):
            say("\n" + "\n".join(report_terminal.finding(finding)).rstrip())
        if (more := len(self.findings) - _SHOWN) > 0:
            say(f"\n… and {more} more: `pandom audit` shows all")
        for problem in self.problems:
            say("\n" + "\n".join(report_terminal.problem(problem)))
        for reason in self.unknown:
            say(f"  audit: could not tell: {reason}")

    def explanation(self, again: str) -> str:
        """Return the message about a stack that is not well; "" for one that is."""
        name = self.report.stack
        if self.failed:
            return self.report.explanation(again)
        if self.exit_code == DRIFT:
            parts = [
                f"{len(self.findings)} findings of the audit" if self.findings else "",
                f"{len(self.problems)} of its trail" if self.problems else "",
                # Findings, if there are any, say the same in more detail.
                *(check.detail for check in self.watched if not (self.findings or self.problems)),
            ]
            return (
                f"Stack {name} is not as declared: {', '.join(filter(None, parts))}.\n"
                f"Next: do what each finding says; the whole of it:\n"
                f"      .venv/bin/pandom audit --stack {name} --store --host\n"
                f"      .venv/bin/pandom audit --stack {name} trail --anchor bucket"
            )
        if self.unknown:
            return f"Stack {name}: {'; '.join(self.unknown)}.\nNext: `{again} --stack {name}`"
        return ""

    def as_json(self) -> str:
        """For machines; secrets are in no detail."""
        document = {
            **self.report.document(),
            "exit_code": self.exit_code,
            "findings": [
                {
                    "id": finding.id,
                    "severity": finding.severity,
                    "actual": finding.actual,
                    "next": finding.advice,
                }
                for finding in for_stack(self.findings, self.report.stack)
            ],
            "trail": [problem.as_json() for problem in self.problems],
            "unknown": list(self.unknown),
        }
        return json.dumps(document, indent=2)


def prepare() -> None:
    """Import before starting threads, to avoid a partially initialised module."""
    for name in ("pandom.database.health", "minio.minioadmin"):
        importlib.import_module(name)


def look(
    stack: Stack, engine: Engine, outputs: Mapping[str, Any], state: State | None = None
) -> Verdict:
    """Run all checks, even after a failure; ``state`` is Pulumi's, read from its file if None.

    Raises UsageError when schema/accepted.toml cannot be read.
    """
    started = time.monotonic()
    given = accepted.load()
    prepare()
    place = of_outputs(outputs)
    report = health.Report(stack.name)
    result: dict[str, Any] = {"audit": None, "trail": None}

    def note(name: str, answer: Any, found: str) -> str:
        result[name] = answer
        return found

    def audited() -> str:
        found = _audit(place, given, partial(containers.read, stack.name, state))
        return note("audit", found, f"{len(found.findings)} findings")

    def chained() -> str:
        found = _heads(place).accepting(given)
        return note("trail", found, f"{len(found.problems)} problems")

    with ThreadPoolExecutor() as beside:
        asked = [
            beside.submit(health.made, "audit", audited),
            beside.submit(health.made, "heads of the trail", chained),
            beside.submit(health.made, "bucket", partial(health.bucket, outputs)),
        ]
        backed_up = beside.submit(lambda: list(backup.checks(engine, stack.name, outputs)))
        servers = beside.submit(health.containers, engine, outputs)
        worked = beside.submit(health.tasks, engine, stack.name, outputs)
        health.clients(report, outputs)
        report.checks[:0] = servers.result() + worked.result()
        report.checks += [one.result() for one in asked] + backed_up.result()
    return Verdict(report, result["audit"], result["trail"], time.monotonic() - started)


def _audit(place: AuditTarget, given: tuple[accepted.Acceptance, ...], hosted: Hosted) -> Audit:
    store = place.store(AUDITOR)
    with catalog.connect(place.dsn) as connection:
        return run_at(place, connection, given, store, hosted)


def _heads(place: AuditTarget) -> Trail:
    store = place.store(AUDITOR)
    with catalog.connect(place.dsn) as connection:
        kept = anchors.from_bucket(store.s3, store.evidence, connection.info.dbname)
        return heads(connection, kept)


def heal(name: str, wanted: Sequence[str]) -> int:
    """`pandom audit heal`: correct the named findings, and audit again.

    Raises UsageError, before anything is touched, for a name that is not a finding or that no
    statement corrects.
    """
    from pandom.host import superuser
    from pandom.host.access import outputs_of

    stack = Stack(name)
    outputs = outputs_of(stack)
    place = of_outputs(outputs)
    prepare()
    hosted = partial(containers.read, name)
    found = {finding.id: finding for finding in _audit(place, accepted.load(), hosted).findings}
    if unknown := [one for one in wanted if one not in found]:
        raise UsageError(
            f"No finding now: {', '.join(unknown)}.\nThere are: {', '.join(found) or 'none'}."
        )
    chosen = [found[one] for one in wanted]
    stored = [finding for finding in chosen if finding.kind in STORE and finding.status == "extra"]
    if helpless := [finding for finding in chosen if finding.sql is None and finding not in stored]:
        raise UsageError(
            "\n".join(f"{one.id}: no statement takes it back. {one.advice}" for one in helpless)
        )
    exported = superuser.exported(stack)
    failed = superuser.heal_by_sql(exported, [finding for finding in chosen if finding.sql])
    failed |= superuser.remove_from_store(exported, outputs, stored)
    for finding in chosen:
        say(f"  {'could not heal' if finding.id in failed else 'healed'}: {finding.id}")
        if finding.id in failed:
            say(f"    {failed[finding.id]}")
    left = {finding.id for finding in _audit(place, accepted.load(), hosted).findings} & set(wanted)
    return FAILED if failed or left else DONE
