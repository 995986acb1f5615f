"""A database for each test: a clone of the environment's own, from a small pool.

What a test leaves in its database goes with the database, which nobody gets twice. What it leaves
elsewhere in the cluster (a role's settings or password, a prepared transaction, a slot) is taken
back when it gives its database back. Roles are everybody's: only what one is set in the database
of a test stays as long as that has it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import sql

from pandom.database.catalog_query import query
from pandom.database.drift import remedies
from pandom.database.drift.facts import Fact, Facts
from pandom.runtime.errors import Failure, UsageError
from schema.access import DATABASE

PREFIX: Final = "pandom_test_"
TEMPLATE: Final = "pandom_template"
POOL: Final = 8
# One pool an environment: the second would drop the databases of the first.
_LOCK_KEY: Final = 0x70616E646F63
_WAIT_S: Final = 60.0
_MORE: Final = ""
_END: Final = """
select pg_catalog.pg_terminate_backend(a.pid)
from pg_catalog.pg_stat_activity as a where a.datname = %s
"""
_CLOSE: Final = """
select pg_catalog.pg_terminate_backend(a.pid, 5000)
from pg_catalog.pg_stat_activity as a where a.datname = %s
"""
_ACL: Final = """
select case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end,
    string_agg(a.privilege_type, ', ' order by a.privilege_type)
from pg_catalog.pg_database as d
cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
left join pg_catalog.pg_roles as r on r.oid = a.grantee
where d.datname = %s and a.grantee <> d.datdba
group by 1
order by 1
"""
_PASSWORDS: Final = "select a.rolname, a.rolpassword from pg_catalog.pg_authid as a"
_SET_IN: Final = """
select exists (
    select from pg_catalog.pg_db_role_setting as s
    inner join pg_catalog.pg_database as d on d.oid = s.setdatabase where d.datname = %s
)
"""
_ELSEWHERE: Final = """
select 'slot', s.slot_name::text, s.active_pid from pg_catalog.pg_replication_slots as s
where s.database = %(name)s
union all
select 'prepared', p.gid, null from pg_catalog.pg_prepared_xacts as p where p.database = %(name)s
"""


class Databases:
    """Makes databases as the superuser, and keeps some ready; ``login`` is libpq's keywords.

    Raises UsageError when another process serves the same environment.
    """

    def __init__(self, login: Mapping[str, Any], pool: int = POOL) -> None:
        self._login = dict(login)
        self._size = pool
        self._numbers = count(1)
        self._ready: queue.Queue[str] = queue.Queue()
        self._work: queue.Queue[str | None] = queue.Queue()  # what is to be dropped, or _MORE
        self._given: set[str] = set()
        self._turn = threading.Lock()  # of self._admin, which tests wait for
        self._admin = self._connect("postgres")
        try:
            if not self._one("select pg_try_advisory_lock(%s)", _LOCK_KEY):
                raise UsageError(
                    "Another `pandom ci serve` hands out databases of this environment. Next: use "
                    "that one, or end it"
                )
            self._before = self._seen()
            self._clear()
            self._template()
            self._grants = self._grants_of(DATABASE)
        except BaseException:
            self._admin.close()
            raise
        self._filler = threading.Thread(target=self._fill, name="pool", daemon=True)
        for _ in range(pool):
            self._work.put(_MORE)
        self._filler.start()

    def take(self) -> str:
        """Return the name of a database that nobody had before.

        Raises Failure when the server makes none.
        """
        while True:
            try:
                name = self._ready.get_nowait()
                self._work.put(_MORE)
            except queue.Empty:
                name = self._made()
            with self._turn:
                if not self._one(_SET_IN, name):
                    self._given.add(name)
                    return name
            self._work.put(name)  # another test has set something in it

    def give_back(self, name: str) -> None:
        """Take a database back: sessions in it end, and it is dropped.

        Raises UsageError for one that was not given out, or was given back already.
        """
        if name not in self._given:
            raise UsageError(f"{name} was not given out, or was given back already.")
        self._given.discard(name)
        with self._turn:
            self._leave_nothing(name)
        self._work.put(name)

    @property
    def given(self) -> list[str]:
        """The databases that are out."""
        return sorted(self._given)

    def connect(self, name: str) -> psycopg.Connection:
        """Return a connection as the superuser, to arrange what a test needs."""
        return self._connect(name)

    def close(self) -> None:
        """Drop every database of the pool, and the template."""
        self._work.put(None)
        self._filler.join(_WAIT_S)
        with contextlib.suppress(psycopg.Error):
            self._settle()
            self._clear()
            self._drop(self._admin, TEMPLATE)
        self._admin.close()

    # -- the server -------------------------------------------------------------------------------

    def _connect(self, name: str) -> psycopg.Connection:
        try:
            return psycopg.connect(**{**self._login, "dbname": name}, autocommit=True)
        except psycopg.Error as error:
            raise Failure(f"The environment's server cannot be reached: {error}") from None

    def _one(self, query: str, *parameters: object) -> Any:
        return self._admin.execute(query.encode(), parameters).fetchall()[0][0]

    def _clear(self) -> None:
        """Drop what a process that was killed left."""
        rows = self._admin.execute(
            "select datname from pg_catalog.pg_database where starts_with(datname, %s)", (PREFIX,)
        ).fetchall()
        for (name,) in rows:
            self._leave_nothing(name)
            self._drop(self._admin, name)

    def _template(self) -> None:
        """Copy the environment's database, whose sessions end for that; they come back."""
        self._drop(self._admin, TEMPLATE)
        try:
            self._admin.execute(_allow(DATABASE, False))
            self._admin.execute(_CLOSE, (DATABASE,))
            self._admin.execute(_clone(TEMPLATE, DATABASE))
        except psycopg.errors.ObjectInUse as error:
            raise Failure(
                f"{DATABASE} cannot be copied: {error.diag.message_detail or error}\n"
                "Next: end what is connected to it, then again"
            ) from None
        finally:
            self._admin.execute(_allow(DATABASE, True))
        # Nobody can be in it when a clone is made.
        self._admin.execute(_allow(TEMPLATE, False))

    def _grants_of(self, name: str) -> list[sql.SQL]:
        """Return who may do what with the database itself: a clone does not have it."""
        rows = self._admin.execute(_ACL, (name,)).fetchall()
        to = "grant {} on database {{}} to {}"
        return [sql.SQL(to.format(privileges, role)) for role, privileges in rows]

    def _made(self, connection: psycopg.Connection | None = None) -> str:
        """Return a new clone, by a connection of its own unless one is given."""
        if connection is None:
            with self._connect("postgres") as own:
                return self._made(own)
        name = f"{PREFIX}{next(self._numbers)}"
        identifier = sql.Identifier(name)
        closed = sql.SQL("revoke all on database {} from public").format(identifier)
        rights = [grant.format(identifier) for grant in self._grants]
        try:
            connection.execute(_clone(name, TEMPLATE))
            connection.execute(sql.SQL("; ").join([closed, *rights]))
        except psycopg.Error as error:
            reason = error.diag.message_primary or str(error).strip()
            raise Failure(
                f"No database could be made: {reason}.\nNext: `pandom ci logs` shows what the "
                "server said; `pandom ci serve` makes a new template when it starts"
            ) from None
        return name

    def _fill(self) -> None:
        connection = self._connect("postgres")
        while (name := self._work.get()) is not None:
            # Whoever takes one next makes it, and is told why that fails.
            with contextlib.suppress(psycopg.Error, Failure):
                if connection.closed:
                    connection = self._connect("postgres")
                if name != _MORE:
                    self._drop(connection, name)
                elif self._ready.qsize() < self._size:
                    self._ready.put(self._made(connection))
        connection.close()

    def _drop(self, connection: psycopg.Connection, name: str) -> None:
        connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )

    def _leave_nothing(self, name: str) -> None:
        """End what would keep a database from being dropped, or stay behind without it."""
        self._admin.execute(_END, (name,))
        rows = self._admin.execute(_ELSEWHERE, {"name": name}).fetchall()
        for kind, what, pid in rows:
            if kind == "slot":
                if pid is not None:
                    self._admin.execute("select pg_terminate_backend(%s, 5000)", (pid,))
                self._admin.execute("select pg_drop_replication_slot(%s)", (what,))
            else:
                with self._connect(name) as inside:
                    inside.execute(sql.SQL("rollback prepared {}").format(sql.Literal(what)))
        self._settle()

    def _seen(self) -> tuple[Facts, dict[str, str | None]]:
        """Return all that roles may change of themselves: settings, anywhere, and passwords.

        Without what they are set in databases for tests.
        """
        rows = self._admin.execute(query("role_settings")).fetchall()
        own = f" in database {PREFIX}"
        found = {Fact(*row[:3]): row[3] for row in rows if own not in row[1]}
        return found, dict(self._admin.execute(_PASSWORDS).fetchall())

    def _settle(self) -> None:
        """Give the roles what they had."""
        settings, passwords = self._before
        if (now := self._seen()) == self._before:
            return
        scripts = [(one.id, text) for one, text in remedies.plan(settings, now[0])]
        for role, password in passwords.items():
            if now[1].get(role, password) != password:
                # A verifier is taken as it is.
                text = sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(password)
                )
                scripts.append((f"password {role}", text.as_string(self._admin)))
        remedies.apply(self._admin, scripts)


def _clone(name: str, template: str) -> sql.Composed:
    # Pages are copied by the kernel; through the server's log they take half as long again.
    return sql.SQL("create database {} template {} strategy file_copy").format(
        sql.Identifier(name), sql.Identifier(template)
    )


def _allow(name: str, allowed: bool) -> sql.Composed:
    return sql.SQL("alter database {} with allow_connections {}").format(
        sql.Identifier(name), sql.Literal(allowed)
    )
