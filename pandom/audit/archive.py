"""Exported months of the trail, one file of JSON lines a month (``audit_logs_y2026m11.jsonl``)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pandom.runtime.errors import UsageError

if TYPE_CHECKING:
    from minio import Minio

# The folder of the bucket in which `pandom db retire` keeps exports.
PREFIX: Final = "trail/"

# Epoch, transaction, number: the order in which rows are sealed.
Key = tuple[int, int, int]


class Archive(Protocol):
    """Where exports are kept."""

    def versions(self, log: str, month: date) -> Iterator[dict[Key, str]]:
        """Return the lines of a month by their place in the chain, the newest export first.

        Raises UsageError for what is no export.
        """


@dataclass(frozen=True)
class Folder:
    """A folder of exported months, plain or ``.gz``."""

    path: Path

    def versions(self, log: str, month: date) -> Iterator[dict[Key, str]]:
        """Yield the month's file, if it is there."""
        for path in (self.path / file_name(log, month), self.path / f"{file_name(log, month)}.gz"):
            if path.exists():
                try:
                    data = path.read_bytes()
                    text = gzip.decompress(data) if path.suffix == ".gz" else data
                except OSError as error:
                    raise UsageError(f"{path}: no export of the trail: {error}") from error
                yield _lines(text, str(path))


@dataclass(frozen=True)
class Evidence:
    """The bucket for evidence, every version of an export that is there."""

    client: Minio
    bucket: str
    prefix: str = PREFIX

    def versions(self, log: str, month: date) -> Iterator[dict[Key, str]]:
        """Yield every version: a later one may be incomplete, or somebody else's."""
        found = self.client.list_objects(
            bucket_name=self.bucket,
            prefix=self.prefix + file_name(log, month),
            include_version=True,
        )
        kept = [one for one in found if not one.is_delete_marker]
        for one in sorted(kept, key=lambda one: str(one.last_modified), reverse=True):
            answer: Any = self.client.get_object(
                bucket_name=self.bucket,
                object_name=str(one.object_name),
                version_id=one.version_id,
            )
            try:
                yield _lines(answer.read(), str(one.object_name))
            finally:
                answer.close()
                answer.release_conn()


def file_name(log: str, month: date) -> str:
    """Return the name of a month's export: that of the partition it was."""
    return f"{log}_y{month:%Y}m{month:%m}.jsonl"


def _lines(data: bytes, place: str) -> dict[Key, str]:
    try:
        lines = [line for line in data.decode().splitlines() if line]
        rows = [json.loads(line) for line in lines]
        keys = [(int(row["epoch"]), int(row["tx"]), int(row["id"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{place}: no export of the trail: {error}") from error
    return dict(zip(keys, lines, strict=True))
