"""Who may do what: the one declaration of roles and privileges (A1-A7, B3).

Three readers, none of which adds a fact of its own:

* ``stacks/access.py`` creates roles, memberships, database and schema grants and
  default privileges through pulumi-postgresql;
* the migration job converges table, column, sequence, function and type
  privileges in the transaction that changes the schema;
* the audit compares all of it with the catalogs.

Whatever is not declared here is not granted. PUBLIC has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

DATABASE: Final = "pandom_db"
SCHEMA: Final = "public"
SUPERUSER: Final = "postgres"
PUBLIC: Final = "public"

ObjectKind = Literal["database", "schema", "table", "sequence", "function", "type"]


@dataclass(frozen=True)
class Role:
    """A role of the cluster.

    ``settings`` are what ``ALTER ROLE … SET`` fixes. ``opt_in`` names the setting
    of ``stacks/settings.py`` without which the role does not exist.
    """

    name: str
    comment: str
    login: bool = False
    inherit: bool = True
    bypass_rls: bool = False
    connection_limit: int = -1
    settings: Mapping[str, str] = field(default_factory=dict)
    opt_in: str | None = None


@dataclass(frozen=True)
class Membership:
    """``member`` belongs to ``group``.

    PostgreSQL fixes INHERIT when the membership is granted, from the member's
    attribute, so both are written down and the audit compares both.
    """

    group: str
    member: str
    inherit: bool
    set_role: bool
    admin: bool = False


@dataclass(frozen=True)
class Grant:
    """Privileges of ``role`` on one object; with ``columns``, on these only.

    ``name`` is schema-qualified for tables, sequences, types and functions;
    functions carry their argument types: ``public.f(uuid, text)``.
    """

    kind: ObjectKind
    name: str
    role: str
    privileges: frozenset[str]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class DefaultPrivilege:
    """What objects that ``owner`` makes later grant to ``role``, in every schema.

    An empty set takes away what PostgreSQL would give PUBLIC. It is declared
    without a schema on purpose: a per-schema REVOKE can only take back a
    per-schema GRANT and silently does nothing else.
    """

    owner: str
    role: str
    kind: Literal["table", "sequence", "function", "type"]
    privileges: frozenset[str]


ROLES: Final[tuple[Role, ...]] = (
    Role(
        "pandom_owner",
        "Owns tables and types; no login. BYPASSRLS: without it a backfill updates 0 rows.",
        bypass_rls=True,
    ),
    Role("pandom_trail", "Owns the audit trail: audit_logs, security_logs, their functions."),
    Role("pandom_definer", "Owns the SECURITY DEFINER functions; under row security itself."),
    Role("pandom_admin", "Administrators; entered by pandom_app with SET LOCAL ROLE."),
    Role(
        "pandom_migrator",
        "The migration job's login; becomes owner, trail or definer by SET ROLE.",
        login=True,
        inherit=False,
        connection_limit=20,
    ),
    Role(
        "pandom_user",
        "The operator's login: dump, restore, data fixes (A6).",
        login=True,
        bypass_rls=True,
        connection_limit=10,
    ),
    Role(
        "pandom_app",
        "The application's login, under row security (A1).",
        login=True,
        inherit=False,
        connection_limit=100,
        settings={"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"},
    ),
    Role(
        "pandom_auditor",
        "Reads evidence: trail, catalogs, settings; writes nothing.",
        login=True,
        connection_limit=5,
        settings={"default_transaction_read_only": "on", "statement_timeout": "60s"},
    ),
    Role(
        "pandom_janitor",
        "Runs the retention routines: expired sessions, partitions.",
        login=True,
        connection_limit=5,
        settings={"lock_timeout": "5s"},
    ),
    Role(
        "pandom_mailer",
        "Takes outgoing tokens from the outbox, nothing else.",
        login=True,
        connection_limit=5,
        settings={"statement_timeout": "30s"},
    ),
    Role(
        "pandom_service",
        "The source's literal DML for clients that cannot set a context; a wide door, opt-in.",
        login=True,
        inherit=False,
        connection_limit=50,
        settings={"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"},
        opt_in="serviceLogin",
    ),
)

MEMBERSHIPS: Final[tuple[Membership, ...]] = (
    Membership("pandom_owner", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_trail", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_definer", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_owner", "pandom_user", inherit=True, set_role=True),
    Membership("pandom_admin", "pandom_app", inherit=False, set_role=True),
    Membership("pg_read_all_settings", "pandom_auditor", inherit=True, set_role=True),
)

_CONNECT: Final = frozenset({"CONNECT"})
_USAGE: Final = frozenset({"USAGE"})
_NOTHING: Final[frozenset[str]] = frozenset()


def database_grants(database: str = DATABASE) -> tuple[Grant, ...]:
    """Privileges on a database of ours. Not cloned from a template, so every
    database made later needs them before it is handed out (A2)."""
    logins = [role.name for role in ROLES if role.login]
    return (
        Grant("database", database, PUBLIC, _NOTHING),
        *(Grant("database", database, login, _CONNECT) for login in logins),
    )


SCHEMA_GRANTS: Final[tuple[Grant, ...]] = (
    Grant("schema", SCHEMA, PUBLIC, _NOTHING),
    *(
        Grant("schema", SCHEMA, owner, frozenset({"USAGE", "CREATE"}))
        for owner in ("pandom_owner", "pandom_trail", "pandom_definer")
    ),
    *(
        Grant("schema", SCHEMA, role, _USAGE)
        for role in (
            "pandom_migrator",
            "pandom_user",
            "pandom_app",
            "pandom_admin",
            "pandom_auditor",
            "pandom_janitor",
            "pandom_mailer",
            "pandom_service",
        )
    ),
)

DEFAULT_PRIVILEGES: Final[tuple[DefaultPrivilege, ...]] = tuple(
    DefaultPrivilege(owner, PUBLIC, kind, _NOTHING)
    for owner in ("pandom_owner", "pandom_trail", "pandom_definer", "pandom_migrator")
    for kind in ("function", "type")
)


def roles(opt_in: frozenset[str] = frozenset()) -> tuple[Role, ...]:
    """The roles that exist when the settings named in ``opt_in`` are on."""
    return tuple(role for role in ROLES if role.opt_in is None or role.opt_in in opt_in)
