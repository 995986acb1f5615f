"""A former state of the database: beside the running one, then instead of it, and back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import docker
import docker.errors
import psycopg
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


def state(stack: RunningStack) -> str:
    """What the volume says lies beside, and what was begun; "" while the server is exchanged."""
    try:
        server = docker.from_env().containers.get(stack.container("postgres"))
        code, said = server.exec_run(["pandom-restore", "state"])
    except docker.errors.APIError:
        return ""
    return "" if code else " ".join(one for one in said.decode().split() if not one.isdigit())


def killed(stack: RunningStack, way: str, when: Callable[[], bool]) -> None:
    """Begin an exchange, and kill it at a moment."""
    process = stack.pandom.start("restore", f"--{way}", "--stack", stack.name)
    deadline = time.monotonic() + 600
    while process.poll() is None and not when():
        assert time.monotonic() < deadline, f"not within 600 s: the moment of --{way}"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


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

    # Killed in the middle, it is nobody's yet, health says so, and the same goes on.
    killed(backed, "switch", lambda: "switch" in state(backed))
    assert (
        "was not carried to its end"
        in backed.pandom("health", "--stack", backed.name, code=1).stderr
    )
    for refused in (("restore",), ("restore", "--discard"), ("db", "finish", "pandom_db")):
        said = backed.pandom(*refused, "--stack", backed.name, code=2).stderr
        assert f"`pandom restore --switch --stack {backed.name}` goes on" in said
    restore(backed, "--switch")
    assert state(backed) == "former"
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
    assert "was restored, served and taken back" in restore(backed, "--discard", code=2)
    assert "taken back" in restore(backed, "--discard", CONFIRM=backed.name)
    assert "There was nothing" in restore(backed, "--discard")


@pytest.mark.soak  # runs of `up`
@pytest.mark.parametrize("mended", ["the same", "up"])
@pytest.mark.parametrize("way", ["switch", "undo"])
@pytest.mark.parametrize("step", ["exchanged", "open", "backup"])
def test_killed_at_any_step_an_exchange_goes_on(
    backed: RunningStack, mended: str, way: str, step: str
) -> None:
    """And nothing that is committed afterwards is lost by the next one."""
    operations = docker.from_env().containers.get(backed.container("operations"))

    def reached() -> bool:
        if way not in state(backed):
            return False
        if step == "backup":
            return bool(
                operations.exec_run(["pkill", "-0", "-f", "^pgbackrest .* backup$"])[0] == 0
            )
        return step == "exchanged" or is_open(backed)

    note(backed, 40)
    restore(backed)
    if way == "undo":
        restore(backed, "--switch")
    killed(backed, way, reached)
    backed.pandom("health", "--stack", backed.name, code=1)
    again = ("up",) if mended == "up" else ("restore", f"--{way}")
    backed.pandom(*again, "--stack", backed.name)
    backed.pandom("health", "--stack", backed.name)
    backed.pandom("backup", "--verify", "--stack", backed.name)
    note(backed, 41)
    restore(backed, "--discard", CONFIRM=backed.name)
    restore(backed)
    restore(backed, "--switch")
    assert noted(backed)[-2:] == [40, 41]
    restore(backed, "--discard", CONFIRM=backed.name)
    written(backed)  # is archived: no number of a history was used twice
    backed.pandom("health", "--stack", backed.name)


def is_open(stack: RunningStack) -> bool:
    try:
        return bool(sql(stack, "select 1"))
    except psycopg.OperationalError:
        return False


@pytest.mark.soak  # runs of `up`
def test_before_the_exchange_the_other_one_takes_it_back(
    backed: RunningStack, media: Bucket
) -> None:
    media.put("restored/many", b"before")
    moment = between()
    media.put("restored/many", b"after")
    restore(backed, "--to", moment)
    killed(backed, "switch", lambda: state(backed) == "restored left")
    assert "was interrupted" in backed.pandom("health", "--stack", backed.name, code=1).stderr
    restore(backed, "--undo")
    assert media.get("restored/many") == b"after"
    restore(backed, "--switch")
    assert media.get("restored/many") == b"before"
    killed(backed, "undo", lambda: state(backed) == "former left")
    restore(backed, "--switch")
    assert media.get("restored/many") == b"before"
    restore(backed, "--undo")
    assert media.get("restored/many") == b"after"
    restore(backed, "--discard", CONFIRM=backed.name)


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
    # Nothing goes on working at it.
    assert not client.containers.list(all=True, filters={"name": f"^{name}$"})
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
