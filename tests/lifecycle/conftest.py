"""Stacks of the lifecycle tests' own: they break them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from pandom.objectstore import client
from schema.storage import backup_bucket
from tests.fixtures import leaks
from tests.fixtures.backups import Bucket, root
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker, new_name, remove, running


@pytest.fixture(scope="module")
def own() -> Iterator[RunningStack]:
    """A stack that is up, for one module."""
    with running() as made:
        leaks.watch(made.secrets.values())
        yield made


@pytest.fixture(scope="session")
def backed() -> Iterator[RunningStack]:
    """A stack whose backups go to its own store, for backups, restores, drills and rotation;
    PANDOM_TEST_BACKED reuses one."""
    if reused := os.environ.get("PANDOM_TEST_BACKED"):
        found = RunningStack(reused)
        leaks.watch(found.secrets.values())
        yield found
        return
    with running(settings={"backup": "own-store"}) as made:
        leaks.watch(made.secrets.values())
        yield made


@pytest.fixture(scope="session")
def bucket(backed: RunningStack) -> Bucket:
    """Its bucket for backups."""
    return Bucket(client(*root(backed)), backup_bucket(backed.outputs["minio_bucket_name"]))


@pytest.fixture(scope="session")
def media(backed: RunningStack) -> Bucket:
    """Its bucket of documents and media."""
    return Bucket(client(*root(backed)), backed.outputs["minio_bucket_name"])


@pytest.fixture
def unborn() -> Iterator[RunningStack]:
    """A name under which nothing exists yet; whatever a test makes of it is removed."""
    made = RunningStack(new_name(), Pandom())
    yield made
    remove(made.name, made.pandom)
    assert left_in_docker(made.name) == []


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool], str], None]:
    """Wait until something is true, at most a minute."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"not within 60 s: {what}"
            time.sleep(0.05)

    return wait
