"""From a container's state to what the engine is told; pure functions."""

from __future__ import annotations

import base64
import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from toolchain.standins.docker_provider import durations, labels
from toolchain.standins.interruption import OperationFailed
from toolchain.standins.values import Values, is_unknown

_MEBIBYTE: Final = 1024 * 1024


def packed(upload: Mapping[str, Any]) -> bytes:
    """Return the upload as a tar archive with one file, owned by root."""
    given = [key for key in ("content", "contentBase64", "source") if upload[key]]
    if len(given) != 1:
        raise OperationFailed(
            f"upload {upload['file']}: exactly one of 'content', 'contentBase64' and 'source' "
            f"must be set, found {given or 'none'}"
        )
    if upload["source"]:
        try:
            content = Path(upload["source"]).read_bytes()
        except OSError as error:
            raise OperationFailed(
                f"upload {upload['file']}: could not read file: {error}"
            ) from error
    elif upload["contentBase64"]:
        content = base64.b64decode(upload["contentBase64"])
    else:
        content = str(upload["content"]).encode()
    entry = tarfile.TarInfo(upload["file"].lstrip("/"))
    entry.size = len(content)
    entry.mtime = int(time.time())
    if upload["permissions"]:
        entry.mode = int(upload["permissions"], 8)
    else:
        entry.mode = 0o744 if upload["executable"] else 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def description(state: Values) -> dict[str, Any]:
    """Return the engine's description of a container to be made."""

    def given(name: str) -> Any:
        value = state.get(name)
        return None if is_unknown(value) else value

    binds, volumes, volumes_from = volume_mounts(given("volumes") or [])
    exposed, bindings = port_bindings(given("ports") or [])
    capabilities = given("capabilities") or {}
    options = given("securityOpts") or []
    config: dict[str, Any] = {
        "Image": state["image"],
        "Hostname": given("hostname") or "",
        "Domainname": given("domainname") or "",
        "User": given("user") or "",
        "Tty": bool(given("tty")),
        "OpenStdin": bool(given("stdinOpen")),
        "Env": given("envs") or None,
        "Cmd": given("command") or None,
        "Entrypoint": given("entrypoints") or None,
        "WorkingDir": given("workingDir") or "",
        "Labels": labels.to_engine(given("labels")),
        "ExposedPorts": exposed,
        "Volumes": volumes,
        "StopSignal": given("stopSignal") or "",
        "StopTimeout": given("stopTimeout"),
        "Healthcheck": healthcheck(given("healthcheck")),
    }
    if "" in (config["Cmd"] or []):
        raise OperationFailed("values for command may not be empty")
    config["HostConfig"] = {
        "Privileged": bool(given("privileged")),
        "PublishAllPorts": bool(given("publishAllPorts")),
        "RestartPolicy": {
            "Name": state["restart"],
            "MaximumRetryCount": given("maxRetryCount") or 0,
        },
        "AutoRemove": bool(given("rm")),
        "ReadonlyRootfs": bool(given("readOnly")),
        "LogConfig": {"Type": given("logDriver") or "", "Config": given("logOpts") or {}},
        "Tmpfs": given("tmpfs"),
        "PortBindings": bindings,
        "Binds": binds or None,
        "VolumesFrom": volumes_from or None,
        "Mounts": [mount(item) for item in given("mounts") or []] or None,
        "Ulimits": [
            {"Name": item["name"], "Soft": item["soft"], "Hard": item["hard"]}
            for item in given("ulimits") or []
        ]
        or None,
        "CapAdd": capabilities.get("adds") or None,
        "CapDrop": capabilities.get("drops") or None,
        "SecurityOpt": [item for item in options if item != "systempaths=unconfined"] or None,
        "Dns": given("dns") or [],
        "CpusetCpus": given("cpuSet") or "",
        "CpuShares": given("cpuShares") or 0,
        "Memory": (given("memory") or 0) * _MEBIBYTE,
        "MemoryReservation": (given("memoryReservation") or 0) * _MEBIBYTE,
        "MemorySwap": _swap(given("memorySwap")),
        "ShmSize": (given("shmSize") or 0) * _MEBIBYTE,
        "NetworkMode": given("networkMode") or "",
        "PidMode": given("pidMode") or "",
        "UsernsMode": given("usernsMode") or "",
        "IpcMode": given("ipcMode") or "",
        "Sysctls": given("sysctls"),
        "GroupAdd": given("groupAdds"),
        "Init": bool(given("init")),
    }
    if "systempaths=unconfined" in options:
        config["HostConfig"].update(MaskedPaths=[], ReadonlyPaths=[])
    return config


def _swap(mebibytes: int | None) -> int:
    """Swap in bytes; -1, without limit, stays -1."""
    return (mebibytes or 0) * _MEBIBYTE if (mebibytes or 0) > 0 else mebibytes or 0


def healthcheck(block: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the engine's health check; durations in nanoseconds."""
    if not block:
        return None
    return {
        "Test": block["tests"],
        "Interval": durations.nanoseconds(block["interval"]),
        "Timeout": durations.nanoseconds(block["timeout"]),
        "StartPeriod": durations.nanoseconds(block["startPeriod"]),
        "Retries": block["retries"],
    }


def mount(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's mount."""
    described: dict[str, Any] = {
        "Type": item["type"],
        "Target": item["target"],
        "Source": item["source"] or "",
        "ReadOnly": bool(item["readOnly"]),
    }
    if item["type"] == "bind" and item["bindOptions"]:
        described["BindOptions"] = {"Propagation": item["bindOptions"]["propagation"]}
    if item["type"] == "tmpfs" and item["tmpfsOptions"]:
        described["TmpfsOptions"] = {
            "SizeBytes": item["tmpfsOptions"]["sizeBytes"] or 0,
            "Mode": item["tmpfsOptions"]["mode"] or 0,
        }
    return described


def volume_mounts(
    volumes: list[Mapping[str, Any]],
) -> tuple[list[str], dict[str, Any], list[str]]:
    """Binds, anonymous mount points, and containers whose volumes are shared."""
    binds: list[str] = []
    points: dict[str, Any] = {}
    shared: list[str] = []
    for item in volumes:
        source = item["hostPath"] or item["volumeName"]
        path = item["containerPath"]
        if bool(item["fromContainer"]) == bool(path):
            raise OperationFailed(
                "a volume needs either 'containerPath' or 'fromContainer', "
                f"found {'both' if path else 'neither'}"
            )
        if item["fromContainer"]:
            shared.append(item["fromContainer"])
            continue
        points[path] = {}
        if source:
            mode = "ro" if item["readOnly"] else "rw"
            label = f",{item['selinuxRelabel']}" if item["selinuxRelabel"] else ""
            binds.append(f"{source}:{path}:{mode}{label}")
    return binds, points, shared


def port_bindings(
    ports: list[Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, list[dict[str, str]]]]:
    """Exposed ports and where each is published."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for item in ports:
        key = f"{item['internal']}/{item['protocol']}"
        exposed[key] = {}
        external = 0 if is_unknown(item["external"]) else item["external"] or 0
        bindings.setdefault(key, []).append({"HostIp": item["ip"], "HostPort": str(external)})
    return exposed, bindings


def limits(state: Values) -> dict[str, Any]:
    """Return what can be changed while the container lives, all of it at once."""
    return {
        "restart_policy": {
            "Name": state["restart"],
            "MaximumRetryCount": state.get("maxRetryCount") or 0,
        },
        "cpu_shares": state.get("cpuShares") or 0,
        "mem_limit": (state.get("memory") or 0) * _MEBIBYTE,
        "mem_reservation": (state.get("memoryReservation") or 0) * _MEBIBYTE,
        "memswap_limit": _swap(state.get("memorySwap")),
        "cpuset_cpus": state.get("cpuSet") or None,
    }
