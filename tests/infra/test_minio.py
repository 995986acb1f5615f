"""The object store: private, versioned, and a user that can do what is declared and no more."""

from __future__ import annotations

import io
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.deleteobjects import DeleteObject
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin
from minio.versioningconfig import SUSPENDED, VersioningConfig
from testinfra.host import Host

from pandom.naming import KEYS_MOUNT, UID_MINIO
from pandom.objectstore import (
    Account,
    Endpoint,
    administrator,
    client,
    differences,
    make_bucket,
    make_user,
    own_keys,
    users,
)
from schema.storage import POLICY_NAME
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import SPARE_PASSWORD, Spare, SpareKeys, write_keys

pytestmark = pytest.mark.requirement("B3", "B4")


@dataclass(frozen=True)
class Store:
    """An object store, its root account and its limited user."""

    endpoint: Endpoint
    root: Account
    user: Account
    bucket: str

    @property
    def s3(self) -> Minio:
        return client(self.endpoint, self.root)

    @property
    def admin(self) -> MinioAdmin:
        return administrator(self.endpoint, self.root)

    @property
    def limited(self) -> Minio:
        return client(self.endpoint, self.user)

    def differences(self) -> list[str]:
        return differences(self.s3, self.admin, self.bucket, self.user.access_key)


@pytest.fixture(scope="module")
def store(stack: RunningStack) -> Store:
    outputs = stack.outputs
    return Store(
        Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        Account("pandom-root", stack.secrets["minio-root"]),
        Account(outputs["minio_access_key"], outputs["minio_secret_key"]),
        outputs["minio_bucket_name"],
    )


def put(s3: Minio, bucket: str, name: str, content: bytes = b"content") -> str:
    done = s3.put_object(
        bucket_name=bucket, object_name=name, data=io.BytesIO(content), length=len(content)
    )
    assert done.version_id
    return done.version_id


@pytest.fixture
def document(store: Store) -> Iterator[tuple[str, str]]:
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
    store: Store, spare_keys: SpareKeys, tmp_path: Path
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


def test_the_store_is_as_declared(store: Store) -> None:
    assert store.differences() == []
    assert set(users(store.admin)) == {store.user.access_key}
    assert [bucket.name for bucket in store.s3.list_buckets()] == [store.bucket]


def test_the_bucket_is_closed_to_strangers(store: Store, document: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=str(store.endpoint.ca))
    for path in ("", store.bucket, f"{store.bucket}/{document[0]}"):
        url = f"https://{store.endpoint.address}/{path}"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url, timeout=5, context=context)


def test_an_overwritten_document_keeps_its_first_version(
    store: Store, document: tuple[str, str]
) -> None:
    name, first = document
    assert put(store.limited, store.bucket, name, b"second") != first
    answer = store.s3.get_object(bucket_name=store.bucket, object_name=name, version_id=first)
    assert answer.read() == b"content"


# -- the limited user -----------------------------------------------------------------------


def test_what_the_user_may_do(store: Store, document: tuple[str, str]) -> None:
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
def test_what_the_user_may_not_do(store: Store, document: tuple[str, str], what: str) -> None:
    with pytest.raises(S3Error) as refused:
        DENIED[what](store.limited, store.bucket, *document)
    assert refused.value.code == "AccessDenied"


def test_deleting_many_is_denied_for_each(store: Store, document: tuple[str, str]) -> None:
    name, version = document
    wanted = [DeleteObject(name), DeleteObject(name, version)]
    errors = list(store.limited.remove_objects(bucket_name=store.bucket, delete_object_list=wanted))
    assert [error.code for error in errors] == ["AccessDenied"] * 2
    assert store.s3.stat_object(bucket_name=store.bucket, object_name=name).version_id == version


def test_the_user_is_no_administrator(store: Store) -> None:
    own = administrator(store.endpoint, store.user)
    for call in (own.user_list, own.policy_list, own.info):
        with pytest.raises(MinioAdminException, match="403"):
            call()


def test_root_may_what_the_user_may_not(store: Store, document: tuple[str, str]) -> None:
    """The denials above are the policy's, not the calls' or the server's."""
    s3, bucket = store.s3, store.bucket
    assert list(s3.list_objects(bucket_name=bucket, include_version=True, recursive=True))
    assert s3.get_bucket_versioning(bucket_name=bucket).status == ENABLED
    s3.remove_object(bucket_name=bucket, object_name=document[0], version_id=document[1])
    with pytest.raises(S3Error) as refused:
        s3.stat_object(bucket_name=bucket, object_name=document[0])
    assert refused.value.code == "NoSuchKey"


# -- a store that is wrong, on a server of its own --------------------------------------------


def spare_store(spare: Spare, mounts: dict[str, Any], password: str, ca: Path) -> Store:
    server = spare.start("minio", volumes=mounts, ports={"9000/tcp": ("127.0.0.1", None)})
    server.reload()
    endpoint = Endpoint("127.0.0.1", int(server.ports["9000/tcp"][0]["HostPort"]), ca)
    user = Account("media", "first-secret-of-media")
    return Store(endpoint, Account("spare-root", password), user, "media-bucket")


@pytest.fixture
def wrong(spare: Spare, spare_keys: SpareKeys, tmp_path: Path) -> Store:
    ca = tmp_path / "ca.crt"
    ca.write_text(spare_keys.ca)
    return spare_store(spare, spare_keys.mount("minio"), SPARE_PASSWORD, ca)


def test_what_is_not_as_declared_is_seen_and_healed(wrong: Store) -> None:
    def converge(user: Account = wrong.user) -> list[str]:
        make_bucket(wrong.s3, wrong.bucket)
        return make_user(wrong.endpoint, wrong.admin, wrong.bucket, user)

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
            policy_name=POLICY_NAME, policy={"Version": "2012-10-17", "Statement": [everything]}
        )

    assert wrong.differences() == ["bucket media-bucket: does not exist"]
    assert converge() == []
    assert wrong.differences() == []

    stop_versions()
    open_bucket()
    widen_policy()
    wrong.admin.policy_set(policy_name="readwrite", user="media")
    wrong.admin.user_disable(access_key="media")
    assert wrong.differences() == [
        "bucket media-bucket: versioning is Suspended, expected Enabled",
        "bucket media-bucket: has a policy of its own, expected none (private)",
        "policy pandom-media: allows something else than declared",
        "user media: policy readwrite, disabled; expected pandom-media, enabled",
    ]
    assert converge() == []
    assert wrong.differences() == []
    wrong.admin.user_remove(access_key="media")
    assert wrong.differences() == ["user media: does not exist"]
    assert converge() == []
    assert wrong.limited.bucket_exists(bucket_name=wrong.bucket)

    # Another secret is a rotation: the old one ends, and so do keys made with it.
    administrator(wrong.endpoint, wrong.user).add_service_account()
    rotated = Account("media", "second-secret-of-media")
    assert converge(rotated) == []
    assert own_keys(administrator(wrong.endpoint, rotated), "media") == []
    with pytest.raises(S3Error):
        wrong.limited.bucket_exists(bucket_name=wrong.bucket)

    # Another access key: the old user goes; a stranger stays, and is told.
    wrong.admin.user_add(access_key="stranger", secret_key="secret-of-a-stranger")
    assert converge(Account("files", "third-secret-of-media")) == ["stranger"]
    assert set(users(wrong.admin)) == {"files", "stranger"}


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
            make_bucket(store.s3, store.bucket)
            make_user(store.endpoint, store.admin, store.bucket, store.user)
        assert store.differences() == []
        assert store.limited.bucket_exists(bucket_name=store.bucket)
        spare.containers[-1].stop()
