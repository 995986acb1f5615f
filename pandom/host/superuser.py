"""What only the superuser can see or repair before Pulumi looks at the server.

A run killed between making a role and recording it leaves one that the state does not know, which
the program must import. A role that gave itself a time-out with a unit makes the provider's refresh
fail.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from pandom.audit.findings import Finding, findings, scripts
from pandom.audit.target import store_of
from pandom.database import cluster, pinned
from pandom.database.drift import catalog, declared, remedies
from pandom.database.drift.differences import Difference, differences
from pandom.database.drift.facts import Fact, Facts
from pandom.database.restore import restoring
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack
from pandom.host.state import DATABASE as DATABASE_TYPE
from pandom.host.state import POSTGRESQL_PROVIDER, RANDOM, ROLE, State
from pandom.objectstore import Account, administrator
from pandom.runtime.naming import ADOPT_VARIABLE, MINIO_ROOT_USER
from schema.access import DATABASE, PROVIDER_TIMEOUTS, SUPERUSER, roles
from schema.storage import AUDITOR
from toolchain import environment

# Read by stacks/program.py, which is not imported here: it would import Pulumi's SDK.
_SECRET_MARK: Final = "4dabf18193072939515e22adb298388d"  # noqa: S105 - Pulumi's marker of a secret

# The provider reads these as milliseconds and fails on anything else.
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
    """Return the declared roles and databases that the state lacks."""
    known = state.names(ROLE) | state.names(DATABASE_TYPE)
    return [
        name for name in (*(role.name for role in roles(opt_in)), DATABASE) if name not in known
    ]


def clear(value: Any) -> Any:
    """Return a property of `stack export --show-secrets`, unwrapped."""
    if isinstance(value, Mapping) and _SECRET_MARK in value:
        return json.loads(value["plaintext"])
    return value


# Settings for the superuser's own sessions, which other roles may not make.
_MORE: Final = (
    "-c session_replication_role=origin -c session_preload_libraries= "
    "-c local_preload_libraries= -c event_triggers=off -c search_path= -c lock_timeout=4s"
)


def login(exported: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the provider connects with, as libpq's keywords; None before there is one.

    ``exported`` holds secrets in clear and stays in memory.
    """
    provider = next(State(exported).of_type(POSTGRESQL_PROVIDER), None)
    if provider is None:
        return None
    inputs = {key: clear(value) for key, value in provider.inputs.items()}
    return pinned.login(
        inputs["username"],
        inputs["password"],
        host=inputs["host"],
        port=int(inputs["port"]),
        database="postgres",
        ca=inputs["sslrootcert"],
        application_name="pandom up",
        timeout_s=5,
    )


def _at(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the superuser's keywords for a database; other roles may not set these options."""
    return {**given, "dbname": name, "options": f"{given['options']} {_MORE}"}


@contextlib.contextmanager
def database(
    exported: Mapping[str, Any], name: str = DATABASE
) -> Iterator[psycopg.Connection | None]:
    """Connect to one database as the superuser; None if nobody answers."""
    given = login(exported)
    try:
        connection = psycopg.connect(**_at(given, name)) if given else None
    except psycopg.OperationalError:
        connection = None
    if connection is None:
        yield None
        return
    with connection:
        yield connection


def candidates(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Return roles and databases to adopt; a server that does not answer has none yet."""
    names = missing(State(exported), opt_in)
    if not names:
        return []
    with database(exported, SUPERUSER) as server:
        if server is None:
            return []
        return [row[0] for row in server.execute(_EXISTING, {"names": names})]


def restores(exported: Mapping[str, Any]) -> list[str]:
    """Return databases between `db prepare` and `db finish`; none where nobody answers."""
    with database(exported, SUPERUSER) as server:
        return [] if server is None else restoring.marked(server)


def open_database(exported: Mapping[str, Any]) -> bool:
    """Reopen a database that somebody closed to clients; return whether it was closed."""
    with database(exported, SUPERUSER) as server:
        if server is None:
            return False
        server.autocommit = True
        closed = server.execute(
            "select from pg_catalog.pg_database where datname = %s "
            "and (not datallowconn or datconnlimit not in (-1, -2))",
            (DATABASE,),
        ).fetchall()
        if closed:
            server.execute(
                sql.SQL("alter database {} allow_connections true connection limit -1").format(
                    sql.Identifier(DATABASE)
                )
            )
        return bool(closed)


_AT_LOGIN: Final = """
select quote_ident(evtname), evtname from pg_catalog.pg_event_trigger
where evtevent = 'login' and evtenabled <> 'D' order by 1
"""


def silence_logins(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Disable login event triggers that nobody declared, which may keep everybody out."""
    silenced = []
    for name in (SUPERUSER, DATABASE):
        with database(exported, name) as server:
            found = [] if server is None else server.execute(_AT_LOGIN).fetchall()
            if server is None or not found:
                continue
            expected: Iterable[Fact] = ()
            if name == DATABASE:
                expected = declared.facts(catalog.read(server, declared.OWNERS), opt_in)
            wanted = {one.object for one in expected if one.kind == "event trigger"}
            for quoted, plain in found:
                if quoted not in wanted:
                    off = sql.SQL("alter event trigger {} disable")
                    server.execute(off.format(sql.Identifier(plain)))
                    silenced.append(f"{quoted} in {name}")
    return silenced


def heal_cluster(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[Finding]:
    """Take back settings and memberships that would stop Pulumi itself: a database that is
    read-only, a role that becomes another one, a grant that only CASCADE revokes.

    The provider makes what is missing. Returns what was healed.
    """
    with database(exported) as server:
        if server is None:
            return []
        server.autocommit = True
        found = declared.comparable(catalog.seen(server, cluster.CATALOGS))
        wanted = declared.cluster(opt_in)
        wrong = [
            difference
            for difference in differences(wanted, found)
            if difference.status != "missing" and difference.kind in ("role setting", "membership")
        ]
        return _healed(server, wrong, wanted)


def heal_row_security(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[Finding]:
    """Take back what somebody did to row security and policies; returns what was healed."""
    with database(exported) as server:
        if server is None:
            return []
        observed = catalog.read(server, declared.OWNERS)
        expected = declared.facts(observed, opt_in)
        wrong = [
            difference
            for difference in differences(expected, declared.comparable(observed.facts))
            if difference.kind in ("row security", "policy") and remedies.safe(difference)
        ]
        server.autocommit = True
        return _healed(server, wrong, expected)


def _healed(
    server: psycopg.Connection, wrong: Iterable[Difference], expected: Facts
) -> list[Finding]:
    """Take differences back; return those for which that worked."""
    drift = findings(wrong, expected)
    failed = remedies.apply(server, scripts(drift))
    return [finding for finding in drift if finding.id not in failed]


def heal_by_sql(exported: Mapping[str, Any], found: Iterable[Finding]) -> dict[str, str]:
    """Run the SQL of findings in the stack's database; returns what failed, and why."""
    wanted = scripts(found)
    with database(exported) as server:
        if server is None:
            return {name: "the server does not answer its superuser" for name, _ in wanted}
        server.autocommit = True
        return remedies.apply(server, wanted)


def reset_unreadable(exported: Mapping[str, Any], opt_in: frozenset[str]) -> list[str]:
    """Take back time-outs that the provider cannot read; it then sets the declared ones.

    Returns the roles that had given themselves one.
    """
    names = [role.name for role in roles(opt_in)]
    with database(exported, SUPERUSER) as server:
        if server is None:
            return []
        found = server.execute(_UNREADABLE, {"names": names, "settings": list(PROVIDER_TIMEOUTS)})
        changed = []
        for role, setting in found.fetchall():
            server.execute(
                sql.SQL("alter role {} reset {}").format(
                    sql.Identifier(role), sql.Identifier(setting)
                )
            )
            changed.append(role)
        return changed


def passwords(exported: Mapping[str, Any]) -> dict[str, str]:
    """Return the logins' passwords in clear, as the state holds them."""
    return {
        resource.name: password
        for resource in State(exported).of_type(ROLE)
        if (password := clear(resource.inputs.get("password")))
    }


def set_passwords(exported: Mapping[str, Any]) -> list[str]:
    """Set passwords that the server refuses to those of the state; return the roles.

    A role may change its own, which the provider does not see. The server gets the verifier, not
    the password.
    """
    given = login(exported)
    refused = {
        role: password
        for role, password in passwords(exported).items()
        if given is not None and _refuses(given, role, password)
    }
    if not refused:
        return []
    return _give(exported, refused)


def give_adopted(exported: Mapping[str, Any], names: list[str]) -> None:
    """Set the passwords of roles that will be adopted, which an import cannot."""
    made = {
        resource.urn.rpartition("::")[2]: str(clear(resource.outputs.get("result")))
        for resource in State(exported).of_type(RANDOM)
    }
    resources = {name: f"{name.replace('_', '-')}-password" for name in names}
    _give(exported, {name: made[key] for name, key in resources.items() if key in made})


def _give(exported: Mapping[str, Any], passwords: Mapping[str, str]) -> list[str]:
    """Set passwords as the superuser, as verifiers; returns whose."""
    with database(exported, SUPERUSER) as server:
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
    """Return whether the server refuses the role's password."""
    try:
        psycopg.connect(**{**login, "user": role, "password": password, "dbname": DATABASE}).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def exported(stack: Stack) -> Mapping[str, Any]:
    """Return the stack's state with secrets in clear."""
    return Pulumi(stack, environment.find().variables).export(secrets=True)


def remove_from_store(
    exported: Mapping[str, Any], outputs: Mapping[str, Any], found: Iterable[Finding]
) -> dict[str, str]:
    """Remove users and policies of the object store that nobody declared, as its root.

    Buckets hold documents: none is removed. Returns what failed, and why.
    """
    from minio.error import MinioAdminException

    store = store_of(outputs, AUDITOR)
    secret = next(
        clear(resource.outputs["result"])
        for resource in State(exported).of_type(RANDOM)
        if resource.urn.endswith("::minio-root-password")
    )
    root = administrator(store.endpoint, Account(MINIO_ROOT_USER, secret))
    failed = {}
    # Users first, because a policy in use cannot be removed.
    for one in sorted(found, key=lambda one: one.kind == "store policy"):
        try:
            if one.kind == "store user":
                root.user_remove(access_key=one.object)
            elif one.kind == "store policy":
                root.policy_remove(policy_name=one.object)
            else:
                failed[one.id] = one.advice
        except MinioAdminException as error:
            failed[one.id] = str(error)
    return failed


def variables(names: list[str]) -> dict[str, str]:
    """Return the variable by which the program learns what to adopt."""
    return {ADOPT_VARIABLE: json.dumps(sorted(names))}
