"""A place in the bucket for each test: a prefix, and a user of the store that reaches no other."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from pandom.objectstore import Account, Endpoint, administrator, client
from pandom.runtime.errors import UsageError
from schema.storage import MEDIA

if TYPE_CHECKING:
    from minio import Minio
    from minio.minioadmin import MinioAdmin

_PREFIX: Final = "test-"
_OF_OBJECTS: Final = sorted(
    action
    for permission in MEDIA.permissions
    if permission.target == "objects of media"
    for action in permission.actions
)


@dataclass
class Places:
    """Hands out prefixes of one bucket, as the store's root."""

    endpoint: Endpoint
    root: Account
    bucket: str
    _given: set[str] = field(default_factory=set)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    @cached_property
    def _admin(self) -> MinioAdmin:
        return administrator(self.endpoint, self.root)

    @cached_property
    def _s3(self) -> Minio:
        return client(self.endpoint, self.root)

    def take(self) -> tuple[str, Account]:
        """Return a prefix, which ends with a slash, and the account that reaches only it."""
        name = f"{_PREFIX}{next(self._numbers)}-{secrets.token_hex(2)}"
        account = Account(name, secrets.token_urlsafe(24))
        self._admin.policy_add(policy_name=name, policy=_policy(self.bucket, f"{name}/"))
        self._admin.user_add(access_key=name, secret_key=account.secret_key)
        self._admin.policy_set(policy_name=name, user=name)
        self._given.add(name)
        return f"{name}/", account

    def give_back(self, prefix: str) -> None:
        """Remove a prefix with every version in it, and its user; raises UsageError for another."""
        name = prefix.rstrip("/")
        if name not in self._given:
            raise UsageError(f"{prefix} was not given out, or was given back already.")
        self._given.discard(name)
        self._admin.user_remove(access_key=name)
        self._admin.policy_remove(policy_name=name)
        for one in self._s3.list_objects(
            bucket_name=self.bucket, prefix=f"{name}/", recursive=True, include_version=True
        ):
            self._s3.remove_object(
                bucket_name=self.bucket,
                object_name=str(one.object_name),
                version_id=one.version_id,
            )

    def close(self) -> None:
        """Take everything back."""
        for name in list(self._given):
            self.give_back(name)


def _policy(bucket: str, prefix: str) -> dict[str, Any]:
    of_bucket, inside = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}*"
    listing = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket"],
                "Resource": [of_bucket],
                "Condition": listing,
            },
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation"],
                "Resource": [of_bucket],
            },
            {
                "Effect": "Allow",
                # What the application's own user may do, in this place only.
                "Action": _OF_OBJECTS,
                "Resource": [inside],
            },
        ],
    }
