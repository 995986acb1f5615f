"""A command in a fork: its streams, code and environment are those of a process of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures.stack import Pandom


def test_a_fork_has_its_own_streams_and_code() -> None:
    shown = Pandom()("--help")
    assert shown.stdout.startswith("usage: pandom")
    assert shown.stderr == ""
    refused = Pandom()("nonsense", code=2)
    assert refused.stdout == ""
    assert "invalid choice: 'nonsense'" in refused.stderr
    with pytest.raises(AssertionError, match="ended with 2, expected 0"):
        Pandom()("nonsense")


def test_a_fork_says_what_a_process_says(tmp_path: Path) -> None:
    place = {"XDG_STATE_HOME": str(tmp_path)}
    said = [
        Pandom(variables=place, forks=forks)("env", "--stack", "test-nowhere", code=2)
        for forks in (True, False)
    ]
    assert said[0].stderr == said[1].stderr
    assert said[0].stdout == said[1].stdout == ""
    # What one command made of its environment, the next one does not see.
    assert os.environ.get("XDG_STATE_HOME") != str(tmp_path)
    assert list(tmp_path.iterdir()) == []
