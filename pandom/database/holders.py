"""Names the sessions that hold a lock, and how to end them.

A login that may become pandom_definer sees all sessions through it (pg_read_all_stats).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, LiteralString

import psycopg

# Longer than any lock of ours is held on purpose.
WAIT: Final = "30s"
HOW_TO_END: Final = "`select pg_terminate_backend(PID)` as the superuser"
_SHOWN: Final = 5
_SEEN: Final = """
select distinct
    a.pid, a.usename::text, a.application_name, a.client_addr::text, a.xact_start
from pg_catalog.pg_locks as l
inner join pg_catalog.pg_stat_activity as a on l.pid = a.pid
where l.granted and a.pid <> pg_catalog.pg_backend_pid()
"""


def of_table(connection: psycopg.Connection, table: str, mode: str) -> str:
    """Return the sessions that hold a table in a mode, in words."""
    return _named(
        connection,
        "and l.relation = %s::regclass and l.mode = %s",
        table,
        mode,
    )


def of_database(connection: psycopg.Connection) -> str:
    """Return the sessions with a lock on a table of this database, the oldest transaction first."""
    return _named(
        connection,
        "and l.relation >= 16384 and a.datname = current_database()",
    )


def of_key(connection: psycopg.Connection, key: int) -> str:
    """Return the sessions that hold an advisory lock, in words."""
    return _named(
        connection,
        "and l.locktype = 'advisory' and l.objsubid = 1 "
        "and (l.classid::bigint << 32) + l.objid::bigint = %s",
        key,
    )


def of_writers(connection: psycopg.Connection) -> str:
    """Return the sessions with a transaction that has written: what sealing waits for, in words."""
    return _named(connection, "and l.locktype = 'transactionid'")


def of_role(connection: psycopg.Connection, role: str) -> str:
    """Return a role's sessions with a transaction that has changed something, in words."""
    return _named(
        connection,
        "and l.locktype = 'transactionid' and a.usename = %s",
        role,
    )


def _named(connection: psycopg.Connection, condition: LiteralString, *parameters: Any) -> str:
    rows = _rows(connection, f"{_SEEN}{condition} order by a.xact_start, a.pid", parameters)
    if not rows:
        return "a session that has just ended"
    words = [_words(*row) for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        words.append(f"and {len(rows) - _SHOWN} more")
    return "; ".join(words)


def _rows(
    connection: psycopg.Connection, query: LiteralString, parameters: tuple[Any, ...]
) -> list[tuple[Any, ...]]:
    (definer,) = connection.execute(
        "select pg_catalog.to_regrole('pandom_definer') is not null "
        "and pg_catalog.pg_has_role(session_user, 'pandom_definer', 'set')"
    ).fetchall()[0]
    (current,) = connection.execute("select current_setting('role')").fetchall()[0]
    if definer:
        connection.execute("set role pandom_definer")
    rows = connection.execute(query, parameters).fetchall()
    if definer:
        connection.execute("select pg_catalog.set_config('role', %s, false)", (current,))
    return rows


def _words(
    pid: int, role: str, application: str | None, address: str | None, since: datetime | None
) -> str:
    """Describe one session; what the asking role may not see is left out."""
    parts = [application or "a session"]
    if address:
        parts.append(f"from {address}")
    text = f"{' '.join(parts)}, server process {pid} of {role}"
    return f"{text}, in a transaction since {since:%H:%M:%S}" if since else text


def end_long(connection: psycopg.Connection) -> list[str]:
    """End clients' sessions that block everybody, a line for each; nothing before revision 0007."""
    rule = "public.end_long_transactions()"
    known = connection.execute(
        "select pg_catalog.to_regprocedure(%s) is not null", (rule,)
    ).fetchall()
    if not known[0][0]:
        return []
    return [line for (line,) in connection.execute("select public.end_long_transactions()")]
