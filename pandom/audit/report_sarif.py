"""The audit as SARIF 2.1.0: what code hosting shows beside a change."""

from __future__ import annotations

import json
from typing import Any, Final

from pandom.audit.findings import Finding
from pandom.audit.run import Report

_LEVEL: Final = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
# The scale that code hosting sorts by, 0 to 10.
_SCORE: Final = {"critical": "9.5", "high": "8.0", "medium": "5.0", "low": "2.0"}
_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def render(report: Report) -> str:
    """Return the findings as results; accepted ones are suppressed with their reason."""
    results = [_result(finding) for finding in report.findings]
    for one, given in report.accepted:
        suppression = {
            "kind": "external",
            "status": "accepted",
            "justification": f"{given.reason} ({given.owner}, until {given.expires})",
        }
        results.append(_result(one) | {"suppressions": [suppression]})
    every = [*report.findings, *(one for one, _ in report.accepted)]
    rules = {_rule(one): one for one in reversed(every)}
    run = {
        "tool": {
            "driver": {
                "name": "pandom audit",
                "informationUri": "https://www.postgresql.org/docs/17/ddl-priv.html",
                "rules": [
                    {
                        "id": name,
                        "shortDescription": {"text": one.title},
                        "fullDescription": {"text": one.why},
                        "properties": {"security-severity": _SCORE[one.severity]},
                    }
                    for name, one in sorted(rules.items())
                ],
            }
        },
        "invocations": [
            {
                "executionSuccessful": True,
                "exitCode": report.exit_code,
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": f"unknown: {reason}"}}
                    for reason in report.unknown
                ],
            }
        ],
        "results": results,
    }
    document = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _rule(finding: Finding) -> str:
    return finding.id if finding.kind == "control" else finding.id.partition(":")[0]


def _result(finding: Finding) -> dict[str, Any]:
    expected, actual = finding.expected or "nothing", finding.actual or "nothing"
    message = f"{finding.place}: {finding.title}. Expected: {expected}. Actual: {actual}."
    if finding.sql:
        message += f"\nHealed by:\n{finding.sql}"
    return {
        "ruleId": _rule(finding),
        "level": _LEVEL[finding.severity],
        "message": {"text": message},
        # Every finding deviates from the declaration, which is in this file.
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": "schema/access.py"}},
                "logicalLocations": [{"fullyQualifiedName": finding.object, "kind": finding.kind}],
            }
        ],
        "partialFingerprints": {"findingId/v1": finding.id},
    }
