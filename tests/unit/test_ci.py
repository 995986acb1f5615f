"""Environments for CI: times, processes, records, room, and what may be removed. No Docker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import pandom.ci
from pandom.ci import create, durations, end, look, reap, records, room
from pandom.ci.reap import Stray
from pandom.ci.records import Record
from pandom.config.outputs import ENV_NAMES
from pandom.host import ports
from pandom.host.identity import Thing
from pandom.runtime import paths
from pandom.runtime.docker_endpoint import DockerSilent
from pandom.runtime.errors import USAGE_ERROR, Drift, Failure, UsageError
from pandom.runtime.naming import LABEL_EXPIRES, LABEL_OWNER, LABEL_PROCESS, LABEL_STACK, PROJECT
from pandom.runtime.process import Process
from stacks import identity

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
HERE = Process.of(os.getpid())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state home of its own, and a clone with a folder for stack files."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "ROOT", tmp_path / "clone")
    (tmp_path / "clone" / "stacks").mkdir(parents=True)
    return paths.state_home()


def record(home: Path, name: str = "ci-0a1b2c3d", **changes: object) -> Record:
    made = Record(
        id=name,
        home=home / "environments" / name,
        created=NOW - timedelta(hours=1),
        expires=NOW + timedelta(hours=1),
        owner=None,
        ready=True,
        clone=paths.ROOT,
        ports={"postgresPort": 20_001, "minioPort": 20_002},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("1m", 1),
        ("90s", 1.5),
        ("30m", 30),
        ("2h", 120),
        ("1h30m", 90),
        ("2d", 2880),
        ("7d", 10_080),
    ],
)
def test_a_time_is_read(text: str, minutes: float) -> None:
    assert durations.parse(text, "--ttl") == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "text",
    ["0", "0s", "0h", "", "59s", "365d", "8d", "-1h", "2", "two hours", "1h 30m", "1w", "h", "٣h"],
)
def test_a_time_that_is_none_too_short_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--ttl"):
        durations.parse(text, "--ttl")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (-5, "0s"), (61, "1m1s"), (7200, "2h"), (93_784, "1d2h")]
)
def test_a_time_is_said_in_two_units(seconds: int, words: str) -> None:
    assert durations.words(timedelta(seconds=seconds)) == words


# -- processes -------------------------------------------------------------------------------------


def test_a_process_that_runs_lives_and_one_of_its_number_before_it_does_not() -> None:
    assert HERE.lives() is True
    assert Process.parse(str(HERE)) == HERE
    assert replace(HERE, started="1").lives() is False
    with subprocess.Popen(["sleep", "60"]) as ended:
        before = Process.of(ended.pid)
        assert before.lives() is True
        ended.kill()
    assert before.lives() is False
    with pytest.raises(UsageError, match="--owner"):
        Process.of(ended.pid)


def test_of_another_boot_or_container_nobody_can_tell() -> None:
    assert replace(HERE, boot="another").lives() is None
    assert replace(HERE, namespace="1").lives() is None


@pytest.mark.parametrize("text", ["", "1", "a:b:c:d", "1:2:3", "1:2:3:4:5"])
def test_what_is_no_process_is_read_as_none(text: str) -> None:
    assert Process.parse(text) is None


# -- records ---------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(home: Path) -> None:
    made = record(home, owner=HERE)
    made.write()
    assert records.every() == [made]
    assert records.find(made.id) == made


def test_a_folder_without_a_record_is_of_a_making_that_was_interrupted(home: Path) -> None:
    record(home).home.mkdir(parents=True)
    [found] = records.every()
    assert reap.due(found, NOW) == "its making was interrupted"


def without_ports(text: str) -> str:
    document = json.loads(text)
    del document["ports"]
    return json.dumps(document)


@pytest.mark.parametrize(
    "changed",
    [lambda _: "", lambda _: "{", lambda _: "[]", lambda _: '{"created": 3}', without_ports],
)
def test_one_whose_record_cannot_be_read_is_left_until_its_labels_say_that_it_is_over(
    home: Path,
    changed: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = record(home)
    made.write()
    file = made.home / records.FILE
    file.write_text(changed(file.read_text()))
    [found] = records.every()
    assert found.unread
    assert reap.due(found, NOW) is None
    with pytest.raises(
        UsageError, match=r"environment.json cannot be used.*\n.*destroy ci-0a1b2c3d"
    ):
        end.living(made.id)

    def of(**changes: str) -> str | None:
        one = Stray.of(labels(home.parent, owner=f"me@host:{made.state_home}", **changes))
        return reap.stray(one, "me@host", records.folder(), NOW)

    assert of() == "expired 5m ago, and its record cannot be read"
    assert of(process=str(GONE)) == of()
    assert of(process=str(HERE)) is None
    later = (NOW + timedelta(hours=1)).isoformat()
    assert of(expires=later) is None
    assert of(expires=later, process=str(GONE)) is None  # it may have been kept

    monkeypatch.setattr(reap, "listed", lambda *_: [])
    assert reap.reap(None) == 0
    assert "leaving environment ci-0a1b2c3d" in capsys.readouterr().err
    assert file.exists()
    # What is known of it leads commands to its state all the same.
    monkeypatch.setenv("XDG_STATE_HOME", os.environ["XDG_STATE_HOME"])
    records.enter(made.id)
    assert paths.state_home() == made.state_home


def test_an_unknown_id_is_refused_and_says_which_there_are(home: Path) -> None:
    record(home).write()
    for name in ("ci-ffffffff", "dev", "", "../backend"):
        with pytest.raises(UsageError, match="there are: ci-0a1b2c3d"):
            records.find(name)


def test_its_files_go_and_nobody_elses(home: Path) -> None:
    made, other = record(home), record(home, "ci-11111111")
    for one in (made, other):
        one.write()
        (one.state_home / "backend").mkdir(parents=True)
        (paths.ROOT / "stacks" / f"Pulumi.{one.id}.yaml").write_text("config: {}\n")
    made.remove()
    made.remove()
    assert records.every() == [other]
    assert made.stack_files == []
    assert other.stack_files != []


def test_its_name_leads_every_command_to_its_state(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(home)
    made.write()
    monkeypatch.setenv("XDG_STATE_HOME", os.environ["XDG_STATE_HOME"])  # put back afterwards
    for name in ("dev", "ci", "ci-ffffffff", None):
        records.enter(name)
        assert paths.state_home() == home
    records.enter(made.id)
    assert paths.state_home() == made.state_home


def test_two_do_not_hold_one(home: Path) -> None:
    with records.held("ci-0a1b2c3d", 0):
        with pytest.raises(records.Held, match="ci-0a1b2c3d"), records.held("ci-0a1b2c3d", 0):
            pass
        with records.held("ci-11111111", 0):
            pass


# -- what may be removed ---------------------------------------------------------------------------

GONE = replace(HERE, started="1")
ELSEWHERE = replace(HERE, boot="another")
PROCESSES = {"here": HERE, "gone": GONE, "elsewhere": ELSEWHERE}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"expires": NOW}, "expired 0s ago"),
        ({"expires": NOW - timedelta(minutes=5)}, "expired 5m ago"),
        ({"ready": False}, "its making was interrupted"),
        ({"owner": HERE}, None),
        ({"owner": HERE, "expires": NOW - timedelta(minutes=5)}, None),
        ({"owner": GONE}, "its process PID is gone"),
        ({"owner": ELSEWHERE}, None),
        ({"owner": ELSEWHERE, "expires": NOW - timedelta(minutes=5)}, "expired 5m ago"),
    ],
)
def test_due_is_what_is_over_or_whose_process_is_gone(
    home: Path, changes: dict[str, object], why: str | None
) -> None:
    found = reap.due(replace(record(home), **changes), NOW)  # type: ignore[arg-type]
    assert found == (why and why.replace("PID", str(os.getpid())))


def labels(home: Path, **changes: str) -> dict[str, str]:
    """Of an environment whose state home is ``home``."""
    found = {
        LABEL_STACK: "ci-0a1b2c3d",
        LABEL_OWNER: f"me@host:{home}/environments/ci-0a1b2c3d/{PROJECT}",
        LABEL_EXPIRES: (NOW - timedelta(minutes=5)).isoformat(),
        LABEL_PROCESS: "",
    }
    return found | {f"pandom.{key}": value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "expired 5m ago, and its state home is gone"),
        ({"expires": (NOW + timedelta(hours=1)).isoformat()}, None),
        ({"expires": "soon"}, None),
        ({"expires": "2026-11-26T10:00:00"}, None),  # no zone: not ours
        ({"process": "here"}, None),
        ({"process": "gone"}, "its process PID and its state home are gone"),
        ({"process": "elsewhere"}, "expired 5m ago, and its state home is gone"),
        ({"owner": "her@host:/elsewhere/environments/ci-0a1b2c3d/pandom-stack"}, None),
        ({"owner": "me@another:/elsewhere/environments/ci-0a1b2c3d/pandom-stack"}, None),
        ({"owner": "me@host:/home/me/.local/state/pandom-stack"}, None),  # made by `up`
        ({"stack": "dev"}, None),
        ({"owner": ""}, None),
    ],
)
def test_a_stray_is_removed_if_it_is_ours_and_over(
    tmp_path: Path, changes: dict[str, str], why: str | None
) -> None:
    if "process" in changes:  # the ids of tests are the same in every run
        changes = {"process": str(PROCESSES[changes["process"]])}
    one = Stray.of(labels(tmp_path / "elsewhere", **changes))
    found = reap.stray(one, "me@host", tmp_path / "here" / "environments", NOW)
    assert found == (why and why.replace("PID", str(os.getpid())))


def test_what_is_over_goes_with_the_record_that_cannot_be_read(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = record(home)
    made.write()
    (made.home / records.FILE).write_text("{")
    mine = labels(home.parent, owner=f"me@host:{made.state_home}")
    monkeypatch.setattr(reap, "listed", lambda *_: [Thing("volume", "1", "1", mine)])
    monkeypatch.setattr("pandom.host.identity.owner_here", lambda: "me@host:/x")
    monkeypatch.setattr(reap, "remove", lambda one, _: one.remove())
    assert reap.reap(None, dry_run=True) == 1
    assert made.home.exists()
    assert reap.reap(None) == 1
    assert not made.home.exists()
    said = capsys.readouterr().err
    assert "and its record cannot be read" in said
    assert "leaving" not in said


def test_a_stray_that_another_state_home_knows_is_its(tmp_path: Path) -> None:
    one = Stray.of(labels(tmp_path))
    assert reap.stray(one, "me@host", tmp_path / "here", NOW)
    record(tmp_path).write()
    assert reap.stray(one, "me@host", tmp_path / "here", NOW) is None


def test_a_stray_of_this_state_home_needs_no_end(tmp_path: Path) -> None:
    one = Stray.of(labels(tmp_path, expires=(NOW + timedelta(days=1)).isoformat()))
    assert reap.stray(one, "me@host", tmp_path / "environments", NOW) == "its record is gone"


def test_objects_of_one_environment_are_one_stray(tmp_path: Path) -> None:
    mine, hers = labels(tmp_path), labels(tmp_path, owner="her@host:/x")
    things = [Thing("volume", str(n), str(n), found) for n, found in enumerate([mine, mine, hers])]
    assert len(reap.strays([*things, Thing("network", "n", "n", {LABEL_EXPIRES: "x"})])) == 2


# -- what an environment's labels say --------------------------------------------------------------


def test_only_an_environment_is_labelled_with_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity._of_environment.cache_clear()
    assert identity._of_environment(tmp_path / "none.json") == {}
    identity._of_environment.cache_clear()
    monkeypatch.setenv("PANDOM_EXPIRES", NOW.isoformat())
    monkeypatch.setenv("PANDOM_PROCESS", "")
    found = identity._of_environment(tmp_path / "none.json")
    identity._of_environment.cache_clear()
    assert found == {LABEL_EXPIRES: NOW.isoformat(), LABEL_PROCESS: ""}


# -- room and ports --------------------------------------------------------------------------------


def test_room_is_counted_for_those_that_are_being_made_too() -> None:
    assert room.lacking("memory", 900, 0, 900) == []
    [said] = room.lacking("memory", 900, 0, 899)
    assert "900 MB" in said
    assert "899" in said
    [said] = room.lacking("memory", 900, 2, 2699)
    assert "2700 MB" in said
    assert "2 being made" in said


def test_ports_of_other_environments_and_of_other_users_are_not_chosen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = os.getpid() * 1000  # no port, so that nobody else on this host chooses it
    monkeypatch.setattr(ports, "_RESERVED", range(first, first + 200))
    monkeypatch.setattr(ports, "free", lambda _: True)
    record(home, ports={"postgresPort": first, "minioPort": first + 1}).write()
    theirs = socket.socket(socket.AF_UNIX)
    with theirs:
        theirs.bind(f"\0{PROJECT}/port/{first + 2}")
        found = set()
        for _ in range(197 // len(ports._KEYS)):
            with ports.chosen() as some:
                found |= set(some.values())
        with pytest.raises(UsageError, match="No free port"), ports.chosen():
            pass
    assert len(found) > 190
    assert not found & {first, first + 1, first + 2}
    for claim in ports._claims:
        claim.close()
    ports._claims.clear()


# -- refused, with nothing touched -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["sampleData"], "KEY=VALUE"),
        (["=true"], "KEY=VALUE"),
        (["a b=c"], "KEY=VALUE"),
        (["x:y=1"], "KEY=VALUE"),
        (["bcryptCost=4", "bcryptCost=5"], "each key once"),
        (["sampleDate=true"], "sampleDate: unknown key; did you mean sampleData?"),
        (["postgresPort=1", "sampleDate=true"], "did you mean sampleData?"),
        (["minioMemoryMb=much"], "minioMemoryMb: expected a whole number"),
        (["minioMemoryMb=٩٩٩"], "minioMemoryMb: expected a whole number"),
        *(([f"{name}=1"], f"  {name}: ") for name in sorted(create._OWN)),
    ],
)
def test_a_setting_that_no_environment_can_have_is_refused_in_the_words_of_set(
    home: Path, chosen: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=r"^--set cannot be used; nothing was touched") as refused:
        create.run("2h", "dotenv", None, chosen)
    assert said in str(refused.value)
    assert "stacks/" not in str(refused.value)
    assert "pandom-stack:" not in str(refused.value)
    assert not home.exists()


def test_what_an_environment_can_have_is_taken() -> None:
    given = ["sampleData=true", "monitoring=true", 'postgresSettings={"work_mem": "8MB"}']
    assert list(create.chosen_settings(given)) == ["sampleData", "monitoring", "postgresSettings"]


def test_memory_is_counted_as_the_settings_say() -> None:
    assert room.more_mb(create.settings_of({})) == 0
    assert room.more_mb(create.settings_of({"minioMemoryMb": "512"})) == 0
    assert room.more_mb(create.settings_of({"minioMemoryMb": "99999"})) == 99_999 - 768
    assert room.more_mb(create.settings_of({"monitoring": "true"})) > 0
    assert room.lacking("memory", 900, 1, 1800) == []
    [said] = room.lacking("memory", 900, 1, 1800, 1)
    assert "1801 MB" in said


def test_github_needs_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ENV", raising=False)
    with pytest.raises(UsageError, match="GITHUB_ENV"):
        create.run("2h", "github", None, [])
    assert not home.exists()


@pytest.mark.parametrize(
    "action",
    [
        lambda: create.run("2h", "dotenv", None, []),
        lambda: look.listed("text"),
        lambda: look.logs("ci-0a1b2c3d", None),
        lambda: end.destroy("ci-0a1b2c3d"),
        reap.run,
    ],
    ids=["create", "list", "logs", "destroy", "reap"],
)
def test_without_docker_nothing_is_done_and_the_exit_code_is_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]
) -> None:
    record(home).write()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(DockerSilent, match="nowhere") as silent:
        action()
    assert silent.value.exit_code == USAGE_ERROR
    assert records.every() == [record(home)]


@pytest.mark.parametrize("command", ["keep", "env", "psql"])
def test_one_that_is_over_cannot_be_used(home: Path, command: str) -> None:
    record(home, expires=datetime.now(UTC) - timedelta(minutes=5)).write()
    uses = {
        "keep": lambda: end.keep("ci-0a1b2c3d", "2h"),
        "env": lambda: look.env("ci-0a1b2c3d", None, "dotenv"),
        "psql": lambda: look.psql("ci-0a1b2c3d", []),
    }
    with pytest.raises(UsageError, match="expired 5m"):
        uses[command]()


def test_it_is_kept_without_its_process(home: Path) -> None:
    record(home, owner=GONE, expires=datetime.now(UTC) + timedelta(minutes=5)).write()
    assert reap.due(records.find("ci-0a1b2c3d"), datetime.now(UTC))
    end.keep("ci-0a1b2c3d", "3h")
    found = records.find("ci-0a1b2c3d")
    assert reap.due(found, datetime.now(UTC)) is None
    assert found.expires - datetime.now(UTC) > timedelta(minutes=179)


def test_it_is_never_kept_for_less(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    record(home, owner=HERE, expires=until).write()
    end.keep("ci-0a1b2c3d", "1m")
    found = records.find("ci-0a1b2c3d")
    assert (found.expires, found.owner) == (until, None)
    assert "as before" in capsys.readouterr().err


# -- what is printed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"), [(UsageError, UsageError), (Failure, Failure), (Drift, Failure)]
)
def test_an_error_of_up_ends_with_what_is_left_of_the_environment(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Failure],
    kind: type[Exception],
) -> None:
    monkeypatch.setattr(create, "remove", lambda *_: None)
    given = error("The migration job failed.\nNext: `pandom up` goes on from here.")
    with pytest.raises(kind) as raised:
        create._take_back(record(home), None, given)
    said = str(raised.value)
    assert said.startswith("The migration job failed.\nNothing of environment ci-0a1b2c3d is left.")
    assert "goes on" not in said


def test_github_gets_its_file_the_masks_and_the_id(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs: dict[str, object] = dict.fromkeys((name.lower() for name in ENV_NAMES), "x")
    outputs |= {"db_password": "quite-secret", "passwords": {"pandom_app": "quite-secret"}}
    file = home.parents[1] / "file"
    monkeypatch.setenv("GITHUB_ENV", str(file))
    create._print("github", record(home), outputs)
    said = capsys.readouterr()
    assert said.out == "ci-0a1b2c3d\n"
    assert "::add-mask::quite-secret" in said.err
    text = file.read_text()
    assert "PANDOM_CI_ID<<" in text
    assert "\nquite-secret\n" in text
    create._print("dotenv", record(home), outputs)
    said = capsys.readouterr()
    assert said.out.startswith("PANDOM_CI_ID=ci-0a1b2c3d\nDB_HOST=x\n")
    assert said.err == ""


def test_what_could_not_be_handed_over_is_taken_back(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def take(one: Record, _: object) -> None:
        taken.append(one.id)
        one.remove()

    monkeypatch.setattr(create, "connect", lambda: None)
    monkeypatch.setattr("pandom.host.up.toolchain_variables", lambda: {"PATH": ""})
    monkeypatch.setattr(reap, "reap", lambda _: 0)
    monkeypatch.setattr(room, "refuse", lambda *_: None)
    monkeypatch.setattr(create, "_bring_up", lambda *_: {})
    monkeypatch.setattr(create, "remove", take)

    def fail(*_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        create.make(timedelta(hours=1), None, {}, fail, cold=True)
    assert len(taken) == 1
    assert records.every() == []
    made = create.make(timedelta(hours=1), None, {}, lambda *_: None, cold=True)
    assert [one.id for one in records.every()] == [made.id]
    assert records.every()[0].ready


def test_the_table_has_a_row_for_each(home: Path) -> None:
    rows = [["ci-0a1b2c3d", "ready", "1h", "1h", "20001 20002", "80 MB", "me@host"]]
    header, row = look.table(rows)
    assert header.index("left") == row.index("1h", row.index("1h") + 1)


def test_the_size_is_of_containers_and_volumes() -> None:
    used = {
        "Containers": [{"Labels": {LABEL_STACK: "ci-1"}, "SizeRw": 5}, {"Labels": None}],
        "Volumes": [
            {"Labels": {LABEL_STACK: "ci-1"}, "UsageData": {"Size": 7}},
            {"Labels": {LABEL_STACK: "ci-2"}, "UsageData": {"Size": -1}},
        ],
    }
    assert look.sizes_of(used) == {"ci-1": 12, "ci-2": 0}


# -- for Python ------------------------------------------------------------------------------------


def test_a_login_whose_secret_is_not_shared_has_no_dsn() -> None:
    env = pandom.ci.Environment("ci-1", {}, {"pandom_app": {"DATABASE_URL": "postgresql://x"}})
    assert env.dsn() == "postgresql://x"
    with pytest.raises(UsageError, match="pandom_app"):
        env.dsn("postgres")


def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What `environment` runs, instead of running it."""
    found: list[list[str]] = []

    def run(command: str, *arguments: str) -> str:
        found.append([command, *arguments])
        return '{"settings": {"PANDOM_CI_ID": "ci-1"}, "roles": {}}'

    monkeypatch.setattr(pandom.ci, "_pandom", run)
    return found


def test_the_block_makes_and_destroys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pandom.ci.KEEP_VARIABLE, raising=False)
    ran = commands(monkeypatch)
    with pandom.ci.environment(ttl="1h", settings={"sampleData": "true"}) as env:
        assert env.id == "ci-1"
    with pytest.raises(ZeroDivisionError), pandom.ci.environment():
        _ = 1 / 0
    assert [one[0] for one in ran] == ["create", "destroy", "create", "destroy"]
    assert {"--ttl=1h", f"--owner={os.getpid()}", "--set=sampleData=true"} <= set(ran[0])


def test_a_block_that_fails_may_keep_it_and_says_how_to_get_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = commands(monkeypatch)
    monkeypatch.setenv(pandom.ci.KEEP_VARIABLE, "2h")
    with pytest.raises(ZeroDivisionError), pandom.ci.environment():
        _ = 1 / 0
    assert ran[-1] == ["keep", "ci-1", "--for=2h"]
    assert "pandom ci psql ci-1" in capsys.readouterr().err
    with pandom.ci.environment():
        pass
    assert ran[-1] == ["destroy", "ci-1"]


def test_a_block_that_fails_keeps_what_the_servers_said_and_a_full_disk_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = commands(monkeypatch)
    monkeypatch.setenv(pandom.ci.LOG_VARIABLE, str(tmp_path / "servers.log"))
    with pandom.ci.environment():
        pass
    assert not (tmp_path / "servers.log").exists()
    with pytest.raises(ZeroDivisionError), pandom.ci.environment():
        _ = 1 / 0
    assert "ci-1" in (tmp_path / "servers.log").read_text()
    assert [one[0] for one in ran[2:]] == ["create", "logs", "destroy"]
    monkeypatch.setenv(pandom.ci.LOG_VARIABLE, str(tmp_path / "nowhere" / "servers.log"))
    with pytest.raises(ZeroDivisionError), pandom.ci.environment():
        _ = 1 / 0
    assert "was not written" in capsys.readouterr().err
    assert ran[-1] == ["destroy", "ci-1"]


@pytest.mark.parametrize("given", ["parameter", "variable"])
def test_how_long_one_is_kept_is_looked_at_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    ran = commands(monkeypatch)
    monkeypatch.setenv(pandom.ci.KEEP_VARIABLE, "1y" if given == "variable" else "")
    keep = "1y" if given == "parameter" else None
    with pytest.raises(UsageError, match=r"keep|PANDOM_CI_KEEP"), pandom.ci.environment(keep=keep):
        pass
    assert ran == []


def test_a_block_that_fails_shows_its_own_error_whatever_becomes_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = commands(monkeypatch)
    run = pandom.ci._pandom

    def fails(command: str, *arguments: str) -> str:
        if command == "keep":
            raise Failure("Docker stopped answering.")
        return run(command, *arguments)

    monkeypatch.setattr(pandom.ci, "_pandom", fails)
    with pytest.raises(ZeroDivisionError), pandom.ci.environment(keep="2h"):
        _ = 1 / 0
    assert [one[0] for one in ran] == ["create"]
    assert "Environment ci-1: Docker stopped answering." in capsys.readouterr().err


def test_what_a_command_says_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--ttl"), pandom.ci.environment(ttl="0"):
        pass
