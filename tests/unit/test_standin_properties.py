"""What follows from a table of properties: inputs, planned state, differences."""

from __future__ import annotations

from typing import Any, Final

import pytest

from toolchain.standins import properties
from toolchain.standins.properties import Property, Table
from toolchain.standins.values import UNKNOWN, holds_unknown, reveal, secret

PAIR: Final[Table] = {
    "key": Property(kind="string", required=True, replaces=True),
    "note": Property(kind="string"),
}
TABLE: Final[Table] = {
    "name": Property(kind="string", required=True, replaces=True, allowed="[a-z]+"),
    "size": Property(kind="integer", least=1),
    "restart": Property(kind="string", default="no"),
    "quiet": Property(kind="boolean", default=False),
    "found": Property(kind="boolean", computed=True),
    "words": Property(kind="list", computed=True, replaces=True),
    "bag": Property(kind="set", replaces=True),
    "options": Property(kind="map", replaces=True),
    "health": Property(kind="block", computed=True, items=PAIR),
    "pairs": Property(kind="block-set", items=PAIR, replaces=True),
    "user": Property(kind="string", replaces=True, kept_when_empty=True),
    "address": Property(kind="string", output=True),
}


def checked(**given: Any) -> dict[str, Any]:
    inputs, mistakes = properties.check(TABLE, {"name": "a", **given}, "Thing")
    assert not mistakes
    return inputs


def made(**given: Any) -> dict[str, Any]:
    """The state after the server filled in what it computes."""
    state = properties.plan(TABLE, checked(**given))
    return {
        name: ([] if TABLE[name].kind == "list" else None) if value == UNKNOWN else value
        for name, value in state.items()
    }


def changes(before: dict[str, Any], **given: Any) -> list[tuple[str, str, bool]]:
    return [
        (change.path, change.operation, change.replaces)
        for change in properties.diff(TABLE, before, checked(**given))
    ]


def test_a_default_that_is_not_zero_becomes_an_input() -> None:
    assert checked() == {"name": "a", "restart": "no", "__defaults": ["restart"]}
    assert checked(restart="always")["__defaults"] == []


@pytest.mark.parametrize(
    ("given", "where", "reason"),
    [
        ({"colour": "red"}, "colour", "the stand-in knows no input 'colour' of Thing"),
        ({"address": "x"}, "address", "the stand-in knows no input 'address' of Thing"),
        ({"pairs": [{"key": "k", "weight": 1}]}, "pairs[0].weight", "knows no input 'weight'"),
        ({"pairs": [{}]}, "pairs[0].key", "Thing needs 'key'"),
        ({"name": "A"}, "name", "'A' does not match the pattern '[a-z]+'"),
        ({"size": 0}, "size", "0 is lower than 1"),
        ({"size": True}, "size", "expected a integer, found a bool: size"),
        ({"words": "a b"}, "words", "expected a list, found a str: words"),
    ],
)
def test_a_mistake_names_its_property(given: dict[str, Any], where: str, reason: str) -> None:
    _, mistakes = properties.check(TABLE, {"name": "a", **given}, "Thing")
    assert [mistake.property for mistake in mistakes] == [where]
    assert reason in mistakes[0].reason


def test_what_the_server_fills_in_is_unknown_before() -> None:
    state = properties.plan(TABLE, checked(bag=["b", "a"], pairs=[{"key": "k"}]))
    assert state["address"] == state["found"] == state["words"] == UNKNOWN
    assert state["bag"] == ["b", "a"]
    assert state["pairs"] == [{"key": "k", "note": ""}]
    assert state["options"] is state["size"] is None
    assert state["quiet"] is False


def test_an_update_keeps_what_the_server_filled_in() -> None:
    old = {**made(size=3, user="u"), "address": "here"}
    state = properties.plan(TABLE, checked(), old)
    assert state["address"] == "here"
    assert state["size"] == 0, "taken away, which the state shows as zero"


def test_the_same_again_is_no_change() -> None:
    given: dict[str, Any] = {
        "size": 2,
        "found": False,
        "words": ["a", "b"],
        "bag": ["b", "a"],
        "options": {"o": "1"},
        "health": {"key": "k"},
        "pairs": [{"key": "x"}, {"key": "y", "note": "n"}],
        "user": "u",
    }
    assert changes(made(**given), **given) == []
    given["bag"].reverse()
    given["pairs"].reverse()
    assert changes(made(**given), **given) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"size": 1}, {"size": 2}, [("size", "update", False)]),
        ({"size": 1}, {}, [("size", "delete", False)]),
        ({}, {"size": 1}, [("size", "update", False)]),
        ({"restart": "always"}, {}, [("restart", "update", False)]),
        ({"words": ["a"]}, {}, []),
        ({"words": ["a"]}, {"words": ["b"]}, [("words[0]", "update", True)]),
        ({"words": ["a"]}, {"words": ["a", "b"]}, [("words[1]", "add", True)]),
        ({"bag": ["a"]}, {"bag": ["b"]}, [("bag[0]", "update", True)]),
        ({"bag": ["a"]}, {}, [("bag", "delete", True)]),
        ({}, {"bag": ["a"]}, [("bag", "add", True)]),
        ({"options": {"a": "1"}}, {"options": {"a": "2"}}, [('options["a"]', "update", True)]),
        ({"health": {"key": "k"}}, {}, []),
        (
            {"health": {"key": "k"}},
            {"health": {"key": "k", "note": "n"}},
            [("health.note", "update", False)],
        ),
        (
            {"pairs": [{"key": "a"}, {"key": "b"}]},
            {"pairs": [{"key": "b"}, {"key": "c"}]},
            [("pairs[1].key", "update", True)],
        ),
        (
            {"pairs": [{"key": "a"}]},
            {"pairs": [{"key": "a"}, {"key": "b"}]},
            [("pairs[1]", "add", True)],
        ),
        ({"pairs": [{"key": "a"}]}, {"pairs": [{"key": "a", "note": "n"}]}, None),
        ({"user": "u"}, {}, []),
        ({"user": "u"}, {"user": "v"}, [("user", "update", True)]),
        ({"user": "u"}, {"user": UNKNOWN}, [("user", "update", True)]),
    ],
)
def test_a_change_is_an_update_or_a_replacement(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, str, bool]] | None
) -> None:
    found = changes(made(**before), **after)
    # None: the inner property does not replace although the set does, as officially.
    assert found == ([("pairs[0].note", "update", False)] if expected is None else expected)


def test_what_never_got_ready_is_replaced() -> None:
    assert changes({**made(), "words": None}) == [("words", "add", True)]


def test_ignored_properties_do_not_differ() -> None:
    ignoring = properties.diff(TABLE, made(size=1), checked(size=2), ignore=frozenset({"size"}))
    assert ignoring == []


def test_inputs_follow_the_state_after_a_refresh() -> None:
    inputs = checked(size=1, bag=["a"])
    assert properties.inputs_of(TABLE, made(size=1, bag=["a"]), inputs) == inputs
    assert properties.inputs_of(TABLE, made(size=4), inputs) == {
        key: value for key, value in {**inputs, "size": 4}.items() if key != "bag"
    }


def test_imported_inputs_are_what_is_no_default() -> None:
    assert properties.imported_inputs(TABLE, {**made(size=5), "address": "here"}) == {
        "name": "a",
        "size": 5,
        "__defaults": [],
    }


def test_secrets_and_unknowns_are_recognised() -> None:
    assert reveal({"a": [secret({"b": secret(1)})]}) == {"a": [{"b": 1}]}
    assert holds_unknown({"a": [UNKNOWN]})
    assert not holds_unknown({"a": ["x"]})
