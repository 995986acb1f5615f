"""Its tests, on a database and a place in the bucket of their own. No container is named here."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from minio.error import S3Error

from documents import Documents, store
from pandom.ci import Environment
from pandom.ci.client import Database, Place

In = Callable[[psycopg.Connection], Documents]


@pytest.fixture
def documents(pandom_bucket: Place) -> In:
    """Give somebody's documents, from a connection in their name."""
    settings = pandom_bucket.settings
    client, bucket = store(settings), settings["MINIO_BUCKET_NAME"]
    return lambda connection: Documents(connection, client, bucket, pandom_bucket.prefix)


def test_a_document_is_found_again_by_its_owner_only(
    pandom_database: Database, documents: In
) -> None:
    alice = pandom_database.user("alice@example.com")
    bob = pandom_database.user("bob@example.com")
    with alice.transaction() as connection:
        documents(connection).keep("plan", b"first")
        documents(connection).keep("plan", b"second")
        documents(connection).keep("list", b"eggs")
    with alice.transaction() as connection:
        assert documents(connection).titles() == ["list", "plan"]
        assert documents(connection).read("plan") == b"second"
    with bob.transaction() as connection:
        assert documents(connection).titles() == []
        with pytest.raises(KeyError):
            documents(connection).read("plan")


def test_nobody_has_no_documents(pandom_database: Database, documents: In) -> None:
    pandom_database.user("alice@example.com")
    with pandom_database.connect() as connection:  # signed in as the application, for nobody
        documents(connection).keep("lost", b"")
        assert documents(connection).titles() == []


def test_the_applications_login_reaches_no_others_place(
    pandom_bucket: Place, documents: In, pandom_database: Database
) -> None:
    with pandom_database.connect() as connection:
        elsewhere = documents(connection).store
        with pytest.raises(S3Error, match="Denied"):
            list(elsewhere.list_objects(bucket_name=pandom_bucket.settings["MINIO_BUCKET_NAME"]))


def test_the_environment_is_the_whole_stack(pandom_stack: Environment) -> None:
    with psycopg.connect(pandom_stack.dsn("pandom_user")) as connection:
        row = connection.execute("select count(*) from public.audit_logs").fetchone()
    assert row is not None
    assert row[0] > 0  # the administrator was made
