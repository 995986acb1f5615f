"""The objects of a stack at a moment: documents and media go with the database that is served.

The bucket keeps every version, so going back writes the former one again, or a marker that the
object is deleted. Nothing is removed, and the way forward is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pandom.audit.target import store_of
from pandom.host import superuser
from pandom.host.state import clear_outputs
from pandom.objectstore import Account, client
from pandom.runtime.errors import Failure
from pandom.runtime.naming import MINIO_ROOT_USER
from schema.storage import AUDITOR

_AT_ONCE: Final = 8
_LARGEST_COPY: Final = 5 << 30  # bytes that S3 copies in one request


@dataclass(frozen=True)
class Version:
    """One version of an object, or the marker of its deletion."""

    id: str
    written: datetime
    etag: str
    size: int
    deleted: bool

    def same(self, other: Version | None) -> bool:
        """Return whether both are the same content, or none."""
        if other is None or self.deleted or other.deleted:
            return self.deleted and (other is None or other.deleted)
        return (self.etag, self.size) == (other.etag, other.size)


@dataclass(frozen=True)
class Change:
    """What brings one object back: a version to be written again; None is a deletion."""

    name: str
    version: Version | None


@dataclass(frozen=True)
class Bucket:
    """The bucket of documents and media, as the store's root reaches it."""

    s3: Any = field(repr=False)
    name: str

    def every(self) -> dict[str, list[Version]]:
        """Return all versions by the object's name, the oldest first."""
        listed = list(
            self.s3.list_objects(bucket_name=self.name, recursive=True, include_version=True)
        )
        # Newest first, but for the markers of deletion, which the client puts at the end.
        listed.reverse()
        listed.sort(key=lambda one: (one.last_modified, one.is_latest == "true"))
        found: dict[str, list[Version]] = {}
        for one in listed:
            version = Version(
                str(one.version_id),
                one.last_modified,
                str(one.etag or ""),
                int(one.size or 0),
                bool(one.is_delete_marker),
            )
            found.setdefault(str(one.object_name), []).append(version)
        return found

    def apply(self, changes: Iterable[Change]) -> None:
        """Carry changes out."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for _ in threads.map(self._apply, changes):
                pass

    def _apply(self, change: Change) -> None:
        from minio.commonconfig import ComposeSource, CopySource

        if change.version is None:
            self.s3.remove_object(bucket_name=self.name, object_name=change.name)
            return
        bucket, name, version = self.name, change.name, change.version.id
        if change.version.size < _LARGEST_COPY:
            source = CopySource(bucket_name=bucket, object_name=name, version_id=version)
            self.s3.copy_object(bucket_name=bucket, object_name=name, source=source)
        else:
            parts = ComposeSource(bucket_name=bucket, object_name=name, version_id=version)
            self.s3.compose_object(bucket_name=bucket, object_name=name, sources=[parts])


def changes(every: Mapping[str, list[Version]], moment: datetime) -> Iterator[Change]:
    """Yield what makes each object what it was at a moment."""
    for name, versions in sorted(every.items()):
        before = [one for one in versions if one.written <= moment]
        wanted = before[-1] if before else None
        if not versions[-1].same(wanted):
            yield Change(name, None if wanted is None or wanted.deleted else wanted)


def words(planned: Iterable[Change]) -> str:
    """Return what changes would do, for people."""
    listed = list(planned)
    back = sum(one.version is not None for one in listed)
    return f"{back:,} written back, {len(listed) - back:,} deleted"


def of_stack(exported: Mapping[str, Any]) -> Bucket:
    """Return a stack's bucket; ``exported`` is its state with secrets in clear."""
    outputs = clear_outputs(exported)
    endpoint = store_of(outputs, AUDITOR).endpoint
    root = Account(MINIO_ROOT_USER, superuser.generated(exported)["minio-root"])
    return Bucket(client(endpoint, root), str(outputs["minio_bucket_name"]))


def planned(bucket: Bucket, moment: datetime) -> list[Change]:
    """Return the changes for a moment. Raises Failure for a store that does not answer."""
    with answering():
        return list(changes(bucket.every(), moment))


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn the store's errors into a Failure with the next step."""
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (MinioException, HTTPError, OSError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise Failure(
            f"The object store cannot be brought to the same moment: {reason}\n"
            "The database is as it was. Next: `pandom up`, which starts the store; then again"
        ) from None
