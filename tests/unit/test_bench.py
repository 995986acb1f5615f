from __future__ import annotations

from tests.bench.others import CONTAINERS, OURS, PLUGIN, Figure, faster, page

FIGURES = [
    Figure("ready", OURS, "create", "s", (9.0, 10.0, 30.0)),
    Figure("ready", CONTAINERS, "both", "s", (4.0, 5.0, 6.0)),
    Figure("database", OURS, "made", "ms", (90.0,)),
    Figure("database", OURS, "from the pool", "ms", (20.0,)),
    Figure("database", PLUGIN, "its fixture", "ms", (50.0,)),
]


def test_it_is_said_where_another_tool_is_faster_than_our_best() -> None:
    assert faster(FIGURES) == [
        "faster there: ready, testcontainers-python (both): 5 s against 10 s"
    ]
    text = page(FIGURES)
    assert "| ready | testcontainers-python: both | 5 s | 0.5 |" in text
    assert "| database | pytest-postgresql: its fixture | 50 ms | 2.5 |" in text
    assert "- faster there: nothing" in page(FIGURES[2:])
