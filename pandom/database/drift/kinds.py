"""The kinds of facts, in the order in which differences are corrected.

Causes come before consequences: roles before grants, owners before privileges, tables before
columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """A kind of fact.

    ``whole``: one difference for all details. ``recorded``: in schema/catalog.json. ``made``:
    correcting an extra one would drop what somebody made. ``sql``: statements correct it.
    ``context``: never a difference itself.
    """

    name: str
    whole: bool = False
    recorded: bool = False
    made: bool = False
    sql: bool = True
    context: bool = False


KINDS: Final = (
    Kind("extension", recorded=True, made=True),
    Kind("role", whole=True, made=True),
    Kind("role setting"),
    Kind("database"),
    Kind("membership"),
    Kind("owner", recorded=True, made=True),
    Kind("function", whole=True, recorded=True, made=True),
    Kind("view", whole=True, recorded=True, made=True),
    Kind("rule", recorded=True, made=True),
    Kind("trigger", whole=True, recorded=True, made=True),
    Kind("row security", whole=True, recorded=True),
    Kind("policy", whole=True, recorded=True, made=True),
    Kind("event trigger", recorded=True, made=True),
    Kind("publication", recorded=True, made=True),
    Kind("default privilege"),
    Kind("system privilege", recorded=True),
    Kind("privilege"),
    Kind("setting row", sql=False),
    Kind("connection rule", recorded=True, sql=False),
    Kind("setting", recorded=True, sql=False),
    Kind("bucket", whole=True, made=True, sql=False),
    Kind("store user", whole=True, made=True, sql=False),
    Kind("store policy", made=True, sql=False),
    Kind("container", whole=True, made=True, sql=False),
    Kind("partition", context=True),
    Kind("row reach", context=True),
)
ORDER: Final = {kind.name: place for place, kind in enumerate(KINDS)}
WHOLE: Final = frozenset(kind.name for kind in KINDS if kind.whole)
RECORDED: Final = frozenset(kind.name for kind in KINDS if kind.recorded)
MADE: Final = frozenset(kind.name for kind in KINDS if kind.made)
WITHOUT_SQL: Final = frozenset(kind.name for kind in KINDS if not kind.sql)
CONTEXT: Final = frozenset(kind.name for kind in KINDS if kind.context)
