"""`pandom db retire` on a stack: exported, dropped, and provable from the bucket."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import psycopg
import pytest

from pandom import objectstore
from pandom.database import retention
from pandom.runtime.naming import MINIO_ROOT_USER
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack

ROWS: Final = 300
Wait = Callable[[Callable[[], bool], str], None]


def count(superuser: psycopg.Connection, query: str) -> int:
    row = superuser.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def make_expired(superuser: psycopg.Connection) -> str:
    """A partition that retention no longer keeps, sealed like all others; its name.

    Each time of an earlier month: a stack that is used again has dropped the others.
    """
    dropped = count(
        superuser,
        "select count(*) from public.security_logs where event_type = 'partition_dropped'",
    )
    month = date(2019 - dropped, 3, 1)
    superuser.execute(
        "insert into public.audit_logs (event_type, timestamp, details) "
        "select 'seen', %s::date + interval '12 hours', jsonb_build_object('text', E'ä\\n' || n) "
        "from generate_series(1, %s) as n",
        (month, ROWS),
    )
    superuser.execute("select public.drain_default('audit_logs')")
    while count(superuser, "select public.seal_trail()"):
        pass
    return f"audit_logs_y{month:%Y}m{month:%m}"


def fetch(stack: RunningStack, place: str, target: Path) -> None:
    """The object that the command named, whichever bucket and user it took."""
    bucket, key = place.removeprefix("s3://").split("/", 1)
    outputs = stack.outputs
    client = objectstore.client(
        objectstore.Endpoint(
            outputs["minio_endpoint"], int(outputs["minio_port"]), Path(outputs["db_sslrootcert"])
        ),
        objectstore.Account(MINIO_ROOT_USER, stack.secrets["minio-root"]),
    )
    client.fget_object(bucket_name=bucket, object_name=key, file_path=str(target))


@pytest.mark.requirement("P5")
def test_killed_between_export_and_drop_and_run_again(
    stack: RunningStack, server: Server, tmp_path: Path, wait_for: Wait
) -> None:
    waiting = "select count(*) from pg_stat_activity where usename = 'pandom_janitor' "
    waiting += "and wait_event_type = 'Lock'"
    with server.connect("postgres") as superuser:
        month = make_expired(superuser)
        there = f"select count(*) from pg_class where relname = '{month}'"
        exports = (
            "select count(*) from public.security_logs where event_type = 'partition_exported' "
            f"and details ->> 'partition' = '{month}'"
        )
        with server.connect("postgres") as reader, reader.transaction():
            # Whoever reads the month stops its drop, and not its export.
            reader.execute(f"select count(*) from public.{month}".encode())
            process = stack.pandom.start("db", "retire", "--stack", stack.name)
            wait_for(lambda: count(superuser, waiting) > 0, "the drop waits")
            process.kill()
            process.communicate(timeout=10)
            # Nobody reads its answer any more, but the statement would still be executed.
            superuser.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where usename = 'pandom_janitor' and wait_event_type = 'Lock'"
            )
        assert count(superuser, exports) == 1
        assert count(superuser, there) == 1
        assert count(superuser, f"select count(*) from public.{month}") == ROWS

        done = stack.pandom("db", "retire", "--stack", stack.name)
        found = re.search(
            rf"^(s3://\S+{month}\S+) (\d+) rows, digest ([0-9a-f]{{64}})$", done.stdout, re.M
        )
        assert found is not None
        assert count(superuser, there) == 0
    export = tmp_path / f"{month}.jsonl"
    fetch(stack, found[1], export)
    assert retention.digest_of(export) == (ROWS, found[3])
    assert int(found[2]) == ROWS

    # The auditor proves the dropped month from the export alone, and sees a changed one.
    audit = ("audit", "--stack", stack.name, "trail", "--archive", str(tmp_path))
    stack.pandom(*audit)
    export.write_text(export.read_text().replace('"seen"', '"other"', 1))
    stack.pandom(*audit, code=2)

    assert "keeps every month" in stack.pandom("db", "retire", "--stack", stack.name).stderr
