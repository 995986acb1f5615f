"""Stand-in of pulumi-language-python: starts the program with the project's Python.

With ``--waiting`` it is started before Pulumi, by `pandom`, and so is the interpreter that will run
the program. Its environment comes as one line of JSON on standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, Final

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    language_pb2_grpc,
    plugin_pb2,
)

from toolchain.standins import LANGUAGE_VERSION
from toolchain.standins.serving import serve

WAITING: Final = "--waiting"
_EXEC: Final = "pulumi-language-python-exec"
# The exec script ends with this code when it has shown the user what is wrong.
_ALREADY_SHOWN: Final = 32
_START: Final = Path(__file__).with_name("start.py")
# How long an interrupted program may take before it is killed, seconds.
_STOP_LIMIT: Final = 5.0


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs one Pulumi program."""

    def __init__(self, engine_address: str, waiting: subprocess.Popen[str] | None = None) -> None:
        self._engine_address = engine_address
        self._waiting = waiting
        self._environment = None if waiting else dict(os.environ)
        self._program: subprocess.Popen[str] | None = None
        self._cancelled = threading.Event()

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take the engine's address and say what this plugin understands."""
        self._engine_address = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the version of the plugin that this one stands in for."""
        return plugin_pb2.PluginInfo(version=LANGUAGE_VERSION)

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:  # noqa: N802
        """None; see GetRequiredPackages."""
        return language_pb2.GetRequiredPluginsResponse()

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer with none, on purpose.

        The engine would try to download them, and the SDKs ask for their plugin when the
        program first uses them.
        """
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the SDKs, for ``pulumi about``."""
        from importlib import metadata

        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=item.name, version=item.version)
                for item in metadata.distributions()
                if item.name.startswith("pulumi")
            ]
        )

    def About(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the Python that runs programs, for ``pulumi about``."""
        return language_pb2.AboutResponse(
            executable=sys.executable,
            version=".".join(map(str, sys.version_info[:3])),
            metadata={"toolchain": "stand-in"},
        )

    def InstallDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Install nothing: ``make tools`` does."""
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "the stand-in installs nothing; run 'make tools'"
        )

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Abort everything that is running."""
        self.stop()
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run the program to its end."""
        refusal = refuse_production(request.project, request.stack, dict(request.config))
        if refusal is not None:
            self._show(refusal)
            return language_pb2.RunResponse(bail=True)
        script = find_exec()
        if script is None:
            self._show(f"{_EXEC} is not on PATH; run 'make tools', which puts it there")
            return language_pb2.RunResponse(bail=True)
        if self._cancelled.is_set():
            return language_pb2.RunResponse(bail=True)
        command = [interpreter(request), script, *arguments(request, self._engine_address)]
        environment = {
            **self._given(),
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self._program = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, text=True
            )
        else:
            self._program = waiting
            self._begin(waiting, {"command": command[1:], "environment": environment})
        code = self._program.wait()
        if self._cancelled.is_set() or code == _ALREADY_SHOWN:
            return language_pb2.RunResponse(bail=True)
        error = f"program exited with non-zero exit code: {code}" if code else ""
        return language_pb2.RunResponse(error=error)

    def _given(self) -> dict[str, str]:
        """Return the program's environment, which comes once."""
        if self._environment is None:
            self._environment = json.loads(sys.stdin.readline() or "{}")
        return self._environment

    def _begin(self, program: subprocess.Popen[str], wanted: dict[str, Any]) -> None:
        """Let the interpreter that waits go on, and show what it prints, as Pulumi would."""
        assert program.stdin is not None  # noqa: S101 - for mypy
        assert program.stdout is not None  # noqa: S101 - for mypy
        threading.Thread(target=self._forward, args=(program.stdout,), daemon=True).start()
        program.stdin.write(json.dumps(wanted) + "\n")
        program.stdin.close()

    def _forward(self, printed: IO[str]) -> None:
        for line in printed:
            self._show(line.rstrip("\n"), engine_pb2.INFO)

    def busy(self) -> bool:
        """Return whether a program runs."""
        return self._program is not None and self._program.poll() is None

    def stop(self) -> None:
        """End the program quietly: by SIGTERM, for SIGINT would print a traceback."""
        self._cancelled.set()
        program = self._program or self._waiting
        if program is None or program.poll() is not None:
            return
        program.send_signal(signal.SIGTERM)
        try:
            program.wait(_STOP_LIMIT)
        except subprocess.TimeoutExpired:
            program.kill()

    def _show(self, message: str, severity: Any = engine_pb2.ERROR) -> None:
        with grpc.insecure_channel(self._engine_address) as channel:
            engine_pb2_grpc.EngineStub(channel).Log(
                engine_pb2.LogRequest(severity=severity, message=message)
            )


def refuse_production(project: str, stack: str, config: dict[str, str]) -> str | None:
    """Return why this stack must not run on stand-ins, None if it may.

    A production stack is for the official plugins only: what keeps it is what the vendor
    tests. Tests of the production profile say that they are tests, in two places.
    """
    if config.get(f"{project}:profile") != "production":
        return None
    if stack.startswith("test-") and os.environ.get("PANDOM_STANDIN_PRODUCTION") == "test":
        return None
    return (
        f"Stack {stack!r} has the profile 'production', and the stand-ins for Pulumi's plugins "
        "refuse it. Take a network that reaches get.pulumi.com and run 'make tools', which then "
        "installs the official plugins, or give the stack another profile."
    )


def find_exec() -> str | None:
    """Return the script from Pulumi's own Go module that runs a program in the SDK."""
    named = os.environ.get("PANDOM_LANGUAGE_EXEC")
    if named and Path(named).is_file():
        return named
    return shutil.which(_EXEC)


def interpreter(request: Any) -> str:
    """Return the Python of the virtual environment that Pulumi.yaml names, else our own."""
    options = dict(request.info.options)
    virtualenv = options.get("virtualenv")
    if isinstance(virtualenv, str) and virtualenv:
        python = Path(request.info.root_directory) / virtualenv / "bin" / "python"
        if python.exists():
            return str(python)
    return sys.executable


def arguments(request: Any, engine_address: str) -> list[str]:
    """Return the exec script's command line; options without a value are left out."""
    options = {
        "monitor": request.monitor_address,
        "engine": engine_address,
        "project": request.project,
        "root_directory": request.info.root_directory,
        "stack": request.stack,
        "pwd": request.pwd,
        "dry_run": "true" if request.dryRun else "false",
        "parallel": str(request.parallel),
        "organization": request.organization,
    }
    line: list[str] = []
    for name, value in options.items():
        if value:
            line += [f"--{name}", value]
    return [*line, request.info.entry_point, *request.args]


def main(command_line: list[str]) -> None:
    """Serve the language host; the engine's address is the last argument, and may come later."""
    waiting = command_line == [WAITING]
    host = LanguageHost("", _interpreter()) if waiting else LanguageHost("".join(command_line[-1:]))
    serve(
        lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server),
        cancel=host.stop,
        busy=host.busy if waiting else lambda: False,
    )


def _interpreter() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(_START), "waiting"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
