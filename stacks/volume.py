"""The one factory of volumes: they carry data, so they carry the stack's labels too."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from pandom.naming import resource_name
from stacks.container import labels


def volume(name: str, stack: str, part: str, opts: pulumi.ResourceOptions) -> docker.Volume:
    """A labelled local volume, ``pandom-<stack>-<part>``."""
    every_label = labels(stack, part)
    return docker.Volume(
        name,
        name=resource_name(stack, part),
        driver="local",
        labels=[
            docker.VolumeLabelArgs(label=key, value=every_label[key]) for key in sorted(every_label)
        ],
        opts=opts,
    )
