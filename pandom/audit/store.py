"""The object store as facts: bucket, users, policies, and what schema/storage.py declares (B3).

Asked with an account that may read users and policies; what it may not see is
unknown. Nothing here is healed by SQL: `make up` runs the storage job, which converges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pandom.audit.facts import Fact, Facts, listed
from pandom.errors import Failure
from pandom.objectstore import Account, Endpoint, administrator, bucket_policy, client, users
from schema.storage import BUCKET, POLICY_NAME, policy

# Policies that every MinIO server has; they matter only when somebody has one.
_BUILT_IN: Final = frozenset(
    {"consoleAdmin", "diagnostics", "readonly", "readwrite", "writeonly", "diagnosticsAdmin"}
)


@dataclass(frozen=True)
class Store:
    """Where the object store is, who asks, and whose bucket and user are declared."""

    endpoint: Endpoint
    account: Account
    bucket: str
    user: str


@dataclass
class Seen:
    """What was read, and what was refused."""

    facts: Facts = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def expected(store: Store) -> Facts:
    """The declaration as facts."""
    return {
        Fact("bucket", store.bucket, "versioning"): "Enabled" if BUCKET.versioned else "Suspended",
        Fact("bucket", store.bucket, "without signing in"): "" if not BUCKET.public else "read",
        Fact("store user", store.user, "policy"): POLICY_NAME,
        Fact("store user", store.user, "status"): "enabled",
        Fact("store policy", POLICY_NAME, "allows"): _allows(policy(store.bucket)),
    }


def read(store: Store) -> Seen:
    """What the store says now. Raises Failure when it cannot be reached."""
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


def _buckets(store: Store) -> Facts:
    s3 = client(store.endpoint, store.account)
    found: Facts = {}
    for entry in s3.list_buckets():
        name = str(entry.name)
        versioning = s3.get_bucket_versioning(bucket_name=name).status
        found[Fact("bucket", name, "versioning")] = str(versioning)
        document = bucket_policy(s3, name)
        found[Fact("bucket", name, "without signing in")] = _allows(document) if document else ""
    return found


def _users(store: Store) -> Facts:
    found: Facts = {}
    for name, entry in users(administrator(store.endpoint, store.account)).items():
        found[Fact("store user", name, "policy")] = str(entry.get("policyName") or "none")
        found[Fact("store user", name, "status")] = str(entry.get("status"))
    return found


def _policies(store: Store) -> Facts:
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
    """A policy in one line; servers reorder lists and unwrap single ones."""
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
