"""Tables of a resource type's properties, and the three rules that follow from a table.

The official plugins derive from their schema which default an input gets, whether a change is
an update or a replacement, and what a property looks like in the state when nobody set it.
The same is derived here from a table with one line per property. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from toolchain.standins.values import (
    UNKNOWN,
    Value,
    Values,
    holds_unknown,
    is_empty,
    is_unknown,
)

DEFAULTS: Final = "__defaults"

Kind = Literal[
    "string", "integer", "boolean", "list", "set", "map", "block", "block-list", "block-set"
]
Operation = Literal["add", "delete", "update"]

_TYPES: Final[Mapping[Kind, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "list": (list,),
    "set": (list,),
    "map": (dict,),
    "block": (dict,),
    "block-list": (list,),
    "block-set": (list,),
}


_ZEROS: Final[Mapping[Kind, Value]] = {"string": "", "integer": 0, "boolean": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of a resource type or of a block inside it.

    ``computed`` is filled in by the server when it is not given, and then never differs;
    ``output`` cannot be given at all. ``default`` is what an absent input means: unless it is
    zero it becomes part of the inputs, as the official plugins do. ``replaces`` makes a
    change a replacement. ``kept_when_empty``: taking the value away is no change.
    ``allowed`` is a regular expression for strings, ``least`` the lowest integer.
    """

    kind: Kind
    required: bool = False
    computed: bool = False
    output: bool = False
    default: str | int | bool | None = None
    replaces: bool = False
    kept_when_empty: bool = False
    items: Mapping[str, Property] | None = None
    allowed: str | None = None
    least: int | None = None


Table = Mapping[str, Property]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why an input is refused, and at which property."""

    property: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A difference at a property path, ``labels[0].value``."""

    path: str
    operation: Operation
    replaces: bool

    @property
    def top(self) -> str:
        """The resource's own property that the path starts with."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


# --- inputs -------------------------------------------------------------------


def check(table: Table, given: Values, owner: str) -> tuple[Values, list[Mistake]]:
    """Fill in defaults, and report everything that is wrong with the inputs.

    ``owner`` names the resource type in messages.
    """
    mistakes: list[Mistake] = []
    inputs = _check_block(table, given, owner, "", mistakes)
    return inputs, mistakes


def _check_block(
    table: Table, given: Values, owner: str, prefix: str, mistakes: list[Mistake]
) -> Values:
    inputs: Values = {}
    for name, value in given.items():
        if name == DEFAULTS or value is None:
            continue
        path = f"{prefix}{name}"
        rule = table.get(name)
        if rule is None or rule.output:
            mistakes.append(
                Mistake(
                    path,
                    f"the stand-in knows no input {name!r} of {owner}; it has: "
                    + ", ".join(sorted(key for key, item in table.items() if not item.output)),
                )
            )
            continue
        inputs[name] = _check_value(rule, value, owner, path, mistakes)
    filled: list[str] = []
    for name, rule in table.items():
        if name in inputs:
            continue
        if rule.required:
            mistakes.append(Mistake(f"{prefix}{name}", f"{owner} needs {name!r}"))
        elif not is_empty(rule.default):
            inputs[name] = rule.default
            filled.append(name)
    inputs[DEFAULTS] = sorted(filled)
    return inputs


def _check_value(
    rule: Property, value: Any, owner: str, path: str, mistakes: list[Mistake]
) -> Value:
    if is_unknown(value):
        return value
    if not _fits(rule.kind, value):
        mistakes.append(
            Mistake(path, f"expected a {rule.kind}, found a {type(value).__name__}: {path}")
        )
        return value
    if rule.items is not None:
        if rule.kind == "block":
            return _check_block(rule.items, value, owner, f"{path}.", mistakes)
        return [
            item
            if is_unknown(item)
            else _check_block(rule.items, item, owner, f"{path}[{index}].", mistakes)
            for index, item in enumerate(value)
        ]
    if rule.allowed is not None and not re.fullmatch(rule.allowed, value):
        mistakes.append(Mistake(path, f"{value!r} does not match the pattern {rule.allowed!r}"))
    if rule.least is not None and value < rule.least:
        mistakes.append(Mistake(path, f"{value} is lower than {rule.least}"))
    return value


def _fits(kind: Kind, value: Value) -> bool:
    # To Python a boolean is an integer.
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


# --- state --------------------------------------------------------------------


def plan(table: Table, inputs: Values, old: Values | None = None) -> Values:
    """Return the state that the inputs lead to, as far as it is known without the server.

    With ``old`` (an update), what the server filled in stays; without it is unknown.
    """
    state: Values = {}
    for name, rule in table.items():
        value = inputs.get(name)
        if value is not None and not (rule.computed and value in ("", [], {})):
            state[name] = settle(rule, value)
        elif rule.output or rule.computed:
            state[name] = UNKNOWN if old is None else old.get(name)
        elif old is not None and rule.default is None and not old.get(name):
            state[name] = old.get(name)  # the server's way of saying nothing
        elif old is not None and rule.default is None and rule.kind in _ZEROS:
            state[name] = _ZEROS[rule.kind]  # taken away
        else:
            state[name] = _unset(rule, nested=False)
    return state


def settle(rule: Property, value: Value) -> Value:
    """Return an input in the shape that the state has: complete blocks, nothing for empty ones."""
    if is_unknown(value) or value is None:
        return value
    if rule.items is not None:
        if rule.kind == "block":
            return _settle_block(rule.items, value)
        return [_settle_block(rule.items, item) for item in value]
    if rule.kind in ("list", "set", "map") and not value:
        return None
    return value


def _settle_block(table: Table, value: Values) -> Values:
    if is_unknown(value):
        return value
    return {
        name: _unset(rule, nested=True) if value.get(name) is None else settle(rule, value[name])
        for name, rule in table.items()
    }


def _unset(rule: Property, *, nested: bool) -> Value:
    if rule.default is not None:
        return rule.default
    if rule.kind in ("block-list", "block-set"):
        return []
    if nested and rule.kind in ("list", "set"):
        return []
    if nested and rule.kind == "map":
        return {}
    if nested and rule.kind == "string":
        return ""
    return None


def inputs_of(table: Table, state: Values, old_inputs: Values) -> Values:
    """Return what the inputs would have to be to lead to this state, after a refresh.

    Only what was given is followed: the rest is the server's business.
    """
    inputs = dict(old_inputs)
    for name in old_inputs:
        rule = table.get(name)
        if rule is None or not differs(rule, state.get(name), old_inputs[name]):
            continue
        if state.get(name) is None:
            del inputs[name]
        else:
            inputs[name] = state[name]
    return inputs


def imported_inputs(table: Table, state: Values) -> Values:
    """Return the inputs that describe a resource found by its id: what is no default."""
    inputs = {
        name: state[name]
        for name, rule in table.items()
        if not rule.output and not is_empty(state.get(name)) and state[name] != rule.default
    }
    return {**inputs, DEFAULTS: []}


# --- differences --------------------------------------------------------------


def differs(rule: Property, old: Value, new: Value) -> bool:
    """Return whether an input would change the state."""
    return bool(_compare(rule, "x", old, new))


def diff(
    table: Table,
    state: Values,
    inputs: Values,
    *,
    ignore: frozenset[str] = frozenset(),
    suppress: Callable[[str, Values, Values], bool] = lambda _name, _state, _inputs: False,
) -> list[Change]:
    """Return what the inputs change in the state, property by property.

    ``ignore`` are the program's ``ignore_changes``; ``suppress`` is a type's own rule for
    values that are written differently and mean the same.
    """
    changes: list[Change] = []
    for name, rule in table.items():
        if rule.output or name in ignore:
            continue
        old, new = state.get(name), inputs.get(name)
        if suppress(name, state, inputs):
            continue
        changes.extend(_compare(rule, name, old, new))
    return changes


def _compare(rule: Property, path: str, old: Value, new: Value) -> list[Change]:
    if holds_unknown(new) and rule.items is None:
        return [Change(path, "update", rule.replaces)]
    if new is None:
        if rule.computed and rule.kind == "list" and old is None:
            # The server never filled it in: what was being made did not get ready.
            return [Change(path, "add", rule.replaces)]
        if rule.computed or rule.kept_when_empty:
            return []
        new = rule.default
    if is_empty(new) and rule.kept_when_empty:
        return []
    if is_empty(old) and is_empty(new):
        return []
    if rule.kind in ("list", "block-list") and not is_unknown(new):
        return _compare_lists(rule, path, old or [], new or [])
    if rule.kind in ("set", "block-set") and not is_unknown(new):
        return _compare_sets(rule, path, old or [], new or [])
    if rule.kind == "map" and not is_unknown(new):
        return _compare_maps(rule, path, old or {}, new or {})
    if rule.kind == "block" and not is_unknown(new) and rule.items is not None:
        if is_empty(old) or is_empty(new):
            return [_whole(rule, path, old, new)]
        return _compare_blocks(rule.items, path, old, new)
    return [] if old == new else [_whole(rule, path, old, new)]


def _whole(rule: Property, path: str, old: Value, new: Value) -> Change:
    if rule.kind in ("string", "integer", "boolean"):
        # A scalar that is taken away is a deletion, one that appears an update:
        # the state always holds its zero.
        return Change(path, "update" if new is not None else "delete", rule.replaces)
    operation: Operation = "add" if is_empty(old) else "delete" if is_empty(new) else "update"
    return Change(path, operation, rule.replaces)


def _compare_blocks(table: Table, path: str, old: Values, new: Values) -> list[Change]:
    if is_unknown(new):
        return [Change(path, "update", any(rule.replaces for rule in table.values()))]
    changes: list[Change] = []
    for name, rule in table.items():
        changes.extend(_compare(rule, f"{path}.{name}", old.get(name), new.get(name)))
    return changes


def _compare_lists(rule: Property, path: str, old: list[Value], new: list[Value]) -> list[Change]:
    if is_empty(old) != is_empty(new):
        return [_whole(rule, path, old, new)]
    changes: list[Change] = []
    for index in range(max(len(old), len(new))):
        here = f"{path}[{index}]"
        if index >= len(new):
            changes.append(Change(here, "delete", rule.replaces))
        elif index >= len(old):
            changes.append(Change(here, "add", rule.replaces))
        elif rule.items is not None:
            changes.extend(_compare_blocks(rule.items, here, old[index], new[index]))
        elif old[index] != new[index]:
            changes.append(Change(here, "update", rule.replaces))
    return changes


def _compare_sets(rule: Property, path: str, old: list[Value], new: list[Value]) -> list[Change]:
    if is_empty(old) != is_empty(new):
        return [_whole(rule, path, old, new)]
    gone = list(enumerate(old))
    come: list[tuple[int, Value]] = []
    for index, item in enumerate(new):
        equal = next((pair for pair in gone if _same_item(rule, pair[1], item)), None)
        if equal is None:
            come.append((index, item))
        else:
            gone.remove(equal)
    changes: list[Change] = []
    while gone and come:
        index, item = come.pop(0)
        # What stands in the same place is most likely what it was before; the path then
        # shows both of them.
        pair = next((pair for pair in gone if pair[0] == index), gone[0])
        gone.remove(pair)
        before = pair[1]
        here = f"{path}[{index}]"
        if rule.items is not None:
            changes.extend(_compare_blocks(rule.items, here, before, item))
        else:
            changes.append(Change(here, "update", rule.replaces))
    changes.extend(Change(f"{path}[{index}]", "delete", rule.replaces) for index, _ in gone)
    changes.extend(Change(f"{path}[{index}]", "add", rule.replaces) for index, _ in come)
    return changes


def _same_item(rule: Property, old: Value, new: Value) -> bool:
    if rule.items is None:
        return bool(old == new)
    return not is_unknown(new) and not _compare_blocks(rule.items, "x", old, new)


def _compare_maps(rule: Property, path: str, old: Values, new: Values) -> list[Change]:
    if is_empty(old) != is_empty(new):
        return [_whole(rule, path, old, new)]
    changes: list[Change] = []
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        operation: Operation = "add" if key not in old else "delete" if key not in new else "update"
        changes.append(Change(f'{path}["{key}"]', operation, rule.replaces))
    return changes
