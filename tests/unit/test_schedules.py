"""Schedules in a stack's file: what is taken, what is refused, and when they come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pandom.config.container_specs import container_specs
from pandom.config.settings import PROFILES, SettingsError, load, planned
from pandom.operations import schedule, standing, tasks

pytestmark = pytest.mark.requirement("D2")


OF_BACKUPS = {name for name, task in tasks.TASKS.items() if task.of_backups}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "after", "comes"),
    [
        ("*/5 * * * *", "2026-11-26 12:00:00", "2026-11-26 12:05"),
        ("*/5 * * * *", "2026-11-26 12:04:59", "2026-11-26 12:05"),
        ("30 2 * * sun", "2026-11-26 12:00", "2026-11-29 02:30"),
        ("0 3 1,15 * *", "2026-11-26 12:00", "2026-12-01 03:00"),
        ("0 3 * jan-mar/2 *", "2026-11-26 12:00", "2027-01-01 03:00"),
        ("0 0 29 2 *", "2026-11-26 12:00", "2028-02-29 00:00"),
        ("0 9-17/4 * * mon-fri", "2026-11-27 17:30", "2026-11-30 09:00"),
    ],
)
def test_a_schedule_comes_when_it_says(text: str, after: str, comes: str) -> None:
    assert schedule.problem(text) is None
    assert schedule.following(text, at(after)) == at(comes)


REFUSED = {
    "": "five fields",
    "hourly": "five fields",
    "@daily": "five fields",
    "0 3 * *": "five fields",
    "0 0 3 * * *": "five fields",
    "61 * * * *": "minute, hour, day, month",
    "* 24 * * *": "minute, hour, day, month",
    "0 3 0 * *": "minute, hour, day, month",
    "0 3 * 13 *": "minute, hour, day, month",
    "*/0 * * * *": "minute, hour, day, month",
    "5/10 * * * *": "minute, hour, day, month",
    "30-10 * * * *": "minute, hour, day, month",
    "0 3 last * *": "minute, hour, day, month",
    "0 3 * * 0": "days of the week by name",
    "0 3 * * mon-6": "days of the week by name",
    "0 3 1 * mon": "not both",
    "0 0 31 2 *": "a time that comes",
    "0 3 * * monday": "minute, hour, day, month",
    "; rm -rf / * * *": "minute, hour, day, month",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load("dev", {"schedules": {"seal": text}})
    (problem,) = refused.value.problems
    assert problem.startswith("pandom-stack:schedules: seal: expected ")
    assert REFUSED[text] in problem
    assert f"found {text!r}" in problem
    assert "nothing was touched" in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    given = {"seal": "never", "audti": "0 * * * *", "watch": "0 * * * *", "expiry": "0 3 * * *"}
    with pytest.raises(SettingsError) as refused:
        load("dev", {"schedules": given})
    (problem,) = refused.value.problems
    assert "seal: expected five fields" in problem
    assert "audti is no task; did you mean audit? there are partitions, expiry" in problem
    assert "watch is no task of the schedule: it runs all the time" in problem
    assert "expiry" not in problem.replace("partitions, expiry", "")


@pytest.mark.parametrize("value", [["0 3 * * *"], None, {"a": 1}])
def test_a_task_whose_schedule_is_no_text_is_named(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"schedules: seal: expected .*, found"):
        load("dev", {"schedules": {"seal": value}})


@pytest.mark.parametrize("value", ["daily", ["0 3 * * *"], 5])
def test_another_type_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="schedules: expected names with their values"):
        load("dev", {"schedules": value})


PRODUCTION = {"profile": "production", "protect": True, "backup": "external"}


def test_production_runs_what_must_run() -> None:
    for off in ("off", False):
        with pytest.raises(SettingsError, match=r"audit: expected a schedule .* production"):
            load("prod", {**PRODUCTION, "schedules": {"audit": off}})
        for profile in ({}, PRODUCTION):
            with pytest.raises(SettingsError, match="seal: expected a schedule"):
                load("prod", {**profile, "schedules": {"seal": off}})
    assert load("prod", {**PRODUCTION, "schedules": {"expiry": "off"}}).off == {
        "expiry",
        *OF_BACKUPS,
    }


def test_backups_are_made_where_this_program_makes_them() -> None:
    assert load("dev", {}).off == OF_BACKUPS
    assert not load("dev", {"backup": "own-store"}).off
    # Also with every task of them off: `pandom backup` works there.
    off = dict.fromkeys(OF_BACKUPS, "off")
    assert "keys-backup" in mounted(backup="own-store", schedules=off)
    assert "keys-backup" not in mounted()
    elsewhere = {
        **PRODUCTION,
        "backup": "s3",
        "backupEndpoint": "s3.example.com:443",
        "backupBucket": "backups",
        "backupAccessKey": "somebody",
        "backupSecretKey": "something-long",
    }
    with pytest.raises(SettingsError, match=r"backup-full: expected a schedule .* production"):
        load("prod", {**elsewhere, "schedules": {"backup-full": "off"}})
    with pytest.raises(SettingsError, match=r"backup: expected own-store or s3 as backup"):
        load("dev", {"schedules": {"backup": "0 1 * * *"}})


@pytest.mark.parametrize(
    "text",
    [
        "0 * * * *",
        "*/5 0-22 * * *",
        "*/5 * * * mon-sat",
        "* * 29 2 *",
        "*/5 * 1-30 * *",
        "*/5 * * 1-11 *",
        "*/5 * 2-31 * *",
    ],
)
def test_sealing_comes_as_often_as_health_asks_for(text: str) -> None:
    with pytest.raises(SettingsError, match="seal: expected at least every 20 minutes"):
        load("dev", {"schedules": {"seal": text}})
    assert load("dev", {"schedules": {"seal": "*/20 * * * *"}}).schedules["seal"] == "*/20 * * * *"


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("*/5 * * * *", 5 / 1440),
        ("0 1,13 * * mon-fri", 2.5),
        ("30 4 * * sun", 7),
        ("59 23 31 * *", 61),
        ("0 0 29 2 *", 1461),
    ],
)
def test_the_longest_gap_is_that_of_all_years(text: str, days: float) -> None:
    assert schedule.longest_gap_s(text) == days * 86400


@pytest.mark.parametrize(
    ("profile", "values", "said"),
    [
        ("development", {"schedules": {"drill": "0 0 29 2 *"}}, "drill: .* every 7 days"),
        (
            "development",
            {"drillMaxAgeDays": 5},
            "drill: .* 4 days with drillMaxAgeDays",
        ),
        (
            "development",
            {"schedules": {"backup": "off", "backup-full": "0 0 1 * *"}},
            "backup or backup-full: .* 7 days with backupMaxAgeDays, found 31",
        ),
        (
            "production",
            {"schedules": {"audit": "0 0 * * sun"}},
            "audit: .* profile production",
        ),
    ],
)
def test_what_must_be_recent_comes_often_enough(
    profile: str, values: dict[str, Any], said: str
) -> None:
    values = {"profile": profile, "backup": "own-store", **values}
    with pytest.raises(SettingsError, match=said):
        load("dev", values)
    often = {"backup": "0 1 * * *", "drill": "0 1 * * mon,thu", "audit": "0 0 * * *"}
    if profile != "production":
        load("dev", {**values, "schedules": often})


def test_off_is_off_in_either_yaml() -> None:
    """PyYAML makes false of it without quotes, Pulumi does not."""
    for off in ("off", "OFF", False, "false"):
        settings = load("dev", {"schedules": {"audit": off}})
        assert settings.off - OF_BACKUPS == {"audit"}
    assert load("dev", {"schedules": '{"audit": "off"}'}) == load(
        "dev", {"schedules": {"audit": "off"}}
    )


def test_every_default_can_be_read() -> None:
    for profile in PROFILES.values():
        for archives in (False, True):
            for text in planned({}, profile, archives).values():
                assert schedule.is_off(text) or schedule.problem(text) is None


def mounted(**given: Any) -> dict[str, str]:
    spec = container_specs(load("dev", given))["operations"]
    return {mount.volume: mount.path for mount in spec.mounts}


def test_the_container_holds_the_secrets_of_its_tasks_only() -> None:
    assert mounted() == {
        "records": "/var/lib/pandom",
        "keys-janitor": "/run/pandom/keys/janitor",
        "keys-auditor": "/run/pandom/keys/auditor",
    }
    assert "keys-auditor" not in mounted(profile="ephemeral")
    assert "keys-auditor" not in mounted(schedules={"audit": "off"})
    assert "keys-auditor" in mounted(profile="ephemeral", schedules={"audit": "0 * * * *"})


def test_memory_is_no_more_than_that_of_the_two_containers_before() -> None:
    every = {name: load("dev", {"profile": name}) for name in ("development", "ephemeral")}
    found = {name: container_specs(one)["operations"].memory_mb for name, one in every.items()}
    assert found == {"development": 384, "ephemeral": 128}


def test_two_missed_times_are_late() -> None:
    assert standing.late("0 * * * *", at("2026-11-26 12:00:10")) == at("2026-11-26 14:01")
    assert standing.late("0 3 * * *", at("2026-11-26 03:00")) == at("2026-11-28 03:01")


def test_every_task_names_a_function_that_there_is() -> None:
    import importlib

    for task in tasks.TASKS.values():
        module, _, function = task.work.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert bool(task.limit_s) != task.is_service
