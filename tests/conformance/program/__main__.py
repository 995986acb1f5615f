"""Makes every resource type of ours once per property, before or after its edit."""

from __future__ import annotations

from typing import Any

import edits  # type: ignore[import-not-found] # beside this file, where Pulumi runs it
import pulumi
import pulumi_docker as docker
import pulumi_postgresql as postgresql
import pulumi_random as random

config = pulumi.Config()
prefix = config.require("prefix")
port = config.require_int("port")
edited = bool(config.get_bool("edited"))


def arguments(edit: edits.Edit) -> dict[str, Any]:
    """The side of the edit that this run shows."""
    return dict(edit.after if edited else edit.before)


label = [docker.NetworkLabelArgs(label="pandom.conformance", value=prefix)]
network = docker.Network("network", name=f"{prefix}-network", labels=label)
docker.Network(
    "network-edit",
    name=f"{prefix}-network-edit",
    internal=not edited,
)
volume_labels = [docker.VolumeLabelArgs(label="pandom.conformance", value=prefix)]
volume = docker.Volume("volume", name=f"{prefix}-volume", labels=volume_labels)
docker.Volume(
    "volume-edit",
    name=f"{prefix}-volume-edit",
    labels=[
        docker.VolumeLabelArgs(label="pandom.conformance", value="after" if edited else "before")
    ],
)
build = docker.DockerBuildArgs(
    context="image",
    dockerfile="image/Dockerfile",
    builder_version=docker.BuilderVersion.BUILDER_V1,
    platform="linux/amd64",
    args={"edition": "second" if edited else "first"},
)
image = docker.Image("image", image_name=f"{prefix}/image:local", skip_push=True, build=build)

for name, edit in edits.CONTAINERS.items():
    options = arguments(edit)
    docker.Container(
        f"container-{name}",
        **{
            "name": f"{prefix}-{options.pop('name', name)}",
            "image": "pandom-base:trixie",
            "command": ["sleep", "60"],
            "start": False,
            "must_run": False,
            **options,
        },
    )

docker.Container(
    "service",
    name=f"{prefix}-service",
    image=image.repo_digest,
    command=["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
    user="1000:1000",
    read_only=True,
    init=False,
    memory=64,
    memory_swap=64,
    restart="unless-stopped",
    capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
    security_opts=["no-new-privileges:true"],
    log_driver="json-file",
    log_opts={"max-size": "1m"},
    tmpfs={"/run": "size=1m,mode=0755"},
    volumes=[
        docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/data", read_only=True)
    ],
    networks_advanced=[
        docker.ContainerNetworksAdvancedArgs(name=network.name, aliases=["service", "alias"])
    ],
    healthcheck=docker.ContainerHealthcheckArgs(
        tests=["CMD", "true"], interval="1s", timeout="1s", retries=1, start_period="0s"
    ),
    wait=True,
    wait_timeout=20,
    labels=[docker.ContainerLabelArgs(label="pandom.conformance", value=prefix)],
    stop_timeout=5,
)
job = docker.Container(
    "job",
    name=f"{prefix}-job",
    image=image.repo_digest,
    command=["sh", "-c", "cat /secret; echo problem >&2; exit 3"],
    uploads=[
        docker.ContainerUploadArgs(
            file="/secret", content=pulumi.Output.secret("uploaded\n"), permissions="0400"
        )
    ],
    volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/data")],
    network_mode="none",
    must_run=False,
    attach=True,
    logs=True,
    rm=False,
)
pulumi.export("exitCode", job.exit_code)
pulumi.export("logs", job.container_logs)

for name, edit in edits.PASSWORDS.items():
    random.RandomPassword(f"password-{name}", **arguments(edit))

server = postgresql.Provider(
    "server",
    host="127.0.0.1",
    port=port,
    username="postgres",
    password=pulumi.Output.secret("conformance"),
    sslmode="disable",
    superuser=True,
    connect_timeout=10,
)
on_server = pulumi.ResourceOptions(provider=server)

base_roles = [
    postgresql.Role(f"role-{name}", name=name, opts=on_server)
    for name in ("c_first", "c_second", "c_third", "c_reader", "c_owner")
]
after_roles = pulumi.ResourceOptions(provider=server, depends_on=base_roles)
for name, edit in edits.ROLES.items():
    options = arguments(edit)
    postgresql.Role(
        f"role-{name}",
        **{"name": f"c_{name.replace('-', '_')}", **options},
        opts=on_server,
    )

# Made by hand before the first run, as a run leaves them that was killed before it wrote its
# state. A password cannot be read back, so an import that sets it is refused.
postgresql.Role(
    "adopted-role",
    name="c_adopted",
    login=True,
    password="adopted",
    connection_limit=7,
    opts=pulumi.ResourceOptions(provider=server, import_="c_adopted", ignore_changes=["password"]),
)
postgresql.Database(
    "adopted-database",
    name="c_adopted",
    opts=pulumi.ResourceOptions(provider=server, import_="c_adopted"),
)

database = postgresql.Database("database", name="c_database", owner="postgres", opts=after_roles)
previous: list[pulumi.Resource] = [database]
for name, edit in edits.DATABASES.items():
    options = arguments(edit)
    # One after another: CREATE DATABASE refuses a template that another one copies.
    previous = [
        postgresql.Database(
            f"database-{name}",
            **{"name": f"c_database_{name}", **options},
            opts=pulumi.ResourceOptions(provider=server, depends_on=[*base_roles, *previous]),
        )
    ]

previous = [database, *base_roles]
for name, edit in edits.GRANTS.items():
    # Chained, for grants on one object in parallel give "tuple concurrently updated".
    previous = [
        postgresql.Grant(
            f"grant-{name}",
            **{"role": "c_reader", "database": database.name, **arguments(edit)},
            opts=pulumi.ResourceOptions(provider=server, depends_on=previous),
        )
    ]
for name, edit in edits.DEFAULT_PRIVILEGES.items():
    previous = [
        postgresql.DefaultPrivileges(
            f"default-{name}",
            **{
                "role": "c_reader",
                "database": database.name,
                "owner": "c_owner",
                **arguments(edit),
            },
            opts=pulumi.ResourceOptions(provider=server, depends_on=previous),
        )
    ]
for name, edit in edits.GRANT_ROLES.items():
    previous = [
        postgresql.GrantRole(
            f"member-{name}",
            **{"role": "c_owner", **arguments(edit)},
            opts=pulumi.ResourceOptions(provider=server, depends_on=previous),
        )
    ]
