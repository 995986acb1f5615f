"""What runs on a schedule: one container with a scheduler, and its records of what ran."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from stacks.container import Wiring, container
from stacks.keys import Keys
from stacks.migration import Migration
from stacks.storage import Storage
from stacks.volume import volume


@dataclass(frozen=True)
class OperationsArgs:
    """What it needs."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    migration: Migration
    storage: Storage


class Operations(pulumi.ComponentResource):
    """A long-running container that starts each task as a process with one login: retention and
    sealing as pandom_janitor, the drift check as pandom_auditor."""

    container: docker.Container

    def __init__(self, name: str, args: OperationsArgs) -> None:
        super().__init__("pandom-stack:index:Operations", name)
        settings, child = args.settings, pulumi.ResourceOptions(parent=self)
        # Nothing in it is people's: without it every task runs once more.
        records = volume("records-volume", settings.stack, "records", child)
        self.container = container(
            "operations-container",
            container_specs(settings)["operations"],
            Wiring(
                args.image,
                args.network,
                {**args.keys.volumes, "records": records.name},
                labels={
                    "pandom.after": args.migration.job.after_success("migration"),
                    "pandom.after-too": args.storage.job.after_success("storage"),
                },
            ),
            child,
        )
        self.register_outputs({})
