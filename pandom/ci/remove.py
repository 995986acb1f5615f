"""Removes an environment: what Docker has by its labels, processes by their mark, then its files.

Its state goes with it, so Pulumi is not asked: the whole takes two seconds, and works for one
whose making was killed at any moment.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import docker
import docker.errors

from pandom.ci.records import Record
from pandom.host import lock
from pandom.host.engine import Engine
from pandom.host.identity import Thing
from pandom.runtime.errors import Failure
from pandom.runtime.naming import LABEL_OWNER

# What a killed run had asked Docker for may appear after the first look, and a busy engine
# takes its time.
_WAIT_S: Final = 60.0
_PAUSE_S: Final = 0.3
_ORDER: Final = ("container", "network", "volume")


def remove(record: Record, client: docker.DockerClient) -> None:
    """Remove everything of an environment, for whoever holds it; doing so twice is fine.

    Raises Failure that names what is left.
    """
    _end_processes(record)
    # The latter for what somebody made of it with Pulumi by hand.
    mine = (f":{record.state_home}", f":{record.home.parents[1]}")
    objects(record.id, client, lambda owner: owner.endswith(mine))
    record.remove()
    if record.home.exists() or record.stack_files:
        left = [record.home] if record.home.exists() else record.stack_files
        raise Failure(
            f"Environment {record.id} is not gone; these are left: {', '.join(map(str, left))}\n"
            f"Next: see who uses them, then `.venv/bin/pandom ci destroy {record.id}` again."
        )


def objects(name: str, client: docker.DockerClient, owned: Callable[[str], bool]) -> None:
    """Remove the containers, networks and volumes of a stack whose owner is the one meant."""
    engine = Engine(name, client)

    def look() -> list[Thing]:
        return [one for one in engine.things() if owned(one.labels.get(LABEL_OWNER, ""))]

    left, deadline = look(), time.monotonic() + _WAIT_S
    while left and time.monotonic() < deadline:
        for kind in _ORDER:
            _remove(engine, [one for one in left if one.kind == kind])
        if left := look():
            time.sleep(_PAUSE_S)
    if not left:
        return
    raise Failure(
        f"Environment {name} is not gone; Docker still has "
        + ", ".join(f"{one.kind} {one.name}" for one in left)
        + f".\nNext: see who uses them, then `.venv/bin/pandom ci destroy {name}` again."
    )


def _remove(engine: Engine, things: Iterable[Thing]) -> None:
    """Remove them at the same time; what cannot be removed yet is seen in the next round."""
    with ThreadPoolExecutor(8) as beside:
        asked = [beside.submit(_remove_one, engine, one) for one in things]
    for one in asked:
        one.result()


def _remove_one(engine: Engine, thing: Thing) -> None:
    ways = {
        "container": engine.remove_container,
        "network": engine.remove_network,
        "volume": engine.remove_volume,
    }
    with contextlib.suppress(docker.errors.APIError):  # in use, or being removed by another
        ways[thing.kind](thing.id)


def _end_processes(record: Record) -> None:
    """End what a killed run left behind; nobody needs the state that it would still write."""
    for process in lock.with_mark(str(record.state_home / record.id)):
        process.signal(signal.SIGKILL)
