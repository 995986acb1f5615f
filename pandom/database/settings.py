"""Settings of the stack that live in the database, applied by the migration job."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from pandom.database.connect import value
from pandom.errors import UserMistake


@dataclass(frozen=True)
class DatabaseSettings:
    """``retention_months``: whole months that the trail is kept."""

    signed_context: bool
    encrypt_password_hash: bool
    retention_months: int


def apply(
    connection: psycopg.Connection, settings: DatabaseSettings, hash_key: str | None
) -> list[str]:
    """Makes the database follow the settings; returns what changed, in the caller's transaction.

    Raises: UserMistake when hashes would have to be encrypted or decrypted and there is no key.
    """
    changed: list[str] = []
    connection.execute("set local role pandom_trail")
    rows = connection.execute(
        "update public.trail_retention set months = %(m)s where months <> %(m)s returning log",
        {"m": settings.retention_months},
    ).fetchall()
    for (log,) in rows:
        connection.execute(
            "select public.write_event('security_logs', null, 'retention_changed', 'warning', "
            "jsonb_build_object('log', %s::text, 'months', %s::int))",
            (log, settings.retention_months),
        )
        changed.append(f"{log} kept for {settings.retention_months} months")
    connection.execute("set local role pandom_definer")
    if connection.execute(
        "update public.context_key set enforced = %(on)s where enforced <> %(on)s",
        {"on": settings.signed_context},
    ).rowcount:
        changed.append("signed contexts " + ("on" if settings.signed_context else "off"))
    changed += _encryption(connection, settings.encrypt_password_hash, hash_key)
    connection.execute("set local role none")
    return changed


def _encryption(connection: psycopg.Connection, on: bool, hash_key: str | None) -> list[str]:
    """P1: moves every hash into the column that the setting names."""
    waiting = value(
        connection,
        "select count(*) from public.auth_users where (password_hash_encrypted is not null) <> %s",
        on,
    )
    if waiting and not hash_key:
        raise UserMistake(
            f"{waiting} password hashes have to be {'en' if on else 'de'}crypted, and the job has "
            "no password_hash_key. Next: "
            + ("set encryptPasswordHash again" if not on else "run `make up`, which makes one")
        )
    connection.execute("set local role pandom_owner")
    switched = connection.execute(
        "update public.account_settings set encrypt_password_hash = %(on)s "
        "where encrypt_password_hash <> %(on)s",
        {"on": on},
    ).rowcount
    connection.execute("set local role pandom_definer")
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
        connection.execute(
            """
            update public.auth_users
            set password_hash = public.pgp_sym_decrypt(password_hash_encrypted, %s),
                password_hash_encrypted = null
            where password_hash_encrypted is not null
            """,
            (hash_key,),
        )
    if not (switched or waiting):
        return []
    return [f"password hashes stored {'encrypted' if on else 'plain'} ({waiting} changed)"]
