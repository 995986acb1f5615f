"""The one factory of containers. A unit test forbids ``docker.Container`` elsewhere.

What every container has in common stands here: not root, no capabilities, no new
privileges, a read-only root, limits, log rotation, labels. Works around
updates that pulumi-docker reports but does not apply: editing a health check,
``init`` or ``tmpfs`` replaces the container. Docker stores twice the memory as swap,
which would differ for ever, so ``memory_swap`` is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker

from pandom.config.container_specs import PROCESS_LIMIT, ContainerSpec
from pandom.runtime.naming import LABEL_PART, LABEL_STACK
from stacks.identity import identity_labels


@dataclass(frozen=True)
class Wiring:
    """What a container gets from other resources; ``volumes`` by part, those it mounts."""

    image: pulumi.Input[str]
    network: pulumi.Input[str] | None = None
    volumes: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    uploads: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    labels: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)


def labels(stack: str, part: str) -> dict[str, str]:
    """Return the labels that tell a stack's objects from everybody else's."""
    return {LABEL_STACK: stack, LABEL_PART: part, **identity_labels(stack)}


def container(
    name: str, spec: ContainerSpec, wiring: Wiring, opts: pulumi.ResourceOptions
) -> docker.Container:
    """Create one hardened container; a ``one_shot`` one ends, and its exit code is read."""
    every_label = {**labels(spec.stack, spec.part), **wiring.labels}
    return docker.Container(
        name,
        name=spec.name,
        image=wiring.image,
        command=list(spec.command) or None,
        user=spec.user,
        envs=[f"{key}={value}" for key, value in sorted(spec.environment.items())] or None,
        labels=[
            docker.ContainerLabelArgs(label=key, value=every_label[key])
            for key in sorted(every_label)
        ],
        network_mode=None if spec.networked else "none",
        networks_advanced=None
        if wiring.network is None
        else [
            docker.ContainerNetworksAdvancedArgs(
                name=wiring.network, aliases=[spec.alias] if spec.alias else None
            )
        ],
        ports=[
            docker.ContainerPortArgs(internal=port.inside, external=port.outside, ip="127.0.0.1")
            for port in sorted(spec.ports, key=lambda port: port.inside)
        ]
        or None,
        volumes=[
            docker.ContainerVolumeArgs(
                volume_name=wiring.volumes[mount.volume],
                container_path=mount.path,
                read_only=not mount.writable,
            )
            for mount in spec.mounts
        ]
        or None,
        tmpfs=dict(spec.tmpfs) or None,
        uploads=[
            docker.ContainerUploadArgs(file=path, content=content, permissions="0400")
            for path, content in wiring.uploads.items()
        ]
        or None,
        healthcheck=None
        if spec.health is None
        else docker.ContainerHealthcheckArgs(
            tests=["CMD", *spec.health.command],
            interval=spec.health.interval,
            timeout=spec.health.timeout,
            start_period=spec.health.start_period,
            retries=spec.health.retries,
        ),
        wait=spec.health is not None and spec.health_wait_s > 0,
        wait_timeout=spec.health_wait_s or None,
        capabilities=docker.ContainerCapabilitiesArgs(
            drops=["ALL"],
            adds=[f"CAP_{capability}" for capability in sorted(spec.capabilities)] or None,
        ),
        security_opts=["no-new-privileges:true"],
        read_only=spec.read_only,
        memory=spec.memory_mb,
        memory_swap=spec.memory_mb,
        shm_size=spec.shm_mb,
        ulimits=None
        if spec.uid is None
        else [docker.ContainerUlimitArgs(name="nproc", soft=PROCESS_LIMIT, hard=PROCESS_LIMIT)],
        log_driver="json-file",
        log_opts={"max-file": "3", "max-size": "10m"},
        restart=spec.restart,
        destroy_grace_seconds=spec.stop_s,
        must_run=not spec.one_shot,
        attach=spec.one_shot,
        logs=spec.one_shot,
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
