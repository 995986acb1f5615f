"""Each control that can be decided passes on the shipped server and has a case that fails."""

from __future__ import annotations

import dataclasses

import pytest

from pandom.audit.controls import CONTROLS, Control
from pandom.database.drift import catalog, declared
from pandom.database.drift.catalog import Observed, Setting
from pandom.database.drift.facts import PUBLIC, Fact, Facts
from tests.audit.conftest import Shipped

BY_NUMBER = {control.number: control for control in CONTROLS}
# What the shipped server does otherwise, on purpose (schema/accepted.toml).
OTHERWISE = {"3.1.15", "5.6", "5.9", "7.4"}

# A setting whose other value makes the control fail.
SETTINGS: dict[str, dict[str, str]] = {
    "1.4.3": {"data_checksums": "off"},
    "2.6": {"unix_socket_directories": "/tmp"},  # noqa: S108
    "3.1.2": {"log_destination": ""},
    "3.1.3": {"logging_collector": "off", "log_destination": "syslog"},
    "3.1.4": {"logging_collector": "on", "log_directory": ""},
    "3.1.5": {"logging_collector": "on", "log_filename": ""},
    "3.1.6": {"log_file_mode": "0644"},
    "3.1.7": {"logging_collector": "on", "log_truncate_on_rotation": "off"},
    "3.1.8": {"logging_collector": "on", "log_rotation_age": "0"},
    "3.1.9": {"logging_collector": "on", "log_rotation_size": "0"},
    "3.1.10": {"log_destination": "syslog", "syslog_facility": ""},
    "3.1.11": {"log_destination": "syslog", "syslog_sequence_numbers": "off"},
    "3.1.12": {"log_destination": "syslog", "syslog_split_messages": "off"},
    "3.1.13": {"log_destination": "syslog", "syslog_ident": ""},
    "3.1.14": {"log_min_messages": "fatal"},
    "3.1.15": {"log_min_error_statement": "panic"},
    "3.1.16": {"debug_print_parse": "on"},
    "3.1.17": {"debug_print_rewritten": "on"},
    "3.1.18": {"debug_print_plan": "on"},
    "3.1.19": {"debug_pretty_print": "off"},
    "3.1.20": {"log_connections": "off"},
    "3.1.21": {"log_disconnections": "off"},
    "3.1.22": {"log_error_verbosity": "verbose"},
    "3.1.23": {"log_hostname": "on"},
    "3.1.24": {"log_line_prefix": "%m "},
    "3.1.25": {"log_statement": "none", "pgaudit.log": "role"},
    "3.1.26": {"log_timezone": "Europe/Berlin"},
    "3.2": {"pgaudit.log": "none"},
    "5.6": {"shared_preload_libraries": ""},
    "5.7": {"authentication_timeout": "600"},
    "5.12": {"password_encryption": "md5"},
    "6.8": {"ssl_min_protocol_version": "TLSv1"},
    "6.10": {"ssl_ciphers": "HIGH:RC4"},
    "7.4": {"archive_mode": "off"},
    "7.5": {"wal_level": "minimal"},
    "8.1": {"external_pid_file": "/var/run/postgresql.pid"},
}

_RULE = "connection rule"
# Facts that make the control fail.
FACTS: dict[str, Facts] = {
    "1.8": {Fact("extension", "file_fdw", "schema"): "public"},
    "1.9": {Fact("owner", "tablespace elsewhere", "owner"): "postgres"},
    "4.3": {Fact("membership", "postgres", "pandom_app"): "set"},
    "4.4": {Fact("role", "temp_admin", "login"): "true"},
    "4.5": {Fact("function", "public.sign_in(text, text, text)", "settings"): ""},
    "4.6": {Fact("privilege", "table public.audit_logs", "pandom_app"): "INSERT, SELECT"},
    "4.7": {Fact("row security", "table public.sessions", "forced"): "false"},
    "4.9": {Fact("membership", "pg_read_server_files", "pandom_app"): "inherit"},
    "4.10": {Fact("privilege", "schema public", PUBLIC): "CREATE"},
    "5.3": {Fact(_RULE, "rule 2", "rule"): "local all all trust"},
    "5.4": {Fact(_RULE, "rule 2", "rule"): "hostssl all all 10.0.0.0 255.0.0.0 md5"},
    "5.5": {Fact("role", "pandom_app", "connection limit"): "-1"},
    "5.8": {Fact(_RULE, "rule 2", "rule"): "host all all 10.0.0.0 255.0.0.0 scram-sha-256"},
    "5.9": {Fact(_RULE, "rule 2", "rule"): "hostssl all all 0.0.0.0 0.0.0.0 scram-sha-256"},
    "6.2": {Fact("role setting", "pandom_app", "post_auth_delay"): "0"},
    "6.5": {Fact("role setting", "pandom_app", "log_min_error_statement"): "panic"},
    "6.6": {Fact("role setting", "pandom_app", "search_path"): "evil"},
    "7.1": {Fact("role", "pandom_app", "replication"): "true"},
    "7.2": {
        Fact(_RULE, "rule 2", "rule"): "hostssl replication all 10.0.0.0 255.0.0.0 scram-sha-256"
    },
}


def altered(observed: Observed, number: str) -> Observed:
    """The observation with the one thing changed that the control guards."""
    settings = dict(observed.settings)
    for name, value in SETTINGS.get(number, {}).items():
        settings[name] = Setting(value, "configuration file", settings[name].context)
    facts = observed.facts | FACTS.get(number, {})
    if number == "6.9":
        del facts[Fact("extension", "pgcrypto", "schema")]
    version = "17.10 (Debian)" if number == "1.5" else observed.version
    return dataclasses.replace(observed, settings=settings, facts=facts, version=version)


@pytest.fixture(scope="module")
def observed(shipped: Shipped) -> Observed:
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        return catalog.read(connection, declared.OWNERS)


def always_not_applicable(control: Control, observed: Observed) -> bool:
    """Whether the control has no failing case, because it says nothing about this product."""
    return control.number not in {*SETTINGS, *FACTS, "1.5", "6.9"}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda one: one.number)
@pytest.mark.requirement("B5")
def test_a_control_holds_and_can_fail(control: Control, observed: Observed) -> None:
    verdict = control.check(observed)
    assert verdict.evidence
    if control.number in OTHERWISE:
        assert verdict.state == "fail"
    else:
        assert verdict.state in ("pass", "not applicable"), verdict
    if always_not_applicable(control, observed):
        assert verdict.state == "not applicable"
    else:
        assert control.check(altered(observed, control.number)).state == "fail"


def test_what_is_not_visible_is_unknown(observed: Observed) -> None:
    blind = dataclasses.replace(observed, settings={})
    for number in ("3.1.3", "3.1.4"):
        assert BY_NUMBER[number].check(blind).state == "unknown"


def test_numbers_are_unique_and_words_complete() -> None:
    assert len(BY_NUMBER) == len(CONTROLS)
    assert set(SETTINGS) | set(FACTS) <= set(BY_NUMBER)
    assert all(control.title and control.reason for control in CONTROLS)


@pytest.mark.requirement("B5")
def test_what_cannot_be_seen_is_unknown(observed: Observed) -> None:
    hidden = {name: one for name, one in observed.settings.items() if "log" not in name}
    hidden.pop("ssl")
    facts = {fact: value for fact, value in observed.facts.items() if fact.kind != _RULE}
    blind = dataclasses.replace(observed, settings=hidden, facts=facts)
    for number in ("3.1.20", "6.8", "5.3", "5.8"):
        assert BY_NUMBER[number].check(blind).state == "unknown"
