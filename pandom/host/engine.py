"""What Docker has of a stack, found by labels: Pulumi's state may be lost or behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import docker
import docker.errors
import requests

from pandom.errors import Failure
from pandom.host.identity import Thing
from pandom.naming import LABEL_BUILD, LABEL_PART, LABEL_STACK

_TIMEOUT_S: Final = 30
_STEP_S: Final = 60  # no step of a build waits that long to be committed


class DockerSilent(Failure):
    """The Docker daemon does not answer."""


def connect() -> docker.DockerClient:
    """A client of a daemon that answers; raises DockerSilent with the next step."""
    try:
        client = docker.from_env(timeout=_TIMEOUT_S)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise DockerSilent(
            f"Docker does not answer: {_cause(error)}\n"
            "Nothing was touched. Next: start it (`make tools` does, where nothing else would)\n"
            "and run this again; what was running comes back as it was."
        ) from error
    return client


def _cause(error: Exception) -> str:
    while error.__context__ is not None:
        error = error.__context__  # type: ignore[assignment]
    return str(error).strip("() ") or type(error).__name__


@dataclass(frozen=True)
class Container:
    """A container of the stack as the engine sees it."""

    id: str
    name: str
    part: str
    image: str
    status: str
    health: str | None
    exit_code: int
    restarts: int
    finished: datetime | None
    ports: tuple[int, ...]
    networks: tuple[str, ...]
    said: str = ""  # by the last health check

    @property
    def good(self) -> bool:
        """Whether it runs and, where it has a health check, passes it."""
        return self.status == "running" and self.health in (None, "healthy")

    @property
    def hopeless(self) -> bool:
        """Whether it ended with an error, or does so again and again."""
        ended = self.status == "exited" and self.exit_code != 0
        return ended or self.restarts >= 3

    @property
    def state(self) -> str:
        """What people call its state."""
        if self.status == "exited":
            return f"exited with {self.exit_code}"
        return self.health or self.status


def _time(text: str) -> datetime | None:
    if not text or text.startswith("0001"):
        return None
    return datetime.fromisoformat(text[:19] + "+00:00")


def _container(attributes: Mapping[str, Any]) -> Container:
    state, config = attributes["State"], attributes["Config"]
    bindings = (attributes.get("HostConfig") or {}).get("PortBindings") or {}
    networks = (attributes.get("NetworkSettings") or {}).get("Networks") or {}
    ports = [int(one["HostPort"]) for some in bindings.values() for one in some if one["HostPort"]]
    return Container(
        id=attributes["Id"],
        name=attributes["Name"].lstrip("/"),
        part=(config.get("Labels") or {}).get(LABEL_PART, ""),
        image=attributes["Image"],
        status=state["Status"],
        health=(state.get("Health") or {}).get("Status"),
        said=((state.get("Health") or {}).get("Log") or [{}])[-1].get("Output", "").strip(),
        exit_code=state["ExitCode"],
        restarts=attributes.get("RestartCount", 0),
        finished=_time(state.get("FinishedAt", "")),
        ports=tuple(sorted(ports)),
        networks=tuple(str(one.get("NetworkID", "")) for one in networks.values()),
    )


class Engine:
    """The objects of one stack in the Docker engine."""

    def __init__(self, stack: str, client: docker.DockerClient | None = None) -> None:
        """Connect; raises DockerSilent."""
        self.client = client or connect()
        self._filter = {"label": f"{LABEL_STACK}={stack}"}

    def containers(self) -> list[Container]:
        """All of them, running or not, in a stable order."""
        found = []
        for one in self.client.api.containers(all=True, filters=self._filter):
            with contextlib.suppress(docker.errors.NotFound):  # removed since it was listed
                found.append(_container(self.client.api.inspect_container(one["Id"])))
        return sorted(found, key=lambda one: one.name)

    def container(self, part: str) -> Container | None:
        """The container of a part, or None."""
        return next((one for one in self.containers() if one.part == part), None)

    def networks(self) -> dict[str, str]:
        """Identity → name."""
        return {one["Id"]: one["Name"] for one in self.client.api.networks(filters=self._filter)}

    def volumes(self) -> list[str]:
        """Names, sorted."""
        answer = self.client.api.volumes(filters=self._filter)
        return sorted(one["Name"] for one in answer.get("Volumes") or ())

    def things(self) -> list[Thing]:
        """Everything that carries the stack's label, with all of its labels."""
        found = [
            Thing("container", one["Id"], one["Names"][0].lstrip("/"), one["Labels"] or {})
            for one in self.client.api.containers(all=True, filters=self._filter)
            if one["Names"]
        ]
        found += [
            Thing("network", one["Id"], one["Name"], one["Labels"] or {})
            for one in self.client.api.networks(filters=self._filter)
        ]
        answer = self.client.api.volumes(filters=self._filter)
        found += [
            Thing("volume", one["Name"], one["Name"], one["Labels"] or {})
            for one in answer.get("Volumes") or ()
        ]
        return found

    def has_image(self, reference: str) -> bool:
        """Whether the engine has the image."""
        try:
            self.client.api.inspect_image(reference)
        except docker.errors.ImageNotFound:
            return False
        return True

    def start(self, container: Container) -> None:
        """Start a stopped container; raises docker.errors.APIError when it cannot."""
        self.client.api.start(container.id)

    def stop(self, container: Container) -> None:
        """Stop a container, with the time that a server needs to write its data."""
        self.client.api.stop(container.id, timeout=60)

    def restart(self, container: Container) -> None:
        """Restart a container, which has no verdict of its health check after that."""
        self.client.api.restart(container.id)

    def remove_container(self, identity: str) -> None:
        """Remove a container, its anonymous volumes too; gone already is fine."""
        with contextlib.suppress(docker.errors.NotFound):
            self.client.api.remove_container(identity, force=True, v=True)

    def remove_build_steps(self) -> None:
        """Remove containers that builds of our images left behind, of any stack.

        Only those a minute old: a younger one may be a step of a build that runs.
        """
        wanted = {"label": f"{LABEL_BUILD}=step", "status": ["created", "exited"]}
        for one in self.client.api.containers(all=True, filters=wanted):
            if time.time() - one["Created"] > _STEP_S:
                self.remove_container(one["Id"])

    def remove_network(self, identity: str) -> None:
        """Remove a network, disconnecting what is still in it."""
        with contextlib.suppress(docker.errors.NotFound):
            attached = self.client.api.inspect_network(identity).get("Containers") or {}
            for one in attached:
                self.client.api.disconnect_container_from_network(one, identity, force=True)
            self.client.api.remove_network(identity)

    def remove_volume(self, name: str) -> None:
        """Remove a volume and what is in it."""
        with contextlib.suppress(docker.errors.NotFound):
            self.client.api.remove_volume(name)

    def last_lines(self, container: Container, count: int = 15) -> list[str]:
        """The end of a container's log."""
        with contextlib.suppress(docker.errors.APIError):
            raw = self.client.api.logs(container.id, tail=count)
            return [line.rstrip() for line in raw.decode(errors="replace").splitlines()]
        return []

    def wait_good(self, part: str, limit_s: float) -> Container | None:
        """Wait until a part's container is good; its last state, None if there is none.

        Returns early when it has exited: only `up` can change that.
        """
        deadline = time.monotonic() + limit_s
        while True:
            found = self.container(part)
            if found is None or found.good or found.status in ("exited", "dead"):
                return found
            if time.monotonic() > deadline:
                return found
            time.sleep(0.25)

    def publisher(self, port: int) -> str | None:
        """The name of the running container, of any stack, that publishes a host port."""
        for one in self.client.api.containers(filters={"publish": str(port)}):
            if any(item.get("PublicPort") == port for item in one.get("Ports") or ()):
                return str(one["Names"][0]).lstrip("/")
        return None
