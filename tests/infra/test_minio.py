"""The object store: private, versioned, locked, and users that can what is declared, no more."""

from __future__ import annotations

import io
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.commonconfig import COMPLIANCE, ENABLED, GOVERNANCE
from minio.deleteobjects import DeleteObject
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin
from minio.retention import Retention
from minio.versioningconfig import SUSPENDED, VersioningConfig
from testinfra.host import Host

from pandom.audit import store as facts
from pandom.audit.store import StoreClient as Place
from pandom.jobs.storage import converge
from pandom.objectstore import Account, Endpoint, administrator, client, own_keys, users
from pandom.runtime.errors import Failure
from pandom.runtime.naming import KEYS_MOUNT, UID_MINIO
from schema.storage import (
    AUDITOR,
    EVIDENCE,
    LOCK_DAYS,
    MEDIA,
    USERS,
    User,
    buckets,
    evidence_bucket,
)
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import SPARE_PASSWORD, Spare, SpareKeys, write_keys

pytestmark = pytest.mark.requirement("B3", "B4")


@dataclass(frozen=True)
class StoreClient:
    """An object store, its root account, its media bucket and its users' secrets."""

    endpoint: Endpoint
    root: Account
    bucket: str
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def s3(self) -> Minio:
        return client(self.endpoint, self.root)

    @property
    def admin(self) -> MinioAdmin:
        return administrator(self.endpoint, self.root)

    @property
    def limited(self) -> Minio:
        return self.as_user(MEDIA)

    @property
    def evidence(self) -> str:
        return evidence_bucket(self.bucket)

    def account(self, user: User) -> Account:
        return Account(user.name, self.secrets[user.name])

    def as_user(self, user: User) -> Minio:
        return client(self.endpoint, self.account(user))

    def converge(self, **changed: str) -> None:
        """What the storage job does; other secrets are a rotation."""
        secrets = {**self.secrets, **{name.replace("_", "-"): to for name, to in changed.items()}}
        converge(Place(self.endpoint, self.root, self.bucket), secrets)

    def differences(self) -> list[str]:
        """What is not as declared: kind, object, detail, what is there."""
        place = Place(self.endpoint, self.root, self.bucket)
        seen = facts.read(place)
        assert seen.unknown == []
        return [
            f"{fact.kind} {fact.object}, {fact.detail}: {seen.facts.get(fact, 'missing')}"
            for fact, value in facts.expected(place, seen.facts).items()
            if seen.facts.get(fact) != value
        ]


@pytest.fixture(scope="module")
def store(stack: RunningStack) -> StoreClient:
    outputs = stack.outputs
    return StoreClient(
        Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        Account("pandom-root", stack.secrets["minio-root"]),
        outputs["minio_bucket_name"],
        {MEDIA.name: outputs["minio_secret_key"], **outputs["store_secrets"]},
    )


def put(s3: Minio, bucket: str, name: str, content: bytes = b"content") -> str:
    done = s3.put_object(
        bucket_name=bucket, object_name=name, data=io.BytesIO(content), length=len(content)
    )
    assert done.version_id
    return done.version_id


@pytest.fixture
def document(store: StoreClient) -> Iterator[tuple[str, str]]:
    """A document of the limited user: its name and its first version."""
    name = "test/document.txt"
    yield name, put(store.limited, store.bucket, name)
    versions = store.s3.list_objects(
        bucket_name=store.bucket, prefix="test/", recursive=True, include_version=True
    )
    for version in versions:
        store.s3.remove_object(
            bucket_name=store.bucket,
            object_name=str(version.object_name),
            version_id=version.version_id,
        )


# -- the container ------------------------------------------------------------------------


def test_user_and_files(inside: Callable[[str], Host]) -> None:
    host = inside("minio")
    assert (host.user("minio").uid, host.user("minio").shell) == (UID_MINIO, "/usr/sbin/nologin")
    for name in ("root_user", "root_password", "certs/public.crt", "certs/private.key", "ca.crt"):
        file = host.file(f"{KEYS_MOUNT}/{name}")
        assert (file.user, oct(file.mode)) == ("minio", "0o400")
    # Four directories: with one there would be no versions.
    assert {"d1", "d2", "d3", "d4"} <= set(host.file("/data").listdir())
    assert oct(host.file("/data").mode) == "0o700"


def test_tls_only_with_the_stack_s_certificate(
    store: StoreClient, spare_keys: SpareKeys, tmp_path: Path
) -> None:
    place = f"{store.endpoint.address}/minio/health/live"

    def get(url: str, ca: Path | None = None) -> int:
        context = ssl.create_default_context(cafile=str(ca)) if ca else None
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310
            return int(answer.status)

    assert get(f"https://{place}", store.endpoint.ca) == 200
    assert get(f"https://localhost:{store.endpoint.port}/minio/health/live", store.endpoint.ca)
    other = tmp_path / "other.crt"
    other.write_text(spare_keys.ca)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        get(f"https://{place}", other)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        get(f"http://{place}")


# -- the bucket ---------------------------------------------------------------------------


def test_the_store_is_as_declared(store: StoreClient) -> None:
    assert store.differences() == []
    assert set(users(store.admin)) == {user.name for user in USERS}
    assert {bucket.name for bucket in store.s3.list_buckets()} == buckets(store.bucket).keys()


def test_the_bucket_is_closed_to_strangers(store: StoreClient, document: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=str(store.endpoint.ca))
    for path in ("", store.bucket, f"{store.bucket}/{document[0]}"):
        url = f"https://{store.endpoint.address}/{path}"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url, timeout=5, context=context)


def test_an_overwritten_document_keeps_its_first_version(
    store: StoreClient, document: tuple[str, str]
) -> None:
    name, first = document
    assert put(store.limited, store.bucket, name, b"second") != first
    answer = store.s3.get_object(bucket_name=store.bucket, object_name=name, version_id=first)
    assert answer.read() == b"content"


# -- the limited user -----------------------------------------------------------------------


def test_what_the_user_may_do(store: StoreClient, document: tuple[str, str]) -> None:
    limited, bucket = store.limited, store.bucket
    assert limited.get_object(bucket_name=bucket, object_name=document[0]).read() == b"content"
    listed = limited.list_objects(bucket_name=bucket, prefix="test/", recursive=True)
    assert [found.object_name for found in listed] == [document[0]]
    large = io.BytesIO(b"x" * (6 << 20))
    limited.put_object(
        bucket_name=bucket,
        object_name="test/large",
        data=large,
        length=-1,
        part_size=5 << 20,
    )
    assert limited.stat_object(bucket_name=bucket, object_name="test/large").size == 6 << 20


DENIED: dict[str, Callable[[Minio, str, str, str], object]] = {
    "delete": lambda s3, bucket, name, _: s3.remove_object(bucket_name=bucket, object_name=name),
    "delete a version": lambda s3, bucket, name, version: s3.remove_object(
        bucket_name=bucket, object_name=name, version_id=version
    ),
    "make a bucket": lambda s3, *_: s3.make_bucket(bucket_name="another-bucket"),
    "remove the bucket": lambda s3, bucket, *_: s3.remove_bucket(bucket_name=bucket),
    "read versioning": lambda s3, bucket, *_: s3.get_bucket_versioning(bucket_name=bucket),
    "stop versioning": lambda s3, bucket, *_: s3.set_bucket_versioning(
        bucket_name=bucket, config=VersioningConfig(SUSPENDED)
    ),
    "open the bucket": lambda s3, bucket, *_: s3.set_bucket_policy(bucket_name=bucket, policy="{}"),
    "read its policy": lambda s3, bucket, *_: s3.get_bucket_policy(bucket_name=bucket),
    "read its lifecycle": lambda s3, bucket, *_: s3.get_bucket_lifecycle(bucket_name=bucket),
    "read another bucket": lambda s3, *_: list(s3.list_objects(bucket_name="another-bucket")),
    "write another bucket": lambda s3, *_: put(s3, "another-bucket", "x"),
}


@pytest.mark.parametrize("what", DENIED)
def test_what_the_user_may_not_do(store: StoreClient, document: tuple[str, str], what: str) -> None:
    with pytest.raises(S3Error) as refused:
        DENIED[what](store.limited, store.bucket, *document)
    assert refused.value.code == "AccessDenied"


def test_deleting_many_is_denied_for_each(store: StoreClient, document: tuple[str, str]) -> None:
    name, version = document
    wanted = [DeleteObject(name), DeleteObject(name, version)]
    errors = list(store.limited.remove_objects(bucket_name=store.bucket, delete_object_list=wanted))
    assert [error.code for error in errors] == ["AccessDenied"] * 2
    assert store.s3.stat_object(bucket_name=store.bucket, object_name=name).version_id == version


def test_the_user_is_no_administrator(store: StoreClient) -> None:
    own = administrator(store.endpoint, store.account(MEDIA))
    for call in (own.user_list, own.policy_list, own.info):
        with pytest.raises(MinioAdminException, match="403"):
            call()


def test_root_may_what_the_user_may_not(store: StoreClient, document: tuple[str, str]) -> None:
    """The denials above are the policy's, not the calls' or the server's."""
    s3, bucket = store.s3, store.bucket
    assert list(s3.list_objects(bucket_name=bucket, include_version=True, recursive=True))
    assert s3.get_bucket_versioning(bucket_name=bucket).status == ENABLED
    s3.remove_object(bucket_name=bucket, object_name=document[0], version_id=document[1])
    with pytest.raises(S3Error) as refused:
        s3.stat_object(bucket_name=bucket, object_name=document[0])
    assert refused.value.code == "NoSuchKey"


# -- evidence: one user writes, another reads, nobody deletes ---------------------------------


@pytest.fixture(scope="module")
def evidence(store: StoreClient) -> tuple[str, str]:
    """A piece of evidence, in two versions; it stays as long as the stack: it is locked."""
    first = put(store.as_user(EVIDENCE), store.evidence, "test/evidence", b"first")
    put(store.as_user(EVIDENCE), store.evidence, "test/evidence", b"second")
    return "test/evidence", first


def test_evidence_is_written_over_but_never_lost(
    store: StoreClient, evidence: tuple[str, str]
) -> None:
    name, first = evidence
    auditor = store.as_user(AUDITOR)
    store.s3.remove_object(bucket_name=store.evidence, object_name=name)  # a delete marker
    versions = auditor.list_objects(
        bucket_name=store.evidence, prefix="test/", recursive=True, include_version=True
    )
    assert {(one.size, one.is_delete_marker) for one in versions} >= {(5, False), (6, False)}
    for s3 in (store.s3, store.as_user(EVIDENCE), auditor, store.limited):
        with pytest.raises(S3Error):
            s3.remove_object(bucket_name=store.evidence, object_name=name, version_id=first)
    answer = auditor.get_object(bucket_name=store.evidence, object_name=name, version_id=first)
    assert answer.read() == b"first"


def test_root_cannot_shorten_the_lock(store: StoreClient, evidence: tuple[str, str]) -> None:
    name, first = evidence
    where = {"bucket_name": store.evidence, "object_name": name, "version_id": first}
    until = store.s3.get_object_retention(**where)
    assert until is not None
    days = (until.retain_until_date - datetime.now(UTC)).days
    assert (until.mode, days) in {(COMPLIANCE, LOCK_DAYS), (COMPLIANCE, LOCK_DAYS - 1)}
    soon = datetime.now(UTC) + timedelta(seconds=10)
    for mode in (COMPLIANCE, GOVERNANCE):
        with pytest.raises(S3Error, match="WORM"):
            store.s3.set_object_retention(**where, config=Retention(mode, soon))
    with pytest.raises(S3Error):
        store.s3.set_bucket_versioning(
            bucket_name=store.evidence, config=VersioningConfig(SUSPENDED)
        )


def test_a_version_without_a_lock_would_be_lost(
    store: StoreClient, document: tuple[str, str]
) -> None:
    """What keeps evidence is the lock, not the calls: root deletes a document's version."""
    name, first = document
    store.s3.remove_object(bucket_name=store.bucket, object_name=name, version_id=first)
    with pytest.raises(S3Error, match=r"NoSuchVersion|NoSuchKey"):
        store.s3.stat_object(bucket_name=store.bucket, object_name=name, version_id=first)


EVIDENCE_DENIED: dict[str, Callable[[Minio, StoreClient], object]] = {
    "read evidence": lambda s3, at: s3.get_object(
        bucket_name=at.evidence, object_name="test/evidence"
    ),
    "list evidence": lambda s3, at: list(s3.list_objects(bucket_name=at.evidence)),
    "list versions": lambda s3, at: list(
        s3.list_objects(bucket_name=at.evidence, include_version=True)
    ),
    "delete evidence": lambda s3, at: s3.remove_object(
        bucket_name=at.evidence, object_name="test/evidence"
    ),
    "change the lock": lambda s3, at: s3.delete_object_lock_config(bucket_name=at.evidence),
    "write a document": lambda s3, at: put(s3, at.bucket, "test/x"),
    "read a document": lambda s3, at: s3.get_object(
        bucket_name=at.bucket, object_name="test/document.txt"
    ),
    "list documents": lambda s3, at: list(s3.list_objects(bucket_name=at.bucket)),
}
# What the auditor may of it is what the audit needs.
AUDITOR_MAY = {"read evidence", "list evidence", "list versions"}


@pytest.mark.parametrize("what", EVIDENCE_DENIED)
@pytest.mark.usefixtures("evidence", "document")
def test_what_the_users_of_evidence_may_not_do(store: StoreClient, what: str) -> None:
    put(store.as_user(EVIDENCE), store.evidence, "test/evidence")
    for user in (EVIDENCE, AUDITOR):
        if user is AUDITOR and what in AUDITOR_MAY:
            EVIDENCE_DENIED[what](store.as_user(user), store)
            continue
        with pytest.raises(S3Error) as refused:
            EVIDENCE_DENIED[what](store.as_user(user), store)
        assert refused.value.code == "AccessDenied"


def test_the_auditor_reads_rules_and_writes_nothing(store: StoreClient) -> None:
    own = administrator(store.endpoint, store.account(AUDITOR))
    assert set(users(own)) == {user.name for user in USERS}
    assert set(json.loads(own.policy_list())) >= {user.name for user in USERS}
    calls: tuple[Callable[[], object], ...] = (
        lambda: own.user_add(access_key="evil", secret_key="a-secret-of-evil"),
        lambda: own.policy_set(policy_name="readwrite", user=AUDITOR.name),
        lambda: own.user_remove(access_key=MEDIA.name),
        own.info,
    )
    for call in calls:
        with pytest.raises(MinioAdminException, match="403"):
            call()
    with pytest.raises(S3Error):
        put(store.as_user(AUDITOR), store.evidence, "test/by-the-auditor")


# -- a store that is wrong, on a server of its own --------------------------------------------


def spare_store(spare: Spare, mounts: dict[str, Any], password: str, ca: Path) -> StoreClient:
    server = spare.start("minio", volumes=mounts, ports={"9000/tcp": ("127.0.0.1", None)})
    server.reload()
    endpoint = Endpoint("127.0.0.1", int(server.ports["9000/tcp"][0]["HostPort"]), ca)
    secrets = {user.name: f"first-secret-of-{user.name}" for user in USERS}
    return StoreClient(endpoint, Account("spare-root", password), "media-bucket", secrets)


@pytest.fixture
def wrong(spare: Spare, spare_keys: SpareKeys, tmp_path: Path) -> StoreClient:
    ca = tmp_path / "ca.crt"
    ca.write_text(spare_keys.ca)
    return spare_store(spare, spare_keys.mount("minio"), SPARE_PASSWORD, ca)


def test_what_is_not_as_declared_is_seen_and_healed(
    wrong: StoreClient, capsys: pytest.CaptureFixture[str]
) -> None:
    everybody: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ["*"]},
                "Action": ["s3:GetObject"],
                "Resource": [f"arn:aws:s3:::{wrong.bucket}/*"],
            }
        ],
    }

    def open_bucket() -> None:
        wrong.s3.set_bucket_policy(bucket_name=wrong.bucket, policy=json.dumps(everybody))

    def stop_versions() -> None:
        wrong.s3.set_bucket_versioning(bucket_name=wrong.bucket, config=VersioningConfig(SUSPENDED))

    def widen_policy() -> None:
        everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
        wrong.admin.policy_add(
            policy_name=MEDIA.name, policy={"Version": "2012-10-17", "Statement": [everything]}
        )

    assert "bucket media-bucket, versioning: missing" in wrong.differences()
    wrong.converge()
    assert wrong.differences() == []

    stop_versions()
    open_bucket()
    widen_policy()
    wrong.admin.policy_set(policy_name="readwrite", user=MEDIA.name)
    wrong.admin.user_disable(access_key=MEDIA.name)
    wrong.s3.delete_object_lock_config(bucket_name=wrong.evidence)
    assert wrong.differences() == [
        "bucket media-bucket, versioning: Suspended",
        "bucket media-bucket, without signing in: "
        "Allow s3:GetObject on arn:aws:s3:::media-bucket/* for everybody",
        "bucket media-bucket-evidence, lock: enabled, 0 days",
        "store user pandom-media, policy: readwrite",
        "store user pandom-media, status: disabled",
        "store policy pandom-media, allows: Allow s3:* on arn:aws:s3:::*",
    ]
    wrong.converge()
    assert wrong.differences() == []
    wrong.admin.user_remove(access_key=MEDIA.name)
    assert len(wrong.differences()) == 2
    wrong.converge()
    assert wrong.limited.bucket_exists(bucket_name=wrong.bucket)

    # Another secret is a rotation: the old one ends, and so do keys made with it.
    administrator(wrong.endpoint, wrong.account(MEDIA)).add_service_account()
    wrong.converge(pandom_media="second-secret-of-media")
    rotated = Account(MEDIA.name, "second-secret-of-media")
    assert own_keys(administrator(wrong.endpoint, rotated), MEDIA.name) == []
    with pytest.raises(S3Error):
        wrong.limited.bucket_exists(bucket_name=wrong.bucket)

    # A stranger stays, and is told.
    wrong.admin.user_add(access_key="stranger", secret_key="secret-of-a-stranger")
    capsys.readouterr()
    wrong.converge()
    assert "not declared, left alone: store user stranger" in capsys.readouterr().err
    assert set(users(wrong.admin)) == {"stranger", *(user.name for user in USERS)}


def test_a_bucket_for_evidence_without_a_lock_is_refused(wrong: StoreClient) -> None:
    wrong.s3.make_bucket(bucket_name=wrong.evidence)
    with pytest.raises(Failure, match="without object lock"):
        wrong.converge()


def test_users_and_policies_outlive_a_new_root_password(spare: Spare, tmp_path: Path) -> None:
    """As after a lost state, when secrets are made anew and the volumes are still there."""
    keys = {name: spare.volume() for name in ("ca", "postgres", "minio")}
    mounts = {
        spare.volume(): {"bind": "/data"},
        keys["minio"]: {"bind": str(KEYS_MOUNT), "mode": "ro"},
    }
    ca = tmp_path / "ca.crt"
    for password in ("first-root-password", "second-root-password"):
        code, output = write_keys(spare, keys, root_password=password)
        assert code == 0, output
        ca.write_text(output)
        store = spare_store(spare, mounts, password, ca)
        users(store.admin)  # a server that has just started loads them now
        if password.startswith("first"):
            store.converge()
        assert store.differences() == []
        assert store.limited.bucket_exists(bucket_name=store.bucket)
        spare.containers[-1].stop()
