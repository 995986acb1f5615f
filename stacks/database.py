"""PostgreSQL: TLS and SCRAM only, data on a volume, healthy when it answers over TCP."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from stacks.container import Wiring, container
from stacks.keys import Keys
from stacks.volume import kept, volume


@dataclass(frozen=True)
class DatabaseArgs:
    """What the server needs."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys


class Database(pulumi.ComponentResource):
    """The server and its volume. Everything inside the server is ``deleted_with``
    the volume: destroy sends no SQL and works while the server is down. ``port`` is known
    once the server has it, so that clients are not told of one before."""

    container: docker.Container
    port: pulumi.Output[int]
    data: docker.Volume

    def __init__(self, name: str, args: DatabaseArgs) -> None:
        super().__init__("pandom-stack:index:Database", name)
        settings, keys = args.settings, args.keys
        self.data = volume("data-volume", settings.stack, "data", kept(settings, self))
        self.container = container(
            "postgres-container",
            container_specs(settings)["postgres"],
            Wiring(
                args.image,
                args.network,
                {"data": self.data.name, **keys.volumes},
                labels={"pandom.keys": keys.job.after_success("written")},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        if settings.backup.archives:
            container(
                "backup-server-container",
                container_specs(settings)["backup-server"],
                Wiring(
                    args.image,
                    args.network,
                    {"data": self.data.name, **keys.volumes},
                    labels={"pandom.keys": keys.job.after_success("written")},
                ),
                pulumi.ResourceOptions(parent=self, depends_on=[self.container]),
            )
        self.port = self.container.id.apply(lambda _: settings.postgres_port)
        self.register_outputs({"container": self.container.name})
