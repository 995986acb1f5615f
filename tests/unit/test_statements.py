"""Statements as reports show them: what was asked, and nothing that could be a value."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pandom.ci import statements


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("select $1, %s, %(name)s", "select $1, %s, %(name)s"),
        ("select 'it''s', E'\\'', U&'x', $$a$$, $tag$ $$ $tag$", "select ?, ?, U&?, ?, ?"),
        ("select 1, -2.5e3, .5, 0xFF, t1.c2", "select ?, -?, ?, ?, t1.c2"),
        ('select "it\'s 5" from "a""b"', 'select "it\'s 5" from "a""b"'),
        ("select 1 -- a secret\n, /* a\nsecret */ 2", "select ? , ?"),
        ("alter role pandom_app password 'secret'", "alter role pandom_app password ?"),
        # Cut off by the server, in the middle of something.
        ("select 'a secr", "select ?"),
        ("select $$a secr", "select ?"),
        ("select 1 /* a secr", "select ?"),
        # Its end depends on standard_conforming_strings.
        (r"select 'a\' secret' from x where y = 'z'", "select ? …"),
        ("select\n  1", "select ?"),
    ],
)
def test_a_statement_has_no_value(text: str, shown: str) -> None:
    assert statements.without_values(text) == shown


@given(st.text(alphabet="'\\\"$-/*e ab\n1"), st.sampled_from(["'", "E'", "$$", "$b$"]))
@example("\\", "'")
def test_no_literal_comes_through_whatever_is_in_it(inside: str, quote: str) -> None:
    ends = {"'": "'", "E'": "'"}.get(quote, quote)
    if quote == "E'":
        inside = inside.replace("\\", "\\\\")
    written = inside.replace("'", "''") if ends == "'" else inside.replace("$", "")
    shown = statements.without_values(f"select {quote}SECRET{written}SECRET{ends} as x, 'SECRET'")
    assert "SECRET" not in shown
    assert shown.startswith("select ?")


def test_a_long_one_is_cut() -> None:
    assert len(statements.without_values("select " + "a," * 9000)) < 1100


def test_what_is_kept_of_failures_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "failures.log"
    assert statements.noted(file) == []
    monkeypatch.setattr(statements, "_MOST", 100)
    for number in range(9):
        statements.note(file, f"test\n{number}", ["select ?", "select now()"])
    kept = statements.noted(file)
    assert kept[0].endswith(" test 0")
    assert kept[1:3] == ["  select ?", "  select now()"]
    assert 3 < len(kept) < 15
