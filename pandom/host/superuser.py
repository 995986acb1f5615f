"""What only the superuser can see or repair before Pulumi looks at the server.

A run killed between making a role and recording it leaves one that the state does not know, which
the program must import. A role that gave itself a time-out with a unit makes the provider's refresh
fail.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import psycopg
from psycopg import sql
from urllib3.exceptions import HTTPError

from pandom.audit.findings import Finding, findings, scripts
from pandom.audit.target import store_of
from pandom.config.readers import store_secret
from pandom.database import cluster, pinned
from pandom.database.drift import catalog, declared, remedies
from pandom.database.drift.differences import Difference, differences
from pandom.database.drift.facts import Fact, Facts
from pandom.database.restore import restoring
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack
from pandom.host.state import DATABASE as DATABASE_TYPE
from pandom.host.state import POSTGRESQL_PROVIDER, RANDOM, ROLE, State, clear, clear_outputs
from pandom.objectstore import Account, administrator, signs_in
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import ADOPT_VARIABLE, MINIO_ROOT_USER
from schema.access import DATABASE, PROVIDER_TIMEOUTS, SUPERUSER, roles
from schema.storage import AUDITOR, COPIER, USERS
from toolchain import environment

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


def _resource(name: str) -> str:
    """Return what the state calls a secret."""
    return name.replace("_", "-")


def generated(exported: Mapping[str, Any]) -> dict[str, str]:
    """Return the generated secrets in clear, by the names of ``stacks/keys.py``, with - for _."""
    return {
        one.urn.rpartition("::")[2].removesuffix("-password"): str(clear(one.outputs["result"]))
        for one in State(exported).of_type(RANDOM)
        if "result" in one.outputs
    }


def new_password(exported: Mapping[str, Any]) -> str | None:
    """Return the superuser's password if the provider has the former one.

    A rotation is on its way then, and the server takes one of the two.
    """
    made, given = generated(exported).get(SUPERUSER), login(exported)
    return made if given and made != given["password"] else None


def renew(exported: Mapping[str, Any], password: str) -> bool:
    """Give the superuser its new password; False if the server takes none that is known."""
    return bool(_give(exported, {SUPERUSER: password}))


def with_provider(exported: Mapping[str, Any], password: str) -> dict[str, Any]:
    """Return the state with another password for the provider."""
    document: dict[str, Any] = json.loads(json.dumps(exported))
    for one in document["deployment"]["resources"]:
        if one["type"] == POSTGRESQL_PROVIDER:
            for properties in (one["inputs"], one.get("outputs") or {}):
                if "password" in properties:
                    properties["password"]["plaintext"] = json.dumps(password)
    return document


def is_refused(exported: Mapping[str, Any]) -> bool:
    """Return whether the server does not take the superuser's password."""
    given = login(exported)
    return given is not None and refuses(given, SUPERUSER, given["password"])


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
    given, connection = login(exported), None
    for password in filter(None, (given and given["password"], new_password(exported))):
        with contextlib.suppress(psycopg.OperationalError):
            connection = psycopg.connect(**{**_at(given or {}, name), "password": password})
            break
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
    given, made = login(exported), generated(exported)
    if given is None:
        return []
    refused = {
        role: password
        for role, password in passwords(exported).items()
        # In the middle of a rotation the server has the new one, and Pulumi not yet.
        if all(refuses(given, role, one) for one in (password, made.get(_resource(role))) if one)
    }
    if not refused:
        return []
    return _give(exported, refused)


def give_adopted(exported: Mapping[str, Any], names: list[str]) -> None:
    """Set the passwords of roles that will be adopted, which an import cannot."""
    made = generated(exported)
    _give(exported, {name: made[_resource(name)] for name in names if _resource(name) in made})


def _give(exported: Mapping[str, Any], passwords: Mapping[str, str]) -> list[str]:
    """Set passwords as the superuser, as verifiers; returns whose."""
    with database(exported, SUPERUSER) as server:
        if server is None:
            return []
        # A server with a new, empty volume has no roles yet: they are made later.
        found = {row[0] for row in server.execute(_EXISTING, {"names": list(passwords)})}
        for role in found:
            verifier = server.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            server.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(verifier.decode())
                )
            )
    return sorted(found)


def refuses(login: Mapping[str, Any], role: str, password: str) -> bool:
    """Return whether the server refuses the role's password."""
    name = SUPERUSER if role == SUPERUSER else DATABASE
    try:
        psycopg.connect(**{**login, "user": role, "password": password, "dbname": name}).close()
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
    root = administrator(
        store.endpoint, Account(MINIO_ROOT_USER, generated(exported)["minio-root"])
    )
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


# As it was where the new key opens it already, or where neither does.
_ANEW: Final = """
create function pg_temp.anew(stored bytea, former text, new text) returns bytea
language plpgsql set search_path = '' as $$
begin
    perform public.pgp_sym_decrypt(stored, new);
    return stored;
exception when external_routine_invocation_exception then
    begin
        return public.pgp_sym_encrypt(
            public.pgp_sym_decrypt(stored, former), new, 'cipher-algo=aes256, compress-algo=0'
        );
    exception when external_routine_invocation_exception then
        return stored;
    end;
end
$$
"""


def encrypt_anew(exported: Mapping[str, Any], former: str, new: str) -> int:
    """Encrypt the stored password hashes with a new key, all or none; returns how many.

    Repeating it is harmless. Hashes of a third key stay.
    """
    with database(exported) as server:
        if server is None:
            raise Failure(
                "The server does not answer its superuser, so no password hash got the new key.\n"
                "Next: `.venv/bin/pandom up`, which goes on from here."
            )
        if server.execute("select to_regclass('public.auth_users')").fetchone() == (None,):
            return 0
        server.execute(_ANEW)
        return server.execute(
            """
            update public.auth_users as u set password_hash_encrypted = n.hash
            from (
                select w.uuid, pg_temp.anew(w.password_hash_encrypted, %s, %s) as hash
                from public.auth_users as w where w.password_hash_encrypted is not null for update
            ) as n
            where u.uuid = n.uuid and u.password_hash_encrypted <> n.hash
            """,
            (former, new),
        ).rowcount


_LOADING_S: Final = 5.0
# The accounts of the object store by their secrets.
ACCOUNTS: Final = {
    "minio-root": MINIO_ROOT_USER,
    **{store_secret(one): one.name for one in (*USERS, COPIER)},
}


def store_takes(exported: Mapping[str, Any], name: str, secret: str) -> bool:
    """Return whether the object store takes the secret of one of ACCOUNTS."""
    endpoint = store_of(clear_outputs(exported), AUDITOR).endpoint
    return signs_in(endpoint, Account(ACCOUNTS[name], secret))


def refused_by_store(exported: Mapping[str, Any]) -> list[str]:
    """Return the accounts that the object store does not let in; none where it does not answer.

    One that has just started does not know its users yet, so it is asked again.
    """
    from minio.error import MinioException

    deadline = time.monotonic() + _LOADING_S
    made = generated(exported)
    refused = [name for name in ACCOUNTS if name in made]
    try:
        while refused := [name for name in refused if not store_takes(exported, name, made[name])]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
    # An earlier version's outputs, nobody there, or one who cannot answer.
    except (KeyError, OSError, HTTPError, MinioException, UsageError):
        return []
    return refused


def variables(names: list[str]) -> dict[str, str]:
    """Return the variable by which the program learns what to adopt."""
    return {ADOPT_VARIABLE: json.dumps(sorted(names))}
