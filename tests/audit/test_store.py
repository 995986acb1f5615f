"""Drift of the object store is found on the stack's own MinIO; the storage job's code heals it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pandom import objectstore
from pandom.audit import store as store_facts
from pandom.audit.anchors import Head, from_bucket, to_bucket
from pandom.audit.differences import differences
from pandom.audit.findings import Finding, findings
from pandom.audit.store import Store
from pandom.objectstore import Account, Endpoint, administrator, client
from schema.storage import POLICY_NAME
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.requirement("B3", "B5")

OPEN = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::{bucket}/*"],
        }
    ],
}
WIDE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}],
}


@pytest.fixture(scope="module")
def store(stack: RunningStack) -> Store:
    outputs = stack.outputs
    return Store(
        Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        Account("pandom-root", stack.secrets["minio-root"]),
        outputs["minio_bucket_name"],
        outputs["minio_access_key"],
    )


@pytest.fixture
def healed(store: Store, stack: RunningStack) -> Iterator[None]:
    """The storage job's code makes it right again, as `make up` would."""
    yield
    s3, admin = client(store.endpoint, store.account), administrator(store.endpoint, store.account)
    objectstore.make_bucket(s3, store.bucket)
    user = Account(store.user, stack.outputs["minio_secret_key"])
    for name in objectstore.make_user(store.endpoint, admin, store.bucket, user):
        admin.user_remove(access_key=name)
    if "wide" in json.loads(admin.policy_list()):
        admin.policy_remove(policy_name="wide")
    assert found(store) == []


def found(store: Store) -> list[Finding]:
    seen = store_facts.read(store)
    assert seen.unknown == []
    expected = store_facts.expected(store)
    return findings(differences(expected, seen.facts), expected)


def _public(store: Store) -> None:
    text = json.dumps(OPEN).replace("{bucket}", store.bucket)
    client(store.endpoint, store.account).set_bucket_policy(bucket_name=store.bucket, policy=text)


def _unversioned(store: Store) -> None:
    from minio.versioningconfig import SUSPENDED, VersioningConfig

    client(store.endpoint, store.account).set_bucket_versioning(
        bucket_name=store.bucket, config=VersioningConfig(SUSPENDED)
    )


def _widened(store: Store) -> None:
    administrator(store.endpoint, store.account).policy_add(policy_name=POLICY_NAME, policy=WIDE)


def _another_user(store: Store) -> None:
    admin = administrator(store.endpoint, store.account)
    admin.policy_add(policy_name="wide", policy=WIDE)
    admin.user_add(access_key="somebody", secret_key="a-secret-of-somebody")
    admin.policy_set(policy_name="wide", user="somebody")


def _another_policy(store: Store) -> None:
    admin = administrator(store.endpoint, store.account)
    admin.policy_set(policy_name="readwrite", user=store.user)


def _disabled(store: Store) -> None:
    administrator(store.endpoint, store.account).user_disable(access_key=store.user)


@pytest.mark.usefixtures("healed")
@pytest.mark.parametrize(
    ("drift", "names"),
    [
        pytest.param(_public, ["bucket-different:{bucket}"], id="an open bucket"),
        pytest.param(_unversioned, ["bucket-different:{bucket}"], id="no versions"),
        pytest.param(
            _widened, [f"store-policy-different:{POLICY_NAME}:allows"], id="a widened policy"
        ),
        pytest.param(
            _another_user,
            ["store-policy-extra:wide:allows", "store-user-extra:somebody"],
            id="another user",
        ),
        pytest.param(_another_policy, ["store-user-different:{user}"], id="another policy"),
        pytest.param(_disabled, ["store-user-different:{user}"], id="a disabled user"),
    ],
)
def test_drift_of_the_store_is_found(
    store: Store, drift: Callable[[Store], None], names: list[str]
) -> None:
    assert found(store) == []
    drift(store)
    assert [one.id for one in found(store)] == [
        name.format(bucket=store.bucket, user=store.user) for name in names
    ]


def test_what_an_account_may_not_see_is_unknown(store: Store, stack: RunningStack) -> None:
    limited = Account(store.user, stack.outputs["minio_secret_key"])
    seen = store_facts.read(Store(store.endpoint, limited, store.bucket, store.user))
    assert len(seen.unknown) == 3


def test_anchors_in_the_bucket(store: Store, stack: RunningStack) -> None:
    # The application's own account may write them, and take none away.
    limited = client(store.endpoint, Account(store.user, stack.outputs["minio_secret_key"]))
    head = Head("anchored_db", "audit_logs", 7, "ab" * 32, 70, "2026-11-23T00:00:00+00:00")
    root = client(store.endpoint, store.account)
    try:
        assert to_bucket(limited, store.bucket, [head], []) == 1
        assert from_bucket(limited, store.bucket, "anchored_db") == [head]
        assert to_bucket(limited, store.bucket, [head], [head]) == 0
    finally:
        for version in root.list_objects(
            bucket_name=store.bucket,
            prefix="trail-anchors/anchored_db/",
            recursive=True,
            include_version=True,
        ):
            root.remove_object(
                bucket_name=store.bucket,
                object_name=str(version.object_name),
                version_id=version.version_id,
            )
