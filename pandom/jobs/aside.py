"""`pandom job aside NAME`: a database keeps its content under another name."""

from __future__ import annotations

import psycopg

from pandom.database.connect import target_from_environment
from pandom.database.restore.aside import set_aside
from pandom.jobs.steps import step
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret


def run(name: str) -> None:
    """Disconnect its users and renames it; there being none is fine."""
    try:
        with step(f"keeping the present {name}") as results:
            aside = set_aside(target_from_environment(), secret("postgres_password"), name)
            results.append(f"as {aside}" if aside else "there is none")
    except psycopg.Error as error:
        raise Failure(
            f"{name} could not be renamed: {error.diag.message_primary or error}; it is as it was"
        ) from None
