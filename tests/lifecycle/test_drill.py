"""Drills: a backup is restored in the container `operations`; each reason why not is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from pandom.host import health
from pandom.host.engine import Engine
from pandom.objectstore import Account, administrator, client
from pandom.operations.records import FOLDER
from pandom.runtime.naming import HOST_BACKUP
from schema.storage import AUDITOR, BACKUP, evidence_bucket, policy
from tests.fixtures.backups import (
    Bucket,
    backup_labels,
    drill,
    flipped,
    named_by_a_row,
    root,
    sql,
    written,
)
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.requirement("D5")


def container(stack: RunningStack, part: str = "operations") -> Container:
    return docker.from_env().containers.get(stack.container(part))


def left(stack: RunningStack) -> list[str]:
    """What lies in the container of a drill: nothing, if none runs."""
    code, said = container(stack).exec_run(
        ["sh", "-c", f"ls -d {FOLDER}/drill /tmp/drill-*; pgrep -a postgres"], stderr=False
    )
    assert code in (0, 1)
    return list(said.decode().splitlines())


def evidence(stack: RunningStack) -> dict[str, Any]:
    """The newest result, as the auditor reads it."""
    endpoint, _ = root(stack)
    name = AUDITOR.name.replace("pandom-", "minio-")
    reader = client(endpoint, Account(AUDITOR.name, stack.secrets[name]))
    bucket = evidence_bucket(stack.outputs["minio_bucket_name"])
    answer = reader.get_object(bucket_name=bucket, object_name="drill/latest.json")
    try:
        return dict(json.loads(answer.read()))
    finally:
        answer.close()


def noted(stack: RunningStack) -> tuple[str, str | None]:
    rows = sql(
        stack,
        "select event_type, details->>'cause' from public.security_logs "
        "where event_type like 'drill%' order by timestamp desc limit 1",
    )
    return str(rows[0][0]), rows[0][1]


def test_a_missing_segment_fails_it_and_the_audit_and_a_whole_backup_mends_both(
    backed: RunningStack, bucket: Bucket, media: Bucket
) -> None:
    lost = [written(backed) for _ in range(3)][1]
    (name,) = bucket.names(f"/{lost}-")
    content = bucket.remove(name)
    try:
        found = drill(backed)
        assert found["result"] == "failed"
        assert f"Log is missing in the store: {lost}." in found["message"]
        event, cause = noted(backed)
        assert event == "drill_failed"
        assert lost in str(cause)
        assert evidence(backed)["cause"].startswith(f"Log is missing in the store: {lost}")
        audit = backed.pandom("audit", "--stack", backed.name, code=2)
        assert "the last drill could not restore one" in " ".join(audit.stdout.split())
        tasks = health.tasks(Engine(backed.name), backed.name, backed.outputs)
        assert [one.ok for one in tasks if one.name == "task drill"] == [False]
    finally:
        bucket.put(name, content)
    media.put("drilled/one", b"content")
    with named_by_a_row(backed, "drilled/one", "drilled/never"):
        done = backed.pandom("drill", "--stack", backed.name)
    assert "drill of" in done.stderr
    assert "1 objects that rows name are not there, never in the bucket: drilled/ne" in done.stderr
    backed.pandom("audit", "--stack", backed.name)
    assert noted(backed) == ("drill_passed", None)
    kept = evidence(backed)
    assert kept["drill"] == "passed"
    assert kept["differences"] == []
    assert kept["exact"]
    assert kept["rows"]["auth_users"] == sql(backed, "select count(*) from auth_users")[0][0]
    assert kept["backup"] == backup_labels(backed)[-1]
    assert kept["objects"] == {
        "named": 2,
        "read": 1,
        "chosen": "all",
        "size": 7,
        "missing": {"never in the bucket": 1},
        "damaged": {},
    }
    assert left(backed) == []


@pytest.mark.soak
def test_what_nobody_declared_fails_it(backed: RunningStack) -> None:
    sql(backed, "create table public.of_nobody as select generate_series(1, 321) as n")
    sql(backed, "alter table public.of_nobody owner to pandom_owner")
    try:
        # The copy is as the served database, which is not as it should be.
        found = drill(backed)
        assert found["result"] == "failed"
        assert "public.of_nobody" in found["message"]
        assert evidence(backed)["rows"]["of_nobody"] == 321
    finally:
        sql(backed, "drop table public.of_nobody")
    assert drill(backed)["result"] == "ok"
    assert "of_nobody" not in evidence(backed)["rows"]


@contextmanager
def damaged(bucket: Bucket, name: str) -> Iterator[None]:
    content = bucket.get(name)
    bucket.put(name, flipped(content))
    try:
        yield
    finally:
        bucket.put(name, content)


@pytest.mark.soak  # restores
def test_a_flipped_byte_is_damage_with_its_name(backed: RunningStack, bucket: Bucket) -> None:
    backed.pandom("backup", "--type", "full", "--stack", backed.name)
    label = backup_labels(backed)[-1]
    large = max(bucket.names(f"/{label}/bundle/"), key=lambda name: len(bucket.get(name)))
    with damaged(bucket, large):
        found = drill(backed)
        assert found["result"] == "failed"
        assert f"Backup {label}, or its log, is damaged in the store" in found["message"]
    segment = written(backed)
    with damaged(bucket, bucket.names(f"/{segment}-")[0]):
        found = drill(backed)
        assert f"Backup {label}, or its log, is damaged in the store" in found["message"]
    assert drill(backed)["result"] == "ok"
    assert left(backed) == []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("s/cipher-pass=.*/cipher-pass=another/", "does not open with this stack's repository key"),
        ("s/key-secret=.*/key-secret=wrong-secret/", "does not know backupAccessKey"),
        (
            "s#pg1-host-ca-file=.*#pg1-host-ca-file=/etc/ssl/certs/ca-certificates.crt#",
            "certificates between the containers operations and backup-server do not verify",
        ),
        ("s/pg1-host=.*/&\\npg1-host-port=1/", "The container backup-server, which reads"),
    ],
    ids=["key", "secret", "certificate", "port"],
)
@pytest.mark.soak
def test_each_reason_is_told(backed: RunningStack, edit: str, said: str) -> None:
    found = drill(backed, edit)
    assert found["result"] == "failed"
    assert said in found["message"]
    assert said in str(noted(backed)[1])


@pytest.mark.soak
def test_a_denied_right_is_told(backed: RunningStack) -> None:
    admin = administrator(*root(backed))
    allowed = policy(BACKUP, backed.outputs["minio_bucket_name"])
    denied = {
        **allowed,
        "Statement": [one for one in allowed["Statement"] if "s3:GetObject" not in one["Action"]],
    }
    admin.policy_add(policy_name=BACKUP.name, policy=denied)
    try:
        assert "The store denies what is needed" in drill(backed)["message"]
    finally:
        admin.policy_add(policy_name=BACKUP.name, policy=allowed)
    assert drill(backed)["result"] == "ok"


@pytest.mark.soak  # the store stops
def test_a_store_that_is_away_is_told(backed: RunningStack) -> None:
    store = container(backed, "minio")
    store.stop()
    try:
        found = drill(backed)
        assert "The store does not answer: minio:9000: " in found["message"]
        # The trail has it; the evidence cannot.
        assert noted(backed)[0] == "drill_failed"
    finally:
        store.start()
    # Healthy again, it still reads its users.
    backed.pandom("up", "--stack", backed.name, code=None)
    assert drill(backed)["result"] == "ok"


@pytest.mark.soak
def test_an_expired_certificate_is_told(backed: RunningStack) -> None:
    """Of the container that reads the database's files; the keys job mends it."""
    server = container(backed, HOST_BACKUP)
    script = f"""
import sys; sys.path.insert(0, "/opt/pandom/project")
from datetime import timedelta
from pathlib import Path
from cryptography.x509.oid import ExtendedKeyUsageOID
from pandom.jobs import keys
now = keys._now()
keys._now = lambda: now - timedelta(days=900)
made = keys._new_certificate(("127.0.0.1", "{HOST_BACKUP}"), keys._authority_of(Path("/ca")),
                             ExtendedKeyUsageOID.SERVER_AUTH)
for name, text in zip(("server.crt", "server.key"), made):
    keys._write(Path("/keys") / name, text, 5432)
"""
    # As root, which only the keys job is: into a copy of it.
    image = container(backed).image.id
    docker.from_env().containers.run(
        image,
        ["-I", "-c", script.replace("keys._authority_of(Path", "(lambda p: keys.Authority("
         "*keys._pair((p / 'ca.pem').read_bytes())))(Path")],
        entrypoint="/opt/pandom/bin/python",
        user="0",
        volumes={
            backed.container("keys-ca"): {"bind": "/ca", "mode": "ro"},
            backed.container(f"keys-{HOST_BACKUP}"): {"bind": "/keys", "mode": "rw"},
        },
        remove=True,
    )  # fmt: skip
    server.kill("SIGHUP")
    server.restart()
    assert "do not verify" in drill(backed)["message"]
    # The keys job renews it; the drill that failed is a finding until the next one.
    backed.pandom("up", "--stack", backed.name, code=None)
    server.restart()
    assert drill(backed)["result"] == "ok"


@pytest.mark.soak
def test_a_killed_drill_leaves_nothing_that_the_next_one_minds(
    backed: RunningStack, wait_for: Callable[[Callable[[], bool], str], None]
) -> None:
    inside = container(backed)
    inside.exec_run(["pandom", "operations", "run", "drill"], detach=True)
    wait_for(lambda: f"{FOLDER}/drill" in left(backed), "a drill that restores")
    inside.exec_run(["pkill", "-KILL", "-f", "operations task drill"])
    wait_for(lambda: not any("postgres" in one for one in left(backed)), "its server's end")
    assert drill(backed)["result"] == "ok"
    assert left(backed) == []
