"""Pulumi's engine events (`--json`), reduced to what is shown and explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

QUIET_OPERATIONS: Final = frozenset({"same", "refresh", "read", "import-replacement"})


@dataclass(frozen=True)
class ResourceStarted:
    """Pulumi works on a resource."""

    operation: str
    urn: str
    type: str
    parent: str


@dataclass(frozen=True)
class ResourceFinished:
    """It is done; ``changed`` is False for a resource that was only looked at."""

    operation: str
    urn: str
    changed: bool
    failed: bool = False


@dataclass(frozen=True)
class Diagnostic:
    """A message; ``severity`` is error, warning, info or info#err."""

    severity: str
    urn: str
    message: str


@dataclass(frozen=True)
class Summary:
    """The operation's end; ``changes`` counts resources by operation."""

    changes: Mapping[str, int]
    succeeded: bool


Event = ResourceStarted | ResourceFinished | Diagnostic | Summary


def parse(line: str) -> Event | None:
    """Return one line of Pulumi's output as an event, or None; other text is a diagnostic."""
    try:
        raw = json.loads(line)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        text = line.strip()
        return (
            Diagnostic("error" if text.startswith("error:") else "info", "", text) if text else None
        )
    if found := raw.get("resourcePreEvent"):
        return _began(found["metadata"])
    if found := raw.get("resOutputsEvent"):
        data = found["metadata"]
        return ResourceFinished(data["op"], data["urn"], _changed(data), _red(data))
    if found := raw.get("resOpFailedEvent"):
        data = found["metadata"]
        return ResourceFinished(data["op"], data["urn"], changed=True, failed=True)
    if found := raw.get("diagnosticEvent"):
        if found["severity"] == "debug":
            return None
        return Diagnostic(found["severity"], found.get("urn", ""), found["message"].rstrip())
    if found := raw.get("summaryEvent"):
        return Summary(found.get("resourceChanges") or {}, found.get("result") == "succeeded")
    if found := raw.get("errorEvent"):
        return Diagnostic("error", "", str(found.get("error", "")))
    return None


def _began(data: Mapping[str, Any]) -> ResourceStarted:
    state = data.get("new") or data.get("old") or {}
    return ResourceStarted(data["op"], data["urn"], data["type"], state.get("parent", ""))


def _red(data: Mapping[str, Any]) -> bool:
    """Return whether a job ran and failed, which Pulumi counts as created."""
    code = ((data.get("new") or {}).get("outputs") or {}).get("exitCode")
    # A preview has a text for "unknown" here.
    return data["op"] != "refresh" and isinstance(code, int) and code != 0


def _changed(data: Mapping[str, Any]) -> bool:
    """Return whether the operation changed anything; a refresh did if it found drift."""
    if data["op"] == "refresh":
        return data.get("new") is None or bool(data.get("diffs") or data.get("detailedDiff"))
    return data["op"] not in QUIET_OPERATIONS
