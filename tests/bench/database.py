"""The database's figures: what row security, contexts, triggers and partitions cost.

One server of the product's image, one run; what is compared is measured in turns. What
a statement costs the server is the processor time of the process that executes it,
which the kernel counts, so that a busy machine changes it little; what a client sees is
time on the clock. Data in memory, JIT and parallel queries off. Runs where the Docker
engine does, because it reads the kernel's accounts of the server's processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, LiteralString
from uuid import UUID

import docker as docker_client
import psycopg
from psycopg import sql

from pandom.database import cluster, migrate
from tests.bench import server as servers
from tests.bench.floor import docker
from tests.fixtures.databases import Database, Factory

Show = Callable[[str], None]

NAME: Final = f"pandom-bench-{os.getpid()}"
SETTINGS: Final = ("shared_buffers=512MB", "max_wal_size=4GB", "autovacuum=off")
MONTHS: Final = 12
MONTHS_TO_LEAVE: Final = 4
LOOK_UPS: Final = 500
TOKEN: Final = "the benchmark's session token"
# Rare enough for an index, common enough to find some.
RARE_TAG: Final = "tag-7"


@dataclass(frozen=True)
class Sizes:
    """Rows. ``few`` and ``many`` are of the trail; ``month`` is a month that is dropped."""

    users: int
    few: int
    many: int
    month: int


QUICK: Final = Sizes(users=20_000, few=100_000, many=1_000_000, month=850_000)
FULL: Final = Sizes(users=1_000_000, few=1_000_000, many=10_000_000, month=850_000)


@dataclass(frozen=True)
class Line:
    """One figure; ``limit`` is the most that is wanted, with ``least`` the least, None nothing."""

    what: str
    measured: float
    unit: str
    limit: float | None
    least: bool = False
    detail: str = ""

    def row(self) -> str:
        """The line of the page's table."""
        bound = verdict = ""
        if self.limit is not None:
            bound = f"{'≥' if self.least else '≤'} {self.limit:g}{self.unit}"
            over = self.measured > self.limit
            verdict = "reached" if over == self.least else "**not reached**"
        cells = (self.what, bound, f"{self.measured:.3g}{self.unit}", verdict, self.detail)
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Plan:
    """How a query is executed: the nodes that read tables."""

    what: str
    who: str
    reads: str
    by_index: bool

    def row(self) -> str:
        """The line of the page's table."""
        verdict = "reached" if self.by_index else "**not reached**"
        return f"| {self.what} | {self.who} | {self.reads} | {verdict} |"


# -- timing ------------------------------------------------------------------------


def microseconds(work: Callable[..., Any], *arguments: Any) -> float:
    """One call."""
    started = time.perf_counter_ns()
    work(*arguments)
    return (time.perf_counter_ns() - started) / 1000


def quiet(times: list[float]) -> float:
    """The time that only a tenth of them beats; of few, the least."""
    return quantiles(times, n=10)[0] if len(times) > 10 else min(times)


@dataclass(frozen=True)
class Cost:
    """Of one execution, in µs: the server's processor, and the clock."""

    processor: float
    clock: float


@dataclass(frozen=True)
class Statement:
    """Something to execute, and the server's process that does it."""

    run: Callable[[], Any]
    process: int


def in_turns(statements: dict[str, Statement], rounds: int, each: int = 1) -> dict[str, Cost]:
    """What each one costs; taken in turns, the first turn thrown away."""
    processor: dict[str, list[float]] = {name: [] for name in statements}
    clock: dict[str, list[float]] = {name: [] for name in statements}
    for turn in range(rounds + 1):
        for name, statement in statements.items():
            before = processor_us(statement.process)
            found = [microseconds(statement.run) for _ in range(each)]
            used = (processor_us(statement.process) - before) / each
            if turn:
                processor[name].append(used)
                clock[name] += found
    return {name: Cost(median(processor[name]), quiet(clock[name])) for name in statements}


def processor_us(process: int) -> float:
    """Processor time that a process of this machine has had."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1000


def process_of(connection: psycopg.Connection, server: int) -> int:
    """The number that the server's process has on this machine, not in its container."""
    inside = connection.info.backend_pid
    for place in Path("/proc").glob("[0-9]*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            status = dict(line.split(":", 1) for line in place.read_text().splitlines())
            if (
                int(status["PPid"]) == server
                and int(status.get("NSpid", "0").split()[-1]) == inside
            ):
                return int(place.parent.name)
    raise ProcessLookupError(f"process {inside} of the server is not on this machine")


# -- what is measured --------------------------------------------------------------


@dataclass
class Bench:
    """A migrated database, filled as far as it was asked for."""

    database: Database
    sizes: Sizes
    show: Show
    # The number of the container's first process on this machine.
    process: int
    rows: int = 0

    def query(
        self, connection: psycopg.Connection, text: LiteralString, *parameters: Any
    ) -> Statement:
        """A prepared statement, fetched whole."""
        cursor = connection.cursor()
        return Statement(
            lambda: cursor.execute(text, parameters or None, prepare=True).fetchall(),
            process_of(connection, self.process),
        )

    @contextmanager
    def connection(self, role: str = "postgres") -> Iterator[psycopg.Connection]:
        """A transaction without JIT and parallel queries; rolled back."""
        with self.database.connect(role) as connection:
            connection.execute("set jit = off")
            connection.execute("set max_parallel_workers_per_gather = 0")
            yield connection
            connection.rollback()

    @contextmanager
    def loading(self) -> Iterator[psycopg.Connection]:
        """A superuser's connection on which no trigger fires, vacuumed afterwards."""
        with self.database.connect("postgres") as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("set synchronous_commit = off")
            yield connection
            connection.commit()
        with self.database.connect("postgres", autocommit=True) as connection:
            connection.execute("vacuum (analyze)")

    def load_users(self) -> None:
        """Users with profiles and a session each; the first one has the token."""
        self.show(f"loading {self.sizes.users:,} users")
        with self.loading() as connection:
            connection.execute(
                """
                insert into public.user_profiles (uuid, tags, metadata)
                select md5('p' || n)::uuid, array['developer', 'tag-' || n %% 5000],
                    jsonb_build_object('name', 'User ' || n, 'team', n %% 1000)
                from generate_series(1, %(users)s) as n
                """,
                {"users": self.sizes.users},
            )
            connection.execute(
                """
                insert into public.auth_users
                (uuid, email, password_hash, is_verified, profile_uuid, role)
                select md5('u' || n)::uuid, 'user' || n || '@example.com',
                    '$2a$04$' || repeat('a', 53), true, md5('p' || n)::uuid,
                    (case n when 2 then 'admin' else 'user' end)::public.userrole
                from generate_series(1, %(users)s) as n
                """,
                {"users": self.sizes.users},
            )
            connection.execute(
                """
                insert into public.sessions (user_uuid, token, expires_at)
                select md5('u' || n)::uuid,
                    encode(sha256(convert_to(case n when 1 then %(token)s else n::text end,
                        'UTF8')), 'hex'),
                    now() + interval '1 day'
                from generate_series(1, %(users)s) as n
                """,
                {"users": self.sizes.users, "token": TOKEN},
            )

    def load_trail(self, rows: int) -> None:
        """The trail up to ``rows`` events, a hundred for each user in the small one,
        spread over the last twelve months."""
        self.show(f"loading the trail up to {rows:,} rows")
        with self.loading() as connection:
            if not self.rows:
                connection.execute("set local role pandom_trail")
                connection.execute(
                    "select public.create_partition('audit_logs', "
                    "date_trunc('month', now(), 'UTC') - make_interval(months => n)) "
                    "from generate_series(1, %s) as n",
                    (MONTHS + MONTHS_TO_LEAVE,),
                )
                connection.execute("set local role none")
            connection.execute(
                """
                insert into public.audit_logs (user_uuid, event_type, timestamp, details)
                select md5('u' || 1 + n %% %(users)s)::uuid,
                    (array['login_succeeded', 'login_failed', 'UPDATE', 'seen'])[1 + n %% 4],
                    now() - (n::bigint * 7919 %% 1000003 / 1000003.0) * interval '350 days',
                    '{"table": "auth_users", "session_user": "pandom_app"}'
                from generate_series(%(first)s, %(last)s) as n
                """,
                {"users": self.sizes.few // 100, "first": self.rows + 1, "last": rows},
            )
        self.rows = rows

    @property
    def user(self) -> UUID:
        """The user whose context is opened."""
        return UUID(str(self.database.one("select md5('u1')::uuid", role="postgres")))

    def raw(self, connection: psycopg.Connection, text: str) -> Statement:
        """A statement put together here, planned each time."""
        cursor = connection.cursor()
        return Statement(
            lambda: cursor.execute(text.encode()).fetchall(),
            process_of(connection, self.process),
        )

    # -- row security

    def row_security(self) -> list[Line]:
        """Policies against the same filter in WHERE, and against nothing."""
        self.show("row security")
        user = self.user
        lines = []
        point: LiteralString = "select email, role from public.auth_users where uuid = %s"
        own: LiteralString = "select id, expires_at from public.sessions"
        filtered: LiteralString = own + " where user_uuid = (select public.current_user_id())"
        literal: LiteralString = own + " where user_uuid = %s"
        with self.connection() as free, self.connection("pandom_app") as bound:
            _plain_context(bound, user)
            _plain_context(free, user)
            found = in_turns(
                {
                    "none": self.query(free, point, user),
                    "policy": self.query(bound, point, user),
                    "where": self.query(free, filtered),
                    "literal": self.query(free, literal, user),
                    "own": self.query(bound, own),
                },
                rounds=30,
                each=100,
            )
            lines += [
                Line(
                    "point lookup with row security / without, through psycopg",
                    found["policy"].clock / found["none"].clock,
                    " ×",
                    1.25,
                    detail=f"{found['policy'].clock:.0f} against {found['none'].clock:.0f} µs, "
                    f"on the server {found['policy'].processor:.0f} against "
                    f"{found['none'].processor:.0f} µs",
                ),
                Line(
                    "own sessions by policy / the same filter in WHERE, index",
                    found["own"].processor / found["where"].processor,
                    " ×",
                    1.15,
                    detail=_against(found["own"].processor, found["where"].processor, "µs"),
                ),
                Line(
                    "own sessions by policy / a literal in WHERE, index",
                    found["own"].processor / found["literal"].processor,
                    " ×",
                    None,
                    detail=_against(found["own"].processor, found["literal"].processor, "µs")
                    + ": what asking who the user is costs",
                ),
            ]
            for connection in (free, bound):
                for method in ("indexscan", "indexonlyscan", "bitmapscan"):
                    connection.execute(
                        sql.SQL("set local {} = off").format(sql.Identifier(f"enable_{method}"))
                    )
            for table in ("auth_users", "sessions", "audit_logs"):
                column = "uuid" if table == "auth_users" else "user_uuid"
                count = f"select count(*) from public.{table}"
                scans = in_turns(
                    {
                        "where": self.raw(
                            free, f"{count} where {column} = (select public.current_user_id())"
                        ),
                        "policy": self.raw(bound, count),
                    },
                    rounds=9,
                )
                lines.append(
                    Line(
                        f"scan of {table} by policy / the same filter in WHERE",
                        scans["policy"].processor / scans["where"].processor,
                        " ×",
                        1.15,
                        detail=_against(
                            scans["policy"].processor / 1000, scans["where"].processor / 1000, "ms"
                        ),
                    )
                )
        return lines

    def signed_context(self) -> list[Line]:
        """What signing adds to a query, and what opening a context takes."""
        self.show("signed contexts")
        user = self.user
        times: dict[bool, list[float]] = {False: [], True: []}
        opening: list[float] = []
        for _ in range(6):
            for signed in (False, True):
                with self.database.owner("pandom_definer") as connection:
                    connection.execute("update public.context_key set enforced = %s", (signed,))
                with self.connection("pandom_app") as bound:
                    bound.execute("select public.begin_context(%s)", (TOKEN,))
                    looking = self._look_ups(bound, user)
                    found = in_turns({"all": looking}, rounds=5)
                    times[signed].append(found["all"].processor / LOOK_UPS)
                    if signed:
                        found = in_turns(
                            {
                                "begin": self.query(
                                    bound, "select public.begin_context(%s)", TOKEN
                                ),
                                "one": self.query(bound, "select %s::text", TOKEN),
                            },
                            rounds=5,
                            each=100,
                        )
                        opening.append(found["begin"].processor - found["one"].processor)
        with self.database.owner("pandom_definer") as connection:
            connection.execute("update public.context_key set enforced = false")
        plain, with_key = quiet(times[False]), quiet(times[True])
        return [
            Line(
                "signed context, added to a query",
                with_key - plain,
                " µs",
                10,
                detail=_against(with_key, plain, "µs"),
            ),
            Line(
                "begin_context, beyond an empty round trip",
                median(opening),
                " µs",
                150,
            ),
        ]

    def _look_ups(self, connection: psycopg.Connection, user: UUID) -> Statement:
        """Look-ups in one statement: a round trip costs ten times of what is measured."""
        text = sql.SQL(
            "do $$ declare found record; begin for n in 1..{} loop "
            "select email, role into found from public.auth_users where uuid = {}; "
            "end loop; end $$"
        ).format(sql.Literal(LOOK_UPS), sql.Literal(str(user)))
        return Statement(lambda: connection.execute(text), process_of(connection, self.process))

    # -- the audit trigger

    def audit_trigger(self) -> list[Line]:
        """What the trigger adds to one row, and to each of a thousand."""
        self.show("audit trigger")
        single: dict[str, list[float]] = {"off": [], "on": []}
        many: dict[str, list[float]] = {"off": [], "on": []}
        for _ in range(8):
            for state in single:
                # Rows that were rolled back make every later look-up dearer.
                with self.database.connect("postgres", autocommit=True) as connection:
                    connection.execute(
                        "vacuum public.auth_users, public.user_profiles, public.audit_logs"
                    )
                with self.connection() as connection:
                    if state == "off":
                        for table, trigger in (
                            ("user_profiles", "audit_profiles_trigger_update"),
                            ("auth_users", "audit_users_trigger_update"),
                        ):
                            connection.execute(
                                sql.SQL("alter table public.{} disable trigger {}").format(
                                    sql.Identifier(table), sql.Identifier(trigger)
                                )
                            )
                    one = self.query(
                        connection,
                        "update public.user_profiles set tags = array['developer', "
                        "clock_timestamp()::text] where uuid = "
                        "(select md5('p' || 1 + (random() * 10000)::integer)::uuid) returning 1",
                    )
                    single[state].append(
                        in_turns({"one": one}, rounds=2, each=100)["one"].processor
                    )
                    # Other users each time; the first thousand is thrown away.
                    thousand = Statement(self._thousands(connection), one.process)
                    many[state].append(in_turns({"all": thousand}, rounds=3)["all"].processor)
        with self.database.connect("postgres", autocommit=True) as connection:
            connection.execute("vacuum public.auth_users, public.user_profiles, public.audit_logs")
        off, on = (quiet(times) for times in single.values())
        bulk_off, bulk_on = (quiet(times) for times in many.values())
        return [
            Line(
                "audit trigger, added to a single-row UPDATE",
                on - off,
                " µs",
                20,
                detail=_against(on, off, "µs"),
            ),
            Line(
                "audit trigger, per row of a 1,000-row UPDATE",
                (bulk_on - bulk_off) / 1000,
                " µs",
                8,
                detail=_against(bulk_on / 1000, bulk_off / 1000, "ms"),
            ),
        ]

    @staticmethod
    def _thousands(connection: psycopg.Connection) -> Callable[[], Any]:
        """An UPDATE of a thousand users, of the next thousand each time."""
        cursor = connection.cursor()
        starts = count(1, 1000)

        def update() -> None:
            first = next(starts)
            cursor.execute(
                "update public.auth_users set is_configured = not is_configured where uuid in "
                "(select md5('u' || n)::uuid from generate_series(%s::integer, %s) as n)",
                (first, first + 999),
                prepare=True,
            )

        return update

    # -- the trail's size

    def newest(self) -> float:
        """Newest 100 events of a user, in µs of the server, as pandom_app under row security."""
        text: LiteralString = (
            "select id, event_type, timestamp, details from public.audit_logs "
            "where user_uuid = %s order by timestamp desc limit 100"
        )
        with self.connection("pandom_app") as connection:
            _plain_context(connection, self.user)
            found = in_turns(
                {"newest": self.query(connection, text, self.user)}, rounds=20, each=25
            )
        return found["newest"].processor

    def growth(self) -> list[Line]:
        """Newest 100 in a small trail against a big one; then dropping a month."""
        self.load_trail(self.sizes.few)
        few = self.newest()
        self.load_trail(self.sizes.many)
        many = self.newest()
        return [
            Line(
                f"newest 100 events of a user, {self.sizes.many:,} rows / {self.sizes.few:,}",
                many / few,
                " ×",
                1.3,
                detail=f"{many:.0f} against {few:.0f} µs, {MONTHS} months and default in place",
            )
        ]

    def retention(self) -> list[Line]:
        """A month dropped against a month deleted, each committed; two of each, in turns."""
        self.show(f"four months of {self.sizes.month:,} rows: delete and drop")
        months = range(MONTHS + 1, MONTHS + 1 + MONTHS_TO_LEAVE)
        with self.loading() as connection:
            for back in months:
                connection.execute(
                    "insert into public.audit_logs (user_uuid, event_type, timestamp, details) "
                    "select md5('u' || n %% 1000)::uuid, 'seen', "
                    "date_trunc('month', now(), 'UTC') - make_interval(months => %(back)s) "
                    "+ n %% 600 * interval '1 hour', '{\"table\": \"sessions\"}' "
                    "from generate_series(1, %(rows)s) as n",
                    {"back": back, "rows": self.sizes.month},
                )
        deleted, vacuumed, dropped = [], [], []
        for back in months:
            with self.database.connect("postgres", autocommit=True) as connection:
                row = connection.execute(
                    "select 'audit_logs' || to_char(m at time zone 'UTC', '\"_y\"YYYY\"m\"MM') "
                    "from (select date_trunc('month', now(), 'UTC') "
                    "- make_interval(months => %s) as m)",
                    (back,),
                ).fetchone()
                assert row is not None
                # Nobody pays for writing what somebody before changed.
                connection.execute("checkpoint")
                if back % 2:
                    deleted.append(microseconds(_delete, connection, row[0]))
                    vacuumed.append(deleted[-1] + microseconds(_vacuum, connection, row[0]))
                else:
                    dropped.append(microseconds(_drop, connection, row[0]))
        return [
            Line(
                f"a month of {self.sizes.month:,} rows, deleting / dropping it",
                quiet(deleted) / quiet(dropped),
                " ×",
                25,
                least=True,
                detail=_against(quiet(deleted) / 1000, quiet(dropped) / 1000, "ms")
                + " on the clock, without the digest that drop_partition() takes before",
            ),
            Line(
                "the same, with the VACUUM that gives the space back",
                quiet(vacuumed) / quiet(dropped),
                " ×",
                None,
                detail=_against(quiet(vacuumed) / 1000, quiet(dropped) / 1000, "ms"),
            ),
        ]

    # -- plans

    def plans(self) -> list[Plan]:
        """Whether what must be found by an index is, as whom it is looked for."""
        self.show("plans")
        join = (
            "select u.uuid, u.email, p.tags from public.auth_users as u "
            "inner join public.user_profiles as p on u.profile_uuid = p.uuid where "
        )
        tag = f"p.tags @> array['{RARE_TAG}']"
        asked = (
            ("login look-up", "user", "pandom_app", join + "u.email = 'user1@example.com'"),
            (
                "login look-up",
                "administrator",
                "pandom_admin",
                join + "u.email = 'user7@example.com' and u.is_active",
            ),
            (
                "login look-up",
                "sign_in(), admin_find_by_email()",
                "pandom_definer",
                join + "lower(u.email) = lower('user7@example.com') and u.is_active",
            ),
            ("tag search", "user", "pandom_app", join + tag),
            ("tag search", "administrator, admin_find_by_tag()", "pandom_definer", join + tag),
            (
                "failed_logins_last_hour",
                "auditor",
                "pandom_auditor",
                "select * from public.failed_logins_last_hour",
            ),
            (
                "suspicious_activity",
                "auditor",
                "pandom_auditor",
                "select * from public.suspicious_activity",
            ),
        )
        return [Plan(what, who, *self._reads(role, text)) for what, who, role, text in asked]

    def _reads(self, role: str, text: str) -> tuple[str, bool]:
        login = "postgres" if role == "pandom_definer" else role.replace("_admin", "_app")
        with self.connection(login) as connection:
            if role == "pandom_admin":
                _plain_context(connection, UUID(str(self.database.one("select md5('u2')::uuid"))))
            elif role == "pandom_app":
                _plain_context(connection, self.user)
            connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            row = connection.execute(f"explain (format json) {text}".encode()).fetchone()
            assert row is not None
            reads: dict[str, None] = {}
            _walk(row[0][0]["Plan"], reads, self._tiny())
        return "; ".join(reads), not any(read.startswith("Seq Scan") for read in reads)

    def _tiny(self) -> set[str]:
        """Tables of at most a page, which are rightly read whole: empty months, settings."""
        found = self.database.rows(
            "select relname from pg_class where relkind = 'r' and relpages <= 1", role="postgres"
        )
        return {row[0] for row in found}


def _walk(node: dict[str, Any], reads: dict[str, None], tiny: set[str]) -> None:
    """The nodes that read something, partitions of one table as one; not what is tiny."""
    place = node.get("Index Name") or node.get("Relation Name")
    small = node.get("Relation Name") in tiny
    if place and not small and node["Node Type"] != "Bitmap Heap Scan":
        reads[f"{node['Node Type']} {place.split('_y2')[0].split('_default')[0]}"] = None
    for child in node.get("Plans", ()):
        _walk(child, reads, tiny)


def _plain_context(connection: psycopg.Connection, user: UUID) -> None:
    connection.execute("select set_config('app.current_user_id', %s, false)", (str(user),))


def _against(one: float, other: float, unit: str) -> str:
    shown = [f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in (one, other)]
    return f"{shown[0]} against {shown[1]} {unit}"


def _delete(connection: psycopg.Connection, name: str) -> None:
    connection.execute(sql.SQL("delete from {}").format(sql.Identifier("public", name)))


def _vacuum(connection: psycopg.Connection, name: str) -> None:
    connection.execute(sql.SQL("vacuum {}").format(sql.Identifier("public", name)))


def _drop(connection: psycopg.Connection, name: str) -> None:
    """What drop_partition() does when it knows that the month may go."""
    table = sql.Identifier("public", name)
    with connection.transaction():
        connection.execute(
            sql.SQL("alter table public.audit_logs detach partition {}").format(table)
        )
        connection.execute(sql.SQL("drop table {}").format(table))


def migration(factory: Factory, show: Show) -> Line:
    """From empty to head, privileges included, against a run that finds nothing to do.

    Both wait for each other and seldom for a disk, so that the processor time of the two
    is what it takes on a machine with nothing else to do.
    """
    show("migration from empty")
    first: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []

    def used_ms() -> float:
        stats = engine.stats(f"{NAME}-postgres", stream=False, one_shot=True)
        server_ns: int = stats["cpu_stats"]["cpu_usage"]["total_usage"]
        return (server_ns + time.process_time_ns()) / 1e6

    engine = docker_client.from_env().api
    for _ in range(6):
        with factory.made() as database:
            runner = database.runner()
            for found in (first, again):
                before, started = used_ms(), time.perf_counter()
                with migrate.session_lock(runner):
                    migrate.upgrade(runner)
                    migrate.finish(runner)
                clock = (time.perf_counter() - started) * 1000
                found.append((used_ms() - before, clock))
    made, nothing = (median(used for used, _ in found[1:]) for found in (first, again))
    slow, quick = (min(clock for _, clock in found[1:]) for found in (first, again))
    return Line(
        "migration from empty, beyond one with nothing to do",
        made - nothing,
        " ms",
        150,
        detail=f"{_against(made, nothing, 'ms')}, on the clock {_against(slow, quick, 'ms')}",
    )


def measure(show: Show, *, full: bool = False) -> tuple[list[Line], list[Plan], Sizes]:
    """Every figure of the database, in one run of two minutes; ``full`` takes ten."""
    sizes = FULL if full else QUICK
    with servers.running(NAME, *SETTINGS) as server:
        with server.connect("postgres", "postgres") as connection:
            cluster.apply_roles(connection, servers.OPT_IN)
        factory = Factory(server, servers.OPT_IN)
        lines = [migration(factory, show)]
        with factory.made() as database:
            migrate.upgrade(database.runner())
            migrate.finish(database.runner())
            process = docker("inspect", "--format={{.State.Pid}}", f"{NAME}-postgres")
            bench = Bench(database, sizes, show, int(process))
            bench.load_users()
            lines += bench.growth()
            lines += bench.row_security()
            lines += bench.signed_context()
            lines += bench.audit_trigger()
            plans = bench.plans()
            lines += bench.retention()
    return lines, plans, sizes


def page(lines: list[Line], plans: list[Plan], sizes: Sizes) -> str:
    """The figures as Markdown."""
    load = os.getloadavg()[1]
    return (
        f"{sizes.users:,} users, {sizes.many:,} rows in the trail; taken in turns. What "
        "the server does is its processor time, what a client sees is on the clock. Load of the "
        f"machine at the end: {load:.1f}.\n\n"
        "| | wanted | measured | | |\n|---|---|---|---|---|\n"
        + "\n".join(line.row() for line in lines)
        + "\n\n| plan | as | reads | |\n|---|---|---|---|\n"
        + "\n".join(plan.row() for plan in plans)
        + "\n"
    )
