"""The scheduled drift check: sees drift, says so, keeps the evidence, and recovers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from pandom.audit.store import StoreClient
from pandom.audit.target import store_of
from pandom.config.container_specs import AUDITOR_HEALTH
from pandom.runtime.naming import KEYS_MOUNT, UID_OPERATIONS, resource_name
from schema.storage import AUDITOR
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("B4", "B5")

LIMIT_S = 40


def start(spare: Spare, stack: RunningStack, engine: docker.DockerClient) -> Container:
    """The auditor as a stack of another profile has it, but for the interval."""
    janitor = engine.containers.get(stack.container("janitor"))
    (network,) = janitor.attrs["NetworkSettings"]["Networks"]
    made = spare.create(
        "janitor",
        ["audit", "watch"],
        user=f"{UID_OPERATIONS}:{UID_OPERATIONS}",
        environment=[*janitor.attrs["Config"]["Env"], "PANDOM_AUDITOR_INTERVAL_S=2"],
        network=network,
        volumes={
            resource_name(stack.name, "keys-auditor"): {"bind": str(KEYS_MOUNT), "mode": "ro"}
        },
    )
    made.start()
    return made


def verdict(container: Container) -> tuple[int, str]:
    """What the container's health check finds: its exit code and its words."""
    done = container.exec_run(list(AUDITOR_HEALTH.command))
    return int(done.exit_code), done.output.decode()


def await_verdict(container: Container, wanted: Callable[[int, str], bool]) -> str:
    end = time.monotonic() + LIMIT_S
    found = (-1, "")
    while time.monotonic() < end:
        found = verdict(container)
        if wanted(*found):
            return found[1]
        time.sleep(0.2)
    pytest.fail(f"the auditor says {found}; its log:\n{container.logs().decode()}")


@pytest.fixture
def auditor(spare: Spare, stack: RunningStack, engine: docker.DockerClient) -> Container:
    made = start(spare, stack, engine)
    await_verdict(made, lambda code, said: (code, said.strip()) == (0, "clean"))
    return made


def latest(store: StoreClient) -> dict[str, Any]:
    answer = store.s3.get_object(bucket_name=store.evidence, object_name="audit/latest.json")
    return dict(json.loads(answer.read()))


def test_drift_makes_it_unhealthy_and_its_end_healthy(
    auditor: Container, stack: RunningStack, server: Server
) -> None:
    store = store_of(stack.outputs, AUDITOR)
    with server.connect("postgres") as superuser:
        superuser.execute("create role evil_watched login superuser")
        try:
            said = await_verdict(auditor, lambda code, said: code != 0 and "evil" in said)
        finally:
            superuser.execute("drop role evil_watched")
    assert said.startswith("drift: role-extra:evil_watched")
    assert "drift: role-extra:evil_watched" in auditor.logs().decode()
    await_verdict(auditor, lambda code, said: (code, said.strip()) == (0, "clean"))

    report = latest(store)
    assert (report["exit_code"], report["trail"]["exit_code"]) == (0, 0)
    kept = store.s3.list_objects(
        bucket_name=store.evidence, prefix="audit/latest.json", include_version=True
    )
    found = []
    for one in kept:
        answer = store.s3.get_object(
            bucket_name=store.evidence, object_name="audit/latest.json", version_id=one.version_id
        )
        found += [finding["id"] for finding in json.loads(answer.read())["findings"]]
    assert "role-extra:evil_watched" in found
    names = store.s3.list_objects(bucket_name=store.evidence, prefix="audit/2")
    assert len(list(names)) >= 2


def test_what_it_cannot_tell_is_not_healthy(
    auditor: Container, engine: docker.DockerClient
) -> None:
    auditor.reload()
    (network,) = auditor.attrs["NetworkSettings"]["Networks"]
    engine.networks.get(network).disconnect(auditor)
    await_verdict(auditor, lambda code, said: code != 0 and said.startswith("could not tell: "))
    assert "Traceback" not in auditor.logs().decode()
    engine.networks.get(network).connect(auditor)
    await_verdict(auditor, lambda code, _: code == 0)


def test_without_its_secret_it_says_so(spare: Spare, stack: RunningStack) -> None:
    code, output = spare.run(
        "janitor",
        ["audit", "watch"],
        environment=["PANDOM_DB_HOST=postgres", "PANDOM_DB_PORT=5432", "PANDOM_DB_NAME=x"],
    )
    assert code == 1
    assert "missing or not readable" in output
    assert "Traceback" not in output
