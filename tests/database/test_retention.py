"""Expired months: exported to the bucket, recorded, dropped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psycopg
import psycopg.errors
import pytest

from pandom.audit.target import store_of
from pandom.database import retention
from pandom.host.retire import EvidenceSink
from pandom.runtime.errors import Failure
from schema.storage import AUDITOR, EVIDENCE
from tests.fixtures.databases import ALICE, Database

MONTH = "audit_logs_y2019m03"


@dataclass
class Folder:
    """Exports kept as files."""

    path: Path

    def put(self, name: str, content: Path) -> str:
        kept = self.path / name
        kept.write_bytes(content.read_bytes())
        return str(kept)


@pytest.fixture
def old(database: Database) -> Database:
    """A database with four events of a month that retention no longer keeps."""
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "insert into public.audit_logs (user_uuid, event_type, timestamp, details) "
            "select %s, 'seen', '2019-03-15 12:00+00', "
            "jsonb_build_object('text', E'ä\\n\\\\\"' || n) from generate_series(1, 4) as n",
            (ALICE.uuid,),
        )
        connection.execute("select public.drain_default('audit_logs')")
    return database


@pytest.mark.requirement("P5")
def test_an_expired_month_is_exported_and_dropped(old: Database, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    with old.connect("pandom_janitor", autocommit=True) as connection:
        assert retention.expired(connection) == [MONTH]
        made = retention.export(connection, MONTH, Folder(kept), tmp_path)
        assert retention.digest_of(Path(made.place)) == (made.rows, made.sha256)
        retention.drop(connection, made)
        assert retention.expired(connection) == []
    assert made.rows == 4
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    events = old.rows(
        "select event_type, details->>'sha256' from public.security_logs "
        "where event_type in ('partition_exported', 'partition_dropped') order by id"
    )
    assert events == [("partition_exported", made.sha256), ("partition_dropped", made.sha256)]


@pytest.mark.requirement("P5")
def test_what_changed_after_the_export_is_not_dropped(old: Database, tmp_path: Path) -> None:
    with old.connect("pandom_janitor", autocommit=True) as connection:
        made = retention.export(connection, MONTH, Folder(tmp_path.parent), tmp_path)
        with old.owner("pandom_trail") as owner:
            owner.execute("update public.audit_logs set event_type = 'x' where event_type = 'seen'")
        with pytest.raises(psycopg.errors.DataException, match="not what was exported"):
            retention.drop(connection, made)
    assert old.one(f"select count(*) from public.{MONTH}") == 4


@pytest.mark.requirement("P5")
def test_a_store_that_fails_leaves_the_month(old: Database, tmp_path: Path) -> None:
    class Full:
        def put(self, name: str, content: Path) -> str:
            raise Failure("no space left")

    with old.connect("pandom_janitor", autocommit=True) as connection:
        with pytest.raises(Failure, match="no space left"):
            retention.export(connection, MONTH, Full(), tmp_path)
        assert retention.expired(connection) == [MONTH]
    assert (
        old.one("select count(*) from public.security_logs where event_type = 'partition_exported'")
        == 0
    )


@pytest.mark.requirement("P5", "B3")
@pytest.mark.skipif("PANDOM_TEST_SERVER" in os.environ, reason="a server alone has no object store")
def test_an_export_goes_to_the_bucket(
    old: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    outputs = request.getfixturevalue("stack").outputs
    reader, writer = store_of(outputs, AUDITOR), store_of(outputs, EVIDENCE)
    with old.connect("pandom_janitor", autocommit=True) as connection:
        made = retention.export(connection, MONTH, EvidenceSink(writer, reader), tmp_path)
    assert made.place == f"s3://{reader.evidence}/trail/{MONTH}.jsonl"
    reader.s3.fget_object(
        bucket_name=reader.evidence,
        object_name=f"trail/{MONTH}.jsonl",
        file_path=str(tmp_path / "back"),
    )
    assert retention.digest_of(tmp_path / "back") == (made.rows, made.sha256)
    with pytest.raises(Failure, match="could not be kept"):
        EvidenceSink(reader, reader).put("x", tmp_path / "back")
