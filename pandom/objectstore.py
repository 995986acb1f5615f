"""The object store: which bucket names are allowed, and how to make and check its state (B3).

Only calls that old and new MinIO servers share are used. The ``minio`` client is
imported when a connection is made: settings need only the name rule.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pandom.errors import Failure
from schema.storage import BUCKET, POLICY_NAME, policy

if TYPE_CHECKING:
    from minio import Minio
    from minio.minioadmin import MinioAdmin

# MinIO's own default; stated, because a client that must ask for it makes one more call.
REGION: Final = "us-east-1"

# MinIO accepts a secret of one character from its administrator.
MIN_SECRET_LENGTH: Final = 16

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30

# How the server lists the user when all is well.
_USER_ENTRY: Final = {"policyName": POLICY_NAME, "status": "enabled"}

_RESERVED_STARTS: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def bucket_name_problem(name: str) -> str | None:
    """What a bucket's name must be, if S3 or MinIO refuses ``name``; otherwise None."""
    if not 3 <= len(name) <= 63:
        return "a bucket name of 3 to 63 characters"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*[a-z0-9]", name):
        return (
            "a bucket name of lower-case letters, digits, '-' and '.', "
            "with a letter or digit at both ends"
        )
    if any(pair in name for pair in ("..", ".-", "-.")):
        return "a bucket name without '..', '.-' or '-.'"
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name):
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
    """Connections that check the certificate and never wait for long.

    No retries: callers poll, and a retried refusal would only hide its reason.
    """
    from urllib3 import PoolManager, Retry, Timeout

    return PoolManager(
        ssl_context=ssl.create_default_context(cafile=str(endpoint.ca)),
        timeout=Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        retries=Retry(total=0),
    )


def client(endpoint: Endpoint, account: Account) -> Minio:
    """An S3 client of one account."""
    from minio import Minio

    return Minio(
        endpoint=endpoint.address,
        access_key=account.access_key,
        secret_key=account.secret_key,
        region=REGION,
        http_client=_pool(endpoint),
    )


def administrator(endpoint: Endpoint, root: Account) -> MinioAdmin:
    """A client for users and policies, with the root account."""
    from minio.credentials.providers import StaticProvider
    from minio.minioadmin import MinioAdmin

    return MinioAdmin(
        endpoint=endpoint.address,
        credentials=StaticProvider(root.access_key, root.secret_key),
        region=REGION,
        http_client=_pool(endpoint),
    )


def reachable(endpoint: Endpoint) -> bool:
    """Whether the store can be written to now; False while it cannot be reached.

    Raises Failure at once if the certificate is refused: waiting would not help.
    """
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


def make_bucket(s3: Minio, bucket: str) -> None:
    """Make the bucket private and versioned; nothing happens to what is in it."""
    from minio.commonconfig import ENABLED
    from minio.error import S3Error
    from minio.versioningconfig import SUSPENDED, VersioningConfig

    if not s3.bucket_exists(bucket_name=bucket):
        try:
            s3.make_bucket(bucket_name=bucket)
        except S3Error as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise
    wanted = ENABLED if BUCKET.versioned else SUSPENDED
    if s3.get_bucket_versioning(bucket_name=bucket).status != wanted:
        s3.set_bucket_versioning(bucket_name=bucket, config=VersioningConfig(wanted))
    if not BUCKET.public and bucket_policy(s3, bucket) is not None:
        s3.delete_bucket_policy(bucket_name=bucket)


def bucket_policy(s3: Minio, bucket: str) -> dict[str, Any] | None:
    """Who may use the bucket without signing in; None if nobody."""
    from minio.error import S3Error

    try:
        return dict(json.loads(s3.get_bucket_policy(bucket_name=bucket)))
    except S3Error as error:
        if error.code == "NoSuchBucketPolicy":
            return None
        raise


def make_user(endpoint: Endpoint, admin: MinioAdmin, bucket: str, user: Account) -> list[str]:
    """Make the limited user, with exactly the declared policy and the given secret.

    Repeating it is harmless; with another secret it is a rotation. A user of an
    earlier access key is removed; users that somebody else made are left alone and
    returned, because an operator wants to know them.

    Some servers let every user make further keys for itself, which only it can list
    and which would outlive a rotation: they are deleted.
    """
    if len(user.secret_key) < MIN_SECRET_LENGTH:
        raise Failure(
            f"The secret of the object store's user {user.access_key} has "
            f"{len(user.secret_key)} characters; at least {MIN_SECRET_LENGTH} are expected."
        )
    admin.policy_add(policy_name=POLICY_NAME, policy=policy(bucket))
    others = users(admin)
    if others.pop(user.access_key, None) != _USER_ENTRY or not signs_in(endpoint, bucket, user):
        admin.user_add(access_key=user.access_key, secret_key=user.secret_key)
        admin.policy_set(policy_name=POLICY_NAME, user=user.access_key)
    for name in [name for name, entry in others.items() if entry.get("policyName") == POLICY_NAME]:
        admin.user_remove(access_key=name)
        del others[name]
    own = administrator(endpoint, user)
    for key in own_keys(own, user.access_key):
        own.delete_service_account(access_key=key)
    return sorted(others)


def signs_in(endpoint: Endpoint, bucket: str, user: Account) -> bool:
    """Whether the user's secret is right and it sees its bucket."""
    from minio.error import S3Error

    try:
        return client(endpoint, user).bucket_exists(bucket_name=bucket)
    except S3Error:
        return False


def users(admin: MinioAdmin) -> dict[str, dict[str, Any]]:
    """Every user but root: access key → policyName, status."""
    return dict(json.loads(admin.user_list()) or {})


def own_keys(own: MinioAdmin, access_key: str) -> list[str]:
    """Further keys (service accounts) that a user made for itself; none are declared."""
    listed = json.loads(own.list_service_account(access_key)).get("accounts") or []
    return [entry["accessKey"] if isinstance(entry, dict) else entry for entry in listed]


def same_policy(one: Any, other: Any) -> bool:
    """Whether two policies allow the same; servers reorder lists and unwrap single ones."""

    def listed(value: Any) -> list[str]:
        return sorted([value] if isinstance(value, str) else value)

    def statements(document: Any) -> list[tuple[Any, ...]]:
        return sorted(
            (entry["Effect"], listed(entry["Action"]), listed(entry["Resource"]), len(entry))
            for entry in document["Statement"]
        )

    return statements(one) == statements(other)


def differences(s3: Minio, admin: MinioAdmin, bucket: str, access_key: str) -> list[str]:
    """What is not as declared, one sentence each; read back from the store."""
    from minio.commonconfig import ENABLED
    from minio.error import MinioAdminException
    from minio.versioningconfig import SUSPENDED

    if not s3.bucket_exists(bucket_name=bucket):
        return [f"bucket {bucket}: does not exist"]
    found: list[str] = []
    versioning = s3.get_bucket_versioning(bucket_name=bucket).status
    if versioning != (wanted := ENABLED if BUCKET.versioned else SUSPENDED):
        found.append(f"bucket {bucket}: versioning is {versioning}, expected {wanted}")
    if not BUCKET.public and bucket_policy(s3, bucket) is not None:
        found.append(f"bucket {bucket}: has a policy of its own, expected none (private)")

    # Listing users makes a server load them and their policies, if it has just started:
    # it calls itself healthy before it has.
    entry = users(admin).get(access_key)
    try:
        document = json.loads(admin.policy_info(POLICY_NAME))
        # Newer servers wrap the document.
        if not same_policy(document.get("Policy", document), policy(bucket)):
            found.append(f"policy {POLICY_NAME}: allows something else than declared")
    except MinioAdminException:
        found.append(f"policy {POLICY_NAME}: does not exist")

    if entry is None:
        return [*found, f"user {access_key}: does not exist"]
    policy_name, status = entry.get("policyName") or "none", entry.get("status")
    if (policy_name, status) != (POLICY_NAME, "enabled"):
        found.append(
            f"user {access_key}: policy {policy_name}, {status}; expected {POLICY_NAME}, enabled"
        )
    return found
