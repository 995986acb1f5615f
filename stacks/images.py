"""What the containers run: built here from the base that ``make tools`` provides.

Images are a cache: nothing pushes them, ``make clean`` removes them, and a missing
one is built again. Containers use the digest, never the tag: by name, a changed
image would not be noticed. Each Dockerfile has its own allow-list
(``Dockerfile.dockerignore``), so that an edit of the jobs' code leaves the servers
alone.
"""

from __future__ import annotations

from typing import Final

import pulumi
import pulumi_docker as docker

from pandom.runtime.naming import WITH_POSTGRES, image_name

PARTS: Final = ("postgres", "minio", "operations")


class Images(pulumi.ComponentResource):
    """The digests of the images; ``metrics`` with monitoring only."""

    postgres: pulumi.Output[str]
    minio: pulumi.Output[str]
    operations: pulumi.Output[str]
    metrics: pulumi.Output[str] | None = None

    def __init__(self, name: str, *, version: int, monitoring: bool) -> None:
        super().__init__("pandom-stack:index:Images", name)
        self._postgres = version
        digests = {part: self._build(part) for part in PARTS}
        if monitoring:
            self.metrics = digests["metrics"] = self._build("metrics")
        self.postgres = digests["postgres"]
        self.minio = digests["minio"]
        self.operations = digests["operations"]
        self.register_outputs(dict(digests))

    def _build(self, part: str) -> pulumi.Output[str]:
        image = docker.Image(
            f"{part}-image",
            image_name=image_name(part, self._postgres),
            build=docker.DockerBuildArgs(
                context=".",
                dockerfile=f"app_image/{part}/Dockerfile",
                args={"VERSION": str(self._postgres)} if part in WITH_POSTGRES else None,
                # Debian's engine has no BuildKit plugin.
                builder_version=docker.BuilderVersion.BUILDER_V1,
            ),
            skip_push=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return image.repo_digest
