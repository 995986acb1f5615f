"""Killed at any moment, the next `up` completes. One stack, killed again and again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial

import pytest

from pandom import paths
from pandom.host import lock
from pandom.host.stack import Stack
from pandom.naming import resource_name
from tests.fixtures.stack import RunningStack
from tests.lifecycle.conftest import read_until

pytestmark = pytest.mark.requirement("B1")
Wait = Callable[[Callable[[], bool], str], None]


def docker_knows(container: str) -> bool:
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=False)
    return done.returncode == 0


def drain(process: subprocess.Popen[str]) -> None:
    """Keep its pipe empty, so that only our signal ends it."""
    assert process.stdout is not None
    threading.Thread(
        target=lambda stream: list(stream), args=(process.stdout,), daemon=True
    ).start()


def kill_pandom(process: subprocess.Popen[str], _: Stack) -> None:
    process.kill()


def kill_pulumi(process: subprocess.Popen[str], stack: Stack) -> None:
    for one in lock.marked(stack):
        if one.name == "pulumi":
            one.signal(signal.SIGKILL)


def kill_everything(process: subprocess.Popen[str], stack: Stack) -> None:
    process.kill()
    for one in lock.marked(stack):
        one.signal(signal.SIGKILL)


MOMENTS = [
    ("keys", kill_everything),
    ("postgres", kill_pandom),
    ("cluster", kill_pulumi),
    ("migration", kill_everything),
]


def test_killed_at_several_moments_and_completed(unborn: RunningStack, wait_for: Wait) -> None:
    stack = Stack(unborn.name)
    for part, kill in MOMENTS:
        process = unborn.pandom.start("up", "--stack", unborn.name)
        drain(process)
        try:
            wait_for(partial(docker_knows, resource_name(unborn.name, part)), part)
            kill(process, stack)
            process.wait(60)
            assert process.returncode != 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    process = unborn.pandom.start("up", "--stack", unborn.name)
    try:
        read_until(process, "access")
        process.send_signal(signal.SIGINT)
        said = "".join(process.stdout or ())
        assert process.wait(90) == 130, said
        assert "goes on from here" in said
    finally:
        process.kill()
    unborn.pandom("up", "--stack", unborn.name)
    unborn.pandom("preview", "--stack", unborn.name, "--expect-no-changes")
    assert lock.marked(stack) == []
    assert not list((paths.backend() / ".pulumi" / "locks").rglob(f"{unborn.name}/*.json"))
