"""docker Network."""

from __future__ import annotations

from typing import ClassVar, Final

from toolchain.standins.docker_provider import labels
from toolchain.standins.docker_provider.engine import Engine, explained
from toolchain.standins.interruption import Interruption, OperationFailed, deadline
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values, is_unknown

# Containers may need a moment to let go of a network; seconds.
_REMOVE_LIMIT: Final = 30.0
_REMOVE_POLL: Final = 0.5

_IPAM: Final[Table] = {
    "subnet": Property(kind="string", replaces=True),
    "ipRange": Property(kind="string", replaces=True),
    "gateway": Property(kind="string", replaces=True),
    "auxAddress": Property(kind="map", replaces=True),
}


class Network(ResourceType):
    """A network; every change replaces it."""

    pulumi_type: ClassVar[str] = "docker:index/network:Network"
    meta: ClassVar[str | None] = '{"schema_version":"1"}'
    delete_before_replace: ClassVar[bool] = True
    table: ClassVar[Table] = {
        "name": Property(kind="string", required=True, replaces=True),
        "labels": Property(kind="block-set", items=labels.LABEL, replaces=True),
        "driver": Property(kind="string", computed=True, replaces=True),
        "options": Property(kind="map", computed=True, replaces=True),
        "internal": Property(kind="boolean", computed=True, replaces=True),
        "attachable": Property(kind="boolean", replaces=True),
        "ingress": Property(kind="boolean", replaces=True),
        "ipv6": Property(kind="boolean", replaces=True),
        "ipamDriver": Property(kind="string", default="default", replaces=True),
        "ipamOptions": Property(kind="map", replaces=True),
        "ipamConfigs": Property(kind="block-set", items=_IPAM, computed=True, replaces=True),
        "scope": Property(kind="string", output=True),
    }

    def __init__(self, engine: Engine, interruption: Interruption) -> None:
        self._engine = engine
        self._interruption = interruption

    def create(self, state: Values, log: Log) -> Made:
        """Make the network; the engine chooses the subnet unless one is given."""
        client = self._engine.client
        given = {key: value for key, value in state.items() if not is_unknown(value)}
        with explained("Unable to create network"):
            answer = client.create_network(
                given["name"],
                driver=given.get("driver"),
                options=given.get("options"),
                ipam={
                    "Driver": given["ipamDriver"],
                    "Options": given.get("ipamOptions"),
                    "Config": [
                        {
                            "Subnet": item["subnet"],
                            "IPRange": item["ipRange"],
                            "Gateway": item["gateway"],
                            "AuxiliaryAddresses": item["auxAddress"],
                        }
                        for item in given.get("ipamConfigs") or []
                    ],
                },
                internal=bool(given.get("internal")),
                labels=labels.to_engine(given.get("labels")),
                enable_ipv6=bool(given.get("ipv6")),
                attachable=given.get("attachable"),
                ingress=given.get("ingress"),
            )
        made = self.read(answer["Id"], state)
        if made is None:
            raise OperationFailed(f"network {given['name']} vanished while it was made")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the network as the engine shows it."""
        from docker.errors import NotFound

        with explained("Unable to inspect network"):
            try:
                found = self._engine.client.inspect_network(identifier)
            except NotFound:
                return None
        ipam = found.get("IPAM") or {}
        return Made(
            found["Id"],
            {
                "name": found["Name"],
                "labels": labels.from_engine(found["Labels"]),
                "driver": found["Driver"],
                "options": found["Options"] or {},
                "internal": found["Internal"],
                "attachable": found["Attachable"],
                "ingress": found["Ingress"],
                "ipv6": found["EnableIPv6"],
                "ipamDriver": ipam.get("Driver"),
                "ipamOptions": ipam.get("Options") or None,
                "ipamConfigs": [
                    {
                        "subnet": item.get("Subnet", ""),
                        "ipRange": item.get("IPRange", ""),
                        "gateway": item.get("Gateway", ""),
                        "auxAddress": item.get("AuxiliaryAddresses") or {},
                    }
                    for item in ipam.get("Config") or []
                ],
                "scope": found["Scope"],
            },
        )

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Never asked for: every change is a replacement."""
        raise OperationFailed("a network cannot be changed in place")

    def delete(self, identifier: str, state: Values) -> None:
        """Remove the network, waiting for containers that are just leaving it."""
        from docker.errors import APIError, NotFound

        late = deadline(_REMOVE_LIMIT)
        while True:
            with explained("Unable to remove network"):
                try:
                    self._engine.client.remove_network(identifier)
                except NotFound:
                    return
                except APIError as error:
                    if "has active endpoints" not in str(error) or late():
                        raise
                else:
                    return
            self._interruption.sleep(_REMOVE_POLL)
