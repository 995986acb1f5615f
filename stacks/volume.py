"""The one factory of volumes. Nothing but `pandom down` removes or replaces one."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from pandom.identity import Marks
from pandom.naming import resource_name


def volume(name: str, marks: Marks, part: str, parent: pulumi.Resource) -> docker.Volume:
    """A labelled local volume, ``pandom-<stack>-<part>``.

    To Docker a volume with another name or label is another volume: neither is ever
    changed. Deleting the resource leaves the volume (docs/adr/0012-identity.md).
    """
    every_label = marks.labels(part)
    return docker.Volume(
        name,
        name=resource_name(marks.stack, part),
        driver="local",
        labels=[
            docker.VolumeLabelArgs(label=key, value=every_label[key]) for key in sorted(every_label)
        ],
        opts=pulumi.ResourceOptions(
            parent=parent,
            protect=marks.protected,
            retain_on_delete=True,
            ignore_changes=["name", "labels"],
        ),
    )
