"""Fixtures for pytest: an environment a run, and a database and a place in the bucket a test.

    pytest_plugins = ["pandom.pytest_plugin"]

With pytest-xdist all workers share one environment. One that is there already (PANDOM_CI_ID, as
`pandom ci create` printed it) is used, and left. PANDOM_CI_KEEP=2h keeps the run's own for so long
if a test failed, and says how to get in. A test that failed shows what its database was asked last,
without values; PANDOM_CI_LOG=FILE keeps that and what the servers said.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import pytest

from pandom import ci
from pandom.ci.client import Database, Place, Service, Serving
from pandom.runtime.errors import PandomError

_TTL: Final = "4h"  # should the process that owns it be in a container that is paused
_FOLDER: Final = "PANDOM_CI_RUN"  # of this run, for all of its processes
_FILE: Final = "environment.json"
_GIVEN: Final = "PANDOM_CI_ID"
_STOP_S: Final = 30.0
_FAILED: Final = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's folder, in the process that starts the others."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="pandom-ci-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember whether a test failed."""
    session.config.stash[_FAILED] = exitstatus != pytest.ExitCode.OK


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what this run made, once all of its processes are done with it."""
    if hasattr(config, "workerinput") or _FOLDER not in os.environ:
        return
    folder = Path(os.environ.pop(_FOLDER))
    try:
        if (folder / _FILE).exists():
            shared = json.loads((folder / _FILE).read_text())
            _stop(shared["server"])
            failed = config.stash.get(_FAILED, True)
            if failed:
                ci.save_logs(shared["id"])
            if shared["own"]:
                ci.finish(shared["id"], ci.kept_for() if failed else None)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what the database of a test that failed was asked, while it is there."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    database = getattr(item, "funcargs", {}).get("pandom_database")
    if report.when == "call" and report.failed and isinstance(database, Database):
        with contextlib.suppress(PandomError):
            report.sections.append(("last statements", "\n".join(database.failed(item.nodeid))))
    return report  # type: ignore[return-value]


def _stop(server: int) -> None:
    """End what hands out databases, and wait for that: the next run starts its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while Path(f"/proc/{server}").exists() and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(server, os.WNOHANG)  # where this process started it
            time.sleep(0.05)


@pytest.fixture(scope="session")
def pandom_stack() -> ci.Environment:
    """Give the environment of this run, made by whichever process asks first."""
    if _FOLDER not in os.environ:
        raise pytest.UsageError(
            "pandom.pytest_plugin was loaded too late for pytest-xdist. Next: name it in "
            "pytest_plugins of the conftest.py at the root, or with -p pandom.pytest_plugin"
        )
    folder = Path(os.environ[_FOLDER])
    file = folder / _FILE
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            file.touch(0o600)
            file.write_text(json.dumps(_begin()))
    shared = json.loads(file.read_text())
    service = Service(shared["url"], shared["token"])
    return ci.Environment(shared["id"], shared["settings"], shared["roles"], service)


def _begin() -> dict[str, object]:
    # What all of this run end with.
    starter = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    ci.kept_for()  # or a mistake in it would be told at the end
    given = os.environ.get(_GIVEN)
    env = ci.existing(given) if given else ci.begin(_TTL, None, starter)
    serving = Serving(env.id)
    serving.start(starter)
    known = asdict(replace(env, service=None))
    at = {"url": serving.url, "token": serving.token, "server": serving.number}
    return {**known, **at, "own": not given}


@pytest.fixture
def pandom_database(pandom_stack: ci.Environment) -> Iterator[Database]:
    """Give a database that nobody had before."""
    with pandom_stack.database() as database:
        yield database


@pytest.fixture
def pandom_bucket(pandom_stack: ci.Environment) -> Iterator[Place]:
    """Give a prefix of the bucket, with a user of the store of its own."""
    with pandom_stack.bucket() as place:
        yield place
