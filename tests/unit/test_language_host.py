"""The language host that is started before Pulumi."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from pandom.host.language_host import LanguageHost
from pandom.runtime.process import Process
from toolchain.plugins import STANDINS
from toolchain.pulumi_cli import HOST


def interpreter(host: LanguageHost) -> Process:
    """Return the process that waits for the program."""
    number = host._child.pid
    children = Path(f"/proc/{number}/task/{number}/children")
    return Process.of(int(children.read_text()))


def gone(process: Process) -> bool:
    end = time.monotonic() + 10
    while process.lives() and time.monotonic() < end:
        time.sleep(0.1)
    return process.lives() is False


@pytest.mark.parametrize("how", [None, signal.SIGKILL], ids=["ended", "killed"])
def test_nothing_of_it_is_left(how: signal.Signals | None) -> None:
    host = LanguageHost.start({"PATH": str(STANDINS)})
    assert host is not None
    with host:
        assert host.address().startswith("127.0.0.1:")
        waiting = interpreter(host)
        assert waiting.lives()
        if how is not None:
            host._child.send_signal(how)
    assert gone(waiting)


def test_an_official_one_is_left_to_pulumi(tmp_path: Path) -> None:
    official = tmp_path / HOST
    official.write_text("#!/bin/sh\n")
    official.chmod(0o755)
    assert LanguageHost.start({"PATH": str(tmp_path)}) is None
