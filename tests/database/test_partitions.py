"""Months of the trail: made ahead, drained, exported, dropped."""

from __future__ import annotations

import hashlib
from typing import Any, LiteralString

import psycopg
import psycopg.errors
import pytest

from pandom.database import janitor
from tests.fixtures.databases import ALICE, Database


def _janitor(database: Database, query: LiteralString, *parameters: Any) -> list[Any]:
    return [row[0] for row in database.rows(query, *parameters, role="pandom_janitor")]


def _write(database: Database, moment: str, rows: int = 1, log: str = "audit_logs") -> None:
    with database.owner("pandom_trail") as connection:
        connection.execute(
            f"insert into public.{log} (user_uuid, event_type, timestamp) "
            "select %s, 'seen', %s::timestamptz from generate_series(1, %s)".encode(),
            (ALICE.uuid, moment, rows),
        )


def _partition_of(database: Database, moment: str) -> list[Any]:
    return [
        row[0]
        for row in database.rows(
            "select distinct tableoid::regclass::text from public.audit_logs "
            "where timestamp = %s::timestamptz",
            moment,
        )
    ]


@pytest.mark.requirement("T3", "T5")
def test_this_month_and_three_more_exist(shared: Database) -> None:
    for log in ("audit_logs", "security_logs"):
        assert (
            shared.one(
                "select count(*) from generate_series(0, 3) as n where to_regclass("
                "'public.' || %s || to_char(date_trunc('month', now(), 'UTC') at time zone 'UTC' "
                '+ make_interval(months => n), \'"_y"YYYY"m"MM\')) is not null',
                log,
            )
            == 4
        )


@pytest.mark.requirement("T3")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/St_Johns", "Pacific/Kiritimati"])
def test_bounds_are_months_of_utc_in_every_time_zone(database: Database, zone: str) -> None:
    with database.connect("pandom_janitor") as connection:
        connection.execute("select set_config('timezone', %s, true)", (zone,))
        made = connection.execute(
            "select public.ensure_partitions('2028-01-31 23:30:00+00')"
        ).fetchall()
    assert [name for (name,) in made if name.startswith("audit")] == [
        "audit_logs_y2028m01",
        "audit_logs_y2028m02",
        "audit_logs_y2028m03",
        "audit_logs_y2028m04",
    ]
    for moment, name in (
        ("2028-02-01 00:00:00+00", "audit_logs_y2028m02"),
        ("2028-02-29 23:59:59.999999+00", "audit_logs_y2028m02"),
        ("2028-03-01 00:00:00+00", "audit_logs_y2028m03"),
    ):
        _write(database, moment)
        assert _partition_of(database, moment) == [name]
    assert _janitor(database, "select public.ensure_partitions('2028-01-01 00:00+00')") == []


@pytest.mark.requirement("T3", "P2")
def test_a_new_partition_is_protected(database: Database) -> None:
    _janitor(database, "select public.ensure_partitions('2031-05-05')")
    row = database.rows(
        "select relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner), relacl::text, "
        "obj_description(oid, 'pg_class') is not null, "
        "(select array_agg(polname::text) from pg_policy where polrelid = c.oid), "
        "(select count(*) from pg_index where indrelid = c.oid) "
        "from pg_class as c where relname = 'audit_logs_y2031m05'"
    )[0]
    indexes = database.one(
        "select count(*) from pg_index where indrelid = 'public.audit_logs'::regclass"
    )
    assert row == (
        True,
        True,
        "pandom_trail",
        "{pandom_trail=arwdDxtm/pandom_trail,pandom_user=r/pandom_trail}",
        True,
        ["trail_maintenance"],
        indexes,
    )


@pytest.mark.requirement("T3")
def test_the_default_partition_catches_and_is_drained(database: Database) -> None:
    _write(database, "2019-03-15 12:00+00", rows=3)
    _write(database, "2033-02-28 23:00-05", rows=2)
    assert database.one("select count(*) from public.audit_logs_default") == 5
    # A month whose rows are in the default partition cannot be made before they are moved.
    assert "audit_logs_y2033m03" not in _janitor(
        database, "select public.ensure_partitions('2033-03-01')"
    )
    numbers = database.rows("select id from public.audit_logs order by id")
    assert _janitor(database, "select public.drain_default('audit_logs')") == [5]
    assert database.one("select count(*) from public.audit_logs_default") == 0
    assert _partition_of(database, "2019-03-15 12:00+00") == ["audit_logs_y2019m03"]
    assert _partition_of(database, "2033-02-28 23:00-05") == ["audit_logs_y2033m03"]
    assert database.rows("select id from public.audit_logs order by id") == numbers
    assert _janitor(database, "select public.drain_default('audit_logs')") == [0]


@pytest.mark.requirement("T3")
def test_a_clock_set_back_loses_nothing(database: Database) -> None:
    # Rows of a month whose partition is gone go to the default one, then to a new one.
    _write(database, "2019-03-15 12:00+00")
    _janitor(database, "select public.drain_default('audit_logs')")
    count, digest = _digest(database, "audit_logs_y2019m03")
    _drop(database, "audit_logs_y2019m03", count, digest)
    _write(database, "2019-03-20 12:00+00")
    assert _partition_of(database, "2019-03-20 12:00+00") == ["audit_logs_default"]
    password = database.server.passwords[janitor.ROLE]
    done = janitor.work(database.target, password, janitor.partitions)
    assert "1 rows moved out of audit_logs_default" in done
    assert _partition_of(database, "2019-03-20 12:00+00") == ["audit_logs_y2019m03"]


def _digest(database: Database, name: str) -> tuple[int, str]:
    row = database.rows(
        "select row_count, sha256 from public.partition_digest(%s)", name, role="pandom_janitor"
    )[0]
    return int(row[0]), str(row[1])


def _drop(database: Database, name: str, count: int, digest: str) -> None:
    with database.connect("pandom_janitor") as connection:
        connection.execute("select public.drop_partition(%s, %s, %s)", (name, count, digest))


@pytest.mark.requirement("P5")
def test_only_an_expired_partition_that_was_exported_is_dropped(database: Database) -> None:
    _write(database, "2019-03-15 12:00+00", rows=4)
    _janitor(database, "select public.drain_default('audit_logs')")
    name = "audit_logs_y2019m03"
    assert _janitor(database, "select public.expired_partitions()") == [name]
    lines = _janitor(database, "select public.read_partition(%s)", name)
    count, digest = _digest(database, name)
    # Anybody with the export can recompute it.
    again = hashlib.sha256(
        b"".join(hashlib.sha256(line.encode()).digest() for line in lines)
    ).hexdigest()
    assert (count, digest) == (4, again)
    for wrong in ((3, digest), (4, "0" * 64), (4, None), (None, digest)):
        with pytest.raises(psycopg.errors.DataException, match="not what was exported"):
            _drop(database, name, *wrong)
    _drop(database, name, count, digest)
    assert database.one("select to_regclass('public.audit_logs_y2019m03') is null")
    assert (
        database.one(
            "select details->>'sha256' from public.security_logs "
            "where event_type = 'partition_dropped'"
        )
        == digest
    )


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("audit_logs_default", "no partition"),
        ("auth_users", "no partition"),
        ("audit_logs", "no partition"),
        ("x; drop table y", "no partition"),
        ("this month", "within its retention"),
    ],
)
def test_other_tables_and_kept_months_are_not_dropped(
    shared: Database, name: str, message: str
) -> None:
    if name == "this month":
        name = shared.one("select to_char(now() at time zone 'UTC', '\"audit_logs_y\"YYYY\"m\"MM')")
    with pytest.raises(psycopg.DatabaseError, match=message):
        _drop(shared, name, 0, hashlib.sha256(b"").hexdigest())


@pytest.mark.requirement("P5")
def test_the_export_is_the_same_in_every_session(database: Database) -> None:
    _write(database, "2019-03-15 12:00+00")
    _janitor(database, "select public.drain_default('audit_logs')")
    texts = set()
    for zone, style in (("Asia/Tokyo", "SQL, DMY"), ("UTC", "ISO, MDY")):
        with database.connect("pandom_janitor") as connection:
            connection.execute("select set_config('timezone', %s, true)", (zone,))
            connection.execute("select set_config('datestyle', %s, true)", (style,))
            row = connection.execute(
                "select public.read_partition('audit_logs_y2019m03'), sha256 "
                "from public.partition_digest('audit_logs_y2019m03')"
            ).fetchone()
            texts.add(row)
    assert len(texts) == 1


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("as_of", "expired"),
    [("2020-03-31 23:59+00", False), ("2020-04-01 00:00+00", True), ("2020-04-01 08:00+09", False)],
)
def test_retention_counts_whole_months(database: Database, as_of: str, expired: bool) -> None:
    _write(database, "2019-03-15 12:00+00")
    _janitor(database, "select public.drain_default('audit_logs')")
    found = _janitor(database, "select public.expired_partitions(%s::timestamptz)", as_of)
    assert found == (["audit_logs_y2019m03"] if expired else [])
