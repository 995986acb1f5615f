"""The scheduled tasks of a stack: recorded, logged, shown, and each with its own secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import docker
import pytest
from docker.models.containers import Container
from testinfra.host import Host

from pandom.host import health, operations
from pandom.host.engine import Engine
from pandom.operations.records import FOLDER
from pandom.runtime.naming import LABEL_PART, LABEL_STACK
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("D2")

TASKS = ("partitions", "expiry", "seal")


def log(engine: docker.DockerClient, stack: RunningStack) -> list[dict[str, Any]]:
    text = engine.containers.get(stack.container("operations")).logs().decode()
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_of_the_log_is_json_and_every_run_is_in_it(
    stack: RunningStack, engine: docker.DockerClient
) -> None:
    lines = log(engine, stack)
    ended = {line["task"]: line for line in lines if "result" in line}
    assert set(ended) == set(TASKS)
    for line in ended.values():
        assert {"time", "run", "result", "exit_code", "seconds", "message"} < set(line)


def test_health_and_status_show_each_task(stack: RunningStack) -> None:
    report = json.loads(stack.pandom("health", "--stack", stack.name, "--json").stdout)
    checks = {one["name"]: one for one in report["checks"]}
    assert {"container operations", *(f"task {name}" for name in (*TASKS, "watch"))} <= set(checks)
    # The profile of tests has no scheduled audit.
    assert "task audit" not in checks
    assert "ok " in checks["task seal"]["detail"]
    shown = stack.pandom("status", "--stack", stack.name).stdout
    for name in TASKS:
        assert re.search(rf"task {name} +ok .* in .*; next \w+ \d\d:\d\d UTC", shown)
    assert re.search(r"task watch +runs since 20", shown)
    listed = json.loads(stack.pandom("schedule", "--stack", stack.name, "--format", "json").stdout)
    found = {one["task"]: one for one in listed["tasks"]}
    assert found["seal"]["schedule"] == "*/5 * * * *"
    assert found["seal"]["last"]["result"] == "ok"
    assert found["audit"]["next"] is None


def test_a_task_runs_now_and_its_result_stands(
    stack: RunningStack, engine: docker.DockerClient
) -> None:
    done = stack.pandom("run", "seal", "--stack", stack.name)
    assert re.search(r"seal of .* … ok, \d", done.stderr)
    (record,) = [
        one
        for one in json.loads(
            stack.pandom("schedule", "--stack", stack.name, "--format", "json").stdout
        )["tasks"]
        if one["task"] == "seal"
    ]
    # Asked for by hand, it is in the container's log all the same.
    assert record["last"]["run"] in {line.get("run") for line in log(engine, stack)}


def test_what_cannot_be_run_is_refused(
    stack: RunningStack, engine: docker.DockerClient, inside: Callable[[str], Host]
) -> None:
    for task, why in (
        ("saal", "saal is no task; did you mean seal?"),
        ("watch", "it runs all the time"),
        ("audit", "audit is off in stack"),
    ):
        refused = stack.pandom("run", task, "--stack", stack.name, code=2)
        assert why in refused.stderr
        assert "Nothing was started" in refused.stderr
    # Two at a time: whoever comes second is told so, by the lock and not by the record alone.
    script = (
        "import fcntl, os, subprocess\n"
        f"held = os.open('{FOLDER}/expiry.lock', os.O_RDWR)\n"
        "fcntl.flock(held, fcntl.LOCK_EX)\n"
        "done = subprocess.run(['pandom', 'operations', 'run', 'expiry'], capture_output=True)\n"
        "print(done.returncode, done.stderr.decode())"
    )
    said = inside("operations").check_output("/opt/pandom/bin/python -c %s", script)
    assert said.startswith("2 ")
    assert "expiry runs already" in said


def test_a_task_names_its_own_secrets_and_the_container_mounts_no_other(
    inside: Callable[[str], Host],
) -> None:
    host = inside("operations")
    # The program that searches has no end of its argument behind the word.
    found = host.check_output("grep -lzx watch /proc/[0-9]*/cmdline | cut -d/ -f3").split()
    (pid,) = [one for one in found if host.file(f"/proc/{one}").exists]
    environment = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ").splitlines()
    assert "PANDOM_KEYS=/run/pandom/keys/janitor" in environment
    assert [one for one in environment if "auditor" in one] == []
    assert host.file("/run/pandom/keys").listdir() == ["janitor"]


def test_a_task_that_fails_makes_health_fail_with_the_next_step(
    stack: RunningStack, server: Server
) -> None:
    with server.connect("postgres") as superuser:
        right = "execute on function public.delete_expired(integer)"
        superuser.execute(f"revoke {right} from pandom_janitor".encode())
        try:
            stack.pandom("run", "expiry", "--stack", stack.name, code=1)
            said = stack.pandom("health", "--stack", stack.name, code=1).stderr
        finally:
            superuser.execute(f"grant {right} to pandom_janitor".encode())
    assert re.search(r"task expiry: failed .* ago: permission denied for function", said)
    assert f"`pandom run expiry --stack {stack.name}`" in said
    # It is tried again by itself, and whoever asks waits for that.
    stack.pandom("health", "--stack", stack.name)


def standings(spare: Spare, stack: RunningStack, script: str, **options: Any) -> dict[str, Any]:
    """What `up` and `health` say of a container of tasks that runs a script."""
    aside = f"{stack.name}-aside"
    made: Container = spare.create(
        "operations",
        ["-c", script],
        entrypoint="sh",
        labels={LABEL_STACK: aside, LABEL_PART: "operations"},
        **options,
    )
    made.start()
    try:
        found = operations.standings(Engine(aside), aside, {"seal": "*/5 * * * *"})
        return {name: (well, words) for name, well, words in found}
    finally:
        made.remove(force=True)


def test_one_that_says_nothing_is_no_success(
    spare: Spare, stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "WAIT_S", 1.0)
    found = standings(spare, stack, "exec sleep 60")
    assert found == {"container operations": (False, "its scheduler says nothing")}


def test_one_that_ends_over_and_over_is_no_success(spare: Spare, stack: RunningStack) -> None:
    found = standings(spare, stack, "echo no; exit 1", restart_policy={"Name": "always"})
    ((well, words),) = found.values()
    assert not well
    assert re.search(r"crash-looping, restarted [0-9]+ times; last log line: no", words)


def test_one_that_is_not_there_is_no_success(engine: docker.DockerClient) -> None:
    (found,) = health.tasks(Engine("no-such-stack", engine), "no-such-stack", {})
    assert (found.name, found.ok) == ("container operations", False)
    assert "no such container" in found.detail


def test_schedules_that_cannot_be_read_end_it(spare: Spare) -> None:
    code, output = spare.run(
        "operations", ["operations"], environment=['PANDOM_SCHEDULES={"seal": "never"}']
    )
    assert code == 2
    assert "seal: expected five fields" in output
    assert "Traceback" not in output
