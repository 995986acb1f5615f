"""One shape for everything that the audit compares.

A fact is a triple (kind, object, detail) with a text value: ("privilege",
"table public.sessions", "pandom_app") → "DELETE". The catalogs give facts, the
declaration gives facts, and drift is where the two dictionaries differ.
"""

from __future__ import annotations

from typing import NamedTuple


class Fact(NamedTuple):
    """What a value is about; sorts by kind, object and detail."""

    kind: str
    object: str
    detail: str


Facts = dict[Fact, str]

# Words for what stands in the catalogs as a grantee of number 0.
PUBLIC = "PUBLIC"


def words(value: str) -> frozenset[str]:
    """The members of a list value such as ``INSERT, SELECT*``."""
    return frozenset(value.split(", ")) - {""}


def listed(members: frozenset[str] | set[str]) -> str:
    """The opposite of ``words``; sorted as the catalog queries sort."""
    return ", ".join(sorted(members))
