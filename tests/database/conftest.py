"""The databases of tests/fixtures/databases.py, for this layer."""

from tests.fixtures.databases import database, empty, factory, shared, template

__all__ = ["database", "empty", "factory", "shared", "template"]
