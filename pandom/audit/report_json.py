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


def finding(one: Finding) -> dict[str, Any]:
    """Return one finding as plain values."""
    return {
        "id": one.id,
        "kind": one.kind,
        "severity": one.severity,
        "object": one.object,
        "detail": one.detail,
        "title": one.title,
        "expected": one.expected,
        "actual": one.actual,
        "why": one.why,
        "sql": one.sql,
        "advice": one.advice,
    }


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
            severity: sum(one.severity == severity for one in report.findings)
            for severity in SEVERITIES
        },
        "findings": [finding(one) for one in report.findings],
        "accepted": [
            {
                **finding(one),
                "reason": given.reason,
                "owner": given.owner,
                "expires": given.expires.isoformat(),
            }
            for one, given in report.accepted
        ],
        "stale_acceptances": [
            {"id": one.id, "actual": one.actual, "expires": one.expires.isoformat()}
            for one in report.stale
        ],
        "unknown": list(report.unknown),
        "controls": [
            {
                "number": one.control.number,
                "title": one.control.title,
                "reason": one.control.reason,
                "state": one.verdict.state,
                "evidence": one.verdict.evidence,
            }
            for one in report.controls
        ],
        "logins": [asdict(one) for one in every_login(observed)],
    }


def text(value: Mapping[str, Any]) -> str:
    """Return JSON with a stable form."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def render(report: Report) -> str:
    """Return the report as JSON."""
    return text(document(report))
