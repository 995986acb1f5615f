"""The stack's private network: containers meet here, the host comes in by 127.0.0.1."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from pandom.runtime.naming import resource_name
from stacks.container import labels


@dataclass(frozen=True)
class NetworkArgs:
    """Whose network it is."""

    stack: str


class Network(pulumi.ComponentResource):
    """A bridge of its own. Not ``internal``: Docker publishes no port from such a one."""

    name: pulumi.Output[str]

    def __init__(self, name: str, args: NetworkArgs) -> None:
        super().__init__("pandom-stack:index:Network", name)
        every_label = labels(args.stack, "network")
        network = docker.Network(
            f"{name}-bridge",
            name=resource_name(args.stack, "network"),
            driver="bridge",
            labels=[
                docker.NetworkLabelArgs(label=key, value=every_label[key])
                for key in sorted(every_label)
            ],
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["labels"]),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})
