"""Running containers as facts, and what the program declares of them (the audit's host scope).

The declaration is the program itself: it runs against an engine that only writes down
what it is asked for, so that neither Pulumi's state nor a refresh of it can hide what
somebody changed by hand. Nobody but the host asks this: no container ever gets Docker's
socket, and one that mounts it is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import runpy
from collections.abc import Iterable, Mapping
from typing import Any, Final

import docker.errors
import pulumi
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks

from pandom.audit.facts import Fact, Facts
from pandom.host.engine import Engine
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack, read_file
from pandom.host.state import CONTAINER, IMAGE, RANDOM, State
from pandom.naming import LABEL_PART, LABEL_STACK, PROJECT, resource_name
from pandom.paths import ROOT, ca_certificate
from stacks.settings import SECRET_KEYS
from toolchain import environment

Inspect = Mapping[str, Any]
# A value that passes every rule for secrets; it is in no fact.
_PLACEHOLDER: Final = "a-Placeholder-0123456789"
_SHARED: Final = ("PidMode", "IpcMode", "UTSMode", "UsernsMode")


class _Writer(Mocks):
    """Answers as the engine would after an `up`, and keeps every container's inputs."""

    def __init__(self, images: Mapping[str, str], certificate: str) -> None:
        self.images = images
        self.certificate = certificate
        self.containers: dict[str, Mapping[str, Any]] = {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        outputs = dict(args.inputs)
        if args.typ == CONTAINER:
            self.containers[str(args.inputs["name"])] = args.inputs
            outputs |= {"exitCode": 0, "containerLogs": self.certificate}
        elif args.typ == IMAGE:
            outputs["repoDigest"] = self.images.get(str(args.inputs["imageName"]), "not built")
        elif args.typ == RANDOM:
            outputs["result"] = _PLACEHOLDER
        return f"{args.name}-id", outputs

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls no function, found {args.token}")


def declared(stack: Stack, state: State) -> Facts:
    """What the program asks for, with the stack's settings and the images it built last."""
    config = {
        key if ":" in key else f"{PROJECT}:{key}": _PLACEHOLDER
        if isinstance(value, Mapping)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
        for key, value in read_file(stack).items()
    }
    images = {
        str(one.inputs.get("imageName")): str(one.outputs.get("repoDigest"))
        for one in state.of_type(IMAGE)
    }
    # The job's output as it is: the program writes what differs to the stack's folder.
    writer = _Writer(images, ca_certificate(stack.name).read_text())
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(writer, project=PROJECT, stack=stack.name, preview=False)
    pulumi.runtime.set_all_config(config, [f"{PROJECT}:{key}" for key in SECRET_KEYS])

    def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"))

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # untyped in the SDK
    facts: Facts = {}
    for name, inputs in writer.containers.items():
        for detail, value in _asked(inputs).items():
            facts[Fact("container", name, detail)] = value
    return facts


def actual(stack: Stack, engine: Engine) -> Facts:
    """What Docker has: the stack's containers, and any other that reaches into the stack."""
    api = engine.client.api
    volumes, networks = set(engine.volumes()), set(engine.networks())
    facts: Facts = {}
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
        image: Inspect = {"Config": {}}
        with contextlib.suppress(docker.errors.ImageNotFound):  # a container may outlive it
            image = api.inspect_image(inspect["Image"])
        for detail, value in _found(inspect, image).items():
            facts[Fact("container", name, detail)] = value
    return facts


def read(name: str, state: State | None = None) -> tuple[Facts, Facts]:
    """Declared and actual of a stack; ``state`` as Pulumi has it, asked for if there is none.

    Raises DockerSilent when Docker does not answer.
    """
    stack, engine = Stack(name), Engine(name)
    if state is None:
        state = State(Pulumi(stack, environment.find().variables).export())
    expected = declared(stack, state)
    for fact, value in list(expected.items()):
        if fact.detail == "image":
            try:
                expected[fact] = str(engine.client.api.inspect_image(value)["Id"])
            except docker.errors.APIError:
                expected[fact] = f"{value}, which is not there"
    return expected, actual(stack, engine)


def _is_shell(stack: Stack, name: str, mounted: set[Any]) -> bool:
    """`pandom shell` of somebody who works in it: one secret, no port."""
    pattern = re.escape(resource_name(stack.name, "shell")) + r"-\d+"
    own = {resource_name(stack.name, "keys-operator")}
    return bool(re.fullmatch(pattern, name)) and mounted <= own


def _lines(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "none"


def _asked(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The program's words for a container."""
    networks = [one["name"] for one in inputs.get("networksAdvanced") or ()]
    health = inputs.get("healthcheck") or {}
    capabilities = inputs["capabilities"]
    labels = {one["label"]: one["value"] for one in inputs["labels"]}
    return {
        "part": labels[LABEL_PART],
        "image": str(inputs["image"]),
        "command": " ".join(inputs.get("command") or ()),
        "user": inputs["user"],
        "privileged": "false",
        "capabilities": _capabilities(capabilities["drops"], capabilities.get("adds") or ()),
        "security options": _lines(inputs["securityOpts"]),
        "root": "read-only" if inputs["readOnly"] else "writable",
        "shares with the host": "none",
        "devices": "none",
        "mounts": _lines(
            f"{one['volumeName']} at {one['containerPath']} "
            + ("read-only" if one.get("readOnly") else "writable")
            for one in inputs.get("volumes") or ()
        ),
        "temporary": _lines((inputs.get("tmpfs") or {}).keys()),
        "ports": _lines(
            f"{one['ip']}:{int(one['external'])} to {int(one['internal'])}"
            for one in inputs.get("ports") or ()
        ),
        "networks": _lines(networks or [inputs.get("networkMode") or "bridge"]),
        "memory": f"{int(inputs['memory'])} MB, swap {int(inputs['memorySwap'])} MB",
        "processes": _lines(f"{one['name']} {int(one['hard'])}" for one in inputs["ulimits"])
        if inputs.get("ulimits")
        else "none",
        "restart": inputs["restart"],
        "environment": _lines(one.partition("=")[0] for one in inputs.get("envs") or ()),
        "health check": " ".join(health.get("tests") or ("none",)),
    }


def _found(inspect: Inspect, image: Inspect) -> dict[str, str]:
    """Docker's words for the same."""
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
