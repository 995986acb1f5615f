"""Exported months of the trail: JSON lines as read_partition() gives them, one file a month.

``audit_logs_y2026m11.jsonl``, or the same with ``.gz``, in one folder.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pandom.errors import UserMistake

# Epoch, transaction, number: the order in which rows are sealed.
Key = tuple[int, int, int]


@dataclass(frozen=True)
class Archive:
    """A folder of exported months."""

    folder: Path

    def month(self, log: str, month: date) -> dict[Key, str] | None:
        """The lines of a month by their place in the chain; None if it is not there.

        Raises UserMistake for a file that is no export.
        """
        name = f"{log}_y{month:%Y}m{month:%m}.jsonl"
        for path in (self.folder / name, self.folder / f"{name}.gz"):
            if path.exists():
                return _lines(path)
        return None


def _lines(path: Path) -> dict[Key, str]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
        lines = [line for line in text.splitlines() if line]
        rows = [json.loads(line) for line in lines]
        keys = [(int(row["epoch"]), int(row["tx"]), int(row["id"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserMistake(f"{path}: no export of the trail: {error}") from error
    return dict(zip(keys, lines, strict=True))
