"""A user of a test's database, signed in: one line instead of registration, mail and sign-in."""

from __future__ import annotations

import secrets
from typing import Any, Final

import psycopg

from pandom.database.seed import hash_password
from pandom.runtime.errors import UsageError

ROLES: Final = ("user", "admin")
_COST: Final = 4  # of bcrypt: the least, since nobody is protected by it
_ADD: Final = """
with profile as (
    insert into public.user_profiles default values returning uuid
)
insert into public.auth_users (email, password_hash, role, is_active, is_verified, profile_uuid)
select %(email)s, %(hash)s, %(role)s::public.userrole, true, true, p.uuid from profile as p
returning uuid
"""


def sign_in(
    connection: psycopg.Connection, email: str, role: str = "user", password: str | None = None
) -> dict[str, Any]:
    """Return uuid, e-mail, password and session token of somebody who is there, or is added.

    ``connection`` is the superuser's. Who is there keeps role and password, and the password is
    None. Raises UsageError for what the database refuses.
    """
    if role not in ROLES:
        raise UsageError(f"role must be one of {', '.join(ROLES)}, found {role!r}.")
    with connection.transaction():
        found = connection.execute(
            "select uuid from public.auth_users where lower(email) = lower(%s)", (email,)
        ).fetchone()
        given = None
        if found is None:
            given = password or secrets.token_urlsafe(12)
            values = {"email": email, "hash": hash_password(given, _COST), "role": role}
            try:
                found = connection.execute(_ADD.encode(), values).fetchall()[0]
            except psycopg.errors.CheckViolation as error:
                raise UsageError(
                    f"{email!r} cannot be added: {error.diag.message_primary}"
                ) from None
        row = connection.execute(
            "select session_token from public.open_session(%s)", (found[0],)
        ).fetchall()[0]
    return {"uuid": str(found[0]), "email": email, "password": given, "session_token": row[0]}
