"""`pandom job restored`: looks at a cluster that was restored beside the one that is served.

Its server listens in the container whose network this job is in. The database is closed
before it could be served: only the migration job gets in until `pandom job finish` is done.
"""

from __future__ import annotations

import json

import psycopg

from pandom.audit import trail
from pandom.audit.anchors import Kept
from pandom.database import cluster, migrate, named, revisions
from pandom.database.connect import connect, opt_in, target_from_environment, value
from pandom.database.health import TABLES
from pandom.database.restore import restoring
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret
from schema.access import SUPERUSER


def run() -> None:
    """Print what is there as JSON, before it a line for each object that a row names.

    Raises Failure for a trail that is not in order.
    """
    target, password = target_from_environment(), secret("postgres_password")
    try:
        with connect(target, SUPERUSER, password) as connection:
            there, applied = revisions.every(), revisions.read(connection)
            revisions.refuse_unknown(there, applied)
            chain = trail.verify(connection, Kept())
        if chain.problems:
            raise Failure(
                "The restored trail is not in order:\n"
                + "\n".join(f"  {one.kind}: {one.text}" for one in chain.problems)
            )
        with connect(target, SUPERUSER, password, autocommit=True) as connection:
            rows = {
                name: value(connection, f"select count(*) from public.{name}")  # noqa: S608
                for name in TABLES
            }
            wanted = named.objects(connection)
            restoring.mark(connection, target.database)
            cluster.apply_grants(connection, opt_in(), connecting=(migrate.MIGRATOR,))
    except psycopg.Error as error:
        raise Failure(
            f"The restored database cannot be read: {error.diag.message_primary or error}"
        ) from None
    for pair in wanted.items():
        print(json.dumps(pair))
    print(json.dumps({"revision": applied.reached, "blocks": chain.blocks, "rows": rows}))
