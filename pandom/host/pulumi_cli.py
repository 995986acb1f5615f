"""Runs the Pulumi CLI for one stack: events in, one interrupt out, always an end.

The Automation API ignores ``stackConfigDir`` for settings and turns every failure into one long
exception; here the events are read as they come.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from pandom.database import pinned
from pandom.host import checkpoint, events, lock
from pandom.host.language_host import LanguageHost
from pandom.host.stack import Stack, prepare_folder
from pandom.runtime import paths
from pandom.runtime.errors import Failure
from pandom.runtime.progress import say

SHORT_S: Final = 60.0  # for commands that only read or write the state
LONG_S: Final = 1500.0  # for operations; a cold one builds three images
STOP_S: Final = 45.0  # for Pulumi to finish what is in progress after an interrupt
# Free space needed to begin, and to end cleanly. On a full disk Pulumi retries forever and
# leaves half a state.
BEGIN_MB: Final = 16
END_MB: Final = 4


def _killed(operation: str, number: int) -> str:
    """Return the message for a Pulumi that did not end by itself."""
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    why = " (the kernel does that when memory is short: `dmesg | tail`)" if number == 9 else ""
    return (
        f"`pulumi {operation}` was ended from outside by {name}{why}.\n"
        "The servers are as they were at that moment. Next: run this again, it goes on from there."
    )


def refuse_full(least_mb: int) -> None:
    """Raise Failure when there is no room for the state."""
    if not paths.backend().exists():
        return
    found = os.statvfs(paths.backend())
    free_mb = found.f_bavail * found.f_frsize / 2**20
    if found.f_blocks and free_mb < least_mb:
        raise Failure(
            f"There is no room for the state in {paths.state_home()}: {free_mb:.0f} MB are free, "
            f"{BEGIN_MB} are needed.\n"
            "Next: make room there (`df -h`, `docker system df`), then run this again."
        )


class PulumiFailed(Failure):
    """Pulumi ended with an error; ``diagnostics`` is what it said about it."""

    def __init__(self, operation: str, said: Sequence[events.Diagnostic]) -> None:
        """Keep what is needed to explain the failure."""
        self.operation = operation
        self.diagnostics = tuple(said)
        super().__init__(f"pulumi {operation} failed")


class Pulumi:
    """The CLI with the environment of one stack."""

    def __init__(
        self, stack: Stack, variables: Mapping[str, str], passphrase: Path | None = None
    ) -> None:
        """``variables`` are the toolchain's; ours make the run recognisable."""
        self._stack, self._tools = stack, variables
        self._passphrase = passphrase or paths.passphrase_file()
        self._folder = paths.work_folder(stack.name)
        if stack.exists() and not self._folder.is_dir():
            prepare_folder(stack)

    def environment(self) -> dict[str, str]:
        """Return Pulumi's environment; call it after the Docker engine has been chosen."""
        # These would override the passphrase file or change the output.
        unwanted = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK")
        return {
            **{name: value for name, value in os.environ.items() if name not in unwanted},
            **self._tools,
            **lock.mark(self._stack),
            "PULUMI_BACKEND_URL": paths.backend_url(),
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self._passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "NO_COLOR": "1",
            # It lives for seconds and has some 100 MB: collecting garbage is a tenth of its work.
            "GOGC": os.environ.get("GOGC", "400"),
            **pinned.variables(),
        }

    def _command(self, *arguments: str) -> list[str]:
        return ["pulumi", *arguments, "--stack", self._stack.qualified, "--non-interactive"]

    def _output(self, *arguments: str, typed: str | None = None) -> str:
        try:
            done = subprocess.run(
                self._command(*arguments),
                cwd=self._folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL if typed is None else None,
                input=typed,
                capture_output=True,
                text=True,
                timeout=SHORT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failure(
                f"`pulumi {' '.join(arguments)}` did not end within {SHORT_S:.0f} s.\n"
                f"Next: see whether {paths.state_home()} can be read, then run this again."
            ) from None
        if done.returncode < 0:
            raise Failure(_killed(" ".join(arguments[:2]), -done.returncode))
        if done.returncode:
            said = [
                events.Diagnostic("error", "", line) for line in done.stderr.splitlines() if line
            ]
            raise PulumiFailed(" ".join(arguments[:2]), said)
        return done.stdout

    def init(self, resources: Iterable[Mapping[str, Any]] = ()) -> None:
        """Make the stack's state, with nothing in it or with these, which have no secret."""
        paths.backend().mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_full(BEGIN_MB)
        checkpoint.begin(self._stack, self._passphrase, resources)

    def export(self, secrets: bool = False) -> Mapping[str, Any]:
        """Return the whole state; with ``secrets`` in clear, in memory only."""
        found = checkpoint.exported(self._stack, self._passphrase if secrets else None)
        if found is not None:
            return found
        options = ["--show-secrets"] if secrets else []
        return dict(json.loads(self._output("stack", "export", *options)))

    def secrets(self) -> dict[str, str]:
        """Return the encrypted values of the stack's file, in clear, by key; in memory only."""
        found = json.loads(self._output("config", "--show-secrets", "--json"))
        return {key: str(one.get("value", "")) for key, one in found.items() if one.get("secret")}

    def restore(self, exported: Mapping[str, Any]) -> None:
        """Put a whole state in place, as `export` gives it, secrets in clear or not."""
        self._output("stack", "import", typed=json.dumps(exported))

    def change_passphrase(self, new: str) -> None:
        """Encrypt the stack's file and state with another passphrase."""
        self._output("stack", "change-secrets-provider", "passphrase", typed=new)

    def unprotect(self) -> None:
        """Let everything of the stack be deleted."""
        self._output("state", "unprotect", "--all", "--yes")

    def remove(self) -> None:
        """Remove the empty state, its backups and the configuration file."""
        self._output("stack", "rm", "--yes", "--remove-backups")

    def operate(
        self,
        operation: str,
        *options: str,
        show: Callable[[events.Event], None],
        variables: Mapping[str, str] | None = None,
        watch: Callable[[], None] = lambda: None,
        limit_s: float = LONG_S,
        host: LanguageHost | None = None,
        ready: Callable[[], None] | None = None,
    ) -> Mapping[str, int]:
        """Run up, preview, refresh or destroy; return the counts of what was done.

        ``watch`` is called about once a second and stops the operation by raising; ``host``, which
        the caller ends, runs the program instead of one that Pulumi starts, once ``ready``
        returns. Raises
        PulumiFailed, Failure when it does not end, KeyboardInterrupt after an interrupt.
        """
        refuse_full(BEGIN_MB)
        environment = {**self.environment(), **(variables or {})}
        command = self._command(operation, "--json", *options)
        if host is not None:
            command += ["--client", host.address()]
        elif ready is not None:
            ready()
        # A session of its own: a terminal's Ctrl-C would reach Pulumi directly, ours
        # would be the second, and the second one makes it drop its state.
        child = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        run = _Run(self._stack, operation, child, show, watch)

        def begin() -> None:
            if host is not None:
                if ready is not None:
                    ready()
                host.begin(environment)

        return run.follow(limit_s, begin)


class _Run:
    """One operation while it runs."""

    def __init__(
        self,
        stack: Stack,
        operation: str,
        child: subprocess.Popen[str],
        show: Callable[[events.Event], None],
        watch: Callable[[], None],
    ) -> None:
        self._stack, self._operation, self._child = stack, operation, child
        self._show, self._watch = show, watch
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._said: list[events.Diagnostic] = []
        self._closed: events.Summary | None = None

    def follow(self, limit_s: float, begin: Callable[[], None]) -> Mapping[str, int]:
        # A thread reads, so that a silent Pulumi cannot outlast the limit and its pipe is
        # always drained.
        assert self._child.stdout is not None  # noqa: S101 - for mypy
        threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True).start()
        try:
            begin()
            if not self._drain(limit_s, self._look):
                raise Failure(
                    f"`pulumi {self._operation}` did not end within {limit_s:.0f} s; stopped.\n"
                    "Next: `.venv/bin/pandom status` shows what runs; this again goes on from here."
                )
        except BaseException:
            self._stop()
            raise
        code = self._child.wait()
        if code < 0:
            raise Failure(_killed(self._operation, -code))
        if code or self._closed is None or not self._closed.succeeded:
            raise PulumiFailed(self._operation, self._said)
        return self._closed.changes

    def _look(self) -> None:
        refuse_full(END_MB)
        self._watch()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def _drain(self, limit_s: float, watch: Callable[[], None] = lambda: None) -> bool:
        """Show events until Pulumi closes its output; False when the time is over."""
        deadline = time.monotonic() + limit_s
        watched = time.monotonic()
        while (left := deadline - time.monotonic()) > 0:
            if time.monotonic() - watched > 1.0:
                watch()
                watched = time.monotonic()
            try:
                line = self._lines.get(timeout=min(left, 1.0))
            except queue.Empty:
                continue
            if line is None:
                return True
            event = events.parse(line)
            if event is None:
                continue
            if isinstance(event, events.Diagnostic):
                self._said.append(event)
            elif isinstance(event, events.Summary):
                self._closed = event
            self._show(event)
        return False

    def _stop(self) -> None:
        """Ask Pulumi once to stop, wait, then end it and its plugins."""
        if self._child.poll() is None:
            say(
                f"\n  stopping: Pulumi finishes what it has begun (at most {STOP_S:.0f} s; "
                "Ctrl-C ends it at once)"
            )
            self._child.send_signal(signal.SIGINT)
            try:
                if self._drain(STOP_S):
                    self._child.wait(5)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                pass
            if self._child.poll() is None:
                self._child.kill()
                self._child.wait()
        lock.end_former_run(self._stack)
