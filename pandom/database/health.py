"""Checks of a database's content, as the operator's login, which may see every row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import psycopg

from pandom.database import holders, revisions
from pandom.database import settings as row_settings
from pandom.database.connect import value
from pandom.database.drift import catalog, declared
from pandom.database.drift.differences import differences
from pandom.database.drift.facts import Fact
from pandom.database.settings import DatabaseSettings
from schema import access

# The task `seal` runs every five minutes.
SEALED_WITHIN_S: Final = 1800
_UNSEALED: Final = """
select coalesce((
    select extract(epoch from now() - t.timestamp)::bigint
    from public.{log} as t
    where t.epoch = (
            select pg_catalog.pg_get_expr(d.adbin, d.adrelid)::integer
            from pg_catalog.pg_attrdef as d
            inner join pg_catalog.pg_attribute as a
                on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = 'public.{log}'::regclass and a.attname = 'epoch'
        )
        and (t.epoch, t.tx, t.id) > (
            select
                coalesce(max(b.last_epoch), 0), coalesce(max(b.last_tx), '0'::xid8),
                coalesce(max(b.last_id), 0)
            from (
                select k.last_epoch, k.last_tx, k.last_id from public.trail_blocks as k
                where k.log = '{log}' order by k.number desc limit 1
            ) as b
        )
    order by t.epoch, t.tx, t.id
    limit 1
), 0)
"""
TABLES: Final = ("auth_users", "user_profiles", "sessions", "audit_logs", "security_logs")


@dataclass(frozen=True)
class Finding:
    """One check. A ``warning`` is about rows that users change; the check is ``ok``."""

    name: str
    ok: bool
    found: str
    warning: bool = False


@dataclass(frozen=True)
class Health:
    """All checks of a database."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(finding.ok for finding in self.findings)

    def lines(self) -> list[str]:
        """For people, a line for each check."""
        return [
            f"{finding.name}: "
            f"{'FAILED' if not finding.ok else 'warning' if finding.warning else 'ok'}, "
            f"{finding.found}"
            for finding in self.findings
        ]

    def as_json(self) -> dict[str, Any]:
        """For machines: the verdict and every check."""
        return {"ok": self.ok, "checks": [asdict(finding) for finding in self.findings]}


def check(
    connection: psycopg.Connection,
    expected_head: str | None = None,
    settings: DatabaseSettings | None = None,
    administrator: str | None = None,
) -> Health:
    """Run the checks as pandom_user; ``expected_head`` defaults to this program's.

    ``settings`` are the stack's that live in rows, ``administrator`` is its adminEmail. A missing
    table ends the list, because later checks need it.
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
    there, applied = revisions.every(run=False), revisions.read(connection)
    head, reached = expected_head or there[-1].number, applied.reached
    other = ", ".join(revision.number for revision in revisions.changed(there, applied))
    said = f"; applied with other text: {other}" if other else ""
    if reached is not None and reached not in {revision.number for revision in there}:
        said += (
            ", and this checkout has no such revision: check out the commit that has it, or "
            f"`pandom migrate revert {there[-1].number}`"
        )
    findings.append(
        Finding("head", reached == head and not other, f"{reached}, expected {head}{said}")
    )
    months = value(
        connection,
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
    )
    findings.append(
        Finding("partitions", months >= 2, f"{months} months of the trail ready, this one included")
    )
    left = value(
        connection,
        "select (select count(*) from public.audit_logs_default) "
        "+ (select count(*) from public.security_logs_default)",
    )
    findings.append(
        Finding("default partitions", left == 0, f"{left} rows that no month's partition took")
    )
    if settings is not None and reached == head:
        wrong = setting_differences(connection, settings)
        findings.append(Finding("settings", not wrong, "; ".join(wrong) or "as declared"))
    findings.append(_sealing(connection))
    findings += _rows_of_the_application(connection, administrator)
    return Health(tuple(findings))


def setting_differences(connection: psycopg.Connection, settings: DatabaseSettings) -> list[str]:
    """Describe each setting in a row, and password hashes, that are not as declared."""
    rows = row_settings.declared(settings)
    expected = declared.comparable({Fact("setting row", *row): text for row, text in rows.items()})
    actual = declared.comparable(catalog.seen(connection, ("setting_rows",)))
    lines = [
        f"{row_settings.Row(difference.object, difference.detail)} is "
        f"{difference.actual.get(difference.detail, 'missing')}, "
        f"declared {difference.expected[difference.detail]}"
        for difference in differences(expected, actual)
        if difference.status != "extra"
    ]
    if count := row_settings.hashes_to_convert(connection, settings.encrypt_password_hash):
        form = "encrypted" if settings.encrypt_password_hash else "plain"
        lines.append(f"{count} password hashes are not stored {form}")
    return lines


def _rows_of_the_application(
    connection: psycopg.Connection, administrator: str | None
) -> Iterable[Finding]:
    """Yield warnings about rows that users and applications change; the stack is not at fault."""
    active, every, own = connection.execute(
        """
        select
            count(*) filter (where u.is_active), count(*),
            count(*) filter (where lower(u.email) = lower(%s))
        from public.auth_users as u
        where u.role = 'admin'
        """,
        (administrator,),
    ).fetchall()[0]
    found = f"{active} active administrators"
    if not every:
        found += "; `pandom migrate run` makes adminEmail one, with ADMIN_PASSWORD"
    elif not active:
        found += f" of {every}; activate one: is_active in public.auth_users, as pandom_user"
    elif administrator is not None and not own:
        found += f"; adminEmail, {administrator}, is none of them: set it to one's e-mail"
    yield Finding("administrator", True, found, warning=found != f"{active} active administrators")
    orphans = value(
        connection,
        "select count(*) from public.user_profiles as p where not exists "
        "(select from public.auth_users as u where u.profile_uuid = p.uuid)",
    )
    yield Finding("profiles", True, f"{orphans} profiles without a user", warning=orphans > 0)


def _sealing(connection: psycopg.Connection) -> Finding:
    """Check that the trail is sealed as it grows; rows from before a restore are not counted."""
    oldest = max(
        int(value(connection, _UNSEALED.replace("{log}", table.rpartition(".")[2])))
        for table in access.TRAIL_TABLES
    )
    if oldest <= SEALED_WITHIN_S:
        return Finding("sealing", True, f"oldest event that is not sealed: {oldest // 60} min")
    return Finding(
        "sealing",
        False,
        f"events wait to be sealed for {oldest // 60} min; open write transactions: "
        f"{holders.of_writers(connection)}. Next: `pandom run seal` says more; to end a session: "
        f"{holders.HOW_TO_END}",
    )
