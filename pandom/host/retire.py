"""`pandom db retire`: keeps expired months of the trail as evidence and drops them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pandom.audit.archive import PREFIX
from pandom.audit.store import StoreClient
from pandom.audit.target import store_of
from pandom.database import retention
from pandom.host.access import outputs_of
from pandom.host.health import connection
from pandom.host.stack import Stack
from pandom.runtime.errors import Failure
from pandom.runtime.progress import say, step
from schema.storage import AUDITOR, EVIDENCE

ROLE = "pandom_janitor"


@dataclass(frozen=True)
class EvidenceSink:
    """The bucket for evidence as the store of exports: one user writes, another reads."""

    writer: StoreClient
    reader: StoreClient

    def put(self, name: str, content: Path) -> str:
        """Keep the file under lock, and reads it back before anybody drops what is in it."""
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        bucket, key = self.writer.evidence, PREFIX + name
        back = content.with_suffix(".back")
        try:
            made = self.writer.s3.fput_object(
                bucket_name=bucket, object_name=key, file_path=str(content)
            )
            self.reader.s3.fget_object(
                bucket_name=bucket,
                object_name=key,
                file_path=str(back),
                version_id=made.version_id,
            )
            same = retention.digest_of(back) == retention.digest_of(content)
        except (MinioException, HTTPError) as error:
            raise Failure(f"the export {key} could not be kept: {error}") from error
        finally:
            back.unlink(missing_ok=True)
        if not same:
            raise Failure(f"the export {key} is not what was written; nothing was dropped")
        return f"s3://{bucket}/{key}"


def run(name: str) -> None:
    """Export and drops what retention no longer keeps; says what it did."""
    outputs = outputs_of(Stack(name))
    sink = EvidenceSink(store_of(outputs, EVIDENCE), store_of(outputs, AUDITOR))
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            psycopg.connect(**connection(outputs, ROLE), autocommit=True) as janitor,
        ):
            months = retention.expired(janitor)
            if not months:
                say("Retention keeps every month of the trail that there is.")
            for month in months:
                with step(f"exporting and dropping {month}"):
                    made = retention.export(janitor, month, sink, Path(folder))
                    retention.drop(janitor, made)
                print(f"{made.place} {made.rows} rows, digest {made.sha256}")
    except psycopg.Error as error:
        raise Failure(
            f"retiring the trail failed: {error.diag.message_primary or error}\n"
            "Next: what was exported is kept; correct the cause and run it again."
        ) from error
