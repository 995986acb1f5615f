"""A report in the form that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pandom.audit import report_csv, report_html, report_json, report_sarif, report_terminal
from pandom.audit.findings import script
from pandom.audit.run import Report

_FORMS: Final[Mapping[str, Callable[[Report], str]]] = {
    "terminal": report_terminal.render,
    "json": report_json.render,
    "sarif": report_sarif.render,
    "html": report_html.render,
    "csv": report_csv.render,
    "sql": lambda report: script(report.findings),
}


def render(report: Report, form: str) -> str:
    """Return the text of the report."""
    return _FORMS[form](report)
