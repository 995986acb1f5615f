"""Makes the privileges on objects what schema/access.py declares.

Runs in the transaction that changes the schema, so that no object is ever seen
with other privileges. What is not declared is revoked, PUBLIC's implicit
privileges and grant options included. Idempotent: a second run finds nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import psycopg.errors
from psycopg import sql

from pandom.database.catalog_query import query
from pandom.database.connect import granting
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from schema import access

OWNERS: Final = ("pandom_owner", "pandom_trail", "pandom_definer")
_OPT_IN: Final = ROOT / "schema" / "sql" / "opt_in"

_NOT_YET: Final = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
)

# Every privilege of anyone but the owner on what our owners have in schema public;
# acldefault() shows the implicit ones, PUBLIC's EXECUTE above all.
_PRIVILEGES: Final = """
with objects (kind, name, attribute, owner, acl) as (
    select
        case c.relkind when 'S' then 'sequence' else 'table' end,
        pg_catalog.format('%%I.%%I', n.nspname, c.relname), null, c.relowner,
        coalesce(c.relacl, pg_catalog.acldefault(
            case c.relkind when 'S' then 's'::"char" else 'r'::"char" end, c.relowner))
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    union all
    select
        'table', pg_catalog.format('%%I.%%I', n.nspname, c.relname), a.attname,
        c.relowner, a.attacl
    from pg_catalog.pg_attribute as a
    inner join pg_catalog.pg_class as c on a.attrelid = c.oid
    inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = 'public' and a.attacl is not null and not a.attisdropped
    union all
    select
        'function', p.oid::regprocedure::text, null, p.proowner,
        coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_namespace as n on p.pronamespace = n.oid
    where n.nspname = 'public'
    union all
    select
        'type', pg_catalog.format('%%I.%%I', n.nspname, t.typname), null, t.typowner,
        coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))
    from pg_catalog.pg_type as t
    inner join pg_catalog.pg_namespace as n on t.typnamespace = n.oid
    left join pg_catalog.pg_class as c on t.typrelid = c.oid
    where n.nspname = 'public'
        and (t.typtype in ('e', 'd', 'r') or (t.typtype = 'c' and c.relkind = 'c'))
)
select
    o.kind, o.name, o.attribute, pg_catalog.pg_get_userbyid(o.owner) as owner,
    case a.grantee when 0 then 'public'
        else pg_catalog.pg_get_userbyid(a.grantee) end as grantee,
    a.privilege_type as privilege, a.is_grantable as grantable
from objects as o
cross join lateral pg_catalog.aclexplode(o.acl) as a
where a.grantee <> o.owner and pg_catalog.pg_get_userbyid(o.owner) = any(%s)
"""


@dataclass(frozen=True, order=True)
class Privilege:
    """One privilege of one role on one object or column."""

    kind: str
    name: str
    attribute: str
    grantee: str
    privilege: str


@dataclass(frozen=True)
class Difference:
    """What the catalogs have too much and too little of, against the declaration."""

    extra: tuple[Privilege, ...]
    grant_options: tuple[Privilege, ...]
    missing: tuple[Privilege, ...]
    absent: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.extra or self.grant_options or self.missing or self.absent)


def difference(connection: psycopg.Connection, opt_in: frozenset[str] = frozenset()) -> Difference:
    """Compares the privileges on the objects of schema public with the declaration."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_catalog.set_config('search_path', '', true)")
        cursor.execute(_PRIVILEGES, (list(OWNERS),))
        found: dict[Privilege, bool] = {}
        for kind, name, attribute, _, grantee, privilege, grantable in cursor.fetchall():
            found[Privilege(kind, name, attribute or "", grantee, privilege)] = grantable
    wanted, absent = _declared(connection, opt_in)
    return Difference(
        extra=tuple(sorted(found.keys() - wanted)),
        grant_options=tuple(sorted(p for p in found.keys() & wanted if found[p])),
        missing=tuple(sorted(wanted - found.keys())),
        absent=absent,
    )


def _partitions(connection: psycopg.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        """
        select pg_catalog.format('%%I.%%I', n.nspname, c.relname)
        from pg_catalog.pg_inherits as i
        inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
        inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
        where c.relkind = 'r'
            and i.inhparent = any(
                array(select pg_catalog.to_regclass(t) from unnest(%s::text[]) as t)
            )
        """,
        (list(access.TRAIL_TABLES),),
    ).fetchall()
    return tuple(sorted(row[0] for row in rows))


def _declared(
    connection: psycopg.Connection, opt_in: frozenset[str]
) -> tuple[set[Privilege], tuple[str, ...]]:
    """The declared privileges on objects and columns that exist, and what does not exist."""
    former = {(grant.kind, grant.name) for grant in access.FORMER_GRANTS}
    grants = (*access.object_grants(_partitions(connection), opt_in), *access.FORMER_GRANTS)
    names = sorted({(grant.kind, grant.name) for grant in grants})
    rows = connection.execute(
        """
        select d.kind, d.name, case
            when d.kind = 'function' then pg_catalog.to_regprocedure(d.name)::text
            when d.kind = 'type' then pg_catalog.to_regtype(d.name)::text
            else pg_catalog.to_regclass(d.name)::text
        end
        from unnest(%s::text[], %s::text[]) as d (kind, name)
        """,
        ([kind for kind, _ in names], [name for _, name in names]),
    ).fetchall()
    resolved = {(kind, name): found for kind, name, found in rows}
    columns = _columns(connection, {grant.name for grant in grants if grant.columns})
    wanted: set[Privilege] = set()
    absent = {
        f"{kind} {name}"
        for (kind, name), found in resolved.items()
        if found is None and (kind, name) not in former
    }
    for grant in grants:
        name = resolved[grant.kind, grant.name]
        if name is None:
            continue
        there = [one for one in grant.columns if (grant.name, one) in columns]
        absent.update(
            f"column {one} of {grant.kind} {grant.name}"
            for one in grant.columns
            if one not in there
        )
        wanted.update(
            Privilege(grant.kind, name, column, grant.role, privilege)
            for privilege in grant.privileges
            for column in (there if grant.columns else ("",))
        )
    return wanted, tuple(sorted(absent))


def _columns(connection: psycopg.Connection, tables: Iterable[str]) -> set[tuple[str, str]]:
    """Table, as it was asked for, and column of every column that exists."""
    return set(
        connection.execute(
            """
            select t.name, a.attname
            from unnest(%s::text[]) as t (name)
            inner join pg_catalog.pg_attribute as a
                on a.attrelid = pg_catalog.to_regclass(t.name)
            where a.attnum > 0 and not a.attisdropped
            """,
            (sorted(tables),),
        ).fetchall()
    )


def converge(
    connection: psycopg.Connection,
    opt_in: frozenset[str] = frozenset(),
    *,
    complete: bool = True,
    guarded: bool = True,
) -> int:
    """Grants what is declared and missing, revokes what is there and not declared.

    Runs in the caller's transaction, as a role that may become every owner.
    ``complete=False`` is for a schema on its way to head or back: what is declared
    and does not exist yet is skipped. With ``guarded`` rows that a login could reach
    without a policy for it refuse the transaction; without, the schema on its way has
    no row security yet, and such privileges are withheld until it has. Returns the
    number of privileges changed.
    Raises: Failure when a declared object or column does not exist, or rows are open.
    """
    # With an empty path the server writes every name qualified.
    connection.execute("select pg_catalog.set_config('search_path', '', true)")
    _converge_opt_in(connection, opt_in, complete=complete)
    found = difference(connection, opt_in)
    if complete and found.absent:
        raise Failure(
            "privileges are declared on what does not exist: "
            f"{', '.join(found.absent)}. Next: correct schema/models.py or "
            "schema/access.py, or make it in a revision"
        )
    changed = _change(connection, found, opt_in) if found else 0
    if exposed := open_rows(connection):
        if guarded:
            raise Failure(_exposed(exposed))
        _withhold(connection, exposed)
    return changed


def open_rows(connection: psycopg.Connection) -> list[tuple[str, str, str]]:
    """Tables and views of any schema that a login reaches past row security, by no exception.

    Each with the role and what is missing.
    """
    declared = {(one.name, one.role) for one in access.row_security_exceptions()}
    connection.execute("select pg_catalog.set_config('search_path', '', true)")
    return sorted(
        (name, role, missing)
        for _, name, role, missing in connection.execute(query("row_reach")).fetchall()
        if (name.rpartition(" ")[2], role) not in declared
    )


def _exposed(exposed: list[tuple[str, str, str]]) -> str:
    lines = "\n".join(f"  {name} for {role}: {missing}" for name, role, missing in exposed)
    return (
        "rows would be open to logins that no policy limits; nothing was applied:\n"
        f"{lines}\n"
        "Next: declare the table in schema/models.py and let `pandom migrate generate` write its "
        "row security\ninto the revision (a view: `with (security_invoker = true)`); or take the "
        "grant out; or say\nwhy in the model's `open_rows`. What was granted by hand: `revoke` it "
        "as the superuser."
    )


def _withhold(connection: psycopg.Connection, exposed: list[tuple[str, str, str]]) -> None:
    """Takes back what an older schema, without its row security, would open."""
    owners = _owners(connection)
    for name, role, _ in exposed:
        relation = name.rpartition(" ")[2]
        if ("table", relation) in owners and owners["table", relation] in OWNERS:
            connection.execute(
                sql.SQL(
                    "set local role {}; revoke all on table {} from {}; set local role none"
                ).format(
                    sql.Identifier(owners["table", relation]),
                    # The server itself quoted the name.
                    sql.SQL(relation),
                    sql.SQL("public") if role == "PUBLIC" else sql.Identifier(role),
                )
            )


def _change(connection: psycopg.Connection, found: Difference, opt_in: frozenset[str]) -> int:
    owners = _owners(connection)
    _run(connection, _statements(owners, found.extra, "revoke {} on {} {} from {}"))
    _run(
        connection,
        _statements(
            owners, found.grant_options, "revoke grant option for {} on {} {} from {} cascade"
        ),
    )
    taken = len(found.extra) + len(found.grant_options)
    if taken:
        # Revoking from a table takes the same privilege from its columns, too.
        found = difference(connection, opt_in)
    _run(connection, _statements(owners, found.missing, "grant {} on {} {} to {}"))
    return taken + len(found.missing)


def _run(connection: psycopg.Connection, statements: list[sql.Composed]) -> None:
    """All in one round trip."""
    if statements:
        with granting(connection):
            connection.execute(sql.SQL("; ").join([*statements, sql.SQL("set local role none")]))


def _owners(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    rows = connection.execute(
        """
        select 'function', p.oid::regprocedure::text, pg_catalog.pg_get_userbyid(p.proowner)
        from pg_catalog.pg_proc as p
        where p.pronamespace = 'public'::regnamespace
        union all
        select 'type', t.oid::regtype::text, pg_catalog.pg_get_userbyid(t.typowner)
        from pg_catalog.pg_type as t
        where t.typnamespace = 'public'::regnamespace
        union all
        select
            case c.relkind when 'S' then 'sequence' else 'table' end,
            c.oid::regclass::text, pg_catalog.pg_get_userbyid(c.relowner)
        from pg_catalog.pg_class as c
        where c.relnamespace = 'public'::regnamespace
        """
    ).fetchall()
    return {(kind, name): owner for kind, name, owner in rows}


def _statements(
    owners: dict[tuple[str, str], str],
    privileges: Iterable[Privilege],
    statement: LiteralString,
) -> list[sql.Composed]:
    """GRANTs or REVOKEs, each as the objects' owner.

    Objects of one owner on which a role gets the same share a statement: an empty
    database needs a hundred and more privileges, and each statement its log line.
    """
    columns: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for p in privileges:
        columns[p.kind, p.name, p.grantee, p.privilege].append(p.attribute)
    of_object: dict[tuple[str, str, str], list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for (kind, name, grantee, privilege), attributes in sorted(columns.items()):
        of_object[kind, name, grantee].append((privilege, tuple(filter(None, attributes))))
        if "" in attributes and len(attributes) > 1:
            of_object[kind, name, grantee].append((privilege, ()))
    shared: dict[tuple[str, str, str, tuple[tuple[str, tuple[str, ...]], ...]], list[str]]
    shared = defaultdict(list)
    for (kind, name, grantee), what in of_object.items():
        shared[owners[kind, name], kind, grantee, tuple(what)].append(name)
    return [
        sql.SQL("set local role {}; " + statement).format(
            sql.Identifier(owner),
            sql.SQL(", ").join(_privilege(name, attributes) for name, attributes in what),
            sql.SQL(kind),
            # The server itself quoted the objects' names.
            sql.SQL(", ").join(sql.SQL(name) for name in names),
            sql.SQL("public") if grantee == access.PUBLIC else sql.Identifier(grantee),
        )
        for (owner, kind, grantee, what), names in sorted(shared.items())
    ]


def _privilege(name: str, columns: tuple[str, ...]) -> sql.Composable:
    """``select``, or ``select (a, b)``."""
    if not columns:
        return sql.SQL(name.lower())
    return sql.SQL("{} ({})").format(
        sql.SQL(name.lower()), sql.SQL(", ").join(map(sql.Identifier, columns))
    )


def _converge_opt_in(
    connection: psycopg.Connection, opt_in: frozenset[str], *, complete: bool
) -> None:
    """Makes or drops the policies of roles that exist only when a setting is on.

    Nothing is touched that is right already: a policy's DDL locks its table. At an older
    revision a policy whose columns or functions are still to come is left out.
    """
    tables: dict[str, str] = dict(
        connection.execute(
            "select c.relname, pg_catalog.pg_get_userbyid(c.relowner) "
            "from pg_catalog.pg_class as c "
            "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
        ).fetchall()
    )
    made = set(
        connection.execute(
            "select p.tablename, p.policyname from pg_catalog.pg_policies as p "
            "where p.schemaname = 'public'"
        ).fetchall()
    )
    for path in sorted(_OPT_IN.glob("*/*.sql")):
        table, policy = path.stem.split(".")
        wanted = path.parent.name in opt_in and table in tables
        if wanted and (table, policy) not in made:
            try:
                with connection.transaction():
                    run_file(connection, path)
            except _NOT_YET:
                if complete:
                    raise
            connection.execute("set local role none")
        elif not wanted and (table, policy) in made:
            connection.execute(
                sql.SQL(
                    "set local role {}; drop policy {} on public.{}; set local role none"
                ).format(
                    sql.Identifier(tables[table]), sql.Identifier(policy), sql.Identifier(table)
                )
            )


def run_file(connection: psycopg.Connection, path: Path) -> None:
    """Runs one SQL file of ours, whatever it contains, as one script."""
    connection.execute(path.read_text().encode())
