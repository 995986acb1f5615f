"""postgresql DefaultPrivileges: what objects made later grant by themselves."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from toolchain.standins.interruption import OperationFailed
from toolchain.standins.postgresql_provider import privileges
from toolchain.standins.postgresql_provider.server import (
    PUBLIC,
    Server,
    exists,
    grantee,
    lock_role,
    quoted,
    role_number,
    run,
    server_version,
)
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values

_LETTERS: Final = {
    "table": "r",
    "sequence": "S",
    "function": "f",
    "routine": "f",
    "type": "T",
    "schema": "n",
}
_READ: Final = """
select array_agg(a.privilege_type::text)
from pg_catalog.pg_default_acl d
left join pg_catalog.pg_namespace n on n.oid = d.defaclnamespace,
pg_catalog.aclexplode(d.defaclacl) a
where d.defaclobjtype = %s
and coalesce(n.nspname, '') = %s
and a.grantee = %s
and pg_catalog.pg_get_userbyid(a.grantor) = %s
"""


def _fixed(kind: Any, **rules: Any) -> Property:
    return Property(kind=kind, replaces=True, **rules)


class DefaultPrivileges(ResourceType):
    """What objects that ``owner`` makes later grant to ``role``."""

    pulumi_type: ClassVar[str] = "postgresql:index/defaultPrivileges:DefaultPrivileges"
    table: ClassVar[Table] = {
        "role": _fixed("string", required=True),
        "database": _fixed("string", required=True),
        "owner": _fixed("string", required=True),
        "schema": _fixed("string"),
        "objectType": _fixed("string", required=True, allowed="|".join(_LETTERS)),
        "privileges": Property(kind="set", required=True),
        "withGrantOption": _fixed("boolean", default=False),
    }

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, state: Values, log: Log) -> Made:
        """Revoke all, grant what is listed, in one transaction."""
        kind, wanted = state["objectType"], state["privileges"] or []
        if state["schema"] and kind == "schema":
            raise OperationFailed("cannot specify `schema` when `object_type` is `schema`")
        if state["withGrantOption"] and state["role"].lower() == PUBLIC:
            raise OperationFailed("with_grant_option cannot be true for role 'public'")
        what = f"could not alter default privileges of {state['owner']} on {kind}s"
        with self._server.connection(what, state["database"]) as connection:
            privileges.require_known(kind, wanted, server_version(connection))
            lock_role(connection, state["owner"])
            run(connection, revoke_statement(state))
            if wanted:
                run(connection, grant_statement(state))
        made = self.read("", state)
        if made is None:
            raise OperationFailed(f"{what}: they vanished at once")
        return made

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Grant again, as for a new entry."""
        return self.create(state, log)

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the entry of the catalog; none at all counts as gone, unless none was wanted."""
        if not state:
            raise OperationFailed("DefaultPrivileges cannot be imported")
        with self._server.connection("error reading default privileges") as connection:
            if not exists(connection, "database", state["database"]):
                return None
        kind, schema = state["objectType"], state.get("schema") or ""
        listed = list(state.get("privileges") or [])
        with self._server.connection(
            "error reading default privileges", state["database"]
        ) as connection:
            if state["role"] != PUBLIC and not exists(connection, "role", state["role"]):
                return None
            if schema and not exists(connection, "schema", schema):
                return None
            number = role_number(connection, state["role"])
            rows = run(connection, _READ, _LETTERS[kind], schema, number, state["owner"])
            seen = set(rows[0][0] or [])
            if not seen and listed:
                return None
            if not privileges.same(kind, seen, set(listed), server_version(connection)):
                listed = sorted(seen)
        kept = {name: state.get(name) for name in self.table}
        return Made(identifier_of(state), {**kept, "privileges": listed or None})

    def delete(self, identifier: str, state: Values) -> None:
        """Revoke all."""
        what = f"could not revoke default privileges of {state['owner']}"
        with self._server.connection(what, state["database"]) as connection:
            lock_role(connection, state["owner"])
            run(connection, revoke_statement(state))


def _alter(state: Values) -> str:
    where = f" in schema {quoted(state['schema'])}" if state.get("schema") else ""
    return f"alter default privileges for role {quoted(state['owner'])}{where}"


def grant_statement(state: Values) -> str:
    """Return the statement that grants what is listed."""
    option = " with grant option" if state["withGrantOption"] else ""
    return (
        f"{_alter(state)} grant {', '.join(state['privileges'])}"
        f" on {state['objectType']}s to {grantee(state['role'])}{option}"
    )


def revoke_statement(state: Values) -> str:
    """Return the statement that revokes all."""
    return f"{_alter(state)} revoke all on {state['objectType']}s from {grantee(state['role'])}"


def identifier_of(state: Values) -> str:
    """Return the id that the official plugin gives."""
    return "_".join(
        [
            state["role"],
            state["database"],
            state.get("schema") or "noschema",
            state["owner"],
            state["objectType"],
        ]
    )
