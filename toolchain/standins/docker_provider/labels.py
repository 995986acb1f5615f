"""Labels: a set of blocks in the inputs, a map in the engine."""

from __future__ import annotations

from typing import Any, Final

from toolchain.standins.properties import Property, Table

LABEL: Final[Table] = {
    "label": Property(kind="string", required=True, replaces=True),
    "value": Property(kind="string", required=True, replaces=True),
}


def to_engine(labels: list[dict[str, str]] | None) -> dict[str, str]:
    """Return the map that the engine takes."""
    return {item["label"]: item["value"] for item in labels or []}


def from_engine(labels: dict[str, str] | None) -> list[dict[str, Any]]:
    """Return the set that the state holds."""
    return [{"label": key, "value": value} for key, value in sorted((labels or {}).items())]
