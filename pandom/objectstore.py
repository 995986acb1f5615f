"""The object store: names, clients, and how to make and read its state.

Only calls that old and new MinIO servers share; ``minio`` is imported when connecting.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pandom.runtime.errors import Failure
from schema.storage import BACKUP, COPIER, USERS, BucketSpec, User, buckets, policy

if TYPE_CHECKING:
    from minio import Minio
    from minio.minioadmin import MinioAdmin

# MinIO's default, stated to save the client a request.
REGION: Final = "us-east-1"

# MinIO accepts a secret of one character from its administrator. Settings refuse one
# before anything is touched; this is the last check.
MIN_SECRET_LENGTH: Final = 16

# How a server lists a user: policyName and status.
Entry = dict[str, Any]

NO_LOCK: Final = "none"

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30

_RESERVED_STARTS: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def bucket_name_problem(name: str) -> str | None:
    """Return what a bucket's name must be, if S3 or MinIO refuses ``name``; otherwise None."""
    if not 3 <= len(name) <= 63:
        return "a bucket name of 3 to 63 characters"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name):
        return (
            "a bucket name of lower-case letters, digits, '-' and '.', "
            "with a letter or digit at both ends"
        )
    if any(pair in name for pair in ("..", ".-", "-.")):
        return "a bucket name without '..', '.-' or '-.'"
    if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+", name):
        return "a bucket name that does not look like an IP address"
    if name.startswith(_RESERVED_STARTS) or name.endswith(_RESERVED_ENDS) or name == "minio":
        return "a bucket name that is not reserved by S3 or MinIO"
    return None


@dataclass(frozen=True)
class Endpoint:
    """Where the object store is, and the CA that its certificate must come from."""

    host: str
    port: int
    ca: Path

    @property
    def address(self) -> str:
        """Host and port, as the client wants them."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Account:
    """An access key with its secret, which no text of this object shows."""

    access_key: str
    secret_key: str = field(repr=False)


def _pool(endpoint: Endpoint) -> Any:
    """Make a pool of connections that check the certificate, with time-outs and no retries."""
    from urllib3 import PoolManager, Retry, Timeout

    return PoolManager(
        maxsize=4,
        ssl_context=ssl.create_default_context(cafile=str(endpoint.ca)),
        timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        retries=Retry(total=0),
    )


def client(endpoint: Endpoint, account: Account, region: str = REGION) -> Minio:
    """Return an S3 client of one account."""
    from minio import Minio

    return Minio(
        endpoint=endpoint.address,
        access_key=account.access_key,
        secret_key=account.secret_key,
        region=region,
        http_client=_pool(endpoint),
    )


def administrator(endpoint: Endpoint, root: Account) -> MinioAdmin:
    """Return a client for users and policies, with the root account."""
    from minio.credentials.providers import StaticProvider
    from minio.minioadmin import MinioAdmin

    return MinioAdmin(
        endpoint=endpoint.address,
        credentials=StaticProvider(root.access_key, root.secret_key),
        region=REGION,
        http_client=_pool(endpoint),
    )


def reachable(endpoint: Endpoint) -> bool:
    """Return whether the store can be written to now; raises Failure if TLS is refused."""
    from urllib3.exceptions import HTTPError, SSLError

    try:
        answer = _pool(endpoint).request("GET", f"https://{endpoint.address}/minio/health/cluster")
    except HTTPError as error:
        reason = getattr(error, "reason", None)
        if isinstance(error, SSLError) or isinstance(reason, SSLError):
            raise Failure(
                f"The object store at {endpoint.address} showed a certificate that "
                f"{endpoint.ca} does not vouch for.\n"
                "Next: run `make up` again; it renews certificates and restarts what uses them."
            ) from error
        return False
    return bool(answer.status == 200)


def make_buckets(s3: Minio, media: str, backup: bool = False) -> None:
    """Make every declared bucket, without touching content.

    Raises Failure for one without its lock, which a bucket gets at its creation or never.
    """
    with ThreadPoolExecutor() as together:
        pairs = buckets(media, backup).items()
        list(together.map(lambda pair: _make_bucket(s3, *pair), pairs))


def _make_bucket(s3: Minio, name: str, bucket: BucketSpec) -> None:
    from minio.commonconfig import COMPLIANCE, ENABLED
    from minio.error import S3Error
    from minio.objectlockconfig import DAYS, ObjectLockConfig
    from minio.versioningconfig import SUSPENDED, VersioningConfig

    if not s3.bucket_exists(bucket_name=name):
        try:
            s3.make_bucket(bucket_name=name, object_lock=bucket.locked_days > 0)
        except S3Error as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise
    wanted = ENABLED if bucket.versioned else SUSPENDED
    if s3.get_bucket_versioning(bucket_name=name).status != wanted:
        s3.set_bucket_versioning(bucket_name=name, config=VersioningConfig(wanted))
    if not bucket.public and bucket_policy(s3, name) is not None:
        s3.delete_bucket_policy(bucket_name=name)
    if bucket_expiry(s3, name):
        s3.delete_bucket_lifecycle(bucket_name=name)
    lock = bucket_lock(s3, name)
    if lock == expected_lock(bucket):
        return
    if lock == NO_LOCK:
        raise Failure(
            f"Bucket {name} was made by hand without object lock, which it cannot get later.\n"
            f"Next: keep what is in it elsewhere, remove it, and run `make up` again."
        )
    config = ObjectLockConfig(COMPLIANCE, bucket.locked_days, DAYS)
    s3.set_object_lock_config(bucket_name=name, config=config)


def expected_lock(bucket: BucketSpec) -> str:
    """Return the lock of a declared bucket in the words of ``bucket_lock``."""
    return f"COMPLIANCE, {bucket.locked_days} days" if bucket.locked_days else NO_LOCK


def bucket_lock(s3: Minio, name: str) -> str:
    """Return mode and days for which each version in the bucket is locked."""
    from minio.error import S3Error

    try:
        found = s3.get_object_lock_config(bucket_name=name)
    except S3Error as error:
        if error.code == "ObjectLockConfigurationNotFoundError":
            return NO_LOCK
        raise
    if found.mode is None:
        return "enabled, 0 days"
    return f"{found.mode}, {found.duration} {str(found.duration_unit).lower()}"


def bucket_expiry(s3: Minio, name: str) -> str:
    """Return the names of the rules by which objects of the bucket expire; "" if there are none."""
    found = s3.get_bucket_lifecycle(bucket_name=name)
    rules = found.rules if found else []
    return ", ".join(sorted(rule.rule_id or "without a name" for rule in rules))


def bucket_policy(s3: Minio, bucket: str) -> dict[str, Any] | None:
    """Return who may use the bucket without signing in; None if nobody."""
    from minio.error import S3Error

    try:
        return dict(json.loads(s3.get_bucket_policy(bucket_name=bucket)))
    except S3Error as error:
        if error.code == "NoSuchBucketPolicy":
            return None
        raise


def make_users(endpoint: Endpoint, root: Account, media: str, secrets: Mapping[str, str]) -> None:
    """Make every declared user with its policy and secret; another secret is a rotation.

    The users for backups are made where there are secrets of them.

    Raises Failure, before anything is asked, for a secret that is too short.
    """
    wanted = (*USERS, *(user for user in (COPIER, BACKUP) if user.name in secrets))
    for user in wanted:
        if (length := len(secrets[user.name])) < MIN_SECRET_LENGTH:
            raise Failure(
                f"The secret of the object store's user {user.name} has {length} characters; "
                f"at least {MIN_SECRET_LENGTH} are expected."
            )
    there = users(administrator(endpoint, root))
    # The key of each request that is encrypted takes 64 MB, and the job has 256.
    with ThreadPoolExecutor(max_workers=2) as together:
        list(
            together.map(
                lambda user: _make_user(
                    endpoint, root, media, user, secrets[user.name], there.get(user.name)
                ),
                wanted,
            )
        )


def _make_user(
    endpoint: Endpoint, root: Account, media: str, user: User, secret: str, entry: Entry | None
) -> None:
    """Make one user, whom the server lists as ``entry``.

    Further keys that a user made for itself would outlive a rotation: they are deleted.
    """
    admin = administrator(endpoint, root)
    account = Account(user.name, secret)
    admin.policy_add(policy_name=user.name, policy=policy(user, media))
    right = entry == {"policyName": user.name, "status": "enabled"}
    if not right or not signs_in(endpoint, account):
        admin.user_add(access_key=user.name, secret_key=secret)
        admin.policy_set(policy_name=user.name, user=user.name)
    if entry is None:
        return
    own = administrator(endpoint, account)
    for key in own_keys(own, user.name):
        own.delete_service_account(access_key=key)


def remove_user(endpoint: Endpoint, root: Account, name: str) -> bool:
    """Remove a user and its policy, of the same name; False if there was none."""
    admin = administrator(endpoint, root)
    if name not in users(admin):
        return False
    admin.user_remove(access_key=name)
    admin.policy_remove(policy_name=name)
    return True


def signs_in(endpoint: Endpoint, account: Account) -> bool:
    """Return whether the secret is right; a user may be told that it may do nothing here."""
    from minio.error import S3Error

    try:
        client(endpoint, account).list_buckets()
    except S3Error as error:
        return str(error.code) == "AccessDenied"
    return True


def users(admin: MinioAdmin) -> dict[str, Entry]:
    """Return every user but root: access key → policyName, status."""
    return dict(json.loads(admin.user_list()) or {})


def own_keys(own: MinioAdmin, access_key: str) -> list[str]:
    """Return further keys (service accounts) that a user made for itself; none are declared."""
    listed = json.loads(own.list_service_account(access_key)).get("accounts") or []
    return [entry["accessKey"] if isinstance(entry, dict) else entry for entry in listed]
