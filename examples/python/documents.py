"""A small application: people keep documents, contents in a bucket and titles in their profile.

It signs in as pandom_app and says nowhere whose rows it means: row security does.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import urllib3
from minio import Minio
from psycopg.types.json import Jsonb


def store(settings: Mapping[str, str]) -> Minio:
    """Return a client of the object store that the settings name."""
    return Minio(
        endpoint=f"{settings['MINIO_ENDPOINT']}:{settings['MINIO_PORT']}",
        region=settings["MINIO_REGION"],
        access_key=settings["MINIO_ACCESS_KEY"],
        secret_key=settings["MINIO_SECRET_KEY"],
        http_client=urllib3.PoolManager(ca_certs=settings["MINIO_CA"]),
    )


@dataclass(frozen=True)
class Documents:
    """The documents of whoever a connection's transaction belongs to."""

    connection: psycopg.Connection
    store: Minio
    bucket: str
    prefix: str = ""

    def keep(self, title: str, content: bytes) -> None:
        """Keep a document; another one of that title is replaced."""
        key = f"{self.prefix}{uuid.uuid4()}"
        self.store.put_object(
            bucket_name=self.bucket, object_name=key, data=io.BytesIO(content), length=len(content)
        )
        self.connection.execute(
            "update public.user_profiles set metadata = metadata || jsonb_build_object("
            "'documents', coalesce(metadata -> 'documents', '{}') || %s)",
            (Jsonb({title: key}),),
        )

    def titles(self) -> list[str]:
        """Return the titles, sorted."""
        return sorted(self._keys())

    def read(self, title: str) -> bytes:
        """Return a document; raises KeyError if this user has none of that title."""
        found = self.store.get_object(bucket_name=self.bucket, object_name=self._keys()[title])
        try:
            return bytes(found.read())
        finally:
            found.close()

    def _keys(self) -> dict[str, str]:
        row = self.connection.execute(
            "select metadata -> 'documents' from public.user_profiles"
        ).fetchone()
        return dict(row[0] or {}) if row else {}
