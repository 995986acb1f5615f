"""Who may do what: roles, memberships, and privileges on all but tables.

Privileges on tables are in their models; ``object_grants`` and ``row_security_exceptions`` read
them. What is not declared is not granted, and PUBLIC has nothing. Readers: ``stacks/access.py``
makes roles, memberships, database and schema grants by pulumi-postgresql; the migration job brings
privileges on objects in line; the audit compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal

from schema.tables import tables

DATABASE: Final = "pandom_db"
SCHEMA: Final = "public"
SUPERUSER: Final = "postgres"
PUBLIC: Final = "public"

ObjectKind = Literal["database", "schema", "table", "sequence", "function", "type"]


@dataclass(frozen=True)
class Role:
    """A role of the cluster.

    ``settings`` are set by ALTER ROLE. ``opt_in`` is the setting without which it does not exist.
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

    PostgreSQL fixes INHERIT when it is granted, so it is declared here, and the audit compares it.
    """

    group: str
    member: str
    inherit: bool
    set_role: bool
    admin: bool = False


@dataclass(frozen=True)
class Grant:
    """Privileges of ``role`` on one object; with ``columns``, on these only.

    ``name`` is schema-qualified; functions have their argument types: ``public.f(uuid, text)``.
    """

    kind: ObjectKind
    name: str
    role: str
    privileges: frozenset[str]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class DefaultPrivilege:
    """What objects that ``owner`` makes later grant to ``role``, in every schema.

    An empty set revokes PostgreSQL's default for PUBLIC. Not per schema: a per-schema REVOKE can
    only revoke a per-schema GRANT.
    """

    owner: str
    role: str
    kind: Literal["table", "sequence", "function", "type"]
    privileges: frozenset[str]


# Settings of roles that pulumi-postgresql reads back, as milliseconds without a unit: a
# refresh fails on `30s`.
PROVIDER_TIMEOUTS: Final = ("statement_timeout", "idle_in_transaction_session_timeout")


_TIME: Final = re.compile(r"([0-9]+)(ms|s|min|h|d)")
_UNITS: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(value: str) -> int | None:
    """Return a time such as ``30s`` in milliseconds; None for any other value."""
    matched = _TIME.fullmatch(value)
    return int(matched[1]) * _UNITS[matched[2]] if matched else None


# Only a superuser can raise it, unlike the time-outs, which a role can change for itself.
_ON_DISK: Final = {"temp_file_limit": "1GB"}

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
        "The operator's login: dump, restore, data fixes.",
        login=True,
        bypass_rls=True,
        connection_limit=10,
    ),
    Role(
        "pandom_app",
        "The application's login, under row security.",
        login=True,
        inherit=False,
        connection_limit=100,
        settings={
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
            **_ON_DISK,
        },
    ),
    Role(
        "pandom_auditor",
        "Reads evidence: trail, catalogs, settings; writes nothing.",
        login=True,
        connection_limit=5,
        settings={"default_transaction_read_only": "on", "statement_timeout": "60s", **_ON_DISK},
    ),
    Role(
        "pandom_janitor",
        "Runs the retention routines: expired sessions, partitions.",
        login=True,
        connection_limit=5,
        settings={"lock_timeout": "5s"},
    ),
    Role(
        "pandom_backup",
        "Notes backups and drills in the trail; counts rows, which it cannot read.",
        login=True,
        connection_limit=5,
        settings={"lock_timeout": "5s"},
    ),
    Role(
        "pandom_mailer",
        "Takes outgoing tokens from the outbox, nothing else.",
        login=True,
        connection_limit=5,
        settings={"statement_timeout": "30s", **_ON_DISK},
    ),
    Role(
        "pandom_service",
        "The source's literal DML for clients that cannot set a context; a wide door, opt-in.",
        login=True,
        inherit=False,
        connection_limit=50,
        settings={
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
            **_ON_DISK,
        },
        opt_in="serviceLogin",
    ),
    Role(
        "pandom_metrics",
        "Reads numbers for monitoring, and no row of a table; opt-in.",
        login=True,
        inherit=False,
        connection_limit=3,
        settings={
            "default_transaction_read_only": "on",
            "statement_timeout": "10s",
            "idle_in_transaction_session_timeout": "10s",
            **_ON_DISK,
        },
        opt_in="monitoring",
    ),
)

# Every setting that brings a role of its own.
OPT_IN: Final = frozenset(role.opt_in for role in ROLES if role.opt_in)

MEMBERSHIPS: Final[tuple[Membership, ...]] = (
    Membership("pandom_owner", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_trail", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_definer", "pandom_migrator", inherit=False, set_role=True),
    Membership("pandom_owner", "pandom_user", inherit=True, set_role=True),
    Membership("pandom_admin", "pandom_app", inherit=False, set_role=True),
    Membership("pg_read_all_settings", "pandom_auditor", inherit=True, set_role=True),
    # end_long_transactions() sees how long a transaction is open, and ends its session.
    Membership("pg_read_all_stats", "pandom_definer", inherit=True, set_role=True),
    Membership("pg_signal_backend", "pandom_definer", inherit=True, set_role=True),
)


@dataclass(frozen=True, order=True)
class OpenRows:
    """A table or view whose every row ``role`` may reach, past row security, and why."""

    name: str
    role: str
    reason: str


@cache
def row_security_exceptions() -> tuple[OpenRows, ...]:
    """Return the tables declared without row security, for each login that reads them.

    Everything else needs row security, forced, and a policy that names the role, or is a view with
    security_invoker; otherwise migrations are refused and control 4.7 fails.
    """
    limited = {role.name for role in ROLES if role.login and not role.bypass_rls}
    return tuple(
        sorted(
            OpenRows(f"{SCHEMA}.{table.name}", role, table.open_rows)
            for table in tables()
            if table.open_rows
            for role in {allow.role for allow in table.allow} & limited
        )
    )


_CONNECT: Final = frozenset({"CONNECT"})
_USAGE: Final = frozenset({"USAGE"})
_NOTHING: Final[frozenset[str]] = frozenset()


def database_grants(database: str = DATABASE) -> tuple[Grant, ...]:
    """Return the privileges on a database of ours, which a template does not pass on."""
    logins = [role.name for role in ROLES if role.login]
    return (
        Grant("database", database, PUBLIC, _NOTHING),
        *(Grant("database", database, login, _CONNECT) for login in logins),
    )


_OWNERS: Final = ("pandom_owner", "pandom_trail", "pandom_definer")

SCHEMA_GRANTS: Final[tuple[Grant, ...]] = (
    Grant("schema", SCHEMA, PUBLIC, _NOTHING),
    *(Grant("schema", SCHEMA, owner, frozenset({"USAGE", "CREATE"})) for owner in _OWNERS),
    *(Grant("schema", SCHEMA, role.name, _USAGE) for role in ROLES if role.name not in _OWNERS),
)

DEFAULT_PRIVILEGES: Final[tuple[DefaultPrivilege, ...]] = tuple(
    DefaultPrivilege(owner, PUBLIC, kind, _NOTHING)
    for owner in (*_OWNERS, "pandom_migrator")
    for kind in ("function", "type")
)


def roles(opt_in: frozenset[str] = frozenset()) -> tuple[Role, ...]:
    """Return the roles that exist when the settings named in ``opt_in`` are on."""
    return tuple(role for role in ROLES if role.opt_in is None or role.opt_in in opt_in)


# -- objects -------------------------------------------------------------------
# The migration job converges these, and those of the tables.
# Privileges of an owner on its own objects are not listed.

TRAIL_TABLES: Final = ("public.audit_logs", "public.security_logs")

_SELECT: Final = frozenset({"SELECT"})
_EXECUTE: Final = frozenset({"EXECUTE"})


def _execute(role: str, *functions: str) -> tuple[Grant, ...]:
    return tuple(Grant("function", name, role, _EXECUTE) for name in functions)


def _readable(view: str, *roles: str) -> tuple[Grant, ...]:
    return tuple(Grant("table", view, role, _SELECT) for role in roles)


@cache
def table_grants() -> tuple[Grant, ...]:
    """Return the table privileges that the models declare, and what triggers and dumps need."""
    found = []
    for table in tables():
        name = f"{SCHEMA}.{table.name}"
        for allow in table.allow:
            words = frozenset(allow.privileges.split())
            found.append(Grant("table", name, allow.role, words, allow.columns))
        # An identity needs no grant to insert; a dump reads its last value, and pandom_user
        # inherits what pandom_owner may.
        if table.owner != "pandom_owner":
            found += [
                Grant("sequence", f"{name}_{column}_seq", "pandom_user", _SELECT)
                for column in table.identities
            ]
        # Creating a trigger needs EXECUTE on its function; firing it needs nothing.
        if table.trail:
            found += _execute(table.owner, f"{SCHEMA}.audit_{table.name}()")
    return tuple(found)


def _view_grants() -> tuple[Grant, ...]:
    return (
        *_readable("public.failed_logins_last_hour", "pandom_auditor", "pandom_user"),
        *_readable("public.suspicious_activity", "pandom_auditor", "pandom_user"),
    )


def _function_grants() -> tuple[Grant, ...]:
    context = (
        "public.current_user_id()",
        "public.current_profile_id()",
        "public.current_user_is_admin()",
    )
    return (
        *_execute("pandom_app", *context),
        *_execute("pandom_admin", *context),
        # For the trail's functions: who acts, from where, and how often.
        *_execute(
            "pandom_trail",
            "public.call_refused(text, text, integer, interval, integer, interval)",
            "public.current_user_id()",
            "public.client_address()",
            "public.client_agent()",
        ),
        *_execute(
            "pandom_app",
            "public.begin_context(text)",
            "public.register(text, text, text[], jsonb, text)",
            "public.verify_email(text)",
            "public.sign_in(text, text, text)",
            "public.refresh_session(text)",
            "public.sign_out(text)",
            "public.request_password_reset(text)",
            "public.complete_password_reset(text, text, text)",
            "public.change_password(text, text, text)",
            "public.request_email_change(text, text, text)",
            "public.sign_out_everywhere()",
            "public.deactivate_account(text, text)",
            "public.delete_account(text, text)",
            "public.record_event(text, jsonb)",
        ),
        *_execute(
            "pandom_admin",
            "public.admin_set_active(uuid, boolean)",
            "public.admin_set_role(uuid, public.userrole)",
            "public.admin_delete_user(uuid)",
            "public.admin_find_by_tag(text, integer)",
            "public.admin_find_by_metadata(jsonb, integer)",
            "public.admin_find_by_email(text, integer)",
        ),
        *_execute("pandom_user", "public.rotate_context_key()"),
        # Internal: one owner's function calls another's.
        *_execute("pandom_definer", "public.write_event(text, uuid, text, text, jsonb)"),
        # Creating a trigger needs EXECUTE on its function; firing it needs nothing.
        *_execute("pandom_owner", "public.delete_profile_of_user()", "public.watch_account()"),
        *_execute(
            "pandom_janitor",
            "public.delete_expired(integer)",
            "public.ensure_partitions(timestamp with time zone)",
            "public.drain_default(text)",
            "public.expired_partitions(timestamp with time zone)",
            "public.read_partition(text)",
            "public.partition_digest(text)",
            "public.note_export(text, bigint, text, text)",
            "public.drop_partition(text, bigint, text)",
            "public.seal_trail(integer)",
            "public.end_long_transactions()",
        ),
        *_execute(
            "pandom_backup",
            "public.note_recovery(text, jsonb)",
            "public.row_counts()",
            "public.trail_heads()",
        ),
        *_execute(
            "pandom_mailer", "public.claim_messages(integer)", "public.finish_message(bigint)"
        ),
        *_execute(
            "pandom_metrics",
            "public.measure_activity()",
            "public.measure_backup()",
            "public.measure_trail()",
        ),
    )


OBJECT_GRANTS: Final[tuple[Grant, ...]] = (
    *_view_grants(),
    *_function_grants(),
    # Functions with the enumeration in their signature; reading a column needs nothing.
    Grant("type", "public.userrole", "pandom_definer", _USAGE),
)

# On objects that a later revision dropped; older revisions need them.
FORMER_GRANTS: Final[tuple[Grant, ...]] = (
    *_execute("pandom_owner", "public.audit_trigger_function()"),
)

# On each partition of the trail: only a dump reads partitions directly.
PARTITION_GRANTS: Final[tuple[tuple[str, frozenset[str]], ...]] = (("pandom_user", _SELECT),)

# Only these extensions exist, and only the owner of the account functions executes
# anything of theirs (schema/sql/cluster/extensions.sql).
EXTENSIONS: Final[tuple[str, ...]] = ("plpgsql", "pgcrypto", "pgaudit")


def object_grants(
    partitions: tuple[str, ...] = (), opt_in: frozenset[str] = frozenset()
) -> tuple[Grant, ...]:
    """Return every privilege on objects of schema public, owners' own excepted.

    ``partitions`` are the trail's, schema-qualified; roles of settings that are off are left out.
    """
    known = {role.name for role in roles(opt_in)}
    return (
        *(grant for grant in (*table_grants(), *OBJECT_GRANTS) if grant.role in known),
        *(
            Grant("table", name, role, privileges)
            for name in partitions
            for role, privileges in PARTITION_GRANTS
        ),
    )
