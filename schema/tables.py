"""What the models declare of each table, as plain data.

Importing the models loads SQLAlchemy, a third of what `pandom health` takes. As Python keeps
compiled modules, so the answer is kept in ``__pycache__``, under a digest of this folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from schema.declare import READABLE, Allow

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class DeclaredTable:
    """One model's table. ``defaults`` are the server's, of columns outside the primary key;
    ``objects`` are paths to names of objects, by column."""

    name: str
    owner: str
    allow: tuple[Allow, ...]
    identities: tuple[str, ...]
    defaults: dict[str, str]
    open_rows: str | None
    trail: str | None
    objects: dict[str, str]


@cache
def tables() -> tuple[DeclaredTable, ...]:
    """Return every table, by name; ``allow`` names the columns where the model says READABLE."""
    sources = sorted(_FOLDER.glob("*.py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    kept = _FOLDER / "__pycache__" / f"tables.{sys.implementation.cache_tag}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = json.loads(kept.read_text())
        if document["digest"] == digest:
            return tuple(_table(one) for one in document["tables"])
    found = tuple(_of_models())
    if not sys.dont_write_bytecode:
        _keep(kept, {"digest": digest, "tables": [asdict(one) for one in found]})
    return found


def _table(document: dict[str, Any]) -> DeclaredTable:
    allow = tuple(
        Allow(**{**allow, "columns": tuple(allow["columns"])}) for allow in document["allow"]
    )
    identities = tuple(document["identities"])
    return DeclaredTable(**{**document, "allow": allow, "identities": identities})


def _keep(path: Path, document: dict[str, Any]) -> None:
    """Write the file whole or not at all; a folder that cannot be written is no fault."""
    partial = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        partial.write_text(json.dumps(document))
        partial.replace(path)


def _of_models() -> list[DeclaredTable]:
    from schema.models import mappers

    found = []
    for mapper in mappers():
        table, declared = mapper.local_table, mapper.class_.__declared__
        readable = tuple(
            column.name
            for column in table.columns
            if not mapper.get_property_by_column(column).deferred
        )
        allow = tuple(
            Allow(allow.role, allow.privileges, allow.rows, readable)
            if allow.columns == READABLE
            else allow
            for allow in declared.allow
        )
        found.append(
            DeclaredTable(
                name=mapper.class_.__tablename__,
                owner=declared.owner,
                allow=allow,
                identities=tuple(
                    column.name for column in table.columns if column.identity is not None
                ),
                defaults={
                    column.name: str(column.server_default.arg).strip("'")
                    for column in table.columns
                    if column.server_default is not None and not column.primary_key
                },
                open_rows=declared.open_rows,
                trail=declared.trail,
                objects={
                    column.name: column.info["objects"]
                    for column in table.columns
                    if "objects" in column.info
                },
            )
        )
    return found
