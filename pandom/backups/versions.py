"""The versions of documents and media: in their bucket, and what brings back a moment of them.

The bucket keeps every version, so going back writes the former one again, or a marker that the
object is deleted. Nothing is removed, and the way forward is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

_AT_ONCE: Final = 8
_LARGEST_COPY: Final = 5 << 30  # bytes that S3 copies in one request


@dataclass(frozen=True)
class Version:
    """One version of an object, or the marker of its deletion.

    ``copy`` is where its content lies beside the backups, "" if it does not; ``sha256`` is known
    of what was copied.
    """

    id: str
    written: datetime
    etag: str
    size: int
    deleted: bool
    sha256: str = ""
    copy: str = ""

    def same(self, other: Version | None) -> bool:
        """Return whether both are the same content, or none."""
        if other is None or self.deleted or other.deleted:
            return self.deleted and (other is None or other.deleted)
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return (self.etag, self.size) == (other.etag, other.size)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "written": self.written.isoformat()}


Versions = dict[str, list[Version]]  # by the object's name, the oldest first


def of_json(document: Mapping[str, Any]) -> Version:
    """Return what ``as_json`` gave."""
    return Version(**{**document, "written": datetime.fromisoformat(document["written"])})


def at(versions: Sequence[Version], moment: datetime) -> Version | None:
    """Return what an object was at a moment; None for what was not there."""
    before = [one for one in versions if one.written <= moment]
    return None if not before or before[-1].deleted else before[-1]


def living(every: Versions) -> dict[str, Version]:
    """Return the objects that are there now."""
    return {name: versions[-1] for name, versions in every.items() if not versions[-1].deleted}


@dataclass(frozen=True)
class Change:
    """What brings one object back: a version to be written again; None is a deletion.

    ``here`` is whether the bucket has it; else its copy has.
    """

    name: str
    version: Version | None
    here: bool = True


@dataclass(frozen=True)
class Bucket:
    """The bucket of documents and media, as one of the store's users reaches it."""

    s3: Any = field(repr=False)
    name: str

    def every(self) -> Versions:
        """Return all versions."""
        listed = list(
            self.s3.list_objects(bucket_name=self.name, recursive=True, include_version=True)
        )
        # Newest first, but for the markers of deletion, which the client puts at the end.
        listed.reverse()
        listed.sort(key=lambda one: (one.last_modified, one.is_latest == "true"))
        found: Versions = {}
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


def changes(here: Versions, moment: datetime, copied: Versions | None = None) -> Iterator[Change]:
    """Yield what makes each object in the bucket what it was at a moment.

    Versions that the bucket does not have any more are of the copies.
    """
    copied = copied or {}
    for name in sorted(here.keys() | copied.keys()):
        copies = {one.id: one for one in copied.get(name, ())}
        # What was copied has its checksum.
        there = [copies.get(one.id, one) for one in here.get(name, ())]
        ids = {one.id for one in there}
        both = there + [one for one in copies.values() if one.id not in ids]
        wanted = at(sorted(both, key=lambda one: one.written), moment)
        if (there and there[-1].same(wanted)) or (not there and wanted is None):
            continue
        yield Change(name, wanted, wanted is None or wanted.id in ids)


def after(here: Versions, planned: Iterable[Change]) -> set[str]:
    """Return the names of the objects that are there once changes are carried out."""
    names = set(living(here))
    for one in planned:
        (names.discard if one.version is None else names.add)(one.name)
    return names


def words(planned: Iterable[Change]) -> str:
    """Return what changes would do, for people."""
    listed = list(planned)
    copied = sum(not one.here for one in listed)
    back = sum(one.version is not None for one in listed)
    text = f"{back:,} written back, {len(listed) - back:,} deleted"
    return f"{text}, {copied:,} of these from copies" if copied else text
