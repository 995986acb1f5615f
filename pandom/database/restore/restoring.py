"""Which databases stand between `pandom db prepare` and `pandom db finish`.

The mark is a setting of the database: nothing reads it but this, no dump holds it, and it
goes with the database. While there is one, whatever would give logins their way in, or
take the operator's opening back, must not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg
from psycopg import sql

from pandom.runtime.errors import UsageError
from schema.access import DATABASE

SETTING: Final = "pandom.restoring"


def mark(connection: psycopg.Connection, name: str) -> None:
    """Says that ``name`` is being restored, until unmark()."""
    connection.execute(
        sql.SQL("alter database {} set {} to on").format(
            sql.Identifier(name), sql.Identifier(*SETTING.split("."))
        )
    )


def unmark(connection: psycopg.Connection, name: str) -> None:
    """Take the mark back; do nothing without one."""
    connection.execute(
        sql.SQL("alter database {} reset {}").format(
            sql.Identifier(name), sql.Identifier(*SETTING.split("."))
        )
    )


def marked(connection: psycopg.Connection) -> list[str]:
    """Return the server's databases that are being restored."""
    rows = connection.execute(
        "select d.datname from pg_catalog.pg_db_role_setting as s "
        "inner join pg_catalog.pg_database as d on s.setdatabase = d.oid "
        "cross join lateral unnest(s.setconfig) as c (entry) "
        "where s.setrole = 0 and split_part(c.entry, '=', 1) = %s order by 1",
        (SETTING,),
    ).fetchall()
    return [name for (name,) in rows]


def _give_up(names: Sequence[str]) -> str:
    """Return how to get rid of them; what clients are served from is never dropped."""
    others = [name for name in names if name != DATABASE]
    if others:
        return f"or, to give it up, drop {', '.join(others)} as the superuser (docs/runbook.md); "
    again = f"CONFIRM={DATABASE} .venv/bin/pandom db prepare {DATABASE}"
    return f"or, to restore another dump, `{again}`;\n"


def refuse(names: Sequence[str], what: str) -> None:
    """Raise UsageError when there are any; ``what`` is what will not run meanwhile."""
    if not names:
        return
    finish = "\n".join(f"  .venv/bin/pandom db finish {name}" for name in names)
    raise UsageError(
        f"A restore is not finished: {', '.join(names)}. {what} would let logins into a database "
        "that\nwas not checked, or take away what the restore needs. Next, with --stack if it is "
        "not `dev`:\n"
        f"{finish}\n{_give_up(names)}then this again."
    )
