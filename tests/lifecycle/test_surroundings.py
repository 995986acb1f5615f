"""Whatever the caller's environment is: the stack answers as always, or one message says why."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandom.host.stack import Stack, forget
from pandom.runtime import paths
from tests.fixtures.stack import Pandom, RunningStack

# Each of them would send a connection elsewhere, or bend what it answers.
LIBPQ = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "nowhere",
    "PGSERVICE": "elsewhere",
    "PGOPTIONS": "-c nonsense=1",
    "PGDATESTYLE": "German",
    "PGTZ": "Pacific/Kiritimati",
    "PGGEQO": "nonsense",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "nonsense",
    "PGREQUIREAUTH": "none",
    "PGCHANNELBINDING": "nonsense",
    "PGSSLMODE": "disable",
    "PGSSLNEGOTIATION": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "TLSv9",
    "PGSSLCRL": "/dev/null",
    "PGGSSENCMODE": "require",
    "PGREQUIREPEER": "nobody",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGSYSCONFDIR": "/nowhere",
}
OTHERS = {
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "POSIX",
    "LANG": "C",
    "CDPATH": "/:/tmp",
    "TMPDIR": "/nowhere",
}


class Launched(Pandom):
    """As a user starts it: through the launcher, which is a shell script."""

    forks: bool = False

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / ".venv" / "bin" / "pandom"), *arguments]

    def environment(self) -> dict[str, str]:
        found = super().environment()
        return {
            **{key: value for key, value in found.items() if key != "PYTHONPATH"},
            **self.variables,
        }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which every file that libpq looks for is wrong."""
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    for name in ("postgresql.crt", "postgresql.key", "root.crt", "root.crl"):
        (folder / name).write_text("no certificate")
        (folder / name).chmod(0o600)
    (tmp_path / ".pgpass").write_text("*:*:*:*:wrong\n")
    (tmp_path / ".pgpass").chmod(0o600)
    (tmp_path / ".pg_service.conf").write_text("[elsewhere]\nhost=192.0.2.1\n")
    return tmp_path


@pytest.fixture
def hostile(home: Path) -> Launched:
    """The command under all of it; the tools are where they are."""
    cache = {"XDG_CACHE_HOME": str(paths.cache_home().parent)}
    state = {"XDG_STATE_HOME": str(paths.state_home().parent)}
    return Launched(variables={**LIBPQ, **OTHERS, **cache, **state, "HOME": str(home)})


@pytest.mark.requirement("D2")
@pytest.mark.parametrize(
    "command",
    [["health"], ["audit"], ["refresh", "--expect-no-changes"]],
    ids=" ".join,
)
def test_the_stack_answers_as_always(
    hostile: Launched, stack: RunningStack, command: list[str]
) -> None:
    hostile(*command, "--stack", stack.name)


def test_an_audit_by_libpqs_variables_keeps_those_that_name_the_database(
    stack: RunningStack,
) -> None:
    target = {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(stack.outputs["db_port"]),
        "PGUSER": "pandom_auditor",
        "PGPASSWORD": stack.passwords["pandom_auditor"],
        "PGDATABASE": "pandom_db",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": stack.outputs["db_sslrootcert"],
    }
    bent = {name: LIBPQ[name] for name in ("PGOPTIONS", "PGDATESTYLE", "PGTZ", "PGCLIENTENCODING")}
    kept = {**OTHERS, "HOME": os.environ["HOME"]}
    Launched(variables={**kept, **target, **bent})("audit", "who-can", "update", "audit_logs")
    wrong = Launched(variables={**kept, **target, "PGPORT": "1"})
    assert "could not connect" in wrong("audit", code=1).stderr


# -- paths -------------------------------------------------------------------------------------

# What one or the other of URLs, search paths, shells, ini files and templates takes for a mark.
NAME = "50% #1?a=b&c;d '+' \"e\" {f} ümlaut $HOME `id` ~ %20"


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of such a name, with the files as they are here."""
    folder = tmp_path_factory.mktemp("clone") / NAME
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=paths.ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (paths.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.ROOT / name, folder / name)
    artifacts = Path("app_image", "artifacts")
    (folder / artifacts).symlink_to(paths.ROOT / artifacts)
    (folder / ".venv").symlink_to((paths.ROOT / ".venv").readlink())
    yield folder
    shutil.rmtree(folder.parent)


@pytest.mark.soak  # half a minute
def test_any_character_in_the_paths_of_clone_and_state(clone: Path, stack: RunningStack) -> None:
    state = clone.parent / f"state {NAME}"
    shutil.copytree(paths.state_home() / "backend", state / "pandom-stack" / "backend")
    shutil.copy2(paths.passphrase_file(), state / "pandom-stack")
    shutil.copytree(paths.stack_home(stack.name), state / "pandom-stack" / stack.name)
    # The cache stays: its tools are what others use.
    command = Launched(clone, {"XDG_STATE_HOME": str(state)})
    shown = command("preview", "--stack", stack.name).stderr
    assert f"Stack {stack.name}: " in shown
    command("migrate", "generate", "a draft", "--empty", "--stack", stack.name)


# -- homes, and users without one --------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "up"])
def test_a_state_that_may_not_be_written_is_one_message(tmp_path: Path, command: str) -> None:
    (tmp_path / "pandom-stack").write_text("a file where the folder is expected")
    said = Launched(variables={"XDG_STATE_HOME": str(tmp_path)})(
        command, "--stack", "test-nowhere", code=None
    )
    assert said.returncode == (2 if command == "up" else 0)
    assert "mistake in pandom" not in said.stderr
    assert "Traceback" not in said.stderr


# -- the Docker engine that is meant -----------------------------------------------------------


def chosen(folder: Path, host: str) -> dict[str, str]:
    """Docker's folder with a current context that says where the engine is."""
    identity = hashlib.sha256(b"theirs").hexdigest()
    place = folder / "contexts" / "meta" / identity / "meta.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"Name": "theirs", "Endpoints": {"docker": {"Host": host}}}))
    (folder / "config.json").write_text(json.dumps({"currentContext": "theirs"}))
    return {"DOCKER_CONFIG": str(folder), "DOCKER_HOST": "", "DOCKER_CONTEXT": ""}


class Watched:
    """A socket that hands everything on to the real engine, and keeps who asked."""

    def __init__(self, place: Path) -> None:
        self.asked: set[str] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(place))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect("/var/run/docker.sock")
                for pair in ((client, engine), (engine, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                found = re.search(rb"User-Agent: ([\w-]+)", data, re.IGNORECASE)
                if found:
                    self.asked.add(found[1].decode())
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_every_part_asks_the_engine_of_the_context(tmp_path: Path, stack: RunningStack) -> None:
    watched = Watched(tmp_path / "engine.sock")
    command = Pandom(variables=chosen(tmp_path / "docker", f"unix://{tmp_path}/engine.sock"))
    said = command("status", "--stack", stack.name).stdout
    assert "postgres" in said
    subprocess.run(
        [sys.executable, "-m", "toolchain", "--quiet"],
        cwd=paths.ROOT,
        env=command.environment(),
        check=True,
    )
    assert {"docker-sdk-python", "Docker-Client"} <= watched.asked


@pytest.mark.parametrize("command", ["status", "preview"])
def test_a_dead_context_is_named_at_once(tmp_path: Path, stack: RunningStack, command: str) -> None:
    where = f"unix://{tmp_path}/gone.sock"
    dead = Pandom(variables=chosen(tmp_path / "docker", where))
    said = dead(command, "--stack", stack.name, code=2).stderr
    assert f"Docker does not answer at {where} (context 'theirs', chosen by {tmp_path}" in said
    assert "docker context use default" in said


def test_an_engine_of_another_machine_is_refused_before_anything_is_made() -> None:
    name = "test-elsewhere"
    try:
        for host in ("ssh://root@build-host", "tcp://192.0.2.1:2375"):
            said = Pandom(variables={"DOCKER_HOST": host})("up", "--stack", name, code=2).stderr
            assert f"Docker at {host} (DOCKER_HOST) cannot be used" in said
        assert not Stack(name).exists()
    finally:
        forget(Stack(name))
