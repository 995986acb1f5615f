"""A suite on pytest-postgresql, which tests/bench/others.py runs in a container; prints JSON."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from pytest_postgresql import factories

TIMES: Final = int(os.environ["TIMES"])

# It starts the server without fsync by itself.
server = factories.postgresql_proc(
    executable="/usr/lib/postgresql/17/bin/pg_ctl",
    unixsocketdir="/tmp",  # noqa: S108 - in a container
    postgres_options="-c full_page_writes=off -c synchronous_commit=off",
    load=[Path("/bench/same.sql")],
)
database = factories.postgresql("server")


def test_ready(server: Any) -> None:
    assert server.running()


@pytest.mark.parametrize("number", range(TIMES))
def test_fresh(database: psycopg.Connection, number: int) -> None:
    row = database.execute("select count(*) from public.auth_users").fetchone()
    assert row == (1,), number


class Durations:
    """What pytest says of each test, in seconds."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if "test_fresh" in report.nodeid:
            self.found[report.when].append(report.duration)
        elif report.when == "setup":
            self.found["ready"].append(report.duration)


if __name__ == "__main__":
    durations = Durations()
    code = pytest.main([__file__, "-q", "-p", "no:cacheprovider"], plugins=[durations])
    if code:
        raise SystemExit(code)
    # The last one's end is the server's, too.
    durations.found["teardown"].pop()
    print(json.dumps(durations.found))
