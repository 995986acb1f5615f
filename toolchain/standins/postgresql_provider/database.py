"""postgresql Database."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from toolchain.standins.interruption import OperationFailed
from toolchain.standins.postgresql_provider.server import Server, exists, literal, quoted, run
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values, is_unknown

_READ: Final = """
select
    d.datname,
    pg_catalog.pg_get_userbyid(d.datdba),
    pg_catalog.pg_encoding_to_char(d.encoding),
    d.datcollate,
    d.datctype,
    t.spcname,
    d.datconnlimit,
    d.datallowconn,
    d.datistemplate
from pg_catalog.pg_database d
join pg_catalog.pg_tablespace t on t.oid = d.dattablespace
where d.datname = %s
"""


class Database(ResourceType):
    """A database; name, owner and limits are changed in place, its locale replaces it."""

    pulumi_type: ClassVar[str] = "postgresql:index/database:Database"
    delete_before_replace: ClassVar[bool] = True
    table: ClassVar[Table] = {
        "name": Property(kind="string", required=True),
        "owner": Property(kind="string", computed=True),
        "template": Property(kind="string", computed=True, replaces=True),
        "encoding": Property(kind="string", computed=True, replaces=True),
        "lcCollate": Property(kind="string", computed=True, replaces=True),
        "lcCtype": Property(kind="string", computed=True, replaces=True),
        "tablespaceName": Property(kind="string", computed=True),
        "connectionLimit": Property(kind="integer", default=-1, least=-1),
        "allowConnections": Property(kind="boolean", default=True),
        "isTemplate": Property(kind="boolean", computed=True),
        "alterObjectOwnership": Property(kind="boolean", default=False),
    }

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, state: Values, log: Log) -> Made:
        """Make the database, from template0 in UTF8 unless told otherwise."""
        given = {key: None if is_unknown(value) else value for key, value in state.items()}
        name = str(state["name"])
        words = [
            f"owner {quoted(given['owner'] or self._server.username)}",
            f"template {_name_or_default(given['template'] or 'template0')}",
            f"encoding {_text_or_default(given['encoding'] or 'UTF8')}",
        ]
        if given["lcCollate"]:
            words.append(f"lc_collate {_text_or_default(given['lcCollate'])}")
        if given["lcCtype"]:
            words.append(f"lc_ctype {_text_or_default(given['lcCtype'])}")
        if given["tablespaceName"]:
            words.append(f"tablespace {_name_or_default(given['tablespaceName'])}")
        words.append(f"allow_connections {str(bool(given['allowConnections'])).lower()}")
        words.append(f"connection limit {given['connectionLimit']}")
        words.append(f"is_template {str(bool(given['isTemplate'])).lower()}")
        with self._alone(f'error creating database "{name}"') as connection:
            run(connection, f"create database {quoted(name)} {' '.join(words)}")
        made = self.read(name, state)
        if made is None:
            raise OperationFailed(f"database {name} vanished while it was made")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the database as the catalog shows it."""
        with self._server.connection("error reading database") as connection:
            rows = run(connection, _READ, identifier)
        if not rows:
            return None
        row = rows[0]
        template = state.get("template")
        return Made(
            row[0],
            {
                "name": row[0],
                "owner": row[1],
                "encoding": row[2],
                "lcCollate": row[3],
                "lcCtype": row[4],
                "tablespaceName": row[5],
                "connectionLimit": row[6],
                "allowConnections": row[7],
                "isTemplate": row[8],
                # Where it was copied from is written down nowhere.
                "template": template if template and not is_unknown(template) else "template0",
                "alterObjectOwnership": state.get("alterObjectOwnership"),
            },
        )

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Change what differs, one statement after the other."""
        name = state["name"]

        def changed(key: str) -> bool:
            return bool(old.get(key) != state.get(key))

        if state["alterObjectOwnership"] and (changed("owner") or changed("alterObjectOwnership")):
            raise OperationFailed("the stand-in does not know alterObjectOwnership")
        with self._alone(f'error updating database "{identifier}"') as connection:
            if changed("name"):
                run(connection, f"alter database {quoted(old['name'])} rename to {quoted(name)}")
            if changed("owner") and state["owner"]:
                run(connection, f"alter database {quoted(name)} owner to {quoted(state['owner'])}")
            if changed("tablespaceName"):
                space = _name_or_default(state["tablespaceName"] or "DEFAULT")
                run(connection, f"alter database {quoted(name)} set tablespace {space}")
            if changed("connectionLimit"):
                limit = f"{state['connectionLimit']:d}"
                run(connection, f"alter database {quoted(name)} connection limit = {limit}")
            for key, word in (
                ("allowConnections", "allow_connections"),
                ("isTemplate", "is_template"),
            ):
                if changed(key):
                    run(
                        connection,
                        f"alter database {quoted(name)} {word} {str(bool(state[key])).lower()}",
                    )
        made = self.read(name, state)
        if made is None:
            raise OperationFailed(f"database {name} vanished while it was changed")
        return made

    def delete(self, identifier: str, state: Values) -> None:
        """End every session in the database, and drop it."""
        name = state.get("name") or identifier
        with self._alone(f'error dropping database "{name}"') as connection:
            if not exists(connection, "database", name):
                return
            if state.get("isTemplate"):
                run(connection, f"alter database {quoted(name)} is_template false")
            run(connection, f"alter database {quoted(name)} allow_connections false")
            run(connection, f"drop database {quoted(name)} with (force)")

    def _alone(self, what: str) -> Any:
        """Return a connection outside of a transaction, which databases are made and dropped in."""
        return self._server.connection(what, autocommit=True)


def _name_or_default(name: str) -> str:
    return "default" if name.upper() == "DEFAULT" else quoted(name)


def _text_or_default(text: str) -> str:
    return "default" if text.upper() == "DEFAULT" else literal(text)
