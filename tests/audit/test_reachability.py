"""Who can do what, by whatever path; asked of a real server as the auditor."""

from __future__ import annotations

import pytest

from pandom.audit.reachability import Answer, every_login, who_can
from pandom.database.drift import catalog, declared
from pandom.database.drift.catalog import Observed
from pandom.runtime.errors import UsageError
from tests.audit.conftest import Shipped

WRITES = ("insert", "update", "delete", "truncate")


def observe(shipped: Shipped) -> Observed:
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        return catalog.read(connection, declared.OWNERS)


@pytest.fixture(scope="module")
def observed(shipped: Shipped) -> Observed:
    return observe(shipped)


def logins(answer: Answer) -> set[str]:
    return {way.login for way in answer.ways}


@pytest.mark.requirement("P5", "A3")
@pytest.mark.parametrize("table", ["audit_logs", "security_logs", "trail_blocks"])
@pytest.mark.parametrize("privilege", WRITES)
def test_only_superuser_and_migrator_reach_the_trail(
    observed: Observed, privilege: str, table: str
) -> None:
    answer = who_can(observed, privilege, table)
    assert logins(answer) == {"postgres", "pandom_migrator"}
    assert all("SET ROLE pandom_trail" in way.path for way in answer.ways[1:])


@pytest.mark.requirement("A3", "P3")
def test_who_reads_password_hashes(observed: Observed) -> None:
    wide = {"pandom_service"} & {fact.object for fact in observed.facts if fact.kind == "role"}
    answer = who_can(observed, "select", "auth_users.password_hash")
    assert logins(answer) == {"postgres", "pandom_migrator", "pandom_user"} | wide


@pytest.mark.requirement("P2")
def test_who_bypasses_row_security(observed: Observed) -> None:
    found = {one.name for one in every_login(observed) if one.bypasses_row_security}
    assert found == {"postgres", "pandom_migrator", "pandom_user"}


@pytest.mark.requirement("P2")
def test_what_row_security_leaves_is_said(observed: Observed) -> None:
    notes = {
        (way.login, way.role): way.note for way in who_can(observed, "select", "sessions").ways
    }
    # Columns only, as the application and as an administrator.
    assert notes["pandom_app", "pandom_app"] == "rows of policy user_isolation"
    assert notes["pandom_app", "pandom_admin"] == "rows of policy administrator"
    assert notes["pandom_user", "pandom_user"] == "past row security (BYPASSRLS)"


@pytest.mark.requirement("A4")
def test_functions_that_write_the_trail_are_named(observed: Observed) -> None:
    answer = who_can(observed, "insert", "audit_logs")
    calls = {(way.login, way.reason) for way in answer.functions}
    assert ("pandom_app", "calls public.record_event(text, jsonb)") in calls


@pytest.mark.parametrize(
    ("made", "taken_back", "login", "path"),
    [
        (
            "grant pandom_trail to pandom_janitor with inherit true, set false;",
            "revoke pandom_trail from pandom_janitor;",
            "pandom_janitor",
            "inherits pandom_trail",
        ),
        (
            "grant pandom_trail to pandom_janitor with inherit false, set true;",
            "revoke pandom_trail from pandom_janitor;",
            "pandom_janitor",
            "SET ROLE pandom_trail",
        ),
        (
            "grant pandom_trail to pandom_janitor with inherit false, set false, admin true;",
            "revoke pandom_trail from pandom_janitor;",
            "pandom_janitor",
            "grants itself pandom_trail (ADMIN)",
        ),
        (
            "grant pandom_trail to pandom_admin with inherit false, set true;",
            "revoke pandom_trail from pandom_admin;",
            "pandom_app",
            "SET ROLE pandom_admin → SET ROLE pandom_trail",
        ),
        (
            "grant pg_write_all_data to pandom_mailer;",
            "revoke pg_write_all_data from pandom_mailer;",
            "pandom_mailer",
            "inherits pg_write_all_data",
        ),
    ],
)
@pytest.mark.requirement("A7")
def test_a_path_is_found(
    shipped: Shipped, made: str, taken_back: str, login: str, path: str
) -> None:
    shipped.execute(made)
    try:
        ways = who_can(observe(shipped), "update", "audit_logs").ways
        assert path in {way.path for way in ways if way.login == login}
        # The server agrees: the first statement of the path works.
        if path.startswith("SET ROLE"):
            with shipped.server.connect(login, shipped.name) as connection:
                connection.execute("set role pandom_trail")
    finally:
        shipped.execute(taken_back)


@pytest.mark.requirement("A7")
def test_a_membership_without_set_and_inherit_is_no_path(shipped: Shipped) -> None:
    shipped.execute("grant pandom_trail to pandom_janitor with inherit false, set false;")
    try:
        assert "pandom_janitor" not in logins(who_can(observe(shipped), "update", "audit_logs"))
    finally:
        shipped.execute("revoke pandom_trail from pandom_janitor;")


@pytest.mark.requirement("A7")
def test_who_can_become_an_owner(observed: Observed) -> None:
    assert logins(who_can(observed, "become", "pandom_owner")) == {
        "postgres",
        "pandom_migrator",
        "pandom_user",
    }


@pytest.mark.parametrize(
    ("privilege", "target", "message"),
    [
        ("read", "audit_logs", "'read' is no privilege"),
        ("select", "audit_log", "audit_logs"),
        ("become", "nobody", "no role 'nobody'"),
    ],
)
def test_a_wrong_question_is_explained(
    observed: Observed, privilege: str, target: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        who_can(observed, privilege, target)
