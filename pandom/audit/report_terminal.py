"""The audit for a terminal: 80 columns, no colour needed to understand it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

from pandom.audit.findings import SEVERITIES, Finding
from pandom.audit.reachability import AccessPath, Answer, Login
from pandom.audit.report_json import text as json_text
from pandom.audit.run import Report
from pandom.audit.trail import Problem, Verdict
from pandom.runtime.progress import WIDTH

# Lines of SQL that are shown at once.
_LINES: Final = 12
# After a longer label the text begins on its own line.
_LABEL: Final = 44
_FIXED: Final = "\N{NO-BREAK SPACE}"


def _wrapped(label: str, text: str, indent: int = 4, *, whole: bool = False) -> str:
    """Wrap text beside its label. Names too long for a line (PostgreSQL's have 63 characters) are
    broken, unless ``whole``."""
    start = " " * indent + label
    if len(start) > _LABEL:
        return f"{_wrapped('', label.strip(), indent)}\n{_wrapped('', text, indent + 4)}"
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
        break_long_words=not whole,
    )


def _healing(sql: str) -> Iterable[str]:
    """Yield the SQL, broken only where it stays the same; a script that does not fit is named."""
    label = "    heal      "
    lines = sql.splitlines()
    if not set(sql) & set("'\"$"):
        lines = [
            part
            for line in lines
            for part in textwrap.wrap(
                line, WIDTH - len(label), break_long_words=False, break_on_hyphens=False
            )
        ]
    if len(lines) > _LINES or max(map(len, lines)) > WIDTH - len(label):
        lines = ["long: see `pandom audit --format sql`"]
    yield label + lines[0]
    yield from (" " * len(label) + line for line in lines[1:])


def render(report: Report) -> str:
    """Return the whole audit."""
    observed = report.observed
    lines = [
        f"Audit of {observed.database}{f' of {report.place}' if report.place else ''}, "
        f"PostgreSQL {observed.version.split()[0]}, as {observed.login}",
        f"Scope: {', '.join(report.scope)}. {len(report.expected):,} declared facts compared.",
        "",
    ]
    for one in report.findings:
        lines += finding(one)
    if report.accepted:
        lines.append("Accepted deviations")
        for one, given in report.accepted:
            lines.append(_wrapped("", f"{one.id}: {one.actual}", 2))
            lines.append(_wrapped("", f"{given.reason} ({given.owner}, until {given.expires})"))
        lines.append("")
    if report.stale:
        lines.append("Acceptances that excuse nothing (expired, or the finding is gone)")
        lines += [_wrapped("", f"{one.id}, until {one.expires}", 2) for one in report.stale]
        lines.append("")
    if report.unknown:
        lines.append("Unknown, never counted as clean")
        lines += [_wrapped("- ", reason, 2) for reason in report.unknown]
        lines.append("")
    states = Counter(report.state_of(result) for result in report.controls)
    lines.append(
        "CIS PostgreSQL 17: " + ", ".join(f"{count} {state}" for state, count in states.items())
    )
    lines.append(_summary(report))
    return "\n".join(lines) + "\n"


def finding(finding: Finding) -> Iterable[str]:
    """Yield one finding: where, what, why, and what to do."""
    yield _wrapped(f"{finding.severity.upper()}: ", f"{finding.place}: {finding.title}", 0)
    yield _wrapped("", finding.id)
    yield _wrapped("expected  ", finding.expected or "nothing")
    yield _wrapped("actual    ", finding.actual or "nothing")
    yield _wrapped("why       ", finding.why)
    if finding.sql:
        yield from _healing(finding.sql)
    # Keep a command on one line, so that it can be copied.
    parts = finding.advice.split("`")
    parts[1::2] = (f"`{part.replace(' ', _FIXED)}`" for part in parts[1::2])
    yield _wrapped("next      ", "".join(parts), whole=True).replace(_FIXED, " ")
    yield ""


def problem(problem: Problem) -> Iterable[str]:
    """Yield one sign of tampering with the trail, and what names it in schema/accepted.toml."""
    yield _wrapped(f"{problem.kind.upper()}: ", problem.text, 0)
    yield _wrapped("", problem.id)
    yield _wrapped("actual  ", problem.actual)


def _summary(report: Report) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    found = ", ".join(f"{counts[one]} {one}" for one in SEVERITIES if counts[one])
    if found:
        return f"Drift: {found}."
    if report.unknown:
        return "No drift in what could be seen; the rest could not be told."
    return "Clean: everything is as declared."


def who_can(answer: Answer, *, as_json: bool) -> str:
    """Return the answer to one question."""
    if as_json:
        return json_text(asdict(answer))
    lines = [_wrapped("", f"Who can {answer.privilege} {answer.object}?", 0), ""]
    lines += _ways(answer.ways) or ["  nobody"]
    if answer.functions:
        lines += ["", "Inside functions with their owner's rights, whose body names it:"]
        calls: dict[str, list[str]] = {}
        for way in answer.functions:
            calls.setdefault(way.function, []).append(way.login)
        for call, logins in sorted(calls.items()):
            lines.append(_wrapped(f"{call}  ", ", ".join(sorted(set(logins))), 2))
    if others := len({way.function for way in answer.other_functions}):
        lines += [
            "",
            _wrapped(
                "",
                f"{others} more functions have their owner's rights on it, and do not name it "
                "(--format json lists them).",
                0,
            ),
        ]
    lines += [_wrapped("Also: ", place, 0) for place in answer.elsewhere]
    return "\n".join(lines) + "\n"


def _ways(ways: Sequence[AccessPath]) -> list[str]:
    width = max((len(way.login) for way in ways), default=0)
    lines = []
    for way in ways:
        text = ": ".join(part for part in (way.path, way.reason) if part)
        if way.note:
            text += f"; {way.note}"
        lines.append(_wrapped(f"{way.login:<{width}}  ", text or "itself", 2))
    return lines


def reach(logins: Iterable[Login], *, as_json: bool) -> str:
    """Return what every login can become and gains."""
    if as_json:
        return json_text({"logins": [asdict(one) for one in logins]})
    lines = []
    for one in logins:
        lines.append(one.name)
        if "superuser" in one.bypasses_row_security:
            lines += ["    superuser: everything", ""]
            continue
        for label, found in (
            ("becomes          ", list(one.becomes.values())),
            ("past row security", list(one.bypasses_row_security)),
            ("reads passwords  ", list(one.reads_passwords)),
            ("changes the trail", list(one.changes_trail)),
        ):
            lines.append(_wrapped(f"{label}  ", "; ".join(found) or "no"))
        lines.append("")
    return "\n".join(lines)


def trail(verdict: Verdict, *, as_json: bool) -> str:
    """Render whether the trail was tampered with."""
    if as_json:
        return json_text(verdict.as_json())
    lines = [
        f"{verdict.rows} rows in {verdict.blocks} blocks verified, "
        f"compared with {verdict.anchors} kept heads."
    ]
    for head in verdict.heads:
        lines.append(f"  {head.log}: block {head.number}, sealed {head.sealed_at[:19]}")
        lines.append(f"    {head.hash}")
    for log, rows in verdict.waiting.items():
        if rows:
            lines.append(f"  {log}: {rows} rows wait to be sealed and are not proven yet")
    for log, rows in verdict.archived.items():
        if rows:
            lines.append(f"  {log}: {rows} rows were dropped by retention")
    lines += [_wrapped("UNKNOWN ", text, 0) for text in verdict.late]
    for one in verdict.problems:
        lines += problem(one)
    if verdict.accepted:
        lines.append("Accepted")
        for one, given in verdict.accepted:
            lines.append(_wrapped("", f"{one.id}: {one.actual}", 2))
            lines.append(_wrapped("", f"{given.reason} ({given.owner}, until {given.expires})"))
    if not verdict.problems:
        intact = "Intact but for what was accepted." if verdict.accepted else "The trail is intact."
        lines.append(intact if not verdict.late else "No sign of tampering.")
    return "\n".join(lines) + "\n"
