"""Who has which privilege, one row each: for a spreadsheet and an access review."""

from __future__ import annotations

import csv
import io

from pandom.audit.run import Report
from pandom.database.drift.facts import words

HEAD = ("role", "login", "kind", "object", "privilege", "grant option", "grantor", "owner")


def render(report: Report) -> str:
    """Return every granted privilege, sorted by role; what an owner has is its ownership."""
    facts = report.observed.facts
    owners = {fact.object: value for fact, value in facts.items() if fact.kind == "owner"}
    logins = {
        fact.object: value
        for fact, value in facts.items()
        if fact.kind == "role" and fact.detail == "login"
    }
    rows = []
    for (kind, name, role), value in facts.items():
        if kind != "privilege":
            continue
        of, _, rest = name.partition(" ")
        table = f"table {rest.rpartition(' of ')[2]}" if of == "column" else name
        for word in sorted(words(value)):
            privilege, _, grantor = word.partition("/")
            rows.append(
                (
                    role,
                    "yes" if logins.get(role) == "true" else "no",
                    of,
                    rest,
                    privilege.removesuffix("*"),
                    "yes" if privilege.endswith("*") else "no",
                    grantor,
                    owners.get(table, ""),
                )
            )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(sorted(rows))
    return text.getvalue()
