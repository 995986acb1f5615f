"""Roles, memberships, database and schema grants, default privileges.

A reader of ``schema/access.py``: it adds no fact. Privileges on tables and other
objects are the migration job's, because the provider's grants on "all tables"
would fight with every revision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pulumi
import pulumi_postgresql as postgresql

from pandom.config.settings import Settings
from pandom.runtime.paths import ca_certificate
from schema.access import (
    DATABASE,
    DEFAULT_PRIVILEGES,
    MEMBERSHIPS,
    PROVIDER_TIMEOUTS,
    SCHEMA_GRANTS,
    SUPERUSER,
    Grant,
    Role,
    database_grants,
    milliseconds,
    roles,
)
from stacks.database import Database
from stacks.keys import Keys


@dataclass(frozen=True)
class AccessArgs:
    """``adopt`` names roles and databases that exist but are not in the state,
    because a run was killed between making and recording them."""

    settings: Settings
    keys: Keys
    database: Database
    adopt: frozenset[str] = frozenset()


class Access(pulumi.ComponentResource):
    """Everything that can be said with pulumi-postgresql. ``ready`` comes last."""

    ready: list[pulumi.Resource]
    database: pulumi.Output[str]

    def __init__(self, name: str, args: AccessArgs) -> None:
        super().__init__("pandom-stack:index:Access", name)
        self._args = args
        settings = args.settings
        self._provider = postgresql.Provider(
            "cluster",
            # Literals only: with an address known only after the container exists, the first
            # preview could show nothing.
            host="127.0.0.1",
            port=settings.postgres_port,
            username=SUPERUSER,
            password=args.keys.secrets["postgres"],
            sslmode="verify-full",
            sslrootcert=str(ca_certificate(settings.stack)),
            superuser=True,
            # A port that changes is noted in the state once the server has it: a run that
            # fails between would leave an address at which nobody answers.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.database.container]),
        )
        made: dict[str, postgresql.Role] = {}
        # Groups first: NOLOGIN roles are members of nothing.
        for role in sorted(roles(settings.opt_in), key=lambda role: role.login):
            made[role.name] = self._role(role, made)
        database = postgresql.Database(
            "pandom-db",
            name=DATABASE,
            encoding="UTF8",
            lc_collate="C.UTF-8",
            lc_ctype="C.UTF-8",
            template="template0",
            opts=self._options(depends_on=[args.database.container], adopt=DATABASE),
        )
        everyone: list[pulumi.Resource] = [database, *made.values()]
        on_database = self._grants(database_grants(DATABASE), everyone, made)
        on_schema = self._grants(SCHEMA_GRANTS, everyone, made)
        defaults = self._defaults(everyone, made)
        self.database = database.name
        self.ready = [*made.values(), *on_database, *on_schema, *defaults]
        self.register_outputs({"database": self.database})

    def _options(
        self, depends_on: Iterable[pulumi.Resource], adopt: str | None = None
    ) -> pulumi.ResourceOptions:
        adopted = adopt in self._args.adopt
        return pulumi.ResourceOptions(
            parent=self,
            provider=self._provider,
            depends_on=list(depends_on),
            # Set on each child, because not every SDK inherits it.
            deleted_with=self._args.database.data,
            import_=adopt if adopted else None,
            # A password cannot be read back, so an import that set it would be
            # refused; the next run sets it.
            ignore_changes=["password"] if adopted else None,
        )

    def _role(self, role: Role, made: dict[str, postgresql.Role]) -> postgresql.Role:
        groups = sorted(entry.group for entry in MEMBERSHIPS if entry.member == role.name)
        timeouts = {
            key: milliseconds(role.settings[key]) if key in role.settings else None
            for key in PROVIDER_TIMEOUTS
        }
        return postgresql.Role(
            role.name.replace("_", "-"),
            name=role.name,
            login=role.login,
            inherit=role.inherit,
            bypass_row_level_security=role.bypass_rls,
            connection_limit=role.connection_limit,
            # The whole list: a membership granted by hand is seen and taken back. (A
            # GrantRole beside it would be undone by every second refresh.) INHERIT and
            # SET follow from the member's attribute; the cluster job states them again.
            roles=groups,
            password=self._args.keys.secrets[role.name] if role.login else None,
            statement_timeout=timeouts["statement_timeout"],
            idle_in_transaction_session_timeout=timeouts["idle_in_transaction_session_timeout"],
            opts=self._options(
                [self._args.database.container, *(made[name] for name in groups if name in made)],
                adopt=role.name,
            ),
        )

    def _grants(
        self,
        grants: Iterable[Grant],
        after: list[pulumi.Resource],
        made: dict[str, postgresql.Role],
    ) -> list[pulumi.Resource]:
        """Grant one after the other: the provider locks the role but not the object, and
        two at a time on one object fail with "tuple concurrently updated"."""
        chain: list[pulumi.Resource] = []
        for grant in grants:
            if grant.role not in made and grant.role != "public":
                continue
            chain.append(
                postgresql.Grant(
                    f"{grant.kind}-{grant.role}".replace("_", "-"),
                    database=DATABASE,
                    schema=grant.name if grant.kind == "schema" else None,
                    object_type=grant.kind,
                    role=grant.role,
                    privileges=sorted(grant.privileges),
                    opts=self._options([*after, *chain[-1:]]),
                )
            )
        return chain

    def _defaults(
        self, after: list[pulumi.Resource], made: dict[str, postgresql.Role]
    ) -> list[pulumi.Resource]:
        chain: list[pulumi.Resource] = []
        for entry in DEFAULT_PRIVILEGES:
            if entry.owner not in made:
                continue
            chain.append(
                postgresql.DefaultPrivileges(
                    f"default-{entry.owner}-{entry.kind}-{entry.role}".replace("_", "-"),
                    database=DATABASE,
                    owner=entry.owner,
                    role=entry.role,
                    object_type=entry.kind,
                    privileges=sorted(entry.privileges),
                    opts=self._options([*after, *chain[-1:]]),
                )
            )
        return chain
