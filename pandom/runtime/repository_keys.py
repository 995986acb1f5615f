"""The keys of a stack's repository: one secret, the present key first, then former ones.

A rotation begins a repository of its own in the store, because pgBackRest gives none another key;
what is there stays readable with the key that it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Container


def number(key: str) -> int:
    """Return which key of its stack this is; a later one begins with its number, as 2-…."""
    found = re.match(r"(\d+)-", key)
    return int(found[1]) if found else 1


def rotated(secret: str, new: str, needed: Container[int]) -> str:
    """Return the secret with a new key; of the former ones those stay whose number is needed."""
    present, *former = secret.split()
    kept = [present, *(one for one in former if number(one) in needed)]
    return " ".join((f"{number(present) + 1}-{new}", *kept))
