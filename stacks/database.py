"""PostgreSQL 17: TLS and SCRAM only, data on a volume, healthy when it answers over TCP."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.naming import HOST_POSTGRES, KEYS_MOUNT, UID_POSTGRES
from stacks.container import TMP, ContainerArgs, Health, Mount, Port, container
from stacks.keys import Keys
from stacks.settings import Settings
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

    def __init__(
        self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Database", name, None, opts)
        settings, keys = args.settings, args.keys
        self.data = volume(
            "data-volume",
            settings.stack,
            "data",
            kept(settings, self),
        )
        self.container = container(
            "postgres-container",
            ContainerArgs(
                stack=settings.stack,
                part="postgres",
                image=args.image,
                uid=UID_POSTGRES,
                memory_mb=settings.postgres_memory_mb,
                command=server_settings(settings),
                network=args.network,
                alias=HOST_POSTGRES,
                mounts=(
                    Mount(self.data.name, "/var/lib/postgresql", writable=True),
                    Mount(keys.volumes["postgres"], str(KEYS_MOUNT)),
                ),
                tmpfs=TMP,
                shm_mb=256,
                ports=(Port(5432, settings.postgres_port),),
                # pg_isready over TCP, but not each time: with connections logged, every
                # probe is a line in the log.
                health=Health(("pandom-healthy",)),
                restart=settings.profile.restart,
                labels={"pandom.keys": keys.job.then("written")},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.port = self.container.id.apply(lambda _: settings.postgres_port)
        self.register_outputs({"container": self.container.name})


def server_settings(settings: Settings) -> tuple[str, ...]:
    """What the profile and the memory limit decide; all else is in the image."""
    memory = settings.postgres_memory_mb
    values = {
        "shared_buffers": f"{memory // 4}MB",
        "effective_cache_size": f"{memory // 2}MB",
        "maintenance_work_mem": f"{max(memory // 16, 16)}MB",
    }
    if not settings.profile.durable:
        values |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    return tuple(word for key, value in values.items() for word in ("-c", f"{key}={value}"))
