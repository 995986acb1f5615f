"""The store of the backups, for what pgBackRest does not keep there: dumps and objects.

Each kind has a folder beside pgBackRest's, and is encrypted by age for a key that is made of the
repository's.
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pandom.objectstore import Account, Endpoint, client
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret_file
from pandom.runtime.naming import BACKUP_CONFIG
from pandom.runtime.progress import shorten

_PART: Final = 16 << 20  # bytes that are held for one request
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Place:
    """One folder of the store, and the repository's key."""

    s3: Any
    bucket: str
    prefix: str
    key: str = field(repr=False)

    @property
    def kind(self) -> str:
        """What is kept there: the last part of the folder's name."""
        return self.prefix.rstrip("/").rpartition("/")[2]

    def of(self, name: str) -> str:
        """Return an object's name."""
        return f"{self.prefix}{name}"

    def names(self, start: str = "") -> list[str]:
        """Return what is there, in order, by the names after the folder's."""
        listed = self.s3.list_objects(
            bucket_name=self.bucket, prefix=self.of(start), recursive=True
        )
        return sorted(str(one.object_name).removeprefix(self.prefix) for one in listed)

    def put(self, name: str, content: bytes) -> None:
        """Store something as it is."""
        self.s3.put_object(
            bucket_name=self.bucket,
            object_name=self.of(name),
            data=io.BytesIO(content),
            length=len(content),
        )

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Yield a stream of what is there."""
        answer = self.s3.get_object(bucket_name=self.bucket, object_name=self.of(name))
        try:
            yield answer
        finally:
            answer.close()
            answer.release_conn()

    def remove(self, name: str) -> None:
        """Remove it; gone already is fine."""
        self.s3.remove_object(bucket_name=self.bucket, object_name=self.of(name))

    def encrypt(self, name: str, source: Hashed) -> int:
        """Encrypt and store what there is to read; return how many bytes it became."""
        import pyrage

        read, write = os.pipe()
        failed: list[BaseException] = []

        def encrypt() -> None:
            with os.fdopen(write, "wb") as sink:
                try:
                    pyrage.encrypt_io(source, sink, [recipient(self.key, self.kind)])
                except BaseException as error:  # noqa: BLE001 - raised by whoever reads
                    failed.append(source.failure or error)

        thread = threading.Thread(target=encrypt, daemon=True)
        thread.start()
        with os.fdopen(read, "rb") as stream:
            sized = _Sized(stream, failed, thread)
            self.s3.put_object(
                bucket_name=self.bucket,
                object_name=self.of(name),
                data=sized,
                length=-1,
                part_size=_PART,
            )
        return sized.size

    def decrypt(self, name: str, sink: IO[bytes]) -> Hashing:
        """Write what was encrypted; return its size and checksum.

        Raises pyrage.DecryptError or OSError for what is damaged, cut off, or of another key.
        """
        import pyrage

        passing = Hashing(sink)
        opener = pyrage.ssh.Identity.from_buffer(identity(self.key, self.kind))
        with self.reading(name) as answer:
            pyrage.decrypt_io(answer, passing, [opener])
        passing.flush()
        return passing


def place(kind: str) -> Place:
    """Return the folder of a kind in the store of the backups, as pgBackRest's configuration
    has it."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(secret_file(BACKUP_CONFIG).read_text())
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
        f"{known['repo1-path'].strip('/')}/{kind}/",
        known["repo1-cipher-pass"],
    )


@contextlib.contextmanager
def answering(what: str, following: str) -> Iterator[None]:
    """Turn the errors of a store into a Failure: which one, what it said, and what is next."""
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (MinioException, HTTPError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise Failure(f"{what}: {shorten(reason, 300)}\nNext: {following}") from None


# -- keys -----------------------------------------------------------------------------------------


def _private(key: str, kind: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(f"{kind} of {key}".encode()).digest()
    )


def recipient(key: str, kind: str) -> Any:
    """Return for whom a kind is encrypted."""
    import pyrage
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = _private(key, kind).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return pyrage.ssh.Recipient.from_str(text.decode())


def identity(key: str, kind: str) -> bytes:
    """Return the SSH key that opens a kind, also for `age --decrypt --identity`."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    text: bytes = _private(key, kind).private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    return text


# -- streams --------------------------------------------------------------------------------------


class Hashed(io.RawIOBase):
    """What is read from a source, counted. ``failure`` is what encryption tells in words of its
    own."""

    def __init__(self, source: Any) -> None:
        self._source, self._digest = source, hashlib.sha256()
        self.size = 0
        self.failure: BaseException | None = None

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some of it; return how much, 0 at the end."""
        try:
            found = self._source.read(min(len(buffer), _PIECE))
            if not found:
                self.ended()
        except Exception as error:
            self.failure = error
            raise
        buffer[: len(found)] = found
        self._digest.update(found)
        self.size += len(found)
        return len(found)

    def ended(self) -> None:
        """Raise what makes the end no end."""

    @property
    def sha256(self) -> str:
        """The checksum of what has passed."""
        return self._digest.hexdigest()


class Hashing:
    """Passes on what it is given, and counts it."""

    def __init__(self, sink: Any) -> None:
        self._sink, self._digest, self.size = sink, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Pass some on."""
        self._digest.update(content)
        self.size += len(content)
        self._sink.write(content)
        return len(content)

    def flush(self) -> None:
        """Pass that on, too."""
        self._sink.flush()

    @property
    def sha256(self) -> str:
        """The checksum of what has passed."""
        return self._digest.hexdigest()


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
