"""The `migrate` job: schema, privileges, settings and seed; its exit code decides `up` (M4)."""

from __future__ import annotations

import os

import psycopg

from pandom.database import migrate, seed
from pandom.database import settings as database_settings
from pandom.database.connect import opt_in, target_from_environment, wait
from pandom.errors import Failure, UserMistake
from pandom.jobs.inputs import secret, setting
from pandom.jobs.steps import step

WAIT_S = 60.0


def _runner() -> migrate.Runner:
    return migrate.Runner(
        target=target_from_environment(),
        password=secret(f"{migrate.MIGRATOR}_password"),
        opt_in=opt_in(),
        production=setting("PANDOM_PROFILE") == "production",
    )


def _flag(name: str) -> bool:
    value = setting(name)
    if value not in ("true", "false"):
        raise UserMistake(f"{name} must be true or false, found {value!r}")
    return value == "true"


def _settings() -> database_settings.DatabaseSettings:
    months = setting("PANDOM_RETENTION_MONTHS")
    if not months.isdigit() or int(months) < 1:
        raise UserMistake(f"PANDOM_RETENTION_MONTHS must be 1 or more, found {months!r}")
    return database_settings.DatabaseSettings(
        signed_context=_flag("PANDOM_SIGNED_CONTEXT"),
        encrypt_password_hash=_flag("PANDOM_ENCRYPT_PASSWORD_HASH"),
        retention_months=int(months),
    )


def _hash_key() -> str | None:
    try:
        return secret("password_hash_key")
    except Failure:
        return None  # there is one only when P1 is on


def run() -> None:
    """Upgrades to head, converges privileges, applies settings, seeds the administrator."""
    runner, settings = _runner(), _settings()
    email, ephemeral = setting("PANDOM_ADMIN_EMAIL"), setting("PANDOM_PROFILE") == "ephemeral"
    password = secret("admin_password")
    seed.check_password(password, ephemeral=ephemeral)
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
                results += database_settings.apply(connection, settings, _hash_key())
            with step("administrator") as results, runner.connect() as connection:
                made = seed.administrator(
                    connection,
                    email,
                    password,
                    _hash_key(),
                    # An ephemeral stack is thrown away; 200 ms at each start are not.
                    cost=4 if ephemeral else seed.BCRYPT_COST,
                )
                results.append(f"{email} {'made' if made else 'exists'}")
            if os.environ.get("PANDOM_SAMPLE_DATA") == "true":
                if setting("PANDOM_PROFILE") == "production":
                    raise UserMistake("sample data does not go into a production database")
                with step("sample data") as results, runner.connect() as connection:
                    results.append(f"{seed.samples(connection)} made")
        except psycopg.Error as error:
            raise Failure(
                f"the migration job failed after the migrations: "
                f"{error.diag.message_primary or error}. Next: correct the cause, then `make up`"
            ) from None
    print(f"the database is at head {after}", flush=True)


def revert(target: str) -> None:
    """Takes revisions back, down to ``target``."""
    runner = _runner()
    with migrate.session_lock(runner), step("taking back") as results:
        before, after = migrate.revert(runner, target)
        results.append(f"{before or 'empty'} → {after or 'empty'}")


def show() -> None:
    """Prints the revisions, newest first."""
    for revision, purpose, applied in migrate.history(_runner()):
        print(f"[{'x' if applied else ' '}] {revision} {purpose}")
