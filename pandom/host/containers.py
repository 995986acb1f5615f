"""Running containers as facts, and what the program declares of them (the audit's --host).

Pulumi's state is not asked, so that a refresh cannot hide changes by hand. Only the host can ask:
no container gets Docker's socket, and one that mounts it is a finding.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import docker.errors

from pandom.config.container_specs import PROCESS_LIMIT, ContainerSpec, container_specs
from pandom.database.drift.facts import Fact, Facts
from pandom.host import lock
from pandom.host.engine import PASSING, Engine
from pandom.host.stack import Stack, settings
from pandom.host.state import IMAGE, State
from pandom.runtime.naming import LABEL_PART, LABEL_STACK, resource_name

Inspect = Mapping[str, Any]
_SHARED: Final = ("PidMode", "IpcMode", "UTSMode", "UsernsMode")


def declared(specs: Iterable[ContainerSpec], images: Mapping[str, str]) -> Facts:
    """Return the declared facts of containers; ``images`` has digests by folder."""
    facts: Facts = {}
    for spec in specs:
        digest = images.get(spec.image, "not built")
        for detail, value in _asked(spec, digest).items():
            facts[Fact("container", spec.name, detail)] = value
    return facts


def actual(stack: Stack, engine: Engine) -> Facts:
    """Return what Docker has: the stack's containers, and any other that reaches into the stack."""
    api = engine.client.api
    volumes, networks = set(engine.volumes()), set(engine.networks())
    facts: Facts = {}
    works = lock.is_held(stack)
    for entry in api.containers(all=True):
        try:
            inspect = api.inspect_container(entry["Id"])
        except docker.errors.NotFound:  # removed since it was listed
            continue
        name = inspect["Name"].lstrip("/")
        labels = inspect["Config"].get("Labels") or {}
        mounted = {one.get("Name") for one in inspect["Mounts"]} & volumes
        joined = {
            one.get("NetworkID")
            for one in (inspect["NetworkSettings"].get("Networks") or {}).values()
        } & networks
        own = labels.get(LABEL_STACK) == stack.name
        if not (own or mounted or joined) or _is_shell(stack, name, mounted):
            continue
        if works and own and labels.get(LABEL_PART) in PASSING:
            continue
        image: Inspect = {"Config": {}}
        with contextlib.suppress(docker.errors.ImageNotFound):  # a container may outlive it
            image = api.inspect_image(inspect["Image"])
        for detail, value in _found(inspect, image).items():
            facts[Fact("container", name, detail)] = value
    return facts


def read(name: str, state: State | None = None) -> tuple[Facts, Facts]:
    """Return declared and actual facts, with the images that ``state`` says were built last.

    Raises SettingsError for a stack's file with mistakes, DockerSilent when Docker does not
    answer.
    """
    stack, engine = Stack(name), Engine(name)
    images = {
        one.urn.rpartition("::")[2].removesuffix("-image"): str(one.outputs.get("repoDigest"))
        for one in (state or stack.recorded()).of_type(IMAGE)
    }
    specs = container_specs(settings(stack)).values()
    for folder, digest in images.items():
        try:
            images[folder] = str(engine.client.api.inspect_image(digest)["Id"])
        except docker.errors.APIError:
            images[folder] = f"{digest}, which is not there"
    return declared(specs, images), actual(stack, engine)


def _is_shell(stack: Stack, name: str, mounted: set[Any]) -> bool:
    """Return whether it is somebody's open `pandom shell`: one secret, no port."""
    pattern = re.escape(resource_name(stack.name, "shell")) + r"-[0-9]+"
    own = {resource_name(stack.name, "keys-operator")}
    return bool(re.fullmatch(pattern, name)) and mounted <= own


def _lines(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "none"


def _asked(spec: ContainerSpec, image: str) -> dict[str, str]:
    """Return a container's facts as the program declares them."""
    health = ("CMD", *spec.health.command) if spec.health else ("none",)
    return {
        "part": spec.part,
        "image": image,
        "command": " ".join(spec.command),
        "user": spec.user,
        "privileged": "false",
        "capabilities": _capabilities(["ALL"], spec.capabilities),
        "security options": "no-new-privileges:true",
        "root": "read-only" if spec.read_only else "writable",
        "shares with the host": "none",
        "devices": "none",
        "mounts": _lines(
            f"{resource_name(spec.stack, mount.volume)} at {mount.path} "
            + ("writable" if mount.writable else "read-only")
            for mount in spec.mounts
        ),
        "temporary": _lines(spec.tmpfs),
        "ports": _lines(f"127.0.0.1:{port.outside} to {port.inside}" for port in spec.ports),
        "networks": resource_name(spec.stack, "network") if spec.networked else "none",
        "memory": f"{spec.memory_mb} MB, swap {spec.memory_mb} MB",
        "processes": "none" if spec.uid is None else f"nproc {PROCESS_LIMIT}",
        "restart": spec.restart,
        "environment": _lines(spec.environment),
        "health check": " ".join(health),
    }


def _found(inspect: Inspect, image: Inspect) -> dict[str, str]:
    """Return the same facts from Docker."""
    config, host = inspect["Config"], inspect["HostConfig"]
    of_image = set(image["Config"].get("Env") or ())
    own_check = image["Config"].get("Healthcheck")
    check = config.get("Healthcheck")
    shared = [name for name in _SHARED if host.get(name) == "host"]
    limits = host.get("Ulimits") or ()
    return {
        "part": (config.get("Labels") or {}).get(LABEL_PART, "none"),
        "image": inspect["Image"],
        "command": " ".join(config.get("Cmd") or ()),
        "user": config.get("User") or "root",
        "privileged": str(bool(host["Privileged"])).lower(),
        "capabilities": _capabilities(host.get("CapDrop") or (), host.get("CapAdd") or ()),
        "security options": _lines(host.get("SecurityOpt") or ()),
        "root": "read-only" if host["ReadonlyRootfs"] else "writable",
        "shares with the host": _lines(shared),
        "devices": _lines(one["PathOnHost"] for one in host.get("Devices") or ()),
        "mounts": _lines(
            f"{one.get('Name') or one.get('Source')} at {one['Destination']} "
            + ("writable" if one["RW"] else "read-only")
            for one in inspect["Mounts"]
        ),
        "temporary": _lines((host.get("Tmpfs") or {}).keys()),
        "ports": _lines(
            f"{place['HostIp'] or 'every address'}:{place['HostPort']} to {port.split('/')[0]}"
            for port, places in (host.get("PortBindings") or {}).items()
            for place in places
        ),
        "networks": _lines((inspect["NetworkSettings"].get("Networks") or {}).keys()),
        "memory": f"{host['Memory'] >> 20} MB, swap {host['MemorySwap'] >> 20} MB",
        "processes": _lines(f"{one['Name']} {one['Hard']}" for one in limits),
        "restart": host["RestartPolicy"]["Name"] or "no",
        "environment": _lines(
            one.partition("=")[0] for one in config.get("Env") or () if one not in of_image
        ),
        "health check": "none"
        if check is None or check == own_check
        else " ".join(check.get("Test") or ("none",)),
    }


def _capabilities(drops: Iterable[str], adds: Iterable[str]) -> str:
    added = _lines(name.removeprefix("CAP_") for name in adds)
    return f"drops {_lines(drops)}, adds {added}"
