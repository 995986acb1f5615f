"""What a model declares of its table: owner, privileges, and what the trail records.

A model has a ``Table`` as ``__declared__``. Privileges (``schema/access.py``), row security,
policies, the ``updated_at`` trigger and the audit function are generated from it
(``pandom/database/made.py``); ``pandom/database/declaration.py`` checks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Word = Literal["recorded", "redacted", "ignored"]
EVENTS: Final = ("INSERT", "UPDATE", "DELETE")
# Instead of a list of columns: all that are not deferred, as hashes and tokens are.
READABLE: Final = ("*",)


@dataclass(frozen=True)
class Allow:
    """``role`` may do ``privileges`` on its user's own rows, or on all rows.

    ``privileges`` are words of GRANT separated by spaces; with ``columns`` on these only.
    """

    role: str
    privileges: str
    rows: Literal["own", "all"]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """The declaration of a table.

    ``owned_by`` is the column that has the value of ``current`` in a user's own rows. A table has
    row security unless ``open_rows`` says why not. ``trail`` is the prefix of its audit triggers;
    without it changes are not recorded.
    """

    owner: str
    allow: tuple[Allow, ...]
    owned_by: str | None = None
    current: str = "public.current_user_id()"
    open_rows: str | None = None
    trail: str | None = None


@dataclass(frozen=True)
class OnTrail:
    """What the trail keeps of a column, in which events, and under which name."""

    word: Word
    events: tuple[str, ...]
    name: str | None


def trail(word: Word, *events: str, name: str | None = None) -> dict[str, Any]:
    """Return a column's ``info``: what the trail keeps of it, in which ``events`` (default: all).

    Redacted columns are in UPDATE events only; those with the same ``name`` count as one.
    """
    return {"trail": OnTrail(word, events or EVENTS, name)}


def names_objects(path: str = "$[*]") -> dict[str, Any]:
    """Return what a column's ``info`` has besides if its values are names of objects in the
    bucket: a text, a list of them, or what a ``path`` of SQL/JSON finds in a document.

    Restore and drill then tell which of them are missing.
    """
    return {"objects": path}
