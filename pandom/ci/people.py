"""A user of a test's database, signed in: one line instead of registration, mail and sign-in."""

from __future__ import annotations

import secrets
from typing import Any, Final

import psycopg

from pandom.database.seed import hash_password
from pandom.runtime.errors import UsageError
from schema.rules import BCRYPT_BYTES, email_problem

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


class AlreadyThereError(UsageError):
    """Somebody has the e-mail, and is not as asked for."""


def sign_in(
    connection: psycopg.Connection, email: str, role: str | None = None, password: str | None = None
) -> dict[str, Any]:
    """Return uuid, e-mail, password and session token of somebody who is there, or is added.

    ``connection`` is the superuser's. Who is added is a user unless told otherwise; who is there
    keeps role and password, and the password is None. Raises AlreadyThereError where another role
    or a password is asked for then, UsageError for what nobody can have.
    """
    if role not in (None, *ROLES):
        raise UsageError(f"role must be one of {', '.join(ROLES)}, found {role!r}.")
    if problem := email_problem(email):
        raise UsageError(f"{email!r} cannot be added: expected {problem}.")
    if password and (len(password.encode()) > BCRYPT_BYTES or "\0" in password):
        raise UsageError(f"password: expected at most {BCRYPT_BYTES} bytes of text, without NUL.")
    with connection.transaction():
        found = connection.execute(
            "select uuid, role::text from public.auth_users where lower(email) = lower(%s)",
            (email,),
        ).fetchone()
        given = None
        if found is None:
            given = password or secrets.token_urlsafe(12)
            values = {"email": email, "hash": hash_password(given, _COST), "role": role or "user"}
            found = connection.execute(_ADD.encode(), values).fetchall()[0]
        elif password or role not in (None, found[1]):
            raise AlreadyThereError(
                f"{email} is there already, as {found[1]}, and keeps role and password: ask without"
                " them, or for another e-mail."
            )
        row = connection.execute(
            "select session_token from public.open_session(%s)", (found[0],)
        ).fetchall()[0]
    return {"uuid": str(found[0]), "email": email, "password": given, "session_token": row[0]}
