"""What the images refuse, each with one line and exit code 1, and what they repair."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pandom.runtime.naming import KEYS_MOUNT, UID_MINIO, UID_POSTGRES
from tests.infra.conftest import (
    SPARE_PASSWORD,
    Spare,
    SpareKeys,
    archive,
    await_health,
    new_keys,
    write_keys,
)

pytestmark = pytest.mark.requirement("B4")

UIDS = {"postgres": UID_POSTGRES, "minio": UID_MINIO}
PGDATA = "/var/lib/postgresql/17/data"


def prepared(spare: Spare, part: str, mounts: dict[str, Any], script: str) -> None:
    """Run a script as root on volumes, with the rights that a host's root has."""
    code, output = spare.run(
        part, ["-c", script], entrypoint="bash", user="0:0", cap_drop=None, volumes=mounts
    )
    assert code == 0, output


def refused(spare: Spare, part: str, mounts: dict[str, Any], **options: Any) -> str:
    """The one line with which a server refuses to start."""
    code, output = spare.run(part, volumes=mounts, **options)
    assert code == 1, output
    lines = [line for line in output.splitlines() if line.startswith(f"pandom-{part}: ")]
    assert len(lines) == 1, output
    assert SPARE_PASSWORD not in output
    return lines[0]


# -- secrets and certificates ---------------------------------------------------------------


@pytest.mark.parametrize("part", ["postgres", "minio"])
def test_without_secrets_no_server_starts(spare: Spare, part: str) -> None:
    line = refused(spare, part, {})
    assert "is missing, empty or not readable" in line
    assert "keys job" in line


DAMAGE = {
    "postgres": {
        "rm superuser_password": "superuser_password is missing",
        ": > superuser_password": "superuser_password is missing, empty",
        "cat ca.crt ca.crt > superuser_password": "more than one line",
        "echo rubbish > server.crt": "server.crt is not a certificate",
        "cp ca.crt server.crt": "do not belong together",
        "echo rubbish > server.key": "server.key is not a private key",
        "openssl genpkey -quiet -algorithm ed25519 > server.key": "do not belong together",
        "openssl req -x509 -quiet -key server.key -subj /CN=x -not_before 20200101000000Z"
        " -not_after 20200102000000Z -out server.crt": "server.crt has expired",
    },
    "minio": {
        "rm -r certs": "public.crt is missing",
        "echo rubbish > certs/public.crt": "public.crt is not a certificate",
        "echo rubbish > certs/private.key": "private.key is not a private key",
        "rm root_password": "root_password is missing",
    },
}


@pytest.mark.parametrize("part", DAMAGE)
def test_each_broken_key_file_is_named(spare: Spare, spare_keys: SpareKeys, part: str) -> None:
    """MinIO would serve plain HTTP without its certificate. One container tries all damage."""
    rounds = [
        f"rm -rf {KEYS_MOUNT}/*; cp -r /good/* {KEYS_MOUNT}; chmod -R u+rwX {KEYS_MOUNT}; "
        f'cd {KEYS_MOUNT}; {damage}; cd /; pandom-{part}; echo "exit $?"'
        for damage in DAMAGE[part]
    ]
    uid = UIDS[part]
    code, output = spare.run(
        part,
        # One stream: Docker's log has two in any order.
        ["-c", "\n".join(["exec 2>&1", *rounds])],
        entrypoint="bash",
        volumes={getattr(spare_keys, part): {"bind": "/good", "mode": "ro"}},
        tmpfs={str(KEYS_MOUNT): f"uid={uid},mode=0700", "/tmp": "mode=1777"},  # noqa: S108
    )
    assert code == 0, output
    assert SPARE_PASSWORD not in output
    lines = output.splitlines()
    assert lines[1::2] == ["exit 1"] * len(rounds), output
    for line, expected in zip(lines[::2], DAMAGE[part].values(), strict=True):
        assert line.startswith(f"pandom-{part}: ")
        assert expected in line


# -- volumes --------------------------------------------------------------------------------


def small(spare: Spare, megabytes: int, uid: int) -> str:
    """A volume of a given size, in memory."""
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={megabytes}m,uid={uid},mode=0700"}
    return spare.volume(driver="local", driver_opts=options)


def test_a_full_volume_is_named(spare: Spare, spare_keys: SpareKeys) -> None:
    data = {small(spare, 30, UID_POSTGRES): {"bind": "/var/lib/postgresql"}}
    line = refused(spare, "postgres", {**data, **spare_keys.mount("postgres")})
    assert "is too small: 30 MB free, 128 MB are needed" in line
    objects = {small(spare, 16, UID_MINIO): {"bind": "/data"}}
    line = refused(spare, "minio", {**objects, **spare_keys.mount("minio")})
    assert "is full: 16 MB free" in line


@pytest.mark.parametrize(
    ("part", "path"), [("postgres", "/var/lib/postgresql"), ("minio", "/data")]
)
def test_an_unwritable_volume_is_named(
    spare: Spare, spare_keys: SpareKeys, part: str, path: str
) -> None:
    foreign = {small(spare, 200, 1): {"bind": path}}
    line = refused(spare, part, {**foreign, **spare_keys.mount(part)})
    assert "cannot be written by uid" in line


@pytest.mark.parametrize("place", ["16/data", "data", "."])
def test_another_major_version_is_named(spare: Spare, spare_keys: SpareKeys, place: str) -> None:
    data = {spare.volume(): {"bind": "/var/lib/postgresql"}}
    prepared(
        spare,
        "postgres",
        data,
        f"cd /var/lib/postgresql && mkdir -p {place} && echo 16 > {place}/PG_VERSION",
    )
    line = refused(spare, "postgres", {**data, **spare_keys.mount("postgres")})
    assert "holds a PostgreSQL 16 cluster" in line


def test_a_folder_that_is_no_cluster_is_left_alone(spare: Spare, spare_keys: SpareKeys) -> None:
    data = {spare.volume(): {"bind": "/var/lib/postgresql"}}
    prepared(spare, "postgres", data, f"mkdir -p {PGDATA} && touch {PGDATA}/precious")
    line = refused(spare, "postgres", {**data, **spare_keys.mount("postgres")})
    assert "is left alone" in line
    prepared(spare, "postgres", data, f"test -e {PGDATA}/precious")


@pytest.mark.parametrize(
    ("part", "path"), [("postgres", "/var/lib/postgresql"), ("minio", "/data")]
)
def test_two_servers_on_one_volume_are_refused(
    spare: Spare, spare_keys: SpareKeys, part: str, path: str
) -> None:
    mounts = {spare.volume(): {"bind": path}, **spare_keys.mount(part)}
    first = spare.start(part, volumes=mounts)
    assert "another container is running on this volume" in refused(spare, part, mounts)
    await_health(first, part)


# -- what is repaired -------------------------------------------------------------------------


def connect(container: Any, password: str = SPARE_PASSWORD) -> psycopg.Connection:
    container.reload()
    return psycopg.connect(
        host="127.0.0.1",
        port=int(container.ports["5432/tcp"][0]["HostPort"]),
        user="postgres",
        password=password,
        dbname="postgres",
        sslmode="require",
        autocommit=True,
    )


@pytest.fixture
def mounts(spare: Spare, spare_keys: SpareKeys) -> dict[str, Any]:
    return {spare.volume(): {"bind": "/var/lib/postgresql"}, **spare_keys.mount("postgres")}


PORT = {"5432/tcp": ("127.0.0.1", None)}


@pytest.mark.parametrize("seconds", [0.4, 0.8])
def test_a_first_start_killed_halfway_is_completed_by_the_next(
    spare: Spare, mounts: dict[str, Any], seconds: float
) -> None:
    killed = spare.create("postgres", volumes=mounts)
    killed.start()
    time.sleep(seconds)
    killed.kill()
    server = spare.start("postgres", volumes=mounts, ports=PORT)
    with connect(server) as connection:
        assert connection.execute("show data_checksums").fetchone() == ("on",)
    left = server.exec_run(["ls", "/var/lib/postgresql/17"]).output.decode().split()
    assert left == ["data"]


def test_what_a_killed_initdb_leaves_is_thrown_away(spare: Spare, mounts: dict[str, Any]) -> None:
    prepared(
        spare,
        "postgres",
        mounts,
        "cd /var/lib/postgresql && mkdir -p 17/new/base && echo 17 > 17/new/PG_VERSION"
        " && chown -R 5432:5432 17",
    )
    server = spare.start("postgres", volumes=mounts)
    left = server.exec_run(["ls", "/var/lib/postgresql/17"]).output.decode().split()
    assert left == ["data"]


def test_data_outlives_a_kill_and_the_container(spare: Spare, mounts: dict[str, Any]) -> None:
    first = spare.start("postgres", volumes=mounts, ports=PORT)
    with connect(first) as connection:
        connection.execute("create table kept as select 42 as answer")
    first.kill()
    second = spare.start("postgres", volumes=mounts, ports=PORT)
    with connect(second) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_the_superuser_s_password_follows_its_secret(spare: Spare) -> None:
    keys = new_keys(spare)
    mounts = {spare.volume(): {"bind": "/var/lib/postgresql"}, **keys.mount("postgres")}
    first = spare.start("postgres", volumes=mounts, ports=PORT)
    with connect(first) as connection:
        connection.execute("alter role postgres password 'changed by hand in the database'")
    first.stop()
    second = spare.start("postgres", volumes=mounts, ports=PORT)
    connect(second).close()

    # Another secret, with everything in it that quoting could stumble over.
    awkward = r"""it's "quoted" \ $HOME `id` % ; -- ünï"""
    volumes = {"ca": spare.volume(), "postgres": keys.postgres, "minio": keys.minio}
    assert write_keys(spare, volumes, awkward)[0] == 0
    second.restart()
    await_health(second, "postgres")
    connect(second, awkward).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(second)
    assert awkward not in second.logs().decode()


def test_a_stop_is_a_fast_shutdown(spare: Spare, mounts: dict[str, Any]) -> None:
    server = spare.start("postgres", volumes=mounts, ports=PORT)
    with connect(server):  # a client that does not leave by itself
        server.stop(timeout=20)
    server.reload()
    assert server.attrs["State"]["ExitCode"] == 0
    log = server.logs().decode()
    assert "received fast shutdown request" in log
    assert "database system is shut down" in log


# -- the health check -------------------------------------------------------------------------


def test_health_sees_a_server_that_is_not_ready(spare: Spare, mounts: dict[str, Any]) -> None:
    server = spare.start("postgres", volumes=mounts)

    def healthy() -> bool:
        return bool(server.exec_run(["pandom-healthy"]).exit_code == 0)

    def answered(ago: str) -> None:
        server.exec_run(["bash", "-c", f"date -d '{ago}' +%s > /tmp/answered"])

    received = server.logs().decode().count("connection received")
    assert healthy()
    assert server.logs().decode().count("connection received") == received
    # The last proof over TCP is too old: another one is asked for.
    answered("1 minute ago")
    assert healthy()
    assert server.logs().decode().count("connection received") == received + 1
    # A server that hangs still calls itself ready, and cannot give the proof.
    answered("1 minute ago")
    process = int(server.attrs["State"]["Pid"])
    os.kill(process, signal.SIGSTOP)
    hung = healthy()
    os.kill(process, signal.SIGCONT)
    assert hung is False
    server.exec_run(["sed", "-i", "8s/.*/starting/", f"{PGDATA}/postmaster.pid"])
    assert not healthy()


def test_a_health_check_that_is_killed_ends_no_session(
    spare: Spare, mounts: dict[str, Any]
) -> None:
    """What it started becomes a child of the server, which takes it for one of its own."""
    server = spare.start("postgres", volumes=mounts)
    process = int(server.attrs["State"]["Pid"])

    def ended_badly(command: list[str], named: str) -> str:
        """What the server says of the children of a command that is killed while it hangs."""
        os.kill(process, signal.SIGSTOP)
        try:
            server.exec_run(command, detach=True)
            time.sleep(1)
            rows = [row for row in server.top()["Processes"] if named in row[-1]]
            outermost = {row[1] for row in rows} - {
                row[1] for row in rows for one in rows if row[2] == one[1]
            }
            for pid in outermost:
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(5)
        finally:
            os.kill(process, signal.SIGCONT)
        time.sleep(1)
        return str(server.logs().decode())

    said = ended_badly(["pandom-healthy"], "pandom-healthy")
    assert "terminating any other active server processes" not in said
    # One that asks without that care would be taken for a crashed session.
    said = ended_badly(["bash", "-c", "pg_isready -h 127.0.0.1 -t 2; : careless"], "careless")
    assert "terminating any other active server processes" in said


def test_a_renewed_certificate_is_taken_by_reload(spare: Spare, tmp_path: Path) -> None:
    keys = new_keys(spare)
    mounts = {spare.volume(): {"bind": "/var/lib/postgresql"}, **keys.mount("postgres")}
    server = spare.start("postgres", volumes=mounts, ports=PORT)
    connect(server).close()
    # A new CA volume means a new CA, and so a new certificate.
    volumes = {"ca": spare.volume(), "postgres": keys.postgres, "minio": keys.minio}
    code, certificate = write_keys(spare, volumes)
    assert code == 0
    ca = tmp_path / "ca.crt"
    ca.write_text(certificate)

    def verified() -> bool:
        try:
            psycopg.connect(
                host="127.0.0.1",
                port=int(server.ports["5432/tcp"][0]["HostPort"]),
                user="postgres",
                password=SPARE_PASSWORD,
                dbname="postgres",
                sslmode="verify-full",
                sslrootcert=str(ca),
            ).close()
        except psycopg.OperationalError as error:
            assert "certificate verify failed" in str(error)  # noqa: PT017 - the reason counts
            return False
        return True

    assert not verified()
    server.kill("HUP")
    end = time.monotonic() + 10
    while not verified() and time.monotonic() < end:
        time.sleep(0.1)
    assert verified()


def test_a_bad_request_of_keys_ends_red_and_says_why(spare: Spare) -> None:
    job = spare.create("keys", ["job", "keys"], user="0:0", read_only=False, network_mode="none")
    job.put_archive("/run", archive("pandom-keys.json", b'{"sans": {}, "readers"'))
    job.start()
    assert job.wait(timeout=60)["StatusCode"] == 1
    output = job.logs().decode()
    assert "/run/pandom-keys.json is not JSON" in output
    assert "Traceback" not in output
