"""The source's queries at size: by index, as user and as administrator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.fixtures.databases import ALICE, ROOT, Database, Factory, set_user

USERS = 200_000
EVENTS = 60_000


@pytest.fixture(scope="module")
def large(factory: Factory, template: Database) -> Iterator[Database]:
    """200 K users; the triggers are off while they are made, or they would make as many events."""
    with factory.made(template.name) as database:
        with database.owner() as connection:
            for table in ("auth_users", "user_profiles"):
                connection.execute(f"alter table public.{table} disable trigger user".encode())
            connection.execute(
                """
                insert into public.user_profiles (uuid, tags, metadata)
                select lpad(to_hex(n), 32, '0')::uuid, array['t' || n %% 5000],
                    jsonb_build_object('team', n %% 7000)
                from generate_series(1, %s) as n
                """,
                (USERS,),
            )
            connection.execute(
                """
                insert into public.auth_users (uuid, email, password_hash, profile_uuid)
                select lpad(to_hex(n), 32, '0')::uuid, 'User' || n || '@example.org',
                    '$2a$04$' || repeat('a', 53), lpad(to_hex(n), 32, '0')::uuid
                from generate_series(1, %s) as n
                """,
                (USERS,),
            )
            for table in ("auth_users", "user_profiles"):
                connection.execute(f"alter table public.{table} enable trigger user".encode())
        with database.owner("pandom_trail") as connection:
            connection.execute("select public.ensure_partitions(now() - interval '3 months')")
            connection.execute(
                """
                insert into public.audit_logs (user_uuid, event_type, timestamp)
                select lpad(to_hex(1 + n %% 20), 32, '0')::uuid,
                    case when n %% 50 = 0 then 'login_failed' else 'seen' end,
                    now() - (n %% 85) * interval '1 day'
                from generate_series(1, %s) as n
                """,
                (EVENTS,),
            )
            connection.execute("analyze public.audit_logs")
        # Also empties the GIN indexes' lists of pending entries, which every search would read.
        with database.connect("pandom_user", autocommit=True) as connection:
            connection.execute("vacuum (analyze) public.auth_users, public.user_profiles")
        yield database


def _plan(connection: psycopg.Connection, query: str, *parameters: Any) -> dict[str, Any]:
    row = connection.execute(f"explain (analyze, format json) {query}".encode(), parameters)
    found: dict[str, Any] = row.fetchall()[0][0][0]["Plan"]
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _indexes(plan: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in _nodes(plan) if "Index Name" in node}


def _full_scans(plan: dict[str, Any]) -> set[str]:
    """Tables read from end to end, empty ones excepted."""
    return {
        node["Relation Name"]
        for node in _nodes(plan)
        if node["Node Type"] == "Seq Scan"
        and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > 10
    }


LOGIN = """
select u.uuid, p.tags, p.metadata from public.auth_users as u
left join public.user_profiles as p on u.profile_uuid = p.uuid
where lower(u.email) = lower(%s) and u.is_active
"""


@pytest.mark.requirement("I2", "I1")
@pytest.mark.parametrize("role", ["pandom_definer", "pandom_user"])
def test_the_login_lookup_uses_its_index(large: Database, role: str) -> None:
    login = "pandom_user" if role == "pandom_user" else "pandom_migrator"
    with large.connect(login) as connection:
        connection.execute(f"set role {role}".encode())
        plan = _plan(connection, LOGIN, "USER777@example.org")
    assert _indexes(plan) == {"idx_auth_users_email", "pk_user_profiles"}
    assert plan["Actual Rows"] == 1
    assert _full_scans(plan) == set()


@pytest.mark.requirement("I2", "P2")
def test_a_users_own_lookups_use_primary_keys(large: Database) -> None:
    with large.user(ALICE) as connection:
        for table, index in (
            ("auth_users", "pk_auth_users"),
            ("user_profiles", "pk_user_profiles"),
            ("sessions", "idx_sessions_user_expires"),
        ):
            connection.execute("set local enable_seqscan = off" if table == "sessions" else "")
            plan = _plan(connection, f"select count(*) from public.{table}")
            assert index in _indexes(plan), json.dumps(plan)
            assert _full_scans(plan) == set()


NEWEST = "select id from public.audit_logs where user_uuid = %s order by timestamp desc limit 100"


@pytest.mark.requirement("I3")
@pytest.mark.parametrize("who", ["pandom_app", "pandom_admin", "pandom_auditor"])
def test_the_newest_events_of_a_user_come_by_index(large: Database, who: str) -> None:
    user = large.one("select lpad('7', 32, '0')::uuid")
    login = "pandom_auditor" if who == "pandom_auditor" else "pandom_app"
    with large.connect(login) as connection:
        if who == "pandom_admin":
            set_user(connection, ROOT.uuid)
            connection.execute("set local role pandom_admin")
        elif who == "pandom_app":
            set_user(connection, user)
        plan = _plan(connection, NEWEST, user)
    assert plan["Actual Rows"] == 100
    assert _full_scans(plan) == set()
    used = {name for name in _indexes(plan) if "user_uuid" in name}
    assert len(used) >= 3, _indexes(plan)
    # The newest partition alone feeds the limit; nothing is sorted.
    assert not [node for node in _nodes(plan) if node["Node Type"] == "Sort"]


@pytest.mark.requirement("I4")
def test_the_tag_search_of_the_source_cannot_use_the_index_ours_does(large: Database) -> None:
    ours = """
    select u.uuid from public.auth_users as u
    inner join public.user_profiles as p on u.profile_uuid = p.uuid where p.tags @> array['t777']
    """
    source = ours.replace("p.tags @> array['t777']", "'t777' = any(p.tags)")
    with large.connect("pandom_migrator") as connection:
        # What the administrator's functions see: the definer's policy is `true`.
        connection.execute("set role pandom_definer")
        plan = _plan(connection, ours)
        assert {"idx_user_profiles_tags", "uq_auth_users_profile_uuid"} <= _indexes(plan)
        assert _full_scans(plan) == set()
        assert "user_profiles" in _full_scans(_plan(connection, source))
        plan = _plan(
            connection,
            """select uuid from public.user_profiles where metadata @> '{"team": 777}'""",
        )
        assert _indexes(plan) == {"idx_user_profiles_metadata"}
    with large.user(ROOT) as connection:
        # Under a policy that is not `true` the operator is not leakproof: no index.
        connection.execute("set local role pandom_admin")
        assert "user_profiles" in _full_scans(_plan(connection, ours))


@pytest.mark.requirement("I4")
def test_the_administrators_search_reads_few_pages(large: Database) -> None:
    with large.user(ROOT) as connection:
        connection.execute("set local role pandom_admin")
        for call in (
            "public.admin_find_by_tag('t777')",
            "public.admin_find_by_metadata('{\"team\": 777}')",
            "public.admin_find_by_email('user777@example.org')",
        ):
            row = connection.execute(
                f"explain (analyze, buffers, format json) select * from {call}".encode()
            ).fetchone()
            assert row is not None
            plan = row[0][0]["Plan"]
            # A scan of the profiles alone would be some 3,000 pages; the plan inside is by index.
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1500, call
            assert plan["Actual Rows"] >= 1


@pytest.mark.requirement("O1", "O2")
@pytest.mark.parametrize(
    ("view", "index"),
    [("failed_logins_last_hour", "event_type"), ("suspicious_activity", "timestamp")],
)
def test_the_monitoring_views_use_an_index(large: Database, view: str, index: str) -> None:
    with large.connect("pandom_auditor") as connection:
        plan = _plan(connection, f"select * from public.{view}")
    assert any(index in name for name in _indexes(plan)), _indexes(plan)
    assert _full_scans(plan) <= {"account_settings"}


@pytest.mark.requirement("I1")
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("select uuid from public.auth_users where role = 'admin'", "idx_auth_users_role"),
        (
            "select uuid from public.auth_users where is_active order by created_at desc limit 20",
            "idx_auth_users_active",
        ),
        (
            "select uuid from public.auth_users where verification_token = repeat('a', 64)",
            "idx_auth_users_verification",
        ),
        (
            "select uuid from public.auth_users where reset_token = repeat('a', 64)",
            "idx_auth_users_reset",
        ),
        (
            "select uuid from public.auth_users where refresh_token = repeat('a', 64)",
            "idx_auth_users_refresh",
        ),
    ],
)
def test_partial_indexes_earn_their_keep(large: Database, query: str, index: str) -> None:
    with large.connect("pandom_user") as connection:
        assert index in _indexes(_plan(connection, query))
