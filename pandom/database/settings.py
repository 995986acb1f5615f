"""Settings that live in rows of account_settings, trail_retention and context_key.

A stack's settings decide some of them, the models' defaults the rest. A dump brings its own: so the
migration job and the end of a restore apply them, and health and audit compare them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, LiteralString, NamedTuple

import psycopg
import psycopg.errors
from psycopg import sql

from pandom.database.connect import value
from pandom.runtime.errors import UsageError
from pandom.runtime.inputs import setting
from pandom.runtime.numbers import is_number
from schema import access
from schema.tables import tables

ACCOUNTS: Final = "public.account_settings"
RETENTION: Final = "public.trail_retention"
CONTEXT_KEY: Final = "public.context_key"
_OWNERS: Final = {
    ACCOUNTS: "pandom_owner",
    RETENTION: "pandom_trail",
    CONTEXT_KEY: "pandom_definer",
}
# Their names in the stack's outputs.
_FLAGS: Final = ("signed_context", "encrypt_password_hash")
_NUMBERS: Final = ("audit_retention_months", "bcrypt_cost")


@dataclass(frozen=True)
class DatabaseSettings:
    """``retention_months``: whole months that the trail is kept."""

    signed_context: bool
    encrypt_password_hash: bool
    retention_months: int
    bcrypt_cost: int = 12


class Row(NamedTuple):
    """A setting: ``name`` is the table, and the log where it has a row for each."""

    name: str
    column: str

    def __str__(self) -> str:
        table, _, log = self.name.partition(" ")
        return f"{table}.{self.column}" + (f" of {log}" if log else "")


ENCRYPTION: Final = Row(ACCOUNTS, "encrypt_password_hash")
_LOGS: Final = tuple(table.rpartition(".")[2] for table in access.TRAIL_TABLES)


def from_environment() -> DatabaseSettings:
    """Return the settings in a job's environment. Raises UsageError for an invalid value."""
    return DatabaseSettings(
        signed_context=_flag("PANDOM_SIGNED_CONTEXT"),
        encrypt_password_hash=_flag("PANDOM_ENCRYPT_PASSWORD_HASH"),
        retention_months=_number("PANDOM_RETENTION_MONTHS"),
        # Not set in containers of earlier versions.
        bcrypt_cost=_number("PANDOM_BCRYPT_COST") if "PANDOM_BCRYPT_COST" in os.environ else 12,
    )


def _flag(name: str) -> bool:
    text = setting(name)
    if text not in ("true", "false"):
        raise UsageError(f"{name} must be true or false, found {text!r}")
    return text == "true"


def _number(name: str) -> int:
    text = setting(name)
    if not is_number(text) or int(text) < 1:
        raise UsageError(f"{name} must be 1 or more, found {text!r}")
    return int(text)


def of_outputs(outputs: Mapping[str, Any]) -> DatabaseSettings | None:
    """Return the settings of a stack of this host; None if an earlier version brought it up."""
    if not all(name in outputs for name in (*_FLAGS, *_NUMBERS)):
        return None
    return DatabaseSettings(
        *(bool(outputs[name]) for name in _FLAGS), *(int(outputs[name]) for name in _NUMBERS)
    )


def of_stack(settings: DatabaseSettings) -> dict[Row, str]:
    """Return the rows that a stack's settings decide."""
    return {
        Row(ACCOUNTS, "bcrypt_cost"): str(settings.bcrypt_cost),
        ENCRYPTION: str(settings.encrypt_password_hash).lower(),
        Row(CONTEXT_KEY, "enforced"): str(settings.signed_context).lower(),
        **{Row(f"{RETENTION} {log}", "months"): str(settings.retention_months) for log in _LOGS},
    }


def declared(settings: DatabaseSettings | None) -> dict[Row, str]:
    """Return every row's declared value; without a stack those that no stack decides."""
    decided = of_stack(settings or DatabaseSettings(False, False, 1))
    rows = {row: text for row, text in _defaults().items() if row not in decided}
    return rows if settings is None else {**rows, **decided}


@cache
def _defaults() -> dict[Row, str]:
    """Return the models' defaults, for what no stack's settings decide."""
    defaults = {f"{access.SCHEMA}.{table.name}": table.defaults for table in tables()}
    return {
        Row(name, column): text
        for name in (ACCOUNTS, *(f"{RETENTION} {log}" for log in _LOGS))
        for column, text in defaults[name.partition(" ")[0]].items()
    }


_DURATION: Final = re.compile(r"(?:([0-9]+) days?)?\s*(?:([0-9]+):([0-9][0-9]):([0-9][0-9]))?")


def plain(text: str) -> str:
    """Return a duration in seconds, whichever units it is written in; anything else as it is."""
    matched = _DURATION.fullmatch(text)
    if not text or matched is None:
        return text
    days, hours, minutes, seconds = (int(part or 0) for part in matched.groups())
    return f"{((days * 24 + hours) * 60 + minutes) * 60 + seconds} s"


def apply(
    connection: psycopg.Connection, settings: DatabaseSettings, hash_key: str | None
) -> list[str]:
    """Apply the settings in the caller's transaction; return what changed.

    Runs as a role that may become every owner. Raises UsageError if hashes must be encrypted or
    decrypted without their key.
    """
    connection.execute("select pg_catalog.set_config('intervalstyle', 'postgres', false)")
    changed: list[str] = []
    wanted = declared(settings)
    for table, owner in _OWNERS.items():
        _as(connection, owner)
        connection.execute(_MAKE[table])
        found = _read(connection, table)
        rows: dict[str, dict[str, str]] = {}
        for row, text in wanted.items():
            if row != ENCRYPTION and row in found and plain(found[row]) != plain(text):
                rows.setdefault(row.name, {})[row.column] = text
        for name, columns in rows.items():
            changed += _update(connection, name, columns)
    changed += _encryption(connection, settings.encrypt_password_hash, hash_key)
    connection.execute("set local role none")
    return changed


# Restore a row that somebody deleted: functions fail without it.
_MAKE: Final[Mapping[str, LiteralString]] = {
    ACCOUNTS: "insert into public.account_settings default values on conflict do nothing",
    RETENTION: "insert into public.trail_retention (log) values ('audit_logs'), ('security_logs') "
    "on conflict do nothing",
    CONTEXT_KEY: "insert into public.context_key (secret) values (public.gen_random_bytes(32)) "
    "on conflict do nothing",
}


def _read(connection: psycopg.Connection, table: str) -> dict[Row, str]:
    """Return one table's rows, as its owner."""
    rows = connection.execute(
        sql.SQL(
            "select pg_catalog.to_jsonb(t) ->> 'log', f.key, f.value from {} as t "
            "cross join lateral pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(t) - 'secret') as f"
        ).format(sql.Identifier(*table.split(".")))
    ).fetchall()
    return {Row(f"{table} {log}" if log else table, key): text for log, key, text in rows}


def _update(connection: psycopg.Connection, name: str, columns: Mapping[str, str]) -> list[str]:
    """Update all columns at once, because checks span several. Return what changed, in words."""
    table, _, log = name.partition(" ")
    connection.execute(
        sql.SQL("update {} set {}{}").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(text))
                for column, text in columns.items()
            ),
            sql.SQL(" where log = {}").format(sql.Literal(log)) if log else sql.SQL(""),
        )
    )
    if (table, *columns) == (CONTEXT_KEY, "enforced"):
        return ["signed contexts " + ("on" if columns["enforced"] == "true" else "off")]
    if log and "months" in columns:
        connection.execute(
            "select public.write_event('security_logs', null, 'retention_changed', 'warning', "
            "jsonb_build_object('log', %s::text, 'months', %s::int))",
            (log, columns["months"]),
        )
    return [f"{Row(name, column)}: {text}" for column, text in columns.items()]


def _as(connection: psycopg.Connection, owner: str) -> None:
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(owner)))


def hashes_to_convert(connection: psycopg.Connection, encrypted: bool) -> int:
    """Return how many password hashes are not stored as ``encrypted`` says."""
    return int(
        value(
            connection,
            "select count(*) from public.auth_users "
            "where (password_hash_encrypted is not null) <> %s",
            encrypted,
        )
    )


def _encryption(connection: psycopg.Connection, on: bool, hash_key: str | None) -> list[str]:
    """Move every hash into the column that the setting names."""
    _as(connection, "pandom_definer")
    waiting = hashes_to_convert(connection, on)
    if waiting and not hash_key:
        raise UsageError(
            f"{waiting} password hashes have to be {'en' if on else 'de'}crypted, and the job has "
            "no password_hash_key. Next: run `make up`, which makes one and repeats this"
        )
    _as(connection, "pandom_owner")
    switched = connection.execute(
        "update public.account_settings set encrypt_password_hash = %(on)s "
        "where encrypt_password_hash <> %(on)s",
        {"on": on},
    ).rowcount
    _as(connection, "pandom_definer")
    if waiting and on:
        connection.execute(
            """
            update public.auth_users
            set password_hash_encrypted = public.pgp_sym_encrypt(
                    password_hash, %s, 'cipher-algo=aes256, compress-algo=0'),
                password_hash = '*'
            where password_hash_encrypted is null
            """,
            (hash_key,),
        )
    elif waiting:
        try:
            connection.execute(
                """
                update public.auth_users
                set password_hash = public.pgp_sym_decrypt(password_hash_encrypted, %s),
                    password_hash_encrypted = null
                where password_hash_encrypted is not null
                """,
                (hash_key,),
            )
        except psycopg.errors.ExternalRoutineInvocationException:
            raise UsageError(
                f"{waiting} password hashes are encrypted with another key than this stack's, so "
                "they cannot be decrypted. Next: set encryptPasswordHash to true; their users then "
                "reset their passwords, or restore into the stack that the dump comes from"
            ) from None
    if not (switched or waiting):
        return []
    return [f"password hashes stored {'encrypted' if on else 'plain'} ({waiting} changed)"]
