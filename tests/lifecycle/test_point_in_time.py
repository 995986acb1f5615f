"""A former state of the database: beside the running one, then instead of it, and back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import docker
import pytest

from pandom.host import lock
from pandom.runtime import paths
from pandom.runtime.naming import resource_name
from tests.fixtures.backups import Bucket, backup_labels, copy_objects, named_by_a_row, sql, written
from tests.fixtures.server import server_of
from tests.fixtures.stack import Pandom, RunningStack

pytestmark = pytest.mark.requirement("D5")


def note(stack: RunningStack, number: int) -> None:
    """An event that can be counted."""
    sql(
        stack,
        "select public.write_event('audit_logs', null, 'test_noted', 'info', "
        f"jsonb_build_object('number', {number}))",
    )


def noted(stack: RunningStack) -> list[int]:
    rows = sql(
        stack,
        "select (details->>'number')::int from public.audit_logs "
        "where event_type = 'test_noted' order by 1",
    )
    return [number for (number,) in rows]


def between() -> str:
    """A moment that no commit is near to."""
    time.sleep(1.1)
    now = datetime.now(UTC)
    time.sleep(1.1)
    return f"{now:%Y-%m-%d %H:%M:%S.%f}"


def restore(stack: RunningStack, *arguments: str, code: int | None = 0, **variables: str) -> str:
    pandom = Pandom(stack.pandom.root, variables) if variables else stack.pandom
    done = pandom("restore", *arguments, "--stack", stack.name, code=code)
    return done.stdout + done.stderr


def contents(media: Bucket) -> dict[str, bytes]:
    return {name: media.get(name) for name in media.names("restored/")}


def test_a_moment_comes_back_and_can_be_taken_back(backed: RunningStack, media: Bucket) -> None:
    note(backed, 1)
    media.put("restored/changed", b"before")
    media.put("restored/deleted", b"before")
    media.put("restored/removed", b"before")
    copy_objects(backed)
    with named_by_a_row(backed, "restored/changed", "restored/never"):
        moment = between()
    note(backed, 2)
    media.put("restored/changed", b"after")
    media.put("restored/new", b"after")
    media.s3.remove_object(bucket_name=media.name, object_name="restored/deleted")
    media.remove_versions("restored/removed")
    after = contents(media)
    key = sql(backed, "select secret from public.context_key")
    said = restore(backed, "--to", moment)
    assert "Restored beside the served database" in said
    assert "blocks of the trail in order" in said
    # Nothing of the running database is another one yet.
    assert noted(backed) == [1, 2]
    back = "3 written back, 1 deleted, 1 of these from copies by --switch"
    assert f"objects: {back}" in said
    assert "objects: 1 that rows name are not there: restored/never (user_prof" in said
    assert "that no row names: " in said
    assert contents(media) == after
    backed.pandom("health", "--stack", backed.name)
    assert "no former database" in restore(backed, "--undo", code=2)

    restore(backed, "--switch")
    assert noted(backed) == [1]
    former = ("changed", "deleted", "removed")
    assert contents(media) == {f"restored/{name}": b"before" for name in former}
    assert sql(backed, "select secret from public.context_key") != key
    rows = sql(
        backed,
        "select count(*), max(epoch) from public.security_logs where event_type = 'trail_restored'",
    )
    assert rows == [(1, 2)]
    for role in backed.outputs["passwords"]:
        with server_of(backed).connect(role) as connection:
            connection.execute("select 1")
    backed.pandom("audit", "--stack", backed.name, "--store", "--host")
    backed.pandom("up", "--stack", backed.name)
    # It lies there until somebody decides.
    assert "former" in restore(backed, code=2)
    assert f"CONFIRM={backed.name}" in restore(backed, "--discard", code=2)
    assert "no database that was restored" in restore(backed, "--switch", code=2)

    restore(backed, "--undo")
    assert noted(backed) == [1, 2]
    assert contents(media) == after
    assert "Removed the former database" in restore(backed, "--discard", CONFIRM=backed.name)
    assert "There was nothing" in restore(backed, "--discard")


@pytest.mark.soak  # runs of `up`
def test_either_history_can_be_come_back_to(backed: RunningStack) -> None:
    note(backed, 3)
    moment = between()
    note(backed, 4)
    restore(backed, "--to", moment)
    restore(backed, "--switch")
    note(backed, 5)
    later = between()
    restore(backed, "--undo")
    assert noted(backed)[-1] == 4
    backed.pandom("audit", "--stack", backed.name, "--store", "--host")
    restore(backed, "--discard", CONFIRM=backed.name)
    restore(backed, "--to", later)
    restore(backed, "--switch")
    assert noted(backed)[-2:] == [3, 5]
    restore(backed, "--discard", CONFIRM=backed.name)


@pytest.mark.soak  # runs of `up`
def test_a_backup_and_the_latest(backed: RunningStack) -> None:
    note(backed, 10)
    backed.pandom("backup", "--stack", backed.name)
    note(backed, 11)
    label = backup_labels(backed)[-1]
    asked = ("restore", "--backup", label, "--format", "json", "--stack", backed.name)
    told = json.loads(backed.pandom(*asked).stdout)
    assert told["aim"] == f"backup {label}"
    assert {"missing", "unnamed", "deleted", "from_copies"} <= told["objects"].keys()
    assert "the latest" in restore(backed)
    restore(backed, "--switch")
    assert noted(backed)[-2:] == [10, 11]
    restore(backed, "--discard", CONFIRM=backed.name)


def test_what_cannot_be_restored_is_refused(backed: RunningStack) -> None:
    for arguments, said in (
        (("--to", "2000-01-01 00:00"), "what came before it cannot be restored"),
        (("--to", "2999-01-01 00:00"), "in the future"),
        (("--to", "yesterday"), "is no time"),
        (("--backup", "20000101-000000F"), "none of this name"),
        (("--to", "2026-11-25 14:05", "--backup", "x"), "one of them"),
        (("--switch", "--to", "2026-11-25 14:05"), "no --to"),
        (("--switch",), "no database that was restored"),
    ):
        assert said in restore(backed, *arguments, code=2)
    place = paths.state_home() / "locks" / f"{backed.name}.restore"
    with lock.held(place, "the test"):
        assert "Another restore" in restore(backed, code=2)


@pytest.mark.soak  # runs of `up`
def test_a_killed_restore_harms_nothing_and_goes_on(
    backed: RunningStack, wait_for: Callable[[Callable[[], bool], str], None]
) -> None:
    name = resource_name(backed.name, "restore")
    client = docker.from_env()

    def restoring() -> bool:
        found = client.containers.list(filters={"name": f"^{name}$"})
        return bool(found) and "restore file" in found[0].logs().decode(errors="replace")

    process = backed.pandom.start("restore", "--stack", backed.name)
    wait_for(restoring, "files that are restored")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    events = noted(backed)
    # What it left is named, and is all that is not as declared.
    health = backed.pandom("health", "--stack", backed.name, code=2).stderr
    assert f"{name}: a container that is not declared" in health
    assert "found: unfinished" in restore(backed, "--switch", code=2)
    client.containers.get(name).kill()
    assert "Restored beside" in restore(backed)
    assert noted(backed) == events
    # And one that the next `up` finds.
    process = backed.pandom.start("restore", "--stack", backed.name)
    wait_for(restoring, "files that are restored")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    backed.pandom("up", "--stack", backed.name)
    assert not client.containers.list(all=True, filters={"name": f"^{name}$"})
    restore(backed, "--discard")


@pytest.mark.soak  # runs of `up`
def test_a_missing_segment_is_no_silent_loss(backed: RunningStack, bucket: Bucket) -> None:
    note(backed, 20)
    before = between()
    written(backed)
    lost = written(backed)
    note(backed, 21)
    after = between()
    written(backed)
    (name,) = bucket.names(f"/{lost}-")
    content = bucket.remove(name)
    try:
        for arguments in ((), ("--to", after)):
            said: Any = restore(backed, *arguments, code=2)
            assert lost in said
        assert "Restored beside" in restore(backed, "--to", before)
    finally:
        bucket.put(name, content)
        restore(backed, "--discard")
    assert noted(backed)[-2:] == [20, 21]


@pytest.mark.soak  # runs of `up`
def test_a_cluster_that_does_not_start_is_restored(backed: RunningStack) -> None:
    note(backed, 30)
    written(backed)
    server = docker.from_env().containers.get(backed.container("postgres"))
    control = "/var/lib/postgresql/17/data/global/pg_control"
    server.exec_run(["sh", "-c", f"head -c 8192 /dev/urandom > {control}"])
    server.kill()
    server.start()
    assert "the server is not running" in restore(backed)
    restore(backed, "--switch")
    assert noted(backed)[-1] == 30
    assert "the former database" in restore(backed, "--discard", code=2)
    restore(backed, "--discard", CONFIRM=backed.name)
