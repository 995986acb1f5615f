"""Stand-in of pulumi-resource-postgresql: roles, memberships, databases and privileges."""

from __future__ import annotations

from toolchain.standins import POSTGRESQL_VERSION
from toolchain.standins.interruption import Interruption
from toolchain.standins.postgresql_provider.database import Database
from toolchain.standins.postgresql_provider.default_privileges import DefaultPrivileges
from toolchain.standins.postgresql_provider.grant import Grant
from toolchain.standins.postgresql_provider.grant_role import GrantRole
from toolchain.standins.postgresql_provider.role import Role
from toolchain.standins.postgresql_provider.server import SETTINGS, Server
from toolchain.standins.provider import Provider


def main(arguments: list[str]) -> None:
    """Serve the provider."""
    interruption = Interruption()
    server = Server(interruption)
    provider = Provider(
        "postgresql",
        POSTGRESQL_VERSION,
        [
            Role(server),
            GrantRole(server),
            Database(server),
            Grant(server),
            DefaultPrivileges(server),
        ],
        config=SETTINGS,
        configure=server.configure,
        interruption=interruption,
    )
    provider.run(arguments)
