"""Finds roles and databases that exist in the server but not in Pulumi's state.

A run killed between making a role and recording it leaves one; making it again
fails with "already exists". The program imports those that are named to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import psycopg

from pandom.host.state import DATABASE as DATABASE_TYPE
from pandom.host.state import POSTGRESQL_PROVIDER, ROLE, State
from schema.access import DATABASE, roles

# Read by stacks/program.py, which is not imported here: it would import Pulumi's SDK.
ADOPT_VARIABLE: Final = "PANDOM_ADOPT"
_SECRET_MARK: Final = "4dabf18193072939515e22adb298388d"  # noqa: S105 - Pulumi's marker of a secret

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


def candidates(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Names to adopt, asked from the server as its superuser.

    ``exported`` holds secrets in clear and stays in memory. A server that does not
    answer has nothing to adopt yet.
    """
    state = State(exported)
    names = missing(state, opt_in)
    provider = next(state.of_type(POSTGRESQL_PROVIDER), None)
    if not names or provider is None:
        return []
    login = {key: clear(value) for key, value in provider.inputs.items()}
    try:
        with psycopg.connect(
            host=login["host"],
            port=int(login["port"]),
            user=login["username"],
            password=login["password"],
            dbname="postgres",
            sslmode=login.get("sslmode", "verify-full"),
            sslrootcert=login.get("sslrootcert"),
            connect_timeout=5,
            application_name="pandom up",
        ) as connection:
            return [row[0] for row in connection.execute(_EXISTING, {"names": names})]
    except psycopg.OperationalError:
        return []


def variables(names: list[str]) -> dict[str, str]:
    """What the program reads."""
    return {ADOPT_VARIABLE: json.dumps(sorted(names))}
