"""What only the server's superuser can see or mend before Pulumi looks at the server.

A run killed between making a role and recording it leaves one that the state does
not know; making it again fails with "already exists". The program imports those
that are named to it. And a role that gave itself a time-out with a unit makes the
provider's refresh fail, so that nothing could be healed any more.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from pandom.database import restoring
from pandom.host.state import DATABASE as DATABASE_TYPE
from pandom.host.state import POSTGRESQL_PROVIDER, RANDOM, ROLE, State
from schema.access import DATABASE, roles

# Read by stacks/program.py, which is not imported here: it would import Pulumi's SDK.
ADOPT_VARIABLE: Final = "PANDOM_ADOPT"
_SECRET_MARK: Final = "4dabf18193072939515e22adb298388d"  # noqa: S105 - Pulumi's marker of a secret

# Read back by the provider as a number of milliseconds; it fails on anything else.
_TIMEOUTS: Final = ("statement_timeout", "idle_in_transaction_session_timeout")
_UNREADABLE: Final = """
select r.rolname, split_part(c.setting, '=', 1)
from pg_catalog.pg_roles as r
cross join lateral unnest(r.rolconfig) as c (setting)
where r.rolname = any(%(names)s)
    and split_part(c.setting, '=', 1) = any(%(settings)s)
    and split_part(c.setting, '=', 2) !~ '^[0-9]+$'
"""

_EXISTING: Final = """
select rolname from pg_catalog.pg_roles where rolname = any(%(names)s)
union all
select datname from pg_catalog.pg_database where datname = any(%(names)s)
"""


def missing(state: State, opt_in: frozenset[str]) -> list[str]:
    """The declared roles and databases that the state lacks."""
    known = state.names(ROLE) | state.names(DATABASE_TYPE)
    return [
        name for name in (*(role.name for role in roles(opt_in)), DATABASE) if name not in known
    ]


def clear(value: Any) -> Any:
    """A property of `stack export --show-secrets`, unwrapped."""
    if isinstance(value, Mapping) and _SECRET_MARK in value:
        return json.loads(value["plaintext"])
    return value


def _server(exported: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the provider connects with, as libpq's keywords; None before there is one.

    ``exported`` holds secrets in clear and stays in memory.
    """
    provider = next(State(exported).of_type(POSTGRESQL_PROVIDER), None)
    if provider is None:
        return None
    login = {key: clear(value) for key, value in provider.inputs.items()}
    return {
        "host": login["host"],
        "port": int(login["port"]),
        "user": login["username"],
        "password": login["password"],
        "dbname": "postgres",
        "sslmode": login.get("sslmode", "verify-full"),
        "sslrootcert": login.get("sslrootcert"),
        "connect_timeout": 5,
        "application_name": "pandom up",
    }


@contextlib.contextmanager
def _superuser(exported: Mapping[str, Any]) -> Iterator[psycopg.Connection | None]:
    """A connection with what the provider connects with; None if nobody answers."""
    login = _server(exported)
    try:
        connection = psycopg.connect(**login) if login else None
    except psycopg.OperationalError:
        connection = None
    if connection is None:
        yield None
        return
    with connection:
        yield connection


def candidates(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Roles and databases to adopt; a server that does not answer has none yet."""
    names = missing(State(exported), opt_in)
    if not names:
        return []
    with _superuser(exported) as server:
        if server is None:
            return []
        return [row[0] for row in server.execute(_EXISTING, {"names": names})]


def restores(exported: Mapping[str, Any]) -> list[str]:
    """Databases between `db prepare` and `db finish`; none where nobody answers."""
    with _superuser(exported) as server:
        return [] if server is None else restoring.marked(server)


def reset_unreadable(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Take back time-outs that the provider cannot read; it then sets the declared ones.

    Returns the roles that had given themselves one (A5).
    """
    names = [role.name for role in roles(opt_in)]
    with _superuser(exported) as server:
        if server is None:
            return []
        found = server.execute(_UNREADABLE, {"names": names, "settings": list(_TIMEOUTS)})
        changed = []
        for role, setting in found.fetchall():
            server.execute(
                sql.SQL("alter role {} reset {}").format(
                    sql.Identifier(role), sql.Identifier(setting)
                )
            )
            changed.append(role)
        return changed


def set_passwords(exported: Mapping[str, Any]) -> list[str]:
    """Give roles the password that the state holds, if the server takes another one (A5).

    A role may change its own, and the superuser anybody's; the provider sees neither, and
    without its password the migration job could mend nothing. The server gets the
    verifier, not the password. Returns the roles.
    """
    login = _server(exported)
    refused = {
        one.name: password
        for one in State(exported).of_type(ROLE)
        if login is not None
        and (password := clear(one.inputs.get("password")))
        and _refuses(login, one.name, password)
    }
    if not refused:
        return []
    return _give(exported, refused)


def give_adopted(exported: Mapping[str, Any], names: list[str]) -> None:
    """Give roles that are about to be adopted the passwords of this state.

    The import itself cannot set one, and the jobs of the same run sign in with them.
    """
    made = {
        one.urn.rpartition("::")[2]: str(clear(one.outputs.get("result")))
        for one in State(exported).of_type(RANDOM)
    }
    resources = {name: f"{name.replace('_', '-')}-password" for name in names}
    _give(exported, {name: made[key] for name, key in resources.items() if key in made})


def _give(exported: Mapping[str, Any], passwords: Mapping[str, str]) -> list[str]:
    """Set passwords as the superuser, as verifiers; returns whose."""
    with _superuser(exported) as server:
        if server is None:
            return []
        # A server with a new, empty volume has no roles yet: they are made later.
        found = server.execute(_EXISTING, {"names": list(passwords)}).fetchall()
        for (role,) in found:
            verifier = server.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            server.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(verifier.decode())
                )
            )
    return sorted(role for (role,) in found)


def _refuses(login: Mapping[str, Any], role: str, password: str) -> bool:
    """Whether it is the password that the server does not take; a missing role is made later."""
    try:
        psycopg.connect(**{**login, "user": role, "password": password, "dbname": DATABASE}).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def variables(names: list[str]) -> dict[str, str]:
    """What the program reads."""
    return {ADOPT_VARIABLE: json.dumps(sorted(names))}
