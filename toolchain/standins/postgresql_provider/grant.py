"""postgresql Grant: the privileges of one role on a database, a schema or objects in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from toolchain.standins.interruption import OperationFailed
from toolchain.standins.postgresql_provider import privileges
from toolchain.standins.postgresql_provider.server import (
    PUBLIC,
    Server,
    exists,
    grantee,
    lock_database,
    lock_role,
    quoted,
    role_number,
    run,
    server_version,
)
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values

if TYPE_CHECKING:
    from psycopg import Connection

_DATABASE: Final = """
select array_agg(a.privilege_type::text)
from pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
where d.datname = %s and a.grantee = %s
"""
_SCHEMA: Final = """
select array_agg(a.privilege_type::text)
from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
where n.nspname = %s and a.grantee = %s
"""
_OBJECTS: Final = """
select
    c.relname,
    array(
        select a.privilege_type::text
        from pg_catalog.aclexplode(c.relacl) a
        where a.grantee = %s
    )
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %s and c.relkind = %s
order by c.relname
"""
_FUNCTIONS: Final = """
select
    p.proname,
    array(
        select a.privilege_type::text
        from pg_catalog.aclexplode(p.proacl) a
        where a.grantee = %s
    )
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = %s
order by p.proname
"""
# relkind of what a Grant looks at; views and partitioned tables are not among them.
_RELATIONS: Final = {"table": "r", "sequence": "S"}
_KINDS: Final = "database|schema|table|sequence|function|routine"


def _fixed(kind: Any, **rules: Any) -> Property:
    return Property(kind=kind, replaces=True, **rules)


class Grant(ResourceType):
    """All privileges of a role on something: what is not listed is revoked."""

    pulumi_type: ClassVar[str] = "postgresql:index/grant:Grant"
    delete_before_replace: ClassVar[bool] = True
    table: ClassVar[Table] = {
        "role": _fixed("string", required=True),
        "database": _fixed("string", required=True),
        "schema": _fixed("string"),
        "objectType": _fixed("string", required=True, allowed=_KINDS),
        "objects": _fixed("set"),
        "privileges": Property(kind="set", required=True),
        "withGrantOption": _fixed("boolean", default=False),
    }

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, state: Values, log: Log) -> Made:
        """Revoke all, grant what is listed, in one transaction."""
        return self._write(state, state)

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Revoke all that was there, grant what is listed, in one transaction."""
        return self._write(state, {**state, "privileges": old.get("privileges")})

    def _write(self, state: Values, before: Values) -> Made:
        kind, role = state["objectType"], state["role"]
        if kind != "database" and not state["schema"]:
            raise OperationFailed("parameter 'schema' is mandatory for postgresql_grant resource")
        if state["objects"] and kind in ("database", "schema"):
            raise OperationFailed(
                "cannot specify `objects` when `object_type` is `database` or `schema`"
            )
        wanted = state["privileges"] or []
        what = f"could not grant on {kind} {target(state)} to {role}"
        with self._server.connection(what, state["database"]) as connection:
            privileges.require_known(kind, wanted, server_version(connection))
            lock_role(connection, role)
            if kind == "database":
                lock_database(connection, state["database"])
            run(connection, revoke_statement(before))
            if wanted:
                run(connection, grant_statement(state))
        made = self.read("", state)
        if made is None:
            raise OperationFailed(f"role, database or schema of the grant to {role} vanished")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the privileges in the access lists; gone if the role or the place is gone."""
        if not state:
            raise OperationFailed("a Grant cannot be imported")
        with self._server.connection("error reading grant") as connection:
            if not exists(connection, "database", state["database"]):
                return None
        listed = list(state.get("privileges") or [])
        kind = state["objectType"]
        with self._server.connection("error reading grant", state["database"]) as connection:
            if not _place_exists(connection, state):
                return None
            seen = _granted(connection, state, set(listed))
            if not privileges.same(kind, seen, set(listed), server_version(connection)):
                listed = sorted(seen)
        kept = {name: state.get(name) for name in self.table}
        return Made(identifier_of(state), {**kept, "privileges": listed or None})

    def delete(self, identifier: str, state: Values) -> None:
        """Revoke all."""
        what = f"could not revoke {state['objectType']} privileges from {state['role']}"
        with self._server.connection(what, state["database"]) as connection:
            lock_role(connection, state["role"])
            if state["objectType"] == "database":
                lock_database(connection, state["database"])
            run(connection, revoke_statement(state))


def target(state: Values) -> str:
    """Return what is granted on, as a statement names it."""
    kind = state["objectType"]
    if kind == "database":
        return quoted(state["database"])
    if kind == "schema":
        return quoted(state["schema"])
    if not state["objects"]:
        return f"all {kind}s in schema {quoted(state['schema'])}"
    return ", ".join(_object(state["schema"], name) for name in state["objects"])


def _object(schema: str, name: str) -> str:
    """``f(uuid, text)`` keeps its arguments outside of the quotes."""
    bare, bracket, arguments = name.partition("(")
    return quoted(schema, bare) + bracket + arguments


def _on(state: Values) -> str:
    named = state["objectType"] in ("database", "schema") or state["objects"]
    return f"{state['objectType']} {target(state)}" if named else target(state)


def grant_statement(state: Values) -> str:
    """Return the statement that grants what is listed."""
    option = " with grant option" if state["withGrantOption"] else ""
    listed = ", ".join(state["privileges"])
    return f"grant {listed} on {_on(state)} to {grantee(state['role'])}{option}"


def revoke_statement(state: Values) -> str:
    """Return the statement that revokes all.

    On single objects only what is listed, because ALL would take column privileges with it.
    """
    listed = ", ".join(state["privileges"] or []) if state["objects"] else ""
    return f"revoke {listed or 'all privileges'} on {_on(state)} from {grantee(state['role'])}"


def identifier_of(state: Values) -> str:
    """Return the id that the official plugin gives."""
    parts = [state["role"], state["database"]]
    if state["objectType"] != "database":
        parts.append(state["schema"] or "")
    return "_".join([*parts, state["objectType"], *(state.get("objects") or [])])


def _place_exists(connection: Connection[tuple[Any, ...]], state: Values) -> bool:
    if state["role"] != PUBLIC and not exists(connection, "role", state["role"]):
        return False
    schema = state.get("schema")
    return state["objectType"] == "database" or not schema or exists(connection, "schema", schema)


def _granted(connection: Connection[tuple[Any, ...]], state: Values, wanted: set[str]) -> set[str]:
    """Return what the role has; for objects, what the first one has that differs."""
    kind, number = state["objectType"], role_number(connection, state["role"])
    if kind == "database":
        return set(run(connection, _DATABASE, state["database"], number)[0][0] or [])
    if kind == "schema":
        return set(run(connection, _SCHEMA, state["schema"], number)[0][0] or [])
    if kind in _RELATIONS:
        rows = run(connection, _OBJECTS, number, state["schema"], _RELATIONS[kind])
    else:
        rows = run(connection, _FUNCTIONS, number, state["schema"])
    for name, has in rows:
        if state.get("objects") and name not in state["objects"]:
            continue
        if not privileges.same(kind, set(has), wanted, server_version(connection)):
            return set(has)
    return wanted
