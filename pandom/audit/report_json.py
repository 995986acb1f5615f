"""The audit as JSON, in a stable order; docs/audit.md documents the schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from pandom.audit.findings import SEVERITIES, Finding
from pandom.audit.reachability import every_login
from pandom.audit.run import Report

VERSION: Final = 1


_FINDING: Final = (
    *("id", "kind", "severity", "object", "detail", "title", "expected", "actual", "why"),
    *("sql", "advice"),
)


def finding(found: Finding) -> dict[str, Any]:
    """Return one finding as plain values."""
    return {key: getattr(found, key) for key in _FINDING}


def document(report: Report) -> dict[str, Any]:
    """Return the whole report as plain values."""
    observed = report.observed
    return {
        "version": VERSION,
        "scope": list(report.scope),
        "database": observed.database,
        "login": observed.login,
        "server": observed.version,
        "read_at": observed.read_at,
        "exit_code": report.exit_code,
        "counts": {
            severity: sum(finding.severity == severity for finding in report.findings)
            for severity in SEVERITIES
        },
        "findings": [finding(one) for one in report.findings],
        "accepted": [finding(one) | given.terms() for one, given in report.accepted],
        "stale_acceptances": [
            {"id": one.id, "actual": one.actual, "expires": one.expires.isoformat()}
            for one in report.stale
        ],
        "unknown": list(report.unknown),
        "controls": [
            {
                "number": result.control.number,
                "title": result.control.title,
                "reason": result.control.reason,
                "state": result.verdict.state,
                "evidence": result.verdict.evidence,
            }
            for result in report.controls
        ],
        "logins": [asdict(one) for one in every_login(observed)],
    }


def text(value: Mapping[str, Any]) -> str:
    """Return JSON with a stable form."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def render(report: Report) -> str:
    """Return the report as JSON."""
    return text(document(report))
