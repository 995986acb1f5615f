"""Pulumi's file of a stack, against Pulumi itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pandom.host import checkpoint
from pandom.host.pulumi_cli import Pulumi
from pandom.host.stack import Stack
from pandom.host.state import SECRET_MARK, STACK
from pandom.runtime import passphrase, paths
from tests.fixtures.stack import new_name
from toolchain import environment

VALUE = "a secret: \u00e4 \u2013 ']'"
PLAIN = json.dumps(VALUE, ensure_ascii=False)
SECRET = {SECRET_MARK: "1b47061264138c4ac30d75fd1eb44270", "plaintext": PLAIN}


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A new stack without resources, in a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    passphrase.ensure()
    found = Stack(new_name())
    found.file.write_text("config:\n  pandom-stack:profile: ephemeral")
    yield found
    found.file.unlink()


def resource(stack: Stack, outputs: dict[str, Any]) -> dict[str, Any]:
    urn = f"urn:pulumi:{stack.name}::pandom-stack::{STACK}::pandom-stack-{stack.name}"
    return {"urn": urn, "type": STACK, "custom": False, "outputs": outputs}


def printed(pulumi: Pulumi) -> dict[str, Any]:
    """Return what Pulumi itself prints, with the secrets in clear."""
    found: dict[str, Any] = json.loads(pulumi._output("stack", "export", "--show-secrets"))
    return found


def test_pulumi_reads_what_was_begun_and_here_is_read_what_pulumi_wrote(stack: Stack) -> None:
    pulumi = Pulumi(stack, environment.find().variables)
    pulumi.init([resource(stack, {"it": "plain"})])
    assert printed(pulumi)["deployment"]["resources"][0]["outputs"] == {"it": "plain"}
    pulumi._output("config", "set", "--secret", "appPassword", typed=VALUE)
    assert pulumi.secrets() == {"pandom-stack:appPassword": VALUE}
    outputs = {"it": SECRET, "list": [SECRET, {"inside": SECRET}], "plain": 1}
    document = json.loads(json.dumps(pulumi.export()))
    document["deployment"]["resources"] = [resource(stack, outputs)]
    pulumi.restore(document)
    theirs = printed(pulumi)
    assert theirs["deployment"]["resources"][0]["outputs"] == outputs
    assert checkpoint.exported(stack, paths.passphrase_file()) == theirs


def test_pulumi_is_asked_for_what_is_not_as_expected(stack: Stack, tmp_path: Path) -> None:
    place = paths.passphrase_file()
    assert checkpoint.exported(stack, place) is None  # no file
    checkpoint.begin(stack, place)
    assert checkpoint.exported(stack, place) is not None
    other = tmp_path / "other"
    other.write_text("another passphrase")
    assert checkpoint.exported(stack, other) is None
    assert checkpoint.exported(stack, None) is not None  # its secrets stay closed
    document = json.loads(stack.checkpoint.read_text())
    document["checkpoint"]["latest"]["secrets_providers"]["type"] = "awskms"
    stack.checkpoint.write_text(json.dumps(document))
    assert checkpoint.exported(stack, place) is None
    stack.checkpoint.write_text("{")
    assert checkpoint.exported(stack, place) is None
