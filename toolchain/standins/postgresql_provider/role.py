"""postgresql Role."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Final

from toolchain.standins.interruption import OperationFailed
from toolchain.standins.postgresql_provider.server import (
    Server,
    exists,
    literal,
    lock_role,
    quoted,
    run,
)
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values

if TYPE_CHECKING:
    from psycopg import Connection

# Property, and what CREATE and ALTER ROLE call it; the first one is the one for true.
_ATTRIBUTES: Final = {
    "superuser": ("SUPERUSER", "NOSUPERUSER"),
    "createDatabase": ("CREATEDB", "NOCREATEDB"),
    "createRole": ("CREATEROLE", "NOCREATEROLE"),
    "inherit": ("INHERIT", "NOINHERIT"),
    "login": ("LOGIN", "NOLOGIN"),
    "bypassRowLevelSecurity": ("BYPASSRLS", "NOBYPASSRLS"),
    "replication": ("REPLICATION", "NOREPLICATION"),
}
_TIMEOUTS: Final = {
    "statementTimeout": "statement_timeout",
    "idleInTransactionSessionTimeout": "idle_in_transaction_session_timeout",
}
_READ: Final = """
select
    r.rolname,
    r.rolsuper,
    r.rolinherit,
    r.rolcreaterole,
    r.rolcreatedb,
    r.rolcanlogin,
    r.rolconnlimit,
    coalesce(r.rolvaliduntil::text, 'infinity'),
    r.rolreplication,
    r.rolbypassrls,
    coalesce(r.rolconfig, '{}'),
    array(
        select pg_catalog.pg_get_userbyid(m.roleid)::text
        from pg_catalog.pg_auth_members m
        where m.member = r.oid
        order by 1
    )
from pg_catalog.pg_roles r
where r.rolname = %s
"""


def _off(**rules: Any) -> Property:
    return Property(kind="boolean", default=False, **rules)


class Role(ResourceType):
    """A role with its attributes, password and settings; changed in place, name included."""

    pulumi_type: ClassVar[str] = "postgresql:index/role:Role"
    table: ClassVar[Table] = {
        "name": Property(kind="string", required=True),
        "password": Property(kind="string"),
        "roles": Property(kind="set"),
        "searchPaths": Property(kind="list"),
        "encryptedPassword": Property(kind="boolean", default=True),
        "validUntil": Property(kind="string", default="infinity"),
        "connectionLimit": Property(kind="integer", default=-1, least=-1),
        "superuser": _off(),
        "createDatabase": _off(),
        "createRole": _off(),
        "inherit": Property(kind="boolean", default=True),
        "login": _off(),
        "replication": _off(),
        "bypassRowLevelSecurity": _off(),
        "skipDropRole": _off(),
        "skipReassignOwned": _off(),
        "statementTimeout": Property(kind="integer", least=0),
        "idleInTransactionSessionTimeout": Property(kind="integer", least=0),
        "assumeRole": Property(kind="string"),
    }

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, state: Values, log: Log) -> Made:
        """Make the role, its memberships and settings, in one transaction."""
        name = state["name"]
        words = [*_password(state), f"VALID UNTIL {literal(state['validUntil'] or 'infinity')}"]
        words.append(f"CONNECTION LIMIT {state['connectionLimit']}")
        words += [on if state[key] else off for key, (on, off) in _ATTRIBUTES.items()]
        with self._server.connection(f"error creating role {name}") as connection:
            run(connection, f"create role {quoted(name)} with {' '.join(words)}")
            _join(connection, name, state["roles"] or [])
            _set_search_path(connection, name, state["searchPaths"] or [])
            for key, setting in _TIMEOUTS.items():
                if state[key]:
                    run(connection, f"alter role {quoted(name)} set {setting} to {state[key]:d}")
            if state["assumeRole"]:
                run(connection, _assume(name, state["assumeRole"]))
        made = self.read(name, state)
        if made is None:
            raise OperationFailed(f"role {name} vanished while it was made")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the role as the catalogs show it; a SCRAM password cannot be compared."""
        with self._server.connection("error reading role") as connection:
            rows = run(connection, _READ, identifier)
            if not rows:
                return None
            row = rows[0]
            settings = dict(item.split("=", 1) for item in row[10])
            seen: Values = {
                "name": row[0],
                "superuser": row[1],
                "inherit": row[2],
                "createRole": row[3],
                "createDatabase": row[4],
                "login": row[5],
                "connectionLimit": row[6],
                "validUntil": row[7],
                "replication": row[8],
                "bypassRowLevelSecurity": row[9],
                "roles": row[11] or None,
                "encryptedPassword": True,
                "searchPaths": [part.strip('"') for part in settings["search_path"].split(", ")]
                if "search_path" in settings
                else None,
                "assumeRole": settings.get("role", ""),
                "skipDropRole": bool(state.get("skipDropRole")),
                "skipReassignOwned": bool(state.get("skipReassignOwned")),
                "password": state.get("password"),
            }
            for key, setting in _TIMEOUTS.items():
                seen[key] = int(settings.get(setting, 0))
            if state.get("password") and seen["login"] and self._server.reads_passwords:
                seen["password"] = _seen_password(connection, identifier, state["password"])
        return Made(row[0], seen)

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Change what differs; memberships are revoked and granted again."""
        name = state["name"]

        def changed(key: str) -> bool:
            return (old.get(key) or None) != (state.get(key) or None)

        with self._server.connection(f"error updating role {identifier}") as connection:
            lock_role(connection, old["name"])
            if changed("name"):
                run(connection, f"alter role {quoted(old['name'])} rename to {quoted(name)}")
            words: list[str] = []
            if state["password"] and (changed("password") or changed("name")):
                words.append(f"PASSWORD {literal(state['password'])}")
            words += [
                on if state[key] else off for key, (on, off) in _ATTRIBUTES.items() if changed(key)
            ]
            if changed("connectionLimit"):
                words.append(f"CONNECTION LIMIT {state['connectionLimit']}")
            if changed("validUntil"):
                words.append(f"VALID UNTIL {literal(state['validUntil'])}")
            if words:
                run(connection, f"alter role {quoted(name)} with {' '.join(words)}")
            for (group,) in run(
                connection,
                "select r.rolname from pg_catalog.pg_auth_members m"
                " join pg_catalog.pg_roles r on r.oid = m.roleid"
                " join pg_catalog.pg_roles who on who.oid = m.member where who.rolname = %s",
                name,
            ):
                run(connection, f"revoke {quoted(group)} from {quoted(name)}")
            _join(connection, name, state["roles"] or [])
            _set_search_path(connection, name, state["searchPaths"] or [])
            for key, setting in _TIMEOUTS.items():
                if changed(key):
                    to = f"set {setting} to {state[key]:d}" if state[key] else f"reset {setting}"
                    run(connection, f"alter role {quoted(name)} {to}")
            if changed("assumeRole"):
                run(connection, _assume(name, state["assumeRole"]))
        made = self.read(name, state)
        if made is None:
            raise OperationFailed(f"role {name} vanished while it was changed")
        return made

    def delete(self, identifier: str, state: Values) -> None:
        """Give away what the role owns in this database, and drop it.

        What it owns in other databases makes this fail, as officially.
        """
        name = state.get("name") or identifier
        with self._server.connection(f"could not delete role {name}") as connection:
            if not exists(connection, "role", name):
                return
            lock_role(connection, name)
            if not state.get("skipReassignOwned"):
                owner = quoted(self._server.username)
                run(connection, f"reassign owned by {quoted(name)} to {owner}")
                run(connection, f"drop owned by {quoted(name)}")
            if not state.get("skipDropRole"):
                run(connection, f"drop role {quoted(name)}")


def _password(state: Values) -> list[str]:
    password = state["password"]
    if not password:
        return []
    if password.upper() == "NULL":
        return ["PASSWORD NULL"]
    return [f"ENCRYPTED PASSWORD {literal(password)}"]


def _join(connection: Connection[tuple[Any, ...]], name: str, groups: list[str]) -> None:
    for group in groups:
        run(connection, f"grant {quoted(group)} to {quoted(name)}")


def _set_search_path(
    connection: Connection[tuple[Any, ...]], name: str, schemas: list[str]
) -> None:
    path = ", ".join(quoted(schema) for schema in schemas) or "default"
    run(connection, f"alter role {quoted(name)} set search_path to {path}")


def _assume(name: str, role: str | None) -> str:
    if role:
        return f"alter role {quoted(name)} set role to {quoted(role)}"
    return f"alter role {quoted(name)} reset role"


def _seen_password(connection: Connection[tuple[Any, ...]], name: str, password: str) -> str:
    """Return the known password if the server may have it, else what the server has."""
    rows = run(
        connection,
        "select coalesce(passwd, '') from pg_catalog.pg_shadow where usename = %s",
        name,
    )
    stored = str(rows[0][0]) if rows else ""
    if stored.startswith("SCRAM-SHA-256"):
        return password
    digest = hashlib.md5(f"{password}{name}".encode(), usedforsecurity=False).hexdigest()
    return password if stored == f"md5{digest}" else stored
