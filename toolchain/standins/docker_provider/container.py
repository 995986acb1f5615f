"""docker Container: services that stay, and jobs that run once."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from toolchain.standins.docker_provider import durations, labels
from toolchain.standins.docker_provider.engine import Engine, explained, watched
from toolchain.standins.properties import Property, Table
from toolchain.standins.provider import (
    Interruption,
    Log,
    Made,
    OperationFailed,
    PartlyDone,
    ResourceType,
    deadline,
)
from toolchain.standins.values import Values, is_unknown

_MEBIBYTE: Final = 1024 * 1024
_HEALTH_POLL: Final = 0.25
# Nanoseconds; the schema's default timeouts of 20 minutes, kept in the state as the
# official plugin does.
_META: Final = (
    '{"e2bfb730-ecaa-11e6-8f88-34363bc7c4c0":{"create":1200000000000,"delete":1200000000000,'
    '"update":1200000000000},"schema_version":"2"}'
)


def _fixed(kind: Any, **rules: Any) -> Property:
    """A property whose change replaces the container."""
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

# What an update sends to the engine; other changes in place are only written down.
_LIVE: Final = (
    "restart",
    "maxRetryCount",
    "cpuShares",
    "memory",
    "memoryReservation",
    "cpuSet",
    "memorySwap",
)


class Container(ResourceType):
    """A container."""

    pulumi_type: ClassVar[str] = "docker:index/container:Container"
    meta: ClassVar[str | None] = _META
    delete_before_replace: ClassVar[bool] = True
    table: ClassVar[Table] = {
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
        "restart": Property(
            kind="string", default="no", allowed="no|on-failure|always|unless-stopped"
        ),
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

    def __init__(self, engine: Engine, interruption: Interruption) -> None:
        self._engine = engine
        self._interruption = interruption

    def suppress(self, name: str, state: Values, inputs: Values) -> bool:
        """Ports in another order are the same ports."""
        return name == "ports" and same_ports(state.get("ports"), inputs.get("ports"))

    # -- create --

    def create(self, state: Values, log: Log) -> Made:
        """Make, connect, fill, start and, where asked for, wait for the container."""
        client = self._engine.client
        name = state["name"]
        if not state["image"]:
            raise OperationFailed(f"container {name} has an empty image")
        self._require_image(state["image"])
        with explained("Unable to create container"):
            answer = client.create_container_from_config(description(state), name)
        identifier = str(answer["Id"])
        try:
            self._connect(identifier, state)
            self._upload(identifier, state)
            logs = self._run(identifier, state)
        except OperationFailed as error:
            raise PartlyDone(identifier, self._unready(identifier, state), str(error)) from error
        if logs is not None:
            state = {**state, "containerLogs": logs}
        made = self.read(identifier, state)
        if made is None:
            raise OperationFailed(f"container {name} vanished while it was made")
        return made

    def _require_image(self, image: str) -> None:
        """The official plugin would pull it; images of ours are made here, or not at all."""
        from docker.errors import ImageNotFound

        with explained(f"Unable to look for image {image}"):
            try:
                self._engine.client.inspect_image(image)
            except ImageNotFound:
                raise OperationFailed(
                    f"there is no image {image} on this engine, and the stand-in pulls none"
                ) from None

    def _unready(self, identifier: str, state: Values) -> Values:
        """The state of a container that was made but did not get ready.

        What the engine would have filled in stays empty, as officially: that is what makes
        the next ``up`` replace the container and wait for it again.
        """
        kept = {
            name: ([] if self.table[name].kind in ("set", "block-set") else None)
            if is_unknown(value)
            else value
            for name, value in state.items()
        }
        return {**kept, "__meta": _META, "id": identifier}

    def _connect(self, identifier: str, state: Values) -> None:
        if not state["networksAdvanced"]:
            return
        from docker.errors import APIError

        client = self._engine.client
        with explained("Unable to disconnect the default network"):
            try:
                client.disconnect_container_from_network(identifier, "bridge")
            except APIError as error:
                if "is not connected to" not in str(error):
                    raise
        for item in state["networksAdvanced"]:
            with explained(f"Unable to connect to network '{item['name']}'"):
                client.connect_container_to_network(
                    identifier,
                    item["name"],
                    aliases=item["aliases"] or None,
                    ipv4_address=item["ipv4Address"] or None,
                    ipv6_address=item["ipv6Address"] or None,
                    link_local_ips=item["linkLocalIps"] or None,
                    mac_address=item["macAddress"] or None,
                    driver_opt=dict(
                        option.split("=", 1) for option in item["driverOpts"] if "=" in option
                    )
                    or None,
                )

    def _upload(self, identifier: str, state: Values) -> None:
        for item in state["uploads"]:
            archive = packed(item)
            with explained(f"Unable to upload {item['file']}"):
                self._engine.client.put_archive(identifier, "/", archive)

    def _run(self, identifier: str, state: Values) -> str | None:
        """Start the container; the logs of a job whose end is waited for."""
        if state["start"]:
            with explained("Unable to start container"):
                self._engine.client.start(identifier)
            if state["wait"]:
                self._wait_healthy(identifier, state)
        if not state["attach"]:
            return None
        with explained("Unable to follow the container"):
            output = self._follow(identifier) if state["logs"] else None
            while self._engine.client.inspect_container(identifier)["State"]["Running"]:
                self._interruption.sleep(_HEALTH_POLL)
        return output

    def _follow(self, identifier: str) -> str:
        client = self._engine.patient_client()
        try:
            stream = client.logs(identifier, stdout=True, stderr=True, stream=True, follow=True)
            chunks = watched(stream, self._interruption)
            return b"".join(chunks).decode(errors="replace")
        finally:
            client.close()

    def _wait_healthy(self, identifier: str, state: Values) -> None:
        late = deadline(state["waitTimeout"])
        while True:
            with explained("error inspecting container state"):
                health = self._engine.client.inspect_container(identifier)["State"].get("Health")
            if health is None:
                raise OperationFailed(
                    "you have supplied a 'wait' argument, but the container does not have a "
                    "healthcheck defined. Please remove the 'wait' argument or add a "
                    "'healthcheck' attribute"
                )
            if health["Status"] == "healthy":
                return
            if late():
                raise OperationFailed(
                    f"container {state['name']} failed to be in healthy state within "
                    f"{state['waitTimeout']} s; see: docker logs {state['name']}"
                )
            self._interruption.sleep(_HEALTH_POLL)

    # -- read, update, delete --

    def read(self, identifier: str, state: Values) -> Made | None:
        """The container as the engine shows it; what it cannot show stays as it was."""
        from docker.errors import NotFound

        with explained("Unable to inspect container"):
            try:
                found = self._engine.client.inspect_container(identifier)
            except NotFound:
                return None
        kept = {name: state.get(name) for name in self.table}
        return Made(found["Id"], {**kept, **observed(found, state)})

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Start a stopped container, change its limits; all else is only written down."""
        client = self._engine.client
        if state["mustRun"] and not old.get("mustRun", True) and state["start"]:
            with explained("Unable to start container"):
                client.start(identifier)
        if any((old.get(name) or 0) != (state.get(name) or 0) for name in _LIVE):
            with explained("Unable to update a container"):
                client.update_container(identifier, **limits(state))
        # As the official plugin: the new inputs, and what was known; not read again.
        return Made(identifier, {name: state.get(name) for name in self.table})

    def delete(self, identifier: str, state: Values) -> None:
        """Stop, with the grace given (none: killed at once, as officially), and remove."""
        from docker.errors import APIError, NotFound

        client = self._engine.client
        if not state.get("attach"):
            with explained(f"Error stopping container {identifier[:12]}"):
                try:
                    client.stop(identifier, timeout=state.get("destroyGraceSeconds") or 0)
                except NotFound:
                    return
        with explained(f"Error deleting container {identifier[:12]}"):
            try:
                client.remove_container(
                    identifier, v=bool(state.get("removeVolumes", True)), force=True
                )
            except NotFound:
                return
            except APIError as error:
                if "is already in progress" not in str(error):
                    raise
        late = deadline(60)
        while not late():
            with explained("Error waiting for container removal"):
                try:
                    client.inspect_container(identifier)
                except NotFound:
                    return
            time.sleep(_HEALTH_POLL)


# --- pure functions -------------------------------------------------------------


def same_ports(old: Any, new: Any) -> bool:
    """Whether both lists publish the same ports; one that was left open may be any."""
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


def packed(upload: Mapping[str, Any]) -> bytes:
    """The upload as a tar archive with one file, owned by root."""
    import base64
    from pathlib import Path

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
    """The engine's description of a container to be made."""

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
    """The engine's health check; durations in nanoseconds."""
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
    """The engine's mount."""
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
    """What can be changed while the container lives, all of it at once."""
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


def observed(found: Mapping[str, Any], state: Values) -> Values:
    """What ``docker inspect`` says, in the shape of the state.

    Environment, labels and uploads are not read: the image's own would be mixed in. Some
    others are read only where they were given, so that the engine's defaults are no drift.
    """
    config, host, running = found["Config"], found["HostConfig"], found["State"]["Running"]
    network = found.get("NetworkSettings") or {}
    imported = not state
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
        "dns": sorted(host["Dns"] or []) or None,
        "securityOpts": sorted(host["SecurityOpt"] or []),
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
        "groupAdds": sorted(host.get("GroupAdd") or []) or None,
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
            "adds": sorted(host["CapAdd"] or []),
            "drops": sorted(host["CapDrop"] or []),
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
    if imported:
        seen["networksAdvanced"] = []
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
    """Published ports in the order of their inner numbers."""
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
