"""Stand-ins for Pulumi's Python language host and three provider plugins.

For machines that reach package registries only, where the official plugins cannot be had.
They speak the plugins' gRPC protocol and work on a real Docker engine and a real PostgreSQL,
with the official plugins' types, properties, states and rules; only the properties that this
project uses, and every other one is an error. ``tests/conformance`` compares both.
"""

from __future__ import annotations

from typing import Final

# Exactly the pinned SDKs' versions: a state says which plugin made it.
DOCKER_VERSION: Final = "5.1.0"
POSTGRESQL_VERSION: Final = "3.18.0"
RANDOM_VERSION: Final = "4.21.1"
LANGUAGE_VERSION: Final = "3.259.0"
