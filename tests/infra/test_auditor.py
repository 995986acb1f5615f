"""The scheduled drift check: sees drift, says so, keeps the evidence, and recovers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from pandom.audit.store import StoreClient
from pandom.audit.target import store_of
from pandom.config.container_specs import OPERATIONS_HEALTH
from pandom.operations.records import FOLDER
from pandom.operations.scheduler import SCHEDULES_VARIABLE
from pandom.runtime.naming import KEYS_MOUNT, UID_OPERATIONS, resource_name
from schema.storage import AUDITOR
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("B4", "B5")

LIMIT_S = 40


def start(spare: Spare, stack: RunningStack, engine: docker.DockerClient) -> Container:
    """The tasks' container as a stack of another profile has it, but for the others' times."""
    own = engine.containers.get(stack.container("operations"))
    (network,) = own.attrs["NetworkSettings"]["Networks"]
    kept = [one for one in own.attrs["Config"]["Env"] if not one.startswith(SCHEDULES_VARIABLE)]
    made = spare.create(
        "operations",
        ["operations"],
        user=f"{UID_OPERATIONS}:{UID_OPERATIONS}",
        environment=[*kept, f"{SCHEDULES_VARIABLE}={json.dumps({'audit': '0 0 1 1 *'})}"],
        network=network,
        volumes={
            spare.volume(): {"bind": str(FOLDER)},
            **{
                resource_name(stack.name, f"keys-{reader}"): {
                    "bind": f"{KEYS_MOUNT}/{reader}",
                    "mode": "ro",
                }
                for reader in ("auditor", "janitor")
            },
        },
    )
    made.start()
    return made


def audit(container: Container) -> int:
    """Run the task now, as `pandom run` does."""
    return int(container.exec_run(["pandom", "operations", "run", "audit"]).exit_code)


def verdict(container: Container) -> tuple[int, str]:
    """What the container's health check finds: its exit code and its words."""
    done = container.exec_run(list(OPERATIONS_HEALTH.command))
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


def well(code: int, said: str) -> bool:
    return (code, said.strip()) == (0, "well")


@pytest.fixture(scope="module")
def auditor(stack: RunningStack, engine: docker.DockerClient) -> Iterator[Container]:
    spare = Spare(engine, stack)
    try:
        made = start(spare, stack, engine)
        await_verdict(made, well)
        yield made
    finally:
        spare.close()


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
            assert audit(auditor) == 2
            said = await_verdict(auditor, lambda code, said: code != 0 and "evil" in said)
        finally:
            superuser.execute("drop role evil_watched")
    assert said.startswith("audit: drift: role-extra:evil_watched")
    assert '"result": "drift"' in auditor.logs().decode()
    assert audit(auditor) == 0
    await_verdict(auditor, well)

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
    assert audit(auditor) == 1
    await_verdict(auditor, lambda code, said: code != 0 and "could not tell: " in said)
    assert "Traceback" not in auditor.logs().decode()
    engine.networks.get(network).connect(auditor)
    assert audit(auditor) == 0
    await_verdict(auditor, well)


def test_without_its_secret_it_says_so(spare: Spare, stack: RunningStack) -> None:
    code, output = spare.run(
        "operations",
        ["operations", "task", "audit"],
        environment=["PANDOM_DB_HOST=postgres", "PANDOM_DB_PORT=5432", "PANDOM_DB_NAME=x"],
    )
    assert code == 1
    assert "missing or not readable" in output
    assert "Traceback" not in output
