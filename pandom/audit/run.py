"""One audit: read, compare, judge. Everything that prints gets its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import psycopg

from pandom.audit import accepted, controls, store
from pandom.audit.accepted import Acceptance
from pandom.audit.controls import Result
from pandom.audit.findings import Finding, findings
from pandom.audit.store import StoreClient
from pandom.audit.target import AuditTarget
from pandom.database.drift import catalog, declared, recorded
from pandom.database.drift.catalog import Observed
from pandom.database.drift.differences import differences
from pandom.database.drift.facts import Facts
from pandom.database.settings import DatabaseSettings
from pandom.runtime.errors import DONE, DRIFT, FAILED


@dataclass(frozen=True)
class Report:
    """What one audit found. ``accepted`` are findings that someone answers for."""

    observed: Observed
    expected: Facts
    findings: tuple[Finding, ...]
    accepted: tuple[tuple[Finding, Acceptance], ...]
    stale: tuple[Acceptance, ...]
    controls: tuple[Result, ...] = ()
    scope: tuple[str, ...] = ("database",)
    place: str = ""  # of a stack: its name and host

    @property
    def accepted_controls(self) -> frozenset[str]:
        """The numbers of the controls that fail and that someone answers for."""
        return frozenset(
            one.id.partition(":")[2] for one, _ in self.accepted if one.kind == "control"
        )

    def state_of(self, result: Result) -> str:
        """Return a control's state as people read it: one that is answered for does not fail."""
        accepted_ = result.control.number in self.accepted_controls
        return "accepted" if accepted_ else result.verdict.state

    @property
    def drift(self) -> tuple[Finding, ...]:
        """The findings that are differences from the declaration."""
        return tuple(finding for finding in self.findings if finding.kind != "control")

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is inside the scope of this run and could not be seen."""
        undecided = (
            f"control {result.control.number}: {result.verdict.evidence}"
            for result in self.controls
            if result.verdict.state == "unknown"
        )
        return (*self.observed.unknown, *undecided)

    @property
    def exit_code(self) -> int:
        """2 drift, 1 could not tell, 0 clean."""
        if self.findings:
            return DRIFT
        return FAILED if self.unknown else DONE


def run(
    connection: psycopg.Connection,
    opt_in: frozenset[str] = frozenset(),
    acceptances: tuple[Acceptance, ...] | None = None,
    today: date | None = None,
    known: Facts | None = None,
    objects: StoreClient | None = None,
    containers: Callable[[], tuple[Facts, Facts]] | None = None,
    settings: DatabaseSettings | None = None,
    backup_within: timedelta | None = None,
    drill_within: timedelta | None = None,
) -> Report:
    """Audit the connection's database.

    ``today`` decides which acceptances are valid; ``known`` replaces schema/catalog.json;
    ``objects`` adds the object store, ``containers`` those of the host (declared and actual).
    ``settings`` are the stack's that live in rows; ``backup_within`` is how old the newest
    backup may be, of a stack that makes its own, ``drill_within`` the last drill that passed.
    """
    scope = ["database"]
    with ThreadPoolExecutor() as beside:
        asked = beside.submit(store.read, objects) if objects is not None else None
        hosted = beside.submit(containers) if containers is not None else None
        observed = catalog.read(connection, declared.OWNERS)
    expected = declared.facts(observed, opt_in, known, settings)
    actual = declared.comparable(observed.facts) | recorded.settings(observed, expected)
    expected = _visible(expected, observed)
    if hosted is not None:
        scope.append("containers")
        wanted, found_there = hosted.result()
        expected |= wanted
        actual |= found_there
    if objects is not None and asked is not None:
        scope.append("object store")
        seen = asked.result()
        kinds = {fact.kind for fact in seen.facts}
        actual |= seen.facts
        # Refused queries are unknown; an empty answer is not.
        expected |= {
            fact: value
            for fact, value in store.expected(objects, seen.facts).items()
            if fact.kind in kinds or not seen.unknown
        }
        observed = replace(observed, unknown=(*observed.unknown, *seen.unknown))
    results = controls.evaluate(
        replace(observed, backup_within=backup_within, drill_within=drill_within)
    )
    found = [*findings(differences(expected, actual), expected), *_failed(results)]
    given = accepted.of_access(accepted.load() if acceptances is None else acceptances)
    if backup_within is not None:
        # That nothing is archived is answered for where somebody else makes the backups.
        given = [one for one in given if one.actual != controls.NOT_ARCHIVED]
    kept, excused, stale = accepted.divide(found, given, today or datetime.now(UTC).date())
    return Report(
        observed, expected, tuple(kept), tuple(excused), tuple(stale), results, tuple(scope)
    )


def run_at(
    place: AuditTarget,
    connection: psycopg.Connection,
    acceptances: tuple[Acceptance, ...] | None,
    objects: StoreClient | None,
    containers: Callable[[], tuple[Facts, Facts]] | None = None,
) -> Report:
    """Audit a target's database as ``run`` does, with all that the target says of itself."""
    return run(
        connection,
        place.opt_in,
        acceptances,
        objects=objects,
        containers=containers,
        settings=place.settings,
        backup_within=place.backup_within,
        drill_within=place.drill_within,
    )


def _failed(results: Iterable[Result]) -> Iterable[Finding]:
    for result in results:
        if result.verdict.state == "fail":
            yield Finding(
                id=f"control:{result.control.number}",
                kind="control",
                severity="medium",
                object=f"CIS {result.control.number}",
                title=result.control.title,
                expected="the recommendation",
                actual=result.verdict.evidence,
                why=result.control.reason,
                advice="Follow it, or record in schema/accepted.toml who answers for it and why.",
            )


def _visible(expected: Facts, observed: Observed) -> Facts:
    """Without what this login cannot see: that is unknown, and no finding."""
    blind = set()
    if any(reason.startswith("connection rules") for reason in observed.unknown):
        blind.add("connection rule")
    if any(reason.startswith("setting rows") for reason in observed.unknown):
        blind.add("setting row")
    hidden = any(reason.startswith("settings only") for reason in observed.unknown)
    return {
        fact: value
        for fact, value in expected.items()
        if fact.kind not in blind
        and not (hidden and fact.kind == "setting" and fact.object not in observed.settings)
    }
