"""From ``docker inspect`` to a container's state; pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from toolchain.standins.docker_provider import durations
from toolchain.standins.values import Values

_MEBIBYTE: Final = 1024 * 1024


def observed(found: Mapping[str, Any], state: Values) -> Values:
    """Return what ``docker inspect`` says, in the shape of the state.

    Environment, labels and uploads are not read: the image's own would be mixed in. Some
    others are read only where they were given, so that the engine's defaults are no drift.
    """
    config, host, running = found["Config"], found["HostConfig"], found["State"]["Running"]
    network = found.get("NetworkSettings") or {}
    seen: Values = {
        "name": found["Name"].lstrip("/"),
        "image": found["Image"]
        if str(state.get("image") or "").startswith("sha256:")
        else config["Image"],
        "attach": bool(state.get("attach")),
        "rm": host["AutoRemove"],
        "readOnly": host["ReadonlyRootfs"],
        "hostname": config["Hostname"],
        "domainname": config["Domainname"],
        "command": config["Cmd"] or [],
        "entrypoints": config["Entrypoint"] or [],
        "user": config["User"],
        "dns": list(host["Dns"] or []) or None,
        "securityOpts": list(host["SecurityOpt"] or []),
        "publishAllPorts": host["PublishAllPorts"],
        "restart": host["RestartPolicy"]["Name"],
        "maxRetryCount": host["RestartPolicy"]["MaximumRetryCount"],
        "init": bool(host.get("Init")),
        "workingDir": config["WorkingDir"],
        "runtime": host["Runtime"],
        "platform": found["Platform"],
        "mounts": [_seen_mount(item) for item in host.get("Mounts") or []],
        "tmpfs": host.get("Tmpfs") or None,
        "privileged": host["Privileged"],
        "memory": host["Memory"] // _MEBIBYTE,
        "memoryReservation": host["MemoryReservation"] // _MEBIBYTE,
        "memorySwap": max(host["MemorySwap"] // _MEBIBYTE, -1),
        "shmSize": host["ShmSize"] // _MEBIBYTE,
        "cpuShares": host["CpuShares"],
        "cpuSet": host["CpusetCpus"],
        "logDriver": host["LogConfig"]["Type"],
        "logOpts": (host["LogConfig"].get("Config") or None) if state.get("logOpts") else None,
        "networkMode": host["NetworkMode"],
        "usernsMode": host["UsernsMode"],
        "sysctls": host.get("Sysctls") or None,
        "ipcMode": host["IpcMode"],
        "groupAdds": list(host.get("GroupAdd") or []) or None,
        "tty": config["Tty"],
        "stdinOpen": config["OpenStdin"],
        "stopSignal": config.get("StopSignal", ""),
        "stopTimeout": config.get("StopTimeout", 0),
        "bridge": network.get("Bridge", ""),
        "networkDatas": [
            {
                "networkName": name,
                "ipAddress": item["IPAddress"],
                "ipPrefixLength": item["IPPrefixLen"],
                "gateway": item["Gateway"],
                "globalIpv6Address": item["GlobalIPv6Address"],
                "globalIpv6PrefixLength": item["GlobalIPv6PrefixLen"],
                "ipv6Gateway": item["IPv6Gateway"],
                "macAddress": item["MacAddress"],
            }
            for name, item in sorted((network.get("Networks") or {}).items())
        ],
    }
    if host["CapAdd"] or host["CapDrop"]:
        seen["capabilities"] = {
            "adds": list(host["CapAdd"] or []),
            "drops": list(host["CapDrop"] or []),
        }
    check = config.get("Healthcheck")
    if check is not None:
        seen["healthcheck"] = {
            "tests": check.get("Test") or [],
            "interval": durations.text(check.get("Interval", 0)),
            "timeout": durations.text(check.get("Timeout", 0)),
            "startPeriod": durations.text(check.get("StartPeriod", 0)),
            "startInterval": durations.text(check.get("StartInterval", 0)),
            "retries": check.get("Retries", 0),
        }
    if state.get("ulimits"):
        seen["ulimits"] = [
            {"name": item["Name"], "soft": item["Soft"], "hard": item["Hard"]}
            for item in host.get("Ulimits") or []
        ]
    if state.get("ports") and (running or state.get("mustRun")):
        seen["ports"] = seen_ports(network.get("Ports") or {})
    if not running:
        seen["exitCode"] = found["State"]["ExitCode"]
        if state.get("mustRun"):
            # What makes the next run start the container again.
            seen["mustRun"] = False
    return seen


def _seen_mount(item: Mapping[str, Any]) -> Values:
    bind, tmpfs = item.get("BindOptions"), item.get("TmpfsOptions")
    return {
        "target": item["Target"],
        "source": item.get("Source", ""),
        "type": item["Type"],
        "readOnly": item.get("ReadOnly") or None,
        "bindOptions": {"propagation": bind.get("Propagation", "")} if bind else None,
        "volumeOptions": None,
        "tmpfsOptions": {"sizeBytes": tmpfs.get("SizeBytes"), "mode": tmpfs.get("Mode")}
        if tmpfs
        else None,
    }


def seen_ports(ports: Mapping[str, Any]) -> list[Values]:
    """Return the published ports in the order of their inner numbers."""
    published: list[Values] = []
    for key in sorted(ports, key=lambda item: int(item.split("/")[0])):
        internal, protocol = key.split("/")
        published.extend(
            {
                "internal": int(internal),
                "external": int(binding["HostPort"]),
                "ip": binding["HostIp"],
                "protocol": protocol,
            }
            for binding in ports[key] or []
        )
    return published
