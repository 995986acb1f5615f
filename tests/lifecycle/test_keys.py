"""Keys lost or damaged, ports swapped, a change that fails halfway: each healed by one `up`."""

from __future__ import annotations

from collections.abc import Callable

import docker
import psycopg
import pytest

from pandom import certificates, paths
from pandom.host.stack import Stack, set_values, settings
from tests.fixtures.server import server_of
from tests.fixtures.stack import RunningStack, left_in_docker

READERS = ("superuser", "migrator", "storage", "janitor", "operator", "postgres", "minio")


def in_volumes(stack: RunningStack, script: str) -> None:
    """Do by hand in the keys' volumes what a damaged disk or a clumsy root would do."""
    client = docker.from_env()
    job = client.containers.get(stack.container("keys"))
    volumes = {
        one["Name"]: {"bind": one["Destination"], "mode": "rw"} for one in job.attrs["Mounts"]
    }
    client.containers.run(
        job.attrs["Image"],
        ["-c", script],
        entrypoint="sh",
        user="0:0",
        network_mode="none",
        volumes=volumes,
        remove=True,
    )


def shown(stack: RunningStack) -> dict[str, str]:
    """The fingerprint that each server shows on its port."""
    found = settings(Stack(stack.name)).ports
    return {
        part: certificates.fingerprint(certificates.served(port)) for part, port in found.items()
    }


@pytest.mark.requirement("B1", "B2")
def test_everything_that_was_damaged_at_once_is_right_after_one_up(own: RunningStack) -> None:
    """A new CA, a folder in a file's place, a wrong password, no ca.crt, and swapped ports."""
    before, authority = shown(own), paths.ca_certificate(own.name)
    old = authority.read_text()
    in_volumes(
        own,
        "rm /keys/ca/ca.pem; rm /keys/janitor/*; mkdir /keys/janitor/ca.crt;"
        " echo wrong > /keys/superuser/postgres_password; chmod 644 /keys/minio/root_password",
    )
    authority.unlink()
    stack = Stack(own.name)
    ports = settings(stack).ports
    set_values(stack, {"postgresPort": ports["minio"], "minioPort": ports["postgres"]})
    said = own.pandom("up", "--stack", own.name).stderr
    assert said.count("the CA changed: clients need the new certificate") == 1
    assert authority.read_text() != old
    assert not set(shown(own).values()) & set(before.values())
    own.pandom("preview", "--stack", own.name, "--expect-no-changes")
    with psycopg.connect(server_of(RunningStack(own.name)).dsn("pandom_app")):
        pass  # verify-full, with the new CA on the new port


def test_a_bucket_that_is_renamed_is_refused_by_up_and_preview(own: RunningStack) -> None:
    file = Stack(own.name).file
    text, there = file.read_text(), left_in_docker(own.name)
    try:
        file.write_text(text.replace("config:", "config:\n  pandom-stack:bucket: other", 1))
        for command in ("up", "preview"):
            said = own.pandom(command, "--stack", own.name, code=2).stderr
            assert "nothing was touched" in said
            assert "pandom-stack:bucket: expected pandom-media" in said
    finally:
        file.write_text(text)
    assert left_in_docker(own.name) == there


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", ["rm -r {}/*", "for f in {}/*; do echo x > $f; done"])
def test_each_reader(own: RunningStack, reader: str, damage: str) -> None:
    in_volumes(own, damage.format(f"/keys/{reader}"))
    own.pandom("up", "--stack", own.name)


@pytest.mark.soak
def test_ca_crt_that_is_lost_or_damaged_is_written_by_whoever_comes_first(
    own: RunningStack,
) -> None:
    authority = paths.ca_certificate(own.name)
    right = authority.read_text()

    def folder() -> None:
        authority.unlink()
        authority.mkdir()

    damages: tuple[Callable[[], object], ...] = (
        authority.unlink,
        lambda: authority.write_text("half of a"),
        lambda: authority.write_bytes(b"\xff\xfe"),
        folder,
    )
    for damage in damages:
        for command in ("up", "preview", "refresh", "health", "env"):
            damage()
            own.pandom(command, "--stack", own.name)
            assert authority.read_text() == right


@pytest.mark.soak
def test_a_port_change_that_fails_halfway_can_go_on_or_back(own: RunningStack) -> None:
    """The image does not build: `up` fails, and the stack lives on under its old port."""
    stack = Stack(own.name)
    ports = settings(stack).ports
    recipe = paths.ROOT / "app_image/postgres/Dockerfile"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "\nRUN false\n")
        set_values(stack, {"postgresPort": ports["postgres"] + 1})
        own.pandom("up", "--stack", own.name, code=1)
        own.pandom("refresh", "--stack", own.name)
        own.pandom("health", "--stack", own.name)
        own.pandom("up", "--stack", own.name, code=1)
        recipe.write_text(text)
        own.pandom("preview", "--stack", own.name)
        set_values(stack, {"postgresPort": ports["postgres"]})
        own.pandom("up", "--stack", own.name)
        set_values(stack, {"postgresPort": ports["postgres"] + 1})
        own.pandom("up", "--stack", own.name)
    finally:
        recipe.write_text(text)
        set_values(stack, {"postgresPort": ports["postgres"]})
    own.pandom("up", "--stack", own.name)
