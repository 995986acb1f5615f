"""What a model says of its table beyond columns: owner, who may do what, what the trail keeps.

A model carries a ``Table`` as ``__declared__``. From it are made: privileges (read by
``schema/access.py``), row security and policies, the trigger of ``updated_at``, and the
audit function with its triggers (``schema/sql``, written by ``pandom docs``). What the
declaration says wrongly is found by ``pandom/database/declaration.py`` before anything runs.
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
    """``role`` may do ``privileges`` on its user's own rows, or on all of them.

    ``privileges`` are words of GRANT with a space between; with ``columns`` on these only.
    """

    role: str
    privileges: str
    rows: Literal["own", "all"]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """``owned_by`` is the column whose value is ``current`` in a row of the user itself.

    A table that anybody but a role with BYPASSRLS may reach has row security, unless
    ``open_rows`` says why not. ``trail`` is the name that the triggers share which record
    its changes; without it they are not recorded.
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
    """For a column's ``info``: its value, that it changed, or nothing stands in the trail.

    Without ``events`` in all of them. Redacted columns stand in an UPDATE only; those that
    share a ``name`` there are one.
    """
    return {"trail": OnTrail(word, events or EVENTS, name)}
