"""`pandom db retire`: exports expired months of the trail to the bucket and drops them (P5)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from pandom import objectstore
from pandom.database import retention
from pandom.errors import Failure
from pandom.host.access import outputs_of
from pandom.host.health import connection
from pandom.host.stack import Stack
from pandom.progress import say, step

if TYPE_CHECKING:
    from minio import Minio

ROLE = "pandom_janitor"
FOLDER = "trail"


@dataclass(frozen=True)
class Bucket:
    """The stack's bucket as the store of exports."""

    client: Minio
    name: str

    def put(self, name: str, content: Path) -> str:
        """Keeps the file as an object of the folder ``trail``; the bucket keeps versions."""
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        key = f"{FOLDER}/{name}"
        try:
            self.client.fput_object(bucket_name=self.name, object_name=key, file_path=str(content))
            kept = self.client.stat_object(bucket_name=self.name, object_name=key).size
        except (MinioException, HTTPError) as error:
            raise Failure(f"the export {key} could not be kept: {error}") from error
        if kept != content.stat().st_size:
            raise Failure(f"the export {key} has {kept} bytes, expected {content.stat().st_size}")
        return f"s3://{self.name}/{key}"


def run(name: str) -> None:
    """Exports and drops what retention no longer keeps; says what it did."""
    outputs = outputs_of(Stack(name))
    bucket = Bucket(
        objectstore.client(
            objectstore.Endpoint(
                str(outputs["minio_endpoint"]),
                int(outputs["minio_port"]),
                Path(outputs["db_sslrootcert"]),
            ),
            objectstore.Account(outputs["minio_access_key"], outputs["minio_secret_key"]),
        ),
        str(outputs["minio_bucket_name"]),
    )
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
                    made = retention.export(janitor, month, bucket, Path(folder))
                    retention.drop(janitor, made)
                print(f"{made.place} {made.rows} rows, digest {made.sha256}")
    except psycopg.Error as error:
        raise Failure(
            f"retiring the trail failed: {error.diag.message_primary or error}\n"
            "Next: what was exported is kept; correct the cause and run it again."
        ) from error
