"""Killed at any moment, the next `up` completes. One stack, killed again and again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable
from functools import partial

import docker
import pytest

from pandom.host import lock
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.naming import resource_name
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.requirement("B1")
Wait = Callable[[Callable[[], bool], str], None]


def docker_knows(container: str) -> bool:
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=False)
    return done.returncode == 0


def drain(process: subprocess.Popen[str]) -> list[str]:
    """Keep its pipe empty, so that only our signal ends it; what it says, line by line."""
    said: list[str] = []
    stream = process.stdout
    assert stream is not None
    threading.Thread(target=lambda: said.extend(stream), daemon=True).start()
    return said


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


def kill_job(_: subprocess.Popen[str], stack: Stack) -> None:
    job = docker.from_env().containers.get(resource_name(stack.name, "migration"))
    while job.status == "created":
        job.reload()
    job.kill()


def interrupt(process: subprocess.Popen[str], _: Stack) -> None:
    process.send_signal(signal.SIGINT)


# When which container appears, how the run is ended, and its exit code.
Moment = tuple[str, Callable[[subprocess.Popen[str], Stack], None], int]
FEW: list[Moment] = [
    ("postgres", interrupt, 130),
    ("migration", kill_everything, -signal.SIGKILL),
]
MANY: list[Moment] = [
    ("keys", kill_pandom, -signal.SIGKILL),
    ("postgres", interrupt, 130),
    ("cluster", kill_pulumi, 1),
    ("migration", kill_job, 1),
    ("operations", kill_everything, -signal.SIGKILL),
]


@pytest.mark.parametrize(
    "moments", [FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_killed_at_several_moments_and_completed(
    unborn: RunningStack, wait_for: Wait, moments: list[Moment]
) -> None:
    stack = Stack(unborn.name)
    for part, end, code in moments:
        process = unborn.pandom.start("up", "--stack", unborn.name)
        said = drain(process)
        try:
            wait_for(partial(docker_knows, resource_name(unborn.name, part)), part)
            end(process, stack)
            assert process.wait(90) == code, "".join(said)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if code > 0:
            assert "goes on from" in "".join(said)
            assert "Traceback" not in "".join(said)
    unborn.pandom("up", "--stack", unborn.name)
    unborn.pandom("preview", "--stack", unborn.name, "--expect-no-changes")
    assert lock.marked(stack) == []
    assert not list((paths.backend() / ".pulumi" / "locks").rglob(f"{unborn.name}/*.json"))
