"""The objects that rows name: what models declare with ``names_objects``, asked of a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from schema.tables import tables

FIRST: Final = 5  # that are told by name
_THERE: Final = """
select c.relname, a.attname
from pg_catalog.pg_class as c inner join pg_catalog.pg_attribute as a on c.oid = a.attrelid
where c.relnamespace = 'public'::regnamespace and not a.attisdropped and a.attnum > 0
"""
_NAMES: Final = """
select distinct n.name #>> '{{}}'
from public.{table} as t
cross join lateral pg_catalog.jsonb_path_query(
    pg_catalog.to_jsonb(t.{column}), {path}, silent => true
) as n (name)
where pg_catalog.jsonb_typeof(n.name) = 'string'
"""


def objects(connection: psycopg.Connection) -> dict[str, str]:
    """Return each object that a row names, and the column that does.

    A database of an earlier revision may lack tables and columns: nothing is named by them.
    """
    there = set(connection.execute(_THERE).fetchall())
    found: dict[str, str] = {}
    for table in tables():
        for column, path in table.objects.items():
            if (table.name, column) not in there:
                continue
            query = sql.SQL(_NAMES).format(
                table=sql.Identifier(table.name),
                column=sql.Identifier(column),
                path=sql.Literal(path),
            )
            for (name,) in connection.execute(query).fetchall():
                found.setdefault(name, f"{table.name}.{column}")
    return found


@dataclass(frozen=True)
class Unmatched:
    """Rows whose object is not there, and objects that no row names."""

    named: int
    missing: dict[str, str]
    unnamed: list[str]

    @property
    def lines(self) -> list[str]:
        """What to tell people; nothing if all is matched."""
        if not self.named:
            return []  # of an application that notes no names nothing can be said
        found = []
        if self.missing:
            listed = first(f"{name} ({column})" for name, column in sorted(self.missing.items()))
            found.append(f"{len(self.missing):,} that rows name are not there: {listed}")
        if self.unnamed:
            found.append(f"{len(self.unnamed):,} that no row names: {first(self.unnamed)}")
        return found

    def as_json(self) -> dict[str, Any]:
        """For machines: counts, and the first names."""
        missing = sorted(self.missing.items())[:FIRST]
        return {
            "named": self.named,
            "missing": len(self.missing),
            "missing_first": [{"name": name, "named_by": column} for name, column in missing],
            "unnamed": len(self.unnamed),
            "unnamed_first": self.unnamed[:FIRST],
        }


def first(names: Iterable[str]) -> str:
    """Return the first names, and that there are more."""
    listed = list(names)
    return ", ".join(listed[:FIRST]) + (", …" if len(listed) > FIRST else "")


def unmatched(named: dict[str, str], there: set[str]) -> Unmatched:
    """Compare what rows name with the objects that are there."""
    missing = {name: column for name, column in named.items() if name not in there}
    return Unmatched(len(named), missing, sorted(there - named.keys()))
