"""Settings that somebody leaves on the database or on a login bend no session of ours."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pandom.audit.trail import verify
from pandom.database import health, migrate
from pandom.database.connect import Target, connect
from pandom.database.drift import catalog, declared, recorded
from tests.audit.conftest import Shipped

LOGINS = ("pandom_auditor", "pandom_user", "pandom_migrator")
HOSTILE = {
    "datestyle": "'German, DMY'",
    "intervalstyle": "'sql_standard'",
    "timezone": "'Pacific/Kiritimati'",
    "client_encoding": "'SQL_ASCII'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "search_path": "'information_schema, pg_temp'",
    "row_security": "off",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "'serializable'",
    "default_tablespace": "'nowhere'",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "transaction_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "client_min_messages": "'error'",
}


@pytest.fixture(params=["database", "login in the database"])
def hostile(shipped: Shipped, request: pytest.FixtureRequest) -> Iterator[Shipped]:
    """The shipped database with all of them at once, on the database or on the logins there."""
    whole = f"database {shipped.name}"
    who = [whole]
    if request.param != "database":
        who = [f"role {login} in {whole}" for login in LOGINS]
    for one in who:
        for name, value in HOSTILE.items():
            shipped.superuser.execute(f"alter {one} set {name} to {value}".encode())
    try:
        yield shipped
    finally:
        for one in who:
            shipped.superuser.execute(f"alter {one} reset all".encode())


def dsn(shipped: Shipped, login: str = "pandom_auditor") -> str:
    return shipped.server.dsn(login, shipped.name)


def facts(shipped: Shipped) -> catalog.Observed:
    with catalog.connect(dsn(shipped)) as connection:
        return catalog.read(connection, declared.OWNERS)


@pytest.fixture(scope="module")
def before(shipped: Shipped) -> catalog.Observed:
    return facts(shipped)


def target(shipped: Shipped) -> Target:
    return Target(shipped.server.host, shipped.server.port, shipped.name, shipped.server.ca)


@pytest.mark.requirement("B5")
def test_the_audit_answers_as_before(before: catalog.Observed, hostile: Shipped) -> None:
    # That the settings bite where nothing is pinned: nothing at all can be read.
    with (
        pytest.raises((psycopg.Error, NotImplementedError)),
        psycopg.connect(dsn(hostile)) as naive,
    ):
        naive.execute("select pg_sleep(0.1), now()").fetchone()
    after = facts(hostile)
    changed = {
        fact
        for fact in before.facts.keys() | after.facts.keys()
        if before.facts.get(fact) != after.facts.get(fact) and "setting" not in fact.kind
    }
    assert changed == set()
    assert after.unknown == before.unknown
    of_server = recorded.settings(before)
    assert recorded.settings(after, of_server) == of_server
    with catalog.connect(dsn(hostile)) as connection:
        assert verify(connection).problems == ()


@pytest.mark.requirement("D2")
def test_health_and_the_jobs_answer_as_before(hostile: Shipped) -> None:
    passwords = hostile.server.passwords
    with connect(target(hostile), "pandom_user", passwords["pandom_user"]) as connection:
        found = {one.name: one.ok for one in health.check(connection).findings}
    assert found["query"]
    assert found["tables"]
    assert found["head"]
    runner = migrate.Runner(target(hostile), passwords["pandom_migrator"], hostile.opt_in)
    assert migrate.upgrade(runner) == (migrate.head(), migrate.head())
    assert migrate.finish(runner) == 0


@pytest.mark.requirement("B5")
def test_a_setting_of_the_server_is_seen_under_the_pin(shipped: Shipped) -> None:
    found = facts(shipped).settings
    assert (found["TimeZone"].value, found["TimeZone"].source) == ("UTC", "configuration file")
    assert found["array_nulls"].source == "default"
