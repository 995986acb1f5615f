"""The keys of a stack's repository: one secret, the present key first, then former ones.

A rotation begins a repository of its own in the store, because pgBackRest gives none another key;
what is there stays readable with the key that it was written with.
"""

from __future__ import annotations

import re


def number(key: str) -> int:
    """Return which key of its stack this is; a later one begins with its number, as 2-…."""
    found = re.match("([0-9]+)-", key)
    return int(found[1]) if found else 1


def rotated(secret: str, new: str) -> str:
    """Return the secret with a new key. Former ones stay: a copy of a document is made once."""
    return f"{number(secret.split()[0]) + 1}-{new} {secret}"
