"""Configuration: every rule is seen to refuse, and all errors come at once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pandom.config.container_specs import server_settings
from pandom.config.settings import (
    OPT_IN_KEYS,
    PROFILES,
    SECRET_KEYS,
    SettingsError,
    changes,
    defaults,
    load,
    profile_table,
    refuse_change,
)
from pandom.objectstore import MIN_SECRET_LENGTH as MIN_STORE_SECRET_LENGTH
from pandom.runtime.errors import USAGE_ERROR
from pandom.runtime.paths import ROOT
from schema import access

PRODUCTION = {"profile": "production", "protect": True, "backup": "external"}
TEMPLATES = sorted((ROOT / "stacks" / "templates").glob("*.yaml"))


def problems(**raw: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load("dev", raw)
    return caught.value.problems


@pytest.mark.requirement("B1")
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("profile", "staging", "one of development, ephemeral, production"),
        ("postgresVersion", 16, "one of 17, 18"),
        ("postgresVersion", "new", "a whole number"),
        ("postgresPort", "abc", "a whole number"),
        ("postgresPort", 80, "from 1024 to 65535"),
        ("postgresPort", 65536, "from 1024 to 65535"),
        ("postgresPort", True, "a whole number"),
        ("minioPort", 1.5, "a whole number"),
        ("postgresMemoryMb", 64, "from 256"),
        ("minioMemoryMb", 64, "from 512"),
        ("bucket", "Not_A_Bucket", "lower"),
        ("bucket", "ab", "3"),
        ("bucket", "192.168.5.4", "address"),
        ("sslmode", "disable", "verify-full, require"),
        ("adminEmail", "nobody", "e-mail"),
        ("sampleData", "maybe", "true or false"),
        ("serviceLogin", 1, "true or false"),
        ("monitoring", "yes", "true or false"),
        ("metricsPort", 80, "from 1024 to 65535"),
        ("signedContext", "yes", "on, off, profile"),
        ("auditRetentionMonths", 0, "from 1 to 240"),
        ("backup", "tape", "none, external, own-store, s3"),
        ("backupEndpoint", "https://s3.example.com", "without https"),
        ("backupEndpoint", "s3.example.com:70000", "host:port"),
        ("backupEndpoint", "127.0.0.1:9000", "the container itself"),
        ("backupEndpoint", "localhost:9000", "the container itself"),
        ("backupBucket", "No", "3 to 63"),
        ("backupRegion", "EU west", "a region"),
        ("backupCa", "/no/such/file.crt", "No such file"),
        ("backupCa", "README.md", "no certificate in it"),
        ("backupCa", "-----BEGIN CERTIFICATE-----\nMIIB\n", "no certificate in it"),
        ("backupKeepFulls", 0, "from 1 to 1000"),
        ("backupMaxAgeDays", 0, "from 1 to 366"),
        ("backupSecretKey", "short", "8 to 256"),
        ("adminPassword", 12, "secret string"),
        ("appPassword", "short", "12 to 256 characters"),
        ("userPassword", "x" * 257, "12 to 256 characters"),
        ("minioSecretKey", "x" * (MIN_STORE_SECRET_LENGTH - 1), "16 to 256 characters"),
        ("appPassword", "twelve and\nmore", "without control characters"),
        ("userPassword", "twelve and\tmore", "without control characters"),
        ("minioSecretKey", "sixteen and \x00 more", "without control characters"),
        ("minioSecretKey", "sixteen and \u2028 more", "without control characters"),
        ("adminPassword", "Trombone-\x85Lagoon-42", "without control characters"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_what_is_allowed(
    key: str, value: Any, expected: str
) -> None:
    (problem,) = problems(**{key: value})
    assert problem.startswith(f"pandom-stack:{key}: expected ")
    assert expected in problem
    assert "found" in problem


def test_all_errors_come_at_once() -> None:
    found = problems(postgresPort=1, minioPort="x", bucket="B", profile="none", sampelData=True)
    assert len(found) == 5


def test_an_unknown_key_names_the_nearest_one() -> None:
    (problem,) = problems(postgresport=5432)
    assert problem == (
        "pandom-stack:postgresport: unknown key; did you mean pandom-stack:postgresPort?"
    )
    (far,) = problems(colour="red")
    assert far == "pandom-stack:colour: unknown key"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"fsync": "off"}, "fsync is not allowed: the profile decides it"),
        ({"shared_buffers": "1GB"}, "shared_buffers is not allowed: postgresMemoryMb decides it"),
        ({"log_statement": "all"}, "log_statement is not allowed: it decides what stands"),
        ({"ssl": "off"}, "ssl is not allowed: it decides who comes in"),
        ({"row_security": "off"}, "row_security is not allowed: row security and the jobs"),
        ({"shared_preload_libraries": "x"}, "it runs other code in the server"),
        ({"wrk_mem": "1MB"}, "did you mean work_mem?"),
        ({"geqo": "off"}, "geqo is not allowed: only these are known to be harmless"),
        ({"work_mem": "1TB"}, "work_mem: expected 64kB to 262144kB, found '1TB'"),
        ({"work_mem": "32kB"}, "work_mem: expected 64kB to"),
        ({"work_mem": "4MB -c fsync=off"}, "work_mem: expected"),
        ({"checkpoint_timeout": "5"}, "checkpoint_timeout: expected 30000ms to"),
        ({"work_mem": ["4MB"]}, "work_mem: expected 64kB to"),
        ("work_mem=4MB", "expected names with their values"),
    ],
)
def test_settings_of_the_server_that_are_not_allowed_say_why(asked: object, said: str) -> None:
    (problem,) = problems(postgresSettings=asked)
    assert said in problem


@pytest.mark.parametrize("asked", [{"work_mem": "16MB", "random_page_cost": 1.1}, None])
def test_allowed_settings_of_the_server_are_arguments_of_its_container(asked: object) -> None:
    raw = {} if asked is None else {"postgresSettings": asked}
    command = " ".join(server_settings(load("dev", raw)))
    assert ("-c random_page_cost=1.1 -c work_mem=16MB" in command) == (asked is not None)
    # As Pulumi hands them over.
    written = {} if asked is None else {"postgresSettings": json.dumps(asked, sort_keys=True)}
    assert server_settings(load("dev", written)) == server_settings(load("dev", raw))


STORE = {
    "backup": "s3",
    "backupEndpoint": "s3.example.com:443",
    "backupBucket": "backups",
    "backupAccessKey": {"secure": "…"},
    "backupSecretKey": {"secure": "…"},
}


@pytest.mark.requirement("D5")
@pytest.mark.parametrize("key", [key for key in STORE if key != "backup"])
def test_a_store_elsewhere_needs_all_that_says_which_and_as_whom(key: str) -> None:
    assert load("dev", STORE).backup.archives
    assert load("prod", {**PRODUCTION, **STORE}).backup.kind == "s3"
    (problem,) = problems(**{name: value for name, value in STORE.items() if name != key})
    assert problem.startswith(f"pandom-stack:{key}: expected a value with backup: s3")
    load("dev", {key: STORE[key]})  # of use with s3 only, and no mistake before


def test_equal_ports_are_refused() -> None:
    (problem,) = problems(postgresPort=9000)
    assert "another port than postgresPort, found 9000" in problem
    (problem,) = problems(monitoring=True, metricsPort=9000)
    assert problem.startswith("pandom-stack:metricsPort: expected another port than minioPort")
    assert load("dev", {"metricsPort": 9000}).ports == {"postgres": 5432, "minio": 9000}
    assert load("dev", {"monitoring": True}).ports["metrics"] == 9187


def test_settings_with_a_login_are_those_of_the_declaration() -> None:
    assert set(OPT_IN_KEYS) == access.OPT_IN
    assert load("dev", {"monitoring": True, "serviceLogin": True}).opt_in == access.OPT_IN


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"protect": False}, "protect"),
        ({"backup": "none"}, "backup"),
        ({"backup": "own-store"}, "backup"),
        ({"sslmode": "require"}, "sslmode"),
        ({"sampleData": True}, "sampleData"),
        ({"signedContext": "off"}, "signedContext"),
    ],
)
def test_production_refuses_what_would_lose_or_expose_data(
    change: dict[str, Any], key: str
) -> None:
    load("prod", PRODUCTION)
    (problem,) = problems(**{**PRODUCTION, **change})
    assert problem.startswith(f"pandom-stack:{key}: ")
    assert "production" in problem


@pytest.mark.requirement("S1")
@pytest.mark.parametrize(
    "password", ["admin123", "password1234", "aaaaaaaaaaaaaaaa", "admin@pandom.com!!", "x" * 80]
)
def test_a_weak_administrator_password_is_refused_outside_the_ephemeral_profile(
    password: str,
) -> None:
    (problem,) = problems(adminPassword=password)
    assert problem.startswith("pandom-stack:adminPassword: expected ")
    assert password not in problem  # a secret is not shown, also when it is a bad one
    assert load("ci", {"profile": "ephemeral", "adminPassword": password}).overrides


@pytest.mark.parametrize("name", SECRET_KEYS)
@pytest.mark.parametrize("bad", ["\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\u2029", "\ud800"])
def test_no_secret_has_what_no_client_can_be_handed(name: str, bad: str) -> None:
    secret = f"Trombone-{bad}Lagoon-42"
    (problem,) = problems(**{name: secret})
    assert "without control characters" in problem
    assert secret not in problem
    assert load("dev", {name: "Trombone 'Lagoon' \"42\" $§"}).overrides[name]


def test_every_key_says_what_a_later_change_does() -> None:
    assert changes().keys() == defaults().keys()
    assert all(changes().values())


def test_a_bucket_that_is_renamed_is_refused_and_one_that_is_not_passes() -> None:
    refuse_change(load("dev", {"bucket": "other"}), {}, upgrading=False)
    refuse_change(load("dev", {"bucket": "other"}), {"PANDOM_BUCKET": "other"}, upgrading=False)
    with pytest.raises(SettingsError, match=r"expected pandom-media.*found 'other'") as caught:
        refuse_change(
            load("dev", {"bucket": "other"}), {"PANDOM_BUCKET": "pandom-media"}, upgrading=False
        )
    assert caught.value.exit_code == USAGE_ERROR


@pytest.mark.parametrize(
    ("applied", "wanted", "passes"),
    [
        ({}, 18, True),
        ({"PANDOM_DB_VERSION": "18"}, 18, True),
        ({"PANDOM_BUCKET": "pandom-media"}, 17, True),
        ({"PANDOM_BUCKET": "pandom-media"}, 18, False),  # nobody was told before there was a choice
        ({"PANDOM_BUCKET": "pandom-media", "PANDOM_DB_VERSION": "18"}, 17, False),
    ],
)
def test_another_version_of_postgresql_is_refused_unless_the_data_came_along(
    applied: dict[str, str], wanted: int, passes: bool
) -> None:
    settings = load("dev", {"postgresVersion": wanted})
    refuse_change(settings, applied, upgrading=True)
    if passes:
        refuse_change(settings, applied, upgrading=False)
        return
    with pytest.raises(SettingsError, match=r"pandom upgrade --stack dev.*brings them along"):
        refuse_change(settings, applied, upgrading=False)


def test_a_strong_password_and_an_encrypted_one_pass() -> None:
    assert load("dev", {"adminPassword": "Trombone-Lagoon-42"}).overrides["adminPassword"]
    encrypted = load("dev", {"adminPassword": {"secure": "v1:x:y"}})
    assert encrypted.overrides["adminPassword"] is None


@pytest.mark.parametrize("name", ["Dev", "1dev", "", "a" * 31, "dev_1", "../x"])
def test_a_stack_name_that_docker_or_a_path_would_mind_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="stack name"):
        load(name, {})


def test_it_is_a_users_mistake() -> None:
    with pytest.raises(SettingsError) as caught:
        load("dev", {"profile": "x"})
    assert caught.value.exit_code == USAGE_ERROR
    assert "nothing was touched" in str(caught.value)


def test_pulumi_yaml_declares_the_same_keys_and_defaults() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert {key: entry["default"] for key, entry in declared.items()} == defaults()
    assert all(len(entry["description"]) > 20 for entry in declared.values())
    types = {"string": str, "integer": int, "boolean": bool, "object": dict}
    for key, entry in declared.items():
        assert type(entry["default"]) is types[entry["type"]], key


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_every_template_is_valid(template: Path) -> None:
    settings = load(template.stem, yaml.safe_load(template.read_text())["config"])
    expected = {"dev": "development", "ci": "ephemeral", "prod": "production"}[template.stem]
    assert settings.profile_name == expected


def test_templates_hold_no_secret() -> None:
    for template in TEMPLATES:
        assert not [key for key in SECRET_KEYS if key in template.read_text()]


def test_strings_from_pulumi_and_types_from_yaml_read_the_same() -> None:
    typed = load("dev", {"postgresPort": 5433, "sampleData": True})
    as_text = load("dev", {"pandom-stack:postgresPort": "5433", "pandom-stack:sampleData": "true"})
    assert typed == as_text


def test_the_profile_table_names_every_difference() -> None:
    table = profile_table()
    assert table.count("\n") == 1 + len(vars(PROFILES["production"]))
    assert "| durable | yes | no | yes |" in table


@given(
    st.dictionaries(
        st.sampled_from(sorted(defaults())), st.none() | st.text("ab1-.@ ") | st.integers()
    )
)
def test_any_input_gives_settings_or_a_message(raw: dict[str, Any]) -> None:
    with contextlib.suppress(SettingsError):
        settings = load("dev", raw)
        assert settings.postgres_port != settings.minio_port
