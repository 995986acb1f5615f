"""Turns a failed operation into one screen: the cause, then the next step.

The cause is in the job's last log lines, the server's, or one sentence of the provider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from pandom.host import events
from pandom.host.engine import Container, Engine
from pandom.host.ports import listener
from pandom.host.pulumi_cli import PulumiFailed
from pandom.host.stack import Stack
from pandom.runtime import docker_endpoint
from pandom.runtime.errors import USAGE_ERROR, Failure, PandomError, UsageError
from pandom.runtime.progress import WIDTH, middle, shorten

LOG_LINES: Final = 12
ERROR_LINES: Final = 12

# (what Pulumi or a log says, what it means, what to do), the first that fits.
_KNOWN: Final = (
    (
        r"transport is closing|error reading from server: EOF|exited prematurely|signal: killed",
        "A plugin of Pulumi was ended from outside while it worked.",
        "See whether memory is short (`dmesg | tail`), then run this again; it goes on from there.",
    ),
    (
        r"no resource plugin|could not load plugin|failed to load (?:language )?plugin",
        "A plugin of Pulumi is missing or was not installed to its end.",
        "`make tools` installs it or takes a stand-in; then run this again.",
    ),
    (
        r"no space left on device|disk full|the volume at \S+ is too small",
        "The disk is full: there is no room left in Docker's volumes.",
        "Make room (`docker system df`, `df -h /var/lib/docker`), then run this again.",
    ),
    (
        r"cannot connect to the docker daemon|docker daemon running|docker\.sock",
        "Docker at {docker} stopped answering.",
        "Start it (`make tools` does, where nothing else would), then run this again.",
    ),
    (
        r"incorrect passphrase",
        "The passphrase file is not the one that the state, or a secret in the stack's file, was "
        "written with.",
        "Put the right file back from your backup (docs/runbook.md, Lost passphrase).",
    ),
    (
        r"port is already allocated|address already in use",
        "A port of the stack is taken: by what is named above, or by a program that ended since.",
        "Free the port or set another in the stack's file, then run this again.",
    ),
    (
        r"password authentication failed",
        "The server does not take the password that the state holds.",
        "Somebody changed it by hand: docs/runbook.md, Rotation, says how to set it back.",
    ),
    (
        r"(?m)^\w+-image: |no such image|pull access denied|manifest unknown",
        "An image is missing or cannot be built.",
        "`make tools` provides the base image; the image NAME is app_image/NAME/Dockerfile.",
    ),
    (
        r"connection refused|server closed the connection|could not connect to server",
        "PostgreSQL does not answer on its port.",
        "See `pandom status` and `docker logs` of its container, then run this again.",
    ),
)
_NOISE: Final = re.compile(
    r"^\s*(?:update failed|preview failed|destroy failed|Traceback .*|File \".*|\^+|"
    r"warning: .*|error: update failed|[0-9]+ errors? occurred:)\s*$"
)
_PREFIX: Final = re.compile(r"^(?:\s*sdk-v2/\S+ sdk\.helper_schema:\s*|\s*\*\s*|error: )")
_SUFFIX: Final = re.compile(r":\s*provider=\w+@[\w.]+$")


def failure(
    stack: Stack, error: PulumiFailed, engine: Engine | None, since: datetime, again: str
) -> PandomError:
    """Return the failure to show; ``again`` is the command that goes on from here."""
    text = "\n".join(
        diagnostic.message for diagnostic in error.diagnostics if diagnostic.severity != "warning"
    )
    if found := re.search(r"(stacks/Pulumi\.[\w-]+\.yaml cannot be used(?:.|\n)*)", text):
        return UsageError(_cut(found.group(1)))
    lines: list[str] = []
    kind: type[PandomError] = Failure
    if engine is not None:
        failed = _failed(engine, since, text)
        lines = _jobs(engine, since, failed)
        # A job may find the user's mistake, too, when only the server knows it.
        if {container.exit_code for container in failed} == {USAGE_ERROR}:
            kind = UsageError
        lines = lines or _ports(engine, stack, text) or _servers(engine)
    if not lines:
        lines = _errors(error.diagnostics)
    if lines == [_NO_REASON] and engine is not None:
        lines += _servers(engine, _WATCHERS)
    return kind(_compose(stack, lines, "\n".join([text, *lines]), again))


def _ports(engine: Engine, stack: Stack, text: str) -> list[str]:
    """Return who has the ports that could not be had: a server of this stack, too, may have one."""
    lines = []
    for found in dict.fromkeys(re.findall(r"[0-9.]+:([0-9]+)\S* failed: port is already", text)):
        holder = engine.publisher(int(found))
        if holder in {container.name for container in engine.containers()}:
            lines.append(
                f"port {found}: {holder}, the stack's own, still has it; `pandom up` moves both"
            )
        else:
            lines.append(f"port {found}: {holder or listener(int(found)) or 'an unknown process'}")
    return lines


def short(error: PulumiFailed) -> Failure:
    """Return the failure of a command that only reads or writes the state."""
    text = "\n".join(diagnostic.message for diagnostic in error.diagnostics)
    lines = [f"`pulumi {error.operation}` failed:", *_errors(error.diagnostics)]
    known = _cause(text) or ["Next: docs/runbook.md, The state cannot be read."]
    return Failure("\n".join([*lines, *known]))


def _cause(evidence: str) -> list[str]:
    """Return cause and next step of a known error, or nothing."""
    for pattern, cause, remedy in _KNOWN:
        if re.search(pattern, evidence, re.IGNORECASE):
            return [f"Cause: {cause.format(docker=docker_endpoint.named())}", f"Next: {remedy}"]
    return []


def _compose(stack: Stack, lines: Sequence[str], evidence: str, again: str) -> str:
    parts = [f"`{again}` failed for stack {stack.name}.", *lines]
    unknown = [f"Next: fix the cause and run `{again}` again; it goes on from here."]
    return "\n".join([*parts, *(_cause(evidence) or unknown)])


def _of_now(container: Container, since: datetime) -> bool:
    return container.finished is not None and container.finished >= since.replace(microsecond=0)


def _failed(engine: Engine, since: datetime, text: str) -> list[Container]:
    return [
        container
        for container in engine.containers()
        if container.part not in (*_SERVERS, *_WATCHERS)
        and (container.status, container.exit_code == 0) == ("exited", False)
        and (_of_now(container, since) or f"The {container.part} job" in text)
    ]


def _jobs(engine: Engine, since: datetime, failed: Iterable[Container]) -> list[str]:
    """Return the last log lines of failed jobs, of this run or one that stopped it."""
    lines: list[str] = []
    for container in failed:
        when = "" if _of_now(container, since) else ", in an earlier run"
        lines.append(f"The {container.part} job failed with exit code {container.exit_code}{when}:")
        lines += _log(engine, container)
    return lines


# They only watch: their failures are consequences, never the cause.
_WATCHERS: Final = ("operations", "metrics")
_SERVERS: Final = ("postgres", "minio")
_NO_REASON: Final = "Pulumi gave no reason."


def _servers(engine: Engine, parts: Sequence[str] = _SERVERS) -> list[str]:
    """Return the last log lines of the servers that are not well."""
    lines: list[str] = []
    for container in engine.containers():
        young = container.part in _WATCHERS and container.state == "starting"
        if container.part in parts and not container.is_healthy and not young:
            lines.append(f"The {container.part} container is not ready ({container.state}):")
            lines += _log(engine, container)
    return lines


def not_ready(engine: Engine, container: Container | None, part: str) -> Failure:
    """Return the failure of a server that does not become ready."""
    if container is None:
        return Failure(f"There is no {part} container. Next: run `pandom up` again.")
    lines = [
        f"The {part} container does not become ready ({container.state}). Last log lines:",
        *_log(engine, container),
    ]
    unknown = [f"Next: docker logs {container.name}; mend it, then `pandom up`."]
    return Failure("\n".join([*lines, *(_cause("\n".join(lines)) or unknown)]))


def _log(engine: Engine, container: Container) -> list[str]:
    found = [line for line in engine.last_lines(container, LOG_LINES) if line.strip()]
    return [shorten("    " + line, 4 * WIDTH) for line in found] or ["    (no output)"]


def _errors(said: Sequence[events.Diagnostic]) -> list[str]:
    """Return the distinct sentences of the errors, without Pulumi's wrapping and tracebacks."""
    lines: list[str] = []
    known: set[str] = set()
    for diagnostic in said:
        if diagnostic.severity != "error":
            continue
        where = diagnostic.urn.rpartition("::")[2]
        if where and any(line.startswith(f"{where}:") for line in lines):
            continue  # the provider's wrapper says it again
        kept = [
            _SUFFIX.sub("", _PREFIX.sub("", line)).rstrip()
            for line in diagnostic.message.splitlines()
            if line.strip() and not _NOISE.match(line)
        ]
        # One cause often stops many resources.
        if kept and kept[0] not in known:
            known.add(kept[0])
            lines += [f"{where}: {kept[0]}" if where else kept[0], *kept[1:]]
    if len(lines) > ERROR_LINES:  # the cause is in the first lines, or in the last
        lines = [*lines[: ERROR_LINES - 4], "…", *lines[-3:]]
    return [middle(line, 4 * WIDTH) for line in lines] or [_NO_REASON]


def _cut(text: str) -> str:
    return "\n".join(text.splitlines()[:20])


def unreadable_setting(error: PulumiFailed) -> bool:
    """Return whether the provider failed because it cannot read a role's setting."""
    return any(
        re.search(r"(?:statement|session)_timeout|invalid literal for int", diagnostic.message)
        for diagnostic in error.diagnostics
    )


def open_rows(error: PulumiFailed) -> bool:
    """Return whether the migration job refused a table that row security does not guard."""
    return any("rows would be open" in diagnostic.message for diagnostic in error.diagnostics)


def already_there(error: PulumiFailed) -> bool:
    """Return whether something exists in the server that the state does not know."""
    return any(
        re.search(r"(?:role|database) .*already exists", diagnostic.message)
        for diagnostic in error.diagnostics
    )
