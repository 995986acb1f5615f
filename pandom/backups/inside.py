"""The repository as the container `operations` asks it, and the login that notes the outcome."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from pandom.backups.repository import PROGRAM, Repository, Show
from pandom.database.connect import connect, target_from_environment, value
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret, setting

ROLE: Final = "pandom_backup"


class OwnRepository(Repository):
    """The repository of the stack that this container belongs to."""

    def ask(
        self, arguments: Sequence[str], show: Show | None, *, makes: bool
    ) -> tuple[int, str, str]:
        """Run pgBackRest here, where all backups are made."""
        with subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if makes or show else subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            if not show:
                out, err = process.communicate()
                return process.returncode, out, err or ""
            said = []
            for line in process.stdout or ():
                said.append(line)
                show(line.rstrip("\n"))
        return process.returncode, "".join(said), ""


def repository() -> OwnRepository:
    """Return the repository that the container's settings name."""
    return OwnRepository(setting("PANDOM_STACK"), setting("PANDOM_BACKUP"))


def connection(name: str) -> psycopg.Connection:
    """Return a connection to the served database as the login of backups, ``name`` for what."""
    return connect(
        target_from_environment(),
        ROLE,
        secret(f"{ROLE}_password"),
        autocommit=True,
        application_name=f"pandom {name}",
    )


def system() -> int:
    """Return the system identifier of the cluster that is served."""
    with connection("backup") as client:
        return int(value(client, "select system_identifier from pg_catalog.pg_control_system()"))


def say(line: str) -> None:
    """Write a line of a task's output."""
    print(line, flush=True)


def note(event: str, details: Mapping[str, Any]) -> None:
    """Write an event of backups into the trail; raises Failure with the server's words."""
    with connection("backup") as client:
        try:
            client.execute("select public.note_recovery(%s, %s)", (event, Jsonb(dict(details))))
        except psycopg.Error as error:
            raise Failure(
                f"{event} is not noted in the trail: {error.diag.message_primary or error}"
            ) from None
