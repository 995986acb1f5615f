"""Connections of the jobs, always with TLS.

Settings come from the environment (PANDOM_DB_*), secrets from files of the job's volume, so that
neither a command line nor `docker inspect` shows one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg

from pandom.database import pinned
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.inputs import secret_file, setting
from pandom.runtime.numbers import is_number

CONNECT_TIMEOUT_S: Final = 5
# The warnings "privilege not revoked" and "privilege not granted".
_NO_EFFECT: Final = frozenset({"01006", "01007"})
# What the server says while it starts, and what the network says before that.
_NOT_YET: Final = (
    "connection refused",
    "starting up",
    "shutting down",
    "in recovery mode",
    "not yet accepting",
    "could not translate host name",
    "failed to resolve",
    "name or service not known",
    "temporary failure in name resolution",
    "timeout",
    "server closed the connection",
    "no route to host",
    "network is unreachable",
)


@dataclass(frozen=True)
class Target:
    """A database on a server, and the CA that its certificate must come from."""

    host: str
    port: int
    database: str
    ca: Path

    def __str__(self) -> str:
        return f"{self.database} on {self.host}:{self.port}"

    def on(self, database: str) -> Target:
        """Another database of the same server."""
        return Target(self.host, self.port, database, self.ca)


def target_from_environment() -> Target:
    """Return the target named by PANDOM_DB_HOST, PANDOM_DB_PORT and PANDOM_DB_NAME."""
    port = setting("PANDOM_DB_PORT")
    if not is_number(port) or not 0 < int(port) < 65536:
        raise UsageError(f"PANDOM_DB_PORT must be a port number, found {port!r}")
    return Target(
        host=setting("PANDOM_DB_HOST"),
        port=int(port),
        database=setting("PANDOM_DB_NAME"),
        ca=secret_file("ca.crt"),
    )


def connect(
    target: Target,
    role: str,
    password: str,
    *,
    autocommit: bool = False,
    application_name: str = "pandom",
    options: str = "",
) -> psycopg.Connection:
    """Return a connection with verified TLS, whose session is pinned; ``options`` come on top.

    Raises: Failure that says where, as whom and why not.
    """
    try:
        return psycopg.connect(
            **pinned.login(
                role,
                password,
                host=target.host,
                port=target.port,
                database=target.database,
                ca=str(target.ca),
                application_name=application_name,
                timeout_s=CONNECT_TIMEOUT_S,
                more=options,
            ),
            autocommit=autocommit,
        )
    except psycopg.OperationalError as error:
        raise Failure(f"no connection as {role} to {target}: {pinned.refusal(error)}") from None


@contextmanager
def granting(connection: psycopg.Connection) -> Iterator[None]:
    """Raise Failure when a GRANT or REVOKE in the block had no or not its full effect.

    PostgreSQL only warns when the grantor has no grant option.
    """
    said: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.sqlstate in _NO_EFFECT:
            said.append(diagnostic.message_primary or str(diagnostic.sqlstate))

    connection.add_notice_handler(note)
    try:
        yield
    finally:
        connection.remove_notice_handler(note)
    if said:
        raise Failure(
            f"a GRANT or REVOKE had no effect: {'; '.join(dict.fromkeys(said))}. Next: let the "
            "owner or a superuser do it"
        )


def wait(target: Target, role: str, password: str, limit_s: float = 60.0) -> None:
    """Wait until the server accepts a connection; a wrong password or certificate fails at once.

    Raises Failure after ``limit_s`` seconds, with the last reason.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            connect(target, role, password).close()
        except Failure as failure:
            reason = str(failure).lower()
            if not any(sign in reason for sign in _NOT_YET):
                raise
            if time.monotonic() >= deadline:
                raise Failure(
                    f"the server did not get ready within {limit_s:.0f} s: {failure}; "
                    "look at its container's log"
                ) from None
            time.sleep(0.25)
        else:
            return


def value(connection: psycopg.Connection, query: LiteralString, *parameters: Any) -> Any:
    """Return the only column of the only row of a query; `$1` style is psycopg's %s."""
    row = connection.execute(query, parameters or None).fetchone()
    if row is None:
        raise Failure(f"a query that always has one row had none: {query}")
    return row[0]


def opt_in() -> frozenset[str]:
    """Return the settings of PANDOM_OPT_IN, whose roles exist."""
    return frozenset(name for name in os.environ.get("PANDOM_OPT_IN", "").split(",") if name)
