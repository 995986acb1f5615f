"""Months of the trail that retention no longer keeps: exported, then dropped.

An export is JSON lines; its digest is the SHA-256 of the lines' SHA-256 digests, as
``partition_digest()`` computes it, so that neither side needs the whole month in memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg


class ExportSink(Protocol):
    """Where exports are kept."""

    def put(self, name: str, content: Path) -> str:
        """Keep a file under a name; returns where it can be found.

        Raises: Failure when it cannot be kept or something else is there already.
        """


@dataclass(frozen=True)
class Exported:
    """What an export holds, and where it is."""

    partition: str
    rows: int
    sha256: str
    place: str


def expired(connection: psycopg.Connection) -> list[str]:
    """Return the partitions that retention no longer keeps, oldest first."""
    return [row[0] for row in connection.execute("select public.expired_partitions()").fetchall()]


def export(
    connection: psycopg.Connection, partition: str, sink: ExportSink, folder: Path
) -> Exported:
    """Export a partition through a file in ``folder`` and has the database record it.

    Runs as pandom_janitor, in autocommit mode. Raises: psycopg.Error when the partition
    does not exist or changed meanwhile; what the sink raises.
    """
    path = folder / f"{partition}.jsonl"
    chain, rows = hashlib.sha256(), 0
    with path.open("wb") as file, connection.cursor() as cursor:
        for (line,) in cursor.stream("select public.read_partition(%s)", (partition,)):
            text = line.encode()
            file.write(text + b"\n")
            chain.update(hashlib.sha256(text).digest())
            rows += 1
    place = sink.put(path.name, path)
    path.unlink()
    made = Exported(partition, rows, chain.hexdigest(), place)
    connection.execute(
        "select public.note_export(%s, %s, %s, %s)", (partition, rows, made.sha256, place)
    )
    return made


def drop(connection: psycopg.Connection, exported: Exported) -> None:
    """Drop an exported partition; the database refuses if it is not what was exported."""
    connection.execute(
        "select public.drop_partition(%s, %s, %s)",
        (exported.partition, exported.rows, exported.sha256),
    )


def digest_of(path: Path) -> tuple[int, str]:
    """Return rows and digest of an export's file: how an auditor compares it with the trail."""
    chain, rows = hashlib.sha256(), 0
    with path.open("rb") as file:
        for line in file:
            chain.update(hashlib.sha256(line.removesuffix(b"\n")).digest())
            rows += 1
    return rows, chain.hexdigest()
