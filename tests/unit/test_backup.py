"""Backups: what pgBackRest is told, what it says, and what it does not say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from pandom.audit.controls import CONTROLS, NOT_ARCHIVED, Verdict
from pandom.backups.repository import AnotherCluster, Gap, damaged, gaps
from pandom.backups.repository import Backup as Made
from pandom.config.backup import SYSTEM_CA, configuration, location, server_settings
from pandom.config.container_specs import container_specs
from pandom.config.settings import Backup, load
from pandom.database.drift.catalog import Archiving, Observed, Setting
from pandom.host import backup
from pandom.host.repository import Repository
from pandom.runtime.errors import FAILED, USAGE_ERROR
from schema.storage import BACKUP, backup_bucket, buckets, policy, users

pytestmark = pytest.mark.requirement("D5")

NOW = datetime.now(UTC)
ELSEWHERE = Backup("s3", "s3.example.com:8443", "backups", "eu-west-1", "", 3, 14, 8, 9)
OWN = Backup("own-store", "", "", "us-east-1", "", 3, 14, 8, 9)


def name(number: int, timeline: int = 1) -> str:
    return f"{timeline:08X}{number // 256:08X}{number % 256:08X}"


@pytest.mark.parametrize(
    ("there", "since", "until", "missing"),
    [
        (range(3, 9), 3, None, []),
        (range(1, 9), 3, 8, []),
        ([3, 4, 6, 7], 3, None, [(5, 5)]),
        ([3, 7, 8, 10], 3, 10, [(4, 6), (9, 9)]),
        ([4, 5], 3, None, [(3, 3)]),
        ([3, 4], 3, 6, [(5, 6)]),
        ([], 3, 4, [(3, 4)]),
        (range(254, 259), 254, 258, []),
        ([255, 257], 255, None, [(256, 256)]),
        # What is older than the oldest backup may go.
        ([1, 5, 6], 5, None, []),
    ],
)
def test_a_hole_in_the_log_is_found_with_its_names(
    there: Any, since: int, until: int | None, missing: list[tuple[int, int]]
) -> None:
    found = gaps(map(name, there), name(since), name(until) if until else "")
    assert found == [Gap(name(first), name(last)) for first, last in missing]


def test_each_timeline_is_looked_at_by_itself() -> None:
    first = [name(number) for number in (3, 4, 5)]
    second = [name(number, 2) for number in (5, 6, 8)]
    assert gaps([*first, *second], name(3), name(8, 2)) == [Gap(name(7, 2), name(7, 2))]
    assert gaps([*first, *second], name(6, 2)) == [Gap(name(7, 2), name(7, 2))]


def test_the_configuration_names_the_store_and_the_stacks_own_folder() -> None:
    text = configuration("mine", 17, ELSEWHERE, "media", "key", "access", "secret")
    for line in (
        "repo1-path=/mine",
        "repo1-s3-endpoint=s3.example.com",
        "repo1-storage-port=8443",
        "repo1-s3-bucket=backups",
        "repo1-s3-key=access",
        "repo1-s3-key-secret=secret",
        "repo1-cipher-type=aes-256-cbc",
        "repo1-cipher-pass=key",
        "repo1-retention-full=3",
        f"repo1-storage-ca-file={SYSTEM_CA}",
    ):
        assert line in text.splitlines()
    own = location(OWN, "media")
    assert (own.host, own.bucket) == ("minio", backup_bucket("media"))
    assert location(replace(ELSEWHERE, ca="PEM"), "media").ca.endswith("backup-ca.crt")


def test_only_a_stack_that_makes_backups_archives() -> None:
    for kind, expected in (("none", False), ("external", False), ("own-store", True)):
        command = container_specs(load("dev", {"backup": kind}))["postgres"].command
        assert ("archive_mode=on" in command) == expected
        assert bool(server_settings(load("dev", {"backup": kind}).backup)) == expected


def test_the_stores_user_reaches_the_bucket_for_backups_only() -> None:
    assert BACKUP not in users()
    assert backup_bucket("media") not in buckets("media")
    allowed = policy(BACKUP, "media")["Statement"]
    places = {place for statement in allowed for place in statement["Resource"]}
    assert places == {"arn:aws:s3:::media-backup", "arn:aws:s3:::media-backup/*"}
    for other in users():
        assert "media-backup" not in str(policy(other, "media"))


@pytest.mark.parametrize(
    ("code", "said", "words", "exit_code"),
    [
        (201, "pandom-backup: s3:443: refused", "does not answer: s3:443: refused", FAILED),
        (202, "pandom-backup: s3:443: self-signed", "not vouched for: s3:443: self", USAGE_ERROR),
        (39, "<Code>SignatureDoesNotMatch</Code>", "does not know backupAccess", USAGE_ERROR),
        (39, "<Code>InvalidAccessKeyId</Code>", "does not know backupAccess", USAGE_ERROR),
        (39, "<Code>NoSuchBucket</Code>", "no such bucket", USAGE_ERROR),
        (39, "<Code>AccessDenied</Code>", "denies", FAILED),
        (39, "<Code>XMinioStorageFull</Code>", "is full", FAILED),
        (29, "FormatError: key/value found outside of section", "does not open", USAGE_ERROR),
        (28, "files exist but do not match the database", "another database", USAGE_ERROR),
        (50, "ERROR: [050]: unable to acquire lock on file", "is running", USAGE_ERROR),
        (82, "WAL segment was not archived before the 60000ms", "in time", FAILED),
        (49, "ERROR: [049]: unable to connect to 's3:443'", "stopped answering", FAILED),
        (55, "P00  ERROR: [055]: something\x00 new", "pgBackRest ended with 55: [055]:", FAILED),
        (1, "", "it said nothing", FAILED),
    ],
)
def test_each_error_has_its_cause_and_a_next_step(
    code: int, said: str, words: str, exit_code: int
) -> None:
    for kind in ("s3", "own-store"):
        server = cast(Any, type("Server", (), {"name": "pandom-mine-postgres"}))
        error = Repository("mine", kind, cast(Any, None), server).explained(code, said)
        assert words in str(error)
        assert error.exit_code == exit_code
        assert "\nNext: " in str(error)
        assert "{" not in str(error)


class Whole(Repository):
    """A repository that answers, with one backup."""

    def backups(self, system: int | None = None) -> list[Made]:
        return [self.one]

    def segments(self) -> dict[str, datetime]:
        return dict.fromkeys(map(name, range(3, 6)), NOW)

    one = Made("L", "full", NOW, NOW, 1, 1, name(3), name(3), None, False)


@pytest.mark.parametrize(
    ("archiver", "ok", "said"),
    [
        ((name(5), NOW, None, None), True, name(5)),
        ((name(5), NOW, name(4), NOW - timedelta(seconds=5)), True, name(5)),
        ((None, None, None, None), True, "nothing to archive yet"),
        # The store answers, and yet it fails: the server's log has the reason.
        ((name(5), NOW, name(6), NOW + timedelta(seconds=5)), False, f"{name(6)} could not be"),
        ((None, None, name(3), NOW), False, f"{name(3)} could not be archived"),
        ((name(7), NOW, None, None), False, f"since the newest backup: {name(6)} to {name(7)}"),
    ],
)
def test_health_says_whether_the_log_is_archived(
    archiver: tuple[Any, ...], ok: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cast(Any, type("Server", (), {"name": "pandom-mine-postgres", "is_healthy": True}))
    engine = cast(Any, type("Engine", (), {"container": lambda self, part: server})())
    monkeypatch.setattr(backup, "_archiver", lambda outputs: archiver)
    monkeypatch.setattr(backup, "_system", lambda outputs: 7)
    monkeypatch.setattr(backup, "Repository", Whole)
    outputs = {"backup": "s3", "backup_max_age_days": 8}
    archiving, newest = backup.checks(engine, "mine", outputs)
    assert (archiving.ok, newest.ok) == (ok, True)
    assert said in archiving.detail
    monkeypatch.setattr(Whole, "one", replace(Whole.one, stopped=NOW - timedelta(days=9)))
    _, newest = backup.checks(engine, "mine", outputs)
    assert not newest.ok
    assert "more than 8 days" in newest.detail
    assert not list(backup.checks(engine, "mine", {"backup": "external"}))


VERIFIED = """stanza: pandom
status: {status}
  archiveId: 17-1, total WAL checked: 17, total valid WAL: {good}
    missing: 0, checksum invalid: {bad}, size invalid: 0, other: 0
  backup: 20261126-075439F, status: valid, total files checked: 1421, total valid files: 1421
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""


def test_what_verify_finds_is_read_from_its_words() -> None:
    assert damaged(VERIFIED.format(status="ok", good=17, bad=0)) == []
    wrong = VERIFIED.format(status="error", good=16, bad=1)
    assert damaged(wrong) == ["archiveId: 17-1: checksum invalid: 1"]
    assert damaged("stanza: pandom\nstatus: error\n  no backups") != []


def control(
    mode: str, archiving: Archiving | None, days: int | None, drill: int | None = None
) -> Verdict:
    """What the audit says of a server's backups, and of drills."""
    (check,) = (one.check for one in CONTROLS if one.number == "7.4")
    return check(
        Observed(
            login="pandom_auditor",
            database="pandom_db",
            version="17.12",
            read_at="",
            facts={},
            settings={"archive_mode": Setting(mode, "command line", "postmaster")},
            archiving=archiving,
            backup_within=timedelta(days=days) if days else None,
            drill_within=timedelta(days=drill) if drill else None,
        )
    )


@pytest.mark.parametrize(
    ("mode", "archiving", "days", "state", "evidence"),
    [
        ("off", None, None, "fail", NOT_ARCHIVED),
        ("on", None, None, "pass", "archive_mode = on"),
        ("off", Archiving(None, timedelta(1)), 8, "fail", "although this program makes"),
        ("on", Archiving("0000A", timedelta(1)), 8, "fail", "0000A could not be archived"),
        ("on", Archiving(None, None), 8, "fail", "knows of no backup"),
        ("on", Archiving(None, timedelta(9)), 8, "fail", "older than 8 days"),
        ("on", None, 8, "unknown", "trail is not visible"),
        ("on", Archiving(None, timedelta(7)), 8, "pass", "not older than 8 days"),
    ],
)
def test_the_audit_knows_whether_backups_are_made(
    mode: str, archiving: Archiving | None, days: int | None, state: str, evidence: str
) -> None:
    verdict = control(mode, archiving, days)
    assert verdict.state == state
    assert evidence in verdict.evidence
    # What is accepted of stacks without backups excuses nothing of one that makes them.
    assert (verdict.evidence == NOT_ARCHIVED) == (days is None and mode == "off")


def test_the_log_is_that_of_the_newest_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository("dev", "s3", cast("Any", None), cast("Any", None))
    listed = {
        f"{folder}/0000000100000000/{name(number)}-{'a' * 40}.zst": {"time": number}
        for folder, number in (("17-1", 3), ("18-2", 9), ("18-2", 10))
    }
    listed["18-2/archive.info"] = {"time": 1}
    monkeypatch.setattr(Repository, "run", lambda self, *arguments: json.dumps(listed))
    assert sorted(repository.segments()) == [name(9), name(10)]
    listed = {}
    assert repository.segments() == {}


def test_backups_of_another_cluster_are_named_before_anything_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Repository("dev", "s3", cast("Any", None), cast("Any", None))
    made = {
        "label": "20261126-100000F",
        "type": "full",
        "timestamp": {"start": 1, "stop": 2},
        "info": {"size": 1, "repository": {"delta": 1}},
        "archive": {"start": name(3), "stop": name(4)},
        "prior": None,
        "error": False,
        "database": {"id": 2},
    }
    before = {**made, "label": "20261125-100000F", "database": {"id": 1}}
    info: dict[str, Any] = {
        "db": [{"id": 1, "system-id": 7}, {"id": 2, "system-id": 8}],
        "backup": [before, made],
    }
    monkeypatch.setattr(Repository, "_info", lambda self: info)
    assert [one.label for one in repository.backups(8)] == [made["label"]]
    with pytest.raises(AnotherCluster, match="`pandom restore --stack dev`"):
        repository.backups(7)
    # Before there is one, it is not in the way: making the repository says what it finds.
    info["backup"] = []
    assert repository.backups(7) == []
