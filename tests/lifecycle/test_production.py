"""A whole stack of the production profile: up, healthy, audited, and hard to remove.

`make soak`: what differs from other profiles is tried one by one in `make test`.
"""

from __future__ import annotations

from typing import Final

import pytest

from pandom.host.stack import Stack
from tests.fixtures.stack import Pandom, left_in_docker, new_name, remove

# The stand-ins refuse this profile, but for tests that say so.
PRODUCTION: Final = {"PANDOM_STANDIN_PRODUCTION": "test"}


@pytest.mark.soak
@pytest.mark.requirement("B1", "B2")
def test_a_production_stack_goes_only_when_its_name_is_said() -> None:
    name = new_name()
    pandom = Pandom(variables=PRODUCTION)
    confirmed = Pandom(variables={**PRODUCTION, "CONFIRM": name})
    stack = ("--stack", name)
    try:
        pandom("up", *stack, "--profile", "production")
        pandom("health", *stack)
        pandom("audit", *stack, "--store")
        pandom("audit", *stack, "trail")
        pandom("preview", *stack, "--expect-no-changes")
        before = left_in_docker(name)
        for refused in (pandom, Pandom(variables={**PRODUCTION, "CONFIRM": "dev"})):
            assert f"CONFIRM={name}" in refused("down", *stack, code=2).stderr
        assert left_in_docker(name) == before
        pandom("health", *stack)
        confirmed("down", *stack)
        assert left_in_docker(name) == []
        assert not Stack(name).exists()
    finally:
        remove(name, confirmed)
