"""The audit as one self-contained page.

The matrix shows the privileges of each role on each object as letters in fixed places: filled where
granted, outlined where reached by membership or ownership, dotted where on some columns only.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from pandom.audit.findings import SEVERITIES, Finding
from pandom.audit.reachability import AccessGraph, every_login, only_some, rows_left
from pandom.audit.run import Report
from pandom.database.drift.catalog import Observed
from pandom.database.drift.facts import PUBLIC
from pandom.runtime.errors import DONE
from schema import access

_FOLDER: Final = Path(__file__).parent / "page"
# Lines of SQL that are shown at once.
_SHORT: Final = 12

# Letter, privilege, colour; the order is the place in a cell.
_TABLE: Final = (
    ("r", "SELECT", "read"),
    ("a", "INSERT", "write"),
    ("w", "UPDATE", "write"),
    ("d", "DELETE", "write"),
    ("D", "TRUNCATE", "write"),
    ("x", "REFERENCES", "rule"),
    ("t", "TRIGGER", "rule"),
    ("m", "MAINTAIN", "rule"),
)
_OTHER: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    "table": _TABLE,
    "view": _TABLE,
    "sequence": (("r", "SELECT", "read"), ("w", "UPDATE", "write"), ("U", "USAGE", "write")),
    "function": (("X", "EXECUTE", "rule"),),
    "schema": (("U", "USAGE", "read"), ("C", "CREATE", "write")),
    "database": (
        ("c", "CONNECT", "read"),
        ("C", "CREATE", "write"),
        ("T", "TEMPORARY", "write"),
    ),
    "type": (("U", "USAGE", "read"),),
}


@dataclass(frozen=True)
class _Cell:
    """Privileges of one role on one object."""

    own: frozenset[str]
    part: frozenset[str]
    reached: frozenset[str]
    note: str
    rows: Mapping[str, str]  # what row security leaves, by privilege
    some: frozenset[str]  # privileges that reach some rows only


@cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text()


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _policy() -> str:
    """Return the Content-Security-Policy: nothing but this page's style and script runs."""
    style, script = (_hash(_file(name)) for name in ("style.css", "script.js"))
    return f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'"


def render(report: Report) -> str:
    """Render the page."""
    found = AccessGraph(report.observed)
    title = f"Audit of {report.observed.database}"
    if report.place:
        title += f", {report.place}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{_file('style.css')}</style></head><body>",
            *_head(report, title),
            "<main>",
            *_findings(report),
            *_matrix(report, found),
            *_policies(found),
            *_roles(found),
            *_logins(report),
            *_controls(report),
            *_unknown(report),
            "</main>",
            f"<script>{_file('script.js')}</script></body></html>",
            "",
        ]
    )


def _head(report: Report, title: str) -> Iterable[str]:
    observed = report.observed
    if report.findings:
        counts = [
            f"{sum(finding.severity == severity for finding in report.findings)} {severity}"
            for severity in SEVERITIES
            if any(finding.severity == severity for finding in report.findings)
        ]
        style, verdict = "drift", f"Drift: {', '.join(counts)}"
    elif report.exit_code == DONE:
        style, verdict = "", "Clean: everything is as declared"
    else:
        style, verdict = "unknown", "No drift in what could be seen; the rest could not be told"
    yield f"<header><h1>{escape(title)}</h1>"
    yield (
        f"<p>PostgreSQL {escape(observed.version.split()[0])}, read {escape(_when(observed))} "
        f"as {escape(observed.login)}. Scope: {escape(', '.join(report.scope))}; "
        f"{len(report.expected):,} declared facts compared.</p>"
    )
    yield f'<p class="verdict {style}">{escape(verdict)}</p>'
    links = "".join(
        f'<a href="#{name.lower()}">{name}</a>'
        for name in ("Findings", "Access", "Policies", "Roles", "Logins", "Controls")
    )
    yield f'<nav aria-label="Sections">{links}</nav></header>'


def _when(observed: Observed) -> str:
    """Return the moment without fractions of a second."""
    return f"{datetime.fromisoformat(observed.read_at).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _findings(report: Report) -> Iterable[str]:
    yield '<section aria-labelledby="findings"><h2 id="findings">Findings</h2>'
    if not report.findings:
        yield "<p>None.</p>"
    for finding in report.findings:
        yield _finding(finding, {"Why it matters": finding.why})
    if report.accepted:
        yield "<h3>Accepted deviations</h3>"
    for one, given in report.accepted:
        yield _finding(
            one,
            {"Reason": given.reason, "Owner": given.owner, "Until": given.expires.isoformat()},
            accepted=True,
        )
    yield "</section>"


def _finding(finding: Finding, more: Mapping[str, str], *, accepted: bool = False) -> str:
    rows = {
        "Expected": finding.expected or "nothing",
        "Actual": finding.actual or "nothing",
        **more,
    }
    if not accepted:
        rows["What to do"] = finding.advice
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    if finding.sql and finding.sql.count("\n") < _SHORT:
        listed += f"<dt>Healed by</dt><dd><pre>{escape(finding.sql)}</pre></dd>"
    elif finding.sql:
        listed += (
            "<dt>Healed by</dt><dd><details><summary>SQL of "
            f"{finding.sql.count(chr(10)) + 1} lines</summary><pre>{escape(finding.sql)}</pre>"
            "</details></dd>"
        )
    listed += f"<dt>Id</dt><dd><code>{escape(finding.id)}</code></dd>"
    word = "accepted" if accepted else finding.severity
    return (
        f'<details class="{word}"{"" if accepted else " open"}><summary>'
        f'<span class="word">{escape(word)}</span> {escape(finding.place)}: {escape(finding.title)}'
        f"</summary><dl>{listed}</dl></details>"
    )


# -- the matrix -----------------------------------------------------------------------------


def _matrix(report: Report, found: AccessGraph) -> Iterable[str]:
    # PUBLIC first, because everybody has its privileges.
    roles = [PUBLIC, *sorted(name for name in found.roles if not found.superuser(name))]
    drift = {
        (finding.object, finding.id.rpartition(":")[2])
        for finding in report.findings
        if finding.kind == "privilege"
    }
    kinds = tuple(_OTHER)
    of_extensions = {
        fact.object
        for fact, value in report.observed.facts.items()
        if fact.kind == "owner" and " by extension " in value
    }
    ranked = (
        (kinds.index(name.partition(" ")[0]), name)
        for name in found.owners.keys() - of_extensions
        if name.partition(" ")[0] in kinds
    )
    yield '<section aria-labelledby="access"><h2 id="access">Access: role × object</h2>'
    yield _legend()
    yield _filters(roles)
    yield '<p id="seen" class="quiet" role="status"></p>'
    yield '<div class="scroll high" tabindex="0" role="region" aria-label="Access matrix">'
    yield '<table class="matrix" id="matrix"><thead><tr>'
    yield '<th scope="col">Object</th><th scope="col">Owner</th>'
    yield from (f'<th scope="col" data-role="{escape(role)}">{escape(role)}</th>' for role in roles)
    yield "</tr></thead><tbody>"
    cells = _Cells(found)
    for _, name in sorted(ranked):
        kind, _, rest = name.partition(" ")
        yield (
            f'<tr data-name="{escape(rest.lower())}" data-kind="{kind}">'
            f'<th scope="row">{escape(kind)} {escape(_short(rest))}</th>'
            f"<td>{escape(found.owners[name])}</td>"
        )
        for role in roles:
            wrong = (name, role) in drift or any(
                where.startswith("column ") and where.endswith(f" of {rest}") and who == role
                for where, who in drift
            )
            yield _cell(cells.of(name, role), _OTHER[kind], role, wrong=wrong)
        yield "</tr>"
    yield '</tbody></table></div><p id="cell" class="quiet" role="status"></p></section>'


def _short(name: str) -> str:
    return name.removeprefix("public.")


class _Cells:
    """What each role has on each object; columns and memberships are looked up once."""

    def __init__(self, found: AccessGraph) -> None:
        self._found = found
        self._reached = {role: found.inherited(role) for role in found.roles}
        self._becomes = {
            role: found.becomes(role) if found.roles[role]["login"] == "true" else {role: ""}
            for role in found.roles
        }
        self._columns: dict[str, dict[str, set[str]]] = {}
        for name, grantees in found.privileges.items():
            if name.startswith("column "):
                table = self._columns.setdefault(f"table {name.rpartition(' of ')[2]}", {})
                for grantee, privileges in grantees.items():
                    table.setdefault(grantee, set()).update(privileges)

    def of(self, name: str, role: str) -> _Cell:
        """Return one cell; PUBLIC has what is granted to it and nothing else."""
        privileges = self._found.privileges.get(name, {})
        own = privileges.get(role, frozenset())
        part = frozenset(self._columns.get(name, {}).get(role, set())) - own
        every = {word for _, word, _ in _OTHER[name.partition(" ")[0]]}
        reached: set[str] = set()
        notes = []
        for become, path in self._becomes.get(role, {}).items():
            for holder, inherited in self._reached.get(become, {}).items():
                gained = set(privileges.get(holder, ())) if holder != role else set()
                if self._found.owners[name] == holder:
                    gained = every
                if gained - own - reached:
                    reached |= gained
                    steps = " → ".join(step for step in (path, inherited) if step)
                    notes.append(steps or "owner")
        inherited_roles = self._reached.get(role, {})
        rows = {
            word: left
            for word in sorted(own | part | reached)
            if (left := rows_left(self._found, role, inherited_roles, word, name))
        }
        some = {word for word, left in rows.items() if only_some(left)}
        return _Cell(
            own, part, frozenset(reached - own), "; ".join(notes), rows, frozenset(some - reached)
        )


def _cell(cell: _Cell, letters: Sequence[tuple[str, str, str]], role: str, *, wrong: bool) -> str:
    boxes, said = [], []
    for letter, privilege, colour in letters:
        style = ""
        if privilege in cell.own:
            style, how = "own", ""
        elif privilege in cell.reached:
            style, how = "reached", f" by {cell.note}"
        elif privilege in cell.part:
            style, how = "part", " on some columns"
        if style:
            left = cell.rows.get(privilege) if style != "reached" else None
            said.append(f"{privilege}{how}" + (f", {left}" if left else ""))
            style += " some" if privilege in cell.some else ""
            boxes.append(f'<span class="b {colour} {style}" aria-hidden="true">{letter}</span>')
        else:
            boxes.append('<span class="b none" aria-hidden="true">·</span>')
    content = "".join(boxes) if said else ""
    if wrong:
        said.append("not as declared")
    label = escape(", ".join(said))
    drift = ' class="drift"' if wrong else ""
    title = f' title="{label}" aria-label="{label}"' if said else ""
    return f'<td{drift} data-role="{escape(role)}"{title}>{content}</td>'


def _legend() -> str:
    letters = {letter: (word, colour) for row in _OTHER.values() for letter, word, colour in row}
    boxes = [(f"{colour} own", letter, word) for letter, (word, colour) in letters.items()]
    ways = (
        ("read own", "r", "granted"),
        ("read", "r", "reached by a membership or as owner"),
        ("read part", "r", "on some columns"),
        ("read own some", "r", "on some rows, by a policy"),
    )
    return "".join(
        '<p class="legend">'
        + " ".join(
            f'<span><span class="b {style}">{a}</span> {word}</span>' for style, a, word in x
        )
        + end
        for x, end in (
            (boxes, "</p>"),
            (ways, ' <span><span class="wrong">≠</span> not as declared</span></p>'),
        )
    ) + (
        "<p>Superusers are left out: nothing is checked for them. An object's owner has every "
        "privilege. By keyboard: Tab to the table, then the arrow keys; below it stands what a "
        "cell says, with the path of what is reached.</p>"
    )


def _filters(roles: Iterable[str]) -> str:
    kinds = "".join(f"<option>{kind}</option>" for kind in _OTHER)
    names = "".join(f"<option>{escape(role)}</option>" for role in roles)
    return (
        '<form id="filters" hidden><label>Object contains<br>'
        '<input name="text" type="search" autocomplete="off"></label>'
        f'<label>Kind<br><select name="kind"><option value="">all</option>{kinds}</select></label>'
        f'<label>Role<br><select name="role"><option value="">all</option>{names}</select></label>'
        '<label><input name="drift" type="checkbox"> drift only</label></form>'
    )


# -- the rest ---------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Yield a table; its cells are escaped already."""
    yield '<div class="scroll"><table class="plain"><thead><tr>'
    yield "".join(f'<th scope="col">{name}</th>' for name in head) + "</tr></thead><tbody>"
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        yield f'<tr><th scope="row">{first}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _policies(found: AccessGraph) -> Iterable[str]:
    yield '<section aria-labelledby="policies"><h2 id="policies">Row security policies</h2>'
    yield from _table(
        ["Table", "Policy", "For", "To", "Rows that are seen", "Rows that may be written"],
        (
            [
                escape(_short(table.partition(" ")[2])),
                *(
                    escape(value)
                    for value in (
                        policy["name"].rpartition(" on ")[0],
                        policy["for"],
                        policy["to"],
                        policy["using"] or "–",
                        policy["with check"] or "–",
                    )
                ),
            ]
            for table, policies in sorted(found.policies.items())
            for policy in sorted(policies, key=lambda one: one["name"])
        ),
    )
    yield "</section>"


def _roles(found: AccessGraph) -> Iterable[str]:
    declared = {role.name: role.comment for role in access.ROLES}
    yield '<section aria-labelledby="roles"><h2 id="roles">Roles</h2>'
    yield from _table(
        ["Role", "What it is for", "Attributes"],
        (
            [
                escape(name),
                escape(declared.get(name, "not declared")),
                escape(", ".join(_attributes(role)) or "–"),
            ]
            for name, role in sorted(found.roles.items())
            if not found.superuser(name)
        ),
    )
    yield "</section>"


def _attributes(role: Mapping[str, str]) -> Iterable[str]:
    for name in ("login", "create role", "create database", "replication", "bypass row security"):
        if role.get(name) == "true":
            yield name


def _logins(report: Report) -> Iterable[str]:
    yield '<section aria-labelledby="logins"><h2 id="logins">What each login can reach</h2>'
    rows = []
    for one in every_login(report.observed):
        everything = "superuser" in one.bypasses_row_security
        columns = (
            ["everything"] * 4
            if everything
            else [
                "<br>".join(map(escape, found)) or "no"
                for found in (
                    one.becomes.values(),
                    one.bypasses_row_security,
                    one.reads_passwords,
                    one.changes_trail,
                )
            ]
        )
        rows.append([escape(one.name), *columns])
    yield from _table(
        ["Login", "Becomes", "Past row security", "Reads password_hash", "Changes the trail"], rows
    )
    yield "</section>"


def _controls(report: Report) -> Iterable[str]:
    yield '<section aria-labelledby="controls"><h2 id="controls">CIS PostgreSQL 17</h2>'
    yield from _table(
        ["Number", "Recommendation", "Verdict", "Evidence"],
        (
            [
                result.control.number,
                f"{escape(result.control.title)}<br><small>{escape(result.control.reason)}</small>",
                f'<span class="{state.replace(" ", "-")}">{state}</span>',
                escape(result.verdict.evidence),
            ]
            for result in report.controls
            for state in (report.state_of(result),)
        ),
    )
    yield "</section>"


def _unknown(report: Report) -> Iterable[str]:
    if report.unknown:
        yield "<section><h2>Unknown, never counted as clean</h2><ul>"
        yield from (f"<li>{escape(reason)}</li>" for reason in report.unknown)
        yield "</ul></section>"
