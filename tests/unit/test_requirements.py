"""The rule about requirement rows can fail, and its page is fresh. No I/O but reading the tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pandom.runtime.paths import ROOT
from tests.conftest import Judge
from tests.fixtures import requirements
from tests.fixtures.requirements import Row

ROWS = {"T1": Row(3, "x"), "T2": Row(3, "y"), "O1": Row(4, "z")}


def test_a_row_of_a_finished_issue_without_a_test_is_missing() -> None:
    assert set(requirements.unproven(ROWS, {3}, {"T1"})) == {"T2"}
    assert set(requirements.unproven(ROWS, {3, 4}, {"T1", "T2"})) == {"O1"}
    assert not requirements.unproven(ROWS, {3}, {"T1", "T2"})


def _judged(asked: str, *said: tuple[str, str]) -> int:
    """The exit status of a run of ``asked`` whose only test's report said this."""
    config: Any = SimpleNamespace(
        rootpath=ROOT,
        args=[asked],
        option=SimpleNamespace(keyword="", markexpr="not soak", collectonly=False),
        getini=lambda _: ["tests"],
        getoption=lambda *_: False,
    )
    session: Any = SimpleNamespace(exitstatus=0)
    report: Any = SimpleNamespace(nodeid="x", user_properties=list(said))
    judge = Judge(config)
    judge.pytest_runtest_logreport(report)
    judge.pytest_sessionfinish(session, 0)
    return int(session.exitstatus)


def test_only_a_run_of_the_whole_suite_is_judged() -> None:
    every = [("proven", name) for name in requirements.rows()[0]]
    assert _judged("tests", *every) == 0
    assert _judged("tests", *every[1:]) == 1
    assert _judged("tests/unit", *every[1:]) == 0


def test_a_secret_in_any_report_fails_the_run() -> None:
    assert _judged("tests/unit", ("leaking", "setup")) == 1


def test_marks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.requirement('B1')]\n"
        "@pytest.mark.requirement('T1', 'T2')\n"
        "def test_a(): ...\n"
        "def helper(): ...\n"
    )
    assert set(requirements.tests_of(path)) == {
        ("B1", "test_a"),
        ("T1", "test_a"),
        ("T2", "test_a"),
    }


def test_every_row_of_the_source_is_listed() -> None:
    rows, finished = requirements.rows()
    assert len(rows) == 49
    assert finished <= {row.issue for row in rows.values()}


def test_an_unknown_row_is_refused() -> None:
    class Item:
        def iter_markers(self, _: str) -> list[object]:
            return [pytest.mark.requirement("Z9").mark]

    with pytest.raises(pytest.UsageError, match="Z9"):
        requirements.refuse_unknown([Item()])  # type: ignore[list-item]
