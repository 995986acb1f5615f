"""The one factory of containers. A unit test forbids ``docker.Container`` elsewhere.

What every container has in common stands here: not root, no capabilities, no new
privileges, a read-only root, limits, log rotation, labels. So do the answers to
the provider's silences: editing a health check, ``init`` or ``tmpfs`` would report
success and change nothing, so those replace; Docker stores twice the memory as
swap, which would differ for ever, so ``memory_swap`` is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pulumi
import pulumi_docker as docker

from pandom.naming import LABEL_PART, LABEL_STACK, resource_name
from stacks.identity import identity_labels

# Processes and threads. The provider has no pids limit; every image has a user of
# its own, so the limit per user is one per kind of container.
PROCESS_LIMIT: Final = 4096

# The only writable place of a read-only root.
TMP: Final = {"/tmp": "mode=1777,size=64m"}  # noqa: S108 - a tmpfs inside the container


@dataclass(frozen=True)
class Mount:
    """A volume at a path; read-only unless somebody must write there."""

    volume: pulumi.Input[str]
    path: str
    writable: bool = False


@dataclass(frozen=True)
class Port:
    """A port of the container on 127.0.0.1 of the host."""

    inside: int
    outside: int


@dataclass(frozen=True)
class Health:
    """A health check; durations as Go prints them (``1m0s``), or refresh shows a change."""

    command: tuple[str, ...]
    # Also how long `up` waits for the first verdict: this engine has no start interval.
    interval: str = "2s"
    timeout: str = "5s"
    start_period: str = "30s"
    retries: int = 5


@dataclass(frozen=True)
class ContainerArgs:
    """``memory_mb`` in MiB. ``uid`` None runs as root, which only the keys job needs."""

    stack: str
    part: str
    image: pulumi.Input[str]
    uid: int | None
    memory_mb: int
    command: tuple[str, ...] = ()
    network: pulumi.Input[str] | None = None
    alias: str | None = None
    envs: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    health: Health | None = None
    health_wait_s: int = 90  # 0: made without waiting for the first verdict
    restart: str = "no"
    stop_s: int = 30
    shm_mb: int | None = None
    capabilities: tuple[str, ...] = ()
    uploads: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    labels: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    one_shot: bool = False


def labels(stack: str, part: str) -> dict[str, str]:
    """What tells a stack's containers, networks and volumes from everybody else's."""
    return {LABEL_STACK: stack, LABEL_PART: part, **identity_labels(stack)}


def container(name: str, args: ContainerArgs, opts: pulumi.ResourceOptions) -> docker.Container:
    """One container, hardened; ``one_shot`` ones end, and their exit code is read."""
    every_label = {**labels(args.stack, args.part), **args.labels}
    return docker.Container(
        name,
        name=resource_name(args.stack, args.part),
        image=args.image,
        command=list(args.command) or None,
        user="0:0" if args.uid is None else f"{args.uid}:{args.uid}",
        envs=[pulumi.Output.concat(key, "=", args.envs[key]) for key in sorted(args.envs)] or None,
        labels=[
            docker.ContainerLabelArgs(label=key, value=every_label[key])
            for key in sorted(every_label)
        ],
        network_mode="none" if args.network is None else None,
        networks_advanced=None
        if args.network is None
        else [
            docker.ContainerNetworksAdvancedArgs(
                name=args.network, aliases=[args.alias] if args.alias else None
            )
        ],
        ports=[
            docker.ContainerPortArgs(internal=port.inside, external=port.outside, ip="127.0.0.1")
            for port in sorted(args.ports, key=lambda port: port.inside)
        ]
        or None,
        volumes=[
            docker.ContainerVolumeArgs(
                volume_name=mount.volume, container_path=mount.path, read_only=not mount.writable
            )
            for mount in args.mounts
        ]
        or None,
        tmpfs=dict(args.tmpfs) or None,
        uploads=[
            docker.ContainerUploadArgs(file=path, content=content, permissions="0400")
            for path, content in args.uploads.items()
        ]
        or None,
        healthcheck=None
        if args.health is None
        else docker.ContainerHealthcheckArgs(
            tests=["CMD", *args.health.command],
            interval=args.health.interval,
            timeout=args.health.timeout,
            start_period=args.health.start_period,
            retries=args.health.retries,
        ),
        wait=args.health is not None and args.health_wait_s > 0,
        wait_timeout=args.health_wait_s or None,
        capabilities=docker.ContainerCapabilitiesArgs(
            drops=["ALL"],
            adds=[f"CAP_{capability}" for capability in sorted(args.capabilities)] or None,
        ),
        security_opts=["no-new-privileges:true"],
        # Docker refuses to upload into a read-only root.
        read_only=not args.uploads,
        memory=args.memory_mb,
        memory_swap=args.memory_mb,
        shm_size=args.shm_mb,
        ulimits=None
        if args.uid is None
        else [docker.ContainerUlimitArgs(name="nproc", soft=PROCESS_LIMIT, hard=PROCESS_LIMIT)],
        log_driver="json-file",
        log_opts={"max-file": "3", "max-size": "10m"},
        restart=args.restart,
        destroy_grace_seconds=args.stop_s,
        must_run=not args.one_shot,
        attach=args.one_shot,
        logs=args.one_shot,
        rm=False,
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                replace_on_changes=["healthcheck", "init", "tmpfs"],
                delete_before_replace=True,
                additional_secret_outputs=["containerLogs"],
            ),
        ),
    )
