"""What every layer shares: the fixtures' modules, and the rules that hold for a whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import leaks, requirements

pytest_plugins = ["tests.fixtures.stack", "tests.fixtures.server"]

_BOOKS = pytest.StashKey[requirements.Bookkeeping]()
_LEAKS = pytest.StashKey[list[str]]()


def _is_whole(config: pytest.Config) -> bool:
    """Whether the run leaves nothing out: no path, no -k, no -m of its own, nothing else cut."""
    option = config.option
    folders = {str(Path(config.rootpath, path)) for path in config.getini("testpaths")}
    asked = {str(Path(config.rootpath, path)) for path in config.args}
    return (
        asked <= folders
        and not option.keyword
        and option.markexpr == "not soak"
        and not option.collectonly
        and not config.getoption("deselect")
        and not config.getoption("ignore")
        and not config.getoption("lf", False)
    )


def pytest_configure(config: pytest.Config) -> None:
    rows, finished = requirements.rows()
    config.stash[_BOOKS] = requirements.Bookkeeping(_is_whole(config), rows, finished)
    config.stash[_LEAKS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[_BOOKS].collect(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    item.config.stash[_BOOKS].note(report)
    text = report.longreprtext + "".join(content for _, content in report.sections)
    if leaks.leaked(text):
        item.config.stash[_LEAKS].append(f"{item.nodeid} ({report.when})")
    return report  # type: ignore[return-value]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    books, found = session.config.stash[_BOOKS], session.config.stash[_LEAKS]
    if exitstatus == pytest.ExitCode.OK and (books.missing() or found):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing, found = config.stash[_BOOKS].missing(), config.stash[_LEAKS]
    for name, row in missing.items():
        terminalreporter.write_line(
            f"FAILED requirement {name} ({row.text}): no test that ran proves it", red=True
        )
    for test in found:
        terminalreporter.write_line(f"FAILED a secret stands in the output of {test}", red=True)
