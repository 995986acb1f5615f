"""Documents and media beside the backups: each version is copied once, encrypted.

    NAME/objects/data/…                   the content of a version, by age for the repository's key
    NAME/objects/lists/TIME-whole…        every version that may be wanted, with its checksum
    NAME/objects/lists/TIME-more…         what came since the list before, whose name it has

A full backup writes a whole list. So any moment since the oldest backup can be brought back, on a
host that has nothing of the bucket. A list is written after what it names; what no list names was
interrupted, and leaves with what is older than the kept backups.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import io
import json
import random
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from pandom.audit.target import store_of_container
from pandom.backups import inside
from pandom.backups.place import Hashed, Place, answering, place
from pandom.backups.repository import Repository, Show
from pandom.backups.versions import Bucket, Version, Versions, at, living, of_json
from pandom.operations.records import FOLDER
from pandom.runtime.errors import Drift, Failure, PandomError
from pandom.runtime.inputs import setting
from schema.storage import COPIER

KIND: Final = "objects"
_DATA: Final = "data/"
_LISTS: Final = "lists/"
_WHOLE: Final = "-whole.age"
_MORE: Final = "-more.age"
_AT_ONCE: Final = 4
_PER_LIST: Final = 500  # versions; killed, the next run goes on from the last list
_IN_MEMORY: Final = 16 << 20  # bytes of one object; a larger one is on disk while it is looked at
# What a drill reads back at most; of more, as many as this takes, chosen at random.
DRILL_BYTES: Final = 1 << 30
_OTHER_KEY: Final = "No matching keys"
_NO_SUCH: Final = frozenset({"NoSuchKey", "NoSuchVersion"})


class Damaged(Failure):
    """A list cannot be read: which versions were copied is not known."""


@dataclass(frozen=True)
class Index:
    """Every version that was copied, and the name of the last list."""

    versions: Versions = field(default_factory=dict)
    last: str = ""

    @property
    def copies(self) -> dict[str, tuple[str, Version]]:
        """Name and version of each copy; of equal versions, which share one, the first."""
        found: dict[str, tuple[str, Version]] = {}
        for name, versions in self.versions.items():
            for one in versions:
                if one.copy:
                    found.setdefault(one.copy, (name, one))
        return found


# -- where ----------------------------------------------------------------------------------------


def _of_backups() -> contextlib.AbstractContextManager[None]:
    return answering(
        "The store of the backups",
        f"`pandom backups --stack {setting('PANDOM_STACK')}` says what is wrong with it",
    )


def _of_bucket() -> contextlib.AbstractContextManager[None]:
    return answering(
        f"The stack's object store, asked as {COPIER.name}",
        f"`pandom up --stack {setting('PANDOM_STACK')}`, which starts it and sets its users right",
    )


def bucket() -> Bucket:
    """Return the bucket of documents and media, as the user that copies it."""
    store = store_of_container(COPIER)
    return Bucket(store.s3, store.bucket)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one copy at a time run, whoever began it; a killed one holds nothing."""
    with (FOLDER / f"{KIND}.copying").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# -- lists ----------------------------------------------------------------------------------------


def read(where: Place) -> Index:
    """Return what was copied. Raises Damaged for a list that is damaged or missing."""
    with _of_backups():
        names = where.names(_LISTS)
        wholes = [one for one in names if one.endswith(_WHOLE)]
        if not names:
            return Index()
        if not wholes:
            raise _damaged(names[0], "is there, and the whole one before it is missing")
        versions, last = Index().versions, ""
        for name in names[names.index(wholes[-1]) :]:
            found = _list(where, name)
            if last and found["prior"] != last:
                raise _damaged(found["prior"], "is missing in the store")
            for object_name, more in found["versions"].items():
                versions.setdefault(object_name, []).extend(map(of_json, more))
            last = name
    return Index(versions, last)


def salvage(where: Place) -> tuple[Index, list[str]]:
    """Return what any list has that can be read, and what is wrong with the others: a whole list
    has what those before it have, so little is lost with one."""
    versions: Versions = {}
    wrong: list[str] = []
    with _of_backups():
        for name in where.names(_LISTS):
            try:
                found = _list(where, name)["versions"]
            except Damaged as error:
                wrong.append(str(error).splitlines()[0])
                continue
            for object_name, more in found.items():
                known = {one.id: one for one in versions.get(object_name, ())}
                known |= {one.id: one for one in map(of_json, more)}
                versions[object_name] = sorted(known.values(), key=lambda one: one.written)
    return Index(versions), wrong


def _list(where: Place, name: str) -> dict[str, Any]:
    import pyrage
    from minio.error import S3Error

    sink = io.BytesIO()
    try:
        where.decrypt(name, sink)
        return dict(json.loads(zlib.decompress(sink.getvalue())))
    except S3Error as error:
        if error.code not in _NO_SUCH:
            raise
        raise _damaged(name, "is missing in the store") from None
    except (pyrage.DecryptError, OSError, ValueError, zlib.error) as error:
        raise _damaged(name, _why(error)) from None


def _damaged(name: str, why: str) -> Damaged:
    return Damaged(
        f"The list of copied documents and media {name} {why}.\n"
        f"Next: `pandom backup --type full --stack {setting('PANDOM_STACK')}` makes a whole one of "
        "the others"
    )


def _why(error: Exception) -> str:
    if _OTHER_KEY in str(error):
        return "does not open with this stack's repository key"
    return "is damaged or cut off"


def _write(where: Place, prior: str, versions: Versions, whole: bool) -> str:
    name = f"{_LISTS}{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}{_WHOLE if whole else _MORE}"
    document = {
        "prior": prior,
        "versions": {key: [one.as_json() for one in found] for key, found in versions.items()},
    }
    content = zlib.compress(json.dumps(document).encode())
    with _of_backups():
        where.encrypt(name, Hashed(io.BytesIO(content)))
    return name


# -- copying --------------------------------------------------------------------------------------


def needed(versions: Sequence[Version], since: datetime) -> list[Version]:
    """Return what may be wanted of an object at a moment since then: what it was, and all later."""
    later = [one for one in versions if one.written > since]
    before = at(versions, since)
    return [before, *later] if before else later


def copy(where: Place, media: Bucket, since: datetime, whole: bool, tell: Show) -> int:
    """Copy what was not copied yet, and note what was deleted; return how many versions.

    ``since`` is the oldest moment that anybody can come back to; ``whole`` writes a list of
    everything, and lets those copies leave that no such moment wants.
    """
    with _alone():
        try:
            index = read(where)
        except Damaged as error:
            if not whole:
                raise
            tell(f"{str(error).splitlines()[0]}; a whole list is made of the others")
            index, _ = salvage(where)
        with _of_bucket():
            there = media.every()
        _refuse_emptied(index, there)
        versions, last, count = {**index.versions}, index.last, 0
        waiting = _new(index, there, since)
        for start in range(0, len(waiting), _PER_LIST):
            batch = waiting[start : start + _PER_LIST]
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                copied = threads.map(lambda one: _copied(where, media, versions, *one), batch)
                made = [(name, one) for (name, _), one in zip(batch, copied, strict=True) if one]
            added: Versions = {}
            for name, one in made:
                added.setdefault(name, []).append(one)
            for name, more in added.items():
                versions[name] = [*versions.get(name, ()), *more]
            count += len(made)
            if added and not (whole and start + _PER_LIST >= len(waiting)):
                # Killed, the next run goes on after it.
                last = _write(where, last, added if last else versions, whole=not last)
        if whole:
            versions = {
                name: found for name, every in versions.items() if (found := needed(every, since))
            }
            _write(where, "", versions, whole=True)
            _expire(where, Index(versions), since, tell)
    return count


def _refuse_emptied(index: Index, there: Versions) -> None:
    """Refuse to note that everything was deleted: more likely the bucket was lost."""
    if not there and (known := living(index.versions)):
        raise Failure(
            f"The bucket has no object any more, and {len(known):,} were copied from it. Nothing "
            "was noted.\nNext: `pandom restore` brings them back; if all were removed on purpose, "
            "write one"
        )


def _new(index: Index, there: Versions, since: datetime) -> list[tuple[str, Version]]:
    """Return what no list has yet; of what left the bucket with all versions, that it did."""
    found = []
    for name, versions in there.items():
        known = {one.id for one in index.versions.get(name, ())}
        found += [(name, one) for one in needed(versions, since) if one.id not in known]
    now = datetime.now(UTC)
    gone = Version(f"removed-{now:%Y-%m-%dT%H-%M-%SZ}", now, "", 0, deleted=True)
    return found + [(name, gone) for name in living(index.versions) if name not in there]


def _copied(
    where: Place, media: Bucket, known: Versions, name: str, version: Version
) -> Version | None:
    """Copy one version; None if it was removed meanwhile. Equal content is copied once."""
    if version.deleted:
        return version
    for one in known.get(name, ()):
        if one.copy and one.same(version):
            return replace(version, sha256=one.sha256, copy=one.copy)
    digest = hmac.new(where.key.encode(), f"{name}\0{version.id}".encode(), hashlib.sha256)
    copy = digest.hexdigest()
    with _of_bucket():
        answer = _answer(media, name, version.id)
    if answer is None:
        return None
    try:
        source = _OfBucket(answer, name, version.size)
        with _of_backups():
            where.encrypt(f"{_DATA}{copy}", source)
    finally:
        answer.close()
        answer.release_conn()
    return replace(version, sha256=source.sha256, copy=copy)


def _answer(media: Bucket, name: str, version: str) -> Any:
    from minio.error import S3Error

    try:
        return media.s3.get_object(bucket_name=media.name, object_name=name, version_id=version)
    except S3Error as error:
        if error.code in _NO_SUCH:
            return None
        raise


class _OfBucket(Hashed):
    """The content of a version; an error at its end if some of it is missing."""

    def __init__(self, answer: Any, name: str, size: int) -> None:
        super().__init__(answer)
        self._name, self._expected = name, size

    def ended(self) -> None:
        """Raise Failure."""
        if self.size != self._expected:
            raise Failure(
                f"{self._name} has {self.size:,} bytes, and the bucket says {self._expected:,}."
            )


def _expire(where: Place, index: Index, since: datetime, tell: Show) -> None:
    """Let what is not wanted any more leave; tell when the store denies that."""
    with _of_backups():
        lists = where.names(_LISTS)
        newest = max(one for one in lists if one.endswith(_WHOLE))
        old = [one for one in lists if one < f"{_LISTS}{since:%Y-%m-%dT%H-%M-%S}" and one < newest]
        kept = index.copies
        old += [one for one in where.names(_DATA) if one.removeprefix(_DATA) not in kept]
    try:
        with _of_backups():
            for one in old:
                where.remove(one)
    except PandomError as error:
        tell(f"older copies were not removed: {str(error).splitlines()[0]}")


# -- reading back ---------------------------------------------------------------------------------


def _open(where: Place, one: Version, sink: Any) -> str:
    """Write a copy's content; return what is wrong with it, "" for nothing."""
    import pyrage
    from minio.error import S3Error

    try:
        found = where.decrypt(f"{_DATA}{one.copy}", sink)
    except S3Error as error:
        if error.code not in _NO_SUCH:
            raise
        return "its copy is missing in the store"
    except (pyrage.DecryptError, OSError) as error:
        return f"its copy {_why(error)}"
    return "" if (found.sha256, found.size) == (one.sha256, one.size) else "its copy is another's"


class _Nothing:
    """Takes everything."""

    def write(self, content: bytes) -> int:
        return len(content)

    def flush(self) -> None:
        """There is nothing."""


def look(where: Place, wanted: dict[str, Version]) -> dict[str, str]:
    """Read copies back; return what is wrong with each that is not as it was, by its name."""

    def wrong(one: Version) -> str:
        return _open(where, one, _Nothing())

    with _of_backups(), ThreadPoolExecutor(_AT_ONCE) as threads:
        said = dict(zip(wanted, threads.map(wrong, wanted.values()), strict=True))
        return {name: why for name, why in said.items() if why}


def sample(wanted: dict[str, Version], most: int = DRILL_BYTES) -> dict[str, Version]:
    """Return everything, or what is within ``most`` bytes, at least one, chosen at random."""
    if sum(one.size for one in wanted.values()) <= most:
        return wanted
    chosen: dict[str, Version] = {}
    names, size = sorted(wanted), 0
    random.SystemRandom().shuffle(names)
    for name in names:
        if not chosen or size + wanted[name].size <= most:
            chosen[name] = wanted[name]
            size += wanted[name].size
    return chosen


def _mended(where: Place, media: Bucket, name: str, one: Version) -> str:
    try:
        made = _copied(where, media, {}, name, one)
    except PandomError as error:
        return f"not copied anew: {str(error).splitlines()[0]}"
    return "copied anew" if made else "the bucket does not have it any more"


# -- commands and tasks ---------------------------------------------------------------------------


def bring_up_to_date(repository: Repository, whole: bool, tell: Show) -> int:
    """Copy what was not copied yet, unless the backups are of another database, whose objects are
    not these; return how many versions."""
    backups = repository.backups(inside.system())
    since = backups[0].stopped if backups else datetime.now(UTC)
    return copy(place(KIND), bucket(), since, whole, tell)


def run(whole: str = "no") -> None:
    """Run the task `objects`, and what `pandom backup` asks for."""
    count = bring_up_to_date(inside.repository(), whole == "yes", inside.say)
    if count:
        inside.say(f"{count:,} versions of documents and media copied")


def listed(what: str) -> None:
    """Print as JSON what was copied, for the host: ``all`` versions, or a `summary`."""
    where = place(KIND)
    if what == "all":
        index, wrong = salvage(where)
        versions = {
            name: [one.as_json() for one in found] for name, found in index.versions.items()
        }
        print(json.dumps({"versions": versions, "damaged": wrong}))
        return
    index = read(where)
    copies = [one for _, one in index.copies.values()]
    times = [one.written for found in index.versions.values() for one in found]
    print(
        json.dumps(
            {
                "objects": len(living(index.versions)),
                "versions": len(copies),
                "size": sum(one.size for one in copies),
                "newest": max(times).isoformat() if times else None,
            }
        )
    )


def verify() -> None:
    """Read every copy back. Raises Drift that names those that are not as they were, once they
    are made anew of what the bucket has."""
    where = place(KIND)
    copies = read(where).copies
    wrong = look(where, {copy: one for copy, (_, one) in copies.items()})
    if wrong:
        media = bucket()
        raise Drift(
            "\n".join(
                f"{name}, of {one.written:%Y-%m-%d %H:%M:%S} UTC: {wrong[copy]}; "
                f"{_mended(where, media, name, one)}"
                for copy, (name, one) in copies.items()
                if copy in wrong
            )
        )
    print(f"{len(copies):,} copies of documents and media are whole")


def give(copies: Sequence[str]) -> None:
    """Write the content of copies to stdout as a tar; of one that is damaged, NAME.wrong says
    why."""
    where = place(KIND)
    known = read(where).copies
    with tarfile.open(mode="w|", fileobj=sys.stdout.buffer) as archive:
        for copy in copies:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(FOLDER)) as file, _of_backups():
                if copy in known:
                    said = _open(where, known[copy][1], file)
                else:
                    said = "it was never copied"
                entry = tarfile.TarInfo(copy)
                entry.size = file.tell()
                file.seek(0)
                if said:
                    content = said.encode()
                    entry = tarfile.TarInfo(f"{copy}.wrong")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
                else:
                    archive.addfile(entry, file)
