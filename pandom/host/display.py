"""Shows an operation while it runs: one line for each component, with its time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from pandom.host import events
from pandom.runtime.naming import PROJECT
from pandom.runtime.progress import Lines

# Words for counted operations: done, and planned by a preview.
_DONE: Final = {
    "create": "created",
    "create-replacement": "replaced",
    "update": "updated",
    "delete": "deleted",
    "import": "adopted",
    "refresh": "found changed",
}
_PLANNED: Final = {
    "create": "to create",
    "create-replacement": "to replace",
    "update": "to update",
    "delete": "to delete",
    "import": "to adopt",
    "refresh": "found changed",
}
_SILENT_TYPES: Final = ("pulumi:pulumi:", "pulumi:providers:")


def component(urn: str) -> str:
    """Return the component that a resource belongs to, from the types in its URN.

    ``urn:pulumi:dev::pandom-stack::pandom-stack:index:Database$docker:…::name``
    """
    types = urn.split("::")[2].split("$") if urn.count("::") >= 3 else [""]
    for kind in types:
        if kind.startswith(f"{PROJECT}:"):
            return kind.rpartition(":")[2].lower()
    return types[-1].rpartition(":")[2].lower() or "stack"


@dataclass
class _Group:
    started: float
    running: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    failed: bool = False


class Display:
    """Receives events and prints lines; counts what changed."""

    def __init__(self, prefix: str = "", planned: bool = False, failed: str = "FAILED") -> None:
        """Begin; ``prefix`` names the operation, ``planned`` is a preview, ``failed`` a word."""
        self._prefix, self._failed = prefix, failed
        self._words = _PLANNED if planned else _DONE
        self._lines = Lines()
        self._groups: dict[str, _Group] = {}
        self.changed: Counter[str] = Counter()

    def __call__(self, event: events.Event) -> None:
        """Take one event."""
        if isinstance(event, events.ResourceStarted):
            self._began(event)
        elif isinstance(event, events.ResourceFinished):
            self._ended(event)
        elif isinstance(event, events.Summary):
            self.close()

    def _began(self, event: events.ResourceStarted) -> None:
        if event.type.startswith((*_SILENT_TYPES, PROJECT)):
            return
        if event.operation in events.QUIET_OPERATIONS:
            return
        name = component(event.urn)
        for other in [one for one in self._groups if one != name]:
            # A replacement is done only when both of its halves are.
            if not self._groups[other].running and self._groups[other].done:
                self._finish(other)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(time.monotonic())
            self._lines.begin(self._prefix + name)
        group.running.add(event.urn)

    def _ended(self, event: events.ResourceFinished) -> None:
        group = self._groups.get(component(event.urn))
        if group is not None:
            group.running.discard(event.urn)
            group.failed = group.failed or event.failed
        if event.changed and not event.failed and not _silent(event.urn):
            word = self._words.get(event.operation)
            if word:
                self.changed[word] += 1
                if group is not None:
                    group.done[word] += 1

    def _finish(self, name: str) -> None:
        group = self._groups.pop(name)
        parts = [f"{count} {word}" for word, count in sorted(group.done.items())]
        if group.failed:
            parts.append(self._failed)
        self._lines.end(self._prefix + name, time.monotonic() - group.started, ", ".join(parts))

    def close(self) -> None:
        """Finish every line."""
        for name in list(self._groups):
            self._finish(name)
        self._lines.close()


def _silent(urn: str) -> bool:
    last = urn.split("::")[2].split("$")[-1] if urn.count("::") >= 3 else ""
    return last.startswith((*_SILENT_TYPES, PROJECT))
