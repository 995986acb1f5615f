"""`make bench`: measure, and put the tables into docs/figures.md.

`python -m tests.bench database --full` measures one section, at the sizes of issue 4;
`python -m tests.bench comparison --pg-permissions FOLDER` writes into docs/audit.md.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path

from pandom.runtime.paths import ROOT
from tests.bench import audit, ci, comparison, database, handed_out, others, recovery, stack

FIGURES = ROOT / "docs" / "figures.md"
# Not part of `make bench`: it needs another tool.
COMPARISON = "comparison"
PAGES = {COMPARISON: ROOT / "docs" / "audit.md"}


def replace(text: str, section: str, body: str) -> str:
    """The page with the text between the section's two markers exchanged."""
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    head, rest = text.split(begin, 1)
    return head + begin + body + end + rest.split(end, 1)[1]


def main() -> int:
    """Run the measurements named on the command line, or all but the comparison."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench")
    arguments.add_argument("section", nargs="*", help="which; all without one")
    arguments.add_argument("--full", action="store_true", help="10 M rows; ten minutes")
    arguments.add_argument("--pg-permissions", type=Path, help="a folder with the extension")
    asked = arguments.parse_args()
    sections: dict[str, Callable[[], str]] = {
        "stack": lambda: stack.page(*stack.measure(_show)),
        "database": lambda: database.page(*database.measure(_show, full=asked.full)),
        "audit": lambda: audit.page(audit.measure(_show)),
        "databases for tests": lambda: handed_out.page(handed_out.measure(_show)),
        "recovery": lambda: recovery.page(recovery.measure(_show)),
        "ci": lambda: ci.page(ci.measure(_show)),
        "others": lambda: others.page(others.measure(_show)),
        COMPARISON: lambda: comparison.page(comparison.measure(asked.pg_permissions, _show)),
    }
    if unknown := set(asked.section) - set(sections):
        arguments.error(f"no section {', '.join(unknown)}; there are {', '.join(sections)}")
    if COMPARISON in asked.section and asked.pg_permissions is None:
        arguments.error(f"{COMPARISON} needs --pg-permissions FOLDER")
    for section in asked.section or (name for name in sections if name not in PAGES):
        body = sections[section]()
        place = PAGES.get(section, FIGURES)
        measured = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_count()} cores, {platform.machine()}\n\n"
        place.write_text(replace(place.read_text(), section, measured + body))
        print(f"wrote {section} into {place.relative_to(ROOT)}")
    return 0


def _show(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
