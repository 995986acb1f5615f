"""Who may do what: roles, memberships, and privileges on all but tables.

Who may do what with a table stands in its model (``schema/models.py``); ``object_grants``
and ``row_security_exceptions`` read it from there. Three readers, none of which adds a
fact of its own:

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

    ``settings`` are what ``ALTER ROLE … SET`` fixes. ``opt_in`` names the setting
    of ``pandom/config/settings.py`` without which the role does not exist.
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


# Settings of roles that pulumi-postgresql reads back, as milliseconds without a unit: a
# refresh fails on `30s`.
PROVIDER_TIMEOUTS: Final = ("statement_timeout", "idle_in_transaction_session_timeout")


def milliseconds(value: str) -> int:
    """``30s`` as a number of milliseconds; raises ValueError for anything but whole seconds."""
    if not value.endswith("s") or not value[:-1].isdigit():
        raise ValueError(f"expected whole seconds such as 30s, found {value!r}")
    return int(value[:-1]) * 1000


# Only a superuser can raise it; the time limits beside it a role may switch off for itself.
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
        settings={
            "default_transaction_read_only": "on",
            "statement_timeout": "60s",
            **_ON_DISK,
        },
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
        "The exporter's login: numbers for monitoring, no row of anybody; opt-in.",
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
    """The tables without row security, as the models declare, for each login that reads them.

    Everything else that a login under row security may reach has row security enabled and
    forced, and a policy that names the role; a view is security_invoker. Converging the
    privileges is refused otherwise, and control 4.7 of the audit fails.
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
    """Privileges on a database of ours. Not cloned from a template, so every
    database made later needs them before it is handed out."""
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
    """The roles that exist when the settings named in ``opt_in`` are on."""
    return tuple(role for role in ROLES if role.opt_in is None or role.opt_in in opt_in)


# -- objects -------------------------------------------------------------------
# The migration job converges these, and those of the tables.
# What an owner holds on its own objects is not listed: owning is the declaration.

TRAIL_TABLES: Final = ("public.audit_logs", "public.security_logs")

_SELECT: Final = frozenset({"SELECT"})
_EXECUTE: Final = frozenset({"EXECUTE"})


def _execute(role: str, *functions: str) -> tuple[Grant, ...]:
    return tuple(Grant("function", name, role, _EXECUTE) for name in functions)


def _readable(view: str, *roles: str) -> tuple[Grant, ...]:
    return tuple(Grant("table", view, role, _SELECT) for role in roles)


@cache
def table_grants() -> tuple[Grant, ...]:
    """Privileges on tables, and what their triggers and dumps need, as the models declare."""
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
        # The trail's functions ask who acts, from where, and how often.
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
        *_execute(
            "pandom_owner",
            "public.delete_profile_of_user()",
            "public.watch_account()",
        ),
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
            "pandom_mailer",
            "public.claim_messages(integer)",
            "public.finish_message(bigint)",
        ),
        *_execute("pandom_metrics", "public.measure_activity()", "public.measure_trail()"),
    )


OBJECT_GRANTS: Final[tuple[Grant, ...]] = (
    *_view_grants(),
    *_function_grants(),
    # Functions with the enumeration in their signature; reading a column needs nothing.
    Grant("type", "public.userrole", "pandom_definer", _USAGE),
)

# Of objects that a later revision dropped: the older ones cannot be applied without.
FORMER_GRANTS: Final[tuple[Grant, ...]] = (
    *_execute("pandom_owner", "public.audit_trigger_function()"),
)

# Each partition of a trail table: reached through its parent, except by the dump.
PARTITION_GRANTS: Final[tuple[tuple[str, frozenset[str]], ...]] = (("pandom_user", _SELECT),)

# Only these extensions exist, and only the owner of the account functions executes
# anything of theirs (schema/sql/cluster/extensions.sql).
EXTENSIONS: Final[tuple[str, ...]] = ("plpgsql", "pgcrypto", "pgaudit")


# -- events --------------------------------------------------------------------
@dataclass(frozen=True)
class EventType:
    """A kind of event that only the database writes; ``log`` is the table."""

    name: str
    log: Literal["audit_logs", "security_logs"]
    comment: str


EVENT_TYPES: Final[tuple[EventType, ...]] = (
    EventType("INSERT", "audit_logs", "A row of an account table was made."),
    EventType("UPDATE", "audit_logs", "A row of an account table was changed."),
    EventType("DELETE", "audit_logs", "A row of an account table was deleted."),
    EventType("TRUNCATE", "audit_logs", "An account table was emptied."),
    EventType("user_registered", "audit_logs", "An account was registered."),
    EventType("registration_repeated", "audit_logs", "A registration of a taken e-mail."),
    EventType("user_verified", "audit_logs", "An account's e-mail was verified."),
    EventType("user_deactivated", "security_logs", "An account was deactivated."),
    EventType("user_reactivated", "security_logs", "An account was activated again."),
    EventType("user_deleted", "security_logs", "An account was deleted."),
    EventType("login_succeeded", "audit_logs", "A sign-in by e-mail and password."),
    EventType("login_failed", "audit_logs", "A refused sign-in."),
    EventType("login_throttled", "audit_logs", "A sign-in refused after too many failures."),
    EventType("session_refreshed", "audit_logs", "A refresh token was exchanged."),
    EventType("session_ended", "audit_logs", "A sign-out."),
    EventType("sessions_expired", "audit_logs", "The janitor deleted expired sessions."),
    EventType("password_changed", "security_logs", "A password was changed by its owner."),
    EventType("password_reset_requested", "security_logs", "A reset token was sent."),
    EventType("password_reset", "security_logs", "A password was set by a reset token."),
    EventType("email_change_requested", "security_logs", "A new e-mail awaits its token."),
    EventType("email_changed", "security_logs", "An account's e-mail was changed."),
    EventType("role_changed", "security_logs", "An administrator changed a user's role."),
    EventType("context_rejected", "security_logs", "A session token opened no context."),
    EventType("context_key_rotated", "security_logs", "The key that signs contexts is new."),
    EventType("partition_created", "security_logs", "A partition of the trail was made."),
    EventType("partition_drained", "security_logs", "The default partition was emptied."),
    EventType("partition_exported", "security_logs", "A partition was read for export."),
    EventType("partition_dropped", "security_logs", "A partition was dropped."),
    EventType("retention_changed", "security_logs", "The trail's retention was changed."),
    EventType("trail_restored", "security_logs", "The trail was restored; a new epoch began."),
)


def object_grants(
    partitions: tuple[str, ...] = (), opt_in: frozenset[str] = frozenset()
) -> tuple[Grant, ...]:
    """Every privilege on the objects of schema public, owners' own excepted.

    ``partitions`` are the trail's partitions that exist, schema-qualified; roles
    of settings that are off appear in no grant.
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
