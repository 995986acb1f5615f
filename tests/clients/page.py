"""The code of docs/clients.md, which the tests run."""

from __future__ import annotations

import re
from typing import Final

from pandom.paths import ROOT

PAGE: Final = (ROOT / "docs" / "clients.md").read_text()


def code(section: str, language: str = "python", page: str = PAGE) -> str:
    """The first code block of a language in a section of the page."""
    text = page.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)
    assert found is not None, f"{section}: no block of {language}"
    return found[1]
