"""Runs the frozen SQL of a revision (migrations/sql/NNNN/NAME.sql).

A revision must not read schema/sql, which changes. SET LOCAL ROLE in each file says who owns what
it makes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
from psycopg import sql

from pandom.database.connect import value
from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT

FOLDER = ROOT / "migrations" / "sql"


def run(revision: str, *names: str) -> None:
    """Run files of a revision, in order, as one script each on the raw connection.

    SQLAlchemy would take ``:name`` and ``%`` in the text for parameters.
    """
    connection = _connection()
    for name in names:
        connection.execute(_text(revision, name))
    # Alembic's own table belongs to pandom_owner.
    connection.execute("set local role pandom_owner")


def build_index(revision: str, name: str, index: str) -> None:
    """Run a file with one CREATE INDEX CONCURRENTLY on a table of pandom_owner.

    It cannot run in a transaction: what the revision did before is committed first, so give an
    index its own revision. An invalid index of a killed build is dropped first. Raises UsageError
    if the file does something else.
    """
    text = _text(revision, name)
    if b"concurrently" not in text.lower() or index.encode() not in text:
        raise UsageError(f"{revision}/{name}.sql must build {index} with CREATE INDEX CONCURRENTLY")
    from alembic import op

    with op.get_context().autocommit_block():
        connection = _connection()
        if value(
            connection,
            "select exists (select from pg_catalog.pg_index "
            "where indexrelid = pg_catalog.to_regclass(%s) and not indisvalid)",
            f"public.{index}",
        ):
            connection.execute(
                sql.SQL("drop index concurrently public.{}").format(sql.Identifier(index))
            )
        connection.execute(text)


def digest(revision: str, folder: Path | None = None) -> str:
    """Return SHA-256 over a revision's files, names included: what migrations/released.txt pins."""
    chain = hashlib.sha256()
    for path in sorted(((folder or FOLDER) / revision).glob("[!.]*.sql")):
        chain.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return chain.hexdigest()


def _text(revision: str, name: str) -> bytes:
    return (FOLDER / revision / f"{name}.sql").read_bytes()


def _connection() -> psycopg.Connection:
    from alembic import op  # takes 0.4 s, and `up` only reads the folder

    connection = op.get_bind().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("migrations run on psycopg")
    return connection
