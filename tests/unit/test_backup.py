"""Backups: what pgBackRest is told, what it says, and what it does not say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pandom.audit.controls import CONTROLS, NOT_ARCHIVED, Verdict
from pandom.backups.repository import AnotherCluster, Gap, damaged, gaps
from pandom.backups.repository import Backup as Made
from pandom.config.backup import SYSTEM_CA, configuration, location, server_settings
from pandom.config.container_specs import container_specs
from pandom.config.settings import Backup, load
from pandom.database.drift.catalog import Archiving, Observed, Setting
from pandom.host import backup, exchange
from pandom.host.repository import Repository
from pandom.runtime.errors import FAILED, USAGE_ERROR, Failure, PandomError
from pandom.runtime.repository_keys import rotated
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


def test_each_key_has_a_folder_of_its_own_and_only_readers_know_a_former_one() -> None:
    assert rotated("first", "second") == "2-second first"
    assert rotated("2-second first", "third") == "3-third 2-second first"
    text = configuration("mine", 17, ELSEWHERE, "media", "2-second first", "access", "secret")
    sections = text.split("\n[")
    assert "repo1-path=/mine/2\n" in sections[0]
    assert "repo1-cipher-pass=2-second\n" in sections[0]
    former = [one for one in sections if "repo2-path=/mine\n" in one]
    assert all("repo2-cipher-pass=first\n" in one for one in former)
    names = {one.partition("]")[0] for one in former}
    assert {"global:info", "global:restore", "global:archive-get"} <= names
    assert not names & {"global", "global:archive-push", "global:backup", "global:expire"}


def test_the_log_after_a_backup_of_a_former_key_is_in_both_repositories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = {
        "--repo=1": f'{{"17-1/x/{name(5)}-{"a" * 40}.zst": {{"time": 2}}}}',
        "--repo=2": f'{{"17-1/x/{name(4)}-{"b" * 40}.zst": {{"time": 1}}}}',
    }
    monkeypatch.setattr(Repository, "run", lambda self, *asked: listed[asked[0]])
    repository = Repository("dev", "s3", cast("Any", None), cast("Any", None))
    assert set(repository.segments(Whole.one)) == {name(5)}
    assert set(repository.segments(replace(Whole.one, repository=2))) == {name(4), name(5)}


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


class Full(Repository):
    """A repository that can be read; the store has no room for more."""

    def ask(self, arguments: Any, show: Any, *, makes: bool) -> tuple[int, str, str]:
        if arguments[0] == "repo-put":
            return 103, "", "HTTP request failed with 507 (Insufficient Storage)"
        return 82, "", "ERROR: [082]: WAL segment 1 was not archived before the 60000ms timeout"


def test_who_waits_for_the_log_is_told_why_the_store_takes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Full("mine", "s3", cast(Any, None), cast(Any, None))
    with pytest.raises(Failure, match="The store is full"):
        repository.make("check")
    # It takes a file, and yet the log is late: the server's own log has the reason.
    monkeypatch.setattr(Full, "refusal", lambda self: None)
    with pytest.raises(Failure, match="did not reach the store in time"):
        repository.make("check")


class Whole(Repository):
    """A repository that answers, with one backup."""

    def backups(self, system: int | None = None) -> list[Made]:
        return [self.one]

    def segments(self, since: Made) -> dict[str, datetime]:
        return dict.fromkeys(map(name, range(3, 6)), NOW)

    def refusal(self) -> PandomError | None:
        return None

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
    server = cast(Any, SimpleNamespace(name="postgres", status="running", is_healthy=True))
    engine = cast(Any, type("Engine", (), {"container": lambda self, part: server})())
    monkeypatch.setattr(backup, "_archiver", lambda outputs: archiver)
    monkeypatch.setattr(backup, "system", lambda outputs: 7)
    monkeypatch.setattr(backup, "Repository", Whole)
    outputs = {"backup": "s3", "backup_max_age_days": 8}
    monkeypatch.setattr(backup, "_timeline", lambda outputs: "00000001")
    monkeypatch.setattr(exchange, "look", lambda *_: exchange.parse("former"))
    restored, archiving, newest = backup.checks(engine, "mine", outputs)
    assert (restored.ok, archiving.ok, newest.ok) == (True, ok, True)
    assert said in archiving.detail
    monkeypatch.setattr(Whole, "one", replace(Whole.one, stopped=NOW - timedelta(days=9)))
    *_, newest = backup.checks(engine, "mine", outputs)
    assert not newest.ok
    assert "more than 8 days" in newest.detail
    monkeypatch.setattr(Whole, "one", replace(Whole.one, repository=2))
    *_, newest = backup.checks(engine, "mine", outputs)
    assert not newest.ok
    assert "none with the new key yet" in newest.detail
    monkeypatch.setattr(Whole, "one", replace(Whole.one, repository=1, stopped=NOW))
    monkeypatch.setattr(backup, "_timeline", lambda outputs: "00000002")
    monkeypatch.setattr(exchange, "look", lambda *_: exchange.parse("former switch"))
    restored, _, newest = backup.checks(engine, "mine", outputs)
    assert not restored.ok
    assert not newest.ok
    assert "of timeline 2, and the newest backup, L, of 1" in newest.detail
    # Also of a server that is starting.
    server.is_healthy = False
    (restored,) = backup.checks(engine, "mine", outputs)
    assert not restored.ok
    assert not list(backup.checks(engine, "mine", {"backup": "external"}))


def test_a_history_without_a_backup_or_that_the_store_lacks_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Whole("dev", "s3", cast(Any, None), cast(Any, None))
    first, second = Whole.one, replace(Whole.one, label="M", first_wal=name(7, 2))
    log: dict[str, Any] = {
        "17-1/00000003.history": {},
        f"17-1/0000000200000000/{name(7, 2)}-{'0' * 40}.zst": {},
    }
    monkeypatch.setattr(Whole, "_log", lambda self, repositories: log)
    assert repository.unbacked([first], "00000001") is None
    assert "newest backup, L, of 1" in str(repository.unbacked([first], "00000002"))
    # Also after the way back.
    assert "newest backup, M, of 2" in str(repository.unbacked([first, second], "00000001"))
    assert "is not in the store" in str(repository.unbacked([first, second], "00000002"))
    log["17-1/00000002.history"] = {}
    assert repository.unbacked([first, second], "00000002") is None


VERIFIED = """stanza: pandom
status: {status}
  archiveId: 17-1, total WAL checked: 17, total valid WAL: {good}
    missing: 0, checksum invalid: {bad}, size invalid: 0, other: 0
  backup: 20261126-075439F, status: valid, total files checked: 1421, total valid files: 1421
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""


ONE = ["20261126-075439F"]
# Recorded: the first one has expired, of which a versioned bucket goes on listing the folder, and
# the last one was killed halfway.
LEFT = """stanza: pandom
status: ok
  archiveId: 17-1, total WAL checked: 8, total valid WAL: 8
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261126-153434F, status: manifest missing, total files checked: 0, total valid files: 0
  backup: 20261126-153806F, status: valid, total files checked: 1422, total valid files: 1422
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: {incremental}, status: valid, total files checked: 1422, total valid files: 1422
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261126-153916F, status: in-progress, total files checked: 0, total valid files: 0
""".format(incremental="20261126-153806F_20261126-153846I")
KEPT = ["20261126-153806F", "20261126-153806F_20261126-153846I"]


def test_what_verify_finds_is_read_from_its_words() -> None:
    assert damaged(VERIFIED.format(status="ok", good=17, bad=0), ONE) == []
    wrong = VERIFIED.format(status="error", good=16, bad=1)
    assert damaged(wrong, ONE) == ["archiveId: 17-1: checksum invalid: 1"]
    assert damaged("stanza: pandom\nstatus: error\n  no backups", []) != []


def test_what_expired_or_was_killed_is_no_damage() -> None:
    assert damaged(LEFT, KEPT) == []
    wrong = LEFT.replace(
        "status: valid, total files checked: 1422, total valid files: 1422\n"
        "    missing: 0, checksum invalid: 0",
        "status: invalid, total files checked: 1422, "
        "total valid files: 1420\n    missing: 1, checksum invalid: 1",
    )
    assert damaged(wrong, KEPT) == [
        f"backup: {one}: invalid, missing: 1, checksum invalid: 1" for one in KEPT
    ]
    # Of one that is in the list neither is right.
    first, last = "20261126-153434F", "20261126-153916F"
    assert damaged(LEFT, [first, *KEPT]) == [f"backup: {first}: manifest missing"]
    assert damaged(LEFT, [last]) == [f"backup: {last}: in-progress"]
    assert damaged(LEFT, ["20260101-000000F", *KEPT]) == ["backup: 20260101-000000F: not there"]
    # What one that expired has left may be broken, and nobody restores it.
    assert damaged(LEFT.replace("status: ok", "status: error"), KEPT) == []


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

    def log(*of: tuple[str, int]) -> dict[str, Any]:
        return {
            f"{folder}/0000000100000000/{name(number)}-{'a' * 40}.zst": {"time": number}
            for folder, number in of
        }

    listed = {
        "--repo=1": log(("17-1", 3), ("18-2", 9), ("18-2", 10)) | {"17-1/00000002.history": {}},
        # With a former key: its numbers are its own.
        "--repo=2": log(("17-1", 1), ("18-10", 7), ("18-9", 6)),
    }
    monkeypatch.setattr(Repository, "run", lambda self, one, *_: json.dumps(listed[one]))
    newest = replace(Whole.one, repository=1)
    assert sorted(repository.segments(newest)) == [name(9), name(10)]
    assert sorted(repository.segments(replace(Whole.one, repository=2))) == [
        name(7),
        name(9),
        name(10),
    ]
    assert repository.histories() == set()
    listed["--repo=1"] = {"archive.info": {}}
    assert repository.segments(newest) == {}


MADE: dict[str, Any] = {
    "label": "20261126-100000F",
    "type": "full",
    "timestamp": {"start": 1, "stop": 2},
    "database": {"id": 1, "repo-key": 1},
    "info": {"size": 1, "repository": {"delta": 1}},
    "archive": {"start": name(3), "stop": name(4)},
    "prior": None,
    "error": False,
}


@pytest.mark.parametrize(
    ("clusters", "served", "listed"),
    [
        # Key, number, system.
        ([(1, 1, 7)], 7, ["1-1"]),
        ([(1, 1, 7), (1, 2, 8)], 8, ["1-2"]),
        # Rotated: before there was an upgrade, after one.
        ([(1, 1, 7), (2, 1, 7)], 7, ["1-1", "2-1"]),
        ([(1, 1, 8), (2, 1, 7), (2, 2, 8), (3, 1, 7)], 8, ["1-1", "2-2"]),
        ([(1, 1, 7), (1, 2, 8), (2, 1, 7)], 8, ["1-2"]),
        # Upgraded and taken back: between them the log is the other one's.
        ([(1, 1, 7), (1, 2, 8), (1, 3, 7)], 7, ["1-3"]),
        ([(1, 1, 7), (1, 2, 8), (1, 3, 7), (2, 1, 7)], 7, ["1-3"]),
        # Rotated, and nothing yet with the present key.
        ([(2, 1, 7), (2, 2, 8), (3, 1, 7)], 8, ["2-2"]),
    ],
)
def test_backups_of_before_an_upgrade_are_not_of_this_cluster(
    clusters: list[tuple[int, int, int]],
    served: int,
    listed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Repository("dev", "s3", cast("Any", None), cast("Any", None))
    info = {
        "db": [{"repo-key": key, "id": one, "system-id": system} for key, one, system in clusters],
        "backup": [
            {**MADE, "label": f"{key}-{one}", "database": {"id": one, "repo-key": key}}
            for key, one, _ in clusters
        ],
    }
    monkeypatch.setattr(Repository, "_info", lambda self: info)
    assert [one.label for one in repository.backups(served)] == listed
    assert [one.label for one in repository.backups()] == listed
    with pytest.raises(AnotherCluster):
        repository.backups(15 - served)
    assert repository.is_made() == (clusters[0][0] == 1)


@pytest.mark.parametrize(
    ("made", "found", "upgraded", "done"),
    [
        # Again after a kill: the same, and no second backup.
        (True, [Whole.one], True, ["stanza-upgrade"]),
        (True, [], True, ["stanza-upgrade", "create", "full", "objects"]),
        # With a key that nothing is there with yet, and former ones of before the upgrade.
        (False, None, True, ["create", "full", "objects"]),
        (True, [Whole.one], False, []),
        # A database that was lost is not the one before: its backups stay in sight.
        (True, None, False, None),
    ],
)
def test_the_cluster_of_another_version_is_the_repositorys_next_one(
    made: bool,
    found: list[Made] | None,
    upgraded: bool,
    done: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    did: list[str] = []

    def listed(_: object) -> list[Made]:
        if found is None:
            raise AnotherCluster("another", [])
        return found

    repository = SimpleNamespace(
        is_made=lambda: made,
        make=did.append,
        backups=listed,
        create=lambda: did.append("create"),
        unbacked=lambda *_: None,
        segments=lambda _: [],
    )
    place = SimpleNamespace(repository=repository, outputs={})
    for name, value in (
        ("State", lambda _: SimpleNamespace(outputs={"backup": "s3"})),
        ("_place", lambda *_: place),
        ("system", lambda _: 7),
        ("_timeline", lambda _: "00000001"),
        ("_archiver", lambda _: (None, None, None, None)),
        ("make", lambda _, kind: did.append(kind)),
        ("copy_objects", lambda *_: did.append("objects")),
        ("missing_log", lambda *_: []),
    ):
        monkeypatch.setattr(backup, name, value)
    if done is None:
        with pytest.raises(AnotherCluster):
            backup.begin_if_ours(cast(Any, None), "dev", {}, upgraded)
        assert did == []
        return
    assert backup.begin_if_ours(cast(Any, None), "dev", {}, upgraded) == ("full" in did)
    assert did == done


def test_backups_of_another_cluster_are_named_before_anything_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = Repository("dev", "s3", cast("Any", None), cast("Any", None))
    info: dict[str, Any] = {"db": [{"id": 1, "system-id": 8, "repo-key": 1}], "backup": [MADE]}
    monkeypatch.setattr(Repository, "_info", lambda self: info)
    assert [one.label for one in repository.backups(8)] == [MADE["label"]]
    with pytest.raises(AnotherCluster, match="`pandom restore --stack dev`"):
        repository.backups(7)
    # Before there is one, it is not in the way: making the repository says what it finds.
    info["backup"] = []
    assert repository.backups(7) == []
