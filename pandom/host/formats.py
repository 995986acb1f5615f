"""The formats of `pandom env`, quoted for the programs that read them.

What a format cannot express is refused: a corrupted secret is worse than none.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Final

from pandom.runtime.errors import UsageError

Values = Mapping[str, str]


class _Impossible(Exception):
    """Why a format cannot carry a value."""


def _lines(values: Values, line: Callable[[str, str], str]) -> str:
    return "".join(line(name, value) + "\n" for name, value in values.items())


def _dotenv(name: str, value: str) -> str:
    """As python-dotenv, Node's --env-file and npm's dotenv read it alike.

    They agree on little: python-dotenv takes backslashes in quotes for escapes and
    replaces ${NAME} everywhere, Node ends a bare value at #.
    """
    if any(char in value for char in "\n\r"):
        raise _Impossible("a line break")
    if "${" in value:
        raise _Impossible("${, which some readers replace")
    if value and all(
        char.isascii() and (char.isalnum() or char in "._-/:@%?=+,") for char in value
    ):
        return f"{name}={value}"
    for quote in "'\"":
        if quote not in value and "\\" not in value:
            return f"{name}={quote}{value}{quote}"
    if "#" not in value and value == value.strip() and value[0] not in "'\"`":
        return f"{name}={value}"
    raise _Impossible("both quotes or a backslash, together with # or at an end")


def _docker(name: str, value: str) -> str:
    """As `docker run --env-file` reads it: no quoting at all, to the end of the line."""
    if any(char in value for char in "\n\r"):
        raise _Impossible("a line break")
    return f"{name}={value}"


def _shell(name: str, value: str) -> str:
    """As every POSIX shell evaluates it."""
    return f"export {name}='" + value.replace("'", "'\\''") + "'"


def _github(name: str, value: str) -> str:
    """As a step of GitHub Actions appends it to $GITHUB_ENV."""
    if "\r" in value:
        raise _Impossible("a carriage return")
    end = f"end_{secrets.token_hex(16)}"
    return f"{name}<<{end}\n{value}\n{end}"


def _json(values: Values) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


_LINES: Final[dict[str, Callable[[str, str], str]]] = {
    "dotenv": _dotenv,
    "docker": _docker,
    "shell": _shell,
    "github": _github,
}
FORMATS: Final = (*_LINES, "json")


def render(values: Values, form: str) -> str:
    """Return the block. Raises UsageError that names the variable and formats that can carry it."""
    if form == "json":
        return _json(values)
    try:
        return _lines(values, lambda name, value: _checked(form, name, value))
    except _Refused as refused:
        others = [one for one in FORMATS if one != form and _carries(one, refused.value)]
        raise UsageError(
            f"{refused.name} has {refused.reason}: the format {form} cannot carry it to every "
            f"reader.\nNext: --format {' or '.join(others) or 'json'}, or another value in the "
            "stack's configuration."
        ) from None


class _Refused(Exception):
    """A variable that a format cannot carry."""

    def __init__(self, name: str, value: str, reason: str) -> None:
        super().__init__(name)
        self.name, self.value, self.reason = name, value, reason


def _checked(form: str, name: str, value: str) -> str:
    try:
        return _LINES[form](name, value)
    except _Impossible as reason:
        raise _Refused(name, value, str(reason)) from None


def _carries(form: str, value: str) -> bool:
    try:
        _ = form == "json" or _LINES[form]("NAME", value)
    except _Impossible:
        return False
    return True


def masks(hidden: list[str]) -> str:
    """Return the commands that make GitHub's runner hide values in its log; it reads them on
    both outputs, and the other one is the file."""
    escaped = (line.replace("%", "%25") for value in hidden for line in value.splitlines() if line)
    return "".join(f"::add-mask::{line}\n" for line in dict.fromkeys(escaped))
