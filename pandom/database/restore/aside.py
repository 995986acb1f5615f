"""Keeps a database under another name, so that one of its own name can be restored."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql

from pandom.database.connect import Target, connect, value
from pandom.database.restore import restoring
from pandom.runtime.errors import UsageError
from schema import access

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED: Final = ("postgres", "template0", "template1")
# How long a connection may take to end, in milliseconds.
_END_MS: Final = 5000


def check_name(name: str) -> None:
    """Raise UsageError for a name that no database of ours may have."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f"{name!r} is no database to restore into. Expected lower case letters, digits and _, "
            f"at most 40, the first a letter, and not {', '.join(_RESERVED)}."
        )


def set_aside(server: Target, password: str, name: str) -> str | None:
    """Rename a database, after disconnecting whoever uses it; return its new name.

    None when there is no such database. Its content and privileges stay as they are.
    Raises: UsageError for a name that is none of ours; psycopg.Error, with nothing changed.
    """
    check_name(name)
    aside = f"{name}_{datetime.now(UTC):%Y%m%d%H%M%S}"
    old, new = sql.Identifier(name), sql.Identifier(aside)
    with connect(server.on("postgres"), access.SUPERUSER, password, autocommit=True) as connection:
        known = "select exists (select from pg_catalog.pg_database where datname = %s)"
        if not value(connection, known, name):
            return None
        # Or the application would be back before the database has its new name.
        connection.execute(sql.SQL("alter database {} allow_connections false").format(old))
        try:
            connection.execute(
                "select pg_catalog.pg_terminate_backend(a.pid, %s) "
                "from pg_catalog.pg_stat_activity as a where a.datname = %s",
                (_END_MS, name),
            )
            connection.execute(sql.SQL("alter database {} rename to {}").format(old, new))
        except psycopg.Error:
            connection.execute(sql.SQL("alter database {} allow_connections true").format(old))
            raise
        connection.execute(sql.SQL("alter database {} allow_connections true").format(new))
        # A restore into it was given up; it must not hold up everything else for good.
        restoring.unmark(connection, aside)
        return aside
