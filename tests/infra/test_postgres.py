"""The PostgreSQL container: its files, its configuration, who gets in and how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import testinfra
from docker.models.containers import Container
from testinfra.host import Host

from pandom.runtime.naming import KEYS_MOUNT, UID_POSTGRES
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import SPARE_PASSWORD, Spare, SpareKeys, archive, await_health

pytestmark = pytest.mark.requirement("B4")

DATA = "/var/lib/postgresql/17/data"

# What the image decides; memory and durability are the stack's (pandom/config/container_specs.py).
SETTINGS = {
    "allow_alter_system": "off",
    "config_file": "/etc/pandom/postgresql.conf",
    "data_checksums": "on",
    "hba_file": "/etc/pandom/pg_hba.conf",
    "listen_addresses": "*",
    "log_connections": "on",
    "log_disconnections": "on",
    "log_destination": "stderr",
    "log_duration": "off",
    "log_error_verbosity": "terse",
    "log_min_duration_sample": "-1",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "logging_collector": "off",
    "password_encryption": "scram-sha-256",
    "pgaudit.log": "ddl, role",
    "pgaudit.log_parameter": "off",
    "pgaudit.log_statement": "off",
    "server_encoding": "UTF8",
    "shared_preload_libraries": "pgaudit",
    "ssl": "on",
    "ssl_min_protocol_version": "TLSv1.2",
    "unix_socket_directories": "",
}
RULES = [("hostssl", ["all"], ["all"], "all", "scram-sha-256", None)]


def settings_of(connection: psycopg.Connection) -> dict[str, str]:
    rows = connection.execute(
        "select name, setting from pg_catalog.pg_settings where name = any (%s)",
        [list(SETTINGS)],
    )
    return dict(rows.fetchall())


def rules_of(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select type, database, user_name, address, auth_method, error"
        " from pg_catalog.pg_hba_file_rules order by rule_number"
    ).fetchall()


def weak_passwords(connection: psycopg.Connection) -> list[str]:
    """Roles that could sign in with something else than SCRAM, or with nothing."""
    rows = connection.execute(
        "select rolname from pg_catalog.pg_authid where rolcanlogin"
        " and coalesce(rolpassword, '') not like 'SCRAM-SHA-256$%' order by 1"
    )
    return [name for (name,) in rows]


def refusal(**options: Any) -> str | None:
    """Why a connection is refused; None if it is not."""
    try:
        psycopg.connect(**{"connect_timeout": 5, "dbname": "postgres", **options}).close()
    except psycopg.OperationalError as error:
        return str(error)
    return None


def client(server: Server, **options: Any) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": "postgres",
        "password": server.passwords["postgres"],
        "sslmode": "verify-full",
        "sslrootcert": str(server.ca),
        **options,
    }


# -- files ------------------------------------------------------------------------------


def test_the_user_is_the_image_s_own(inside: Callable[[str], Host]) -> None:
    user = inside("postgres").user("postgres")
    assert (user.uid, user.gid, user.shell) == (UID_POSTGRES, UID_POSTGRES, "/usr/sbin/nologin")


KEY_FILES = {"superuser_password", "repository_key", "server.key", "server.crt", "ca.crt"}


def key_problems(host: Host) -> list[str]:
    """What is wrong with the reader's files, folder and mount."""
    folder = host.file(str(KEYS_MOUNT))
    found = [f"unexpected {name}" for name in sorted(set(folder.listdir()) - KEY_FILES)]
    for name in (".", *sorted(KEY_FILES)):
        file = host.file(f"{KEYS_MOUNT}/{name}")
        mode = "0o500" if name == "." else "0o400"
        if (file.user, file.group) != ("postgres", "postgres"):
            found.append(f"{name} belongs to {file.user}:{file.group}")
        if oct(file.mode) != mode:
            found.append(f"{name} has mode {oct(file.mode)}")
    if host.run(f"test -w {KEYS_MOUNT}").succeeded:
        found.append("may be written")
    return found


def test_secrets_are_the_reader_s_alone(inside: Callable[[str], Host]) -> None:
    assert key_problems(inside("postgres")) == []


def test_loose_secrets_would_be_seen(spare: Spare, spare_keys: SpareKeys) -> None:
    script = (
        f"cd {KEYS_MOUNT} && cp -rp /good/. . && chmod 644 server.key && touch extra"
        " && chgrp root ca.crt && chmod 755 . && touch /tmp/ready && exec sleep 60"
    )
    made = spare.create(
        "postgres",
        ["-c", script],
        entrypoint="bash",
        user="0:0",
        cap_add=["CHOWN", "FOWNER", "DAC_OVERRIDE"],
        volumes={spare_keys.postgres: {"bind": "/good", "mode": "ro"}},
        tmpfs={str(KEYS_MOUNT): "mode=0700", "/tmp": "mode=1777"},  # noqa: S108
    )
    made.start()
    host = testinfra.get_host(f"docker://{made.name}")
    await_file(host, "/tmp/ready")  # noqa: S108 - of the container
    assert key_problems(host) == [
        "unexpected extra",
        ". has mode 0o755",
        "ca.crt belongs to postgres:root",
        "server.key has mode 0o644",
        "may be written",
    ]


def await_file(host: Host, path: str) -> None:
    end = time.monotonic() + 10
    while not host.file(path).exists:
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.1)


def test_configuration_belongs_to_root_and_data_to_the_server(
    inside: Callable[[str], Host],
) -> None:
    host = inside("postgres")
    for name in ("postgresql.conf", "pg_hba.conf"):
        file = host.file(f"/etc/pandom/{name}")
        assert (file.user, oct(file.mode)) == ("root", "0o644")
    data = host.file(DATA)
    assert (data.user, oct(data.mode)) == ("postgres", "0o700")
    assert host.file(f"{DATA}/PG_VERSION").content_string.strip() == "17"
    # ALTER SYSTEM is off; its file holds comments only.
    auto = host.file(f"{DATA}/postgresql.auto.conf").content_string
    assert [line for line in auto.splitlines() if not line.startswith("#")] == []


def test_versions(inside: Callable[[str], Host], server: Server) -> None:
    with server.connect("postgres") as connection:
        assert 170011 <= connection.info.server_version < 180000
    assert inside("postgres").package("postgresql-17-pgaudit").is_installed


# -- configuration ----------------------------------------------------------------------


def test_the_server_runs_with_these_settings(server: Server) -> None:
    with server.connect("postgres") as connection:
        assert settings_of(connection) == SETTINGS


def test_one_rule_lets_clients_in(server: Server) -> None:
    with server.connect("postgres") as connection:
        assert rules_of(connection) == RULES


def test_databases_use_the_fixed_locale(server: Server) -> None:
    with server.connect("postgres") as connection:
        rows = connection.execute(
            "select distinct pg_catalog.pg_encoding_to_char(encoding), datlocprovider,"
            " datlocale, datcollate, datctype from pg_catalog.pg_database"
        ).fetchall()
    assert rows == [("UTF8", "b", "C.UTF-8", "C.UTF-8", "C.UTF-8")]


def test_every_login_has_a_scram_verifier(server: Server) -> None:
    with server.connect("postgres") as connection:
        assert weak_passwords(connection) == []


def test_alter_system_is_refused(server: Server) -> None:
    with (
        server.connect("postgres") as connection,
        pytest.raises(psycopg.errors.FeatureNotSupported),
    ):
        connection.execute("alter system set log_statement = 'all'")


# -- connections ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_verify_full_from_the_host(server: Server, host: str) -> None:
    with psycopg.connect(**client(server, host=host)) as connection:
        row = connection.execute(
            "select ssl, version from pg_catalog.pg_stat_ssl"
            " where pid = pg_catalog.pg_backend_pid()"
        ).fetchone()
    assert row == (True, "TLSv1.3")


def test_every_login_signs_in_with_its_own_secret_only(server: Server) -> None:
    with server.connect("postgres") as connection:
        rows = connection.execute(
            "select rolname from pg_catalog.pg_roles where rolcanlogin order by 1"
        ).fetchall()
    logins = {name for (name,) in rows}
    assert logins <= set(server.passwords)
    for login in logins:
        with server.connect(login):
            pass
        wrong = client(server, user=login, password=f"{server.passwords[login]}x")
        assert "password authentication failed" in str(refusal(**wrong))


def test_another_ca_is_refused(server: Server, spare_keys: SpareKeys, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_text(spare_keys.ca)
    assert "certificate verify failed" in str(refusal(**client(server, sslrootcert=str(other))))


def test_another_name_is_refused(
    server: Server, inspected: Callable[[str], dict[str, Any]]
) -> None:
    # The container's own address: reachable from the host, but in no certificate.
    networks = inspected("postgres")["NetworkSettings"]["Networks"]
    address = next(iter(networks.values()))["IPAddress"]
    direct = client(server, host=address, port=5432)
    assert "does not match host name" in str(refusal(**direct))
    assert refusal(**{**direct, "sslmode": "verify-ca"}) is None


@pytest.mark.parametrize("user", ["postgres", "pandom_app", "pandom_user"])
def test_plaintext_is_refused(server: Server, user: str) -> None:
    plain = client(server, user=user, password=server.passwords[user], sslmode="disable")
    assert "no encryption" in str(refusal(**plain))


def test_old_protocols_are_refused(server: Server) -> None:
    old = client(server, ssl_min_protocol_version="TLSv1", ssl_max_protocol_version="TLSv1.1")
    assert refusal(**old)


def test_replication_is_refused(server: Server) -> None:
    assert "no pg_hba.conf entry for replication" in str(
        refusal(**client(server, replication="true"))
    )


def test_there_is_no_socket(inside: Callable[[str], Host]) -> None:
    host = inside("postgres")
    assert host.run("pg_isready --host=127.0.0.1").succeeded
    assert host.run("pg_isready").failed
    assert "5432" not in host.file("/proc/net/unix").content_string


# -- the same checks on a server that is wrong --------------------------------------------


@pytest.fixture
def wrong(spare: Spare, spare_keys: SpareKeys) -> Container:
    """A server with a door for everybody and a talkative log."""
    volume = spare.volume()
    mounts = {volume: {"bind": "/var/lib/postgresql"}, **spare_keys.mount("postgres")}
    first = spare.start("postgres", volumes=mounts)
    first.stop()
    first.remove()
    spare.containers.remove(first)
    command = [
        *("-c", "log_statement=all", "-c", "log_connections=off"),
        *("-c", "password_encryption=md5", "-c", "hba_file=/etc/pandom/wrong.conf"),
    ]
    made = spare.create(
        "postgres",
        command,
        volumes=mounts,
        read_only=False,
        ports={"5432/tcp": ("127.0.0.1", None)},
        user="5432:5432",
    )
    rules = b"host all all all trust\nhost replication all all trust\n"
    made.put_archive("/etc/pandom", archive("wrong.conf", rules, mode=0o444))
    made.start()
    return made


def port_of(container: Container) -> int:
    container.reload()
    return int(container.ports["5432/tcp"][0]["HostPort"])


def test_each_check_sees_a_server_that_is_wrong(wrong: Container) -> None:
    await_health(wrong, "postgres")
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port_of(wrong),
        "user": "postgres",
        "sslmode": "disable",
    }
    assert refusal(**options) is None
    assert refusal(**{**options, "replication": "true"}) is None
    with psycopg.connect(**options, dbname="postgres", autocommit=True) as connection:
        assert rules_of(connection) != RULES
        found = settings_of(connection)
        assert {name for name in SETTINGS if found[name] != SETTINGS[name]} == {
            "hba_file",
            "log_connections",
            "log_statement",
            "password_encryption",
        }
        assert weak_passwords(connection) == []
        connection.execute(f"create role old_login login password '{SPARE_PASSWORD}'")
        connection.execute("create role no_password login")
        assert weak_passwords(connection) == ["no_password", "old_login"]


def test_a_host_without_the_ca_file_is_not_trusting(server: Server, tmp_path: Path) -> None:
    """libpq refuses to verify with nothing; a fallback to the system's roots would fail too."""
    missing = client(server, sslrootcert=os.fspath(tmp_path / "missing.crt"))
    assert "does not exist" in str(refusal(**missing))


def test_the_stack_s_server_is_the_one_tested(stack: RunningStack, server: Server) -> None:
    assert int(stack.outputs["db_port"]) == server.port
