"""Differences between models and database, as the SQL of a revision and its way back.

Alembic compares tables, columns, types, defaults and comments. It does not see changed CHECKs,
enumerations, index methods and conditions, or comments on constraints. For these the models are
built in another schema, in a transaction that is rolled back, and compared as the server prints
both.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import sqlalchemy
from alembic.autogenerate import produce_migrations
from alembic.operations import Operations
from alembic.operations.ops import AlterColumnOp, DowngradeOps, ModifyTableOps, UpgradeOps
from alembic.runtime.migration import MigrationContext
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from pandom.database.drift.remedies import literal
from pandom.runtime.errors import UsageError

# A name that no other schema has: it is replaced in what the server prints.
_MODELS: Final = "pandom_models_as_built"
_OWNER: Final = "pandom_owner"
_LATER: Final = (
    "-- A new member cannot be used before this is committed: what uses it (a default, a\n"
    "-- CHECK) goes into the next revision."
)
NOT_COMPARED: Final = (
    "privileges (converged by `up`), types other than enumerations, generated columns, storage "
    "of columns"
)

# Members that can only be dropped and added, each after those it needs.
_CONSTRAINTS: Final = """
select
    case o.contype when 'p' then 1 when 'u' then 2 when 'x' then 3 when 'c' then 4 else 5 end,
    c.relname, format('%%I', o.conname), pg_get_constraintdef(o.oid),
    obj_description(o.oid, 'pg_constraint'), o.conname
from pg_constraint as o
inner join pg_class as c on o.conrelid = c.oid
where o.connamespace = %(schema)s::regnamespace and o.contype in ('p', 'u', 'x', 'c', 'f')
    and o.conparentid = 0 and c.relname = any(%(tables)s) and not c.relispartition
union all
select
    6, c.relname, format('%%I', n.relname),
    pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' -- invalid' end,
    obj_description(i.indexrelid, 'pg_class'), n.relname
from pg_index as i
inner join pg_class as n on i.indexrelid = n.oid
inner join pg_class as c on i.indrelid = c.oid
where c.relnamespace = %(schema)s::regnamespace
    and c.relname = any(%(tables)s) and not c.relispartition
    and not exists (
        select from pg_constraint as o
        where o.conindid = i.indexrelid and o.contype in ('p', 'u', 'x')
    )
"""
_TYPES: Final = """
select t.typname, array_agg(e.enumlabel::text order by e.enumsortorder)
from pg_enum as e
inner join pg_type as t on e.enumtypid = t.oid
where t.typnamespace = %s::regnamespace
group by t.typname
"""
_OWNERS: Final = """
select relname, pg_get_userbyid(relowner) from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
"""


@dataclass(frozen=True, order=True)
class Part:
    """A constraint or an index of a table, as the server prints it."""

    rank: int
    table: str
    name: str  # quoted where it must be
    definition: str = field(compare=False)
    comment: str | None = field(compare=False)
    plain: str = field(compare=False)

    @property
    def index(self) -> bool:
        """Whether it is an index that no constraint has made."""
        return self.rank == 6

    @property
    def drop(self) -> str:
        """The statement that takes it away."""
        if self.index:
            return f"drop index public.{self.name};"
        return f"alter table {_table(self.table)} drop constraint {self.name};"

    @property
    def add(self) -> str:
        """The statement that makes it."""
        if self.index:
            return f"{self.definition};"
        return f"alter table {_table(self.table)} add constraint {self.name} {self.definition};"

    def commented(self, comment: str | None) -> str:
        """Return the statement that gives it a comment."""
        on = f"constraint {self.name} on {_table(self.table)}"
        if self.index:
            on = f"index public.{self.name}"
        return f"comment on {on} is {'null' if comment is None else literal(comment)};"


@dataclass(frozen=True)
class Draft:
    """The text of a revision; ``notes`` say what a person must look at."""

    up: str
    down: str
    notes: tuple[str, ...]


Step = tuple[str, str]  # owner, statement


def of(server: psycopg.Connection, given: Mapping[str, Any], models: sqlalchemy.MetaData) -> Draft:
    """Compare; ``server`` is a superuser's connection, ``given`` the operator's login.

    Raises: UsageError for models that the server cannot build.
    """
    tables = list(models.tables)
    try:
        server.execute("set local lock_timeout = '4s'")
        owners: dict[str, str] = dict(server.execute(_OWNERS).fetchall())
        found, types = _read(server, "public", tables)
        _build(server, models)
        wanted, built = _read(server, _MODELS, tables)
    finally:
        server.rollback()
    wanted = {key: _with_comment(one, models) for key, one in wanted.items()}
    up, down = _tables(given, models)
    new = set(tables) - owners.keys()

    def of_table(name: str, statement: str) -> Step:
        return owners.get(name, _OWNER), statement

    def parts(to: dict[str, Part], start: dict[str, Part], made: set[str]) -> Iterator[list[Step]]:
        """Yield what is dropped, what is added and what is commented on the way to ``to``."""
        gone = [
            one
            for key, one in start.items()
            if one.table not in new and (key not in to or to[key].definition != one.definition)
        ]
        come = [
            one
            for key, one in to.items()
            if (key not in start or start[key].definition != one.definition)
            and (one.table not in new or (one.table in made and one.index))
            and not one.definition.endswith(" -- invalid")
        ]
        said = [
            one
            for key, one in to.items()
            if (one in come or one.table in made or key in start)
            and one.comment != (start[key].comment if key in start and one not in come else None)
            and (one.table not in new or one.table in made)
        ]
        yield [of_table(part.table, part.drop) for part in sorted(gone, reverse=True)]
        yield [of_table(part.table, part.add) for part in sorted(come)]
        yield [of_table(part.table, part.commented(part.comment)) for part in sorted(said)]

    drops, adds, comments = parts(wanted, found, new)
    back_drops, back_adds, back_comments = parts(found, wanted, set())
    notes: list[str] = []
    more, fewer = _enumerations(built, types, " ".join(text for _, text in up), notes)
    alembic_up = [of_table(table, text) for table, text in up]
    alembic_down = [of_table(table, text) for table, text in down]
    if unknown := sorted(owners.keys() - models.tables.keys() - {"alembic_version"}):
        notes.append(f"not compared: tables that models.py does not declare: {', '.join(unknown)}")
    return Draft(
        _text([*more, *drops, *alembic_up, *adds, *comments]),
        _text([*back_drops, *alembic_down, *back_adds, *back_comments, *fewer]),
        tuple(notes),
    )


def _table(name: str) -> str:
    """Return a table's name, quoted where it must be, as SQLAlchemy does in what Alembic writes."""
    return f"public.{_PREPARER.quote(name)}"


# This engine never connects; named parameters keep % in texts single.
_DIALECT: Final = sqlalchemy.create_engine("postgresql+psycopg://", paramstyle="named").dialect
_PREPARER: Final = _DIALECT.identifier_preparer


def _read(
    server: psycopg.Connection, schema: str, tables: list[str]
) -> tuple[dict[str, Part], dict[str, list[str]]]:
    """Constraints, indexes and enumerations, every name in them qualified."""
    server.execute("set local search_path = ''")
    rows = server.execute(_CONSTRAINTS, {"schema": schema, "tables": tables}).fetchall()
    found = {}
    for rank, table, name, definition, comment, plain in rows:
        text = definition.replace(f"{schema}.", "public.").replace(" ON ONLY ", " ON ")
        found[f"{table} {name}"] = Part(rank, table, name, text, comment, plain)
    return found, dict(server.execute(_TYPES, (schema,)).fetchall())


def _build(server: psycopg.Connection, models: sqlalchemy.MetaData) -> None:
    """Create the models in a schema of their own, which shadows the real one."""
    server.execute(f"create schema {_MODELS}".encode())
    server.execute(f"set local search_path = {_MODELS}, public".encode())
    for name, members in _declared(models).items():
        labels = ", ".join(map(literal, members))
        server.execute(f"create type {_PREPARER.quote(name)} as enum ({labels})".encode())
    for table in models.sorted_tables:
        statements: list[ExecutableDDLElement] = [CreateTable(table)]
        statements += [CreateIndex(index) for index in sorted(table.indexes, key=_by_name)]
        for statement in statements:
            try:
                server.execute(str(statement.compile(dialect=_DIALECT)).encode())
            except psycopg.Error as error:
                raise UsageError(
                    f"schema/models.py: the server cannot build table {table.name}: "
                    f"{error.diag.message_primary or error}\n"
                    "Next: correct the model. What an index or CHECK calls must exist already."
                ) from None


def _by_name(index: sqlalchemy.Index) -> str:
    return str(index.name)


def _declared(models: sqlalchemy.MetaData) -> dict[str, list[str]]:
    """Return the enumerations that columns use, with their members."""
    found: dict[str, list[str]] = {}
    for table in models.sorted_tables:
        for column in table.columns:
            kind = column.type
            kind = getattr(kind, "item_type", kind)
            if isinstance(kind, sqlalchemy.Enum) and kind.native_enum and kind.name:
                found[kind.name] = list(kind.enums)
    return found


def _with_comment(part: Part, models: sqlalchemy.MetaData) -> Part:
    """Add the model's comment, which SQLAlchemy's CREATE statements leave out."""
    table = models.tables[part.table]
    comment = None
    if part.index:
        comment = next(
            (index.info.get("comment") for index in table.indexes if index.name == part.plain), None
        )
    else:
        comment = next(
            (rule.comment for rule in table.constraints if rule.name == part.plain), None
        )
    return Part(part.rank, part.table, part.name, part.definition, comment, part.plain)


def _enumerations(
    wanted: Mapping[str, list[str]],
    found: Mapping[str, list[str]],
    text: str,
    notes: list[str],
) -> tuple[list[Step], list[Step]]:
    """Return statements for new enumerations and members; what PostgreSQL cannot do is noted."""
    up: list[Step] = []
    down: list[Step] = []
    for name, members in sorted(wanted.items()):
        kind = f"public.{_PREPARER.quote(name)}"
        if name not in found:
            if not re.search(rf"create type (public\.)?\"?{re.escape(name)}\b", text, re.I):
                labels = ", ".join(map(literal, members))
                up.append((_OWNER, f"create type {kind} as enum ({labels});"))
                down.append((_OWNER, f"drop type {kind};"))
            continue
        there = list(found[name])
        fresh = [member for member in members if member not in there]
        if fresh:
            up.append((_OWNER, _LATER))
        for member in fresh:
            place = members.index(member)
            before = members[place - 1] if place else None
            at = f"after {literal(before)}" if before else f"before {literal(there[0])}"
            up.append(
                (_OWNER, f"alter type {kind} add value if not exists {literal(member)} {at};")
            )
            down.append((_OWNER, f"-- {kind} keeps {literal(member)}: no member can be dropped."))
            there.insert(place, member)
        lost = [member for member in there if member not in members]
        if lost:
            notes.append(
                f"not written: {name} has {', '.join(map(literal, lost))} in the database only; "
                "PostgreSQL cannot drop a member (alter type … rename value renames one)"
            )
        elif there != members:
            notes.append(f"not written: the members of {name} are in another order")
    return up, down


def _tables(
    given: Mapping[str, Any], models: sqlalchemy.MetaData
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what Alembic sees, there and back: tables, columns, and the comments of both."""

    def ours(name: str | None, kind: str, _: object) -> bool:
        """Return whether to compare it: partitions and Alembic's own table are made elsewhere."""
        return kind != "table" or name in models.tables

    def compared(_item: object, _name: str | None, kind: str, *_: object) -> bool:
        return kind not in ("index", "unique_constraint", "foreign_key_constraint")

    engine = sqlalchemy.create_engine("postgresql+psycopg://", connect_args=dict(given))
    try:
        with engine.connect() as client:
            context = MigrationContext.configure(
                client,
                opts={
                    "compare_type": True,
                    "compare_server_default": True,
                    "include_name": ours,
                    "include_object": compared,
                    "target_metadata": models,
                },
            )
            script = produce_migrations(context, models)
    finally:
        engine.dispose()
    return list(_steps(script.upgrade_ops)), list(_steps(script.downgrade_ops))


def _steps(operations: UpgradeOps | DowngradeOps | None) -> Iterator[tuple[str, str]]:
    """Yield each operation's table and SQL."""
    for one in operations.ops if operations is not None else ():
        for step in one.ops if isinstance(one, ModifyTableOps) else [one]:
            if isinstance(step, AlterColumnOp) and step.column_name == "epoch":
                step.modify_server_default = False  # each restore begins a new epoch of the trail
                if not step.has_changes():
                    continue
            text = io.StringIO()
            context = MigrationContext.configure(
                dialect_name="postgresql",
                dialect_opts={"paramstyle": "named"},
                opts={"as_sql": True, "output_buffer": text},
            )
            if hasattr(step, "schema"):
                # The linter takes public.t and t for two tables.
                step.schema = "public"
            Operations(context).invoke(step)
            name = getattr(step, "table_name", None) or getattr(one, "table_name", "")
            yield str(name), text.getvalue().strip()


def _text(steps: Iterable[Step]) -> str:
    """Return the statements, each as the owner of its table."""
    lines: list[str] = []
    owner = _OWNER
    for whose, statement in steps:
        if not statement:
            continue
        if whose != owner:
            lines.append(f"set local role {whose};")
            owner = whose
        lines.append(re.sub(r"\n{2,}", "\n\n", statement))
    return "\n\n".join(lines) + "\n" if lines else ""
