"""postgresql GrantRole: one membership."""

from __future__ import annotations

from typing import ClassVar, Final

from toolchain.standins.interruption import OperationFailed
from toolchain.standins.postgresql_provider.server import Server, quoted, run
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values

_READ: Final = """
select m.admin_option
from pg_catalog.pg_auth_members m
where pg_catalog.pg_get_userbyid(m.member) = %s
and pg_catalog.pg_get_userbyid(m.roleid) = %s
"""


class GrantRole(ResourceType):
    """``role`` becomes a member of ``grantRole``; every change replaces it."""

    pulumi_type: ClassVar[str] = "postgresql:index/grantRole:GrantRole"
    table: ClassVar[Table] = {
        "role": Property(kind="string", required=True, replaces=True),
        "grantRole": Property(kind="string", required=True, replaces=True),
        "withAdminOption": Property(kind="boolean", default=False, replaces=True),
    }

    def __init__(self, server: Server) -> None:
        self._server = server

    def create(self, state: Values, log: Log) -> Made:
        """Revoke and grant, in one transaction. INHERIT follows the member's attribute."""
        group, member = quoted(state["grantRole"]), quoted(state["role"])
        with self._server.connection(
            f"could not grant {state['grantRole']} to {state['role']}"
        ) as connection:
            run(connection, f"revoke {group} from {member}")
            option = " with admin option" if state["withAdminOption"] else ""
            run(connection, f"grant {group} to {member}{option}")
        made = self.read("", state)
        if made is None:
            raise OperationFailed(f"membership of {state['role']} vanished while it was made")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the membership as the catalog shows it."""
        if not state:
            raise OperationFailed("a GrantRole cannot be imported")
        role, group = state["role"], state["grantRole"]
        with self._server.connection("error reading grant role") as connection:
            rows = run(connection, _READ, role, group)
        if not rows:
            return None
        admin = bool(rows[0][0])
        return Made(
            f"{role}_{group}_{str(admin).lower()}",
            {"role": role, "grantRole": group, "withAdminOption": admin},
        )

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Never asked for: every change is a replacement."""
        raise OperationFailed("a membership cannot be changed in place")

    def delete(self, identifier: str, state: Values) -> None:
        """Revoke the membership."""
        with self._server.connection(
            f"could not revoke {state['grantRole']} from {state['role']}"
        ) as connection:
            run(
                connection,
                f"revoke {quoted(state['grantRole'])} from {quoted(state['role'])}",
            )
