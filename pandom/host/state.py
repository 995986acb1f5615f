"""What Pulumi's state says a stack has: read from `pulumi stack export`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pandom.runtime.errors import UsageError

STACK: Final = "pulumi:pulumi:Stack"
CONTAINER: Final = "docker:index/container:Container"
IMAGE: Final = "docker:index/image:Image"
NETWORK: Final = "docker:index/network:Network"
VOLUME: Final = "docker:index/volume:Volume"
DATABASE: Final = "postgresql:index/database:Database"
ROLE: Final = "postgresql:index/role:Role"
POSTGRESQL_PROVIDER: Final = "pulumi:providers:postgresql"
RANDOM: Final = "random:index/randomPassword:RandomPassword"
# What Pulumi marks a secret with.
SECRET_MARK: Final = "4dabf18193072939515e22adb298388d"  # noqa: S105 - no secret


@dataclass(frozen=True)
class Resource:
    """One resource of the state."""

    urn: str
    type: str
    id: str
    inputs: Mapping[str, Any] = field(repr=False)
    outputs: Mapping[str, Any] = field(repr=False)
    protect: bool

    @property
    def name(self) -> str:
        """The name that the outside world knows it by."""
        return str(self.inputs.get("name", self.urn.rpartition("::")[2]))

    @property
    def one_shot(self) -> bool:
        """Whether it is a job's container."""
        return self.type == CONTAINER and self.inputs.get("mustRun") is False

    @property
    def label(self) -> Mapping[str, str]:
        """Docker labels as a mapping."""
        return {one["label"]: one["value"] for one in self.inputs.get("labels") or ()}


class State:
    """The resources of a deployment, as exported."""

    def __init__(self, deployment: Mapping[str, Any] | None = None) -> None:
        """Read an export; None is a stack without resources."""
        raw = ((deployment or {}).get("deployment") or {}).get("resources") or ()
        self.resources = [
            Resource(
                urn=one["urn"],
                type=one["type"],
                id=str(one.get("id", "")),
                inputs=one.get("inputs") or {},
                outputs=one.get("outputs") or {},
                protect=bool(one.get("protect")),
            )
            for one in raw
            if not one.get("delete")
        ]
        provider = ((deployment or {}).get("deployment") or {}).get("secrets_providers") or {}
        # The salt with which the passphrase encrypts the state's secrets.
        self.salt: str | None = (provider.get("state") or {}).get("salt")
        # Includes resources that wait to be deleted.
        self.ids = {str(one.get("id", "")) for one in raw}
        # Resources that a killed run had begun to make; they may exist.
        self.begun: list[Mapping[str, Any]] = [
            (one.get("resource") or {}).get("inputs") or {}
            for one in ((deployment or {}).get("deployment") or {}).get("pending_operations") or ()
        ]

    @classmethod
    def of_file(cls, checkpoint: Path) -> State:
        """Read Pulumi's own file, without Pulumi and without secrets; none is an empty state.

        Raises UsageError when the file holds no state.
        """
        try:
            document = json.loads(checkpoint.read_text())
            latest = (document.get("checkpoint") or {}).get("latest")
            return cls({"deployment": latest})
        except FileNotFoundError:
            return cls()
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise UsageError(
                f"{checkpoint} is no Pulumi state: {error}.\n"
                "Nothing was touched. Next: docs/runbook.md, The state cannot be read."
            ) from error

    def label(self, name: str, beside: str | None = None) -> str | None:
        """Return the value of a Docker label in this state; ``beside`` must be on the same object.

        Networks and containers first: volumes keep the labels that they were made with.
        """
        for labels in self._labels():
            if name in labels and (beside is None or beside in labels):
                return labels[name]
        return None

    def _labels(self) -> Iterator[Mapping[str, str]]:
        for kind in (NETWORK, CONTAINER, VOLUME):
            yield from (resource.label for resource in self.of_type(kind))
        for inputs in self.begun:
            yield {one["label"]: str(one["value"]) for one in inputs.get("labels") or ()}
        # After a loss and a refresh only the outputs have it.
        for resource in self.of_type(STACK):
            yield {f"pandom.{key}": str(value) for key, value in resource.outputs.items()}

    def of_type(self, kind: str) -> Iterator[Resource]:
        """Return the resources of one type."""
        return (resource for resource in self.resources if resource.type == kind)

    def names(self, kind: str) -> set[str]:
        """Return their outside names."""
        return {resource.name for resource in self.of_type(kind)}

    @property
    def environment(self) -> dict[str, str]:
        """The last environment of the jobs: the applied settings, even of an unfinished run."""
        found: dict[str, str] = {}
        for resource in self.of_type(CONTAINER):
            if resource.one_shot:
                found |= dict(line.split("=", 1) for line in resource.inputs.get("envs") or ())
        return found

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The stack's outputs as exported, secrets wrapped."""
        return next((resource.outputs for resource in self.of_type(STACK)), {})

    @property
    def completed(self) -> bool:
        """Whether the stack was brought up completely once, so that there was data."""
        return any(resource.type == STACK and resource.outputs for resource in self.resources)

    @property
    def jobs(self) -> list[str]:
        """The URNs of the one-shot jobs."""
        return [resource.urn for resource in self.resources if resource.one_shot]

    @property
    def protected(self) -> bool:
        """Whether anything is protected against deletion."""
        return any(resource.protect for resource in self.resources)


def clear(value: Any) -> Any:
    """Return a property of `stack export --show-secrets`, unwrapped."""
    if isinstance(value, Mapping) and SECRET_MARK in value:
        return json.loads(value["plaintext"])
    return value


def clear_outputs(exported: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stack's outputs in clear."""
    return {name: clear(value) for name, value in State(exported).outputs.items()}
