"""Drift made by hand is found, named, and healed by the SQL that the finding prints."""

from __future__ import annotations

import os
import random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from pandom.audit.findings import script, scripts
from pandom.audit.run import run
from pandom.database.drift import catalog, remedies
from pandom.database.settings import DatabaseSettings
from tests.audit.conftest import Audit, Shipped, remade_on_failure
from tests.audit.drift import DRIFT, Drift, independent
from tests.fixtures.soak import Progress


@pytest.mark.requirement("B5")
def test_a_fresh_database_has_no_finding(audit: Audit) -> None:
    assert [one.id for one in audit().drift] == []


@pytest.mark.parametrize("drift", [pytest.param(one, id=one.name) for one in DRIFT])
@pytest.mark.requirement("B5")
def test_drift_is_found_named_and_healed(drift: Drift, shipped: Shipped, audit: Audit) -> None:
    # Nothing before: the test that comes first says so, and each leaves nothing behind.
    with remade_on_failure(shipped):
        shipped.execute(drift.sql.replace("{db}", shipped.name))
        found = audit().drift
        assert {one.id for one in found} == drift.named(shipped.name, shipped.opt_in)
        assert drift.severity in {one.severity for one in found}
        assert all(one.why and one.title and one.sql for one in found)
        # What `up` does: nothing that somebody made is dropped; all the rest is taken back.
        safe = [one for one in found if one.safe]
        assert remedies.apply(shipped.superuser, scripts(safe)) == {}
        left = [one for one in found if not one.safe]
        assert bool(left) == bool(drift.up)
        for one in left:
            assert f"`pandom audit heal '{one.id}'`" in one.advice
            assert "make up" not in one.advice
        assert all(one.advice == "`make up` brings it back." for one in safe)
        if left:
            shipped.execute(script(left))
        assert [one.id for one in audit().drift] == []


# What cannot be combined at random: they replace each other's objects or names.
_ALONE = frozenset(
    {
        "another owner of the database",
        "another owner of the schema",
        "a function's privileges reset to NULL, which is PUBLIC's",
        "the database's privileges reset to NULL",
    }
)
_MIXED = [one for one in DRIFT if one.name not in _ALONE]


@pytest.mark.requirement("B5")
@settings(
    max_examples=int(os.environ.get("PANDOM_DRIFT_ROUNDS", "5")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    chosen=strategies.lists(
        strategies.sampled_from(_MIXED), min_size=2, max_size=8, unique_by=lambda one: one.name
    )
)
def test_drift_of_many_kinds_at_once_is_healed(
    chosen: list[Drift], shipped: Shipped, audit: Audit
) -> None:
    # Two classes may touch the same object, so that one of them cannot be made any more.
    with remade_on_failure(shipped):
        made = 0
        for drift in chosen:
            try:
                shipped.execute(drift.sql.replace("{db}", shipped.name))
                made += 1
            except psycopg.Error:
                continue
        assert made
        assert audit().drift
        # What one finding hides (an owner that is wrong) may show in the second round.
        for _ in range(3):
            shipped.execute(script(audit().drift))
            if not audit().drift:
                return
        assert [one.id for one in audit().drift] == []


def _all_found_and_healed(chosen: list[Drift], shipped: Shipped, audit: Audit) -> None:
    for drift in chosen:
        shipped.execute(drift.sql.replace("{db}", shipped.name))
    found = audit().drift
    names = {name for one in chosen for name in one.named(shipped.name, shipped.opt_in)}
    assert {one.id for one in found} == names, [one.name for one in chosen]
    shipped.execute(script(found))
    assert [one.id for one in audit().drift] == [], [one.name for one in chosen]


@pytest.mark.requirement("B5")
def test_each_of_many_that_share_nothing_is_found_and_no_other(
    shipped: Shipped, audit: Audit
) -> None:
    chosen = independent(DRIFT)
    assert len(chosen) > 30
    with remade_on_failure(shipped):
        _all_found_and_healed(chosen, shipped, audit)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.requirement("B5")
def test_random_combinations_are_found_whole_and_healed(
    shipped: Shipped, audit: Audit, pytestconfig: pytest.Config
) -> None:
    progress = Progress.of(pytestconfig, "random drift")
    for number in range(progress.done, int(os.environ.get("PANDOM_DRIFT_ROUNDS", "1000"))):
        # The number is the seed: a round that fails can be run again alone.
        dice = random.Random(number)  # noqa: S311 - no secret
        chosen = independent(dice.sample(DRIFT, dice.randint(2, 40)))
        with remade_on_failure(shipped):
            _all_found_and_healed(chosen, shipped, audit)
        progress.note(number + 1)


@pytest.mark.requirement("B5")
def test_a_new_role_that_other_drift_names_is_healed(shipped: Shipped, audit: Audit) -> None:
    # Dropping what a role owns takes the policies with it that are for this role alone.
    with remade_on_failure(shipped):
        shipped.execute("create role evil login;\ngrant usage on schema public to evil;")
        shipped.execute("create policy evil on public.sessions to evil using (true);")
        shipped.execute("grant select on public.sessions to evil with grant option;")
        shipped.execute("set role evil;\ngrant select on public.sessions to public;\nreset role;")
        shipped.execute(script(audit().drift))
        assert [one.id for one in audit().drift] == []


def test_there_are_enough_classes_of_drift() -> None:
    assert len(DRIFT) >= 45
    assert len({one.name for one in DRIFT}) == len(DRIFT)


def test_what_the_stack_decides_is_compared_where_the_stack_is_known(
    shipped: Shipped, audit: Audit
) -> None:
    """The schema's defaults against a production stack's settings, then healed."""
    stack = DatabaseSettings(True, True, 36, bcrypt_cost=13)
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        found = {
            one.id: one
            for one in run(connection, shipped.opt_in, (), settings=stack).findings
            if one.kind == "setting row"
        }
        assert set(found) == {
            "setting-row-different:public.account_settings:bcrypt_cost",
            "setting-row-different:public.account_settings:encrypt_password_hash",
            "setting-row-different:public.context_key:enforced",
            "setting-row-different:public.trail_retention audit_logs:months",
            "setting-row-different:public.trail_retention security_logs:months",
        }
        assert found["setting-row-different:public.context_key:enforced"].severity == "critical"
        # Encryption takes the key, which no script has.
        unhealed = [one for one in found.values() if one.sql is None]
        assert [one.advice.startswith("`make up` applies") for one in unhealed] == [True]
        shipped.execute(script(found.values()))
        left = run(connection, shipped.opt_in, (), settings=stack).findings
        assert [one.id for one in left if one.kind == "setting row"] == [unhealed[0].id]
    shipped.execute(
        "update public.account_settings set bcrypt_cost = default;\n"
        "update public.context_key set enforced = default;\n"
        "update public.trail_retention set months = default;\n"
    )
    assert not audit().drift


def test_a_login_that_may_not_read_the_rows_says_so(shipped: Shipped) -> None:
    with catalog.connect(shipped.server.dsn("pandom_janitor", shipped.name)) as connection:
        report = run(connection, shipped.opt_in, ())
    assert any(one.startswith("setting rows: ") for one in report.unknown)
    assert not [one for one in report.findings if one.kind == "setting row"]
