"""Physical backups of one stack: made, listed, verified, damaged in every way, and noticed."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from minio.error import S3Error

from pandom.backups.repository import PROGRAM
from pandom.config.backup import KEY_FILE
from pandom.host.engine import Container, Engine
from pandom.host.repository import Repository
from pandom.host.stack import Stack, set_values
from pandom.objectstore import Account, administrator, client
from pandom.runtime.errors import PandomError
from pandom.runtime.naming import BACKUP_CONFIG, KEYS_MOUNT
from schema.storage import BACKUP, COPIER, backup_bucket
from tests.fixtures.backups import Bucket, flipped, root, sql, switch, written
from tests.fixtures.other_store import OtherStore
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.requirement("D5")


def listed(stack: RunningStack) -> dict[str, Any]:
    done = stack.pandom("backups", "--stack", stack.name, "--format", "json")
    return dict(json.loads(done.stdout))


def test_up_makes_the_repository_and_the_first_backup(backed: RunningStack) -> None:
    first = listed(backed)["backups"][0]
    assert first["type"] == "full"
    assert listed(backed)["missing"] == []
    health = json.loads(backed.pandom("health", "--stack", backed.name, "--json").stdout)
    named = {one["name"]: one for one in health["checks"]}
    assert listed(backed)["backups"][-1]["label"] in named["backup"]["detail"]
    assert named["archiving"]["ok"]
    table = backed.pandom("backups", "--stack", backed.name).stdout
    assert first["label"] in table
    assert "Any moment since" in table
    # The acceptance for stacks without backups is no longer of use, and not in the way.
    audit = backed.pandom("audit", "--stack", backed.name, "--format", "json")
    assert json.loads(audit.stdout)["stale_acceptances"] == []


def test_a_backup_is_noted_in_the_trail(backed: RunningStack) -> None:
    done = backed.pandom("backup", "--stack", backed.name, "--type", "diff")
    label = done.stdout.partition(":")[0]
    assert label.endswith("D")
    rows = sql(
        backed,
        "select details->>'label', severity from public.security_logs "
        "where event_type = 'backup_made' order by timestamp",
    )
    assert len(rows) >= 2
    assert rows[-1] == (label, "info")
    assert listed(backed)["backups"][-1]["label"] == label


def test_the_key_is_where_the_server_is_and_nowhere_else(
    backed: RunningStack, bucket: Bucket
) -> None:
    engine = docker.from_env()
    server = engine.containers.get(backed.container("postgres"))
    for file in (BACKUP_CONFIG, KEY_FILE):
        code, said = server.exec_run(["stat", "-c", "%u %a", f"{KEYS_MOUNT}/{file}"])
        assert (code, said.decode().strip()) == (0, "5432 400")
    secrets = [*backed.secrets["repository-key"].split(), backed.secrets["minio-backup"]]
    inspected = json.dumps(engine.api.inspect_container(server.id))
    logged = server.logs().decode(errors="replace")
    processes = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
    assert [one for one in secrets if one in inspected + logged + processes] == []
    # Nothing of the database can be read in the store, whose user has no key.
    sql(backed, "select pg_logical_emit_message(true, 'test', repeat('open secret ', 1000))")
    segment = switch(backed)
    for name in (bucket.names(segment)[0], bucket.names("backup.info")[0]):
        content = bucket.get(name)
        assert content.startswith(b"Salted__")
        assert b"open secret" not in content
        assert b"system-id" not in content


def test_the_stores_users_reach_their_own_bucket_only(backed: RunningStack, bucket: Bucket) -> None:
    endpoint, _ = root(backed)
    own = client(endpoint, Account(BACKUP.name, backed.secrets["minio-backup"]))
    assert list(own.list_objects(bucket_name=bucket.name))
    media = backed.outputs["minio_bucket_name"]
    for call in (
        lambda: list(own.list_objects(bucket_name=media)),
        lambda: list(own.list_objects(bucket_name=f"{media}-evidence")),
        lambda: own.remove_bucket(bucket_name=bucket.name),
        lambda: own.make_bucket(bucket_name="another"),
    ):
        with pytest.raises(S3Error, match="Denied"):
            call()
    # Who copies documents reads them, and changes nothing.
    copier = client(endpoint, Account(COPIER.name, backed.secrets["minio-copier"]))
    list(copier.list_objects(bucket_name=media, include_version=True))
    for call in (
        lambda: copier.put_object(media, "of-the-copier", io.BytesIO(b"x"), 1),
        lambda: copier.remove_object(bucket_name=media, object_name="of-the-copier"),
        lambda: list(copier.list_objects(bucket_name=bucket.name)),
        lambda: list(copier.list_objects(bucket_name=f"{media}-evidence")),
    ):
        with pytest.raises(S3Error, match="Denied"):
            call()


def test_a_dump_is_made_listed_verified_and_given(
    backed: RunningStack, bucket: Bucket, tmp_path: Path
) -> None:
    backed.pandom("run", "dump", "--stack", backed.name)
    done = backed.pandom("dumps", "--stack", backed.name, "--format", "json")
    newest = json.loads(done.stdout)["dumps"][-1]
    assert newest["name"] in backed.pandom("dumps", "--stack", backed.name).stdout
    whole = backed.pandom("dumps", "--stack", backed.name, "--verify", newest["name"])
    assert newest["sha256"] in whole.stdout
    rows = sql(
        backed,
        "select details->>'sha256' from public.security_logs where event_type = 'dump_made' "
        "order by timestamp desc limit 1",
    )
    assert rows == [(newest["sha256"],)]
    with (tmp_path / "it.dump").open("wb") as sink:
        subprocess.run(
            backed.pandom.command("dumps", "--get", newest["name"], "--stack", backed.name),
            cwd=backed.pandom.root,
            env=backed.pandom.environment(),
            stdout=sink,
            check=True,
        )
    content = (tmp_path / "it.dump").read_bytes()
    assert hashlib.sha256(content).hexdigest() == newest["sha256"]
    assert content.startswith(b"PGDMP")
    # Cut off in the store, it is no dump any more.
    (name,) = bucket.names(f"{newest['name']}.dump.age")
    stored = bucket.get(name)
    bucket.put(name, stored[:-2000])
    try:
        verify = ("dumps", "--verify", newest["name"], "--stack", backed.name)
        assert "is damaged, cut off" in backed.pandom(*verify, code=1).stderr
        got = subprocess.run(
            backed.pandom.command("dumps", "--get", newest["name"], "--stack", backed.name),
            cwd=backed.pandom.root,
            env=backed.pandom.environment(),
            capture_output=True,
            check=False,
        )
        assert got.returncode == 1
        assert b"is damaged, cut off" in got.stderr
    finally:
        bucket.put(name, stored)
    said = backed.pandom("dumps", "--verify", "of-yesterday", "--stack", backed.name, code=2).stderr
    assert "There is no dump of-yesterday" in said


def test_a_flipped_byte_is_found(backed: RunningStack, bucket: Bucket) -> None:
    name = next(one for one in bucket.names("/bundle/") if "F/" in one)
    content = bucket.get(name)
    bucket.put(name, flipped(content))
    try:
        damaged = backed.pandom("backup", "--verify", "--stack", backed.name, code=2)
        label = listed(backed)["backups"][0]["label"]
        assert f"damaged: backup: {label}: invalid, checksum invalid: 1" in damaged.stderr
    finally:
        bucket.put(name, content)
    whole = backed.pandom("backup", "--verify", "--stack", backed.name)
    assert "are whole" in whole.stdout


def test_a_missing_segment_is_named(backed: RunningStack, bucket: Bucket) -> None:
    lost = [written(backed) for _ in range(4)][1]
    (name,) = bucket.names(f"/{lost}-")
    content = bucket.remove(name)
    try:
        said = backed.pandom("backup", "--verify", "--stack", backed.name, code=2).stderr
        assert f"missing log: {lost}\n" in said
        assert listed(backed)["missing"] == [[lost, lost]]
        unwell = backed.pandom("health", "--stack", backed.name, code=1).stderr
        assert (
            f"archiving: FAILED, log is missing in the store since the newest backup: {lost}"
            in (unwell)
        )
        # What begins after the hole is whole again, and the hole is still told.
        backed.pandom("backup", "--type", "full", "--stack", backed.name)
        backed.pandom("health", "--stack", backed.name)
        assert listed(backed)["missing"] == [[lost, lost]]
    finally:
        bucket.put(name, content)
    # The newest one, which only the server knows of.
    newest = written(backed)
    (name,) = bucket.names(f"/{newest}-")
    content = bucket.remove(name)
    try:
        said = backed.pandom("health", "--stack", backed.name, code=1).stderr
        assert f"since the newest backup: {newest}" in said
    finally:
        bucket.put(name, content)


class Otherwise(Engine):
    """The engine, in whose containers pgBackRest finds other settings."""

    def __init__(self, stack: str, **settings: str) -> None:
        super().__init__(stack)
        self._settings = [f"PGBACKREST_{key.upper()}={value}" for key, value in settings.items()]

    def run(
        self, container: Container, command: Any, show: Callable[[str], None] | None = None
    ) -> tuple[int, str, str]:
        return super().run(container, ["env", *self._settings, *command], show)


def refusal(stack: RunningStack, **settings: str) -> PandomError:
    engine = Otherwise(stack.name, **settings)
    server = engine.container("postgres")
    assert server is not None
    repository = Repository(stack.name, "s3", engine, server)
    with pytest.raises(PandomError) as caught:
        repository.create()
        repository.make("--type=full", "backup")
    assert "\nNext: " in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("settings", "said", "code"),
    [
        ({"repo1_cipher_pass": "another"}, "does not open with this stack's repository key", 2),
        ({"repo1_s3_key_secret": "wrong-secret"}, "does not know backupAccessKey", 2),
        ({"repo1_s3_key": "nobody"}, "does not know backupAccessKey", 2),
        ({"repo1_s3_bucket": "pandom-media"}, "denies what is needed", 1),
        ({"pg1_path": "/var/lib/postgresql/17/elsewhere"}, "pgBackRest ended with", 1),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_told_with_its_cause(
    backed: RunningStack, settings: dict[str, str], said: str, code: int
) -> None:
    error = refusal(backed, **settings)
    assert said in str(error)
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("host", "port", "ca", "code", "said"),
    [
        ("minio", 9000, "ca.crt", 0, "missing stanza"),
        ("minio", 9000, "/etc/ssl/certs/ca-certificates.crt", 202, "unable to get"),
        ("postgres", 9000, "ca.crt", 201, "refused"),
        ("nowhere.invalid", 9000, "ca.crt", 201, "nowhere.invalid:9000: "),
        ("192.0.2.1", 9000, "ca.crt", 201, "192.0.2.1:9000: "),
    ],
)
def test_a_store_that_cannot_be_reached_is_told_within_seconds(
    backed: RunningStack, host: str, port: int, ca: str, code: int, said: str
) -> None:
    """As the wrapper sees it, with another configuration than the stack's."""
    server = docker.from_env().containers.get(backed.container("postgres"))
    script = f"""
        cp -r {KEYS_MOUNT} /tmp/keys && cd /tmp/keys && chmod -R u+w .
        sed -i -e 's/^repo1-s3-endpoint=.*/repo1-s3-endpoint={host}/' \
            -e 's/^repo1-storage-port=.*/repo1-storage-port={port}/' \
            -e 's#^repo1-path=.*#repo1-path=/nothing-here#' \
            -e 's#^repo1-storage-ca-file=.*#repo1-storage-ca-file={ca}#' \
            -e 's#=ca.crt#=/tmp/keys/ca.crt#' {BACKUP_CONFIG}
        PANDOM_KEYS=/tmp/keys {PROGRAM} info; code=$?; rm -rf /tmp/keys; exit $code
    """
    started = time.monotonic()
    found, output = server.exec_run(["bash", "-c", script])
    assert time.monotonic() - started < 15
    assert (found, said in output.decode()) == (code, True), output.decode()


def test_two_backups_at_once_are_refused(
    backed: RunningStack, wait_for: Callable[[Callable[[], bool], str], None]
) -> None:
    sql(backed, "create table public.large as select repeat(md5(n::text), 60) as text "
        "from generate_series(1, 60000) as n")  # fmt: skip
    try:
        maker = docker.from_env().containers.get(backed.container("operations"))
        first = backed.pandom.start("backup", "--type", "full", "--stack", backed.name)
        running_there = ["pgrep", "-f", "^pgbackrest .* backup$"]
        wait_for(lambda: maker.exec_run(running_there).exit_code == 0, "a backup that runs")
        second = backed.pandom("backup", "--stack", backed.name, code=None)
        first.communicate()
        assert first.returncode == 0
        assert second.returncode == 2
        assert "Another backup of this stack is running" in second.stderr
        # Interrupted, it ends in the container, too, and the next one is whole.
        first = backed.pandom.start("backup", "--type", "full", "--stack", backed.name)
        wait_for(lambda: maker.exec_run(running_there).exit_code == 0, "a backup that runs")
        first.send_signal(2)
        said, _ = first.communicate()
        assert first.returncode == 130
        assert "goes on from it" in said
        wait_for(lambda: maker.exec_run(running_there).exit_code != 0, "a backup that ended")
        backed.pandom("backup", "--type", "full", "--stack", backed.name)
    finally:
        sql(backed, "drop table public.large")


@pytest.mark.soak  # runs of `up`, and a minute until the server archives again
def test_a_store_that_stops_is_told_and_catches_up(backed: RunningStack) -> None:
    store = docker.from_env().containers.get(backed.container("minio"))
    store.stop()
    try:
        sql(backed, "select pg_logical_emit_message(true, 'test', 'something')")
        ((segment,),) = sql(backed, "select pg_walfile_name(pg_switch_wal())")
        deadline = time.monotonic() + 90
        while sql(backed, "select last_failed_wal from pg_stat_archiver")[0][0] != segment:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        unwell = backed.pandom("health", "--stack", backed.name, code=1).stderr
        assert "archiving: FAILED, The store does not answer: minio:9000" in unwell
        audit = backed.pandom("audit", "--stack", backed.name, code=2)
        assert f"{segment} could not be archived" in " ".join(audit.stdout.split())
        failed = backed.pandom("backup", "--stack", backed.name, code=1)
        assert "The store does not answer" in failed.stderr
    finally:
        store.start()
    backed.pandom("up", "--stack", backed.name)
    written(backed)
    assert listed(backed)["missing"] == []


@pytest.mark.soak  # runs of `up`, and a minute until the server archives again
def test_a_user_of_the_store_that_was_changed_by_hand_is_healed(backed: RunningStack) -> None:
    admin = administrator(*root(backed))
    admin.user_add(access_key=BACKUP.name, secret_key="another-secret-of-the-user")
    failed = backed.pandom("backup", "--stack", backed.name, code=2)
    assert "does not know backupAccessKey" in failed.stderr
    backed.pandom("up", "--stack", backed.name)
    backed.pandom("backup", "--stack", backed.name)


@pytest.mark.soak  # runs of `up`
def test_backups_move_to_a_store_elsewhere(backed: RunningStack, tmp_path: Path) -> None:
    """With a bucket of its own, a user that may delete nothing but a marker, and a lock."""
    with OtherStore(tmp_path) as store:
        name = backed.name
        store.take_backups_of(name, secrets=False)
        refused = backed.pandom("up", "--stack", name, code=2)
        assert "backupAccessKey: expected a value with backup: s3" in refused.stderr
        store.take_backups_of(name)
        backed.pandom("up", "--stack", name)
        backed.look_again()
        (first,) = listed(backed)["backups"]
        assert listed(backed)["store"] == "s3"
        done = backed.pandom("backup", "--type", "full", "--stack", name)
        # It may not remove what is older: the backup is good, and that is said.
        kept = backed.pandom("backup", "--verify", "--stack", name)
        assert "are whole" in kept.stdout
        assert first["label"] in {one["label"] for one in listed(backed)["backups"]}
        assert done.stdout.partition(":")[0].endswith("F")
        # The bucket that took backups before stays, held to the same rules.
        audit = backed.pandom("audit", "--stack", name, "--store", "--host")
        assert audit.returncode == 0
        assert client(*root(backed)).bucket_exists(
            bucket_name=backup_bucket(backed.outputs["minio_bucket_name"])
        )
        # And back again, for the tests that come after this one.
        set_values(Stack(name), {"backup": "own-store"})
        backed.pandom("up", "--stack", name)
        backed.look_again()
