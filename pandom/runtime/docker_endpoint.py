"""Which Docker engine: one answer for the command line, the client library and the plugins.

In Docker's order: DOCKER_HOST, DOCKER_CONTEXT, the context in config.json, the local socket. The
answer is put into the environment for every program that we start. Standard library only, because
`make tools` uses it first.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pandom.runtime.errors import USAGE_ERROR, Failure, UsageError

SOCKET: Final = "unix:///var/run/docker.sock"
_ANSWER_S: Final = 5.0
# Variables that the resolved engine replaces.
_VARIABLES: Final = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)
_CERTIFICATES: Final = ("ca.pem", "cert.pem", "key.pem")
_PORTS: Final = {False: 2375, True: 2376}
_DEFAULT: Final = "the default"
# The engine mounts files from a folder named after the container.
_CONTAINER: Final = re.compile(r"containers/([0-9a-f]{64})/")
_CHOOSE: Final = "Next: `docker context use default` (or unset {}) for the engine of this machine."


class DockerSilent(Failure):
    """The Docker engine does not answer, and nothing was touched (exit code 2)."""

    exit_code = USAGE_ERROR


@dataclass(frozen=True)
class Endpoint:
    """Where an engine is, and who said so."""

    address: str
    origin: str = _DEFAULT
    certificates: Path | None = None
    verify: bool = True

    def __str__(self) -> str:
        return self.address if self.default else f"{self.address} ({self.origin})"

    @property
    def default(self) -> bool:
        """Whether nobody chose it."""
        return self.origin == _DEFAULT

    @property
    def choice(self) -> str:
        """How to take another one."""
        if self.default:
            return (
                "Next: start it (`make tools` does, where nothing else would)\n"
                "and run this again; what was running comes back as it was."
            )
        if self.origin.startswith("DOCKER_"):
            return f"Next: start that engine, or unset {self.origin} to use this machine's own."
        return "Next: start that engine, or take this machine's own: `docker context use default`."

    def variables(self) -> dict[str, str]:
        """Return what Docker's command line, the client library and the plugins understand."""
        found = {"DOCKER_HOST": self.address}
        if self.certificates:
            found["DOCKER_CERT_PATH"] = str(self.certificates)
            # Docker's command line has another variable for TLS without verification.
            found["DOCKER_TLS_VERIFY" if self.verify else "DOCKER_TLS"] = "1"
        return found


_chosen: Endpoint | None = None


def use(environ: MutableMapping[str, str] = os.environ) -> Endpoint:
    """Decide, and write the decision into the environment; raises UsageError."""
    global _chosen  # who said so is lost once the address stands in the environment
    if _chosen is not None and environ.get("DOCKER_HOST") == _chosen.address:
        return _chosen
    found = resolve(environ)
    for name in _VARIABLES:
        environ.pop(name, None)
    environ.update(found.variables())
    _chosen = found
    return found


def named() -> str:
    """Return the engine for a message that must not fail: where it is, and who said so."""
    try:
        return str(use())
    except UsageError:
        return os.environ.get("DOCKER_HOST") or SOCKET


def resolve(environ: Mapping[str, str]) -> Endpoint:
    """Return the engine that the environment and Docker's files name.

    Raises UsageError for a context that does not exist, and for what is not supported.
    """
    if host := environ.get("DOCKER_HOST", "").strip():
        return _supported(_with_tls(host, "DOCKER_HOST", environ))
    folder = _folder(environ)
    context, origin = environ.get("DOCKER_CONTEXT", "").strip(), "DOCKER_CONTEXT"
    if not context and folder is not None:
        context, origin = _current_context(folder), str(folder / "config.json")
    if context in ("", "default") or folder is None:
        for name in ("DOCKER_TLS_VERIFY", "DOCKER_TLS"):
            if environ.get(name):  # to Docker's command line that means another address, too
                return _supported(_with_tls("localhost", name, environ))
        return Endpoint(SOCKET)
    return _supported(_of_context(folder, context, origin))


def _folder(environ: Mapping[str, str]) -> Path | None:
    """Docker's folder of the user; one without a home has none."""
    if given := environ.get("DOCKER_CONFIG"):
        return Path(given)
    home = environ.get("HOME", "")
    return Path(home) / ".docker" if home else None


def _document(path: Path, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise UsageError(
            f"{path} cannot be read: {reason}. It says {what}.\n"
            "Next: mend the file, or name the engine: DOCKER_HOST=" + SOCKET
        ) from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} says {what}, and is no JSON object. Next: mend the file.")
    return found


def _current_context(folder: Path) -> str:
    found = _document(folder / "config.json", "which Docker engine is meant")
    return str(found.get("currentContext") or "")


def _of_context(folder: Path, name: str, origin: str) -> Endpoint:
    identity = hashlib.sha256(name.encode()).hexdigest()
    place = folder / "contexts" / "meta" / identity / "meta.json"
    found = _document(place, f"where the Docker context {name!r} is")
    said = f"context {name!r}, chosen by {origin}"
    if not found:
        raise UsageError(
            f"There is no Docker context {name!r}, which {origin} names; there are: "
            f"{', '.join(_contexts(folder))}.\n" + _CHOOSE.format("DOCKER_CONTEXT")
        )
    endpoint = (found.get("Endpoints") or {}).get("docker") or {}
    address = str(endpoint.get("Host") or SOCKET)
    certificates = folder / "contexts" / "tls" / identity / "docker"
    if not certificates.is_dir():
        return Endpoint(_with_port(address, tls=False), said)
    return Endpoint(
        _with_port(address, tls=True), said, certificates, not endpoint.get("SkipTLSVerify")
    )


def _contexts(folder: Path) -> list[str]:
    names = ["default"]
    for path in sorted((folder / "contexts" / "meta").glob("*/meta.json")):
        with contextlib.suppress(UsageError):
            names.append(str(_document(path, "").get("Name", "")))
    return names


def _with_tls(host: str, origin: str, environ: Mapping[str, str]) -> Endpoint:
    """DOCKER_HOST with the certificates of DOCKER_CERT_PATH, if TLS is asked for."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if host.startswith("unix:") or not (verify or environ.get("DOCKER_TLS")):
        return Endpoint(_with_port(host, tls=False), origin)
    given = environ.get("DOCKER_CERT_PATH")
    folder = Path(given) if given else _folder(environ)
    return Endpoint(_with_port(host, tls=True), origin, folder or Path(), verify)


def _with_port(address: str, *, tls: bool) -> str:
    """As Docker's command line reads it: without a scheme it is tcp, without a port Docker's."""
    if address == "unix://":
        return SOCKET
    if "://" not in address:
        address = f"tcp://{address}"
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):  # no number; refused later
        if parts.scheme == "tcp" and parts.hostname and parts.port is None:
            return f"{address.rstrip('/')}:{_PORTS[tls]}"
    return address


def _supported(found: Endpoint) -> Endpoint:
    """Raise UsageError for an engine whose ports would not be on this machine's 127.0.0.1."""
    parts = urlsplit(found.address)
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise _refused(found, "a socket is named by its whole path: unix:///run/docker.sock")
        return found
    if parts.scheme != "tcp":
        raise _refused(
            found,
            f"{parts.scheme}:// is not supported: the stack publishes its ports on 127.0.0.1 of "
            "the engine's machine, which must be this one",
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise _refused(found, "expected tcp://127.0.0.1:PORT")
    if not _is_here(host):
        raise _refused(
            found,
            f"{host} is not this machine, and the stack publishes its ports on 127.0.0.1 of the "
            "engine's machine",
        )
    if found.certificates is not None:
        lacking = [name for name in _CERTIFICATES if not (found.certificates / name).is_file()]
        if lacking:
            raise _refused(
                found, f"TLS is asked for, and {found.certificates} has no {', '.join(lacking)}"
            )
    return found


def _is_here(host: str) -> bool:
    """Return whether a name or address is one of this machine's own: only those can be bound."""
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in addresses:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _refused(found: Endpoint, why: str) -> UsageError:
    return UsageError(
        f"Docker at {found} cannot be used: {why}.\nNothing was touched. "
        + _CHOOSE.format(found.origin if found.origin.startswith("DOCKER_") else "DOCKER_CONTEXT")
    )


def check(found: Endpoint) -> None:
    """Check that the engine answers, and publishes ports on our 127.0.0.1.

    Raises DockerSilent with the engine's address; UsageError in a container that only has the
    engine's socket.
    """
    if reason := silence(found):
        raise DockerSilent(
            f"Docker does not answer at {found}: {reason}\nNothing was touched. {found.choice}"
        )
    for identity in _own_containers():
        status, body = _get(found, f"/containers/{identity}/json")
        if status != http.HTTPStatus.OK:
            continue
        network = str(body.get("HostConfig", {}).get("NetworkMode", ""))
        if network != "host":
            raise UsageError(
                f"This is the container {str(body.get('Name', identity)).lstrip('/')} of the very "
                f"engine at {found}:\nthe stack's ports would be on the 127.0.0.1 of the engine's "
                "machine, and not on this container's.\nNothing was touched. Next: run this on "
                "that machine, or start this container with `--network host`."
            )


def silence(found: Endpoint) -> str | None:
    """Return why no engine answers there, or None."""
    try:
        status, _ = _get(found, "/_ping")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    return None if status == http.HTTPStatus.OK else f"what answers there is no engine ({status})"


def _own_containers() -> Iterator[str]:
    """Yield the identities that the mounts of this process name, if it runs in a container."""
    with contextlib.suppress(OSError):
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        # Mounts of other containers may be visible, too, if an engine runs here.
        own = [line for line in text.splitlines() if line.split()[4] == "/etc/hostname"]
        yield from dict.fromkeys(_CONTAINER.findall("\n".join(own)))


def _get(found: Endpoint, path: str) -> tuple[int, Mapping[str, Any]]:
    connection = _Connection(found)
    try:
        connection.request("GET", path, headers={"Host": "docker"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    return answer.status, document if isinstance(document, dict) else {}


class _Connection(http.client.HTTPConnection):
    """HTTP over whatever the endpoint is."""

    def __init__(self, found: Endpoint) -> None:
        parts = urlsplit(found.address)
        super().__init__(parts.hostname or "docker", parts.port, timeout=_ANSWER_S)
        self._endpoint, self._path = found, parts.path

    def connect(self) -> None:
        """Connect to the socket, or by TCP, with TLS where there are certificates."""
        if self._endpoint.address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(_ANSWER_S)
            self.sock.connect(self._path)
            return
        super().connect()
        folder = self._endpoint.certificates
        if folder is not None:
            context = ssl.create_default_context(cafile=folder / "ca.pem")
            if not self._endpoint.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
