"""The object store's declared state: private buckets and their users.

Read by the storage job, which makes it so, and by the tests and the audit, which
compare. The media bucket's name comes from the stack's settings; what may be done
does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Target = Literal[
    "server",
    "buckets",
    "media",
    "objects of media",
    "evidence",
    "objects of evidence",
    "backup",
    "objects of backup",
]

# Anchors, reports and retired months cannot be deleted for so long, by nobody, root
# included (docs/adr/0014-evidence-under-lock.md).
LOCK_DAYS: Final = 90

# Values of `backup`: this store takes the backups, or one elsewhere.
OWN_STORE: Final = "own-store"
S3: Final = "s3"

EVIDENCE_SUFFIX: Final = "-evidence"
BACKUP_SUFFIX: Final = "-backup"
# S3's limit for names, less the longer suffix.
LONGEST_NAME: Final = 63 - len(EVIDENCE_SUFFIX)


@dataclass(frozen=True)
class BucketSpec:
    """A bucket: who may read it without signing in, whether it keeps versions, and for
    how many days every version is locked; 0 is no lock. A lock cannot be had later."""

    public: bool
    versioned: bool
    locked_days: int


@dataclass(frozen=True)
class Permission:
    """Actions on the server, a bucket or the objects in it, with their reason."""

    target: Target
    actions: frozenset[str]
    reason: str


@dataclass(frozen=True)
class User:
    """A user; its name is its access key and its policy's name."""

    name: str
    comment: str
    permissions: tuple[Permission, ...]

    @property
    def secret_file(self) -> str:
        """The file that holds its secret in the volumes of its readers."""
        return f"{self.name}.secret"


# No DeleteObject: on MinIO it includes the deletion of versions, and an explicit
# Deny of DeleteObjectVersion has no effect on every version of the server. An object
# is replaced by writing it again; the version before stays.
MEDIA: Final = User(
    "pandom-media",
    "the application: documents and media",
    (
        Permission(
            "media",
            frozenset({"s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"}),
            "clients ask for the region first; find objects; find their own unfinished uploads",
        ),
        Permission(
            "objects of media",
            frozenset({"s3:GetObject", "s3:PutObject"}),
            "read and write documents and media",
        ),
        Permission(
            "objects of media",
            frozenset({"s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"}),
            "resume or drop an unfinished upload of a large file",
        ),
    ),
)

AUDITOR: Final = User(
    "pandom-auditor",
    "the audit: rules of the store, and evidence; no document and no name of one",
    (
        Permission(
            "server",
            frozenset({"admin:ListUsers", "admin:ListUserPolicies"}),
            "compare users and policies with the declaration",
        ),
        Permission(
            "buckets",
            frozenset(
                {
                    "s3:ListAllMyBuckets",
                    "s3:GetBucketLocation",
                    "s3:GetBucketPolicy",
                    "s3:GetBucketVersioning",
                    "s3:GetBucketObjectLockConfiguration",
                    "s3:GetLifecycleConfiguration",
                }
            ),
            "see every bucket, those that nobody declared too, and its rules",
        ),
        Permission(
            "evidence",
            frozenset({"s3:ListBucket", "s3:ListBucketVersions"}),
            "find anchors, and what was written over or deleted",
        ),
        Permission(
            "objects of evidence",
            frozenset({"s3:GetObject", "s3:GetObjectVersion"}),
            "read reports and retired months",
        ),
    ),
)

EVIDENCE: Final = User(
    "pandom-evidence",
    "writes anchors, reports and retired months, and can read none of them",
    (
        Permission(
            "objects of evidence",
            frozenset({"s3:PutObject"}),
            "add evidence; a version that is there stays, because it is locked",
        ),
    ),
)

# Only where this program makes the backups.
COPIER: Final = User(
    "pandom-copier",
    "copies documents and media beside the backups, and can change none of them",
    (
        Permission(
            "media",
            frozenset({"s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketVersions"}),
            "find versions that were not copied yet, and what was deleted",
        ),
        Permission(
            "objects of media",
            frozenset({"s3:GetObject", "s3:GetObjectVersion"}),
            "read each version once",
        ),
    ),
)

# With backup: own-store only. It deletes, because old backups must leave: what that is worth is
# in docs/backup.md.
BACKUP: Final = User(
    "pandom-backup",
    "backups of the database, encrypted before they get here",
    (
        Permission(
            "backup",
            frozenset({"s3:GetBucketLocation", "s3:ListBucket"}),
            "find backups and archived log",
        ),
        Permission(
            "objects of backup",
            frozenset({"s3:GetObject", "s3:PutObject"}),
            "write and read backups and archived log",
        ),
        Permission(
            "objects of backup",
            frozenset({"s3:DeleteObject"}),
            "remove backups that are older than those that are kept",
        ),
    ),
)

USERS: Final[tuple[User, ...]] = (MEDIA, AUDITOR, EVIDENCE)
NO_BACKUP: Final = "none"


def archives(backup: str) -> bool:
    """Return whether this value of `backup` means backups by this program."""
    return backup in (OWN_STORE, S3)


def users(backup: str = NO_BACKUP) -> tuple[User, ...]:
    """Return every user of a stack with this value of `backup`."""
    copier = (COPIER,) if archives(backup) else ()
    return (*USERS, *copier, *((BACKUP,) if backup == OWN_STORE else ()))


def evidence_bucket(media: str) -> str:
    """Return the name of the second bucket."""
    return media + EVIDENCE_SUFFIX


def backup_bucket(media: str) -> str:
    """Return the name of the bucket for backups."""
    return media + BACKUP_SUFFIX


def buckets(media: str, backup: bool = False) -> dict[str, BucketSpec]:
    """Return every bucket by its name; ``backup`` where this store takes the stack's backups."""
    more = {backup_bucket(media): BucketSpec(public=False, versioned=False, locked_days=0)}
    return {
        media: BucketSpec(public=False, versioned=True, locked_days=0),
        evidence_bucket(media): BucketSpec(public=False, versioned=True, locked_days=LOCK_DAYS),
        **(more if backup else {}),
    }


def policy(user: User, media: str) -> dict[str, Any]:
    """Return a user's policy document; whatever it does not name is denied."""
    evidence, backup = evidence_bucket(media), backup_bucket(media)
    resources: dict[Target, str] = {
        # Servers require a resource even where none applies.
        "server": "*",
        "buckets": "*",
        "media": media,
        "objects of media": f"{media}/*",
        "evidence": evidence,
        "objects of evidence": f"{evidence}/*",
        "backup": backup,
        "objects of backup": f"{backup}/*",
    }
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": sorted(permission.actions),
                "Resource": [f"arn:aws:s3:::{resources[permission.target]}"],
            }
            for permission in user.permissions
        ],
    }
