"""What Docker has of a stack, found by labels: Pulumi's state may be lost or behind."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final

import docker
import docker.errors
import requests

from pandom.config.container_specs import container_specs
from pandom.config.settings import load
from pandom.host.identity import Thing
from pandom.runtime import docker_endpoint
from pandom.runtime.docker_endpoint import DockerSilent
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import (
    LABEL_BUILD,
    LABEL_PART,
    LABEL_STACK,
    OLDEST,
    data_folder,
    resource_name,
)
from schema.storage import OWN_STORE

_TIMEOUT_S: Final = 30
_NOTHING: Final = "/bin/sh -c #(nop)"  # a step that only sets something
_STOP_S: Final = 20  # below the client's own limit
_YOUNG: Final = timedelta(minutes=2)  # twice the longest pause between two restarts
_NOT_RUN: Final = 125  # from here on it is the engine that speaks, not the command
_STEP_S: Final = 60  # no step of a build waits that long to be committed
# What a command makes like another container and removes when it ends.
RESTORE: Final = "restore"
RESTORE_IDLE: Final = "restore-idle"  # in the place of a server that does not run
JOB: Final = "migrate"
PASSING: Final = (RESTORE, RESTORE_IDLE, JOB)


def _message(line: str) -> str:
    try:
        found = json.loads(line)
    except ValueError:
        return line.strip()
    fields = found if isinstance(found, dict) else {}
    said = fields.get("message") or fields.get("msg")
    if isinstance(error := fields.get("error"), dict):  # the object store's
        said = error.get("message")
    return str(said or line).strip()


def connect() -> docker.DockerClient:
    """Return a client of the engine that is meant, which answers.

    Raises DockerSilent with the engine's address and the next step; UsageError for an
    engine that cannot be used.
    """
    endpoint = docker_endpoint.use()
    docker_endpoint.check(endpoint)
    try:
        client = docker.from_env(timeout=_TIMEOUT_S)
    except (AttributeError, TypeError) as error:  # what its library makes of a strange file
        raise UsageError(
            f"Docker's config.json, in $DOCKER_CONFIG or ~/.docker, cannot be used: {error}.\n"
            "Nothing was touched. Next: mend the file."
        ) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise DockerSilent(
            f"Docker at {endpoint} cannot be used: {error}\nNothing was touched. {endpoint.choice}"
        ) from error
    # Keep requests from looking for a proxy for a socket at each call.
    client.api.trust_env = client.api.trust_env and not client.api.base_url.startswith(
        "http+docker"
    )
    return client


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
    started: datetime | None
    finished: datetime | None
    ports: tuple[int, ...]
    networks: tuple[str, ...]
    health_output: str = ""  # by the last health check
    check: tuple[str, ...] = ()  # the health check's command

    @property
    def is_healthy(self) -> bool:
        """Whether it runs and, where it has a health check, passes it."""
        return self.status == "running" and self.health in (None, "healthy")

    @property
    def holds_ports(self) -> bool:
        """Whether its ports on the host are taken, by itself."""
        return self.status in ("running", "paused", "restarting")

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error, or does so again and again."""
        ended = self.status == "exited" and self.exit_code != 0
        return ended or self.restarts >= 3

    @property
    def is_crash_looping(self) -> bool:
        """Whether it ends and is started again, over and over; a restart by hand counts anew."""
        young = self.started is not None and datetime.now(UTC) - self.started < _YOUNG
        return self.status == "restarting" or (self.restarts >= 3 and young)

    @property
    def state(self) -> str:
        """What people call its state."""
        if self.is_crash_looping:
            return f"crash-looping, restarted {self.restarts} times"
        if self.status == "exited":
            return f"exited with {self.exit_code}"
        return self.health or self.status


def _time(text: str) -> datetime | None:
    if not text or text.startswith("0001"):
        return None
    return datetime.fromisoformat(text[:19] + "+00:00")


def _command(test: Sequence[str]) -> tuple[str, ...]:
    if test and test[0] == "CMD-SHELL":
        return ("sh", "-c", *test[1:])
    return tuple(test[1:]) if test and test[0] == "CMD" else ()


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
        health_output=((state.get("Health") or {}).get("Log") or [{}])[-1]
        .get("Output", "")
        .strip(),
        exit_code=state["ExitCode"],
        restarts=attributes.get("RestartCount", 0),
        started=_time(state.get("StartedAt", "")),
        finished=_time(state.get("FinishedAt", "")),
        ports=tuple(sorted(ports)),
        networks=tuple(str(network.get("NetworkID", "")) for network in networks.values()),
        check=_command((config.get("Healthcheck") or {}).get("Test") or ()),
    )


def listed(client: docker.DockerClient, filters: Mapping[str, str]) -> list[Thing]:
    """Return the containers, networks and volumes that Docker's filters let through."""
    api = client.api
    found = [
        ("container", container["Id"], name.lstrip("/"), container)
        for container in api.containers(all=True, filters=filters)
        for name in container["Names"] or ()
        if name.count("/") == 1  # others are links
    ]
    networks = api.networks(filters=filters)
    found += [("network", network["Id"], network["Name"], network) for network in networks]
    volumes = api.volumes(filters=filters).get("Volumes") or ()
    found += [("volume", volume["Name"], volume["Name"], volume) for volume in volumes]
    return [Thing(kind, key, name, entry["Labels"] or {}) for kind, key, name, entry in found]


class Engine:
    """The objects of one stack in the Docker engine."""

    def __init__(self, stack: str, client: docker.DockerClient | None = None) -> None:
        """Connect; raises DockerSilent."""
        self.client = client or connect()
        self._filter = {"label": f"{LABEL_STACK}={stack}"}

    def containers(self) -> list[Container]:
        """Return all containers, running or not, by name."""
        found = []
        for container in self.client.api.containers(all=True, filters=self._filter):
            with contextlib.suppress(docker.errors.NotFound):  # removed since it was listed
                found.append(_container(self.client.api.inspect_container(container["Id"])))
        return sorted(found, key=lambda one: one.name)

    def container(self, part: str) -> Container | None:
        """Return the container of a part, or None."""
        return next((container for container in self.containers() if container.part == part), None)

    def networks(self) -> dict[str, str]:
        """Return the networks' names by id."""
        return {
            network["Id"]: network["Name"]
            for network in self.client.api.networks(filters=self._filter)
        }

    def volumes(self) -> list[str]:
        """Names, sorted."""
        answer = self.client.api.volumes(filters=self._filter)
        return sorted(one["Name"] for one in answer.get("Volumes") or ())

    def has_volume(self, name: str) -> bool:
        """Return whether a volume exists; one that was restored by hand has no labels."""
        try:
            self.client.api.inspect_volume(name)
        except docker.errors.NotFound:
            return False
        return True

    def namesakes(self, stack: str) -> list[Thing]:
        """Return objects that have a name of the stack but not its label.

        Docker allows two networks of one name, and then refuses to start what joins it.
        """
        specs = container_specs(load(stack, {"monitoring": True, "backup": OWN_STORE})).values()
        parts = {spec.part for spec in specs}
        parts |= {mount.volume for spec in specs for mount in spec.mounts}
        names = {resource_name(stack, part) for part in (*parts, "network")}
        return [
            thing
            for thing in listed(self.client, {})
            if thing.name in names and thing.labels.get(LABEL_STACK) != stack
        ]

    def things(self) -> list[Thing]:
        """Return everything that carries the stack's label, with all of its labels."""
        return listed(self.client, self._filter)

    def has_image(self, reference: str) -> bool:
        """Return whether the engine has the image."""
        try:
            self.client.api.inspect_image(reference)
        except docker.errors.ImageNotFound:
            return False
        return True

    def start(self, container: Container) -> None:
        """Start a stopped or paused container; raises docker.errors.APIError when it cannot."""
        if container.status == "paused":
            self.client.api.unpause(container.id)
        else:
            self.client.api.start(container.id)

    def restart(self, container: Container) -> None:
        """Restart a container, which has no verdict of its health check after that."""
        self.client.api.restart(container.id)

    def stop(self, container: Container, signal: str | None = None) -> None:
        """Let a container end by itself, as long as a server may need."""
        if signal:
            self.client.api.kill(container.id, signal)
            self.client.api.wait(container.id, timeout=_STOP_S)
        else:
            self.client.api.stop(container.id, timeout=_STOP_S)

    def kill(self, container: Container) -> None:
        """End a container at once; one that does not run is fine."""
        with contextlib.suppress(docker.errors.APIError):
            self.client.api.kill(container.id)

    def reload(self, container: Container) -> None:
        """Let a server read its configuration and certificates again; sessions go on."""
        self.client.api.kill(container.id, "SIGHUP")

    def wait_end(self, container: Container, limit_s: float) -> None:
        """Wait for a job's end; raises requests.RequestException when the time is over."""
        self.client.api.wait(container.id, timeout=limit_s)

    def write(self, container: Container, path: str, text: str) -> None:
        """Put a small file, which only root reads, into a container whose root can be written."""
        folder, _, name = path.rpartition("/")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o400
            archive.addfile(entry, io.BytesIO(text.encode()))
        self.client.api.put_archive(container.id, folder, buffer.getvalue())

    def ask(self, container: Container, command: Sequence[str] = ()) -> tuple[int, str]:
        """Run a command, or a container's health check, now: exit code and output, "" without one.

        The engine runs it once an interval, which may be half a minute away.
        """
        try:
            made = self.client.api.exec_create(
                container.id, list(command or container.check), stderr=False
            )
            output = self.client.api.exec_start(made["Id"])
            code = self.client.api.exec_inspect(made["Id"])["ExitCode"]
        except docker.errors.APIError:  # it ended meanwhile
            return 1, ""
        if code is None or code >= _NOT_RUN:
            return 1, ""
        return int(code), output.decode(errors="replace").strip()

    def variables(self, container: Container) -> dict[str, str]:
        """Return a container's environment, its image's among it."""
        found = self.client.api.inspect_container(container.id)["Config"]["Env"] or ()
        return dict(one.split("=", 1) for one in found)

    def version(self, container: Container) -> int:
        """Return the major version of a container of the server's image."""
        return int(self.variables(container).get("PG_MAJOR", OLDEST))

    def folder(self, container: Container) -> str:
        """Return where a container of the server's image has the served cluster, and one beside."""
        return data_folder(self.version(container)).removesuffix("/data")

    def begin(self, container: Container, command: Sequence[str]) -> None:
        """Start a command in a container, and do not wait for it."""
        with contextlib.suppress(docker.errors.APIError):  # it ended meanwhile
            made = self.client.api.exec_create(container.id, list(command))
            self.client.api.exec_start(made["Id"], detach=True)

    def stream(
        self, container: Container, command: Sequence[str], sink: BinaryIO
    ) -> tuple[int, str]:
        """Run a command in a container and pass on what it writes: exit code, stderr."""
        said = b""

        def take(out: bytes, err: bytes) -> None:
            nonlocal said
            said += err
            sink.write(out)

        code = self._exec(container, command, take)
        sink.flush()
        return code, said.decode(errors="replace")

    def run(
        self,
        container: Container,
        command: Sequence[str],
        show: Callable[[str], None] | None = None,
    ) -> tuple[int, str, str]:
        """Run a command in a container, as its user: exit code, stdout, stderr.

        ``show`` gets each line of stdout as it comes. There is no time limit, and the command
        goes on when its caller ends.
        """
        texts, begun = ["", ""], ""

        def take(*parts: bytes) -> None:
            nonlocal begun
            for index, part in enumerate(parts):
                texts[index] += part.decode(errors="replace")
            if show and parts[0]:
                *whole, begun = (begun + parts[0].decode(errors="replace")).split("\n")
                for line in whole:
                    show(line)

        return self._exec(container, command, take), texts[0], texts[1]

    def _exec(
        self, container: Container, command: Sequence[str], take: Callable[[bytes, bytes], None]
    ) -> int:
        """Run a command to its end; ``take`` gets stdout and stderr as they come."""
        api = self.client.api
        made = api.exec_create(container.id, list(command))["Id"]
        for out, err in api.exec_start(made, stream=True, demux=True):
            take(out or b"", err or b"")
        return int(api.exec_inspect(made)["ExitCode"] or 0)

    @contextlib.contextmanager
    def like(
        self,
        model: str,
        command: Sequence[str],
        part: str,
        *,
        name: str | None = None,
        entrypoint: str | None = None,
        network: str | None = None,
        variables: Mapping[str, str] | None = None,
        image: str | None = None,
    ) -> Iterator[str]:
        """Start a container like another one, but for this; removed afterwards.

        It has the other's image, user, volumes and limits, and neither its ports nor its name.
        It carries the stack's labels, so that one whose caller was killed goes with the stack.
        """
        found: dict[str, Any] = self.client.api.inspect_container(model)
        config, host = found["Config"], dict(found["HostConfig"])
        host |= {"AutoRemove": False, "PortBindings": {}, "RestartPolicy": {"Name": "no"}}
        host |= {"NetworkMode": network} if network else {}
        networks: dict[str, Any] = (
            {} if network else {key: {} for key in found["NetworkSettings"]["Networks"]}
        )
        made = self.client.api.create_container_from_config(
            {
                "Image": image or found["Image"],
                "User": config["User"],
                "Env": [
                    *((config["Env"] or ()) if image is None else ()),  # the image's own among it
                    *(f"{key}={value}" for key, value in (variables or {}).items()),
                ],
                "Entrypoint": [entrypoint] if entrypoint else config["Entrypoint"],
                "Cmd": list(command),
                "Labels": {**config["Labels"], LABEL_PART: part},
                "HostConfig": host,
                "NetworkingConfig": {"EndpointsConfig": networks},
            },
            name,
        )["Id"]
        try:
            self.client.api.start(made)
            yield str(made)
        finally:
            self.remove_container(made)

    def remove_container(self, identity: str) -> None:
        """Remove a container, its anonymous volumes too; gone already is fine."""
        with contextlib.suppress(docker.errors.NotFound):
            self.client.api.remove_container(identity, force=True, v=True)

    def remove_build_steps(self) -> None:
        """Remove containers that builds of our images left behind, if they are a minute old.

        A younger one may belong to a running build.
        """
        wanted = {"label": LABEL_BUILD, "status": ["created", "exited"]}
        for container in self.client.api.containers(all=True, filters=wanted):
            # Only the last step has the image's own label, and it runs no program.
            last = (
                container["Command"].startswith(_NOTHING) and LABEL_STACK not in container["Labels"]
            )
            if not last and container["Labels"][LABEL_BUILD] != "step":
                continue
            if time.time() - container["Created"] > _STEP_S:
                self.remove_container(container["Id"])

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
        """Return the end of a container's log."""
        with contextlib.suppress(docker.errors.APIError):
            raw = self.client.api.logs(container.id, tail=count)
            return [line.rstrip() for line in raw.decode(errors="replace").splitlines()]
        return []

    def last_words(self, container: Container, count: int) -> list[str]:
        """Return the same for people: of a line of JSON its message, and no empty line."""
        return [_message(line) for line in self.last_lines(container, count) if line.strip()]

    def wait_until_healthy(self, part: str, limit_s: float) -> Container | None:
        """Wait until a part's container is healthy or has exited; return its last state."""
        deadline = time.monotonic() + limit_s
        while True:
            found = self.container(part)
            if found is None or found.is_healthy or found.status in ("exited", "dead"):
                return found
            if time.monotonic() > deadline:
                return found
            time.sleep(0.25)

    def publisher(self, port: int) -> str | None:
        """Return the name of the running container, of any stack, that publishes a host port."""
        for container in self.client.api.containers(filters={"publish": str(port)}):
            if any(item.get("PublicPort") == port for item in container.get("Ports") or ()):
                return str(container["Names"][0]).lstrip("/")
        return None
