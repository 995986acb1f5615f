"""Drills: what is compared, what is told, and what is left; without a server."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from pandom.audit import evidence
from pandom.backups import drill, inside, scheduled, scratch
from pandom.backups.drill import Moment, Result
from pandom.backups.repository import Backup, Repository
from pandom.config.container_specs import container_specs
from pandom.config.settings import load
from pandom.database.drift.catalog import Archiving
from pandom.operations.records import Record, Run, Store, now
from pandom.operations.standing import Times, of
from pandom.operations.tasks import INTERRUPTED, TASKS
from pandom.runtime.errors import Failure
from tests.unit.test_backup import control

pytestmark = pytest.mark.requirement("D5")

ROWS = {"auth_users": 3, "audit_logs": 7}
HEADS = {"audit_logs": (2, "ab"), "security_logs": (None, None)}
NOW = datetime.now(UTC)


def segment(number: int) -> str:
    return f"00000001{0:08X}{number:08X}"


NEWEST = Backup("L", "full", NOW, NOW, 1, 1, segment(3), segment(3), None, False)
SOURCE = Moment("0/5000028", segment(5), "10:10:", 7, ROWS, HEADS)


class Told(Repository):
    """A repository that has what a test says."""

    there: tuple[int, ...] = (3, 4, 5)

    def ask(self, arguments: Any, show: Any, *, makes: bool) -> tuple[int, str, str]:
        return 0, "", ""

    def backups(self, system: int | None = None) -> list[Backup]:
        return [NEWEST] if system == SOURCE.system else []

    def segments(self, since: Backup) -> dict[str, datetime]:
        return dict.fromkeys(map(segment, self.there), NOW)


def compared(monkeypatch: pytest.MonkeyPatch, rows: Any, heads: Any, between: list[int]) -> Result:
    monkeypatch.setattr(drill, "committed_between", lambda copy, at: between)
    monkeypatch.setattr(drill, "holds", lambda copy: (rows, heads))
    result = Result()
    drill.compare(result, SOURCE, cast(Any, None))
    return result


def test_a_copy_is_compared_number_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    same = compared(monkeypatch, ROWS, HEADS, [])
    assert (same.differences, same.exact) == ([], True)
    fewer = compared(monkeypatch, {"auth_users": 2}, HEADS, [])
    assert fewer.differences == [
        "auth_users has 2 rows, 3 in the served database",
        "audit_logs has no rows, 7 in the served database",
    ]
    other = compared(monkeypatch, ROWS, {**HEADS, "audit_logs": (2, "cd")}, [])
    assert "newest block of audit_logs" in other.differences[0]
    # Who was writing at that very moment may be in the one and not in the other.
    busy = compared(monkeypatch, {"auth_users": 4}, HEADS, [11])
    assert (busy.differences, busy.exact) == ([], False)


@pytest.mark.parametrize(
    ("snapshot", "quiet"), [("10:10:", True), ("10:12:", False), ("10:12:10,11", False)]
)
def test_a_quiet_moment_is_one_in_which_nobody_writes(snapshot: str, quiet: bool) -> None:
    assert Moment("", "", snapshot, 1, {}, {}).is_quiet == quiet


def test_a_hole_in_the_log_is_named_before_anything_is_restored() -> None:
    repository = Told("dev", "s3")
    drill._refuse_gap(repository, NEWEST, SOURCE)
    for there, missing in (((3, 5), 4), ((3, 4), 5), ((4, 5), 3)):
        repository = Told("dev", "s3")
        object.__setattr__(repository, "there", there)
        with pytest.raises(Failure, match=rf"missing in the store: {segment(missing)}\..*\nNext"):
            drill._refuse_gap(repository, NEWEST, SOURCE)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "ERROR: [042]: unable to get 000000010000000000000005:\n"
            "   [CryptoError] on retry: unable to flush\nFATAL: recovery ended before configured "
            "recovery target was reached",
            "is damaged in the store",
        ),
        (
            "LOG:  starting\nFATAL:  recovery ended before configured recovery target was reached",
            "ends before the place that was archived",
        ),
        ("pandom-backup: s3:443: refused", "The store does not answer"),
        ("ERROR: <Code>AccessDenied</Code>", "The store denies"),
    ],
)
def test_why_a_copy_does_not_start_has_its_cause(log: str, said: str) -> None:
    error = drill._explained(Told("dev", "s3"), NEWEST, scratch.Unreached("", log))
    assert said in str(error)
    assert "\nNext: " in str(error)


def test_without_room_nothing_begins(tmp_path: Path) -> None:
    scratch.refuse_full(1, tmp_path / "drill")
    with pytest.raises(Failure, match=r"MB free, .* Nothing was\n?.*restored"):
        scratch.refuse_full(1 << 60, tmp_path / "drill")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_drill_left_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "drill"
    (place / "data" / "base").mkdir(parents=True)
    (place / "data" / "PG_VERSION").write_text("17")
    with scratch.folder(place) as data:
        assert list(data.iterdir()) == []
        assert data.parent.stat().st_mode & 0o777 == 0o700
        (data / "file").write_text("x")
    assert not place.exists()


def test_a_failed_drill_is_noted_and_kept_whatever_else_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[str] = []
    noted: list[tuple[str, Any]] = []

    def fail(repository: Repository, result: Result) -> None:
        result.backup = "L"
        raise Failure("The store is away.\nNext: wait")

    def no_store(user: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(drill, "carry_out", fail)
    monkeypatch.setattr(inside, "repository", lambda: Told("dev", "s3"))
    monkeypatch.setattr(inside, "note", lambda event, details: noted.append((event, details)))
    monkeypatch.setattr(drill, "store_of_container", no_store)
    with pytest.raises(Failure, match="The store is away"):
        drill.run()
    assert noted == [
        ("drill_failed", {"backup": "L", "cause": "The store is away. Next: wait"}),
    ]
    monkeypatch.setattr(drill, "store_of_container", lambda user: None)
    monkeypatch.setattr(evidence, "keep", lambda writer, prefix, text, now: kept.append(text))
    with pytest.raises(Failure):
        drill.run()
    assert json.loads(kept[0])["drill"] == "failed"


@pytest.mark.parametrize(
    ("age", "failed", "days", "state", "words"),
    [
        (7, False, 8, "pass", "restored within 8"),
        (9, False, 8, "fail", "none was restored within 8 days"),
        (None, False, 8, "fail", "none was restored within 8 days"),
        (1, True, 8, "fail", "the last drill could not restore one"),
        (99, True, None, "pass", "not older than 8 days"),
    ],
)
def test_an_overdue_drill_is_a_finding(
    age: int | None, failed: bool, days: int | None, state: str, words: str
) -> None:
    passed = None if age is None else timedelta(age)
    verdict = control("on", Archiving(None, timedelta(1), passed, failed), 8, days)
    assert (verdict.state, words in verdict.evidence) == (state, True)


def test_a_drill_that_is_off_is_not_asked_for() -> None:
    def told(**given: Any) -> str:
        specs = container_specs(load("dev", {"backup": "own-store", **given}))
        return specs["operations"].environment["PANDOM_DRILL_MAX_AGE_DAYS"]

    assert told() == "8"
    assert told(drillMaxAgeDays=20) == "20"
    assert told(schedules={"drill": "off"}) == "0"
    assert told(backup="external") == "0"


def test_a_backup_waits_for_its_first_time_and_a_missed_one_comes_at_once(
    tmp_path: Path,
) -> None:
    store, task = Store(tmp_path), TASKS["backup"]
    assert not of(task, Record("backup"), None, now()).words.startswith("overdue")
    assert of(task, Record("backup"), None, now()).well
    assert (now() - store.known_since("backup")).total_seconds() < 5
    # Known since three days, and never run: the host is off at night.
    old = (now() - timedelta(days=3)).timestamp()
    os.utime(store.path("backup"), (old, old))
    assert now() - store.known_since("backup") > timedelta(days=2)


def test_one_that_goes_on_after_an_interruption_is_well() -> None:
    ended = Run("1", now(), now(), INTERRUPTED, None, 1.0, "the container ends")
    planned = Times("30 4 * * sun", now(), now() + timedelta(days=9), now())
    going = Record("drill", Run("2", now()), ended)
    assert of(TASKS["drill"], going, planned, now()).well
    assert not of(TASKS["drill"], Record("drill", None, ended), planned, now()).well


def test_progress_is_told_in_quarters() -> None:
    told: list[str] = []
    show = scheduled.in_steps(told.append)
    for share in range(101):
        show(f"DETAIL: restore file x (1B, {share}.00%) checksum y")
    assert told == ["25 %", "50 %", "75 %", "100 %"]
