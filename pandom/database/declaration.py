"""Checks the models' declarations before anything runs: a line for each mistake."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, get_args

import sqlalchemy
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.orm import Mapper

from pandom.database import made
from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT
from schema import access
from schema.declare import EVENTS, READABLE, Allow, OnTrail, Table, Word
from schema.models import Base, mappers

_PREPARER: Final = sqlalchemy.create_engine("postgresql+psycopg://").dialect.identifier_preparer
# Not TRUNCATE, which no policy limits, nor TRIGGER, which runs as whoever writes.
_PRIVILEGES: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REFERENCES"})
_WITH_NAMES: Final = (sqlalchemy.String, sqlalchemy.ARRAY, sqlalchemy.JSON)
_OWNERS: Final = frozenset(entry.owner for entry in access.DEFAULT_PRIVILEGES) - {"pandom_migrator"}


def check() -> None:
    """Raise UsageError that names every mistake."""
    found = mistakes(mappers()) + _handwritten_policies()
    if found:
        raise UsageError(
            "The declaration of the tables cannot be used; nothing was touched:\n  "
            + "\n  ".join(found)
            + "\nNext: mend these lines, then run this again."
        )


def mistakes(models: Iterable[Mapper[Base]]) -> list[str]:
    """Return what is wrong in the models, in the order of their lines."""
    found = []
    for mapper in models:
        wrong = list(_of_model(mapper))
        if not wrong:
            continue  # to find lines takes a while
        source = Path(inspect.getsourcefile(mapper.class_) or "")
        place = source.relative_to(ROOT) if source.is_relative_to(ROOT) else source
        lines, first = inspect.getsourcelines(mapper.class_)
        for key, what in wrong:
            pattern = re.compile(rf"\s+{key}\b" if key else r"class ")
            line = next((n for n, text in enumerate(lines) if pattern.match(text)), 0)
            found.append((str(place), first + line, f"{mapper.class_.__name__}: {what}"))
    return [f"{place}:{line} {what}" for place, line, what in sorted(found)]


def _of_model(mapper: Mapper[Base]) -> Iterator[tuple[str, str]]:
    """For each mistake the attribute that has it, and what it is."""
    table = mapper.local_table
    declared = getattr(mapper.class_, "__declared__", None)
    if not isinstance(table, sqlalchemy.Table) or not isinstance(declared, Table):
        yield "", "no owner; give it __declared__ = Table(owner=…, allow=…)"
        return
    yield from _names(mapper, table)
    if declared.owner not in _OWNERS:
        yield (
            "__declared__",
            f"owner {declared.owner!r}; tables belong to one of {', '.join(sorted(_OWNERS))}",
        )
    for allow in declared.allow:
        yield from (("__declared__", what) for what in _allowed(allow, table, declared))
    if declared.owned_by is not None:
        column = table.columns.get(declared.owned_by)
        if column is None:
            yield "__declared__", f"owned_by names no column: {declared.owned_by}"
    yield from _indexes(table)
    for column in table.columns:
        if "objects" in column.info and not isinstance(column.type, _WITH_NAMES):
            yield (
                mapper.get_property_by_column(column).key,
                f"column {column.name} names objects; that is for text, lists of it, and jsonb",
            )
    if declared.trail is not None:
        yield from _on_trail(mapper, table, declared)
    else:
        for column in table.columns:
            if "trail" in column.info:
                yield (
                    mapper.get_property_by_column(column).key,
                    f"column {column.name} has a word for the trail, which does not record "
                    "the table; give __declared__ its trail",
                )


def _names(mapper: Mapper[Base], table: sqlalchemy.Table) -> Iterator[tuple[str, str]]:
    assert isinstance(_PREPARER, PGIdentifierPreparer)  # noqa: S101 - the dialect is ours
    for key, name in (
        ("__tablename__", table.name),
        *((mapper.get_property_by_column(column).key, column.name) for column in table.columns),
    ):
        if _PREPARER.quote(name) != name:
            yield key, f"{name!r} is a reserved word or needs quotes; take another name"


def _allowed(allow: Allow, table: sqlalchemy.Table, declared: Table) -> Iterator[str]:
    roles = {role.name: role for role in access.ROLES}
    words = set(allow.privileges.split())
    if allow.role not in roles:
        yield f"grants to {allow.role}, a role that schema/access.py does not have"
        return
    if not words or words - _PRIVILEGES:
        wrong = ", ".join(sorted(words - _PRIVILEGES)) or "nothing"
        yield f"grants {wrong} to {allow.role}; there are {', '.join(sorted(_PRIVILEGES))}"
    for column in allow.columns if allow.columns != READABLE else ():
        if column not in table.columns:
            yield f"grants on column {column} to {allow.role}, which the table does not have"
    if allow.rows == "own" and (declared.open_rows or roles[allow.role].bypass_rls):
        reason = "open_rows" if declared.open_rows else "BYPASSRLS"
        yield f"own rows for {allow.role}, and {reason} that lets it reach all"
    elif allow.rows == "own" and declared.owned_by is None:
        yield f"own rows for {allow.role}, and no owned_by that says whose a row is"
    if {one.rows for one in declared.allow if one.role == allow.role} != {allow.rows}:
        yield f"own rows and all rows for {allow.role}; one policy cannot be both"


def _indexes(table: sqlalchemy.Table) -> Iterator[tuple[str, str]]:
    """Without an index each DELETE of the other table reads the whole of this one."""
    led = [[column.name for column in table.primary_key.columns]]
    led += [
        [column.name for column in rule.columns]
        for rule in table.constraints
        if isinstance(rule, sqlalchemy.UniqueConstraint)
    ]
    led += [
        [getattr(one, "name", "") for one in index.expressions]
        for index in table.indexes
        if index.dialect_options["postgresql"].get("where") is None
    ]
    for key in table.foreign_key_constraints:
        columns = [column.name for column in key.columns]
        if not any(set(one[: len(columns)]) == set(columns) for one in led):
            yield (
                "__table_args__",
                f"{key.name} has no index that begins with {', '.join(columns)}",
            )


def _on_trail(
    mapper: Mapper[Base], table: sqlalchemy.Table, declared: Table
) -> Iterator[tuple[str, str]]:
    subject = made.subject(table, declared)
    if subject is None:
        yield "__declared__", "recorded, and neither owned_by nor a key of one column: of whom?"
    elif subject in table.columns and table.columns[subject].nullable:
        yield "__declared__", f"recorded, and {subject} may be null: of whom would an event be?"
    for column in table.columns:
        key = mapper.get_property_by_column(column).key
        on_trail = column.info.get("trail")
        words = ", ".join(get_args(Word))
        if not isinstance(on_trail, OnTrail) or on_trail.word not in get_args(Word):
            yield key, f"column {column.name} has no word for the trail: info=trail(…): {words}"
            continue
        if set(on_trail.events) - set(EVENTS):
            yield key, f"column {column.name}: events are {', '.join(EVENTS)}"
        named = column.primary_key or column.name == subject
        if named and (on_trail.word != "recorded" or on_trail.events != EVENTS):
            yield key, f"column {column.name} stands in every event; it must be recorded"


def _handwritten_policies() -> list[str]:
    """Policies in schema/sql for tables whose policies are generated from their model."""
    return [
        f"schema/sql/policies/{path.name}: policies of {table} are generated from schema/models.py"
        for path in sorted(made.FOLDER.glob("policies/*.sql"))
        if (table := path.name.partition(".")[0]) in Base.metadata.tables
    ]
