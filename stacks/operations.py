"""What runs beside the servers: the scheduled tasks, and by settings the exporter."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from stacks.container import Wiring, container
from stacks.database import Database
from stacks.keys import Keys
from stacks.migration import Migration
from stacks.storage import Storage
from stacks.volume import volume


@dataclass(frozen=True)
class OperationsArgs:
    """What they need; ``metrics_image`` with monitoring only."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    migration: Migration
    storage: Storage
    database: Database
    metrics_image: pulumi.Input[str] | None


class Operations(pulumi.ComponentResource):
    """Long-running containers: the scheduler, which starts each task as a process with one login
    (retention and sealing as pandom_janitor, the drift check as pandom_auditor), and the exporter
    as pandom_metrics, who reads numbers."""

    tasks: docker.Container
    metrics: docker.Container | None = None

    def __init__(self, name: str, args: OperationsArgs) -> None:
        super().__init__("pandom-stack:index:Operations", name)
        specs, volumes = container_specs(args.settings), dict(args.keys.volumes)
        after = {"pandom.after": args.migration.job.after_success("migration")}
        child = pulumi.ResourceOptions(parent=self)
        # Nothing in these is people's: without records every task runs once more.
        own = {mount.volume for mount in specs["operations"].mounts} - volumes.keys()
        volumes |= {
            part: volume(f"{part}-volume", args.settings.stack, part, child).name
            for part in sorted(own)
        }
        if "metrics" in specs:
            volumes |= {"data": args.database.data.name, "objects": args.storage.objects.name}
        after_too = {**after, "pandom.after-too": args.storage.job.after_success("storage")}
        self.tasks = container(
            "operations-container",
            specs["operations"],
            Wiring(args.image, args.network, volumes, labels=after_too),
            child,
        )
        if args.metrics_image is not None:
            self.metrics = container(
                "metrics-container",
                specs["metrics"],
                Wiring(args.metrics_image, args.network, volumes, labels=after),
                child,
            )
        self.register_outputs({})
