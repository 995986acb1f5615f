"""The object store: MinIO with TLS, one private versioned bucket, one limited user."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from stacks.container import Wiring, container
from stacks.job import Job
from stacks.keys import Keys
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
    objects: docker.Volume
    job: Job

    def __init__(self, name: str, args: StorageArgs) -> None:
        super().__init__("pandom-stack:index:Storage", name)
        settings, keys = args.settings, args.keys
        specs = container_specs(settings)
        self.objects = volume("objects-volume", settings.stack, "objects", kept(settings, self))
        self.container = container(
            "minio-container",
            specs["minio"],
            Wiring(
                args.server_image,
                args.network,
                {"objects": self.objects.name, **keys.volumes},
                labels={"pandom.keys": keys.job.after_success("written")},
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.port = self.container.id.apply(lambda _: settings.minio_port)
        self.job = Job(
            "storage",
            specs["storage"],
            Wiring(args.job_image, args.network, keys.volumes),
            pulumi.ResourceOptions(parent=self, depends_on=[self.container]),
        )
        self.register_outputs({})
