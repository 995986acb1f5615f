"""Facts: one shape for everything that the audit compares.

A fact is (kind, object, detail) with a text value: ("privilege", "table public.sessions",
"pandom_app") → "DELETE".
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Fact(NamedTuple):
    """What a value is about; sorts by kind, object and detail."""

    kind: str
    object: str
    detail: str


Facts = dict[Fact, str]

# The grantee with oid 0.
PUBLIC = "PUBLIC"


def words(value: str) -> frozenset[str]:
    """Return the members of a list value such as ``INSERT, SELECT*``."""
    return frozenset(value.split(", ")) - {""}


def listed(members: frozenset[str] | set[str]) -> str:
    """Return the opposite of ``words``; sorted as the catalog queries sort."""
    return ", ".join(sorted(members))


_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*")
# Keywords of PostgreSQL 17 that it quotes as names (pg_get_keywords, all but the unreserved):
# names are compared as the server prints them.
_WORDS: Final = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary
    bit boolean both case cast char character check coalesce collate collation column
    concurrently constraint create cross current_catalog current_date current_role
    current_schema current_time current_timestamp current_user dec decimal default deferrable
    desc distinct do else end except exists extract false fetch float for foreign freeze from
    full grant greatest group grouping having ilike in initially inner inout int integer
    intersect interval into is isnull join json json_array json_arrayagg json_exists
    json_object json_objectagg json_query json_scalar json_serialize json_table json_value
    lateral leading least left like limit localtime localtimestamp merge_action national
    natural nchar none normalize not notnull null nullif numeric offset on only or order out
    outer overlaps overlay placing position precision primary real references returning right
    row select session_user setof similar smallint some substring symmetric system_user table
    tablesample then time timestamp to trailing treat trim true union unique user using values
    varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement
    xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
"""
RESERVED: Final = frozenset(_WORDS.split())


def ident(name: str) -> str:
    """Return a name as the server writes it: quoted only where it must be."""
    if _PLAIN.fullmatch(name) and name not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """``schema.name``, with arguments or without, as the server writes it."""
    start, bracket, rest = name.partition("(")
    parts = [part if part.startswith('"') else ident(part) for part in start.split(".")]
    return ".".join(parts) + bracket + rest
