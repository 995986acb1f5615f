"""Numbers are of 0 to 9, wherever somebody types them."""

from __future__ import annotations

import re

import pytest

from pandom.runtime.numbers import is_number, number
from pandom.runtime.paths import ROOT

# What takes the digits of every script.
_EVERY_SCRIPT = re.compile(r"\\d|\.is(?:digit|decimal|numeric)\(|type=(?:int|float)\b")


@pytest.mark.parametrize("text", ["٣", "²", "1_0", "-1", " 1", ""])
def test_only_plain_digits_are_a_number(text: str) -> None:
    assert is_number("012")
    assert not is_number(text)
    with pytest.raises(ValueError, match=re.escape(text)):
        number(text)


def test_nothing_that_reads_input_takes_others() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("pandom", "schema")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if _EVERY_SCRIPT.search(line)
    }
    assert found == {"pandom/runtime/numbers.py: return text.isascii() and text.isdigit()"}
