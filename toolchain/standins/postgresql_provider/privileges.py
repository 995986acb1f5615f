"""Which privileges exist per kind of object, and when two sets of them are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from toolchain.standins.interruption import OperationFailed

_KNOWN: Final = {
    "database": {"CREATE", "CONNECT", "TEMPORARY"},
    "table": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"},
    "sequence": {"USAGE", "SELECT", "UPDATE"},
    "schema": {"CREATE", "USAGE"},
    "function": {"EXECUTE"},
    "routine": {"EXECUTE"},
    "type": {"USAGE"},
}
# The first server version that knows MAINTAIN on tables.
_MAINTAIN_SINCE: Final = 170000
ALL: Final = "ALL"


def known(kind: str, server_version: int) -> set[str]:
    """Return the privileges that objects of a kind have on this server."""
    names = set(_KNOWN[kind])
    if kind == "table" and server_version >= _MAINTAIN_SINCE:
        names.add("MAINTAIN")
    return names


def require_known(kind: str, privileges: Iterable[str], server_version: int) -> None:
    """Raise ``OperationFailed`` for a privilege that the kind does not have."""
    allowed = known(kind, server_version) | {ALL}
    for privilege in privileges:
        if privilege not in allowed:
            raise OperationFailed(
                f"{privilege} is not an allowed privilege for object type {kind}; "
                f"there are: {', '.join(sorted(allowed))}"
            )


def same(kind: str, granted: set[str], wanted: set[str], server_version: int) -> bool:
    """Return whether the granted privileges are the wanted ones; ALL stands for each."""
    return granted == wanted or (ALL in wanted and granted == known(kind, server_version))
