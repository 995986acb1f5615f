"""Heads of the trail's chain, kept where whoever owns the database cannot change them.

A file of the auditor's, one JSON line a head, only ever appended to; and objects in a
versioned bucket, one a head, whose earlier versions no user of ours can delete.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pandom.errors import Failure, UserMistake

if TYPE_CHECKING:
    from minio import Minio

PREFIX: Final = "trail-anchors/"


@dataclass(frozen=True)
class Head:
    """The last block of one table's chain at some moment; ``rows`` is all that it proves."""

    database: str
    log: str
    number: int
    hash: str
    rows: int
    sealed_at: str


def _parsed(text: str, place: str) -> Head:
    try:
        return Head(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserMistake(f"{place}: not an anchor of the trail: {error}") from error


def from_file(path: Path) -> list[Head]:
    """The anchors of a file; none if it does not exist. Raises UserMistake for other content."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line]


def to_file(path: Path, heads: Iterable[Head], known: Iterable[Head]) -> int:
    """Append the heads that the file does not have; returns how many."""
    fresh = [head for head in heads if head not in set(known)]
    try:
        with path.open("a") as file:
            file.writelines(json.dumps(asdict(head), sort_keys=True) + "\n" for head in fresh)
    except OSError as error:
        raise Failure(f"The anchor could not be written to {path}: {error}") from error
    return len(fresh)


def _key(head: Head) -> str:
    return f"{PREFIX}{head.database}/{head.log}/{head.number:012d}.json"


def from_bucket(s3: Minio, bucket: str, database: str) -> list[Head]:
    """The newest version of every anchor of a database; one written over is not seen."""
    found: list[Head] = []
    # Not `list_objects(include_version=True)`: the auditor's user may not list versions.
    for entry in s3.list_objects(bucket_name=bucket, prefix=f"{PREFIX}{database}/", recursive=True):
        name = str(entry.object_name)
        answer: Any = s3.get_object(bucket_name=bucket, object_name=name)
        try:
            found.append(_parsed(answer.read().decode(), name))
        finally:
            answer.close()
            answer.release_conn()
    return found


def to_bucket(s3: Minio, bucket: str, heads: Iterable[Head], known: Iterable[Head]) -> int:
    """Write the heads that the bucket does not have; returns how many."""
    fresh = [head for head in heads if head not in set(known)]
    for head in fresh:
        body = json.dumps(asdict(head), sort_keys=True).encode()
        s3.put_object(
            bucket_name=bucket,
            object_name=_key(head),
            data=io.BytesIO(body),
            length=len(body),
            content_type="application/json",
        )
    return len(fresh)
