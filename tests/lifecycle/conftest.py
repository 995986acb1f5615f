"""Stacks of the lifecycle tests' own: they break them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest

from tests.fixtures import leaks
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker, new_name, remove, running


@pytest.fixture(scope="module")
def own() -> Iterator[RunningStack]:
    """A stack that is up, for one module."""
    with running() as made:
        leaks.watch(made.secrets.values())
        yield made


@pytest.fixture
def unborn() -> Iterator[RunningStack]:
    """A name under which nothing exists yet; whatever a test makes of it is removed."""
    made = RunningStack(new_name(), Pandom())
    yield made
    remove(made.name, made.pandom)
    assert left_in_docker(made.name) == []


def read_until(process: Popen[str], pattern: str, limit_s: float = 120.0) -> str:
    """What the process said up to a line that matches; the test's own limit ends a silence."""
    assert process.stdout is not None
    said, deadline = "", time.monotonic() + limit_s
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
        assert time.monotonic() < deadline, said
    raise AssertionError(f"ended with {process.wait()} before {pattern!r}:\n{said}")


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool], str], None]:
    """Wait until something is true, at most a minute."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"not within 60 s: {what}"
            time.sleep(0.05)

    return wait
