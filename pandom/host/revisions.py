"""Where the database stands against this checkout's revisions, asked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from pandom.database import pinned, revisions
from pandom.database.revisions import Applied, Revision
from pandom.host import superuser
from pandom.host.health import connection
from pandom.runtime.errors import Failure


def of_running(exported: Mapping[str, Any]) -> Applied | None:
    """Return what the running database holds, asked as the superuser; None if nobody answers."""
    with superuser.database(exported) as server:
        return None if server is None else revisions.read(server)


def of_outputs(outputs: Mapping[str, Any]) -> Applied:
    """Return what a stack's database holds, asked as the operator.

    Raises Failure when it does not answer.
    """
    try:
        with psycopg.connect(**connection(outputs, "pandom_user")) as server:
            return revisions.read(server)
    except psycopg.Error as error:
        reason = pinned.refusal(error)
        raise Failure(
            f"The database could not be asked which revision it is at: {reason}\n"
            "Next: `.venv/bin/pandom up` repairs what is stopped."
        ) from None


def refuse(there: Sequence[Revision], applied: Applied | None) -> None:
    """Raise UsageError for a database that this checkout must not touch."""
    if applied is not None:
        revisions.refuse_unknown(there, applied)
        revisions.refuse_changed(there, applied)
