"""What a type of resource has to know; ``provider.py`` does everything else."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

from toolchain.standins import properties
from toolchain.standins.properties import Change, Mistake, Table
from toolchain.standins.values import Values


class PartlyDone(Exception):
    """Something exists although the operation failed; the engine must remember it.

    Without this a container that never became healthy would be forgotten, and the next
    ``up`` would meet a name that is taken.
    """

    def __init__(self, identifier: str, state: Values, reason: str) -> None:
        super().__init__(reason)
        self.identifier = identifier
        self.state = state
        self.reason = reason


@dataclass(frozen=True)
class Log:
    """Messages to the user about one resource."""

    engine: engine_pb2_grpc.EngineStub | None
    urn: str

    def status(self, message: str) -> None:
        """Show a line of progress beside the resource; the next one replaces it."""
        self._send(message, ephemeral=True)

    def info(self, message: str) -> None:
        """Show a line that stays in the output."""
        self._send(message, ephemeral=False)

    def _send(self, message: str, *, ephemeral: bool) -> None:
        if self.engine is None:
            return
        self.engine.Log(
            engine_pb2.LogRequest(
                severity=engine_pb2.INFO, message=message, urn=self.urn, ephemeral=ephemeral
            )
        )


@dataclass(frozen=True)
class Made:
    """A resource as the server shows it: its id, and its state."""

    identifier: str
    state: Values


class ResourceType(abc.ABC):
    """One type of resource. ``state`` and ``inputs`` have the shape of the table."""

    pulumi_type: ClassVar[str]
    table: ClassVar[Table]
    # What the official plugin keeps beside the state; without it a state that moves to
    # the official plugin would be taken for one of an older schema and converted.
    meta: ClassVar[str | None] = None
    # So wherever the old thing holds a name that the new one needs.
    delete_before_replace: ClassVar[bool] = False

    @abc.abstractmethod
    def create(self, state: Values, log: Log) -> Made:
        """Make the thing; ``state`` is what the inputs ask for, unknowns are for the server.

        Raises ``OperationFailed``, or ``PartlyDone`` when something exists all the same.
        """

    @abc.abstractmethod
    def read(self, identifier: str, state: Values) -> Made | None:
        """Return the thing as it is now, None if it is gone. An empty state means: import."""

    @abc.abstractmethod
    def update(self, identifier: str, old: Values, state: Values, log: Log) -> Made:
        """Change the thing in place from ``old`` to ``state``."""

    @abc.abstractmethod
    def delete(self, identifier: str, state: Values) -> None:
        """Remove the thing; that it is gone already is no error."""

    # -- what most types leave as it is --

    @property
    def name(self) -> str:
        """The short name for messages."""
        return self.pulumi_type.rsplit(":", 1)[-1]

    def check(self, given: Values, urn: str, log: Log) -> tuple[Values, list[Mistake]]:
        """Fill in defaults, and report what is wrong with the inputs."""
        return properties.check(self.table, given, self.name)

    def suppress(self, name: str, state: Values, inputs: Values) -> bool:
        """Return whether a difference in the property means nothing."""
        return False

    def diff(self, state: Values, inputs: Values, ignore: frozenset[str]) -> list[Change]:
        """Return what the inputs change in the state."""
        return properties.diff(self.table, state, inputs, ignore=ignore, suppress=self.suppress)

    def plan(self, inputs: Values, old: Values | None) -> Values:
        """Return the state the inputs lead to, as far as it is known beforehand."""
        return properties.plan(self.table, inputs, old)

    def refreshed_inputs(self, state: Values, old_inputs: Values) -> Values:
        """Return the inputs after a refresh (``old_inputs``) or an import (none)."""
        if old_inputs:
            return properties.inputs_of(self.table, state, old_inputs)
        return properties.imported_inputs(self.table, state)

    def preview_create(self, state: Values) -> Values:
        """Return what a preview shows of a new resource."""
        return state
