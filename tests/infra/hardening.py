"""What every container of a stack must look like in ``docker inspect``; one rule each.

``findings`` lists what breaks a rule, so that a test can show each rule failing on
a container that was broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pandom.runtime.naming import KEYS_MOUNT, LABEL_OWNER, LABEL_PART, LABEL_STACK

Inspect = Mapping[str, Any]

# The keys job alone runs as root, with what it needs to give files to their readers,
# and writes its uploaded request into its own root.
ROOT_PART = "keys"
CAPABILITIES = {ROOT_PART: {"CHOWN", "DAC_OVERRIDE", "FOWNER"}}
PORTS = {"postgres": {"5432/tcp"}, "minio": {"9000/tcp"}, "metrics": {"9187/tcp"}}


def part(inspect: Inspect) -> str:
    return str(inspect["Config"]["Labels"].get(LABEL_PART))


def not_root(inspect: Inspect) -> Iterator[str]:
    user = inspect["Config"]["User"].split(":")[0]
    if part(inspect) != ROOT_PART and (not user.isdigit() or int(user) == 0):
        yield f"runs as {user or 'root'}"


def capabilities(inspect: Inspect) -> Iterator[str]:
    host = inspect["HostConfig"]
    if host["CapDrop"] != ["ALL"]:
        yield f"drops {host['CapDrop']}, not all capabilities"
    added = {name.removeprefix("CAP_") for name in host["CapAdd"] or ()}
    if extra := added - CAPABILITIES.get(part(inspect), set()):
        yield f"has the capabilities {sorted(extra)}"
    if host["Privileged"]:
        yield "is privileged"


def privileges(inspect: Inspect) -> Iterator[str]:
    options = inspect["HostConfig"]["SecurityOpt"] or []
    if not {"no-new-privileges", "no-new-privileges:true"} & set(options):
        yield "may gain new privileges"
    if any("unconfined" in option for option in options):
        yield "has no seccomp or AppArmor profile"


def read_only(inspect: Inspect) -> Iterator[str]:
    if part(inspect) != ROOT_PART and not inspect["HostConfig"]["ReadonlyRootfs"]:
        yield "has a writable root"


def limits(inspect: Inspect) -> Iterator[str]:
    host = inspect["HostConfig"]
    if not host["Memory"]:
        yield "has no memory limit"
    elif host["MemorySwap"] != host["Memory"]:
        yield "may swap"
    processes = [one["Hard"] for one in host["Ulimits"] or () if one["Name"] == "nproc"]
    limited = (host["PidsLimit"] or 0) > 0 or any(limit > 0 for limit in processes)
    if part(inspect) != ROOT_PART and not limited:
        yield "has no limit of processes"


def separation(inspect: Inspect) -> Iterator[str]:
    host = inspect["HostConfig"]
    for space in ("NetworkMode", "PidMode", "IpcMode", "UTSMode"):
        if host[space] == "host":
            yield f"shares the host's {space}"
    if part(inspect) == ROOT_PART and host["NetworkMode"] != "none":
        yield "has a network, and all secrets"


def ports(inspect: Inspect) -> Iterator[str]:
    bindings = inspect["HostConfig"]["PortBindings"] or {}
    if extra := set(bindings) - PORTS.get(part(inspect), set()):
        yield f"publishes {sorted(extra)}"
    for port, places in bindings.items():
        for place in places:
            if place["HostIp"] != "127.0.0.1":
                yield f"publishes {port} on {place['HostIp'] or 'every address'}"


def logs(inspect: Inspect) -> Iterator[str]:
    config = inspect["HostConfig"]["LogConfig"]
    if not {"max-size", "max-file"} <= set(config["Config"] or {}):
        yield "has a log without rotation"


def mounts(inspect: Inspect) -> Iterator[str]:
    for mount in inspect["Mounts"]:
        if mount["Type"] == "bind":
            yield f"mounts {mount['Source']} of the host"
        if mount["Destination"] == str(KEYS_MOUNT) and mount["RW"]:
            yield "may write its own secrets"


def labels(inspect: Inspect) -> Iterator[str]:
    if missing := {LABEL_STACK, LABEL_PART, LABEL_OWNER} - set(inspect["Config"]["Labels"]):
        yield f"lacks the labels {sorted(missing)}"


RULES: tuple[Callable[[Inspect], Iterator[str]], ...] = (
    not_root,
    capabilities,
    privileges,
    read_only,
    limits,
    separation,
    ports,
    logs,
    mounts,
    labels,
)


def findings(inspect: Inspect) -> list[str]:
    """Every broken rule of one container."""
    return [finding for rule in RULES for finding in rule(inspect)]
