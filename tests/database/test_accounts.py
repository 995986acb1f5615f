"""Account functions, as an application calls them."""

from __future__ import annotations

import hashlib
from typing import Any, LiteralString

import psycopg
import psycopg.errors
import pytest

from pandom.database import settings as database_settings
from pandom.runtime.errors import UsageError
from tests.fixtures.databases import (
    ADMIN_EMAIL,
    ALICE,
    BOB,
    DORA,
    PASSWORD,
    ROOT,
    Database,
    set_user,
)

NEW = "another good password"


def _call(database: Database, query: LiteralString, *parameters: Any, as_user: Any = None) -> Any:
    """One call of the application, committed, as any driver makes it."""
    with database.connect() as connection:
        if as_user is not None:
            set_user(connection, as_user.uuid)
        row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0] if len(row) == 1 else row


def _sign_in(
    database: Database,
    email: str | None,
    password: str | None = PASSWORD,
    key: str | None = None,
) -> Any:
    return _call(database, "select * from public.sign_in(%s, %s, %s)", email, password, key)


def _mail(database: Database) -> dict[str, str | None]:
    """What the mailer would send: kind → token."""
    with database.connect("pandom_mailer") as connection:
        rows = connection.execute("select id, kind, token from public.claim_messages()").fetchall()
        for number, _, _ in rows:
            connection.execute("select public.finish_message(%s)", (number,))
    return {kind: token for _, kind, token in rows}


def _events(database: Database, event: str, log: LiteralString = "audit_logs") -> int:
    return int(database.one("select count(*) from public." + log + " where event_type = %s", event))


@pytest.mark.requirement("P3", "T4")
def test_sign_in_gives_tokens_and_keeps_digests(database: Database) -> None:
    user, session, _, refresh, _ = _sign_in(database, ALICE.email.upper())
    assert user == ALICE.uuid
    stored = database.rows("select token from public.sessions where user_uuid = %s", ALICE.uuid)
    assert (hashlib.sha256(session.encode()).hexdigest(),) in stored
    assert (
        database.one("select refresh_token from public.auth_users where uuid = %s", ALICE.uuid)
        == hashlib.sha256(refresh.encode()).hexdigest()
    )
    assert database.one(
        "select last_login_at > now() - interval '1 min' from public.auth_users where uuid = %s",
        ALICE.uuid,
    )
    assert _events(database, "login_succeeded") == 1
    assert _call(database, "select public.begin_context(%s)", session) == ALICE.uuid


@pytest.mark.requirement("P3", "O1")
@pytest.mark.parametrize(
    ("email", "password"),
    [
        (ALICE.email, "wrong"),
        ("nobody@example.com", PASSWORD),
        (DORA.email, PASSWORD),
        (ALICE.email, None),
        (None, PASSWORD),
        (ALICE.email, ""),
    ],
)
def test_a_refused_sign_in_says_nothing_and_is_counted(
    database: Database, email: str | None, password: str | None
) -> None:
    assert _sign_in(database, email, password) is None
    counted = database.one(
        "select failed_logins from public.failed_logins_last_hour", role="pandom_auditor"
    )
    assert counted == (0 if email is None else 1)


@pytest.mark.requirement("P3")
def test_an_unverified_account_does_not_sign_in(database: Database) -> None:
    _call(database, "select public.register(%s, %s)", "new@example.com", NEW)
    assert _sign_in(database, "new@example.com", NEW) is None
    token = _mail(database)["verify_email"]
    assert _call(database, "select public.verify_email(%s)", token) is True
    assert _call(database, "select public.verify_email(%s)", token) is False
    assert _sign_in(database, "new@example.com", NEW) is not None
    assert _events(database, "user_registered") == _events(database, "user_verified") == 1


@pytest.mark.requirement("P3")
def test_registration_says_nothing_about_who_exists(database: Database) -> None:
    fresh = _call(database, "select public.register(%s, %s)", "free@example.com", NEW)
    assert _mail(database).keys() == {"verify_email"}
    taken = _call(database, "select public.register(%s, %s)", ALICE.email.upper(), NEW)
    assert fresh == taken == ""
    # The holder is told, nobody else; the account is as it was.
    assert _mail(database) == {"already_registered": None}
    assert _sign_in(database, ALICE.email) is not None
    orphans = database.one(
        "select count(*) from public.user_profiles as p where not exists "
        "(select from public.auth_users as u where u.profile_uuid = p.uuid)"
    )
    assert orphans == 0


@pytest.mark.requirement("P3", "C5")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("not an address", NEW), "not an e-mail"),
        (("a@b.cd", "short"), "12 characters"),
        (("a@b.cd", "x" * 73), "72 bytes"),
        ((None, NEW), "not an e-mail"),
        (("x" * 251 + "@b.cd", NEW), "not an e-mail"),
    ],
)
def test_bad_registrations_get_a_message_without_rows(
    shared: Database, arguments: tuple[str, str], message: str
) -> None:
    with shared.user() as connection:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=message) as raised:
            connection.execute("select public.register(%s, %s)", arguments)
        assert raised.value.diag.message_detail is None


@pytest.mark.requirement("P3")
def test_a_refresh_token_works_once(database: Database) -> None:
    _, session, _, refresh, _ = _sign_in(database, ALICE.email)
    fresh = _call(database, "select * from public.refresh_session(%s)", refresh)
    assert fresh[0] == ALICE.uuid
    assert fresh[1] != session
    assert _call(database, "select * from public.refresh_session(%s)", refresh) is None
    assert _call(database, "select * from public.refresh_session(%s)", fresh[3]) is not None


@pytest.mark.requirement("P3")
def test_sign_out_ends_the_session_and_the_refresh_token(database: Database) -> None:
    _, session, _, refresh, _ = _sign_in(database, ALICE.email)
    assert _call(database, "select public.sign_out(%s)", session) is True
    assert _call(database, "select public.sign_out(%s)", session) is False
    assert _call(database, "select public.begin_context(%s)", session) is None
    assert _call(database, "select * from public.refresh_session(%s)", refresh) is None


@pytest.mark.requirement("P3")
def test_sign_out_everywhere_ends_own_sessions_only(database: Database) -> None:
    _sign_in(database, ALICE.email)
    assert _call(database, "select public.sign_out_everywhere()", as_user=ALICE) == 2
    assert _call(database, "select public.sign_out_everywhere()") == 0
    assert database.one("select count(*) from public.sessions where user_uuid = %s", BOB.uuid) == 1


@pytest.mark.requirement("P3", "T5")
def test_password_reset_end_to_end(database: Database) -> None:
    _call(database, "select public.request_password_reset(%s)", "nobody@example.com")
    assert _mail(database) == {}
    _call(database, "select public.request_password_reset(%s)", ALICE.email)
    token = _mail(database)["reset_password"]
    # A second request within a minute sends nothing more.
    _call(database, "select public.request_password_reset(%s)", ALICE.email)
    assert _mail(database) == {}
    reset = "select public.complete_password_reset(%s, %s)"
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        _call(database, reset, token, "short")
    assert _call(database, reset, token, NEW) is True
    assert _call(database, reset, token, NEW) is False
    assert _mail(database) == {"password_changed": None}
    assert _sign_in(database, ALICE.email) is None
    assert _sign_in(database, ALICE.email, NEW) is not None
    assert (
        database.one("select count(*) from public.sessions where user_uuid = %s", ALICE.uuid) == 1
    )
    assert _events(database, "password_reset", "security_logs") == 1


@pytest.mark.requirement("P3")
def test_an_expired_token_does_nothing(database: Database) -> None:
    _call(database, "select public.request_password_reset(%s)", ALICE.email)
    token = _mail(database)["reset_password"]
    with database.connect("pandom_user") as connection:
        connection.execute(
            "update public.auth_users set reset_token_expiry = now() - interval '1 s'"
        )
    assert _call(database, "select public.complete_password_reset(%s, %s)", token, NEW) is False


@pytest.mark.requirement("P3", "T5")
def test_changing_the_password_needs_the_old_one(database: Database) -> None:
    change = "select public.change_password(%s, %s)"
    assert _call(database, change, "wrong", NEW, as_user=ALICE) is False
    assert _call(database, change, PASSWORD, NEW) is False  # no context
    assert _call(database, change, PASSWORD, NEW, as_user=ALICE) is True
    assert _sign_in(database, ALICE.email, NEW) is not None
    assert _events(database, "password_changed", "security_logs") == 1


@pytest.mark.requirement("P3")
def test_changing_the_email_needs_the_token_sent_there(database: Database) -> None:
    change = "select public.request_email_change(%s, %s)"
    assert _call(database, change, PASSWORD, "alice@new.example", as_user=ALICE) is True
    assert _call(database, change, PASSWORD, BOB.email, as_user=ALICE) is True
    # Both mails went out, whatever the second address's state; only one carries a token.
    sent = _mail(database)
    assert sent.keys() == {"already_registered", "confirm_new_email"}
    assert sent["already_registered"] is None
    assert database.one("select email from public.auth_users where uuid = %s", ALICE.uuid) == (
        ALICE.email
    )
    assert _call(database, change, PASSWORD, "alice@new.example", as_user=ALICE) is True
    token = _mail(database)["confirm_new_email"]
    assert _call(database, "select public.verify_email(%s)", token) is True
    assert _mail(database) == {"email_changed": None}
    assert _sign_in(database, "alice@new.example") is not None
    assert _sign_in(database, ALICE.email) is None


@pytest.mark.requirement("P3", "T5", "C3")
def test_deactivation_ends_sessions_whoever_does_it(database: Database) -> None:
    assert _call(database, "select public.deactivate_account(%s)", PASSWORD, as_user=ALICE) is True
    with database.connect("pandom_user") as connection:
        connection.execute(
            "update public.auth_users set is_active = false where uuid = %s", (BOB.uuid,)
        )
    assert (
        database.one(
            "select count(*) from public.sessions where user_uuid = any(%s)",
            [ALICE.uuid, BOB.uuid],
        )
        == 0
    )
    assert _events(database, "user_deactivated", "security_logs") == 2
    assert _sign_in(database, ALICE.email) is None


@pytest.mark.requirement("P3", "C1", "C2", "C3")
def test_a_deleted_account_leaves_its_trail_only(database: Database) -> None:
    assert _call(database, "select public.delete_account(%s)", "wrong", as_user=ALICE) is False
    assert _call(database, "select public.delete_account(%s)", PASSWORD, as_user=ALICE) is True
    for query in (
        "select count(*) from public.auth_users where uuid = %s",
        "select count(*) from public.sessions where user_uuid = %s",
    ):
        assert database.one(query, ALICE.uuid) == 0
    assert (
        database.one("select count(*) from public.user_profiles where uuid = %s", ALICE.profile)
        == 0
    )
    assert database.one("select count(*) from public.audit_logs where user_uuid = %s", ALICE.uuid)
    assert _events(database, "user_deleted", "security_logs") == 1


@pytest.mark.requirement("P3", "I4")
@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("select email from public.admin_find_by_tag('alice')", {ALICE.email}),
        ("select email from public.admin_find_by_email('ALICE@example.com')", {ALICE.email}),
        (
            'select email from public.admin_find_by_metadata(\'{"role": "administrator"}\')',
            {ADMIN_EMAIL},
        ),
    ],
)
def test_administrators_search(shared: Database, call: LiteralString, found: set[str]) -> None:
    with shared.admin() as connection:
        assert {row[0] for row in connection.execute(call).fetchall()} == found
    with shared.admin(ALICE) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(call)
    with shared.user(ROOT) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(call)


@pytest.mark.requirement("P3", "T5")
def test_administrators_change_roles_and_activity(database: Database) -> None:
    with database.connect() as connection:
        set_user(connection, ROOT.uuid)
        connection.execute("set local role pandom_admin")
        for call in (
            "select public.admin_set_role(%s, 'admin')",
            "select public.admin_set_active(%s, false)",
            "select public.admin_set_active(%s, true)",
            "select public.admin_delete_user(%s)",
        ):
            assert connection.execute(call.encode(), (ALICE.uuid,)).fetchone() == (True,)
        for call in (
            "select public.admin_set_role(%s, 'user')",
            "select public.admin_set_active(%s, false)",
            "select public.admin_delete_user(%s)",
        ):
            with pytest.raises(psycopg.errors.InvalidParameterValue), connection.transaction():
                connection.execute(call.encode(), (ROOT.uuid,))
    rows = database.rows(
        "select event_type from public.security_logs where user_uuid = %s order by id", ROOT.uuid
    )
    assert [row[0] for row in rows][-4:] == [
        "role_changed",
        "user_deactivated",
        "user_reactivated",
        "user_deleted",
    ]


@pytest.mark.requirement("P3")
def test_guessing_is_limited_for_known_and_unknown_alike(database: Database) -> None:
    for email in (ALICE.email, "nobody@example.com"):
        for _ in range(5):
            assert _sign_in(database, email, "wrong") is None
        assert _sign_in(database, email, PASSWORD) is None
    assert _events(database, "login_failed") == 10
    assert _events(database, "login_throttled") == 2
    # Another address is not locked: nobody locks a stranger out.
    with database.connect() as connection:
        connection.execute("select set_config('app.client_ip', '192.0.2.7', true)")
        row = connection.execute(
            "select count(*) from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
        ).fetchone()
        assert row == (1,)


@pytest.mark.requirement("P3")
def test_a_lock_ends_by_itself_and_is_bounded(database: Database) -> None:
    digest = hashlib.sha256(ALICE.email.encode()).digest()
    for failures, ago, locked in (
        (5, "29 s", True),
        (5, "31 s", False),
        (6, "59 s", True),
        (6, "61 s", False),
        (1000000, "14 min", True),
        (1000000, "16 min", False),
    ):
        with database.owner("pandom_definer") as connection:
            connection.execute(
                "insert into public.sign_in_attempts (email_digest, address, failures, "
                "last_failed_at) values (%s, '0.0.0.0', %s, now() - %s::interval) "
                "on conflict (email_digest, address) do update "
                "set failures = excluded.failures, last_failed_at = excluded.last_failed_at",
                (digest, failures, ago),
            )
            row = connection.execute(
                "select public.sign_in_locked(%s, '0.0.0.0')", (digest,)
            ).fetchone()
            assert row == (locked,), (failures, ago)
    # A reset proves who one is, and forgives.
    _call(database, "select public.request_password_reset(%s)", ALICE.email)
    token = _mail(database)["reset_password"]
    assert _call(database, "select public.complete_password_reset(%s, %s)", token, NEW) is True
    assert _sign_in(database, ALICE.email, NEW) is not None


@pytest.mark.requirement("P3")
def test_many_addresses_slow_down_strangers_not_the_owner(database: Database) -> None:
    digest = hashlib.sha256(ALICE.email.encode()).digest()
    with database.owner("pandom_definer") as connection:
        connection.execute(
            "insert into public.sign_in_attempts (email_digest, address, failures, last_failed_at) "
            "select %s, ('198.51.100.' || n)::inet, 1, now() from generate_series(1, 60) as n",
            (digest,),
        )
        connection.execute(
            "insert into public.sign_in_attempts (email_digest, address, last_succeeded_at) "
            "values (%s, '192.0.2.1', now() - interval '3 days')",
            (digest,),
        )
        for address, locked in (("192.0.2.1", False), ("203.0.113.9", True)):
            row = connection.execute(
                "select public.sign_in_locked(%s, %s::inet)", (digest, address)
            ).fetchone()
            assert row == (locked,)


@pytest.mark.requirement("P1", "P3")
def test_hashes_are_stored_encrypted_when_asked_for(database: Database) -> None:
    key = "k" * 40
    on = database_settings.DatabaseSettings(False, True, 12, bcrypt_cost=4)
    off = database_settings.DatabaseSettings(False, False, 12, bcrypt_cost=4)
    with database.connect("pandom_migrator") as connection:
        with pytest.raises(UsageError, match="password_hash_key"):
            database_settings.apply(connection, on, None)
        connection.rollback()
        changed = database_settings.apply(connection, on, key)
        assert "stored encrypted" in changed[0]
    assert database.rows(
        "select distinct password_hash, password_hash_encrypted is null from public.auth_users"
    ) == [("*", False)]
    assert _sign_in(database, ALICE.email, PASSWORD, key) is not None
    for wrong in (None, "", "another key"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            _sign_in(database, ALICE.email, PASSWORD, wrong)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        _call(database, "select public.register(%s, %s)", "p1@example.com", NEW)
    _call(database, "select public.register(%s, %s, hash_key => %s)", "p1@example.com", NEW, key)
    _call(database, "select public.verify_email(%s)", _mail(database)["verify_email"])
    assert _sign_in(database, "p1@example.com", NEW, key) is not None
    with database.connect("pandom_migrator") as connection:
        with pytest.raises(UsageError):
            database_settings.apply(connection, off, None)
        connection.rollback()
        database_settings.apply(connection, off, key)
    assert _sign_in(database, ALICE.email) is not None
    assert _sign_in(database, "p1@example.com", NEW) is not None


@pytest.mark.requirement("P3")
def test_hashes_of_other_libraries_are_taken_and_verified(database: Database) -> None:
    stored = database.one("select password_hash from public.auth_users where uuid = %s", ALICE.uuid)
    for prefix in ("$2b$", "$2y$"):
        with database.connect("pandom_user") as connection:
            connection.execute(
                "update public.auth_users set password_hash = %s where uuid = %s",
                (prefix + stored[4:], ALICE.uuid),
            )
        assert _sign_in(database, ALICE.email) is not None
    with (
        database.connect("pandom_user") as connection,
        pytest.raises(psycopg.errors.CheckViolation),
    ):
        connection.execute("update public.auth_users set password_hash = 'plain'")


@pytest.mark.requirement("P3")
def test_a_claimed_message_appears_again_when_it_is_not_finished(database: Database) -> None:
    _call(database, "select public.request_password_reset(%s)", ALICE.email)
    claim = "select count(*) from public.claim_messages()"
    assert database.one(claim, role="pandom_mailer") == 1
    assert database.one(claim, role="pandom_mailer") == 0
    with database.owner("pandom_definer") as connection:
        connection.execute("update public.outbox set claimed_until = now() - interval '1 s'")
    assert database.one(claim, role="pandom_mailer") == 1
