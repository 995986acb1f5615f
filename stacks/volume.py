"""The one factory of volumes: they carry data, so they carry the stack's labels too."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from pandom.config.settings import Settings
from pandom.runtime.naming import resource_name
from stacks.container import labels


def volume(name: str, stack: str, part: str, opts: pulumi.ResourceOptions) -> docker.Volume:
    """Return a labelled local volume, ``pandom-<stack>-<part>``."""
    every_label = labels(stack, part)
    return docker.Volume(
        name,
        name=resource_name(stack, part),
        driver="local",
        labels=[
            docker.VolumeLabelArgs(label=key, value=every_label[key]) for key in sorted(every_label)
        ],
        # A difference would replace the volume and lose its content. Its labels are those of
        # its creation; the containers have the present owner.
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=["name", "labels", "driver", "driverOpts"])
        ),
    )


def kept(settings: Settings, parent: pulumi.Resource) -> pulumi.ResourceOptions:
    """Return the options of a volume that people's data is in: Pulumi itself never removes it.

    `pandom down` does, by its labels and after it has asked. An ephemeral stack leaves
    nothing, also after a plain `pulumi destroy`.
    """
    return pulumi.ResourceOptions(
        parent=parent,
        protect=settings.protect,
        retain_on_delete=settings.protect or settings.profile.durable,
    )
