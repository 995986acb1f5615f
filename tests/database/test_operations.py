"""Seed, settings, janitor, health, monitoring."""

from __future__ import annotations

import time
from typing import LiteralString

import psycopg
import psycopg.errors
import pytest

from pandom.database import health, janitor, seed
from pandom.database import settings as database_settings
from pandom.database.drift import catalog
from pandom.jobs.cluster import end_long
from pandom.runtime.errors import Failure, UsageError
from tests.fixtures.databases import ADMIN_EMAIL, ALICE, BOB, PASSWORD, ROOT, SETTINGS, Database

PLAIN = database_settings.DatabaseSettings(False, False, 12, bcrypt_cost=4)


@pytest.mark.requirement("S1")
def test_the_administrator_has_the_values_of_the_source(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute("delete from public.auth_users where email = %s", (ADMIN_EMAIL,))
    with database.connect("pandom_migrator") as connection:
        connection.execute("set local role pandom_definer")
        connection.execute("update public.auth_users set role = 'user' where role = 'admin'")
        assert seed.administrator(connection, ADMIN_EMAIL, PASSWORD).made
    row = database.rows(
        "select u.role::text, is_active, is_verified, is_configured, left(password_hash, 7), "
        "p.tags, p.metadata from public.auth_users as u "
        "inner join public.user_profiles as p on u.profile_uuid = p.uuid where email = %s",
        ADMIN_EMAIL,
    )
    assert row == [
        (
            "admin",
            True,
            True,
            True,
            "$2a$12$",
            ["admin", "system"],
            {"role": "administrator", "permissions": ["all"]},
        )
    ]
    with database.connect() as connection:
        signed_in = connection.execute(
            "select count(*) from public.sign_in(%s, %s)", (ADMIN_EMAIL, PASSWORD)
        ).fetchone()
    assert signed_in == (1,)


@pytest.mark.requirement("S1")
def test_seeding_again_changes_nothing(database: Database) -> None:
    query = "select to_jsonb(u)::text from public.auth_users as u where email = 'admin@pandom.com'"
    with database.connect("pandom_user") as connection:
        connection.execute(
            "update public.auth_users set password_hash = %s", (seed.hash_password("changed", 4),)
        )
    before = database.one(query)
    with database.connect("pandom_migrator") as connection:
        assert not seed.administrator(connection, ADMIN_EMAIL.upper(), "of the config").made
    assert database.one(query) == before


def _seed(database: Database, email: str = ADMIN_EMAIL, *, restoring: bool = False) -> seed.Seeded:
    with database.connect("pandom_migrator") as connection:
        return seed.administrator(connection, email, PASSWORD, cost=4, restoring=restoring)


def _administrators(database: Database) -> set[str]:
    rows = database.rows("select email from public.auth_users where role = 'admin'")
    return {email for (email,) in rows} - {ROOT.email}


def _as_operator(database: Database, text: LiteralString) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(text)


@pytest.mark.requirement("S1")
@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("update public.auth_users set email = 'me@example.com' where email = %s", "me@"),
        ("delete from public.auth_users where email = %s", None),
        ("update public.auth_users set is_active = false where email = %s", ADMIN_EMAIL),
        ("update public.auth_users set role = 'user' where email = %s", None),
    ],
    ids=["renamed", "deleted", "deactivated", "made a user"],
)
def test_an_administrator_that_changed_is_left_as_it_is(
    database: Database, change: LiteralString, left: str | None
) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(change, (ADMIN_EMAIL,))
    before = database.rows("select uuid, email, role, is_active from public.auth_users order by 1")
    assert not _seed(database).made
    assert (
        database.rows("select uuid, email, role, is_active from public.auth_users order by 1")
        == before
    )
    assert bool(_administrators(database)) == bool(left)


@pytest.mark.requirement("S1")
def test_without_any_administrator_one_is_made_again(database: Database) -> None:
    _as_operator(database, "delete from public.auth_users where role = 'admin'")
    assert _seed(database).made
    assert _administrators(database) == {ADMIN_EMAIL}


@pytest.mark.requirement("S1")
def test_another_admin_email_renames_the_administrator_there_and_back(database: Database) -> None:
    query = "select uuid, password_hash from public.auth_users where email = %s"
    before = database.rows(query, ADMIN_EMAIL)
    for email in ("new@example.com", ADMIN_EMAIL):
        assert "is " + email + " now" in _seed(database, email).said
        assert _administrators(database) == {email}
        assert database.rows(query, email) == before
    events = "select count(*) from public.security_logs where event_type = 'email_changed'"
    assert database.one(events) == 2
    assert database.one("select count(*) from public.outbox where kind = 'email_changed'") == 2


@pytest.mark.requirement("S1")
def test_another_admin_email_is_nobodys_if_the_administrator_was_renamed(
    database: Database,
) -> None:
    _as_operator(
        database,
        "update public.auth_users set email = 'me@example.com' where email = 'admin@pandom.com'",
    )
    assert "not made" in _seed(database, "new@example.com").said
    assert _administrators(database) == {"me@example.com"}
    assert not _seed(database, "me@example.com").made
    _seed(database, "new@example.com")
    assert _administrators(database) == {"new@example.com"}


@pytest.mark.requirement("S1", "D4")
def test_an_administrator_of_another_stacks_dump_is_not_renamed(database: Database) -> None:
    assert "not made" in _seed(database, "new@example.com", restoring=True).said
    with database.connect("postgres") as connection:
        seed.forget(connection, "new@example.com")
    assert "not made" in _seed(database, "new@example.com").said
    assert _administrators(database) == {ADMIN_EMAIL}
    with database.connect("postgres") as connection:
        seed.forget(connection, ADMIN_EMAIL)
    assert _administrators(database) == {ADMIN_EMAIL}


@pytest.mark.requirement("S1")
def test_an_ordinary_users_e_mail_is_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="ordinary user"):
        _seed(database, ALICE.email)
    assert _administrators(database) == {ADMIN_EMAIL}


@pytest.mark.requirement("D2", "C1", "S1")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("update public.auth_users set role = 'user'", "administrator"),
        ("update public.auth_users set is_active = false", "administrator"),
        (
            "update public.auth_users set email = 'x@y.org' where role = 'admin' "
            "and email like 'admin%'",
            "administrator",
        ),
        ("insert into public.user_profiles default values", "profiles"),
    ],
)
def test_rows_of_the_application_warn_and_turn_nothing_red(
    database: Database, change: LiteralString, name: str
) -> None:
    _as_operator(database, change)
    with database.connect("pandom_user") as connection:
        found = health.check(connection, settings=SETTINGS, administrator=ADMIN_EMAIL)
    assert found.ok
    assert [one.name for one in found.findings if one.warning] == [name]
    assert any(line.startswith(f"{name}: warning, ") for line in found.lines())


@pytest.mark.requirement("P3", "P5")
def test_settings_that_were_changed_or_deleted_are_applied_again(database: Database) -> None:
    with database.connect("postgres") as connection:
        connection.execute(
            "delete from public.account_settings; delete from public.context_key;"
            "delete from public.trail_retention where log = 'audit_logs';"
            "update public.trail_retention set months_ahead = 7"
        )
    # The cluster job comes before the one that applies them, and may not stumble over them.
    with database.connect("postgres", autocommit=True) as connection:
        assert [line.partition(" (")[0] for line in end_long(connection)] == [
            "long transactions were left alone"
        ]
    with database.connect("pandom_user") as connection:
        assert len(health.setting_differences(connection, SETTINGS)) > 10
    with database.connect("pandom_migrator") as connection:
        database_settings.apply(connection, SETTINGS, None)
        assert database_settings.apply(connection, SETTINGS, None) == []
    with database.connect("pandom_user") as connection:
        assert health.setting_differences(connection, SETTINGS) == []


@pytest.mark.requirement("P1")
def test_the_auditor_reads_settings_and_not_the_key(shared: Database) -> None:
    with shared.connect("pandom_auditor") as connection:
        seen = catalog.seen(connection, ("setting_rows",))
        found = {(fact.object, fact.detail) for fact in seen}
        assert found >= set(database_settings.declared(SETTINGS))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select secret from public.context_key")


@pytest.mark.requirement("S1")
@pytest.mark.parametrize("password", ["admin123", "short", "PasswordPassword", "x" * 73])
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(UsageError):
        seed.check_password(password, "admin@example.com", ephemeral=False)


@pytest.mark.requirement("S1")
def test_an_ephemeral_stack_may_have_any_password() -> None:
    seed.check_password("admin123", "admin@example.com", ephemeral=True)
    seed.check_password("long enough, and unknown", "admin@example.com", ephemeral=False)


@pytest.mark.requirement("S2")
def test_sample_data_is_the_same_everywhere_and_made_once(database: Database) -> None:
    with database.connect("pandom_migrator") as connection:
        assert seed.samples(connection) == seed.SAMPLE_USERS
        assert seed.samples(connection) == 0
    with database.connect("pandom_user") as connection:
        query = "select uuid, email, profile_uuid from public.auth_users where email like 'sample%'"
        first = sorted(connection.execute(query).fetchall())
        connection.execute("delete from public.auth_users where email like 'sample%'")
    with database.connect("pandom_migrator") as connection:
        seed.samples(connection)
        assert sorted(connection.execute(query).fetchall()) == first


@pytest.mark.requirement("O3")
def test_expired_rows_go_in_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(
            "insert into public.sessions (user_uuid, token, created_at, expires_at) "
            "select %s, encode(sha256(n::text::bytea), 'hex'), now() - interval '2 d', "
            "now() - interval '1 d' from generate_series(1, 25) as n",
            (ALICE.uuid,),
        )
    monkeypatch.setattr(janitor, "BATCH", 10)
    password = database.server.passwords[janitor.ROLE]
    assert janitor.work(database.target, password, janitor.expired) == ["25 expired rows deleted"]
    assert janitor.work(database.target, password, janitor.expired) == []
    batches = database.rows(
        "select details->>'rows' from public.audit_logs where event_type = 'sessions_expired' "
        "order by id"
    )
    assert batches == [("10",), ("10",), ("5",)]
    assert database.one("select count(*) from public.sessions") == 5


@pytest.mark.requirement("O3")
def test_a_session_that_somebody_uses_stops_no_batch(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(
            "update public.sessions set created_at = now() - interval '2 d', "
            "expires_at = now() - interval '1 d'"
        )
    with database.connect("pandom_user") as busy:
        busy.execute("select from public.sessions where user_uuid = %s for update", (ALICE.uuid,))
        password = database.server.passwords[janitor.ROLE]
        done = janitor.work(database.target, password, janitor.expired)
        assert done == ["4 expired rows deleted"]


@pytest.mark.requirement("O3")
def test_a_routine_that_fails_says_so_in_the_servers_words(database: Database) -> None:
    with database.owner("pandom_definer") as connection:
        connection.execute(
            "revoke execute on function public.delete_expired(integer) from pandom_janitor"
        )
    password = database.server.passwords[janitor.ROLE]
    with pytest.raises(Failure, match=r"^permission denied for function delete_expired$"):
        janitor.work(database.target, password, janitor.expired)
    assert janitor.work(database.target, password, janitor.sealed) != []


@pytest.mark.requirement("O1")
def test_failed_logins_of_the_last_hour(database: Database) -> None:
    view = "select failed_logins from public.failed_logins_last_hour"
    assert database.one(view, role="pandom_auditor") == 0
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "insert into public.audit_logs (event_type, timestamp) values "
            "('login_failed', now()), ('login_failed', now() - interval '59 min'), "
            "('login_failed', now() - interval '61 min'), ('login_succeeded', now())"
        )
    assert database.one(view, role="pandom_auditor") == 2


@pytest.mark.requirement("O2")
def test_users_with_many_events(database: Database) -> None:
    view = "select user_uuid, activity_count from public.suspicious_activity"
    with database.owner("pandom_trail") as connection:
        for person, number in ((ALICE, 100), (BOB, 99)):  # the template has one of each
            connection.execute(
                "insert into public.audit_logs (event_type, user_uuid) "
                "select 'seen', %s from generate_series(1, %s)",
                (person.uuid, number),
            )
    assert database.rows(view, role="pandom_auditor") == [(ALICE.uuid, 101)]
    with database.connect("pandom_user") as connection:
        connection.execute("update public.account_settings set suspicious_events_per_hour = 99")
    assert len(database.rows(view, role="pandom_auditor")) == 2


@pytest.mark.requirement("D2")
def test_a_healthy_database_is_healthy(shared: Database) -> None:
    with shared.connect("pandom_user") as connection:
        found = health.check(connection, settings=SETTINGS, administrator=ADMIN_EMAIL)
    assert found.ok, found
    assert not any(one.warning for one in found.findings), found
    assert found.as_json()["ok"] is True
    assert {c["name"] for c in found.as_json()["checks"]} >= {"query", "tables", "head"}


@pytest.mark.requirement("D2", "C1")
@pytest.mark.parametrize(
    ("owner", "fault", "name"),
    [
        ("pandom_owner", "alter table public.user_profiles rename to p", "tables"),
        ("pandom_owner", "update public.alembic_version set version_num = '0001'", "head"),
        ("pandom_owner", "update public.account_settings set lock_limit = '1 h'", "settings"),
        ("pandom_owner", "delete from public.account_settings", "settings"),
        ("pandom_trail", "update public.trail_retention set months_ahead = 1", "settings"),
        ("pandom_definer", "update public.context_key set enforced = true", "settings"),
        (
            "pandom_trail",
            "insert into public.audit_logs (event_type, timestamp) values ('x', '2000-01-01')",
            "default partitions",
        ),
        (
            "pandom_trail",
            "do $$ begin execute format('drop table public.%I', to_char(now() "
            "at time zone 'UTC', '\"audit_logs_y\"YYYY\"m\"MM')); end $$",
            "partitions",
        ),
    ],
)
def test_what_is_wrong_is_found(database: Database, owner: str, fault: str, name: str) -> None:
    with database.owner(owner) as connection:
        connection.execute(fault.encode())
    with database.connect("pandom_user") as connection:
        found = health.check(connection, settings=SETTINGS)
    assert [finding.name for finding in found.findings if not finding.ok] == [name]


@pytest.mark.requirement("P5")
def test_changing_the_retention_leaves_a_trace(database: Database) -> None:
    longer = database_settings.DatabaseSettings(False, False, 24, bcrypt_cost=4)
    with database.connect("pandom_migrator") as connection:
        assert len(database_settings.apply(connection, longer, None)) == 2
        assert database_settings.apply(connection, longer, None) == []
    assert (
        database.one(
            "select count(*) from public.security_logs where event_type = 'retention_changed'"
        )
        == 2
    )


@pytest.mark.requirement("D2")
def test_health_takes_no_longer_than_a_moment(shared: Database) -> None:
    # A container's health check must not wait behind a scan of the whole trail.
    with shared.connect("pandom_user") as connection:
        connection.execute("set statement_timeout = '2s'")
        started = time.monotonic()
        health.check(connection, expected_head="x")
        assert time.monotonic() - started < 10
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
