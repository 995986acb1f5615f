"""What only a superuser can do: extensions, comments on roles, rights on pg_hba_file_rules.

Done by a job, because the provider has no words for it. It alone mounts the
superuser's secret. It comes after ``access``: it comments and restricts roles and
a database that must exist (docs/adr/0008-cluster-after-access.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from stacks.access import Access
from stacks.container import Wiring
from stacks.job import Job
from stacks.keys import Keys


@dataclass(frozen=True)
class ClusterArgs:
    """What the cluster job needs."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    access: Access


class Cluster(pulumi.ComponentResource):
    """Runs ``pandom job cluster``; ``schema/sql/cluster`` says what it applies."""

    job: Job

    def __init__(self, name: str, args: ClusterArgs) -> None:
        super().__init__("pandom-stack:index:Cluster", name)
        self.job = Job(
            "cluster",
            container_specs(args.settings)["cluster"],
            Wiring(args.image, args.network, args.keys.volumes),
            pulumi.ResourceOptions(parent=self, depends_on=args.access.ready),
        )
        self.register_outputs({})
