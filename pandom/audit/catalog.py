"""Reads the catalogs of one database into facts, in one snapshot, without superuser rights.

Every ``.sql`` file beside this module answers with the four columns kind, object,
detail, value; a new kind of object is a new file. They are sent as one statement, a
union of all of them: thirty statements would cost as much again in round trips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row

from pandom.audit.facts import Fact, Facts
from pandom.errors import Failure

_FOLDER: Final = Path(__file__).parent / "sql"

# Not part of every audit: asked only when the login may.
_RIGHTS: Final = "rights"
_SETTINGS: Final = "settings"
_CONNECTION_RULES: Final = "connection_rules"
_SETTING_ROWS: Final = "setting_rows"
_SPECIAL: Final = frozenset({_RIGHTS, _SETTINGS, _CONNECTION_RULES, _SETTING_ROWS})


@dataclass(frozen=True)
class Setting:
    """A setting of the server: its value in its own unit, and where it comes from."""

    value: str
    source: str
    context: str


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


@cache
def query(name: str) -> LiteralString:
    """The text of one query, marked so that the server's statistics name its file."""
    text: LiteralString = (_FOLDER / f"{name}.sql").read_text()
    return f"-- From pandom/audit/sql/{name}.sql\n" + text


@cache
def _kinds() -> tuple[str, ...]:
    names = sorted(path.stem for path in _FOLDER.glob("*.sql"))
    return tuple(name for name in names if name not in _SPECIAL and not name.startswith("trail"))


def connect(dsn: str) -> psycopg.Connection:
    """A connection for reading only: whatever the login may do, this session changes nothing.

    Raises Failure that says where, as whom and why not; never a password.
    """
    try:
        connection = psycopg.connect(dsn, application_name="pandom audit")
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise Failure(f"The audit could not connect: {reason}") from None
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return connection


def read(connection: psycopg.Connection, owners: tuple[str, ...]) -> Observed:
    """All facts of the connection's database, as of one moment.

    ``owners`` are the roles whose default privileges are declared. Raises Failure
    when the server refuses a query.
    """
    try:
        return _read(connection, owners)
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error).strip()
        raise Failure(f"The catalogs could not be read: {reason}") from error
    finally:
        if not connection.closed:
            connection.rollback()


def _read(connection: psycopg.Connection, owners: tuple[str, ...]) -> Observed:
    with connection.cursor(row_factory=dict_row) as cursor:
        rights = cursor.execute(query(_RIGHTS)).fetchall()[0]
    asked = tuple(name for name in (_CONNECTION_RULES, _SETTING_ROWS) if rights[name])
    names = _kinds() + asked
    with connection.pipeline():
        every = connection.execute(_union(names), {"owners": list(owners)})
        settings = connection.execute(query(_SETTINGS))
        facts = {Fact(*row[:3]): row[3] for row in every.fetchall()}
        found = {row[0]: Setting(*row[1:]) for row in settings.fetchall()}
    return Observed(
        login=rights["login"],
        database=rights["database"],
        version=rights["version"],
        read_at=rights["read_at"],
        facts=facts,
        settings=found,
        unknown=tuple(_unknown(rights)),
    )


@cache
def _union(names: tuple[str, ...]) -> LiteralString:
    """All queries as one; each file is a whole statement of its own."""
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
