"""Heads of the trail's chain, kept out of reach of whoever owns the database.

In a file of the auditor, one JSON line a head, or in the evidence bucket, one object a head, of
which no version can be deleted while it is locked.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pandom.runtime.errors import Failure, UsageError

if TYPE_CHECKING:
    from minio import Minio

PREFIX: Final = "trail-anchors/"
# The name has number and hash, so that one listing is enough to compare all of them.
_NAME: Final = re.compile(r"(?P<log>\w+)/(?P<number>[0-9]{12})-(?P<hash>[0-9a-f]{64})\.json")


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """What was kept of a head. ``sealed_at`` is when it was kept, where that is all we know."""

    log: str
    number: int
    hash: str
    sealed_at: str

    @property
    def place(self) -> tuple[str, int, str]:
        """What makes it the same as another."""
        return self.log, self.number, self.hash


@dataclass(frozen=True, kw_only=True)
class Head(Anchor):
    """The last block of one table's chain at some moment; ``rows`` is all that it proves."""

    database: str
    rows: int


@dataclass(frozen=True)
class Kept:
    """Anchors, and the names of those that somebody deleted or wrote over."""

    anchors: tuple[Anchor, ...] = ()
    deleted: tuple[str, ...] = ()
    written_over: tuple[str, ...] = ()

    def fresh(self, heads: Iterable[Head]) -> list[Head]:
        """Return the heads that are not kept yet."""
        known = {anchor.place for anchor in self.anchors}
        return [head for head in heads if head.place not in known]

    def __add__(self, other: Kept) -> Kept:
        """Return what two places kept."""
        return Kept(
            self.anchors + other.anchors,
            self.deleted + other.deleted,
            self.written_over + other.written_over,
        )


def _parsed(text: str, place: str) -> Head:
    try:
        return Head(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place}: not an anchor of the trail: {error}") from error


def from_file(path: Path) -> Kept:
    """Return the anchors of a file, none if it is missing. Raises UsageError for other content."""
    if not path.exists():
        return Kept()
    lines = path.read_text().splitlines()
    return Kept(
        tuple(
            _parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line
        )
    )


def to_file(path: Path, heads: Iterable[Head]) -> None:
    """Append heads."""
    try:
        with path.open("a") as file:
            file.writelines(_line(head) + "\n" for head in heads)
    except OSError as error:
        raise Failure(f"The anchor could not be written to {path}: {error}") from error


def _line(head: Head) -> str:
    return json.dumps(asdict(head), sort_keys=True)


def from_bucket(s3: Minio, bucket: str, database: str) -> Kept:
    """Return every anchor of a database, and the names of those hidden or overwritten.

    Two writers may keep the same head: versions of one content are no tampering.
    """
    start = f"{PREFIX}{database}/"
    anchors: dict[str, Anchor] = {}
    deleted, contents = set(), set()
    for entry in s3.list_objects(
        bucket_name=bucket, prefix=start, recursive=True, include_version=True
    ):
        name = str(entry.object_name)
        found = _NAME.fullmatch(name.removeprefix(start))
        if found is None:
            continue
        if entry.is_delete_marker:
            deleted.add(name)
            continue
        contents.add((name, entry.etag))
        anchors[name] = Anchor(
            log=found["log"],
            number=int(found["number"]),
            hash=found["hash"],
            sealed_at=entry.last_modified.isoformat() if entry.last_modified else "",
        )
    names = [name for name, _ in contents]
    return Kept(
        tuple(anchors[name] for name in sorted(anchors)),
        tuple(sorted(deleted)),
        tuple(sorted({name for name in names if names.count(name) > 1})),
    )


def to_bucket(s3: Minio, bucket: str, heads: Iterable[Head]) -> None:
    """Write heads, each as an object whose name says which block it is."""
    for head in heads:
        body = _line(head).encode()
        s3.put_object(
            bucket_name=bucket,
            object_name=f"{PREFIX}{head.database}/{head.log}/{head.number:012d}-{head.hash}.json",
            data=io.BytesIO(body),
            length=len(body),
            content_type="application/json",
        )
