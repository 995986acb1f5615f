"""The administrator and, in development, sample data; existing accounts are left alone."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Final

import bcrypt
import psycopg
from psycopg.types.json import Jsonb

from pandom.database.connect import value
from pandom.runtime.errors import UsageError
from schema.rules import BCRYPT_BYTES, password_problem

BCRYPT_COST: Final = 12
_NAMESPACE: Final = uuid.UUID("7d0f6f3e-2f0b-5b7e-9d0e-70616e646f6d")
SAMPLE_USERS: Final = 20
# bcrypt, cost 4, of random bytes that nobody kept: sample users cannot sign in.
_NO_PASSWORD: Final = "$2a$04$4Z5HYFGV0wPUIZUZ0xh6UuqJ7uC4bKIxqVQyqR0F5ETxqgZBnqlmC"  # noqa: S105


def hash_password(password: str, cost: int = BCRYPT_COST) -> str:
    """Hash with bcrypt in the ``$2a$`` form, the only one that pgcrypto verifies."""
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost, prefix=b"2a"))
    return digest.decode()


def check_password(password: str, email: str, *, ephemeral: bool) -> None:
    """Refuse a weak administrator password; an ephemeral stack may have any that bcrypt takes.

    Raises UsageError.
    """
    if ephemeral and len(password.encode()) <= BCRYPT_BYTES:
        return
    if weak := password_problem(password, email):
        raise UsageError(
            f"the administrator's password is weak: expected {weak}. Next: remove adminPassword "
            "from the stack's configuration, then one is generated"
        )


@dataclass(frozen=True)
class Seeded:
    """What became of the administrator: whether it was made, and in words."""

    made: bool
    said: str


def administrator(
    connection: psycopg.Connection,
    email: str,
    password: str,
    hash_key: str | None = None,
    cost: int = BCRYPT_COST,
    *,
    restoring: bool = False,
) -> Seeded:
    """Make the administrator, if there is none, in the caller's transaction.

    An existing one keeps password, role and state. After a change of adminEmail the account that
    the stack made gets the new e-mail, unless it has another one since or the database is
    ``restoring`` a dump. Runs as pandom_definer. Raises UsageError if the e-mail is an ordinary
    user's, whose password is not ADMIN_PASSWORD.
    """
    connection.execute("set local role pandom_definer")
    known = value(connection, "select s.administrator from public.account_settings as s")
    found = connection.execute(
        "select u.role = 'admin' from public.auth_users as u where lower(u.email) = lower(%s)",
        (email,),
    ).fetchone()
    if found == (True,):
        _remember(connection, email)
        return Seeded(False, f"{email} exists")
    if found is not None:
        if restoring:
            return Seeded(False, f"{email} is an ordinary user here")
        if known == _digest(email):
            return Seeded(False, f"{email} was made an ordinary user; left as it is")
        raise UsageError(
            f"adminEmail, {email}, is the e-mail of an ordinary user. Nothing was changed for it. "
            "Next: set adminEmail to another address, or give this user the role: an administrator "
            "by public.admin_set_role, or pandom_user by an update; then `make up`"
        )
    others = value(connection, "select count(*) from public.auth_users where role = 'admin'")
    if others:
        former = None if restoring else _rename(connection, known, email)
        if former is None:
            return Seeded(
                False, f"{email} is nobody's, and not made: there are {others} administrators"
            )
        return Seeded(False, f"{former} is {email} now, with the same password")
    _make(connection, email, password, hash_key, cost)
    _remember(connection, email)
    return Seeded(True, f"{email} made")


def forget(connection: psycopg.Connection, email: str | None) -> None:
    """Forget another stack's administrator after a restore: this stack must not rename it."""
    connection.execute("set local role pandom_owner")
    connection.execute(
        "update public.account_settings set administrator = null "
        "where administrator is distinct from %s",
        (_digest(email) if email else None,),
    )
    connection.execute("set local role none")


def _digest(email: str) -> str:
    return hashlib.sha256(email.lower().encode()).hexdigest()


def _remember(connection: psycopg.Connection, email: str) -> None:
    connection.execute("set local role pandom_owner")
    connection.execute(
        "update public.account_settings set administrator = %(digest)s "
        "where administrator is distinct from %(digest)s",
        {"digest": _digest(email)},
    )
    connection.execute("set local role pandom_definer")


def _rename(connection: psycopg.Connection, known: str | None, email: str) -> str | None:
    """Give the stack's administrator its new e-mail; returns the former, None if it is gone."""
    row = connection.execute(
        """
        select u.uuid, u.email from public.auth_users as u
        where u.role = 'admin'
            and encode(sha256(convert_to(lower(u.email), 'UTF8')), 'hex') = %s
        """,
        (known,),
    ).fetchone()
    if row is None:
        return None
    connection.execute("update public.auth_users set email = %s where uuid = %s", (email, row[0]))
    connection.execute(
        "select public.send_message('email_changed', %s, null, interval '7 days'), "
        "public.write_event('security_logs', null, 'email_changed', 'warning', "
        "jsonb_build_object('subject', %s::uuid))",
        (row[1], row[0]),
    )
    _remember(connection, email)
    return str(row[1])


def _make(
    connection: psycopg.Connection, email: str, password: str, hash_key: str | None, cost: int
) -> None:
    profile = value(
        connection,
        "insert into public.user_profiles (tags, metadata) values (%s, %s) returning uuid",
        ["admin", "system"],
        Jsonb({"role": "administrator", "permissions": ["all"]}),
    )
    connection.execute(
        """
        insert into public.auth_users (
            email, role, is_active, is_verified, is_configured, profile_uuid,
            password_hash, password_hash_encrypted
        )
        select
            %(email)s, 'admin', true, true, true, %(profile)s,
            case when s.encrypt_password_hash then '*' else %(hash)s end,
            case when s.encrypt_password_hash
                then public.pgp_sym_encrypt(
                    %(hash)s, %(key)s, 'cipher-algo=aes256, compress-algo=0') end
        from public.account_settings as s
        """,
        {
            "email": email,
            "profile": profile,
            "hash": hash_password(password, cost),
            "key": hash_key,
        },
    )


def samples(connection: psycopg.Connection) -> int:
    """Make the sample users that do not exist yet: the same on every machine.

    Returns how many were made.
    """
    connection.execute("set local role pandom_definer")
    made = 0
    for number in range(1, SAMPLE_USERS + 1):
        name = f"sample{number:02}"
        profile = uuid.uuid5(_NAMESPACE, f"{name}/profile")
        connection.execute(
            """
            insert into public.user_profiles (uuid, tags, metadata) values (%s, %s, %s)
            on conflict (uuid) do nothing
            """,
            (
                profile,
                ["sample", ("developer", "designer", "writer")[number % 3]],
                Jsonb({"name": f"Sample {number}", "locale": ("en", "de", "it")[number % 3]}),
            ),
        )
        made += connection.execute(
            """
            insert into public.auth_users (
                uuid, email, password_hash, is_verified, profile_uuid, is_configured
            )
            values (%s, %s, %s, true, %s, %s)
            on conflict do nothing
            """,
            (
                uuid.uuid5(_NAMESPACE, name),
                f"{name}@example.com",
                _NO_PASSWORD,
                profile,
                number % 2 == 0,
            ),
        ).rowcount
    return made
