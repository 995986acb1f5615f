"""Drift of the object store is found on the stack's own MinIO; the storage job's code heals it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from minio.commonconfig import ENABLED, GOVERNANCE, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.minioadmin import MinioAdmin
from minio.objectlockconfig import DAYS, ObjectLockConfig
from minio.versioningconfig import SUSPENDED, VersioningConfig

from pandom.audit import store as store_facts
from pandom.audit.findings import Finding, findings
from pandom.audit.store import StoreClient
from pandom.audit.target import store_of
from pandom.database.drift.differences import differences
from pandom.jobs.storage import converge
from pandom.objectstore import Account, administrator, client, users
from schema.storage import AUDITOR, EVIDENCE, MEDIA, USERS, User, buckets, evidence_bucket
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
    "Statement": [
        {"Effect": "Allow", "Action": [action], "Resource": ["arn:aws:s3:::*"]}
        for action in ("s3:*", "admin:*")
    ],
}


@pytest.fixture(scope="module")
def store(stack: RunningStack) -> StoreClient:
    """The store as its auditor, who finds all of the drift below."""
    return store_of(stack.outputs, AUDITOR)


@pytest.fixture(scope="module")
def root(store: StoreClient, stack: RunningStack) -> StoreClient:
    return replace(store, account=Account("pandom-root", stack.secrets["minio-root"]))


@pytest.fixture(scope="module")
def secrets(stack: RunningStack) -> dict[str, str]:
    return {MEDIA.name: stack.outputs["minio_secret_key"], **stack.outputs["store_secrets"]}


@pytest.fixture
def healed(store: StoreClient, root: StoreClient, secrets: dict[str, str]) -> Iterator[None]:
    """The storage job's code makes it right again, as `make up` would; strangers go by hand."""
    yield
    converge(root, secrets)
    s3, admin = client(root.endpoint, root.account), administrator(root.endpoint, root.account)
    for name in users(admin).keys() - {user.name for user in USERS}:
        admin.user_remove(access_key=name)
    if "wide" in json.loads(admin.policy_list()):
        admin.policy_remove(policy_name="wide")
    for bucket in {one.name for one in s3.list_buckets()} - buckets(store.bucket).keys():
        s3.remove_bucket(bucket_name=bucket)
    assert found(store) == []


def found(store: StoreClient) -> list[Finding]:
    seen = store_facts.read(store)
    assert seen.unknown == []
    expected = store_facts.expected(store, seen.facts)
    return findings(differences(expected, seen.facts), expected)


def _public(root: StoreClient) -> None:
    text = json.dumps(OPEN).replace("{bucket}", root.bucket)
    client(root.endpoint, root.account).set_bucket_policy(bucket_name=root.bucket, policy=text)


def _public_evidence(root: StoreClient) -> None:
    _public(replace(root, bucket=evidence_bucket(root.bucket)))


def _unversioned(root: StoreClient) -> None:
    client(root.endpoint, root.account).set_bucket_versioning(
        bucket_name=root.bucket, config=VersioningConfig(SUSPENDED)
    )


def _unlocked(root: StoreClient) -> None:
    client(root.endpoint, root.account).delete_object_lock_config(
        bucket_name=evidence_bucket(root.bucket)
    )


def _shorter_lock(root: StoreClient) -> None:
    client(root.endpoint, root.account).set_object_lock_config(
        bucket_name=evidence_bucket(root.bucket), config=ObjectLockConfig(GOVERNANCE, 1, DAYS)
    )


def _expiring(root: StoreClient) -> None:
    rule = Rule(ENABLED, Filter(prefix="x/"), rule_id="tidy", expiration=Expiration(days=1))
    client(root.endpoint, root.account).set_bucket_lifecycle(
        bucket_name=root.bucket, config=LifecycleConfig([rule])
    )


def _another_bucket(root: StoreClient) -> None:
    client(root.endpoint, root.account).make_bucket(bucket_name="copies")


def _admin(root: StoreClient) -> MinioAdmin:
    return administrator(root.endpoint, root.account)


def _widened(user: User) -> Callable[[StoreClient], None]:
    def drift(root: StoreClient) -> None:
        _admin(root).policy_add(policy_name=user.name, policy=WIDE)

    return drift


def _another_user(root: StoreClient) -> None:
    admin = _admin(root)
    admin.policy_add(policy_name="wide", policy=WIDE)
    admin.user_add(access_key="somebody", secret_key="a-secret-of-somebody")
    admin.policy_set(policy_name="wide", user="somebody")


def _another_policy(user: User) -> Callable[[StoreClient], None]:
    def drift(root: StoreClient) -> None:
        _admin(root).policy_set(policy_name="readwrite", user=user.name)

    return drift


def _disabled(root: StoreClient) -> None:
    _admin(root).user_disable(access_key=MEDIA.name)


def _removed(root: StoreClient) -> None:
    _admin(root).user_remove(access_key=EVIDENCE.name)


MEDIA_BUCKET, EVIDENCE_BUCKET = "bucket-different:{media}", "bucket-different:{evidence}"

# Each makes findings of names that no other of its batch makes: what is found is found of it.
# One by one they would take fourteen audits and as many runs of the job more.
Batch = dict[Callable[[StoreClient], None], list[str]]
BATCHES: list[Batch] = [
    {
        _public: [MEDIA_BUCKET],
        _public_evidence: [EVIDENCE_BUCKET],
        _another_bucket: ["bucket-extra:copies"],
        **{_widened(user): [f"store-policy-different:{user.name}:allows"] for user in USERS},
        _another_user: ["store-policy-extra:wide:allows", "store-user-extra:somebody"],
    },
    {
        _unversioned: [MEDIA_BUCKET],
        _unlocked: [EVIDENCE_BUCKET],
        _another_policy(MEDIA): [f"store-user-different:{MEDIA.name}"],
        _removed: [f"store-user-missing:{EVIDENCE.name}"],
    },
    {
        _expiring: [MEDIA_BUCKET],
        _shorter_lock: [EVIDENCE_BUCKET],
        _disabled: [f"store-user-different:{MEDIA.name}"],
        _another_policy(EVIDENCE): [f"store-user-different:{EVIDENCE.name}"],
    },
]


@pytest.mark.usefixtures("healed")
@pytest.mark.parametrize("batch", BATCHES, ids=["open and wide", "lost", "weaker"])
def test_drift_of_the_store_is_found(store: StoreClient, root: StoreClient, batch: Batch) -> None:
    assert found(store) == []
    for drift in batch:
        drift(root)
    names = [name for each in batch.values() for name in each]
    assert len(names) == len(set(names))
    assert sorted(one.id for one in found(store)) == sorted(
        name.format(media=store.bucket, evidence=evidence_bucket(store.bucket)) for name in names
    )


@pytest.mark.usefixtures("healed")
def test_an_auditor_whose_own_rights_changed_could_not_tell(
    store: StoreClient, root: StoreClient
) -> None:
    _another_policy(AUDITOR)(root)
    seen = store_facts.read(store)
    assert [what.partition(":")[0] for what in seen.unknown] == [
        "users of the object store",
        "policies of the object store",
    ]


def test_what_an_account_may_not_see_is_unknown(
    store: StoreClient, secrets: dict[str, str]
) -> None:
    limited = replace(store, account=Account(MEDIA.name, secrets[MEDIA.name]))
    assert len(store_facts.read(limited).unknown) == 3
