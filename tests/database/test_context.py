"""Contexts that cannot be forged: by setting, signed by begin_context()."""

from __future__ import annotations

import psycopg
import psycopg.errors
import pytest

from pandom.database import settings as database_settings
from tests.fixtures.databases import ALICE, BOB, DORA, ROOT, Database, Person, set_user

DENIED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
def signed(database: Database) -> Database:
    with database.connect("pandom_migrator") as connection:
        changed = database_settings.apply(
            connection, database_settings.DatabaseSettings(True, False, 12, bcrypt_cost=4), None
        )
    assert changed == ["signed contexts on"]
    return database


def _who(connection: psycopg.Connection) -> list[object]:
    return [row[0] for row in connection.execute("select uuid from public.auth_users").fetchall()]


def _begin(connection: psycopg.Connection, person: Person) -> object:
    row = connection.execute("select public.begin_context(%s)", (person.token,)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.requirement("P2")
def test_a_session_token_opens_the_context_of_its_user(signed: Database) -> None:
    with signed.connect() as connection:
        assert _begin(connection, ALICE) == ALICE.uuid
        assert _who(connection) == [ALICE.uuid]
        connection.commit()
        assert _who(connection) == []


@pytest.mark.requirement("P2")
def test_an_administrator_enters_its_role_signed(signed: Database) -> None:
    with signed.connect() as connection:
        assert _begin(connection, ROOT) == ROOT.uuid
        connection.execute("set local role pandom_admin")
        assert len(_who(connection)) > 3


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("token", ["wrong", "", None])
def test_an_unknown_token_opens_none_and_is_recorded(signed: Database, token: str | None) -> None:
    with signed.connect() as connection:
        row = connection.execute("select public.begin_context(%s)", (token,)).fetchone()
        assert row == (None,)
        assert _who(connection) == []
    assert (
        signed.one(
            "select count(*) from public.security_logs where event_type = 'context_rejected'"
        )
        == 1
    )


@pytest.mark.requirement("P2")
def test_a_deactivated_user_or_expired_session_opens_none(signed: Database) -> None:
    with signed.connect() as connection:
        assert _begin(connection, DORA) is None
    with signed.connect("pandom_user") as connection:
        connection.execute(
            "update public.sessions set created_at = now() - interval '2 h', "
            "expires_at = now() - interval '1 s' where user_uuid = %s",
            (ALICE.uuid,),
        )
    with signed.connect() as connection:
        assert _begin(connection, ALICE) is None


@pytest.mark.requirement("P2")
def test_the_plain_setting_is_no_context_any_more(signed: Database) -> None:
    # On a fresh connection nothing but the claim was ever set.
    with signed.user(ALICE) as connection:
        assert _who(connection) == []
    with signed.user(ALICE) as connection:
        connection.execute("select set_config('app.session_id', '1', true)")
        assert _who(connection) == []
    # Control: without enforcement the same setting is one.
    with signed.connect("pandom_migrator") as connection:
        database_settings.apply(
            connection, database_settings.DatabaseSettings(False, False, 12, bcrypt_cost=4), None
        )
    with signed.user(ALICE) as connection:
        assert _who(connection) == [ALICE.uuid]


@pytest.mark.requirement("P2")
@pytest.mark.parametrize(
    "injection",
    [
        "select set_config('app.current_user_id', '{bob}', true)",
        "set local app.current_user_id = '{bob}'",
        "set session app.current_user_id = '{bob}'",
        "select set_config('app.current_user_id', '{bob}', true), "
        "set_config('app.context_signature', '', true)",
        "select set_config('app.current_user_id', '{bob}', true), "
        "set_config('app.context_signature', null, true), set_config('app.session_id', null, true)",
        "select set_config('app.session_id', '2', true), "
        "set_config('app.current_user_id', '{bob}', true)",
        "reset all; select set_config('app.current_user_id', '{bob}', true)",
        "set local timezone to 'Asia/Tokyo'; set local app.current_user_id = '{bob}'",
        "set local role pandom_admin; select set_config('app.current_user_id', '{root}', true)",
        "select public.begin_context(null)",
        "select set_config('app.current_user_id', '{bob}', true), "
        "set_config('app.context_signature', '0', true), set_config('app.session_id', '0', true)",
    ],
)
def test_injected_sql_becomes_nobody_else(signed: Database, injection: str) -> None:
    with signed.connect() as connection:
        _begin(connection, ALICE)
        connection.execute(injection.format(bob=BOB.uuid, root=ROOT.uuid).encode())
        assert set(_who(connection)) <= {ALICE.uuid}


@pytest.mark.requirement("P2")
def test_a_context_cannot_be_replayed(signed: Database) -> None:
    settings = "app.current_user_id", "app.session_id", "app.context_signature"
    with signed.connect() as connection:
        _begin(connection, BOB)
        stolen = [
            connection.execute("select current_setting(%s)", (name,)).fetchone()[0]  # type: ignore[index]
            for name in settings
        ]
        with signed.connect() as other:
            _replay(other, settings, stolen)
            assert _who(other) == []
        assert _who(connection) == [BOB.uuid]
        connection.commit()
        _replay(connection, settings, stolen)
        assert _who(connection) == []


def _replay(connection: psycopg.Connection, names: tuple[str, ...], values: list[str]) -> None:
    for name, value in zip(names, values, strict=True):
        connection.execute("select set_config(%s, %s, true)", (name, value))


@pytest.mark.requirement("P2", "P3")
@pytest.mark.parametrize(
    "attack",
    [
        "select secret from public.context_key",
        "update public.context_key set enforced = false",
        "select public.context_signature('x', gen_random_uuid(), '1')",
        "select public.write_event('audit_logs', null, 'login_succeeded', 'info', '{}')",
        "select public.open_session('{bob}')",
        "select public.set_password('{bob}', 'a new password!', null)",
        "select public.rotate_context_key()",
        "select public.hmac('a'::bytea, 'b'::bytea, 'sha256')",
        "select token from public.sessions",
        "select token from public.outbox",
        "select * from public.claim_messages()",
        "select reset_token from public.auth_users",
        "select public.stored_password_hash(u, null) from public.auth_users as u",
    ],
)
def test_injected_sql_reaches_no_key_token_or_inner_function(signed: Database, attack: str) -> None:
    with signed.connect() as connection:
        _begin(connection, ALICE)
        with pytest.raises(DENIED):
            connection.execute(attack.replace("{bob}", str(BOB.uuid)).encode())


@pytest.mark.requirement("P2", "P3")
def test_injected_sql_signs_in_as_nobody(signed: Database) -> None:
    # Every function that the application may call, called for somebody else without a secret.
    with signed.connect() as connection:
        _begin(connection, ALICE)
        for call in (
            f"select count(*) from public.sign_in('{BOB.email}', '')",
            f"select count(*) from public.sign_in('{BOB.email}', null)",
            "select count(*) from public.refresh_session('')",
            "select count(*) from public.refresh_session(null)",
        ):
            assert connection.execute(call.encode()).fetchone() == (0,)
        for call in (
            "select public.verify_email('')",
            "select public.verify_email(null)",
            "select public.complete_password_reset('', 'a new password!')",
            "select public.complete_password_reset(null, 'a new password!')",
            "select public.change_password('', 'a new password!')",
            "select public.deactivate_account(null)",
            "select public.delete_account('')",
            "select public.sign_out('')",
        ):
            assert connection.execute(call.encode()).fetchone() == (False,)
        assert _who(connection) == [ALICE.uuid]


@pytest.mark.requirement("P2")
def test_a_new_key_ends_open_contexts(signed: Database) -> None:
    with signed.connect() as connection:
        _begin(connection, ALICE)
        assert _who(connection) == [ALICE.uuid]
        with signed.connect("pandom_user") as operator:
            operator.execute("select public.rotate_context_key()")
        assert _who(connection) == []
        assert _begin(connection, ALICE) == ALICE.uuid
        assert _who(connection) == [ALICE.uuid]


@pytest.mark.requirement("P2")
def test_only_the_definer_and_the_dump_read_the_key(shared: Database) -> None:
    rows = shared.rows(
        "select rolname from pg_roles where not rolsuper and rolname not like 'pg\\_%' "
        "and has_table_privilege(oid, 'public.context_key', 'select')"
    )
    assert set(rows) == {("pandom_definer",), ("pandom_user",)}


@pytest.mark.requirement("P2")
def test_parallel_workers_take_the_signed_context(signed: Database) -> None:
    with signed.connect() as connection:
        _begin(connection, ALICE)
        connection.execute(
            "set local debug_parallel_query = on; set local parallel_setup_cost = 0;"
            "set local parallel_tuple_cost = 0; set local min_parallel_table_scan_size = 0"
        )
        assert _who(connection) == [ALICE.uuid]


def test_the_plain_context_of_the_fixtures_is_the_documented_one(shared: Database) -> None:
    with shared.connect() as connection:
        set_user(connection, ALICE.uuid)
        assert _who(connection) == [ALICE.uuid]
