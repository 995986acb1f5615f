"""`make bench`: measure, and put the tables into docs/figures.md.

`python -m tests.bench database --full` measures one section, at the sizes of issue 4.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from os import cpu_count

from pandom.paths import ROOT
from tests.bench import audit, database, stack

PAGE = ROOT / "docs" / "figures.md"


def replace(text: str, section: str, body: str) -> str:
    """The page with the text between the section's two markers exchanged."""
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    head, rest = text.split(begin, 1)
    return head + begin + body + end + rest.split(end, 1)[1]


def main() -> int:
    """Run the measurements named on the command line, or all."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench")
    arguments.add_argument("section", nargs="*", help="which; all without one")
    arguments.add_argument("--full", action="store_true", help="10 M rows; an hour")
    asked = arguments.parse_args()
    sections: dict[str, Callable[[], str]] = {
        "stack": lambda: stack.page(*stack.measure(_show)),
        "database": lambda: database.page(*database.measure(_show, full=asked.full)),
        "audit": lambda: audit.page(audit.measure(_show)),
    }
    if unknown := set(asked.section) - set(sections):
        arguments.error(f"no section {', '.join(unknown)}; there are {', '.join(sections)}")
    for section in asked.section or sections:
        body = sections[section]()
        measured = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_count()} cores, {platform.machine()}\n\n"
        PAGE.write_text(replace(PAGE.read_text(), section, measured + body))
        print(f"wrote {section} into {PAGE.relative_to(ROOT)}")
    return 0


def _show(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
