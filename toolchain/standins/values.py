"""Property values as the protocol carries them: plain Python plus two sentinels.

A value that is not known yet travels as a fixed string, a secret as a marked object; both
constants are Pulumi's.
"""

from __future__ import annotations

from typing import Any, Final

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# What the protocol uses for unknown values by their type.
_UNKNOWNS: Final = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)
_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 -- the protocol's mark of a secret

Value = Any  # None, bool, int, float, str, list[Value] or dict[str, Value]
Values = dict[str, Any]


def is_unknown(value: Value) -> bool:
    """Return whether the value will only be known when other resources exist."""
    return isinstance(value, str) and value in _UNKNOWNS


def holds_unknown(value: Value) -> bool:
    """Return whether the value, or a value inside it, is unknown."""
    if isinstance(value, dict):
        return any(holds_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(holds_unknown(item) for item in value)
    return is_unknown(value)


def secret(value: Value) -> Values:
    """Mark a value as secret: the engine encrypts it in the state and hides it on screen."""
    return {_SIGNATURE: _SECRET, "value": value}


def reveal(value: Value) -> Value:
    """Return the value with every mark of a secret taken off, for comparing and for use."""
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return reveal(value.get("value"))
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item) for item in value]
    return value


def is_empty(value: Value) -> bool:
    """Return whether the official plugins cannot tell the value from one that was not given."""
    return value is None or value == "" or value == 0 or value == [] or value == {}


def whole(value: Value) -> Value:
    """Numbers as integers where they are: the protocol only has floating point."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value
