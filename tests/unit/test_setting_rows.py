"""Settings that live in rows: what is declared for them."""

from __future__ import annotations

import pytest

from pandom.config.settings import SettingsError, load
from pandom.database.settings import ACCOUNTS, DatabaseSettings, Row, declared, of_outputs, plain
from schema.models import AccountSettings

STACK = DatabaseSettings(True, True, 36, bcrypt_cost=13)


def test_every_column_that_is_a_setting_is_declared() -> None:
    # What the seed remembers is no setting.
    columns = set(AccountSettings.__table__.columns.keys()) - {"only_row", "administrator"}
    assert {row.column for row in declared(STACK) if row.name == ACCOUNTS} == columns


def test_a_stack_decides_some_rows_and_the_models_the_rest() -> None:
    rows, without = declared(STACK), declared(None)
    assert rows[Row(ACCOUNTS, "bcrypt_cost")] == "13"
    assert rows[Row("public.context_key", "enforced")] == "true"
    assert rows[Row("public.trail_retention audit_logs", "months")] == "36"
    assert {row.column for row in rows.keys() - without.keys()} == {
        "bcrypt_cost",
        "enforced",
        "encrypt_password_hash",
        "months",
    }
    assert without[Row(ACCOUNTS, "lock_limit")] == "00:15:00"


@pytest.mark.parametrize(
    ("left", "right"), [("24:00:00", "1 day"), ("30 days", "720:00:00"), ("12:00:00", "43200 s")]
)
def test_durations_are_compared_in_one_unit(left: str, right: str) -> None:
    assert plain(left) == plain(right)


@pytest.mark.parametrize("text", ["12", "true", "", "1 mon", "-01:00:00"])
def test_what_is_no_duration_stays(text: str) -> None:
    assert plain(text) == text


def test_an_earlier_versions_outputs_decide_nothing() -> None:
    assert of_outputs({"signed_context": True}) is None
    outputs = {
        "signed_context": True,
        "encrypt_password_hash": True,
        "audit_retention_months": 36.0,
        "bcrypt_cost": 13.0,
    }
    assert of_outputs(outputs) == STACK


@pytest.mark.parametrize(
    ("profile", "cost", "good"),
    [("ephemeral", 4, True), ("development", 4, False), ("development", 10, True)],
)
def test_a_cheap_hash_is_for_stacks_that_are_thrown_away(
    profile: str, cost: int, good: bool
) -> None:
    raw = {"profile": profile, "bcryptCost": cost}
    if good:
        assert load("x", raw).bcrypt_cost == cost
    else:
        with pytest.raises(SettingsError, match="bcryptCost: expected 10 to 16"):
            load("x", raw)
