"""No secret stands anywhere but in its reader's volume and, encrypted, in the state."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import psycopg
import pytest

from pandom.runtime import paths
from pandom.runtime.naming import KEYS_MOUNT, LABEL_PART, LABEL_STACK
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import JOBS, SERVERS, Spare

pytestmark = pytest.mark.requirement("B4")


def spellings(secret: str) -> set[str]:
    """A secret as it may be written: as it is, in a URL, in JSON, in base64 at any offset."""
    found = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        # The ends depend on what stands beside the secret.
        found.add(encoded[4 if offset else 0 : -4])
    return found


def leaks(secrets: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """Which secret stands where; the secrets themselves are not shown."""
    return [
        f"{name} in {place}"
        for name, secret in sorted(secrets.items())
        for place, text in places.items()
        if any(spelling in text for spelling in spellings(secret))
    ]


class Keyring(dict[str, str]):
    """Secrets by name; a failing test's traceback shows only how many."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


@pytest.fixture(scope="module")
def keyring(stack: RunningStack, engine: docker.DockerClient) -> Keyring:
    """Every secret of the stack: the generated ones, and whatever the volumes hold."""
    found = Keyring(stack.secrets)
    image = engine.containers.get(stack.container("keys")).image
    volumes = engine.volumes.list(filters={"label": f"{LABEL_STACK}={stack.name}"})
    readers = {
        volume.name: {"bind": f"/keys/{volume.name}", "mode": "ro"}
        for volume in volumes
        if "-keys-" in volume.name
    }
    script = (
        "import json, pathlib; print(json.dumps({str(p): p.read_text()"
        " for p in pathlib.Path('/keys').rglob('*') if p.is_file()}))"
    )
    output = engine.containers.run(
        image,
        ["-c", script],
        entrypoint="python3",
        user="0:0",
        network_mode="none",
        volumes=readers,
        remove=True,
    )
    for path, content in json.loads(output).items():
        if path.endswith((".crt", "root_user")):
            continue
        # Of a key's PEM, a line from the middle is enough, and no line is in a certificate.
        found[path] = content.splitlines()[1] if "PRIVATE KEY" in content else content
    return found


def inspections(engine: docker.DockerClient, name: str) -> dict[str, str]:
    wanted = {"label": f"{LABEL_STACK}={name}"}
    api = engine.api
    images = {one["ImageID"] for one in api.containers(all=True, filters=wanted)}
    return {
        **{
            f"docker inspect {one['Names'][0]}": json.dumps(api.inspect_container(one["Id"]))
            for one in api.containers(all=True, filters=wanted)
        },
        **{f"docker history {one}": json.dumps(api.history(one)) for one in images},
        "docker volume ls": json.dumps(api.volumes(filters=wanted)),
        "docker network ls": json.dumps(api.networks(filters=wanted)),
    }


def logs(engine: docker.DockerClient, name: str) -> dict[str, str]:
    found = engine.containers.list(all=True, filters={"label": f"{LABEL_STACK}={name}"})
    return {f"docker logs {one.name}": one.logs().decode(errors="replace") for one in found}


def processes() -> dict[str, str]:
    """The command lines of the whole host, containers included, as any user sees them."""
    return {"ps": subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)}


def state(stack: RunningStack) -> dict[str, str]:
    """The state with its history and backups, and whatever else lies beside it."""
    files = [
        *paths.backend().rglob(f"*{stack.name}*"),
        *paths.backend().rglob(f"*{stack.name}*/**/*"),
        *paths.stack_home(stack.name).rglob("*"),
        paths.stack_file(stack.name),
    ]
    return {str(path): path.read_text(errors="replace") for path in files if path.is_file()}


# -- the places -------------------------------------------------------------------------------


def test_docker_knows_no_secret(
    stack: RunningStack, engine: docker.DockerClient, keyring: Keyring
) -> None:
    found = inspections(engine, stack.name)
    assert len(found) >= len(SERVERS) + len(JOBS)
    assert leaks(keyring, found) == []


def test_process_lists_show_no_secret(keyring: Keyring) -> None:
    found = processes()
    assert "postgres" in found["ps"]
    assert leaks(keyring, found) == []


def test_the_state_holds_secrets_encrypted_only(stack: RunningStack, keyring: Keyring) -> None:
    found = state(stack)
    assert any("ciphertext" in text for text in found.values())
    assert leaks(keyring, found) == []


def test_git_sees_nothing_of_a_stack(stack: RunningStack, keyring: Keyring) -> None:
    """Neither the status nor a file that git would add holds a secret or the stack's name."""

    def git(*arguments: str) -> str:
        return subprocess.check_output(["git", *arguments], cwd=paths.ROOT, text=True)

    status = git("status", "--porcelain", "--untracked-files=all")
    assert stack.name not in status
    listed = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    files = [paths.ROOT / name for name in listed]
    found = {str(path): path.read_text(errors="replace") for path in files if path.is_file()}
    assert leaks(keyring, {"git status": status, **found}) == []


def test_each_reader_has_its_own_secrets_only(
    stack: RunningStack, inspected: Callable[[str], dict[str, Any]]
) -> None:
    def mounted(part: str) -> set[str]:
        names = {one["Name"] for one in inspected(part)["Mounts"] if one["Type"] == "volume"}
        prefix = f"{stack.container('keys')}-"
        return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}

    assert {part: mounted(part) for part in (*SERVERS, *JOBS) if part != "keys"} == {
        "postgres": {"postgres"},
        "minio": {"minio"},
        "operations": {"janitor"},
        "cluster": {"superuser"},
        "migration": {"migrator"},
        "storage": {"storage"},
    }
    assert "ca" in mounted("keys")


# -- the servers' logs, after statements that fail ---------------------------------------------


def provoke(connect: Callable[[], psycopg.Connection], secret: str) -> int:
    """Statements with a secret in them, nearly all of which fail; returns how many did."""
    literal = psycopg.sql.Literal(secret).as_string(None)
    statements: list[tuple[str, tuple[str, ...]]] = [
        (f"alter role nobody_of_this_name password {literal}", ()),
        (f"create role postgres login password {literal}", ()),
        (f"alter role postgres pasword {literal}", ()),
        (f"select {literal}, 1 / 0", ()),
        ("select %s::text, 1 / 0", (secret,)),
        (f"select pg_catalog.pg_sleep(5), {literal}", ()),
        (f"select * from missing_table where token = {literal}", ()),
        (f"do $$ begin perform {literal}; perform 1 / 0; end $$", ()),
        (f"create temporary table seen as select {literal}::text as token", ()),
        (f"insert into once values ({literal})", ()),
        ("insert into once values (%s)", (secret,)),
        (f"alter role provoked password {literal}", ()),
        (f"comment on role provoked is {literal} || 1", ()),
    ]
    failed = 0
    with connect() as connection:
        connection.execute("set statement_timeout = '300ms'")
        connection.execute("create temporary table once (token text primary key)")
        connection.execute("insert into once values (%s)", (secret,))
        connection.execute("create role provoked login")
        try:
            for statement, parameters in statements:
                try:
                    connection.execute(
                        statement.replace("%", "%%") if not parameters else statement,
                        parameters,
                    )
                except psycopg.Error:
                    failed += 1
        finally:
            connection.execute("drop role provoked")
    return failed


def test_server_and_job_logs_show_no_secret(
    stack: RunningStack, server: Server, engine: docker.DockerClient, keyring: Keyring
) -> None:
    for name in ("postgres", "pandom-app", "admin"):
        assert provoke(lambda: server.connect("postgres"), keyring[name]) >= 10
    wrong = {"host": server.host, "port": server.port, "sslmode": "require", "dbname": "pandom_db"}
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**wrong, user="pandom_app", password=keyring["postgres"])  # type: ignore[arg-type]
    found = logs(engine, stack.name)
    log = found[f"docker logs {stack.container('postgres')}"]
    # The log is one that would tell: the failures are in it, and who failed to sign in.
    assert "division by zero" in log
    assert 'password authentication failed for user "pandom_app"' in log
    assert "AUDIT: SESSION" in log
    assert leaks(keyring, found) == []


# -- the search itself --------------------------------------------------------------------------


def test_the_search_finds_secrets_where_they_must_not_be(
    spare: Spare, stack: RunningStack, engine: docker.DockerClient, keyring: Keyring
) -> None:
    name, secret = "pandom-app", keyring["pandom-app"]
    only = Keyring({name: secret})

    def made(command: str, **options: Any) -> str:
        container = spare.create("keys", ["-c", command], entrypoint="bash", **options)
        container.start()
        return str(container.name)

    talkative = made(f"echo {base64.b64encode(b'x' + secret.encode()).decode()}")
    told = made("sleep 30", environment={"APP_PASSWORD": secret})
    labelled = made("sleep 30", labels={**spare.labels, LABEL_PART: secret})
    engine.containers.get(talkative).wait(timeout=30)
    assert set(leaks(only, inspections(engine, stack.name))) == {
        f"{name} in docker inspect /{container}" for container in (talkative, told, labelled)
    }
    assert leaks(only, logs(engine, stack.name)) == [f"{name} in docker logs {talkative}"]
    with subprocess.Popen(["sleep", "30"], executable="/bin/sleep") as harmless:
        assert leaks(only, processes()) == []
        harmless.kill()
    with subprocess.Popen([secret, "30"], executable="/bin/sleep") as careless:
        assert leaks(only, processes()) == [f"{name} in ps"]
        careless.kill()


def test_the_search_reads_the_state_and_the_checkout(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyring: Keyring
) -> None:
    only = Keyring(admin=keyring["admin"])
    monkeypatch.setattr(paths, "backend", lambda: tmp_path)
    backup = tmp_path / "backups" / f"{stack.name}.json.bak"
    backup.parent.mkdir()
    backup.write_text(json.dumps({"password": keyring["admin"]}))
    assert leaks(only, state(stack)) == [f"admin in {backup}"]
    assert os.fspath(KEYS_MOUNT) not in str(backup)


def test_a_talkative_server_would_be_found_out(spare: Spare, spare_keys: Any) -> None:
    from tests.infra.conftest import SPARE_PASSWORD
    from tests.infra.test_startup import PORT, connect

    mounts = {spare.volume(): {"bind": "/var/lib/postgresql"}, **spare_keys.mount("postgres")}
    secret = "a-secret-that-a-statement-holds"
    settings = ("log_min_error_statement=error", "log_statement=all", "pgaudit.log_statement=on")
    for setting in ("log_duration=off", *settings):
        server = spare.start("postgres", ["-c", setting], volumes=mounts, ports=PORT)
        provoke(lambda made=server: connect(made), secret)  # type: ignore[misc]
        text = server.logs().decode()
        seen = leaks({"secret": secret}, {"log": text})
        assert seen == ([] if setting == "log_duration=off" else ["secret in log"]), setting
        assert leaks({"password": SPARE_PASSWORD}, {"log": text}) == []
        server.stop()
    # PostgreSQL's own JSON has DETAIL and the text of dynamic SQL, whatever the verbosity.
    to_json = ("logging_collector=on", "log_destination=jsonlog", "log_directory=/tmp/log")
    options = [word for setting in to_json for word in ("-c", setting)]
    server = spare.start("postgres", options, volumes=mounts, ports=PORT)
    provoke(lambda: connect(server), secret)
    text = server.exec_run(["sh", "-c", "cat /tmp/log/*.json"]).output.decode()
    assert leaks({"secret": secret}, {"log": text}) == ["secret in log"]


def test_logs_are_json_where_that_keeps_secrets_out(
    stack: RunningStack, engine: docker.DockerClient
) -> None:
    for part in ("minio", "operations"):
        text = engine.containers.get(stack.container(part)).logs().decode()
        lines = [one for one in text.splitlines() if " http: TLS handshake error from " not in one]
        assert lines
        assert all(json.loads(line) for line in lines)
    # Of the object store these are Go's own, and hold an address.
    text = engine.containers.get(stack.container("postgres")).logs().decode()
    pattern = re.search(r"^    (\^.*)$", (paths.ROOT / "docs" / "monitoring.md").read_text(), re.M)
    assert pattern
    read = [re.match(pattern[1], line) for line in text.splitlines()]
    assert {"pandom_user", None} <= {one["user"] for one in read if one}
    # The rest is of pgBackRest and the entry point.
    assert [
        one
        for one, found in zip(text.splitlines(), read, strict=True)
        if " UTC [" in one and not found
    ] == []
