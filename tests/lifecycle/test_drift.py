"""`pandom up` heals the drift that it can (tests/audit/drift.py says which it cannot, and why).

`make soak`: one stack, some classes at a time that do not touch each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pandom.audit.run import run
from pandom.database.drift import catalog
from schema import access
from tests.audit.conftest import Shipped
from tests.audit.drift import DRIFT, Drift, independent
from tests.fixtures.server import server_of
from tests.fixtures.soak import Progress
from tests.fixtures.stack import RunningStack


def batches() -> Iterator[list[Drift]]:
    """Every class that `up` heals, in few batches."""
    left = [one for one in DRIFT if not one.up]
    while left:
        batch = independent(left)
        yield batch
        left = [one for one in left if one not in batch]


def audited(stack: RunningStack, opt_in: frozenset[str]) -> set[str]:
    """The names of all drift there is."""
    with catalog.connect(server_of(stack).dsn("pandom_auditor")) as connection:
        return {one.id for one in run(connection, opt_in).drift}


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.requirement("B2", "B5")
def test_up_heals_what_it_states(own: RunningStack, pytestconfig: pytest.Config) -> None:
    progress = Progress.of(pytestconfig, "up heals drift")
    there = own.outputs["passwords"]
    opt_in = frozenset(role.opt_in for role in access.ROLES if role.opt_in and role.name in there)
    shipped = Shipped(access.DATABASE, server_of(own), opt_in)
    assert audited(own, opt_in) == set()
    for number, batch in enumerate(batches()):
        if number < progress.done:
            continue
        for drift in batch:
            shipped.execute(drift.sql.replace("{db}", shipped.name))
        found = audited(own, opt_in)
        assert found == set().union(*(one.named(shipped.name, opt_in) for one in batch))
        own.pandom("up", "--stack", own.name)
        assert audited(own, opt_in) == set(), [one.name for one in batch]
        progress.note(number + 1)
    shipped.superuser.close()


def test_what_up_does_not_heal_has_a_reason() -> None:
    left = [one for one in DRIFT if one.up]
    assert sum(len(batch) for batch in batches()) + len(left) == len(DRIFT)
    assert all(one.up.strip() for one in left)
