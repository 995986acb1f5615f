"""A GRANT or REVOKE that PostgreSQL only warns of did nothing, and is a failure."""

from __future__ import annotations

import pytest

from pandom.database.connect import granting
from pandom.runtime.errors import Failure
from tests.fixtures.databases import Database

pytestmark = pytest.mark.requirement("A2")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("grant select on public.account_settings to pandom_mailer", "no privileges were granted"),
        (
            "revoke select on public.account_settings from pandom_mailer",
            "no privileges could be revoked",
        ),
    ],
)
def test_what_had_no_effect_fails(shared: Database, statement: str, said: str) -> None:
    with (
        shared.connect("pandom_auditor") as connection,
        pytest.raises(Failure, match=said),
        granting(connection),
    ):
        connection.execute("set transaction read write")
        connection.execute(statement)


def test_what_had_effect_passes(shared: Database) -> None:
    with shared.owner("pandom_owner") as connection:
        with granting(connection):
            connection.execute("grant select (uuid) on public.auth_users to pandom_mailer")
        connection.rollback()
