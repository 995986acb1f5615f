"""What a revert would delete, counted by running it in a transaction that is rolled back.

The SQL alone would not tell a renamed column from a dropped one, or rows that are copied first. A
table or column whose number left the catalogs is gone, unless a new table of its name has as many
rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import sql

from pandom.database.converge import OWNERS
from pandom.runtime.errors import UsageError

# The SQLSTATE of statements that run in no transaction and so cannot be tried.
_NO_TRIAL: Final = "25001"
_TABLES: Final = """
select c.oid, n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner)
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
where c.relkind in ('r', 'p', 'm') and not c.relispartition and c.relname <> 'alembic_version'
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
"""
_COLUMNS: Final = """
select a.attrelid, a.attnum, a.attname from pg_catalog.pg_attribute as a
where a.attrelid = any(%s) and a.attnum > 0 and not a.attisdropped
"""
_FILES: Final = """
select oid, pg_catalog.pg_relation_filenode(oid) from unnest(%s::oid[]) as oid
"""
_DELETED: Final = """
select relid, n_tup_del from pg_catalog.pg_stat_xact_user_tables
where relid = any(%s) and n_tup_del > 0
"""


class WouldLose(UsageError):
    """A way back that takes rows away, and nobody said that they may go."""


Table = tuple[str, str, str]  # schema, name, owner


def of(connection: psycopg.Connection, action: Callable[[], None]) -> list[str]:
    """Return what would be lost, a line each; the connection's transaction is rolled back.

    Rows that were copied into a table of another schema first are not lost.
    """
    before, columns = _tables(connection), _columns(connection)
    files = _files(connection, before)
    connection.execute("savepoint way_back")
    try:
        action()
    except (AssertionError, psycopg.errors.ActiveSqlTransaction):
        # Alembic asserts that no transaction is open where an index is built concurrently.
        connection.rollback()
        return ["what cannot be counted: a part of it runs outside of transactions"]
    after, left = _tables(connection), _columns(connection)
    deleted: dict[int, int] = dict(
        connection.execute(_DELETED, (list(before.keys() & after.keys()),)).fetchall()
    )
    copies = {
        name: _count(connection, (schema, name, owner))
        for oid, (schema, name, owner) in after.items()
        if oid not in before
    }
    # TRUNCATE is not counted as a deletion; it gives the table another file.
    anew = _files(connection, after)
    rewritten = {
        oid: _count(connection, after[oid])
        for oid in before.keys() & after.keys()
        if files[oid] != anew[oid]
    }
    connection.execute("rollback to savepoint way_back")
    lost: list[str] = []
    for oid, table in sorted(before.items(), key=lambda one: one[1]):
        schema, name, _ = table
        rows = 0 if oid in after else _count(connection, table)
        if rows > copies.get(name, 0):
            lost.append(f"table {schema}.{name}: {_number(rows, 'row')}")
        for number, column in sorted(columns.get(oid, {}).items()):
            if oid in after and number not in left.get(oid, {}):
                values = _count(connection, table, column)
                if values:
                    lost.append(f"column {schema}.{name}.{column}: {_number(values, 'value')}")
        taken = deleted.get(oid, 0)
        if oid in rewritten:
            taken = max(taken, _count(connection, table) - rewritten[oid])
        if taken:
            lost.append(f"table {schema}.{name}: {_number(taken, 'row')} of it")
    connection.rollback()
    return lost


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _tables(connection: psycopg.Connection) -> dict[int, Table]:
    rows = connection.execute(_TABLES).fetchall()
    return {oid: (schema, name, owner) for oid, schema, name, owner in rows}


def _columns(connection: psycopg.Connection) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = {}
    rows = connection.execute(_COLUMNS, (list(_tables(connection)),)).fetchall()
    for oid, number, name in rows:
        found.setdefault(oid, {})[number] = name
    return found


def _files(connection: psycopg.Connection, tables: dict[int, Table]) -> dict[int, int | None]:
    return dict(connection.execute(_FILES, (list(tables),)).fetchall())


def _count(connection: psycopg.Connection, table: Table, column: str | None = None) -> int:
    """Return rows of a table, or values of a column, as the table's owner sees them."""
    schema, name, owner = table
    what = sql.SQL("*") if column is None else sql.Identifier(column)
    role = owner if owner in OWNERS else OWNERS[0]
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    row = connection.execute(
        sql.SQL("select count({}) from {}").format(what, sql.Identifier(schema, name))
    ).fetchone()
    return int(row[0]) if row else 0
