"""The `cluster` job: what only a superuser can do, before the migration job."""

from __future__ import annotations

import psycopg

from pandom.database import cluster, holders
from pandom.database.connect import connect, granting, opt_in, target_from_environment, wait
from pandom.database.restore import restoring
from pandom.jobs.steps import step
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret
from schema.access import SUPERUSER


def run() -> None:
    """Apply schema/sql/cluster and the parts of schema/access.py that the provider cannot."""
    target = target_from_environment()
    password = secret("postgres_password")
    with step("waiting for the server"):
        wait(target, SUPERUSER, password)
    try:
        with step("roles: attributes, settings, memberships, comments") as results:
            with connect(target, SUPERUSER, password, autocommit=True) as connection:
                results += end_long(connection)
            server = target.on("postgres")
            with connect(server, SUPERUSER, password, autocommit=True) as connection:
                restoring.refuse(restoring.marked(connection), "The cluster job")
                with granting(connection):
                    cluster.apply_roles(connection, opt_in())
                    cluster.close_other_databases(connection)
            cluster.release_roles(target, password, opt_in())
            results.append("as declared")
        with step("extensions and system catalogs") as results:
            cluster.apply_database(target, password)
            results.append("as declared")
    except psycopg.Error as error:
        raise Failure(
            f"the cluster job failed: {error.diag.message_primary or error}; nothing of its last "
            "step was applied. Next: correct schema/sql/cluster or schema/access.py, then `make up`"
        ) from None


def end_long(connection: psycopg.Connection) -> list[str]:
    """End long transactions; go on if that fails, so that the job can repair the cause."""
    try:
        return holders.end_long(connection)
    except psycopg.Error as error:
        return [f"long transactions were left alone ({error.diag.message_primary or error})"]
