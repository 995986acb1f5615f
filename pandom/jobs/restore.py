"""`pandom db prepare` and `pandom db finish`, as the superuser."""

from __future__ import annotations

import psycopg

from pandom.database import settings
from pandom.database.connect import opt_in, target_from_environment
from pandom.database.restore import prepare as preparation
from pandom.jobs.steps import step
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import optional_secret, secret, setting


def prepare(name: str) -> None:
    """Make an empty database into which pandom_user restores a dump with psql."""
    with step(f"preparing database {name}"):
        try:
            preparation.prepare(
                target_from_environment(), secret("postgres_password"), name, opt_in()
            )
        except psycopg.Error as error:
            raise _failure(name, error) from None
    print(
        f"next, in `make shell`: psql -h localhost -U pandom_user -d {name} < backup.sql\n"
        f"then, outside of it: .venv/bin/pandom db finish {name}"
    )


def finish(name: str) -> int:
    """Close the restored database and checks it; exit code 1 when something is wrong."""
    with step(f"finishing database {name}") as results:
        try:
            health, changed = preparation.finish(
                target_from_environment(),
                secret("postgres_password"),
                name,
                opt_in(),
                settings.from_environment(),
                optional_secret("password_hash_key"),
                setting("PANDOM_ADMIN_EMAIL"),
            )
        except psycopg.Error as error:
            raise _failure(name, error) from None
        results.append("closed, checked and opened" if health.ok else "closed and checked")
    for line in (*changed, *health.lines()):
        print(f"  {line}")
    if health.ok:
        print(f"{name} is restored; the next `make up` looks at all of the stack")
        return 0
    print(
        f"{name} stays closed to all but pandom_user. Next: correct what is marked FAILED, as "
        "pandom_user in `pandom shell`, then `pandom db finish` again"
    )
    return 1


def _failure(name: str, error: psycopg.Error) -> Failure:
    return Failure(
        f"database {name}: {error.diag.message_primary or error}. "
        "Next: correct the cause and run the same again; both commands may be repeated"
    )
