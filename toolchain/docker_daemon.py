"""The Docker engine: a running one, or Debian's, installed and started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from pandom.runtime import docker_endpoint
from pandom.runtime.paths import state_home
from toolchain import cache, pins, process
from toolchain.errors import ToolMissing
from toolchain.report import Step, say

# Host-wide, not per user or cache: two engines cannot share /var/lib/docker.
_LOCK: Final = Path("/run/lock/pandom-stack-docker.lock")
_READY_LIMIT_S: Final = 60.0
_RUN: Final = Path("/run")
SOCKET: Final = _RUN / "docker.sock"


def serving() -> str | None:
    """Return the version of the engine that is meant, or None if it does not answer."""
    if shutil.which("docker") is None or docker_endpoint.silence(docker_endpoint.use()):
        return None
    return process.output(["docker", "version", "--format", "{{.Server.Version}}"]) or None


def packages() -> list[str]:
    """Return the Debian packages that are missing for an engine; a lone client is none."""
    if shutil.which("dockerd") and shutil.which("docker") and shutil.which("iptables"):
        return []
    return ["docker.io", "iptables"]


def systemd() -> bool:
    """Return whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def refusal() -> str | None:
    """Return why no engine can be provided here although none answers, or None."""
    endpoint = docker_endpoint.use()
    if not endpoint.default:
        reason = docker_endpoint.silence(endpoint)
        return f"No Docker engine answers at {endpoint}: {reason}\n{endpoint.choice}"
    if SOCKET.exists() and not os.access(SOCKET, os.W_OK):
        return (
            f"Your user may not use {SOCKET}.\nAdd it to the group: "
            "sudo usermod -aG docker $USER, sign in again, and repeat."
        )
    if os.geteuid() != 0:
        install = packages()
        lines = [f"sudo apt-get install --yes {' '.join(install)}"] if install else []
        lines.append("sudo systemctl start docker" if systemd() else "sudo dockerd &")
        return "No Docker engine runs, and only root can start one:\n  " + "\n  ".join(lines)
    return None


def provide(step: Step) -> None:
    """Use the running engine or start one; only one run at a time gets to start it."""
    version = serving()
    if version is None:
        with cache.locked(_LOCK, "Docker engine"):
            version = serving()
            if version is None:
                start(step)
                version = serving()
    found = pins.version(version or "")
    if found is None or found < pins.DOCKER:
        raise ToolMissing(
            f"Docker engine {pins.format_version(pins.DOCKER)} or newer is needed, found {version}."
        )
    docker_endpoint.check(docker_endpoint.use())
    state = "started now" if step.worked else "running"
    step.source = f"{version}, {state}, {docker_endpoint.named()}"


def start(step: Step) -> None:
    """Start the installed engine and wait until it answers; raises ToolMissing."""
    if systemd():
        step.working("systemctl start docker")
        process.run("Docker engine", ["systemctl", "start", "docker"], hint=_hint())
        _await_ready(None, _log())
        say("  Docker engine: started by systemd; stop it with: systemctl stop docker")
        return
    for stale in ("docker.pid", "docker/containerd/containerd.pid"):
        _remove_stale(_RUN / stale)
    log = _log()
    if (_RUN / "docker.pid").exists():
        step.working("a dockerd is there already; waiting until it answers")
        _await_ready(None, log)
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    step.working(f"starting dockerd, log in {log}")
    with log.open("ab") as sink:
        daemon = subprocess.Popen(
            ["dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
            start_new_session=True,  # it outlives us and our terminal
        )
    _await_ready(daemon, log)
    say(f"  Docker engine: dockerd is ours; stop it with: kill $(cat {_RUN / 'docker.pid'})")


def _log() -> Path:
    return state_home() / "dockerd.log"


def _remove_stale(pid_file: Path) -> None:
    """Remove a pid file whose number now belongs to another program, or to none.

    dockerd takes any living process of that number for another engine.
    """
    try:
        name = Path(f"/proc/{int(pid_file.read_text())}/comm").read_text().strip()
    except (OSError, ValueError):
        name = ""
    if name not in ("dockerd", "containerd"):
        pid_file.unlink(missing_ok=True)


def _await_ready(daemon: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while time.monotonic() < deadline:
        if serving():
            return
        if daemon and daemon.poll() is not None:
            break
        time.sleep(0.3)
    tail = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
    raise ToolMissing(
        f"dockerd did not get ready within {_READY_LIMIT_S:.0f} s"
        + (f" (it ended with exit code {daemon.returncode})" if daemon and daemon.poll() else "")
        + ".\n"
        + "".join(f"    {line}\n" for line in tail)
        + _hint()
    )


def _hint() -> str:
    if systemd():
        return "See `journalctl -u docker`; then run `make tools` again."
    return f"All of its log: {_log()}. Inside a container, dockerd needs a privileged one."
