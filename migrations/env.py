"""How Alembic runs a revision: as pandom_owner, one transaction each, privileges converged.

Called by pandom/database/migrate.py, which holds the session lock and hands the
connection over; `alembic` by hand has none and is refused. A trial of a way back is one
transaction, which its caller rolls back.
"""

from __future__ import annotations

from typing import Any, cast

import psycopg
from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection

from pandom.database import revisions
from pandom.database.converge import converge
from pandom.runtime.errors import Failure, UsageError
from schema.models import Base


def _connection() -> Connection:
    found = context.config.attributes.get("connection")
    if found is None:
        raise UsageError("run migrations by `pandom migrate`, which has the lock and the login")
    return cast(Connection, found)


def _applied(step: MigrationInfo, **_: Any) -> None:
    """Note the revision's text, and converge privileges, in the revision's own transaction.

    A head whose rows would be open is refused with all of it; older revisions made their
    tables before the policies, and get those privileges when the policies are there.
    """
    raw = cast(psycopg.Connection, connection.connection.driver_connection)
    revisions.keep(raw, attributes["revisions"], step.up_revision_id if step.is_upgrade else None)
    head = step.is_upgrade and step.up_revision_id in context.script.get_heads()
    try:
        converge(raw, attributes["opt_in"], complete=False, guarded=head)
    except Failure as error:
        raise Failure(f"revision {step.up_revision_id} is refused: {error}") from None


attributes = context.config.attributes
connection = _connection()
connection.exec_driver_sql("set role pandom_owner")
if not attributes["trial"]:
    # In a transaction that is open already Alembic would never commit.
    connection.commit()
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transaction_per_migration=True,
    version_table_schema="public",
    compare_server_default=True,
    on_version_apply=() if attributes["trial"] else _applied,  # type: ignore[arg-type]
)
with context.begin_transaction():
    context.run_migrations()
