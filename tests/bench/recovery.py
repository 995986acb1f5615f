"""How long backups and restores take, what archiving costs, and what the loss of a host costs."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import docker

from pandom.config.backup import ARCHIVE_TIMEOUT_S
from pandom.host.stack import Stack
from tests.bench.database import Line
from tests.fixtures.lost_host import Writer, lose, noted
from tests.fixtures.other_store import OtherStore
from tests.fixtures.server import server_of
from tests.fixtures.stack import Pandom, RunningStack, remove, running

Show = Callable[[str], None]

SMALL: Final = 112 << 20
LARGE: Final = 1 << 30
ROUNDS: Final = 3
SECONDS: Final = 20
CLIENTS: Final = 4
PUSH_S: Final = 5  # for the segment that is on its way
_EVENTS: Final = """
insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
select
    gen_random_uuid(), 'UPDATE',
    jsonb_build_object('subject', gen_random_uuid(), 'table', 'auth_users', 'changed',
        jsonb_build_object('email', jsonb_build_array('old' || g, 'new' || g))),
    '10.0.0.1', 'Mozilla/5.0'
from generate_series(1, %s) as g
"""
_SIZE: Final = "select sum(pg_database_size(oid))::bigint from pg_database"
_BEHIND: Final = """
select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') / 16777216
    - ('x' || substr(last_archived_wal, 9, 8))::bit(32)::bigint * 256
    - ('x' || substr(last_archived_wal, 17, 8))::bit(32)::bigint - 1
from pg_stat_archiver
"""


def _pandom(stack: RunningStack, *arguments: str) -> float:
    """Seconds of one command."""
    started = time.monotonic()
    stack.pandom(*arguments, "--stack", stack.name)
    return time.monotonic() - started


def _fill(stack: RunningStack, size: int) -> None:
    """Write events until the databases have ``size`` bytes."""
    with server_of(stack).connect("postgres") as connection:
        while connection.execute(_SIZE).fetchall()[0][0] < size:
            connection.execute(_EVENTS, (min(200_000, size // 4000),))
        connection.execute("checkpoint")


def _in_server(stack: RunningStack, command: str) -> str:
    server = docker.from_env().containers.get(stack.container("postgres"))
    code, said = server.exec_run(
        [
            *("sh", "-c"),
            "export PGPASSWORD=$(cat /run/pandom/keys/superuser_password) PGHOST=127.0.0.1 "
            f"PGUSER=postgres PGSSLMODE=require PGDATABASE=bench; {command}",
        ]
    )
    assert code == 0, said.decode()
    return str(said.decode())


@contextmanager
def _pgbench(stack: RunningStack) -> Iterator[None]:
    with server_of(stack).connect("postgres") as connection:
        connection.execute("create database bench")
        _in_server(stack, "pgbench --initialize --quiet --scale=20")
        yield
        connection.execute("drop database bench with (force)")


def _throughput(stack: RunningStack, behind: list[float]) -> float:
    """Transactions per second of pgbench; how many segments the archive was behind, each second."""
    with server_of(stack).connect("postgres") as connection:
        connection.execute("checkpoint")
    with _sampling(stack, behind):
        said = _in_server(stack, f"pgbench -c {CLIENTS} -j 2 -T {SECONDS}")
    return float(re.findall(r"tps = ([\d.]+)", said)[0])


@contextmanager
def _sampling(stack: RunningStack, behind: list[float]) -> Iterator[None]:
    over = threading.Event()

    def sample() -> None:
        with server_of(stack).connect("postgres") as connection:
            while not over.wait(1):
                found = connection.execute(_BEHIND.encode()).fetchall()
                behind.extend(float(row[0]) for row in found if row[0] is not None)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(10)


@contextmanager
def _backed(store: OtherStore) -> Iterator[RunningStack]:
    with running() as made:
        store.take_backups_of(made.name)
        made.pandom("up", "--stack", made.name)
        made.look_again()
        yield made


def _between() -> str:
    time.sleep(1.1)
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"


def _restored(stack: RunningStack, *arguments: str) -> float:
    seconds = _pandom(stack, "restore", *arguments)
    _pandom(stack, "restore", "--discard")
    return seconds


def _sizes(stack: RunningStack, show: Show) -> list[Line]:
    show("112 MB")
    _fill(stack, SMALL)
    _pandom(stack, "backup", "--type", "full")
    small = _restored(stack)
    show("1 GB")
    _fill(stack, LARGE)
    full = _pandom(stack, "backup", "--type", "full")
    _fill(stack, LARGE + (10 << 20))
    incremental = _pandom(stack, "backup", "--type", "incr")
    verify = _pandom(stack, "backup", "--verify")
    moment = _between()
    _fill(stack, LARGE + (20 << 20))
    to_moment = _restored(stack, "--to", moment)
    return [
        Line("restore to verified, 112 MB", small, " s", 15),
        Line("full backup, 1 GB", full, " s", None),
        Line("incremental backup, 10 MB of it new", incremental, " s", None),
        Line("reading back and verifying everything, 1 GB", verify, " s", None),
        Line("restore of 1 GB to a moment, verified", to_moment, " s", None),
    ]


def _cost(stack: RunningStack, plain: RunningStack, show: Show) -> list[Line]:
    """pgbench in turns on a stack that archives and on one that does not."""
    behind: list[float] = []
    rates: dict[str, list[float]] = {stack.name: [], plain.name: []}
    with _pgbench(stack), _pgbench(plain):
        for number in range(ROUNDS):
            show(f"pgbench, round {number + 1} of {ROUNDS}")
            for one in (plain, stack):
                rates[one.name].append(_throughput(one, behind if one is stack else []))
    with_archive, without = median(rates[stack.name]), median(rates[plain.name])
    detail = f"{without:,.0f} against {with_archive:,.0f} transactions/s, {CLIENTS} clients"
    segments = " segments of 16 MB"
    return [
        Line(
            "pgbench without archiving / with it", without / with_archive, " ×", 1.1, False, detail
        ),
        Line("the archive behind the server, at most", max(behind), segments, None),
    ]


def _loss(stack: RunningStack, folder: Path, show: Show) -> list[Line]:
    """The host is lost under load: how long until an audited stack is there, and what it lacks."""
    show("the host is lost")
    word, kit = folder / "word", folder / "kit.age"
    word.write_text("the passphrase of a kit in a bench\n")
    stack.pandom("recovery-kit", str(kit), "--stack", stack.name, "--passphrase-file", str(word))
    with Writer(server_of(stack)).writing() as writer:
        time.sleep(ARCHIVE_TIMEOUT_S * 1.5)
        at = datetime.now(UTC)
        lose(stack.name)
    Stack(stack.name).file.unlink()
    home = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    command = Pandom(stack.pandom.root, {"CONFIRM": stack.name})
    new = RunningStack(stack.name, replace(stack.pandom, variables=command.variables))
    try:
        started = time.monotonic()
        new.pandom("recover", str(kit), "--passphrase-file", str(word))
        new.pandom("up", "--stack", new.name, code=1)
        _pandom(new, "restore")
        _pandom(new, "restore", "--switch")
        _pandom(new, "audit", "--store", "--host")
        took = time.monotonic() - started
        rows, seconds = writer.lost(noted(new), at)
    finally:
        remove(new.name, new.pandom)
        os.environ.pop("XDG_STATE_HOME")
        if home:
            os.environ["XDG_STATE_HOME"] = home
    detail = f"{rows} of {len(writer.acknowledged)} rows, a commit every 50 ms; none before those"
    return [
        Line("from a new host to an audited stack, 1 GB", took, " s", None),
        Line(
            "acknowledged before the loss and not archived",
            seconds,
            " s",
            ARCHIVE_TIMEOUT_S + PUSH_S,
            detail=detail,
        ),
    ]


def measure(show: Show) -> list[Line]:
    """Every figure; some fifteen minutes."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as held:
        store = held.enter_context(OtherStore(Path(place) / "store", locked=False))
        stack = held.enter_context(_backed(store))
        plain = held.enter_context(running())
        lines = _cost(stack, plain, show)
        lines += _sizes(stack, show)
        return lines + _loss(stack, Path(place), show)


def page(lines: list[Line]) -> str:
    """The figures as Markdown."""
    rows = "\n".join(line.row() for line in lines)
    return (
        "To a store elsewhere on the same machine, over TLS, encrypted. Load of the machine at the "
        f"end: {os.getloadavg()[0]:.1f}.\n\n| | wanted | measured | | |\n|---|---|---|---|---|\n"
        f"{rows}\n"
    )
