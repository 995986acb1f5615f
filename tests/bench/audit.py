"""The audit's figures: the access audit, sealing, verifying, writers beside the sealer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Final

import psycopg

from pandom.audit import trail
from pandom.audit.run import run
from pandom.database import cluster, migrate
from pandom.database.drift import catalog
from pandom.runtime.paths import ROOT
from tests.bench import server as servers
from tests.bench.database import Line, microseconds, process_of, processor_us, quiet
from tests.bench.floor import docker
from tests.fixtures.databases import Database, Factory

Show = Callable[[str], None]

NAME: Final = f"pandom-bench-audit-{os.getpid()}"
SETTINGS: Final = ("shared_buffers=512MB", "max_wal_size=4GB")
ROWS: Final = 200_000
WRITERS: Final = 16
SECONDS: Final = 5
ROUNDS: Final = 5
_EVENTS: Final = """
insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
select
    gen_random_uuid(), 'UPDATE',
    jsonb_build_object('subject', gen_random_uuid(), 'table', 'auth_users', 'changed',
        jsonb_build_object('email', jsonb_build_array('old' || g, 'new' || g))),
    '10.0.0.1', 'Mozilla/5.0'
from generate_series(1, %s) as g
"""
_LARGE: Final = """
do $$
begin
    for number in 1..200 loop
        execute format('create role bench_%s', number);
    end loop;
    for number in 1..5000 loop
        execute format('create table public.bench_%s (id bigint)', number);
        execute format('grant select, insert on public.bench_%s to bench_%s, bench_%s', number,
            1 + number % 200, 1 + (number + 1) % 200);
        if number % 500 = 0 then commit; end if;
    end loop;
end
$$
"""

# The process itself knows: what its parent would be told begins with the parent's own size.
_PEAK: Final = """
from pathlib import Path
from pandom.commands.cli import main
code = main()
if code not in (0, 2):
    raise SystemExit(code)
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


def _audit(database: Database) -> list[float]:
    """Milliseconds of work after connecting, a fresh connection each time."""
    times = []
    for _ in range(20):
        with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
            connection.execute("select 1")
            connection.rollback()
            times.append(microseconds(run, connection, database.opt_in) / 1000)
    return times


def _memory(database: Database) -> float:
    """MiB that `pandom audit` takes at most, in a process of its own."""
    server = database.server
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, "audit", "--format=json", "--output=/dev/null"],
        cwd=ROOT,
        env={
            **os.environ,
            "PANDOM_OPT_IN": ",".join(database.opt_in),
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": "pandom_auditor",
            "PGPASSWORD": server.passwords["pandom_auditor"],
            "PGDATABASE": database.name,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(server.ca),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) / 1024


def _seal(database: Database) -> float:
    """Rows per second of one sealer in batches as the janitor's."""
    with database.connect("pandom_janitor", autocommit=True) as connection:
        started, sealed = time.perf_counter(), 0
        while sealed < ROWS:
            sealed += connection.execute("select public.seal_trail()").fetchall()[0][0]
        return sealed / (time.perf_counter() - started)


def _verify(database: Database) -> float:
    with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
        started = time.perf_counter()
        verdict = trail.verify(connection)
        if verdict.problems or verdict.rows < ROWS:
            raise RuntimeError(f"the benchmark's trail is not intact: {verdict.problems}")
        return verdict.rows / (time.perf_counter() - started)


def _seal_before() -> str:
    """The function as it was before blocks were bounded by bytes (revision 0007)."""
    text = (ROOT / "migrations" / "sql" / "0007" / "down_functions.sql").read_text()
    (found,) = re.findall(
        r"^create or replace function public\.seal_trail\(.*?^\$\$;$", text, re.M | re.S
    )
    return str(found)


def _against_before(database: Database, show: Show) -> Line:
    """Processor time of sealing against the function of before, in turns, small events."""
    process = int(docker("inspect", "--format={{.State.Pid}}", f"{NAME}-postgres"))
    texts = {
        "before": _seal_before(),
        "now": (ROOT / "schema" / "sql" / "functions" / "seal_trail.sql").read_text(),
    }
    used: dict[str, list[float]] = {name: [] for name in texts}
    for number in range(1, 2 * ROUNDS + 1):
        show(f"sealing against the function before byte bounds, {number} of {2 * ROUNDS}")
        # Who comes first changes, so that neither has the warmer start.
        for name in sorted(texts, reverse=bool(number % 2)):
            with database.connect("postgres") as superuser:
                superuser.execute("set local role pandom_trail")
                superuser.execute(texts[name].encode())
                superuser.execute("reset role")
                superuser.execute("truncate public.trail_blocks")
            with database.connect("pandom_janitor", autocommit=True) as connection:
                backend = process_of(connection, process)
                sealed, started = 0, processor_us(backend)
                while sealed < ROWS:
                    sealed += connection.execute("select public.seal_trail()").fetchall()[0][0]
                used[name].append(processor_us(backend) - started)
    return Line(
        "sealing / the same before blocks were bounded by bytes",
        median(now / before for now, before in zip(used["now"], used["before"], strict=True)),
        " ×",
        1.05,
        detail=f"{median(used['now']) / ROWS:.2f} against "
        f"{median(used['before']) / ROWS:.2f} µs a row of the server's processor",
    )


def _chain(database: Database, show: Show) -> list[Line]:
    sealing, verifying = [], []
    for number in range(1, ROUNDS + 1):
        show(f"sealing and verifying {ROWS:,} rows, {number} of {ROUNDS}")
        with psycopg.connect(
            database.server.dsn("postgres", database.name), autocommit=True
        ) as connection:
            connection.execute("truncate public.audit_logs, public.trail_blocks")
            connection.execute(_EVENTS, (ROWS,))
            connection.execute("vacuum analyze public.audit_logs")
        sealing.append(_seal(database))
        verifying.append(_verify(database))
    return [
        Line("sealing", max(sealing) / 1000, " K rows/s", 250, least=True),
        Line("verifying", max(verifying) / 1000, " K rows/s", 300, least=True),
        _against_before(database, show),
    ]


def _writers(database: Database) -> float:
    """Transactions per second of the application's logins, each recording an event."""
    password = database.server.passwords["pandom_app"]
    script = "select public.record_event('probe', '{}');"
    done = subprocess.run(
        [
            *("docker", "exec", "--interactive", "--env", "PGPASSWORD", f"{NAME}-postgres"),
            *("/usr/lib/postgresql/17/bin/pgbench", "--no-vacuum", f"--client={WRITERS}"),
            *(f"--time={SECONDS}", "--jobs=2", "--file=/dev/stdin", "--host=127.0.0.1"),
            *("--username=pandom_app", database.name),
        ],
        input=script,
        env={**os.environ, "PGPASSWORD": password, "PGSSLMODE": "require"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.rpartition("tps = ")[2].split()[0])


def _beside(database: Database, show: Show) -> Line:
    """Writers alone and beside a sealer four times a second, in turns."""
    alone, beside = [], []
    for number in range(1, ROUNDS + 1):
        show(f"{WRITERS} writers with and without the sealer, {number} of {ROUNDS}")
        alone.append(_writers(database))
        stop = threading.Event()

        def seal(stop: threading.Event = stop) -> None:
            with database.connect("pandom_janitor", autocommit=True) as connection:
                while not stop.wait(0.25):
                    connection.execute("select public.seal_trail()")

        sealer = threading.Thread(target=seal)
        sealer.start()
        beside.append(_writers(database))
        stop.set()
        sealer.join()
    return Line(
        f"{WRITERS} writers beside the sealer / alone, synchronous commit",
        median(two / one for one, two in zip(alone, beside, strict=True)),
        " ×",
        0.95,
        least=True,
        detail=f"{median(beside):,.0f} against {median(alone):,.0f} transactions/s",
    )


def measure(show: Show) -> list[Line]:
    """Every figure of the audit, in one run of some minutes."""
    with servers.running(NAME, *SETTINGS) as server:
        with server.connect("postgres", "postgres") as connection:
            cluster.apply_roles(connection, servers.OPT_IN)
            cluster.close_other_databases(connection)
        with Factory(server, servers.OPT_IN).made() as database:
            migrate.upgrade(database.runner())
            migrate.finish(database.runner())
            with database.owner() as connection:
                # What is measured is writing, not the refusal of too many writers.
                connection.execute(
                    "update public.account_settings set events_per_address = 0, "
                    "events_per_second = 0"
                )
            show("access audit of the shipped schema")
            lines = [
                Line("access audit after connecting", quiet(_audit(database)), " ms", 30),
                *_chain(database, show),
                _beside(database, show),
            ]
            small = _memory(database)
            show("access audit with 5,000 tables and 200 roles")
            with server.connect("postgres", database.name) as connection:
                connection.execute(_LARGE)
            many = "the same with 5,000 tables and 200 roles"
            large = _memory(database)
            lines += [
                Line(many, quiet(_audit(database)) / 1000, " s", 1),
                Line(
                    "peak memory of `pandom audit`, as JSON",
                    small,
                    " MiB",
                    None,
                    detail=f"{large:.0f} MiB with 5,000 tables and 200 roles",
                ),
            ]
    return lines


def page(lines: list[Line]) -> str:
    """The figures as Markdown."""
    load = os.getloadavg()[1]
    return (
        f"The best of several rounds. Load of the machine at the end: {load:.1f}.\n\n"
        "| | wanted | measured | | |\n|---|---|---|---|---|\n"
        + "\n".join(line.row() for line in lines)
        + "\n"
    )
