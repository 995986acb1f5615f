"""The `migrate` job: schema, privileges, settings and seed; its exit code decides `up`."""

from __future__ import annotations

import os

import psycopg

from pandom.database import losses, migrate, revisions, seed
from pandom.database import settings as database_settings
from pandom.database.connect import opt_in, target_from_environment, wait
from pandom.database.restore import restoring
from pandom.jobs.steps import step
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.inputs import optional_secret, secret, setting

WAIT_S = 60.0


def _runner() -> migrate.Runner:
    return migrate.Runner(
        target=target_from_environment(),
        password=secret(f"{migrate.MIGRATOR}_password"),
        opt_in=opt_in(),
        production=setting("PANDOM_PROFILE") == "production",
    )


def run(checkout: str | None = None) -> None:
    """Upgrade to head, converges privileges, applies settings, seeds the administrator.

    ``checkout`` is the fingerprint of the revisions that whoever started the job has.
    """
    there = revisions.every(run=False)
    if checkout is not None:
        revisions.same_checkout(there, checkout)
    runner, settings = _runner(), database_settings.from_environment()
    hash_key = optional_secret("password_hash_key")
    email, ephemeral = setting("PANDOM_ADMIN_EMAIL"), setting("PANDOM_PROFILE") == "ephemeral"
    password = secret("admin_password")
    seed.check_password(password, email, ephemeral=ephemeral)
    with step("waiting for the server"):
        wait(runner.target, migrate.MIGRATOR, runner.password, WAIT_S)
    with migrate.session_lock(runner, lambda holder: print(f"waiting for {holder}", flush=True)):
        with step("migrations") as results:
            before, after = migrate.upgrade(runner)
            results.append(
                f"at head {after}" if before == after else f"{before or 'empty'} → {after}"
            )
        try:
            with step("privileges") as results:
                count = migrate.finish(runner)
                results.append(f"{count} changed" if count else "as declared")
                results += migrate.validate(runner)
            with step("settings") as results, runner.connect() as connection:
                results += database_settings.apply(connection, settings, hash_key)
            with step("administrator") as results, runner.connect() as connection:
                seeded = seed.administrator(
                    connection,
                    email,
                    password,
                    hash_key,
                    # Saves 200 ms at each start of a stack that is thrown away.
                    cost=4 if ephemeral else settings.bcrypt_cost,
                    restoring=runner.target.database in restoring.marked(connection),
                )
                results.append(seeded.said)
            if os.environ.get("PANDOM_SAMPLE_DATA") == "true":
                if setting("PANDOM_PROFILE") == "production":
                    raise UsageError("sample data does not go into a production database")
                with step("sample data") as results, runner.connect() as connection:
                    results.append(f"{seed.samples(connection)} made")
        except psycopg.Error as error:
            raise Failure(
                f"the migration job failed after the migrations: "
                f"{error.diag.message_primary or error}. Next: correct the cause, then `make up`"
            ) from None
    print(f"the database is at head {after}", flush=True)


def revert(target: str, losing: str = "no") -> None:
    """Take revisions back, down to ``target``; rows are lost only if ``losing`` is yes."""
    runner = _runner()
    with migrate.session_lock(runner), step("taking back") as results:
        try:
            before, after, lost = migrate.revert(runner, target, losing=losing == "yes")
        except losses.WouldLose as refused:
            stack = setting("PANDOM_STACK")
            raise UsageError(
                f"{refused}\nNext, if you mean it: CONFIRM={stack} pandom migrate revert {target} "
                f"--stack {stack}"
            ) from None
        results.append(f"{before or 'empty'} → {after or 'empty'}")
    for line in lost:
        print(f"lost: {line}")
