"""What is kept in the bucket for evidence: under its time, and as the latest."""

from __future__ import annotations

import io
from datetime import datetime

from pandom.audit.store import StoreClient


def keep(writer: StoreClient, prefix: str, text: str, now: datetime) -> None:
    """Write a JSON document twice; both stay as long as the lock."""
    body = text.encode()
    for name in (f"{now:%Y-%m-%dT%H-%M-%SZ}", "latest"):
        writer.s3.put_object(
            bucket_name=writer.evidence,
            object_name=f"{prefix}{name}.json",
            data=io.BytesIO(body),
            length=len(body),
            content_type="application/json",
        )
