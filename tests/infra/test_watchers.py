"""What watches over the stack counts as well only when it says so itself."""

from __future__ import annotations

from typing import Any

import docker
import pytest

from pandom.config.container_specs import AUDITOR_HEALTH
from pandom.host import health
from pandom.host.engine import Engine
from pandom.runtime.errors import Failure
from pandom.runtime.naming import LABEL_PART, LABEL_STACK
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("D2")


def watched(spare: Spare, stack: RunningStack, script: str, **options: Any) -> str:
    """What `up` and `health` say of an auditor that runs a script."""
    aside = f"{stack.name}-aside"
    made = spare.create(
        "janitor",
        ["-c", script],
        entrypoint="sh",
        labels={LABEL_STACK: aside, LABEL_PART: "auditor"},
        # The engine itself does not ask within the time of this test.
        healthcheck={"test": ["CMD", *AUDITOR_HEALTH.command], "interval": 600 * 10**9},
        **options,
    )
    made.start()
    try:
        return health._watcher(Engine(aside), "auditor")
    finally:
        made.remove(force=True)


def test_one_that_has_just_been_started_is_asked_for_its_first_verdict(
    spare: Spare, stack: RunningStack
) -> None:
    script = "sleep 1; echo '0 clean' > /tmp/auditor-verdict; exec sleep 60"
    assert watched(spare, stack, script) == "running, its first round was good"


def test_drift_that_it_sees_is_told_at_once(spare: Spare, stack: RunningStack) -> None:
    with pytest.raises(Failure, match=r"^drift: role-extra:evil$"):
        watched(spare, stack, "echo '2 drift: role-extra:evil' > /tmp/auditor-verdict; sleep 60")


def test_one_that_says_nothing_is_no_success(
    spare: Spare, stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WAIT_S", 1.0)
    with pytest.raises(Failure, match="starting, without a verdict for 1 s"):
        watched(spare, stack, "exec sleep 60")


def test_one_that_ends_over_and_over_is_no_success(spare: Spare, stack: RunningStack) -> None:
    with pytest.raises(Failure, match=r"crash-looping, restarted [0-9]+ times; last log line: no"):
        watched(spare, stack, "echo no; exit 1", restart_policy={"Name": "always"})


def test_one_that_is_not_there_is_no_success(engine: docker.DockerClient) -> None:
    with pytest.raises(Failure, match="no such container"):
        health._watcher(Engine("no-such-stack", engine), "auditor")
