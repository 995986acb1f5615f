"""What runs on a schedule: the janitor (O3) and, where the profile says so, the auditor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from pandom.naming import KEYS_MOUNT, UID_OPERATIONS
from stacks.container import TMP, ContainerArgs, Health, Mount, container
from stacks.job_settings import job_settings
from stacks.keys import Keys
from stacks.migration import Migration
from stacks.settings import Settings
from stacks.storage import Storage

AUDIT_INTERVAL_S: Final = 3600
# Two and a half rounds without a verdict are as bad as a bad one. What the command says
# is what `pandom health` shows.
AUDITOR_HEALTH: Final = (
    "sh",
    "-c",
    'read code said < /tmp/auditor-verdict; echo "$said"; test "$code" = 0 '
    f'&& test -n "$(find /tmp/auditor-verdict -mmin -{AUDIT_INTERVAL_S * 5 // 2 // 60})"',
)


@dataclass(frozen=True)
class OperationsArgs:
    """What the two need."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    migration: Migration
    storage: Storage


class Operations(pulumi.ComponentResource):
    """Long-running containers, each with one login: retention as pandom_janitor, and the
    drift check as pandom_auditor, who reads evidence and writes only more of it."""

    janitor: docker.Container
    auditor: docker.Container | None = None

    def __init__(
        self, name: str, args: OperationsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Operations", name, None, opts)
        self.janitor = container(
            "janitor-container",
            ContainerArgs(
                stack=args.settings.stack,
                part="janitor",
                image=args.image,
                uid=UID_OPERATIONS,
                memory_mb=128,
                command=("janitor",),
                network=args.network,
                envs={**job_settings(args.settings), "PANDOM_JANITOR_INTERVAL_S": "300"},
                mounts=(Mount(args.keys.volumes["janitor"], str(KEYS_MOUNT)),),
                tmpfs=TMP,
                # The janitor touches the file after each good round; three missed
                # rounds are a fault. Retention that silently never runs is the usual one.
                health=Health(
                    ("sh", "-c", 'test -n "$(find /tmp/janitor-alive -mmin -15)"'),
                    interval="30s",
                ),
                health_wait_s=0,
                restart=args.settings.profile.restart,
                labels={"pandom.after": args.migration.job.then("migration")},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        if args.settings.profile.scheduled_audit:
            self.auditor = self._auditor(args)
        self.register_outputs({})

    def _auditor(self, args: OperationsArgs) -> docker.Container:
        return container(
            "auditor-container",
            ContainerArgs(
                stack=args.settings.stack,
                part="auditor",
                image=args.image,
                uid=UID_OPERATIONS,
                memory_mb=256,
                command=("audit", "watch"),
                network=args.network,
                envs={
                    **job_settings(args.settings),
                    "PANDOM_AUDITOR_INTERVAL_S": str(AUDIT_INTERVAL_S),
                },
                mounts=(Mount(args.keys.volumes["auditor"], str(KEYS_MOUNT)),),
                tmpfs=TMP,
                health=Health(AUDITOR_HEALTH, interval="15s", retries=1),
                health_wait_s=0,
                restart=args.settings.profile.restart,
                labels={
                    "pandom.after": args.migration.job.then("migration"),
                    "pandom.after-too": args.storage.job.then("storage"),
                },
            ),
            pulumi.ResourceOptions(parent=self),
        )
