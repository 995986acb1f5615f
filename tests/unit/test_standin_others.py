"""Stand-ins: passwords, grants, the language host, versions."""

from __future__ import annotations

import string
from typing import Any

import pytest

from toolchain import pins, standins
from toolchain.standins import language, random_provider
from toolchain.standins.interruption import Cancelled, Interruption, OperationFailed
from toolchain.standins.postgresql_provider import (
    default_privileges,
    grant,
    privileges,
    server,
)

SETTINGS: dict[str, Any] = {
    "length": 16,
    "lower": True,
    "upper": True,
    "numeric": True,
    "special": False,
    "minLower": 0,
    "minUpper": 0,
    "minNumeric": 0,
    "minSpecial": 0,
}
GRANT: dict[str, Any] = {
    "role": "reader",
    "database": "db",
    "schema": None,
    "objectType": "database",
    "objects": None,
    "privileges": ["CONNECT"],
    "withGrantOption": False,
}


def test_versions_are_those_of_the_pinned_sdks() -> None:
    assert pins.plugins() == {
        "docker": standins.DOCKER_VERSION,
        "postgresql": standins.POSTGRESQL_VERSION,
        "random": standins.RANDOM_VERSION,
    }
    assert pins.pulumi() == standins.LANGUAGE_VERSION


# --- passwords --------------------------------------------------------------------


def test_a_password_has_the_least_of_every_class() -> None:
    password = random_provider.draw({**SETTINGS, "minUpper": 15, "minNumeric": 1})
    assert len(password) == 16
    assert sum(letter in string.ascii_uppercase for letter in password) == 15
    assert sum(letter in string.digits for letter in password) == 1


def test_a_password_uses_the_given_special_characters() -> None:
    only = {**SETTINGS, "lower": False, "upper": False, "numeric": False, "special": True}
    assert set(random_provider.draw({**only, "overrideSpecial": "-"})) == {"-"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lower": False, "upper": False, "numeric": False}, "at least one class"),
        ({"minLower": 9, "minUpper": 9}, "add up to 18, more than the length 16"),
    ],
)
def test_an_impossible_password_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(OperationFailed, match=reason):
        random_provider.draw({**SETTINGS, **change})


# --- privileges -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "granted", "revoked", "identifier"),
    [
        (
            {},
            'grant CONNECT on database "db" to "reader"',
            'revoke all privileges on database "db" from "reader"',
            "reader_db_database",
        ),
        (
            {"objectType": "schema", "schema": "public", "role": "public", "privileges": ["USAGE"]},
            'grant USAGE on schema "public" to public',
            'revoke all privileges on schema "public" from public',
            "public_db_public_schema",
        ),
        (
            {"objectType": "table", "schema": "s", "privileges": ["SELECT"]},
            'grant SELECT on all tables in schema "s" to "reader"',
            'revoke all privileges on all tables in schema "s" from "reader"',
            "reader_db_s_table",
        ),
        (
            {
                "objectType": "function",
                "schema": "s",
                "objects": ["f(uuid, text)"],
                "privileges": ["EXECUTE"],
            },
            'grant EXECUTE on function "s"."f"(uuid, text) to "reader"',
            'revoke EXECUTE on function "s"."f"(uuid, text) from "reader"',
            "reader_db_s_function_f(uuid, text)",
        ),
    ],
)
def test_a_grant_revokes_all_and_grants_what_is_listed(
    change: dict[str, Any], granted: str, revoked: str, identifier: str
) -> None:
    state = {**GRANT, **change}
    assert grant.grant_statement(state) == granted
    assert grant.revoke_statement(state) == revoked
    assert grant.identifier_of(state) == identifier


def test_default_privileges_without_a_schema_are_global() -> None:
    state = {**GRANT, "owner": "o", "objectType": "function", "privileges": ["EXECUTE"]}
    assert (
        default_privileges.grant_statement(state)
        == 'alter default privileges for role "o" grant EXECUTE on functions to "reader"'
    )
    assert default_privileges.identifier_of(state) == "reader_db_noschema_o_function"
    assert "in schema" in default_privileges.revoke_statement({**state, "schema": "s"})


def test_all_stands_for_each_privilege_of_the_server() -> None:
    tables = privileges.known("table", 170000)
    assert "MAINTAIN" in tables
    assert privileges.same("table", tables, {"ALL"}, 170000)
    assert not privileges.same("table", tables - {"MAINTAIN"}, {"ALL"}, 170000)
    assert not privileges.same("table", tables, {"SELECT"}, 170000)
    with pytest.raises(OperationFailed, match="SELECT is not an allowed privilege"):
        privileges.require_known("schema", ["SELECT"], 170000)


def test_names_and_texts_are_quoted() -> None:
    assert server.quoted("a", 'b"c') == '"a"."b""c"'
    assert server.literal("it's") == "'it''s'"
    assert server.literal("a\\'b") == "E'a\\\\''b'"


# --- the language host ------------------------------------------------------------


@pytest.mark.parametrize(
    ("stack", "profile", "variable", "refused"),
    [
        ("prod", "production", "", True),
        ("prod", "production", "test", True),
        ("test-x", "production", "", True),
        ("test-x", "production", "test", False),
        ("dev", "development", "", False),
    ],
)
def test_production_is_for_the_official_plugins(
    stack: str, profile: str, variable: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANDOM_STANDIN_PRODUCTION", variable)
    answer = language.refuse_production("p", stack, {"p:profile": profile})
    assert (answer is not None) == refused
    if answer is not None:
        assert stack in answer
        assert "make tools" in answer


# --- interruption -----------------------------------------------------------------


def test_an_interruption_aborts_what_runs_and_stops_what_comes() -> None:
    interruption = Interruption()
    aborted: list[str] = []

    def call() -> None:
        with interruption.aborting(lambda: aborted.append("a")):
            interruption.happen()
            raise OSError("connection closed")

    with pytest.raises(Cancelled):
        call()
    assert aborted == ["a"]
    with pytest.raises(Cancelled):
        interruption.check()
    with pytest.raises(Cancelled):
        interruption.sleep(10)
