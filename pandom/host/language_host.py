"""The stand-in of Pulumi's language host, started before Pulumi needs it.

Its interpreter imports Pulumi's SDKs while this process and Pulumi do their own work; started by
Pulumi it would do so after them, twice over for the host itself. Official plugins are left to
Pulumi.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from pandom.runtime.errors import Failure
from pandom.runtime.numbers import is_number
from toolchain.plugins import STANDINS
from toolchain.pulumi_cli import HOST

_START: Final = STANDINS.parent / "start.py"
_END_S: Final = 5.0
_GONE: Final = "Pulumi's language host ended. Next: `make tools`, then run this again."


class LanguageHost:
    """One that waits for one run of Pulumi; a context manager that ends it."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        """Take what `start` started."""
        self._child = child

    @classmethod
    def start(cls, variables: Mapping[str, str]) -> LanguageHost | None:
        """Start it; None where Pulumi has the official one. ``variables`` are the toolchain's."""
        found = shutil.which(HOST, path=variables["PATH"])
        if found is None or Path(found).resolve().parent != STANDINS:
            return None
        child = subprocess.Popen(
            [sys.executable, "-X", "utf8", str(_START), "language", "--waiting"],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return cls(child)

    def address(self) -> str:
        """Return where Pulumi finds it."""
        assert self._child.stdout is not None  # noqa: S101 - for mypy
        port = self._child.stdout.readline().strip()
        if not is_number(port):
            raise Failure(_GONE)
        return f"127.0.0.1:{port}"

    def begin(self, environment: Mapping[str, str]) -> None:
        """Let the program run, with this environment."""
        assert self._child.stdin is not None  # noqa: S101 - for mypy
        try:
            self._child.stdin.write(json.dumps(dict(environment)) + "\n")
            self._child.stdin.flush()
        except OSError:
            raise Failure(_GONE) from None

    def __enter__(self) -> LanguageHost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.terminate()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
