"""Documents and media beside the backups: what is copied, kept, let go, and noticed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from minio.error import S3Error

from pandom.backups import drill, objects
from pandom.backups.drill import Result
from pandom.backups.objects import Damaged, copy, look, needed, read, salvage, sample
from pandom.backups.place import Place
from pandom.backups.versions import Bucket, Version, Versions, after, at, changes, living, words
from pandom.database.named import unmatched
from pandom.host import versions as host
from pandom.runtime.errors import Drift, Failure
from tests.fixtures.backups import flipped
from tests.unit.test_dump import Answer, Store

pytestmark = pytest.mark.requirement("D5")
KEY = "the-key-of-a-repository"
BEGIN = datetime.now(UTC) - timedelta(hours=1)


def refused(code: str) -> S3Error:
    return S3Error(cast(Any, None), code, f"{code} it is", "", "", "")


class Backups(Store):
    """The store of the backups; ``denies`` deletion if told to."""

    denies = False

    def get_object(self, bucket_name: str, object_name: str) -> Answer:
        if object_name not in self.there:
            raise refused("NoSuchKey")
        return super().get_object(bucket_name, object_name)

    def remove_object(self, bucket_name: str, object_name: str) -> None:
        if self.denies:
            raise refused("AccessDenied")
        super().remove_object(bucket_name, object_name)


@dataclass
class Media:
    """The bucket: versions with their content, a minute between two of them."""

    every: Versions = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    denies: bool = False

    def write(self, name: str, content: bytes | None) -> Version:
        number = sum(map(len, self.every.values()))
        made = Version(
            f"v{number}",
            BEGIN + timedelta(minutes=number),
            str(hash(content)) if content else "",
            len(content or b""),
            content is None,
        )
        self.every.setdefault(name, []).append(made)
        if content is not None:
            self.contents[made.id] = content
        return made

    def get_object(self, bucket_name: str, object_name: str, version_id: str) -> Answer:
        if self.denies:
            raise refused("AccessDenied")
        if version_id not in self.contents:
            raise refused("NoSuchVersion")
        self.read.append(version_id)
        return Answer(self.contents[version_id])


class Fake(Bucket):
    """What the code asks of a bucket."""

    def every(self) -> Versions:
        return {name: list(found) for name, found in self.s3.every.items()}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    made = Place(Backups(), "backups", "dev/objects/", KEY)
    monkeypatch.setattr(objects, "place", lambda kind: made)
    monkeypatch.setattr(drill, "place", lambda kind: made)
    monkeypatch.setattr(objects, "FOLDER", tmp_path)
    monkeypatch.setenv("PANDOM_STACK", "dev")
    return made


@pytest.fixture
def media(monkeypatch: pytest.MonkeyPatch) -> Media:
    made = Media()
    monkeypatch.setattr(objects, "bucket", lambda: Fake(made, "media"))
    return made


def run(place: Place, media: Media, whole: bool = False, since: datetime = BEGIN) -> list[str]:
    told: list[str] = []
    copy(place, Fake(media, "media"), since - timedelta(seconds=1), whole, told.append)
    return told


def data(place: Place) -> list[str]:
    return place.names("data/")


def test_each_version_is_copied_once_encrypted_and_comes_back(place: Place, media: Media) -> None:
    media.write("a", b"the first")
    media.write("b", b"another")
    run(place, media)
    assert media.read == ["v0", "v1"]
    run(place, media)
    assert media.read == ["v0", "v1"]
    assert len(place.names("lists/")) == 1
    media.write("a", b"the second")
    media.write("b", None)
    media.write("a", b"the first")  # what is there already is not read again
    run(place, media)
    assert media.read == ["v0", "v1", "v2"]
    index = read(place)
    assert [one.id for one in index.versions["a"]] == ["v0", "v2", "v4"]
    assert list(living(index.versions)) == ["a"]
    assert at(index.versions["b"], BEGIN + timedelta(minutes=2)) is not None
    stored = b"".join(place.s3.there.values())
    assert b"the first" not in stored
    assert all(one.startswith(b"age-encryption.org/") for one in place.s3.there.values())
    sink = io.BytesIO()
    assert objects._open(place, index.versions["a"][1], sink) == ""
    assert sink.getvalue() == b"the second"


def test_what_no_kept_backup_wants_leaves_with_a_whole_list(place: Place, media: Media) -> None:
    for content in (b"0", b"1", b"2"):
        media.write("a", content)
    media.write("gone", b"3")
    media.write("gone", None)
    run(place, media)
    assert len(data(place)) == 4
    place.s3.there["dev/objects/data/of-an-interrupted-run"] = b"x"
    place.s3.denies = True
    later = BEGIN + timedelta(minutes=10)
    (told,) = run(place, media, whole=True, since=later)
    assert "older copies were not removed" in told
    place.s3.denies = False
    assert run(place, media, whole=True, since=later) == []
    assert [one.id for one in read(place).versions["a"]] == ["v2"]
    assert list(read(place).versions) == ["a"]
    assert len(data(place)) == 1
    # And they are not copied again.
    run(place, media, since=later)
    assert len(data(place)) == 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([(0, False), (1, False), (7, False)], [1, 7]),
        ([(0, False), (1, True)], []),
        ([(0, False), (1, True), (7, False), (8, True)], [7, 8]),
        ([(7, False)], [7]),
    ],
)
def test_what_a_moment_may_want(written: list[tuple[int, bool]], expected: list[int]) -> None:
    versions = [
        Version(f"{minute}", BEGIN + timedelta(minutes=minute), "", 0, deleted)
        for minute, deleted in written
    ]
    found = needed(versions, BEGIN + timedelta(minutes=5))
    assert [int(one.id) for one in found] == expected


def test_what_left_the_bucket_with_every_version_is_noted(place: Place, media: Media) -> None:
    media.write("a", b"0")
    media.write("b", b"1")
    run(place, media)
    del media.every["b"]
    run(place, media)
    found = read(place).versions["b"]
    assert found[-1].deleted
    # A moment before still has it, from its copy.
    (change,) = changes(media.every, BEGIN + timedelta(minutes=5), read(place).versions)
    assert (change.name, change.here) == ("b", False)
    # But a bucket that lost everything is no deletion.
    del media.every["a"]
    with pytest.raises(Failure, match="no object any more"):
        run(place, media)
    assert not read(place).versions["a"][-1].deleted


DAMAGE: list[tuple[str, Callable[[Place, str], None], str]] = [
    (
        "flipped",
        lambda place, name: place.put(name, flipped(place.s3.there[place.of(name)])),
        "is damaged or cut off",
    ),
    (
        "cut",
        lambda place, name: place.put(name, place.s3.there[place.of(name)][:-5]),
        "is damaged or cut off",
    ),
    ("missing", lambda place, name: place.remove(name), "is missing in the store"),
    (
        "key",
        lambda place, _name: object.__setattr__(place, "key", "another"),
        "does not open with this stack's repository key",
    ),
]


@pytest.mark.parametrize(("damage", "said"), [one[1:] for one in DAMAGE], ids=lambda one: "")
def test_each_damage_of_a_copy_has_its_cause(
    place: Place,
    media: Media,
    damage: Callable[[Place, str], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    media.write("a", b"0" * 1000)
    media.write("b", b"1" * 1000)
    run(place, media)
    index = read(place)
    damage(place, f"data/{index.versions['a'][0].copy}")
    wrong = look(place, living(index.versions))
    assert said in wrong["a"]
    monkeypatch.setattr(objects, "read", lambda where: index)
    stored = dict(place.s3.there)
    with pytest.raises(Drift, match=f"a, of .*: its copy {said}; copied anew"):
        objects.verify()
    if "key" not in said:
        objects.verify()
    place.s3.there = stored
    # A drill fails by it, and tells no name to those who read its result.
    result = Result()
    drill.look_at_objects(result, {"a": "t.c", "b": "t.c"})
    assert [said in one for one in result.differences] == [True]
    assert sum(result.objects["damaged"].values()) == (2 if "key" in said else 1)


@pytest.mark.parametrize(("damage", "said"), [one[1:] for one in DAMAGE], ids=lambda one: "")
def test_each_damage_of_a_list_is_told_and_a_whole_one_mends_it(
    place: Place, media: Media, damage: Callable[[Place, str], None], said: str
) -> None:
    media.write("a", b"0")
    run(place, media)
    media.write("b", b"1")
    run(place, media)
    media.write("c", b"2")
    run(place, media)
    damage(place, place.names("lists/")[1])
    with pytest.raises(Damaged, match=rf"{said}[^\n]*\nNext: "):
        read(place)
    with pytest.raises(Damaged):
        run(place, media)
    if "key" in said:
        return
    index, wrong = salvage(place)
    assert list(index.versions) == ["a", "c"]
    assert len(wrong) == ("missing" not in said)
    (told,) = run(place, media, whole=True)
    assert "a whole list is made of the others" in told
    assert list(read(place).versions) == ["a", "c", "b"]


def test_a_denied_right_is_told(place: Place, media: Media) -> None:
    media.write("a", b"0")
    media.denies = True
    with pytest.raises(Failure, match=r"pandom-copier: AccessDenied it is\nNext: `pandom up"):
        run(place, media)
    assert place.s3.there == {}


def test_a_version_that_comes_short_is_not_noted(place: Place, media: Media) -> None:
    one = media.write("a", b"0123456789")
    media.contents[one.id] = b"0123"
    with pytest.raises(Failure, match="a has 4 bytes, and the bucket says 10"):
        run(place, media)
    assert place.s3.there == {}
    # One that was removed meanwhile is no failure.
    del media.contents[one.id]
    run(place, media)
    assert read(place).versions == {}


def test_a_long_first_copy_goes_on(
    place: Place, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_PER_LIST", 2)
    for number in range(5):
        media.write(f"{number}", b"x" * number)
    lost = media.contents.pop("v4")
    media.every["4"][0] = Version("v4", BEGIN, "", 9, deleted=False)
    media.contents["v4"] = b""
    with pytest.raises(Failure):
        run(place, media, whole=True)
    assert list(read(place).versions) == ["0", "1", "2", "3"]
    media.contents["v4"] = lost + b"xxxxx"
    run(place, media, whole=True)
    assert media.read.count("v0") == 1
    assert list(read(place).versions) == ["0", "1", "2", "3", "4"]


def test_copies_come_back_through_a_tar(
    place: Place, media: Media, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a host that lost its bucket takes them."""
    media.write("a", b"0" * 3000)
    media.write("b", b"1")
    media.write("c", b"")
    run(place, media)
    copied = read(place).versions
    place.remove(f"data/{copied['b'][0].copy}")
    planned = list(changes({}, datetime.now(UTC), copied))
    assert words(planned) == "3 written back, 0 deleted, 3 of these from copies"
    assert after({}, planned) == {"a", "b", "c"}
    with (tmp_path / "tar").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", type("", (), {"buffer": file}))
        objects.give([one.version.copy for one in planned if one.version])
    monkeypatch.undo()
    wanted = {one.version.copy: one for one in planned if one.version}

    def taken() -> tuple[dict[str, str], dict[str, bytes]]:
        there = Store()
        file = os.open(tmp_path / "tar", os.O_RDONLY)
        return host._take(file, Bucket(there, "media"), wanted), there.there

    lost, there = taken()
    assert lost == {"b": "its copy is missing in the store"}
    assert there == {"a": b"0" * 3000, "c": b""}
    # Cut off, the rest is named.
    os.truncate(tmp_path / "tar", 2000)
    lost, there = taken()
    assert set(lost) == {"a", "b", "c"}
    assert there == {}


def test_what_does_not_match_is_counted_and_named() -> None:
    named = {f"missing/{number}": "documents.object" for number in range(7)} | {"there": "d.o"}
    found = unmatched(named, {"there", "of nobody"})
    assert found.lines == [
        "7 that rows name are not there: missing/0 (documents.object), missing/1 "
        "(documents.object), missing/2 (documents.object), missing/3 (documents.object), "
        "missing/4 (documents.object), …",
        "1 that no row names: of nobody",
    ]
    told = found.as_json()
    assert (told["missing"], told["unnamed"], len(told["missing_first"])) == (7, 1, 5)
    # Of an application that notes no names nothing can be said.
    assert unmatched({}, {"there"}).lines == []


def test_a_drill_says_why_what_rows_name_is_not_there(
    place: Place, media: Media, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "deleted", "removed"):
        media.write(name, name.encode())
    run(place, media)
    media.write("deleted", None)
    del media.every["removed"]
    run(place, media)
    media.write("later", b"x")
    result = Result()
    named = dict.fromkeys(("a", "deleted", "removed", "later", "never"), "t.c")
    drill.look_at_objects(result, named)
    assert result.differences == []  # no backup can give what was not there
    assert result.objects["missing"] == {
        "deleted": 1,
        "removed with every version": 1,
        "never in the bucket": 1,
    }
    assert (result.objects["read"], result.objects["chosen"]) == (1, "all")
    assert "never in the bucket: never" in capsys.readouterr().out


def test_of_much_a_sample_is_read() -> None:
    many = {f"{number}": Version("", BEGIN, "", 10, deleted=False) for number in range(100)}
    assert sample(many, 1000) == many
    assert len(sample(many, 250)) == 25
    assert len(sample(many, 1)) == 1
    assert {name for _ in range(50) for name in sample(many, 250)} > {*sample(many, 250)}
