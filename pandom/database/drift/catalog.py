"""Reads the catalogs of one database into facts, in one snapshot, without superuser rights.

Every query returns the columns kind, object, detail, value. They are sent as one union, because
thirty round trips would take as long again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, Final, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pandom.database import pinned
from pandom.database.catalog_query import names, query
from pandom.database.drift.facts import Fact, Facts
from pandom.runtime.errors import Failure, UsageError

# Asked only if the login has the rights.
_RIGHTS: Final = "rights"
_SETTINGS: Final = "settings"
_CONNECTION_RULES: Final = "connection_rules"
# Sources of settings that hold for the whole server.
_OF_SERVER: Final = ("default", "configuration file", "command line", "environment variable")
_SETTING_ROWS: Final = "setting_rows"
_ARCHIVING: Final = "archiving"
_SPECIAL: Final = frozenset(
    {"objects", "owned", _RIGHTS, _SETTINGS, _CONNECTION_RULES, _SETTING_ROWS, _ARCHIVING}
)


@dataclass(frozen=True)
class Setting:
    """A setting of the server: its value in its own unit, and where it comes from."""

    value: str
    source: str
    context: str


@dataclass(frozen=True)
class Archiving:
    """How the server's log is archived: the last segment that could not be, while none could
    after it; of backups and drills what the trail knows."""

    failing: str | None
    backup_age: timedelta | None
    drill_age: timedelta | None = None
    drill_failed: bool = False


@dataclass(frozen=True)
class Observed:
    """What the catalogs say, and what the login could not see of them."""

    login: str
    database: str
    version: str
    read_at: str
    facts: Facts
    settings: Mapping[str, Setting] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    archiving: Archiving | None = None
    # How old the newest backup may be; None where this program makes none.
    backup_within: timedelta | None = None
    # And the last drill that passed; None where there are none.
    drill_within: timedelta | None = None


@cache
def _kinds() -> tuple[str, ...]:
    return tuple(name for name in names() if name not in _SPECIAL and not name.startswith("trail"))


def connect(dsn: str) -> psycopg.Connection:
    """Connect for reading only, whatever the login may do otherwise.

    The session is pinned; other options of the ``dsn`` stay. Raises Failure without a password.
    """
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its words quote the text, which may hold a password
        raise UsageError(
            "--dsn is no connection string: expected postgresql://… or key=value pairs."
        ) from None
    try:
        session = pinned.session(str(given.get("user") or os.environ.get("PGUSER", "")))
        # The later of two values of a setting wins.
        session["options"] = f"{given.get('options', '')} {session['options']}".lstrip()
        connection = psycopg.connect(dsn, application_name="pandom audit", **session)
    except psycopg.OperationalError as error:
        reason = pinned.refusal(error)
        raise Failure(f"The audit could not connect: {reason}") from None
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


def read(connection: psycopg.Connection, owners: tuple[str, ...]) -> Observed:
    """Return all facts of the connection's database, as of one moment.

    ``owners`` are the roles whose default privileges are declared. Raises Failure
    when the server refuses a query.
    """
    with reading(connection, "The catalogs"):
        return _read(connection, owners)


@contextmanager
def reading(connection: psycopg.Connection, what: str) -> Iterator[None]:
    """Turn the server's errors into a Failure about ``what``, and end the transaction."""
    try:
        yield
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error).strip()
        raise Failure(f"{what} could not be read: {reason}") from error
    finally:
        if not connection.closed:
            connection.rollback()


def _read(connection: psycopg.Connection, owners: tuple[str, ...]) -> Observed:
    with connection.cursor(row_factory=dict_row) as cursor:
        rights = cursor.execute(query(_RIGHTS)).fetchall()[0]
    asked = tuple(name for name in (_CONNECTION_RULES, _SETTING_ROWS) if rights[name])
    names = _kinds() + asked
    with ThreadPoolExecutor() as beside:
        # On its own connection; it takes a third as long as the catalogs.
        under_pins = beside.submit(_under_pins, connection.info)
        with connection.pipeline():
            every = connection.execute(_union(names), {"owners": list(owners)})
            settings = connection.execute(query(_SETTINGS))
            facts = {Fact(*row[:3]): row[3] for row in every.fetchall()}
            found = {row[0]: Setting(*row[1:]) for row in settings.fetchall()}
        archiving = None
        if rights["trail"] and (mode := found.get("archive_mode")) and mode.value != "off":
            archiving = Archiving(*connection.execute(query(_ARCHIVING)).fetchall()[0])
        found |= under_pins.result()
    return Observed(
        login=rights["login"],
        database=rights["database"],
        version=rights["version"],
        read_at=rights["read_at"],
        facts=facts,
        settings=found,
        unknown=tuple(_unknown(rights)),
        archiving=archiving,
    )


def seen(connection: psycopg.Connection, names: Sequence[str], owners: Sequence[str] = ()) -> Facts:
    """Return the facts of some queries only, for a job that makes just these as declared.

    In the caller's transaction, where names are written qualified from now on.
    """
    connection.execute("select pg_catalog.set_config('search_path', '', true)")
    rows = connection.execute(_union(tuple(names)), {"owners": list(owners)}).fetchall()
    return {Fact(*row[:3]): row[3] for row in rows}


def functions_naming(connection: psycopg.Connection, words: Sequence[str]) -> frozenset[str]:
    """Return the functions whose body has all the words: a table as schema.name, and a column."""
    # With an empty path the server writes every name qualified.
    connection.execute("select pg_catalog.set_config('search_path', '', true)")
    rows = connection.execute(
        "select replace(p.oid::regprocedure::text, ',', ', ') from pg_catalog.pg_proc as p "
        "where p.oid >= 16384 and not exists ("
        "select from unnest(%s::text[]) as w (word) where strpos(p.prosrc, w.word) = 0)",
        (list(words),),
    ).fetchall()
    return frozenset(row[0] for row in rows)


def _under_pins(info: psycopg.ConnectionInfo) -> dict[str, Setting]:
    """Return the server's own values of pinned settings, from a session that pins nothing.

    Values of a database or role hide the server's; they are facts of their own.
    """
    wanted: dict[str, Any] = {**info.get_parameters(), "password": info.password, "options": ""}
    try:
        with psycopg.connect(**wanted, autocommit=True) as plain:
            rows = plain.execute(query(_SETTINGS)).fetchall()
    except psycopg.Error:
        return {}
    return {
        row[0]: Setting(*row[1:])
        for row in rows
        if row[0].lower() in pinned.SETTINGS and row[2] in _OF_SERVER
    }


@cache
def _union(names: tuple[str, ...]) -> LiteralString:
    """Return all queries as one; each file is a whole statement of its own."""
    return "\nunion all\n".join(f"(\n{query(name).rstrip().rstrip(';')}\n)" for name in names)


def _unknown(rights: Mapping[str, Any]) -> list[str]:
    reasons = []
    if not rights["connection_rules"]:
        reasons.append("connection rules (pg_hba): needs SELECT and EXECUTE on pg_hba_file_rules")
    if not rights["setting_rows"]:
        reasons.append(
            "setting rows: needs SELECT on public.account_settings, public.trail_retention and "
            "public.context_key (enforced)"
        )
    if not rights["settings"]:
        reasons.append("settings only superusers see: needs pg_read_all_settings")
    return reasons
