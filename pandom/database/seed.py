"""The administrator (S1) and, in development, sample data (S2).

Seeding twice changes nothing: who exists is left alone, a changed password above all.
"""

from __future__ import annotations

import uuid
from typing import Final

import bcrypt
import psycopg
from psycopg.types.json import Jsonb

from pandom.database.connect import value
from pandom.errors import UserMistake

BCRYPT_COST: Final = 12
MINIMUM_LENGTH: Final = 12
# The source's own example first.
_WEAK: Final = frozenset(
    {"admin123", "admin1234", "administrator", "changeme", "changemeplease", "letmein"}
    | {"password", "password123", "passwordpassword", "secure_password", "123456789012"}
    | {"pandom", "pandom123", "pandompandom", "qwertyuiop", "qwertyuiopas"}
)
_NAMESPACE: Final = uuid.UUID("7d0f6f3e-2f0b-5b7e-9d0e-70616e646f6d")
SAMPLE_USERS: Final = 20
# bcrypt, cost 4, of random bytes that nobody kept: sample users cannot sign in.
_NO_PASSWORD: Final = "$2a$04$4Z5HYFGV0wPUIZUZ0xh6UuqJ7uC4bKIxqVQyqR0F5ETxqgZBnqlmC"  # noqa: S105


def hash_password(password: str, cost: int = BCRYPT_COST) -> str:
    """Bcrypt in the ``$2a$`` form, the only one that pgcrypto verifies."""
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost, prefix=b"2a"))
    return digest.decode()


def check_password(password: str, *, ephemeral: bool) -> None:
    """Refuses a weak administrator password; an ephemeral stack may have any (S1).

    Raises: UserMistake.
    """
    if len(password.encode()) > 72:
        raise UserMistake("the administrator's password exceeds the 72 bytes that bcrypt looks at")
    if ephemeral:
        return
    if len(password) < MINIMUM_LENGTH or password.lower() in _WEAK:
        raise UserMistake(
            f"the administrator's password is weak: it needs {MINIMUM_LENGTH} characters and must "
            "be none of the well-known ones. Next: remove adminPassword from the stack's "
            "configuration, then one is generated"
        )


def administrator(
    connection: psycopg.Connection,
    email: str,
    password: str,
    hash_key: str | None = None,
    cost: int = BCRYPT_COST,
) -> bool:
    """Makes the administrator unless the e-mail exists (S1); the caller's transaction.

    Returns whether it was made. Runs as pandom_definer, which may write both tables.
    """
    connection.execute("set local role pandom_definer")
    if value(
        connection,
        "select exists (select from public.auth_users where lower(email) = lower(%s))",
        email,
    ):
        return False
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
    return True


def samples(connection: psycopg.Connection) -> int:
    """Makes the sample users that do not exist yet (S2): the same on every machine.

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
