"""The object store as facts: buckets, users, policies, and what schema/storage.py declares.

Asked as pandom-auditor; what an account may not see is unknown. `make up` corrects it by the
storage job, which asks the same questions as root.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pandom.database.drift.facts import Fact, Facts, listed
from pandom.objectstore import (
    Account,
    Endpoint,
    administrator,
    bucket_expiry,
    bucket_lock,
    bucket_policy,
    client,
    expected_lock,
    users,
)
from pandom.runtime.errors import Failure
from schema.storage import NO_BACKUP, OWN_STORE, backup_bucket, buckets, evidence_bucket, policy
from schema.storage import users as declared_users

if TYPE_CHECKING:
    from minio import Minio

# Built-in policies of MinIO; they matter only when a user has one.
_BUILT_IN: Final = frozenset(
    {"consoleAdmin", "diagnostics", "readonly", "readwrite", "writeonly", "diagnosticsAdmin"}
)


@dataclass(frozen=True)
class StoreClient:
    """Where the object store is, who asks, the media bucket's name, and the stack's `backup`."""

    endpoint: Endpoint
    account: Account
    bucket: str
    backup: str = NO_BACKUP

    @property
    def s3(self) -> Minio:
        """A client as the account."""
        return client(self.endpoint, self.account)

    @property
    def evidence(self) -> str:
        """The name of the bucket for evidence."""
        return evidence_bucket(self.bucket)


@dataclass
class Seen:
    """What was read, and what was refused."""

    facts: Facts = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def expected(store: StoreClient, seen: Facts) -> Facts:
    """Return the declaration as facts.

    A store that once took backups keeps the bucket under the same rules until a person
    removes it.
    """
    media, facts = store.bucket, Facts()
    kept = Fact("bucket", backup_bucket(media), "versioning") in seen
    for name, bucket in buckets(media, store.backup == OWN_STORE or kept).items():
        facts[Fact("bucket", name, "versioning")] = "Enabled" if bucket.versioned else "Suspended"
        facts[Fact("bucket", name, "without signing in")] = "" if not bucket.public else "read"
        facts[Fact("bucket", name, "lock")] = expected_lock(bucket)
        facts[Fact("bucket", name, "expires")] = ""
    for user in declared_users(store.backup):
        facts[Fact("store user", user.name, "policy")] = user.name
        facts[Fact("store user", user.name, "status")] = "enabled"
        facts[Fact("store policy", user.name, "allows")] = _allows(policy(user, media))
    return facts


def read(store: StoreClient) -> Seen:
    """Return what the store says now. Raises Failure when it cannot be reached."""
    from urllib3.exceptions import HTTPError

    seen = Seen()
    try:
        _ask(seen, "buckets", lambda: _buckets(store))
        _ask(seen, "users of the object store", lambda: _users(store))
        _ask(seen, "policies of the object store", lambda: _policies(store))
    except HTTPError as error:
        raise Failure(
            f"The object store at {store.endpoint.address} could not be read: {error}"
        ) from error
    return seen


def _ask(seen: Seen, what: str, question: Callable[[], Facts]) -> None:
    from minio.error import MinioAdminException, S3Error

    try:
        seen.facts.update(question())
    except (S3Error, MinioAdminException) as error:
        reason = getattr(error, "code", "refused")
        seen.unknown.append(f"{what}: {reason}")


def _buckets(store: StoreClient) -> Facts:
    s3 = store.s3
    found: Facts = {}
    for entry in s3.list_buckets():
        name = str(entry.name)
        versioning = s3.get_bucket_versioning(bucket_name=name).status
        found[Fact("bucket", name, "versioning")] = str(versioning)
        document = bucket_policy(s3, name)
        found[Fact("bucket", name, "without signing in")] = _allows(document) if document else ""
        found[Fact("bucket", name, "lock")] = bucket_lock(s3, name)
        found[Fact("bucket", name, "expires")] = bucket_expiry(s3, name)
    return found


def _users(store: StoreClient) -> Facts:
    found: Facts = {}
    for name, entry in users(administrator(store.endpoint, store.account)).items():
        found[Fact("store user", name, "policy")] = str(entry.get("policyName") or "none")
        found[Fact("store user", name, "status")] = str(entry.get("status"))
    return found


def _policies(store: StoreClient) -> Facts:
    documents: Mapping[str, Any] = json.loads(
        administrator(store.endpoint, store.account).policy_list()
    )
    return {
        # Newer servers wrap the document.
        Fact("store policy", name, "allows"): _allows(document.get("Policy", document))
        for name, document in documents.items()
        if name not in _BUILT_IN
    }


def _allows(document: Mapping[str, Any]) -> str:
    """Return a policy in one line; servers reorder lists and unwrap single ones."""
    return "; ".join(sorted(_statement(entry) for entry in document["Statement"]))


def _statement(entry: Mapping[str, Any]) -> str:
    def members(key: str) -> Iterable[str]:
        value = entry.get(key, ())
        return [value] if isinstance(value, str) else value

    who = " for everybody" if "Principal" in entry else ""
    more = " with conditions" if entry.get("Condition") else ""
    return (
        f"{entry['Effect']} {listed(set(members('Action')))} on "
        f"{listed(set(members('Resource')))}{who}{more}"
    )
