"""`make bench`: measure, and put the tables into docs/figures.md."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from os import cpu_count

from pandom.paths import ROOT
from tests.bench import stack

PAGE = ROOT / "docs" / "figures.md"


def replace(text: str, section: str, body: str) -> str:
    """The page with the text between the section's two markers exchanged."""
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    head, rest = text.split(begin, 1)
    return head + begin + body + end + rest.split(end, 1)[1]


def main() -> int:
    """Run the measurements named on the command line, or all."""
    measured = f"{datetime.now(UTC):%Y-%m-%d}, {cpu_count()} cores, {platform.machine()}\n\n"
    figures = stack.measure(lambda line: print(f"  stack: {line}", file=sys.stderr, flush=True))
    PAGE.write_text(replace(PAGE.read_text(), "stack", measured + stack.page(*figures)))
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
