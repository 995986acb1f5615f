"""What enters the trail, and what never does."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import psycopg.errors
import pytest

from tests.fixtures.databases import ALICE, BOB, PASSWORD, Database, set_user
from tests.fixtures.events import EVENT_TYPES


def _last(database: Database, table: str = "audit_logs") -> tuple[Any, ...]:
    return database.rows(
        f"select user_uuid, event_type, details, severity, host(ip_address), user_agent "
        f"from public.{table} order by id desc limit 1"
    )[0]


@pytest.mark.requirement("P4", "T3")
def test_an_update_records_changed_columns_actor_and_client(database: Database) -> None:
    with database.connect() as connection:
        set_user(connection, ALICE.uuid)
        connection.execute("select set_config('app.client_ip', '192.0.2.1', true)")
        connection.execute("select set_config('app.user_agent', 'tests', true)")
        connection.execute("update public.user_profiles set tags = '{new}'")
    actor, event, details, severity, address, agent = _last(database)
    assert (actor, event, severity, address, agent) == (
        ALICE.uuid,
        "UPDATE",
        "info",
        "192.0.2.1",
        "tests",
    )
    assert details == {
        "table": "user_profiles",
        "session_user": "pandom_app",
        "subject": str(ALICE.profile),
        "changed": {"tags": [["developer", "alice"], ["new"]]},
    }


@pytest.mark.requirement("P4")
def test_insert_update_delete_of_every_account_table(database: Database) -> None:
    before = database.one("select max(id) from public.audit_logs")
    with database.connect("pandom_user") as connection:
        connection.execute(
            """
            with p as (insert into public.user_profiles default values returning uuid)
            insert into public.auth_users (email, password_hash, profile_uuid)
            select 'c@d.ef', '$2a$04$' || repeat('a', 53), uuid from p;
            insert into public.sessions (user_uuid, token, expires_at)
            select uuid, repeat('a', 64), now() + interval '1 h' from public.auth_users
            where email = 'c@d.ef';
            update public.auth_users set email = 'g@d.ef' where email = 'c@d.ef';
            update public.sessions set token = repeat('b', 64) where token = repeat('a', 64);
            update public.user_profiles as p set metadata = '{"x": null}'
            from public.auth_users as u
            where u.profile_uuid = p.uuid and u.email = 'g@d.ef';
            delete from public.auth_users where email = 'g@d.ef';
            """
        )
    rows = database.rows(
        "select event_type, details->>'table', details from public.audit_logs where id > %s "
        "order by id",
        before,
    )
    assert sorted((event, table) for event, table, _ in rows) == sorted(
        (event, table)
        for event in ("INSERT", "UPDATE", "DELETE")
        for table in ("auth_users", "user_profiles", "sessions")
    )
    changed = {(event, table): details for event, table, details in rows}
    assert changed["UPDATE", "auth_users"]["changed"] == {"email": ["c@d.ef", "g@d.ef"]}
    assert changed["UPDATE", "sessions"]["changed"] == {"token": "redacted"}
    assert changed["UPDATE", "user_profiles"]["changed"] == {"metadata": [{}, {"x": None}]}
    assert {details["session_user"] for _, _, details in rows} == {"pandom_user"}


@pytest.mark.requirement("P4")
def test_a_thousand_rows_make_a_thousand_events(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(
            "insert into public.user_profiles (tags) select '{bulk}' from generate_series(1, 1000)"
        )
        connection.execute("update public.user_profiles set tags = '{x}' where tags = '{bulk}'")
        connection.execute("delete from public.user_profiles where tags = '{x}'")
    for event in ("INSERT", "UPDATE", "DELETE"):
        assert (
            database.one(
                "select count(*) from public.audit_logs where event_type = %s "
                "and details->>'session_user' = 'pandom_user'",
                event,
            )
            == 1000
        )


@pytest.mark.requirement("P4")
def test_a_changed_key_does_not_hide_a_row(database: Database) -> None:
    fresh = "00000000-0000-4000-8000-00000000abcd"
    with database.connect("pandom_user") as connection:
        old = connection.execute(
            "insert into public.user_profiles (tags) values ('{x}') returning uuid"
        ).fetchall()[0][0]
        connection.execute(
            "update public.user_profiles set uuid = %s where uuid = %s", (fresh, old)
        )
    events = database.rows(
        "select details from public.audit_logs where event_type = 'UPDATE' order by id desc limit 2"
    )
    changed = {details["subject"]: details["changed"] for (details,) in events}
    assert changed[str(old)]["uuid"] == [str(old), None]
    assert changed[fresh]["uuid"] == [None, fresh]
    assert changed[fresh]["tags"] == [None, ["x"]]


@pytest.mark.requirement("P4")
def test_a_big_update_after_small_ones_does_not_cost_its_square(database: Database) -> None:
    # A session keeps the plan that it made for one row: a nested loop of 16 million pairs.
    bulk = "update public.user_profiles set tags = array[clock_timestamp()::text] where {}"
    some = "uuid = (select uuid from public.user_profiles limit 1)"

    def cost(*, small_first: bool) -> float:
        with database.connect("pandom_user") as connection:
            for _ in range(6 if small_first else 0):
                connection.execute(bulk.format(some).encode())
            plan = connection.execute(
                b"explain (analyze, format json) " + bulk.format("true").encode()
            ).fetchall()[0][0][0]
            return sum(
                float(one["Time"])
                for one in plan["Triggers"]
                if one["Trigger Name"] == "audit_profiles_trigger_update"
            )

    with database.connect("pandom_user") as connection:
        connection.execute(
            "insert into public.user_profiles (tags) select '{x}' from generate_series(1, 4000)"
        )
    many = min(cost(small_first=False) for _ in range(3))
    after_few = min(cost(small_first=True) for _ in range(3))
    assert 0 < after_few < 4 * many


@pytest.mark.requirement("P4")
def test_a_truncate_is_recorded_as_critical(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute("truncate public.sessions")
    assert _last(database)[1:4] == (
        "TRUNCATE",
        {"table": "sessions", "session_user": "pandom_user"},
        "critical",
    )


@pytest.mark.requirement("P4", "P5")
def test_no_secret_ever_stands_in_the_trail(database: Database) -> None:
    secrets: set[str] = {PASSWORD, "another good password", "wrong password"}
    with database.connect(autocommit=True) as connection:

        def call(query: str, *parameters: object) -> tuple[Any, ...]:
            row = connection.execute(query.encode(), parameters).fetchone()
            assert row is not None
            secrets.update(v for v in row if isinstance(v, str) and len(v) > 20)
            return row

        connection.execute("select public.register('s@example.com', 'another good password')")
        signed_in = call("select * from public.sign_in(%s, %s)", ALICE.email, PASSWORD)
        connection.execute("select public.sign_in(%s, 'wrong password')", (ALICE.email,))
        call("select * from public.refresh_session(%s)", signed_in[3])
        connection.execute("select public.request_password_reset(%s)", (BOB.email,))
        with database.connect("pandom_mailer") as mailer:
            mails = mailer.execute("select kind, token from public.claim_messages()").fetchall()
        secrets.update(token for _, token in mails if token)
        reset = next(token for kind, token in mails if kind == "reset_password")
        call("select public.complete_password_reset(%s, 'another good password')", reset)
    for (value,) in database.rows(
        """
        select v from public.auth_users as u cross join lateral unnest(array[
            u.password_hash, u.verification_token, u.reset_token, u.refresh_token]) as v
        where v is not null
        union all select token from public.sessions
        union all select encode(secret, 'hex') from public.context_key
        """
    ):
        secrets.add(value)
    trail = json.dumps(
        database.rows(
            "select to_jsonb(t)::text from public.audit_logs as t "
            "union all select to_jsonb(t)::text from public.security_logs as t"
        )
    )
    assert len(secrets) > 15
    assert len(trail) > 5000
    assert [secret for secret in secrets if secret in trail] == []


@pytest.mark.requirement("P5")
def test_control_a_secret_in_the_trail_would_be_found(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "select public.record_event('mistake', jsonb_build_object('p', %s::text))", (PASSWORD,)
        )
    assert PASSWORD in json.dumps(_last(database)[2])


@pytest.mark.requirement("P5")
def test_an_application_records_events_of_its_own(database: Database) -> None:
    with database.connect() as connection:
        set_user(connection, ALICE.uuid)
        connection.execute("""select public.record_event('document_read', '{"id": 7}')""")
    assert _last(database)[:3] == (ALICE.uuid, "document_read", {"id": 7})


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("name", [e.name for e in EVENT_TYPES])
def test_reserved_event_types_are_refused(shared: Database, name: str) -> None:
    with shared.user(ALICE) as connection, pytest.raises(psycopg.DatabaseError):
        connection.execute("select public.record_event(%s)", (name,))
    with shared.user(ALICE) as connection, pytest.raises(psycopg.DatabaseError):
        connection.execute("select public.record_event(%s)", (name.lower(),))


@pytest.mark.requirement("P5")
@pytest.mark.parametrize(
    ("event", "details"),
    [
        (None, "{}"),
        ("", "{}"),
        ("Has Space", "{}"),
        ("x" * 101, "{}"),
        ("ab", "{}"),
        ("fine", "[]"),
        ("fine", "1"),
        ("fine", None),
        ("fine", json.dumps({"a": "x" * 9000})),
        ("login_failed\n", "{}"),
        ("lögin", "{}"),
    ],
)
def test_forged_and_malformed_events_are_refused(
    shared: Database, event: str, details: str
) -> None:
    with shared.user(ALICE) as connection, pytest.raises(psycopg.DatabaseError):
        connection.execute("select public.record_event(%s, %s::jsonb)", (event, details))


@pytest.mark.requirement("P5")
def test_the_declared_event_types_are_those_of_the_database(shared: Database) -> None:
    source = shared.one(
        "select pg_get_functiondef('public.is_reserved_event_type(text)'::regprocedure)"
    )
    written = {part for part in source.split("'")[1::2] if part.islower() and part.isidentifier()}
    declared = {e.name.lower() for e in EVENT_TYPES}
    assert declared <= written
    with shared.connect("pandom_migrator") as connection:
        connection.execute("set role pandom_trail")
        for name in written - {"public"}:
            row = connection.execute("select public.is_reserved_event_type(%s)", (name,)).fetchone()
            assert (row == (True,)) == (name in declared), name


@pytest.mark.requirement("P4")
@pytest.mark.parametrize("value", ["", "not an address", "300.1.1.1", "192.0.2.1'; --"])
def test_a_malformed_client_address_stops_nothing(database: Database, value: str) -> None:
    with database.connect() as connection:
        set_user(connection, ALICE.uuid)
        connection.execute("select set_config('app.client_ip', %s, true)", (value,))
        connection.execute("update public.user_profiles set tags = '{x}'")
        row = connection.execute(
            "select count(*) from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
        ).fetchone()
        assert row == (1,)
    assert _last(database)[4] is None


@pytest.mark.requirement("P4")
def test_the_trigger_serves_no_other_table(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(
            "create table public.else_table (a int);"
            "create trigger t after insert on public.else_table referencing new table as new_rows "
            "for each statement execute function public.audit_user_profiles()"
        )
        with pytest.raises(psycopg.errors.RaiseException):
            connection.execute("insert into public.else_table values (1)")
        connection.rollback()
