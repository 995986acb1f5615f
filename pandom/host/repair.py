"""Makes Docker and Pulumi's state agree again before an `up`, at the least cost.

A killed run leaves containers that the state does not know: their names would be
in conflict. A stopped server leaves resources that cannot be read: a refresh of
the roles would fail. Data is in volumes, which nothing here removes.
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
# The parts whose volumes hold what nothing can make again.
DATA = {"data": "the database", "objects": "the object store"}
_FOUNDATION = (*SERVERS, "keys")
_ANY_FOUNDATION = (
    *(f"**{kind}::**" for kind in (NETWORK, VOLUME, IMAGE, RANDOM)),
    *(f"**{CONTAINER}::{part}-container" for part in _FOUNDATION),
    "**pandom-stack:index:Job::keys",
)


def remove_unknown(engine: Engine, state: State) -> int:
    """Remove the stack's containers and networks that the state does not know."""
    containers = [one for one in engine.containers() if one.id not in state.ids]
    for one in containers:
        say(f"  removed container {one.name}, left by an interrupted run")
        engine.remove_container(one.id)
    networks = {key: name for key, name in engine.networks().items() if key not in state.ids}
    for identity, name in networks.items():
        say(f"  removed network {name}, left by an interrupted run")
        engine.remove_network(identity)
    return len(containers) + len(networks)


def lost_for_good(engine: Engine, state: State) -> list[str]:
    """The volumes with people's data that the state knows and Docker has no longer."""
    known = {one.name for one in state.of_type(VOLUME) if one.label.get(LABEL_PART) in DATA}
    if state.completed and (stack := state.label(LABEL_STACK)):
        # A refresh after the loss takes them out of the state.
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
    """Start servers that were stopped by hand or by a reboot; return their parts.

    One that cannot start, for instance because its network is gone, is removed:
    it is made anew, its data is in a volume.
    """
    wanted = {one.id for one in state.of_type(CONTAINER) if not one.one_shot}
    networks = engine.networks()
    started = []
    for one in engine.containers():
        if one.id not in wanted or one.status not in ("exited", "created", "paused", "dead"):
            continue
        with step(f"starting {one.part}, which was {one.status}"):
            if not one.networks or any(network not in networks for network in one.networks):
                engine.remove_container(one.id)
                continue
            try:
                engine.start(one)
                started.append(one.part)
            except docker.errors.APIError:
                engine.remove_container(one.id)
    return started


def make_way(engine: Engine, ports: Mapping[str, int]) -> list[Container]:
    """The containers on a port that another one of the stack is to get, as when two are
    swapped: they must be gone before it can have it, and get ports of their own, if any."""
    wanted = {port: part for part, port in ports.items()}
    return [
        one
        for one in engine.containers()
        if any(wanted.get(port, one.part) != one.part for port in one.ports)
    ]


def examine(engine: Engine, state: State, ports: Mapping[str, int]) -> Findings:
    """Compare the state with the engine; ``ports`` are the servers' as they shall be."""
    findings = Findings()
    containers = {one.id: one for one in engine.containers()}
    networks = engine.networks()
    missing_volume = any(not engine.has_volume(one.name) for one in state.of_type(VOLUME))
    images = [one.urn for one in state.of_type(IMAGE) if not _present(engine, one.outputs)]
    off = (
        bool(images)
        or missing_volume
        or any(one.id not in networks for one in state.of_type(NETWORK))
        or any(
            _off(containers.get(one.id), ports.get(one.label[LABEL_PART]))
            for one in state.of_type(CONTAINER)
            if one.label.get(LABEL_PART) in SERVERS
        )
        or any(
            int(one.inputs["port"]) != ports["postgres"]
            for one in state.of_type(POSTGRESQL_PROVIDER)
        )
    )
    dropped = any(state.names(ROLE)) and not any(
        one.label.get(LABEL_PART) == "postgres" for one in state.of_type(CONTAINER)
    )
    findings.replace += images
    if missing_volume:
        # What the jobs made was in it.
        findings.replace += state.jobs
    else:
        # To the provider a job that was killed is made and done.
        findings.replace += failed_jobs(containers.values(), state)
    if off or dropped:
        findings.targets = [
            one.urn
            for one in state.resources
            if one.type in (NETWORK, VOLUME, IMAGE, RANDOM, POSTGRESQL_PROVIDER)
            or (one.type == CONTAINER and one.label.get(LABEL_PART) in _FOUNDATION)
        ]
    if dropped:
        # A refresh took what was gone out of the state, so there is no URN to name.
        findings.targets += _ANY_FOUNDATION
    return findings


def there(engine: Engine, state: State, replace: Iterable[str]) -> list[str]:
    """Those of ``replace`` that Pulumi can replace.

    A container that is gone from Docker leaves the state by the refresh, also outside of the
    targets, and Pulumi refuses to replace what it does not know; it is made anew anyway.
    """
    containers = {one.id for one in engine.containers()}
    known = {one.urn for one in state.resources if one.type != CONTAINER or one.id in containers}
    return [urn for urn in replace if urn in known]


def failed_jobs(containers: Iterable[Container], state: State) -> list[str]:
    """The jobs whose containers ended with an error."""
    there = {one.id: one for one in containers}
    jobs = [one for one in state.of_type(CONTAINER) if one.one_shot]
    return [one.urn for one in jobs if _failed(there.get(one.id))]


def _failed(container: Container | None) -> bool:
    return container is not None and container.status == "exited" and container.exit_code != 0


def _off(container: Container | None, port: int | None) -> bool:
    """Whether a server is missing, not well, or not on its port."""
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
