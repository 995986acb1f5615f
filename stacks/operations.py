"""The janitor: expired sessions and partitions ahead, on a schedule (O3)."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.naming import KEYS_MOUNT, UID_OPERATIONS
from stacks.container import TMP, ContainerArgs, Health, Mount, container
from stacks.job_settings import job_settings
from stacks.keys import Keys
from stacks.migration import Migration
from stacks.settings import Settings


@dataclass(frozen=True)
class OperationsArgs:
    """What the janitor needs."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    migration: Migration


class Operations(pulumi.ComponentResource):
    """A long-running container that calls the retention routines as pandom_janitor."""

    container: docker.Container

    def __init__(
        self, name: str, args: OperationsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Operations", name, None, opts)
        self.container = container(
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
        self.register_outputs({})
