"""docker Container: services that stay, and jobs that run once."""

from __future__ import annotations

from typing import ClassVar, Final

from toolchain.standins.docker_provider.container_description import description, limits, packed
from toolchain.standins.docker_provider.container_observed import observed
from toolchain.standins.docker_provider.container_properties import CONTAINER, same_ports
from toolchain.standins.docker_provider.engine import Engine, explained, watched
from toolchain.standins.interruption import Interruption, OperationFailed, deadline
from toolchain.standins.properties import Table
from toolchain.standins.resource_type import Log, Made, PartlyDone, ResourceType
from toolchain.standins.values import Values, is_unknown

_HEALTH_POLL: Final = 0.1
# Nanoseconds; the schema's default timeouts of 20 minutes, kept in the state as the
# official plugin does.
_META: Final = (
    '{"e2bfb730-ecaa-11e6-8f88-34363bc7c4c0":{"create":1200000000000,"delete":1200000000000,'
    '"update":1200000000000},"schema_version":"2"}'
)


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
    table: ClassVar[Table] = CONTAINER

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
        """Check that the image exists: the official plugin would pull it, ours are built here."""
        from docker.errors import ImageNotFound

        with explained(f"Unable to look for image {image}"):
            try:
                self._engine.client.inspect_image(image)
            except ImageNotFound:
                raise OperationFailed(
                    f"there is no image {image} on this engine, and the stand-in pulls none"
                ) from None

    def _unready(self, identifier: str, state: Values) -> Values:
        """Return the state of a container that was made but did not get ready.

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
        """Return the container as the engine shows it; what it cannot show stays as it was."""
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
            self._interruption.sleep(_HEALTH_POLL)
