"""Makes Docker and Pulumi's state agree before an `up`; never removes a volume.

Containers of a killed run would conflict by name; a stopped server cannot be refreshed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import docker.errors

from pandom.config.settings import Settings
from pandom.host.engine import Container, Engine
from pandom.host.stack import Stack
from pandom.host.state import (
    CONTAINER,
    IMAGE,
    NETWORK,
    POSTGRESQL_PROVIDER,
    RANDOM,
    ROLE,
    VOLUME,
    State,
)
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import LABEL_PART, LABEL_STACK, resource_name
from pandom.runtime.progress import say, step

# What must be there before the server can be asked anything.
SERVERS = ("postgres", "minio")
# Parts whose volumes hold data that cannot be recreated.
DATA = {"data": "the database", "objects": "the object store"}
_FOUNDATION = (*SERVERS, "keys")
# The keys job with what it needs, and nothing that signs in anywhere.
KEYS = (
    *(f"**{kind}::**" for kind in (NETWORK, VOLUME, IMAGE, RANDOM)),
    f"**{CONTAINER}::keys-container",
    "**pandom-stack:index:Job::keys",
)
_ANY_FOUNDATION = (*KEYS, *(f"**{CONTAINER}::{part}-container" for part in SERVERS))


def remove_unknown(engine: Engine, state: State) -> int:
    """Remove the stack's containers and networks that the state does not know."""
    containers = [container for container in engine.containers() if container.id not in state.ids]
    for container in containers:
        say(f"  removed container {container.name}, left by an interrupted run")
        engine.remove_container(container.id)
    networks = {key: name for key, name in engine.networks().items() if key not in state.ids}
    for identity, name in networks.items():
        say(f"  removed network {name}, left by an interrupted run")
        engine.remove_network(identity)
    return len(containers) + len(networks)


def lost_for_good(engine: Engine, state: State) -> list[str]:
    """Return the volumes with people's data that the state knows and Docker has no longer."""
    known = {
        resource.name
        for resource in state.of_type(VOLUME)
        if resource.label.get(LABEL_PART) in DATA
    }
    if state.completed and (stack := state.label(LABEL_STACK)):
        # A refresh after the loss removes them from the state.
        known |= {resource_name(stack, part) for part in DATA}
    return sorted(one for one in known if not engine.has_volume(one))


def refuse_lost(stack: Stack, lost: list[str], settings: Settings) -> None:
    """Raise UsageError unless somebody said that new, empty volumes are wanted."""
    if not lost:
        return
    what = " and ".join(f"{name} ({DATA[name.rpartition('-')[2]]})" for name in lost)
    if settings.profile.durable and os.environ.get("CONFIRM") != stack.name:
        raise UsageError(
            f"Gone from Docker, with everything in it: {what}.\n"
            "Nothing was touched. Next, one of:\n"
            "  put the volume back from your backup (docs/runbook.md, A volume is gone);\n"
            "  begin with new, empty volumes:\n"
            f"    CONFIRM={stack.name} .venv/bin/pandom up --stack {stack.name}"
        )
    say(f"  gone from Docker, with everything in it: {what}; making new, empty ones")


@dataclass
class Findings:
    """What is off: ``targets`` are brought up first, ``replace`` are made anew."""

    targets: list[str] = field(default_factory=list)
    replace: list[str] = field(default_factory=list)


def start_stopped(engine: Engine, state: State) -> list[str]:
    """Start servers that were stopped; return their parts. One that cannot start is removed."""
    wanted = {resource.id for resource in state.of_type(CONTAINER) if not resource.one_shot}
    networks = engine.networks()
    started = []
    for container in engine.containers():
        if container.id not in wanted or container.status not in (
            "exited",
            "created",
            "paused",
            "dead",
        ):
            continue
        with step(f"starting {container.part}, which was {container.status}"):
            if not container.networks or any(
                network not in networks for network in container.networks
            ):
                engine.remove_container(container.id)
                continue
            try:
                engine.start(container)
                started.append(container.part)
            except docker.errors.APIError:
                engine.remove_container(container.id)
    return started


def make_way(engine: Engine, ports: Mapping[str, int]) -> list[Container]:
    """Return the containers on a port that another part is to get, as when two are swapped.

    They must be gone before it can have the port; an exporter that is switched off leaves its
    port to whoever wants it.
    """
    wanted = {port: part for part, port in ports.items()}
    return [
        container
        for container in engine.containers()
        if any(wanted.get(port, container.part) != container.part for port in container.ports)
    ]


def examine(engine: Engine, state: State, ports: Mapping[str, int]) -> Findings:
    """Compare the state with the engine; ``ports`` are the servers' as they shall be."""
    findings = Findings()
    containers = {container.id: container for container in engine.containers()}
    networks = engine.networks()
    missing_volume = any(not engine.has_volume(resource.name) for resource in state.of_type(VOLUME))
    images = [
        resource.urn for resource in state.of_type(IMAGE) if not _present(engine, resource.outputs)
    ]
    off = (
        bool(images)
        or missing_volume
        or any(resource.id not in networks for resource in state.of_type(NETWORK))
        or any(
            _off(containers.get(resource.id), ports.get(resource.label[LABEL_PART]))
            for resource in state.of_type(CONTAINER)
            if resource.label.get(LABEL_PART) in SERVERS
        )
        or any(
            int(resource.inputs["port"]) != ports["postgres"]
            for resource in state.of_type(POSTGRESQL_PROVIDER)
        )
    )
    dropped = any(state.names(ROLE)) and not any(
        resource.label.get(LABEL_PART) == "postgres" for resource in state.of_type(CONTAINER)
    )
    findings.replace += images
    if missing_volume:
        # What the jobs made was in it.
        findings.replace += state.jobs
    else:
        # The provider counts a killed job as created.
        findings.replace += failed_jobs(containers.values(), state)
    if off or dropped:
        findings.targets = [
            resource.urn
            for resource in state.resources
            if resource.type in (NETWORK, VOLUME, IMAGE, RANDOM, POSTGRESQL_PROVIDER)
            or (resource.type == CONTAINER and resource.label.get(LABEL_PART) in _FOUNDATION)
        ]
        # What a refresh removed from the state, or this program is the first to have, has no URN.
        findings.targets += _ANY_FOUNDATION
    return findings


def there(engine: Engine, state: State, replace: Iterable[str]) -> list[str]:
    """Return those of ``replace`` that Pulumi can replace.

    The refresh drops containers that are gone from the state, and Pulumi refuses to replace what it
    does not know; they are recreated anyway.
    """
    containers = {container.id for container in engine.containers()}
    known = {
        resource.urn
        for resource in state.resources
        if resource.type != CONTAINER or resource.id in containers
    }
    return [urn for urn in replace if urn in known]


def failed_jobs(containers: Iterable[Container], state: State) -> list[str]:
    """Return the jobs whose containers ended with an error."""
    there = {container.id: container for container in containers}
    jobs = [resource for resource in state.of_type(CONTAINER) if resource.one_shot]
    return [resource.urn for resource in jobs if _failed(there.get(resource.id))]


def _failed(container: Container | None) -> bool:
    return container is not None and container.status == "exited" and container.exit_code != 0


def _off(container: Container | None, port: int | None) -> bool:
    """Return whether a server is missing, not well, or not on its port."""
    return container is None or not container.is_healthy or container.ports != (port,)


def _present(engine: Engine, outputs: object) -> bool:
    if not isinstance(outputs, dict):
        return True
    references = _references(outputs)
    return not references or any(engine.has_image(one) for one in references)


def _references(outputs: dict[str, object]) -> list[str]:
    """By digest: the tag may have been given to another image since."""
    digest = outputs.get("repoDigest") or outputs.get("imageName")
    return [str(digest)] if digest else []


def options(targets: Iterable[str], replace: Iterable[str]) -> list[str]:
    """Pulumi's options for them."""
    return [f"--target={urn}" for urn in targets] + [f"--replace={urn}" for urn in replace]
