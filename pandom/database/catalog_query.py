"""The queries on PostgreSQL's catalogs (pandom/database/catalog), which jobs and audit share."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, LiteralString

_FOLDER: Final = Path(__file__).parent / "catalog"


@cache
def query(name: str) -> LiteralString:
    """Return one query, marked so that the server's statistics name its file."""
    text: LiteralString = (_FOLDER / f"{name}.sql").read_text()
    if "{objects}" in text:
        text = text.replace("{objects}", query("objects"))
    return f"-- From pandom/database/catalog/{name}.sql\n" + text


def names() -> list[str]:
    """Return every query, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.sql"))
