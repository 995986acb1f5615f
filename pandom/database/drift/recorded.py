"""The recorded facts of a freshly migrated database (schema/catalog.json).

Policies, triggers, functions and views are declared as SQL, which PostgreSQL stores in another
form: a comparison needs that form. A diff of the file shows what a change does. Privileges are in
schema/access.py and schema/models.py, except those on extensions' objects.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from typing import Final

from pandom.database.drift.catalog import Observed
from pandom.database.drift.facts import Fact, Facts
from pandom.database.drift.kinds import RECORDED
from pandom.runtime.paths import ROOT

FILE: Final = ROOT / "schema" / "catalog.json"


@cache
def load() -> Facts:
    """Return the recorded facts; names of partitions are placeholders (``placeholder``)."""
    return parse(FILE.read_text())


def parse(text: str) -> Facts:
    """Return the facts of a recording."""
    kinds = json.loads(text)
    return {
        Fact(kind, name, detail): value
        for kind, objects in kinds.items()
        for name, details in objects.items()
        for detail, value in details.items()
    }


def placeholder(parent: str) -> str:
    """Return what stands for the name of any partition of ``parent``: months come and go."""
    return f"{{partition of {parent}}}"


def partitions(observed: Observed) -> dict[str, str]:
    """Return every partition with its parent."""
    return {
        fact.object: parent for fact, parent in observed.facts.items() if fact.kind == "partition"
    }


def settings(observed: Observed, known: Collection[Fact] = ()) -> Facts:
    """Return the settings that the server's configuration file fixes, and those in ``known``."""
    return {
        Fact("setting", name, "value"): setting.value
        for name, setting in observed.settings.items()
        if setting.source == "configuration file" or Fact("setting", name, "value") in known
    }


def record(observed: Observed) -> str:
    """Return the file's text for a fresh database; partitions of one parent become one."""
    names = {name: placeholder(parent) for name, parent in partitions(observed).items()}
    by_extension = {
        fact.object
        for fact, value in observed.facts.items()
        if fact.kind == "owner" and " by extension " in value
    }
    kinds: dict[str, dict[str, dict[str, str]]] = {}
    for fact, value in sorted((observed.facts | settings(observed)).items()):
        kept = fact.kind in RECORDED or (fact.kind == "privilege" and fact.object in by_extension)
        if not kept or fact.object.startswith("database "):
            continue
        name = _replaced(fact.object, names)
        kinds.setdefault(fact.kind, {}).setdefault(name, {})[fact.detail] = _replaced(value, names)
    return _one_line_an_object(kinds)


def _one_line_an_object(kinds: dict[str, dict[str, dict[str, str]]]) -> str:
    """Return JSON in which a changed object is a changed line."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)

    blocks = []
    for kind, objects in sorted(kinds.items()):
        lines = [f"  {text(name)}: {text(details)}" for name, details in sorted(objects.items())]
        blocks.append(f" {text(kind)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _replaced(text: str, names: dict[str, str]) -> str:
    for name, instead in names.items():
        if text.endswith(name):
            return text.removesuffix(name) + instead
    return text
