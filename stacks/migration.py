"""Schema, row security, triggers, object privileges and the administrator."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from pandom.config.container_specs import container_specs
from pandom.config.settings import Settings
from pandom.runtime.naming import LABEL_HEAD
from pandom.runtime.paths import ROOT
from stacks.cluster import Cluster
from stacks.container import Wiring
from stacks.job import Job
from stacks.keys import Keys


@dataclass(frozen=True)
class MigrationArgs:
    """What the migration job needs."""

    settings: Settings
    image: pulumi.Input[str]
    network: pulumi.Input[str]
    keys: Keys
    cluster: Cluster


class Migration(pulumi.ComponentResource):
    """Runs ``pandom job migrate``. The head stands in a label, so that a preview
    says ``0003 → 0004`` and not only that a container is replaced."""

    job: Job

    def __init__(self, name: str, args: MigrationArgs) -> None:
        super().__init__("pandom-stack:index:Migration", name)
        self.job = Job(
            "migration",
            container_specs(args.settings)["migration"],
            Wiring(
                args.image,
                args.network,
                args.keys.volumes,
                labels={
                    LABEL_HEAD: head(),
                    "pandom.after": args.cluster.job.after_success("cluster"),
                },
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def head() -> str:
    """Return the newest revision by its number; a test compares it with Alembic's head."""
    files = sorted((ROOT / "migrations" / "versions").glob("[0-9]*_*.py"))
    if not files:
        raise pulumi.RunError("migrations/versions holds no revision; expected NNNN_slug.py")
    return files[-1].name.split("_", 1)[0]
