"""Keys and ports, each in every way: the full matrix; lifecycle/test_heal has all at once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pandom.host.stack import Stack, set_values, settings
from pandom.runtime import paths
from tests.fixtures.keys import in_volumes
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.soak

READERS = ("superuser", "migrator", "storage", "janitor", "operator", "postgres", "minio")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", ["rm -r {}/*", "for f in {}/*; do echo x > $f; done"])
def test_each_reader(own: RunningStack, reader: str, damage: str) -> None:
    in_volumes(own, damage.format(f"/keys/{reader}"))
    own.pandom("up", "--stack", own.name)


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


def test_a_port_change_that_fails_halfway_can_go_on_or_back(own: RunningStack) -> None:
    """The image does not build: `up` fails, and the stack lives on under its old port.

    Until then it is not what its file declares: every check passes, and the port is a finding.
    """
    stack = Stack(own.name)
    ports = settings(stack).ports
    recipe = paths.ROOT / "app_image/postgres/Dockerfile"
    text = recipe.read_text()
    try:
        recipe.write_text(text + "\nRUN false\n")
        set_values(stack, {"postgresPort": ports["postgres"] + 1})
        own.pandom("up", "--stack", own.name, code=1)
        own.pandom("refresh", "--stack", own.name)
        found = json.loads(own.pandom("health", "--stack", own.name, "--json", code=2).stdout)
        assert all(check["ok"] for check in found["checks"])
        (finding,) = found["findings"]
        assert finding["id"] == f"container-different:{own.container('postgres')}"
        assert finding["actual"] == f"ports: 127.0.0.1:{ports['postgres']} to 5432"
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
