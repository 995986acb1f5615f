"""The object store: MinIO with TLS, one private versioned bucket, one limited user (B3)."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.naming import HOST_MINIO, KEYS_MOUNT, UID_MINIO, UID_OPERATIONS
from stacks.container import TMP, ContainerArgs, Health, Mount, Port, container
from stacks.job import Job
from stacks.job_settings import job_settings
from stacks.keys import Keys
from stacks.settings import Settings
from stacks.volume import kept, volume


@dataclass(frozen=True)
class StorageArgs:
    """What the object store and its job need."""

    settings: Settings
    server_image: pulumi.Input[str]
    job_image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys


class Storage(pulumi.ComponentResource):
    """The server, its volume, and the job that makes bucket, user and policy. ``port`` is
    known once the server has it."""

    container: docker.Container
    port: pulumi.Output[int]
    job: Job

    def __init__(
        self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Storage", name, None, opts)
        settings, keys = args.settings, args.keys
        objects = volume(
            "objects-volume",
            settings.stack,
            "objects",
            kept(settings, self),
        )
        self.container = container(
            "minio-container",
            ContainerArgs(
                stack=settings.stack,
                part="minio",
                image=args.server_image,
                uid=UID_MINIO,
                memory_mb=settings.minio_memory_mb,
                network=args.network,
                alias=HOST_MINIO,
                mounts=(
                    Mount(objects.name, "/data", writable=True),
                    Mount(keys.volumes["minio"], str(KEYS_MOUNT)),
                ),
                tmpfs=TMP,
                ports=(Port(9000, settings.minio_port),),
                health=Health(
                    (
                        "curl",
                        "--fail",
                        "--silent",
                        "--max-time",
                        "4",
                        "--cacert",
                        f"{KEYS_MOUNT}/ca.crt",
                        "https://127.0.0.1:9000/minio/health/cluster",
                    )
                ),
                restart=settings.profile.restart,
                labels={"pandom.keys": keys.job.then("written")},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.port = self.container.id.apply(lambda _: settings.minio_port)
        self.job = Job(
            "storage",
            ContainerArgs(
                stack=settings.stack,
                part="storage",
                image=args.job_image,
                uid=UID_OPERATIONS,
                memory_mb=256,
                command=("job", "storage"),
                network=args.network,
                envs=job_settings(settings),
                mounts=(Mount(keys.volumes["storage"], str(KEYS_MOUNT)),),
                tmpfs=TMP,
            ),
            pulumi.ResourceOptions(parent=self, depends_on=[self.container]),
        )
        self.register_outputs({})
