"""The stand-ins against the recorded behaviour of the official plugins."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.life import running, standin_path
from tests.conformance.observe import differences, observe
from tests.conformance.record import RECORD


@pytest.fixture(scope="session")
def record() -> dict[str, Any]:
    return dict(json.loads(RECORD.read_text()))


def test_standins_do_what_the_official_plugins_did(record: dict[str, Any], tmp_path: Path) -> None:
    with running(standin_path(), tmp_path) as run:
        found = json.loads(json.dumps(observe(run)))
    expected = {key: value for key, value in record.items() if key != "plugins"}
    parted = differences(expected, found)
    assert not parted, "\n".join(parted)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("edit steps", "container-health-test", "operation"), "replace"),
        (("made", "containers", "service", "host", "ReadonlyRootfs"), False),
        (("made", "catalog", "memberships"), []),
        (("edited", "kept"), []),
    ],
)
def test_a_difference_is_found(record: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    doctored = copy.deepcopy(record)
    at = doctored
    for key in path[:-1]:
        at = at[key]
    assert at[path[-1]] != value
    at[path[-1]] = value
    found = differences(doctored, record)
    assert len(found) == 1
    assert "/".join(path) in found[0]


def test_the_record_is_of_the_pinned_plugins(record: dict[str, Any]) -> None:
    from toolchain import pins

    assert {name: pins.version(text) for name, text in record["plugins"].items()} == {
        name: pins.version(text) for name, text in pins.plugins().items()
    }
