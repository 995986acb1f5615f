"""`pandom db prepare` and `pandom db finish`, as the superuser (D4)."""

from __future__ import annotations

import psycopg

from pandom.database import prepare as preparation
from pandom.database.connect import opt_in, target_from_environment
from pandom.errors import Failure
from pandom.jobs.inputs import secret
from pandom.jobs.steps import step


def prepare(name: str) -> None:
    """Makes an empty database into which pandom_user restores a dump with psql."""
    with step(f"preparing database {name}"):
        try:
            preparation.prepare(
                target_from_environment(), secret("postgres_password"), name, opt_in()
            )
        except psycopg.Error as error:
            raise _failure(name, error) from None
    print(
        f"next, in `make shell`: psql -h localhost -U pandom_user -d {name} < backup.sql\n"
        f"then, outside of it: pandom db finish {name}"
    )


def finish(name: str) -> int:
    """Closes the restored database and checks it; exit code 1 when something is wrong."""
    with step(f"finishing database {name}"):
        try:
            health = preparation.finish(
                target_from_environment(), secret("postgres_password"), name, opt_in()
            )
        except psycopg.Error as error:
            raise _failure(name, error) from None
    for one in health.findings:
        print(f"  {'ok' if one.ok else 'FAILED'}  {one.name}: {one.found}")
    print(f"database {name} is {'open' if health.ok else 'open for pandom_user only'}")
    return 0 if health.ok else 1


def _failure(name: str, error: psycopg.Error) -> Failure:
    return Failure(
        f"database {name}: {error.diag.message_primary or error}. "
        "Next: correct the cause and run the same again; both commands may be repeated"
    )
