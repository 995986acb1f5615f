"""Differences between catalogs and declaration, one for each cause.

A new table is one difference, not one for its owner, its row security and each privilege: what only
follows from another difference is one of its ``consequences``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pandom.database.drift.facts import Fact, Facts
from pandom.database.drift.kinds import CONTEXT, WHOLE

Status = Literal["extra", "missing", "different"]


@dataclass(frozen=True)
class Difference:
    """Expected against actual, for one object or one detail of it.

    ``expected`` and ``actual`` have the details that differ, or all if the whole object is extra or
    missing. ``consequences`` follow from this difference.
    """

    kind: str
    object: str
    detail: str
    status: Status
    expected: Mapping[str, str]
    actual: Mapping[str, str]
    consequences: tuple[Difference, ...] = field(default=(), repr=False)

    @cached_property
    def id(self) -> str:
        """Stable as long as the same thing is wrong; the status is part of it."""
        parts = (self.kind.replace(" ", "-") + "-" + self.status, self.object, self.detail)
        return ":".join(part for part in parts if part)


def differences(expected: Facts, actual: Facts) -> list[Difference]:
    """Return every difference in a stable order, consequences folded into their causes."""
    found = list(_single(expected, actual))
    causes = {cause: one for one in found for cause in _causes(one)}
    folded: dict[str, list[Difference]] = {}
    kept = []
    for one in found:
        reason = next(
            (
                causes[key]
                for key in _depends_on(one, expected, actual)
                if key in causes and causes[key] is not one
            ),
            None,
        )
        if reason is None:
            kept.append(one)
        else:
            folded.setdefault(reason.id, []).append(one)
    return [_with(one, folded) for one in kept]


def _with(difference: Difference, folded: Mapping[str, list[Difference]]) -> Difference:
    consequences = tuple(_with(child, folded) for child in folded.get(difference.id, ()))
    return Difference(
        difference.kind,
        difference.object,
        difference.detail,
        difference.status,
        difference.expected,
        difference.actual,
        consequences,
    )


def _single(expected: Facts, actual: Facts) -> Iterable[Difference]:
    # Few of thousands of facts differ: only their groups are collected and sorted.
    differ = {
        _group(fact)
        for fact in expected.keys() | actual.keys()
        if fact.kind not in CONTEXT and expected.get(fact) != actual.get(fact)
    }
    groups: dict[tuple[str, str, str], set[Fact]] = {key: set() for key in sorted(differ)}
    for facts in (expected, actual):
        for fact in facts:
            if (key := _group(fact)) in groups:
                groups[key].add(fact)
    for (kind, name, detail), group in groups.items():
        members = sorted(group)
        wanted = {fact.detail: expected[fact] for fact in members if fact in expected}
        found = {fact.detail: actual[fact] for fact in members if fact in actual}
        status: Status = "different"
        if not wanted:
            status = "extra"
        elif not found:
            status = "missing"
        else:
            same = {key for key in wanted if wanted[key] == found.get(key)}
            wanted = {key: value for key, value in wanted.items() if key not in same}
            found = {key: value for key, value in found.items() if key not in same}
        # An owner's detail repeats its kind.
        yield Difference(kind, name, "" if detail == kind else detail, status, wanted, found)


def _group(fact: Fact) -> tuple[str, str, str]:
    """Return what becomes one difference: a whole object for some kinds, else a detail of it."""
    return fact.kind, fact.object, "" if fact.kind in WHOLE else fact.detail


def _causes(difference: Difference) -> Iterable[tuple[str, str]]:
    """Yield what this difference explains: a whole object, or what its new owner holds as such."""
    if difference.kind == "owner" and difference.status == "different":
        yield "owned", f"{difference.object} by {next(iter(difference.actual.values()))}"
    if difference.status == "different":
        return
    if difference.kind == "owner":
        yield "object", difference.object
    elif difference.kind == "role":
        yield "role", difference.object
    elif difference.kind == "extension":
        yield "extension", difference.object


def _depends_on(
    difference: Difference, expected: Facts, actual: Facts
) -> Iterable[tuple[str, str]]:
    """Yield what could explain this difference, most telling first."""
    for name in _objects(difference):
        for facts in (expected, actual):
            owner = facts.get(Fact("owner", name, "owner"), "")
            if " by extension " in owner:
                yield "extension", owner.partition(" by extension ")[2]
        yield "object", name
        yield "owned", f"{name} by {difference.detail}"
    if difference.kind == "role setting":
        yield "role", difference.object.partition(" in database ")[0]
    elif difference.kind == "membership":
        yield "role", difference.object
        yield "role", difference.detail.partition(" by ")[0]
    elif difference.kind == "privilege":
        yield "role", difference.detail
    elif difference.kind == "default privilege":
        yield "role", difference.detail
        yield "role", difference.object.partition(" of ")[2].partition(" in schema ")[0]


def _objects(difference: Difference) -> Iterable[str]:
    """Yield the object, in the form of an owner's fact, that this difference is about."""
    if difference.kind in ("owner", "row security", "privilege"):
        yield difference.object
        if difference.object.startswith("column "):
            table = difference.object.partition(" of ")[2]
            yield f"table {table}"
            yield f"view {table}"
    elif difference.kind in ("policy", "trigger", "rule"):
        table = difference.object.rpartition(" on ")[2]
        yield f"table {table}"
        yield f"view {table}"
    elif difference.kind == "function":
        yield from (f"{word} {difference.object}" for word in ("function", "procedure"))
    elif difference.kind == "view":
        yield from (f"{word} {difference.object}" for word in ("view", "materialized view"))
    elif difference.kind in ("event trigger", "publication"):
        yield f"{difference.kind} {difference.object}"
