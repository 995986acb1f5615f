"""Is the database what it should be (D2): one list of findings, also as JSON.

Reads catalogs and counts only; runs as the operator's login, which may see every row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg

from pandom.database import revisions
from pandom.database.connect import value

TABLES: Final = ("auth_users", "user_profiles", "sessions", "audit_logs", "security_logs")


@dataclass(frozen=True)
class Finding:
    """One check: what was found, and whether it is right."""

    name: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Health:
    """All checks of a database."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(finding.ok for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """For machines: the verdict and every check."""
        return {"ok": self.ok, "checks": [asdict(finding) for finding in self.findings]}


def check(connection: psycopg.Connection, expected_head: str | None = None) -> Health:
    """Runs the checks as pandom_user; ``expected_head`` defaults to this program's.

    Later checks need the tables, so a missing one ends the list.
    """
    findings = [Finding("query", connection.execute("select 1").fetchone() == (1,), "select 1")]
    missing = [
        row[0]
        for row in connection.execute(
            "select t from unnest(%s::text[]) as t where to_regclass('public.' || t) is null",
            (list(TABLES),),
        )
    ]
    findings.append(
        Finding("tables", not missing, f"missing: {', '.join(missing)}" if missing else "all exist")
    )
    if missing:
        return Health(tuple(findings))
    there, applied = revisions.every(), revisions.read(connection)
    head = expected_head or there[-1].number
    other = ", ".join(one.number for one in revisions.changed(there, applied))
    said = f"; applied with other text: {other}" if other else ""
    findings.append(
        Finding(
            "head",
            applied.reached == head and not other,
            f"{applied.reached}, expected {head}{said}",
        )
    )
    for name, text, query in (
        (
            "administrator",
            "active administrators",
            "select count(*) from public.auth_users where role = 'admin' and is_active",
        ),
        (
            "partitions",
            "months of the trail ready, this one included",
            """
            select count(*) from generate_series(0, 1) as n
            cross join lateral (
                select date_trunc('month', now() at time zone 'UTC') + make_interval(months => n)
            ) as m (month)
            where to_regclass('public.audit_logs' || to_char(
                    m.month, '"_y"YYYY"m"MM')) is not null
                and to_regclass('public.security_logs' || to_char(
                    m.month, '"_y"YYYY"m"MM')) is not null
            """,
        ),
    ):
        count = value(connection, query)
        findings.append(
            Finding(name, count >= (2 if name == "partitions" else 1), f"{count} {text}")
        )
    for name, text, query in (
        (
            "default partitions",
            "rows that no month's partition took",
            "select (select count(*) from public.audit_logs_default) "
            "+ (select count(*) from public.security_logs_default)",
        ),
        (
            "profiles",
            "profiles without a user",
            "select count(*) from public.user_profiles as p where not exists "
            "(select from public.auth_users as u where u.profile_uuid = p.uuid)",
        ),
    ):
        count = value(connection, query)
        findings.append(Finding(name, count == 0, f"{count} {text}"))
    return Health(tuple(findings))
