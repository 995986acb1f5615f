"""The task `dump`: a dated dump of the database, encrypted, in the store of the backups.

A physical backup needs this program and PostgreSQL of the same major version; a dump is what every
PostgreSQL takes, and a person can read. Beside each lies a JSON object, written last, with its
checksum: one without it was interrupted, and is removed by the next run.

    NAME/dumps/pandom_db-2026-11-26T03-00-00Z.dump.age    encrypted by age, for the repository's key
    NAME/dumps/pandom_db-2026-11-26T03-00-00Z.json        what it is
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pandom.backups import inside
from pandom.backups.scheduled import say
from pandom.database.connect import target_from_environment
from pandom.objectstore import Account, Endpoint, client
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.inputs import secret, secret_file, setting
from pandom.runtime.naming import BACKUP_CONFIG
from pandom.runtime.progress import shorten
from pandom.runtime.repository_keys import number

LOGIN: Final = "pandom_user"
_FOLDER: Final = "dumps/"
_DUMP: Final = ".dump.age"
_PART: Final = 16 << 20  # bytes that are held for one request
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Dump:
    """One dump; sizes in bytes, ``sha256`` is of the dump itself, ``key`` the number of the
    repository's key that opens it."""

    name: str
    made: str
    database: str
    size: int
    stored: int
    sha256: str
    key: int = 1


@dataclass(frozen=True)
class Place:
    """Where dumps are, and who opens them: the present key, and former ones."""

    s3: Any
    bucket: str
    prefix: str
    keys: Sequence[str]

    def of(self, name: str) -> str:
        """Return an object's name."""
        return f"{self.prefix}{_FOLDER}{name}"


def place() -> Place:
    """Return the store of the backups, as pgBackRest's configuration has it."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    text = secret_file(BACKUP_CONFIG).read_text()
    parser.read_string(text)
    known = parser["global"]
    endpoint = Endpoint(
        known["repo1-s3-endpoint"],
        int(known["repo1-storage-port"]),
        Path(known["repo1-storage-ca-file"]),
    )
    account = Account(known["repo1-s3-key"], known["repo1-s3-key-secret"])
    return Place(
        client(endpoint, account, known["repo1-s3-region"]),
        known["repo1-s3-bucket"],
        setting("PANDOM_STACK") + "/",
        tuple(dict.fromkeys(re.findall(r"^repo\d+-cipher-pass=(.*)$", text, re.MULTILINE))),
    )


@contextlib.contextmanager
def _answering(stack: str) -> Iterator[None]:
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (MinioException, HTTPError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise Failure(
            f"The store of the backups: {shorten(reason, 300)}\n"
            f"Next: `pandom backups --stack {stack}` says what is wrong with it"
        ) from None


# -- making one -----------------------------------------------------------------------------------


def run() -> None:
    """Make a dump, note it in the trail, and remove those that are older than the kept."""
    stack, keep = setting("PANDOM_STACK"), int(setting("PANDOM_DUMP_KEEP"))
    with _answering(stack):
        where = place()
        _remove_halves(where)
        made = _make(where)
    inside.note("dump_made", {"name": made.name, "sha256": made.sha256})
    say(f"{made.name}, {made.size >> 10} KB, {made.stored >> 10} KB stored")
    try:
        with _answering(stack):
            for old in every(where)[:-keep]:
                _remove(where, old.name)
                say(f"{old.name} removed, {keep} are kept")
    except PandomError as error:
        say(f"older dumps were not removed: {str(error).splitlines()[0]}")


def _make(where: Place) -> Dump:
    target, now = target_from_environment(), datetime.now(UTC).replace(microsecond=0)
    name = f"{target.database}-{now:%Y-%m-%dT%H-%M-%SZ}"
    with subprocess.Popen(
        [
            *("pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s"),
            *("--host", target.host, "--port", str(target.port)),
            *("--username", LOGIN, "--dbname", target.database),
        ],
        env={
            **os.environ,
            "PGPASSWORD": secret(f"{LOGIN}_password"),
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(target.ca),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe
        source = _Counted(process.stdout, process)
        stored = _store(where, f"{name}{_DUMP}", source)
    present = number(where.keys[0])
    made = Dump(name, now.isoformat(), target.database, source.size, stored, source.sha256, present)
    _put(where, f"{name}.json", json.dumps(asdict(made), indent=1).encode())
    return made


class _Counted(io.RawIOBase):
    """What `pg_dump` writes; an error at its end if that failed, so that nothing half is stored."""

    def __init__(self, source: IO[bytes], process: subprocess.Popen[bytes]) -> None:
        self._source, self._process = source, process
        self._digest = hashlib.sha256()
        self.size = 0
        self.failure: Failure | None = None  # which the encryption tells in words of its own

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._source.read(min(len(buffer), _PIECE))
        buffer[: len(found)] = found
        self._digest.update(found)
        self.size += len(found)
        if not found and self._process.wait():
            said = (
                self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
            )
            self.failure = Failure(f"pg_dump failed: {shorten(' '.join(said.split()), 400)}")
            raise self.failure
        return len(found)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _store(where: Place, name: str, source: _Counted) -> int:
    """Encrypt and store what there is to read; return how many bytes it became."""
    import pyrage

    read, write = os.pipe()
    failed: list[BaseException] = []

    def encrypt() -> None:
        with os.fdopen(write, "wb") as sink:
            try:
                pyrage.encrypt_io(source, sink, [_recipient(where.keys[0])])
            except BaseException as error:  # noqa: BLE001 - raised by whoever reads
                failed.append(source.failure or error)

    thread = threading.Thread(target=encrypt, daemon=True)
    thread.start()
    with os.fdopen(read, "rb") as stream:
        counted = _Sized(stream, failed, thread)
        where.s3.put_object(
            bucket_name=where.bucket,
            object_name=where.of(name),
            data=counted,
            length=-1,
            part_size=_PART,
        )
    return counted.size


class _Sized:
    """A stream that ends with the error of whoever writes it."""

    def __init__(
        self, stream: IO[bytes], failed: list[BaseException], writer: threading.Thread
    ) -> None:
        self._stream, self._failed, self._writer = stream, failed, writer
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        found = self._stream.read(size)
        self.size += len(found)
        if len(found) < size or not found:
            self._writer.join()
            if self._failed:
                raise self._failed[0]
        return found


def _put(where: Place, name: str, content: bytes) -> None:
    where.s3.put_object(
        bucket_name=where.bucket,
        object_name=where.of(name),
        data=io.BytesIO(content),
        length=len(content),
    )


# -- keys -----------------------------------------------------------------------------------------


def _private(key: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(b"dumps of " + key.encode()).digest()
    )


def _recipient(key: str) -> Any:
    import pyrage
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = _private(key).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return pyrage.ssh.Recipient.from_str(text.decode())


def identity(key: str) -> bytes:
    """Return the SSH key that opens dumps, also for `age --decrypt --identity`."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text: bytes = _private(key).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return text


# -- what there is --------------------------------------------------------------------------------


def every(where: Place) -> list[Dump]:
    """Return every complete dump, the oldest first."""
    found = []
    for one in _objects(where):
        if one.endswith(".json"):
            answer = where.s3.get_object(bucket_name=where.bucket, object_name=where.of(one))
            try:
                found.append(Dump(**json.loads(answer.read())))
            finally:
                answer.close()
                answer.release_conn()
    return sorted(found, key=lambda dump: dump.made)


def _objects(where: Place) -> list[str]:
    start = where.of("")
    listed = where.s3.list_objects(bucket_name=where.bucket, prefix=start, recursive=True)
    return [str(one.object_name).removeprefix(start) for one in listed]


def _remove(where: Place, name: str) -> None:
    # Its description first: what is left of a removal is removed as a half.
    for end in (".json", _DUMP):
        where.s3.remove_object(bucket_name=where.bucket, object_name=where.of(f"{name}{end}"))


def _remove_halves(where: Place) -> None:
    names = _objects(where)
    for one in names:
        name = one.removesuffix(_DUMP)
        if name != one and f"{name}.json" not in names:
            with contextlib.suppress(Exception):  # denied, perhaps, and not in the way
                _remove(where, name)


def listed() -> None:
    """Print every dump as JSON, for the host."""
    with _answering(setting("PANDOM_STACK")):
        print(json.dumps([asdict(one) for one in every(place())]))


def get(name: str) -> None:
    """Write a dump to stdout, as it was.

    Raises UsageError for one that there is not, Failure for one that is damaged or cut off.
    """
    _read(name, sys.stdout.buffer)


def verify(name: str) -> None:
    """Read a dump back, compare its checksum, and have `pg_restore` read its list."""
    with subprocess.Popen(
        ["pg_restore", "--list"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - a pipe
        dump = _read(name, _Lenient(process.stdin))
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        said = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode:
        raise Failure(f"{name} is no dump that pg_restore reads: {shorten(said, 300)}")
    print(f"{name} is whole: {dump.size} bytes, SHA-256 {dump.sha256}")


class _Lenient:
    """Goes on when `pg_restore` has read what it needs."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink

    def write(self, content: bytes) -> int:
        with contextlib.suppress(BrokenPipeError):
            self._sink.write(content)
        return len(content)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._sink.flush()


def _read(name: str, sink: Any) -> Dump:
    import pyrage

    stack = setting("PANDOM_STACK")
    with _answering(stack):
        where = place()
        found = {one.name: one for one in every(where)}
        if name not in found:
            there = "\n".join(f"  {one}" for one in found) or "  none"
            raise UsageError(f"There is no dump {name}. There are:\n{there}")
        dump, digest = found[name], _Hashing(sink)
        answer = where.s3.get_object(
            bucket_name=where.bucket, object_name=where.of(f"{name}{_DUMP}")
        )
        try:
            keys = [pyrage.ssh.Identity.from_buffer(identity(one)) for one in where.keys]
            pyrage.decrypt_io(answer, digest, keys)
        except (pyrage.DecryptError, OSError) as error:
            raise Failure(
                f"{name} is damaged, cut off, or of another key: {error}.\n"
                f"Next: an older one (`pandom dumps --stack {stack}`), or a backup"
            ) from None
        finally:
            answer.close()
            answer.release_conn()
    digest.flush()
    if (digest.sha256, digest.size) != (dump.sha256, dump.size):
        raise Failure(f"{name} is not what was stored: its checksum differs.\nNext: an older one")
    return dump


class _Hashing:
    """Passes on what it is given, and counts it."""

    def __init__(self, sink: Any) -> None:
        self._sink, self._digest, self.size = sink, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        self.size += len(content)
        self._sink.write(content)
        return len(content)

    def flush(self) -> None:
        self._sink.flush()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
