"""What every layer shares: the fixtures' modules, and the rules that hold for a whole run.

The process that runs a test writes into its report which rows it proves and whether a
secret stands in it; the process that was started reads the reports of all and judges.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.fixtures import leaks, requirements

pytest_plugins = ["tests.fixtures.stack", "tests.fixtures.server"]

# Each runs in one process; what makes stacks of its own and breaks them beside what shares
# one. Two groups have a stack to share, and use different parts of it.
_GROUPS = {
    "tests/conformance/": "own stacks",
    "tests/lifecycle/test_heal": "the longest file",
    **{f"tests/lifecycle/test_{name}": "own stacks" for name in ("by_hand", "ci", "killed")},
    **{
        f"tests/lifecycle/test_{name}": "backups"
        for name in ("backup", "drill", "objects", "point_in_time", "rotate")
    },
    **{f"tests/{name}/": "databases" for name in ("clients", "database", "migrations")},
    **{f"tests/{name}/": "shared stack" for name in ("audit", "infra", "lifecycle")},
}


class ByStack(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """One process for each group that has a stack; unit tests fill up."""

    def _split_scope(self, nodeid: str) -> str:
        groups = (group for path, group in _GROUPS.items() if nodeid.startswith(path))
        return next(groups, nodeid.split("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByStack:
    return ByStack(config, log)


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


class Judge:
    """Reads the reports of the whole run and has the last word."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._proven: set[str] = set()
        self._leaking: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict.fromkeys(report.user_properties)
        self._proven |= {str(row) for name, row in said if name == "proven"}
        self._leaking += [f"{report.nodeid} ({when})" for name, when in said if name == "leaking"]

    def _unproven(self) -> dict[str, requirements.Row]:
        if not _is_whole(self._config):
            return {}
        return requirements.unproven(*requirements.rows(), self._proven)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and (self._unproven() or self._leaking):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name, row in self._unproven().items():
            terminalreporter.write_line(
                f"FAILED requirement {name} ({row.text}): no test that ran proves it", red=True
            )
        for test in self._leaking:
            terminalreporter.write_line(f"FAILED a secret stands in the output of {test}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # one of several processes that only run tests
        config.pluginmanager.register(Judge(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    requirements.refuse_unknown(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and report.passed:
        report.user_properties += [("proven", row) for row in sorted(requirements.named(item))]
    text = report.longreprtext + "".join(content for _, content in report.sections)
    if leaks.leaked(text):
        report.user_properties.append(("leaking", report.when))
    return report  # type: ignore[return-value]
