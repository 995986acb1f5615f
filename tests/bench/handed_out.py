"""A database for each test: how long until a test has it, and until it has given it back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

import psycopg

import pandom.ci
from pandom.ci import records
from pandom.ci.client import Service
from pandom.ci.databases import Databases
from pandom.ci.serve import Server, open_service
from tests.bench.database import Line

Show = Callable[[str], None]
TIMES: Final = 60
PAUSE_S: Final = 0.08  # a test's own work, in which the pool is filled
MANY: Final = 2000
WORKERS: Final = 8


@contextmanager
def served(name: str, pool: int) -> Iterator[tuple[Databases, Service]]:
    """A server in this process, and a client of it."""
    home = os.environ.get("XDG_STATE_HOME")
    record = records.find(name)
    record.enter()
    try:
        server = Server(open_service(record, pool))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.service.databases, Service(*server.contract.values())
        server.shutdown()
        server.server_close()
        server.service.close()
    finally:
        os.environ.pop("XDG_STATE_HOME")
        if home:
            os.environ["XDG_STATE_HOME"] = home


def ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def rounds(client: Service) -> tuple[float, float, float]:
    """Medians of taking, of connecting, and of giving back, in milliseconds."""
    taken, connected, given = [], [], []
    for _ in range(TIMES):
        handed = client.database()
        started = time.perf_counter()
        database = handed.__enter__()
        taken.append((time.perf_counter() - started) * 1000)

        def connect(url: str = database.dsn()) -> None:
            with psycopg.connect(url) as connection:
                connection.execute("select 1")

        connected.append(ms(connect))
        started = time.perf_counter()
        handed.__exit__(None, None, None)
        given.append((time.perf_counter() - started) * 1000)
        time.sleep(PAUSE_S)
    return median(taken), median(connected), median(given)


def _starving(client: Service) -> float:
    """Milliseconds that the slowest of many tests of some workers waited for its database."""
    waits: list[float] = []

    def work() -> None:
        for _ in range(MANY // WORKERS // 10):
            handed = client.database()
            waits.append(ms(handed.__enter__))
            time.sleep(PAUSE_S * WORKERS)
            handed.__exit__(None, None, None)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return max(waits)


def measure(show: Show) -> list[Line]:
    """Every figure; some minutes."""
    with pandom.ci.environment() as env:
        show("made for whoever asks")
        with served(env.id, 1) as (databases, _):
            made = median(ms(databases._made) for _ in range(TIMES))
        with served(env.id, 8) as (databases, client):
            time.sleep(2)
            show("from the pool")
            taken, connected, given = rounds(client)
            slowest = _starving(client)
            show(f"{MANY:,} clones")
            for _ in range(MANY):
                with client.database():
                    pass
            later = median(ms(databases._made) for _ in range(TIMES))
    return [
        Line("made for one that asks", made, " ms", 20),
        Line(f"the same after {MANY:,} databases", later, " ms", 20),
        Line("taken from the pool, over HTTP", taken, " ms", 3),
        Line("given back, over HTTP", given, " ms", 8),
        Line("first connection and query of a login", connected, " ms", None),
        Line(f"the longest wait of {WORKERS} workers", slowest, " ms", None),
    ]


def page(lines: list[Line]) -> str:
    """The figures as Markdown."""
    rows = "\n".join(line.row() for line in lines)
    return (
        f"Medians of {TIMES}. Load of the machine at the end: {os.getloadavg()[0]:.1f}.\n\n"
        f"| | wanted | measured | | |\n|---|---|---|---|---|\n{rows}\n"
    )
