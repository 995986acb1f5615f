"""The object store's declared state: one private, versioned bucket and its one user (B3).

Read by the storage job, which makes it so, and by the tests and the audit, which
compare. Names come from the stack's settings; what may be done does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class Permission:
    """Actions on the bucket itself or on the objects in it, with their reason."""

    target: Literal["bucket", "objects"]
    actions: frozenset[str]
    reason: str


@dataclass(frozen=True)
class Bucket:
    """A bucket: who may read it without signing in, and whether it keeps versions."""

    public: bool
    versioned: bool


BUCKET: Final = Bucket(public=False, versioned=True)

# The name of the user's policy in the object store.
POLICY_NAME: Final = "pandom-media"

# No DeleteObject: on MinIO it includes the deletion of versions, and an explicit
# Deny of DeleteObjectVersion has no effect on every version of the server. An object
# is replaced by writing it again; the version before stays.
PERMISSIONS: Final[tuple[Permission, ...]] = (
    Permission(
        "bucket",
        frozenset({"s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"}),
        "clients ask for the region first; find objects; find their own unfinished uploads",
    ),
    Permission(
        "objects",
        frozenset({"s3:GetObject", "s3:PutObject"}),
        "read and write documents and media",
    ),
    Permission(
        "objects",
        frozenset({"s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"}),
        "resume or drop an unfinished upload of a large file",
    ),
)


def policy(bucket: str) -> dict[str, Any]:
    """The user's policy document for ``bucket``; whatever it does not name is denied."""
    resources = {"bucket": f"arn:aws:s3:::{bucket}", "objects": f"arn:aws:s3:::{bucket}/*"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": sorted(permission.actions),
                "Resource": [resources[permission.target]],
            }
            for permission in PERMISSIONS
        ],
    }
