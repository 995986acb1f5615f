"""What runs on a schedule: the janitor and, where the profile says so, the auditor."""

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

    def __init__(self, name: str, args: OperationsArgs) -> None:
        super().__init__("pandom-stack:index:Operations", name)
        specs, volumes = container_specs(args.settings), args.keys.volumes
        after = {"pandom.after": args.migration.job.after_success("migration")}
        child = pulumi.ResourceOptions(parent=self)
        self.janitor = container(
            "janitor-container",
            specs["janitor"],
            Wiring(args.image, args.network, volumes, labels=after),
            child,
        )
        if "auditor" in specs:
            after_too = {**after, "pandom.after-too": args.storage.job.after_success("storage")}
            self.auditor = container(
                "auditor-container",
                specs["auditor"],
                Wiring(args.image, args.network, volumes, labels=after_too),
                child,
            )
        self.register_outputs({})
