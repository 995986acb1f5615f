"""The objects of a stack at a moment: documents and media go with the database that is served.

They come from the versions that the bucket keeps, and where it has them no more from the copies
beside the backups, which the container `operations` opens and this host writes back.
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pandom.audit.target import store_of
from pandom.backups.versions import Bucket, Change, Versions, of_json
from pandom.host import operations, superuser
from pandom.host.engine import Engine
from pandom.host.state import clear_outputs
from pandom.objectstore import Account, client
from pandom.runtime.errors import Drift, Failure
from pandom.runtime.naming import MINIO_ROOT_USER
from pandom.runtime.progress import say
from schema.storage import AUDITOR

_READER: Final = "backup"
_PER_REQUEST: Final = 200  # copies that the container is asked for at once


@dataclass(frozen=True)
class Copies:
    """What a stack has beside its backups, asked through the container that copies."""

    engine: Engine
    stack: str

    def make(self, whole: bool) -> None:
        """Copy what was not copied yet. Raises PandomError with the cause."""
        said = self._ask("copy-objects", "--whole", "yes" if whole else "no")
        for line in said.splitlines():
            say(f"  {line}")

    def summary(self) -> dict[str, Any]:
        """Return how many there are, and how much."""
        return dict(json.loads(self._ask("objects", "summary")))

    def every(self) -> Versions:
        """Return all versions; say which lists of them are damaged."""
        found = json.loads(self._ask("objects", "all"))
        for line in found["damaged"]:
            say(f"  objects: {line}; what other lists have is used")
        return {name: [*map(of_json, one)] for name, one in found["versions"].items()}

    def verify(self) -> list[str]:
        """Read everything back; return what is damaged or missing."""
        try:
            say(f"  {self._ask('verify-objects').strip()}")
        except Drift as drift:
            return str(drift).splitlines()
        return []

    def give(self, bucket: Bucket, wanted: Sequence[Change]) -> dict[str, str]:
        """Write copies back; return what was wrong with those that are not, by name."""
        lost: dict[str, str] = {}
        for start in range(0, len(wanted), _PER_REQUEST):
            part = wanted[start : start + _PER_REQUEST]
            lost |= self._give(bucket, {one.version.copy: one for one in part if one.version})
        return lost

    def _give(self, bucket: Bucket, wanted: Mapping[str, Change]) -> dict[str, str]:
        container = operations.running(self.engine, self.stack)
        command = operations.within(_READER, "give-objects", *wanted)
        read, write = os.pipe()
        with ThreadPoolExecutor(1) as beside:
            taking = beside.submit(_take, read, bucket, wanted)
            with contextlib.suppress(BrokenPipeError), os.fdopen(write, "wb") as sink:
                operations.refuse(*self.engine.stream(container, command, sink))
            return taking.result()

    def _ask(self, *words: str) -> str:
        container = operations.running(self.engine, self.stack)
        code, out, said = self.engine.run(container, operations.within(_READER, *words))
        if words[0] == "verify-objects" and code == Drift.exit_code:
            raise Drift(said.strip())
        operations.refuse(code, said)
        return out


def _take(read: int, bucket: Bucket, wanted: Mapping[str, Change]) -> dict[str, str]:
    """Write what comes as a tar into the bucket; return why some did not come."""
    lost: dict[str, str] = {}
    missing = dict(wanted)
    with os.fdopen(read, "rb") as stream:
        try:
            with tarfile.open(mode="r|", fileobj=stream) as archive:
                for entry in archive:
                    copy, _, wrong = entry.name.partition(".")
                    content, change = archive.extractfile(entry), missing[copy]
                    assert content is not None  # noqa: S101 - a file
                    if wrong:
                        lost[change.name] = content.read().decode()
                    else:
                        bucket.s3.put_object(
                            bucket_name=bucket.name,
                            object_name=change.name,
                            data=content,
                            length=entry.size,
                        )
                    del missing[copy]
        except tarfile.ReadError:
            pass  # the container says why
    return lost | {one.name: "its copy was not given" for one in missing.values()}


def of_stack(exported: Mapping[str, Any]) -> Bucket:
    """Return a stack's bucket; ``exported`` is its state with secrets in clear."""
    outputs = clear_outputs(exported)
    endpoint = store_of(outputs, AUDITOR).endpoint
    root = Account(MINIO_ROOT_USER, superuser.generated(exported)["minio-root"])
    return Bucket(client(endpoint, root), str(outputs["minio_bucket_name"]))


def newest(copied: Versions) -> datetime | None:
    """Return when the last of them was written or deleted."""
    every = [one.written for versions in copied.values() for one in versions]
    return max(every, default=None)


def carry_out(bucket: Bucket, planned: Sequence[Change], copies: Copies) -> dict[str, str]:
    """Bring the bucket to a moment; return what could not come back, and why.

    Raises Failure for a store that does not answer.
    """
    with answering():
        bucket.apply(one for one in planned if one.here)
        return copies.give(bucket, [one for one in planned if not one.here])


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn the store's errors into a Failure with the next step."""
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (MinioException, HTTPError, OSError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise Failure(
            f"The object store cannot be brought to the same moment: {reason}\n"
            "The database is as it was. Next: `pandom up`, which starts the store; then again"
        ) from None
