"""A freshly migrated database on a running server, dropped afterwards.

Recordings come from it, so that changes by hand in the stack's own database do not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from psycopg import sql
from psycopg.conninfo import make_conninfo

from pandom.database import cluster, migrate
from pandom.database.connect import Target
from pandom.host import superuser
from pandom.runtime.errors import Failure
from schema import access

# One name, so that the next run removes what a killed one left.
NAME: Final = "pandom_scratch"


@contextmanager
def migrated(exported: Mapping[str, Any], opt_in: frozenset[str]) -> Iterator[str]:
    """Make a database at the newest revision; yield the auditor's DSN for it.

    Roles of settings that are off are made meanwhile, without a login. Raises Failure when the
    server does not answer or a revision fails.
    """
    with superuser.database(exported, "postgres") as server:
        login = superuser.login(exported)
        if server is None or login is None:
            raise Failure("The database does not answer. Next: `.venv/bin/pandom up`")
        server.autocommit = True
        passwords = superuser.passwords(exported)
        target = Target(login["host"], login["port"], NAME, Path(login["sslrootcert"]))
        database = sql.Identifier(NAME)
        there = {name for (name,) in server.execute("select rolname from pg_catalog.pg_roles")}
        made = [role.name for role in access.roles(opt_in) if role.name not in there]
        try:
            for role in made:
                server.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
            server.execute(
                sql.SQL("drop database if exists {} with (force)").format(database),
            )
            server.execute(sql.SQL("create database {} template template0").format(database))
            with superuser.database(exported, NAME) as inside:
                if inside is None:
                    raise Failure(f"Database {NAME} does not answer.")
                cluster.apply_grants(inside, opt_in)
            cluster.apply_database(target, login["password"])
            runner = migrate.Runner(target, passwords[migrate.MIGRATOR], opt_in)
            migrate.upgrade(runner)
            migrate.finish(runner)
            auditor = "pandom_auditor"
            yield make_conninfo(
                **{**login, "dbname": NAME, "user": auditor, "password": passwords[auditor]}
            )
        finally:
            server.execute(
                sql.SQL("drop database if exists {} with (force)").format(database),
            )
            for role in made:
                server.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
