"""Brings the privileges on objects in line with the declaration.

Runs in the transaction that changes the schema, so that no object is ever seen with other
privileges. What is not declared is revoked, PUBLIC's implicit privileges included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg
import psycopg.errors
from psycopg import sql

from pandom.database.catalog_query import query
from pandom.database.connect import granting
from pandom.database.drift import catalog, declared, remedies
from pandom.database.drift.differences import Difference, differences
from pandom.database.drift.facts import Fact, Facts, listed, words
from pandom.runtime.errors import Failure
from schema import access

OWNERS: Final = ("pandom_owner", "pandom_trail", "pandom_definer")

_NOT_YET: Final = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
)

_SEEN: Final = ("partitions", "privileges", "privileges_owner")
# One revoke causes others: of columns with their table, of what a grant option granted.
_ROUNDS: Final = 3


@dataclass(frozen=True)
class Comparison:
    """The privileges on objects of ours: declared, seen, and what of the declared has no object."""

    expected: Facts
    seen: Facts
    owners: Mapping[str, str]
    absent: tuple[str, ...]

    def differences(self) -> list[Difference]:
        """Return where declared and seen privileges differ."""
        return differences(self.expected, self.seen)


def compare(connection: psycopg.Connection, opt_in: frozenset[str] = frozenset()) -> Comparison:
    """Compare the privileges on the objects of schema public with the declaration.

    What does not exist yet can be granted to nobody: it is ``absent``, not different.
    """
    facts = catalog.seen(connection, _SEEN)
    owners = _owners(connection)
    partitions = {fact.object: value for fact, value in facts.items() if fact.kind == "partition"}
    wanted = declared.objects(partitions, opt_in, owners, access.FORMER_GRANTS)
    former = {fact.object for fact in declared.privileges(access.FORMER_GRANTS)}
    owned = {Fact("owner", name, "owner"): owner for name, owner in owners.items()}
    return Comparison(
        expected=owned | {fact: value for fact, value in wanted.items() if fact.object in owners},
        seen=owned
        | {
            fact: held
            for fact, value in facts.items()
            if fact.kind == "privilege" and fact.object in owners and (held := _by_owner(value))
        },
        owners=owners,
        absent=tuple(sorted({fact.object for fact in wanted} - owners.keys() - former)),
    )


def _owners(connection: psycopg.Connection) -> dict[str, str]:
    """Return what our owners own in schema public, named as in facts (empty search_path)."""
    rows = connection.execute(query("owned")).fetchall()
    return {name: owner for name, owner in rows if owner in OWNERS}


def _by_owner(value: str) -> str:
    """Return the privileges without those that others granted: these go with the grant option."""
    return listed({word for word in words(value) if "/" not in word})


def converge(
    connection: psycopg.Connection,
    opt_in: frozenset[str] = frozenset(),
    *,
    complete: bool = True,
    guarded: bool = True,
) -> int:
    """Grant what is missing and revoke what is not declared; return how much was changed.

    Runs in the caller's transaction, as a role that may become every owner. ``complete=False``
    skips declared objects that do not exist at an older revision. If ``guarded``, rows that a login
    could reach without a policy are refused; otherwise such privileges are withheld until the
    schema has row security. Raises Failure for missing objects and open rows.
    """
    # With an empty path the server writes every name qualified.
    connection.execute("select pg_catalog.set_config('search_path', '', true)")
    _converge_opt_in(connection, opt_in, complete=complete)
    changed = 0
    for _ in range(_ROUNDS):
        found = compare(connection, opt_in)
        if complete and found.absent:
            raise Failure(
                "privileges are declared on what does not exist: "
                f"{', '.join(found.absent)}. Next: correct schema/models.py or "
                "schema/access.py, or make it in a revision"
            )
        if not (wrong := found.differences()):
            break
        _take_back(connection, found)
        changed += len(wrong)
        if all(difference.status == "missing" for difference in wrong):
            break
    else:
        raise Failure(
            f"privileges do not become as declared: {', '.join(one.id for one in wrong)}. Next: "
            "correct them as the superuser (`pandom audit` has the statements)"
        )
    if exposed := open_rows(connection):
        if guarded:
            raise Failure(_exposed(exposed))
        _withhold(connection, exposed)
    return changed


def open_rows(connection: psycopg.Connection) -> list[tuple[str, str, str]]:
    """Return relations that a login reaches past row security, with role and what is missing."""
    declared = {(exempt.name, exempt.role) for exempt in access.row_security_exceptions()}
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
    """Revoke what an older schema, without its row security, would open."""
    owners = _owners(connection)
    for name, role, _ in exposed:
        if name in owners:
            connection.execute(
                sql.SQL(
                    "set local role {}; revoke all on table {} from {}; set local role none"
                ).format(
                    sql.Identifier(owners[name]),
                    # The server itself quoted the name.
                    sql.SQL(name.rpartition(" ")[2]),
                    sql.SQL("public") if role == "PUBLIC" else sql.Identifier(role),
                )
            )


def _take_back(connection: psycopg.Connection, found: Comparison) -> None:
    """Correct all differences in one round trip, each as the object's owner."""
    texts = [
        f"set local role {found.owners[one.object]};\n{text}"
        for one, text in remedies.plan(found.expected, found.seen)
    ]
    with granting(connection):
        connection.execute("\n".join([*texts, "set local role none"]).encode())


def _converge_opt_in(
    connection: psycopg.Connection, opt_in: frozenset[str], *, complete: bool
) -> None:
    """Make or drop the policies of roles that exist only when a setting is on.

    Correct ones are not touched, because DDL of a policy locks its table. At an older revision a
    policy whose columns or functions do not exist yet is skipped.
    """
    tables: dict[str, str] = dict(
        connection.execute(
            "select c.relname, pg_catalog.pg_get_userbyid(c.relowner) "
            "from pg_catalog.pg_class as c "
            "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
        ).fetchall()
    )
    existing = set(
        connection.execute(
            "select p.tablename, p.policyname from pg_catalog.pg_policies as p "
            "where p.schemaname = 'public'"
        ).fetchall()
    )
    from pandom.database import made  # imports SQLAlchemy, which other jobs do not need

    for name, text in made.texts().items():
        folder, _, rest = name.partition("/")
        if folder != "opt_in":
            continue
        setting, _, place = rest.partition("/")
        table, policy = place.split(".")
        wanted = setting in opt_in and table in tables
        if wanted and (table, policy) not in existing:
            try:
                with connection.transaction():
                    connection.execute(text.encode())
            except _NOT_YET:
                if complete:
                    raise
            connection.execute("set local role none")
        elif not wanted and (table, policy) in existing:
            connection.execute(
                sql.SQL(
                    "set local role {}; drop policy {} on public.{}; set local role none"
                ).format(
                    sql.Identifier(tables[table]), sql.Identifier(policy), sql.Identifier(table)
                )
            )
