"""docker Volume."""

from __future__ import annotations

from typing import ClassVar, Final

from toolchain.standins.docker_provider import labels
from toolchain.standins.docker_provider.engine import Engine, explained
from toolchain.standins.interruption import Interruption, OperationFailed, deadline
from toolchain.standins.properties import Property, Table
from toolchain.standins.resource_type import Log, Made, ResourceType
from toolchain.standins.values import Values, is_unknown

# A container that is just being removed still holds its volumes; seconds.
_REMOVE_LIMIT: Final = 30.0
_REMOVE_POLL: Final = 0.5


class Volume(ResourceType):
    """A named volume; every change replaces it."""

    pulumi_type: ClassVar[str] = "docker:index/volume:Volume"
    meta: ClassVar[str | None] = '{"schema_version":"1"}'
    delete_before_replace: ClassVar[bool] = True
    table: ClassVar[Table] = {
        "name": Property(kind="string", required=True, replaces=True),
        "labels": Property(kind="block-set", items=labels.LABEL, replaces=True),
        "driver": Property(kind="string", computed=True, replaces=True),
        "driverOpts": Property(kind="map", replaces=True),
        "mountpoint": Property(kind="string", output=True),
    }

    def __init__(self, engine: Engine, interruption: Interruption) -> None:
        self._engine = engine
        self._interruption = interruption

    def create(self, state: Values, log: Log) -> Made:
        """Make the volume. One of that name is taken over as it is, labels included:
        that is how the engine answers, and the official plugin takes its answer."""
        driver = state["driver"]
        with explained("Unable to create volume"):
            answer = self._engine.client.create_volume(
                state["name"],
                driver=None if is_unknown(driver) else driver,
                driver_opts=state["driverOpts"],
                labels=labels.to_engine(state["labels"]),
            )
        made = self.read(answer["Name"], state)
        if made is None:
            raise OperationFailed(f"volume {state['name']} vanished while it was made")
        return made

    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the volume as the engine shows it."""
        from docker.errors import NotFound

        with explained("Unable to inspect volume"):
            try:
                found = self._engine.client.inspect_volume(identifier)
            except NotFound:
                return None
        return Made(
            identifier,
            {
                "name": found["Name"],
                "labels": labels.from_engine(found["Labels"]),
                "driver": found["Driver"],
                "driverOpts": found["Options"] or None,
                "mountpoint": found["Mountpoint"],
            },
        )

    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Never asked for: every change is a replacement."""
        raise OperationFailed("a volume cannot be changed in place")

    def delete(self, identifier: str, state: Values) -> None:
        """Remove the volume and its data."""
        from docker.errors import APIError, NotFound

        late = deadline(_REMOVE_LIMIT)
        while True:
            with explained("Unable to remove volume"):
                try:
                    self._engine.client.remove_volume(identifier, force=True)
                except NotFound:
                    return
                except APIError as error:
                    if "volume is in use" not in str(error) or late():
                        raise
                else:
                    return
            self._interruption.sleep(_REMOVE_POLL)
