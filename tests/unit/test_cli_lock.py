"""Locks: who is waited for, and what a killed run leaves. No I/O but a temporary folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pandom.host import lock
from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.errors import Failure
from pandom.runtime.process import Process

DEAD = 4194304  # above every process id of Linux


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    place = tmp_path / "locks" / "dev"
    with (
        lock.held(place, "Stack dev"),
        pytest.raises(Failure, match=f"Stack dev is in use by process {os.getpid()} "),
        lock.held(place, "Stack dev", wait_s=0.1),
    ):
        pass
    assert not place.exists()
    with lock.held(place, "Stack dev", wait_s=0.1):
        assert place.read_text() == str(os.getpid())


def test_a_file_that_a_dead_run_left_holds_nobody_up(tmp_path: Path) -> None:
    place = tmp_path / "dev"
    place.write_text(str(DEAD))
    with lock.held(place, "Stack dev", wait_s=0.1):
        pass


def pulumi_lock(content: str) -> Path:
    folder = paths.backend() / ".pulumi" / "locks" / "organization" / "pandom-stack" / "dev"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(content)
    return folder / "x.json"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"pid": DEAD, "hostname": socket.gethostname()}),
        json.dumps({"pid": os.getpid(), "hostname": socket.gethostname()}),  # not Pulumi
        '{"pid": 1',  # half written
    ],
    ids=["dead", "not Pulumi", "half written"],
)
def test_a_pulumi_lock_of_a_dead_process_is_removed(content: str) -> None:
    place = pulumi_lock(content)
    lock.release_pulumi_lock(Stack("dev"))
    assert not place.exists()


def test_a_pulumi_lock_of_another_host_stays() -> None:
    place = pulumi_lock(json.dumps({"pid": DEAD, "hostname": "elsewhere"}))
    with pytest.raises(Failure, match="process 4194304 on elsewhere"):
        lock.release_pulumi_lock(Stack("dev"))
    assert place.exists()


def test_nothing_works_on_a_stack_that_nobody_runs() -> None:
    assert lock.marked(Stack("dev")) == []


@pytest.mark.parametrize(
    ("owner", "ended"),
    [
        pytest.param(lambda: Process.of(os.getppid()), False, id="another lives, and reads"),
        pytest.param(lambda: Process.of(os.getpid()), True, id="this one"),
        pytest.param(lambda: replace(Process.of(os.getpid()), started="1"), True, id="dead"),
    ],
)
def test_what_another_command_waits_for_is_left_alone(
    owner: Callable[[], Process], ended: bool
) -> None:
    stack = Stack("dev")
    variables = {**lock.mark(stack), lock.STARTED_BY: str(owner())}
    with subprocess.Popen(["sleep", "20"], env={**os.environ, **variables}) as child:
        # Its environment is seen once it runs.
        while [one.pid for one in lock.marked(stack)] != [child.pid]:
            time.sleep(0.01)
        lock.end_former_run(stack)
        assert (child.poll() is not None) == ended
        child.kill()
