"""The connection to the PostgreSQL server, its errors in one line, and its locks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from toolchain.standins.interruption import Interruption, OperationFailed
from toolchain.standins.properties import Property, Table
from toolchain.standins.values import Values

if TYPE_CHECKING:
    from psycopg import Connection

# The official plugin's defaults: connections at once, seconds until a host that does not
# answer is given up.
_CONNECTIONS: Final = 20
_CONNECT_LIMIT: Final = 180
# What everybody is a member of; no role, and found in no catalog of roles.
PUBLIC: Final = "public"

SETTINGS: Final[Table] = {
    "host": Property(kind="string"),
    "port": Property(kind="integer"),
    "database": Property(kind="string"),
    "username": Property(kind="string"),
    "password": Property(kind="string"),
    "sslmode": Property(kind="string"),
    "sslrootcert": Property(kind="string"),
    "superuser": Property(kind="boolean"),
    "connectTimeout": Property(kind="integer"),
    "maxConnections": Property(kind="integer"),
}


class Server:
    """One PostgreSQL server, as the provider's settings describe it.

    Nothing is connected before an operation needs it, and nothing stays connected after:
    the server may not exist yet when the provider does, and an idle connection would be in
    the way of dropping a database.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._settings: Values = {}
        self._free = threading.Semaphore(_CONNECTIONS)

    def configure(self, settings: Values) -> None:
        """Take the provider's settings; all but texts come as JSON in a text."""
        self._settings = {
            key: _decoded(value) if SETTINGS[key].kind != "string" else value
            for key, value in settings.items()
            if key in SETTINGS
        }

    @property
    def username(self) -> str:
        """Who works on the server."""
        return str(self._settings.get("username", "postgres"))

    @property
    def reads_passwords(self) -> bool:
        """Whether the user is said to be a superuser."""
        return bool(self._settings.get("superuser", True))

    @contextmanager
    def connection(
        self, what: str, database: str | None = None, *, autocommit: bool = False
    ) -> Iterator[Connection[tuple[Any, ...]]]:
        """Connect for one operation, in one transaction unless ``autocommit``.

        Errors of the server are raised as ``OperationFailed("what: its own words")``. The
        statement is never shown: it may hold a password.
        """
        import psycopg

        with self._free:
            connection = self._connect(database)
            try:
                connection.autocommit = autocommit
                with self._interruption.aborting(connection.cancel_safe):
                    yield connection
                if not autocommit:
                    connection.commit()
            except psycopg.Error as error:
                raise OperationFailed(f"{what}: {_reason(error)}") from error
            finally:
                connection.close()

    def _connect(self, database: str | None) -> Connection[tuple[Any, ...]]:
        import psycopg

        settings = self._settings
        host, port = settings.get("host"), settings.get("port", 5432)
        try:
            return psycopg.connect(
                host=host,
                port=port,
                user=self.username,
                password=settings.get("password"),
                dbname=database or settings.get("database", "postgres"),
                sslmode=settings.get("sslmode") or "require",
                sslrootcert=settings.get("sslrootcert"),
                connect_timeout=settings.get("connectTimeout", _CONNECT_LIMIT),
                fallback_application_name="pulumi-resource-postgresql (stand-in)",
                gssencmode="disable",
            )
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[0].removeprefix("connection failed: ")
            raise OperationFailed(
                f"error connecting to PostgreSQL server {host}:{port}: {reason}"
            ) from error


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _reason(error: Exception) -> str:
    """Return the server's message without the statement that it quotes."""
    import psycopg

    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        more = (error.diag.message_detail, error.diag.message_hint)
        return " ".join([error.diag.message_primary, *(f"({text})" for text in more if text)])
    return str(error).strip().splitlines()[0]


def quoted(*names: str) -> str:
    """Quote identifiers for a statement, separated by dots."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """Return a text for use in a statement that takes no parameters."""
    escaped = text.replace("'", "''")
    if "\\" in escaped:
        return "E'" + escaped.replace("\\", "\\\\") + "'"
    return f"'{escaped}'"


def grantee(name: str) -> str:
    """Return a role, or PUBLIC, which must not be quoted."""
    return "public" if name == PUBLIC else quoted(name)


def run(connection: Connection[tuple[Any, ...]], statement: str, *values: Any) -> list[Any]:
    """Return the rows of a statement, none if it gives none."""
    from psycopg import sql

    cursor = connection.execute(sql.SQL(statement), values or None)
    return cursor.fetchall() if cursor.description else []


def lock_role(connection: Connection[tuple[Any, ...]], role: str) -> None:
    """Keep others of this kind from changing the role, until the transaction ends."""
    run(connection, "set local statement_timeout = 0")
    run(
        connection,
        "select pg_catalog.pg_advisory_xact_lock(oid::bigint) from pg_catalog.pg_roles"
        " where rolname = %s",
        role,
    )
    run(
        connection,
        "select pg_catalog.pg_advisory_xact_lock(m.member::bigint)"
        " from pg_catalog.pg_auth_members m"
        " join pg_catalog.pg_roles r on r.oid = m.roleid where r.rolname = %s",
        role,
    )


def lock_database(connection: Connection[tuple[Any, ...]], database: str) -> None:
    """Keep others of this kind from changing the database, until the transaction ends."""
    run(connection, "set local statement_timeout = 0")
    run(
        connection,
        "select pg_catalog.pg_advisory_xact_lock(oid::bigint) from pg_catalog.pg_database"
        " where datname = %s",
        database,
    )


def role_number(connection: Connection[tuple[Any, ...]], role: str) -> int:
    """Return the role's number in access lists; PUBLIC is 0. The role exists."""
    if role == PUBLIC:
        return 0
    rows = run(connection, "select oid from pg_catalog.pg_roles where rolname = %s", role)
    if not rows:
        raise OperationFailed(f"could not find role {role}")
    return int(rows[0][0])


def exists(connection: Connection[tuple[Any, ...]], kind: str, name: str) -> bool:
    """Return whether there is a role, database or schema of that name."""
    catalog = {
        "role": "select from pg_catalog.pg_roles where rolname = %s",
        "database": "select from pg_catalog.pg_database where datname = %s",
        "schema": "select from pg_catalog.pg_namespace where nspname = %s",
    }[kind]
    cursor = connection.execute(catalog, (name,))
    return cursor.rowcount > 0


def server_version(connection: Connection[tuple[Any, ...]]) -> int:
    """Return the server's version, 170005 for 17.5."""
    return connection.info.server_version
