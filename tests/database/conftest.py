"""The databases of tests/fixtures/databases.py, for this layer."""

from tests.fixtures.databases import (
    database,
    empty,
    factory,
    server,
    shared,
    stack,
    template,
)

__all__ = ["database", "empty", "factory", "server", "shared", "stack", "template"]
