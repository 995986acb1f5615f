"""The code of docs/clients.md, which the tests run."""

from __future__ import annotations

import re
from typing import Final

from pandom.runtime.paths import ROOT

PAGE: Final = (ROOT / "docs" / "clients.md").read_text()


def code(section: str, language: str = "python", page: str = PAGE) -> str:
    """The first code block below a heading, which must be of the language."""
    text = re.split(rf"^#+ {re.escape(section)}$", page, maxsplit=1, flags=re.M)[1]
    found = re.search(r"^```(\w+)\n(.*?)^```$", text, re.S | re.M)
    assert found is not None, section
    assert found[1] == language, f"{section}: {found[1]}"
    return found[2]
