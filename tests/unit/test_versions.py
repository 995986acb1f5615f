"""Objects at a moment: which versions come back, and which objects go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pandom.backups.versions import Change, Version, changes, words

BEGIN = datetime(2026, 11, 26, 12, tzinfo=UTC)


def version(minute: int, content: str | None) -> Version:
    written = BEGIN + timedelta(minutes=minute)
    return Version(f"v{minute}", written, content or "", len(content or ""), content is None)


@pytest.mark.requirement("D5")
@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([(0, "a")], "stays"),
        ([(0, "a"), (6, "b")], 0),
        ([(0, "a"), (3, "b"), (6, "c"), (7, "d")], 3),
        ([(6, "a")], None),
        ([(0, "a"), (6, None)], 0),
        ([(0, "a"), (3, None), (6, "b")], None),
        ([(0, "a"), (3, None)], "stays"),
        ([(6, "a"), (7, None)], "stays"),
        # Somebody wrote the same again, or went back by hand.
        ([(0, "a"), (6, "b"), (7, "a")], "stays"),
        # At the very moment counts as before it.
        ([(0, "a"), (5, "b"), (6, "c")], 5),
    ],
)
def test_each_object_is_what_it_was(
    versions: list[tuple[int, str | None]], expected: int | str | None
) -> None:
    every = {"x": [version(*one) for one in versions]}
    found = list(changes(every, BEGIN + timedelta(minutes=5)))
    if expected == "stays":
        assert found == []
    elif expected is None:
        assert found == [Change("x", None)]
    else:
        assert [one.version and one.version.id for one in found] == [f"v{expected}"]


def test_what_would_happen_is_counted() -> None:
    planned = [Change("a", version(0, "a")), Change("b", None), Change("c", None)]
    assert words(planned) == "1 written back, 2 deleted"
