"""Runs the frozen SQL text of a revision (migrations/sql/NNNN/NAME.sql).

A revision must not read schema/sql: that text moves on, and history would change
with it. Each file says by SET LOCAL ROLE who owns what it makes.
"""

from __future__ import annotations

import psycopg
from alembic import op

from pandom.paths import ROOT


def run(revision: str, *names: str) -> None:
    """Runs files of a revision, in order, as one script each on the raw connection.

    SQLAlchemy would take ``:name`` and ``%`` in the text for parameters.
    """
    connection = op.get_bind().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("migrations run on psycopg")
    for name in names:
        text = (ROOT / "migrations" / "sql" / revision / f"{name}.sql").read_text()
        connection.execute(text.encode())
    # Alembic's own table belongs to pandom_owner.
    connection.execute("set local role pandom_owner")
