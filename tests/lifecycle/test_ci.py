"""`pandom ci`: an environment from `create` to nothing left. All but the kills share one."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import docker
import psycopg
import pytest
import yaml

import pandom.ci
from pandom.ci import cache, records
from pandom.commands import cli
from pandom.config.outputs import ENV, ENV_NAMES
from pandom.host import lock
from pandom.runtime import paths
from pandom.runtime.naming import LABEL_EXPIRES, LABEL_OWNER, LABEL_STACK, resource_name
from tests.fixtures import leaks
from tests.fixtures.soak import Progress
from tests.fixtures.stack import Pandom, left_in_docker
from tests.fixtures.wheel import build

Wait = Callable[[Callable[[], bool], str], None]


@pytest.fixture
def command() -> Pandom:
    return Pandom()


def left_of(name: str) -> list[str]:
    """Everything of an environment that there is anywhere."""
    files = [records.folder() / name, paths.state_home() / "locks" / name]
    files += (paths.ROOT / "stacks").glob(f"*{name}*")
    processes = lock.with_mark(str(records.folder() / name / "pandom-stack" / name))
    return [
        *left_in_docker(name),
        *(str(one) for one in files if one.exists()),
        *(one.name for one in processes),
    ]


@pytest.fixture(scope="module")
def env() -> Iterator[pandom.ci.Environment]:
    with pandom.ci.environment(ttl="1h", settings={"sampleData": "true"}) as made:
        leaks.watch(value for name, value in made.settings.items() if "PASSWORD" in name)
        yield made
    assert left_of(made.id) == []
    # The images are everybody's.
    assert made.id not in str([one.attrs for one in docker.from_env().images.list()])


def test_its_settings_are_those_of_env_and_its_logins_get_in(
    env: pandom.ci.Environment, command: Pandom
) -> None:
    assert list(env.settings) == ["PANDOM_CI_ID", *ENV_NAMES]
    again = json.loads(command("ci", "env", env.id, "--format", "json").stdout)
    assert again == dict(env.settings)
    for role in ("pandom_app", "pandom_user", "pandom_auditor"):
        with psycopg.connect(env.dsn(role)) as client:
            assert client.execute("select current_user").fetchone() == (role,)
    with psycopg.connect(env.dsn("pandom_user")) as client:
        # What --set asked for.
        found = client.execute("select count(*) > 1 from public.auth_users").fetchone()
        assert found == (True,)
        assert client.execute("show fsync").fetchone() == ("off",)


def test_it_is_listed_with_what_people_ask_for(env: pandom.ci.Environment, command: Pandom) -> None:
    rows = json.loads(command("ci", "list", "--format", "json").stdout)
    [row] = [one for one in rows if one["id"] == env.id]
    assert row["state"] == "ready"
    assert 0 < row["left_s"] <= 3600
    # One is kept for the exporter, should it be switched on.
    assert {int(env.settings["DB_PORT"]), int(env.settings["MINIO_PORT"])} < set(row["ports"])
    assert row["size_bytes"] > 1 << 20
    assert f"process {os.getpid()}" in row["who"]
    assert env.id in command("ci", "list").stdout


def test_everything_in_docker_says_whose_it_is_and_until_when(env: pandom.ci.Environment) -> None:
    api = docker.from_env().api
    wanted = {"label": f"{LABEL_STACK}={env.id}"}
    found = [
        *api.containers(all=True, filters=wanted),
        *api.networks(filters=wanted),
        *api.volumes(filters=wanted)["Volumes"],
    ]
    assert len(found) > 10
    home = records.find(env.id).state_home
    for one in found:
        assert one["Labels"][LABEL_EXPIRES] == records.find(env.id).expires.isoformat()
        assert one["Labels"][LABEL_OWNER].endswith(f":{home}")


def test_its_audit_is_clean_and_every_command_takes_its_name(
    env: pandom.ci.Environment, command: Pandom
) -> None:
    command("audit", "--stack", env.id, "--store", "--host")
    command("health", "--stack", env.id)
    assert "has a state" in command("status", "--stack", env.id).stdout


def test_people_get_in(env: pandom.ci.Environment, command: Pandom) -> None:
    done = replace(command, forks=False)("ci", "psql", env.id, "-Atc", "select 6 * 7, user")
    assert done.stdout.strip() == "42|pandom_user"
    said = command("ci", "logs", env.id).stdout
    assert "database system is ready to accept connections" in said
    assert not leaks.leaked(said)
    only = command("ci", "logs", env.id, "minio").stdout
    assert only.startswith("==> minio (healthy)")
    assert "==> postgres" not in only
    assert "postgres" in command("ci", "logs", env.id, "nobody", code=2).stderr


EXAMPLE = paths.ROOT / "examples" / "python"
THEIR_TESTS = """
import pytest

@pytest.mark.parametrize("number", range(6))
def test_nobody_was_here_before(pandom_database, pandom_stack, number):
    alice = pandom_database.user("alice@example.com")
    with alice.transaction() as connection:
        query = "select current_user, count(*) from public.sessions"
        assert connection.execute(query).fetchone() == ("pandom_app", 1)
    assert pandom_stack.id

def test_a_place_in_the_bucket(pandom_bucket):
    assert pandom_bucket.settings["MINIO_ACCESS_KEY"] in pandom_bucket.prefix

def test_that_fails(pandom_database):
    with pandom_database.connect() as connection:
        connection.execute("select 'a secret' || %s as shown", ("another secret",))
        connection.execute("select 1 from nowhere where it = 4711")
"""


def test_somebody_elses_tests_use_its_fixtures(env: pandom.ci.Environment, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["pandom.pytest_plugin"]\n')
    (tmp_path / "test_theirs.py").write_text(THEIR_TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={
            **os.environ,
            "PANDOM_CI_ID": env.id,
            "PANDOM_CI_LOG": "servers.log",
            "PYTHONPATH": str(paths.ROOT),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "1 failed, 11 passed" in done.stdout, done.stdout + done.stderr
    kept = (tmp_path / "servers.log").read_text()
    for said in (done.stdout.partition("- last statements -")[2], kept):
        assert "select ? || %s as shown" in said
        assert "select ? from nowhere where it = ?" in said
        assert not re.search("secret|4711", said.partition("short test summary")[0])
    assert "test_theirs.py::test_that_fails" in kept
    assert 'relation "nowhere" does not exist' in kept
    with psycopg.connect(env.dsn("pandom_user")) as client:
        rows = client.execute("select datname from pg_database order by 1").fetchall()
    assert [name for (name,) in rows if name.startswith("pandom_")] == ["pandom_db"]
    # What was there is left.
    assert records.find(env.id).ready


def test_what_lives_is_not_reaped_and_what_is_over_would_be(
    env: pandom.ci.Environment, command: Pandom
) -> None:
    made = records.find(env.id)
    assert env.id not in command("ci", "reap").stdout
    try:
        replace(made, owner=None, expires=datetime.now(UTC) - timedelta(minutes=1)).write()
        assert f"would remove environment {env.id}" in command("ci", "reap", "--dry-run").stdout
        assert "expired" in command("ci", "env", env.id, code=2).stderr
        assert "expired" in command("ci", "keep", env.id, "--for", "2h", code=2).stderr
    finally:
        made.write()
    assert left_of(env.id) != []


# Verifiers and hashes of passwords, as they would stand in a server's files.
HASHES = re.compile(rb"SCRAM-SHA-256\$\d+:|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")


def test_nothing_secret_is_in_the_cache(env: pandom.ci.Environment) -> None:
    files = [one for one in cache.folder().rglob("*") if one.is_file()]
    assert {"cluster.tar", "state.json"} <= {one.name for one in files}
    with psycopg.connect(env.dsn("pandom_user")) as client:
        found = client.execute("select password_hash from public.auth_users").fetchall()
    assert HASHES.search(found[0][0].encode())  # what would be found
    hidden = [value.encode() for name, value in env.settings.items() if ENV.get(name)]
    for one in files:
        content = one.read_bytes()
        assert not HASHES.search(content), one
        assert not [value for value in hidden if value in content], one.name


def test_it_is_kept_longer(env: pandom.ci.Environment, command: Pandom) -> None:
    made = records.find(env.id)
    command("ci", "keep", env.id, "--for", "3h")
    kept = records.find(env.id)
    assert kept.expires > made.expires
    assert kept.owner is None
    made.write()


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--ttl", "0"),
        ("create", "--ttl", "365d"),
        ("create", "--ttl", "soon"),
        ("create", "--owner", "999999999"),
        ("create", "--set", "profile=production"),
        ("create", "--set", "sampleDate=true"),
        ("create", "--set", "minioMemoryMb=999999"),
        ("create", "--format", "yaml"),
        ("destroy", "ci-ffffffff"),
        ("destroy", "dev"),
        ("keep", "ci-ffffffff", "--for", "2h"),
        ("psql", "ci-ffffffff"),
        ("logs", "ci-ffffffff"),
        ("env", "ci-ffffffff"),
    ],
    ids=" ".join,
)
def test_a_mistake_gets_a_message_and_makes_nothing(
    command: Pandom, arguments: tuple[str, ...]
) -> None:
    before = sorted(records.folder().glob("*"))
    done = command("ci", *arguments, code=2)
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(records.folder().glob("*")) == before


LATER = ("postgres", "storage")


def killed_when(command: Pandom, wait_for: Wait, part: str) -> str:
    """The id of an environment whose making was killed once a part's container was there."""
    known = {one.id for one in records.every()}
    process = command.start("ci", "create")
    try:
        wait_for(lambda: bool({one.id for one in records.every()} - known), "a record")
        [name] = {one.id for one in records.every()} - known
        there = partial(left_in_docker, name)
        wait_for(lambda: f"/{resource_name(name, part)}" in there(), part)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return name


@pytest.mark.parametrize(
    "part",
    ["keys", *(pytest.param(one, marks=pytest.mark.soak) for one in ("postgres", "storage"))],
)
def test_of_a_making_that_was_killed_the_next_reap_leaves_nothing(
    command: Pandom, wait_for: Wait, part: str
) -> None:
    name = killed_when(command, wait_for, part)
    assert left_of(name) != []
    assert "not made completely" in command("ci", "psql", name, code=2).stderr
    assert name in command("ci", "reap").stdout
    assert left_of(name) == []


# -- docs/ci.md ------------------------------------------------------------------------------------

PAGE = (paths.ROOT / "docs" / "ci.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def steps_of_github() -> list[dict[str, str]]:
    """What the job of GitHub Actions runs, without what others provide."""
    job = yaml.safe_load(blocks("yaml")[0])["jobs"]["tests"]
    return [one for one in job["steps"] if "run" in one]


def lines_of_gitlab() -> list[str]:
    job = yaml.safe_load(blocks("yaml")[1])["tests"]
    return [*job["script"], *job["after_script"]]


def given(*lines: str) -> list[str]:
    """Lines as they are run: without what the page marks as the reader's own."""
    return [line for line in lines if "# yours" not in line]


def test_every_command_of_the_page_is_one() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [*(one["run"] for one in steps_of_github()), *lines_of_gitlab()]
    ours = [shlex.split(one, comments=True)[1:] for one in lines if "bin/pandom" in one]
    assert len(ours) > 10
    for arguments in ours:
        words = arguments[: arguments.index(">")] if ">" in arguments else arguments
        cli.parser().parse_args(words)
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["ci", "creat"])


def shell(script: str, folder: Path, variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the lines find the clone, and leave their files beside it."""
    for path in paths.ROOT.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.soak
def test_the_job_of_github_does_as_it_stands_there(checkout: Path) -> None:
    file = checkout / "github-env"
    file.touch()
    variables = {"GITHUB_ENV": str(file)}
    for step in steps_of_github():
        if not given(step["run"]):
            continue
        shell(step["run"], checkout, variables)
        # As the runner reads it; the test's reading is `test_env`'s.
        for name, _, value in re.findall(r"^(\w+)<<(\w+)\n(.*?)\n\2$", file.read_text(), re.M):
            variables[name] = value
    assert left_of(variables["PANDOM_CI_ID"]) == []
    assert "database system is ready" in (checkout / "servers.log").read_text()


@pytest.mark.soak
def test_the_job_of_gitlab_does_as_it_stands_there(checkout: Path) -> None:
    known = {one.id for one in records.every()}
    for half in ("script", "after_script"):
        job = yaml.safe_load(blocks("yaml")[1])["tests"]
        shell("\n".join(given(*job[half])), checkout, {})
    assert "database system is ready" in (checkout / "servers.log").read_text()
    assert {one.id for one in records.every()} <= known


# -- another repository ----------------------------------------------------------------------------


@pytest.mark.soak
def test_another_repository_needs_one_line(tmp_path: Path) -> None:
    known = {one.id for one in records.every()}
    shutil.copytree(EXAMPLE, tmp_path / "theirs")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    (tmp_path / "wheels").mkdir()
    links = f"--find-links={build(tmp_path / 'wheels').parent}"
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "--quiet", links]
    needed = tmp_path / "theirs" / "requirements.txt"
    subprocess.run([*pip, f"--requirement={needed}"], check=True)
    installed = files_of(tmp_path / "venv")
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "theirs",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert files_of(tmp_path / "venv") == installed
    assert {one.id for one in records.every()} == known


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# -- many ------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_eight_at_once_do_not_meet(command: Pandom) -> None:
    with ThreadPoolExecutor(8) as beside:
        made = list(beside.map(lambda _: command("ci", "create", "--format", "json"), range(8)))
    found = [json.loads(one.stdout) for one in made]
    ids = {one["PANDOM_CI_ID"] for one in found}
    assert len({one[port] for one in found for port in ("DB_PORT", "MINIO_PORT")}) == 16
    try:
        assert len(ids) == 8
        for name in sorted(ids):
            command("audit", "--stack", name, "--store", "--host")
    finally:
        for name in ids:
            command("ci", "destroy", name)
    assert [left for name in ids for left in left_of(name)] == []


@pytest.mark.soak
def test_rounds_of_create_kill_reap_leave_nothing(
    command: Pandom, request: pytest.FixtureRequest
) -> None:
    progress = Progress.of(request.config, "ci-killed")
    moments = random.Random(progress.done)  # noqa: S311
    for done in range(progress.done, 50):
        known = {one.id for one in records.every()}
        process = command.start("ci", "create")
        time.sleep(moments.uniform(0.5, 25.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        made = {one.id for one in records.every()} - known
        for name in made:  # it may have been ready
            found = records.find(name)
            replace(found, expires=datetime.now(UTC)).write()
        command("ci", "reap")
        assert [left for name in made for left in left_of(name)] == []
        progress.note(done + 1)
