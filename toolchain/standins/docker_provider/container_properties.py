"""The properties of docker Container, and when two lists of ports are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from toolchain.standins.docker_provider import labels
from toolchain.standins.properties import Property, Table
from toolchain.standins.values import is_unknown


def _fixed(kind: Any, **rules: Any) -> Property:
    """Return a property whose change replaces the container."""
    return Property(kind=kind, replaces=True, **rules)


_DURATION: Final = Property(
    kind="string", default="0s", allowed=r"[+]?(\d+(\.\d*)?(ns|us|ms|s|m|h))+|0"
)
_HEALTHCHECK: Final[Table] = {
    "tests": Property(kind="list"),
    "interval": _DURATION,
    "timeout": _DURATION,
    "startPeriod": _DURATION,
    "startInterval": _DURATION,
    "retries": Property(kind="integer", default=0, least=0),
}
_CAPABILITIES: Final[Table] = {"adds": _fixed("set"), "drops": _fixed("set")}
# Nothing in here replaces, as in the official schema: editing a mount is a silent no-op
# there. The program asks for the replacement by replace_on_changes.
_MOUNT: Final[Table] = {
    "target": Property(kind="string", required=True),
    "source": Property(kind="string"),
    "type": Property(kind="string", required=True, allowed="bind|volume|tmpfs"),
    "readOnly": Property(kind="boolean"),
    "bindOptions": Property(
        kind="block",
        items={
            "propagation": Property(
                kind="string", allowed="private|rprivate|shared|rshared|slave|rslave"
            )
        },
    ),
    "volumeOptions": Property(kind="block", items={}),
    "tmpfsOptions": _fixed(
        "block",
        items={"sizeBytes": Property(kind="integer"), "mode": Property(kind="integer")},
    ),
}
_NETWORK: Final[Table] = {
    "name": _fixed("string", required=True),
    "aliases": _fixed("set"),
    "driverOpts": _fixed("set"),
    "gwPriority": _fixed("integer"),
    "ipv4Address": _fixed("string"),
    "ipv6Address": _fixed("string"),
    "linkLocalIps": _fixed("set"),
    "macAddress": _fixed("string"),
}
_PORT: Final[Table] = {
    "internal": _fixed("integer", required=True),
    "external": _fixed("integer", computed=True),
    "ip": _fixed("string", default="0.0.0.0"),  # noqa: S104 -- the official default
    "protocol": _fixed("string", default="tcp"),
}
_ULIMIT: Final[Table] = {
    "name": _fixed("string", required=True),
    "soft": _fixed("integer", required=True),
    "hard": _fixed("integer", required=True),
}
_UPLOAD: Final[Table] = {
    "content": _fixed("string"),
    "contentBase64": _fixed("string"),
    "executable": _fixed("boolean", default=False),
    "file": _fixed("string", required=True),
    "permissions": _fixed("string", allowed="0[0-7]{3}"),
    "source": _fixed("string"),
    "sourceHash": _fixed("string"),
}
_VOLUME: Final[Table] = {
    "containerPath": _fixed("string"),
    "fromContainer": _fixed("string"),
    "hostPath": _fixed("string", allowed="/.*"),
    "readOnly": _fixed("boolean"),
    "selinuxRelabel": _fixed("string", allowed="z|Z"),
    "volumeName": _fixed("string"),
}

CONTAINER: Final[Table] = {
    "name": _fixed("string", required=True),
    "image": _fixed("string", required=True),
    "attach": Property(kind="boolean", default=False),
    "capabilities": _fixed("block", items=_CAPABILITIES),
    "command": _fixed("list", computed=True),
    "containerReadRefreshTimeoutMilliseconds": Property(kind="integer", default=15000),
    "cpuSet": Property(kind="string", allowed=r"\d+([,-]\d+)*"),
    "cpuShares": Property(kind="integer", least=0),
    "destroyGraceSeconds": Property(kind="integer"),
    "dns": _fixed("set"),
    "domainname": _fixed("string"),
    "entrypoints": _fixed("list", computed=True),
    "envs": _fixed("set", computed=True),
    "groupAdds": _fixed("set"),
    "healthcheck": Property(kind="block", computed=True, items=_HEALTHCHECK),
    "hostname": _fixed("string", computed=True),
    "init": Property(kind="boolean", computed=True),
    "ipcMode": _fixed("string", computed=True),
    "labels": _fixed("block-set", computed=True, items=labels.LABEL),
    "logDriver": _fixed("string", computed=True),
    "logOpts": _fixed("map"),
    "logs": Property(kind="boolean", default=False),
    "maxRetryCount": Property(kind="integer"),
    "memory": Property(kind="integer", least=0),
    "memoryReservation": Property(kind="integer", default=0, least=0),
    "memorySwap": Property(kind="integer", least=-1),
    "mounts": _fixed("block-set", items=_MOUNT),
    "mustRun": Property(kind="boolean", default=True),
    "networkMode": _fixed("string", default="bridge"),
    "networksAdvanced": _fixed("block-set", items=_NETWORK),
    "pidMode": _fixed("string"),
    "ports": _fixed("block-list", items=_PORT),
    "privileged": _fixed("boolean"),
    "publishAllPorts": _fixed("boolean"),
    "readOnly": _fixed("boolean", default=False),
    "removeVolumes": Property(kind="boolean", default=True),
    "restart": Property(kind="string", default="no", allowed="no|on-failure|always|unless-stopped"),
    "rm": Property(kind="boolean", default=False),
    "securityOpts": _fixed("set", computed=True),
    "shmSize": _fixed("integer", computed=True, least=0),
    "start": Property(kind="boolean", default=True),
    "stdinOpen": _fixed("boolean", default=False),
    "stopSignal": _fixed("string", computed=True),
    "stopTimeout": _fixed("integer", computed=True),
    "sysctls": _fixed("map"),
    "tmpfs": Property(kind="map"),
    "tty": _fixed("boolean", default=False),
    "ulimits": _fixed("block-set", items=_ULIMIT),
    "uploads": _fixed("block-set", items=_UPLOAD),
    "user": _fixed("string", kept_when_empty=True),
    "usernsMode": _fixed("string"),
    "volumes": _fixed("block-set", items=_VOLUME),
    "wait": Property(kind="boolean", default=False),
    "waitTimeout": Property(kind="integer", default=60),
    "workingDir": _fixed("string", kept_when_empty=True),
    "bridge": Property(kind="string", output=True),
    "containerLogs": Property(kind="string", output=True),
    "exitCode": Property(kind="integer", output=True),
    "networkDatas": Property(kind="list", output=True),
    "platform": Property(kind="string", output=True),
    "runtime": Property(kind="string", output=True),
}


def same_ports(old: Any, new: Any) -> bool:
    """Return whether both lists publish the same ports; one that was left open may be any."""
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return False
    left = [dict(item) for item in old]
    for item in new:
        if is_unknown(item):
            return False
        match = next((port for port in left if _same_port(port, item)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_port(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return (
        old.get("internal") == new.get("internal")
        and (new.get("external") is None or old.get("external") == new["external"])
        and old.get("ip") == (new.get("ip") or "0.0.0.0")  # noqa: S104
        and old.get("protocol") == (new.get("protocol") or "tcp")
    )
