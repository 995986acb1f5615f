"""Drift made by hand is found, named, and healed by the SQL that the finding prints."""

from __future__ import annotations

import pytest

from pandom.audit.findings import script
from tests.audit.conftest import Audit, Shipped
from tests.audit.drift import DRIFT, Drift


@pytest.mark.parametrize("drift", [pytest.param(one, id=one.name) for one in DRIFT])
@pytest.mark.requirement("B5")
@pytest.mark.usefixtures("intact")
def test_drift_is_found_named_and_healed(drift: Drift, shipped: Shipped, audit: Audit) -> None:
    assert [one.id for one in audit().drift] == []
    shipped.execute(drift.sql.replace("{db}", shipped.name))
    found = audit().drift
    try:
        assert {one.id for one in found} == drift.named(shipped.name, shipped.opt_in)
        assert drift.severity in {one.severity for one in found}
        assert all(one.why and one.title and one.sql for one in found)
    finally:
        shipped.execute(script(found))
    assert [one.id for one in audit().drift] == []


def test_there_are_enough_classes_of_drift() -> None:
    assert len(DRIFT) >= 45
    assert len({one.name for one in DRIFT}) == len(DRIFT)
