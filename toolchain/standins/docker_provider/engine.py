"""The connection to the Docker engine, and its errors in one line."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from toolchain.standins.interruption import Interruption, OperationFailed
from toolchain.standins.values import Values

if TYPE_CHECKING:
    from docker import APIClient

# No answer of the engine takes longer, except where an operation sets its own limit; seconds.
_ANSWER_LIMIT: Final = 120
# How often a silent stream looks up whether the user interrupted; seconds.
_LOOK_UP: Final = 0.2

Item = TypeVar("Item")


class Engine:
    """The engine of DOCKER_HOST or the local socket; the client is made when first needed.

    A run that changes nothing asks the engine nothing, and the client's package takes 0.3 s.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._host: str | None = None

    def configure(self, settings: Values) -> None:
        """Take the provider's own settings: where the engine is."""
        self._host = settings.get("host") or os.environ.get("DOCKER_HOST")

    @property
    def client(self) -> APIClient:
        """The client of the engine. Raises ``OperationFailed`` if it does not answer."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def patient_client(self) -> APIClient:
        """Return a connection of its own without a time limit, for a stream that may be silent."""
        return self._connect(None)

    def _connect(self, timeout: int | None = _ANSWER_LIMIT) -> APIClient:
        from docker import APIClient
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env

        settings = kwargs_from_env()
        if self._host:
            settings["base_url"] = self._host
        try:
            return APIClient(version="auto", timeout=timeout, **settings)
        except DockerException as error:
            where = settings.get("base_url", "unix:///var/run/docker.sock")
            raise OperationFailed(
                f"the Docker engine at {where} does not answer; is dockerd running? ({error})"
            ) from error


def watched(stream: Iterable[Item], interruption: Interruption) -> Iterator[Item]:
    """Yield the items of a stream that may be silent for long; ends at once when interrupted.

    The stream is read by a thread of its own, for a read that waits cannot be broken off. It
    is left behind when the user interrupts; the connection ends with the plugin.
    """
    arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        try:
            for item in stream:
                arrived.put(("item", item))
        except Exception as error:  # noqa: BLE001 -- raised again where the stream is used
            arrived.put(("error", error))
        else:
            arrived.put(("end", None))

    threading.Thread(target=read, daemon=True).start()
    while True:
        interruption.check()
        try:
            kind, item = arrived.get(timeout=_LOOK_UP)
        except queue.Empty:
            continue
        if kind == "end":
            return
        if kind == "error":
            raise item
        yield item


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of the engine as ``what: its own words``."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise OperationFailed(f"{what}: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise OperationFailed(f"{what}: {error}") from error
