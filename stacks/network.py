"""The stack's private network: containers meet here, the host comes in by 127.0.0.1."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.identity import Marks
from pandom.naming import resource_name


@dataclass(frozen=True)
class NetworkArgs:
    """Whose network it is."""

    marks: Marks


class Network(pulumi.ComponentResource):
    """A bridge of its own. Not ``internal``: Docker publishes no port from such a one."""

    name: pulumi.Output[str]

    def __init__(
        self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("pandom-stack:index:Network", name, None, opts)
        every_label = args.marks.labels("network")
        network = docker.Network(
            f"{name}-bridge",
            name=resource_name(args.marks.stack, "network"),
            driver="bridge",
            labels=[
                docker.NetworkLabelArgs(label=key, value=every_label[key])
                for key in sorted(every_label)
            ],
            # Another owner or protection is no reason to take every container from it.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["labels"]),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})
