"""What a restore is asked for, and what it is not given."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pandom.backups.repository import Backup
from pandom.database.restore import restoring
from pandom.host import backup as backups
from pandom.host import exchange, point_in_time, superuser, up
from pandom.host.exchange import Beside
from pandom.host.point_in_time import _keep_history, _refuse_full, _refuse_gap, aim, moment
from pandom.runtime.errors import Failure, UsageError

pytestmark = pytest.mark.requirement("D5")

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def backup(hour: int) -> Backup:
    stopped = NOW.replace(hour=hour)
    first = "000000010000000000000003"
    return Backup(f"L{hour}", "full", stopped, stopped, 1 << 30, 1, first, first, None, False)


EVERY = [backup(8), backup(10)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2026-11-26 11:05", NOW.replace(hour=11, minute=5)),
        ("2026-11-26T11:05:07", NOW.replace(hour=11, minute=5, second=7)),
        ("2026-11-26 11:05:07.5", NOW.replace(hour=11, minute=5, second=7, microsecond=500_000)),
        ("2026-11-26 12:05+01:00", NOW.replace(hour=11, minute=5)),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, found: datetime) -> None:
    assert moment(text, NOW) == found


@pytest.mark.parametrize(
    ("to", "label", "said"),
    [
        ("2026-11-26", None, "is no time"),
        ("14:05", None, "is no time"),
        ("2026-13-26 14:05", None, "is no time"),
        ("0001-01-01 00:00+14:00", None, "is no time"),
        ("9999-12-31 23:59-14:00", None, "is no time"),
        ("9999-12-31 23:59", None, "in the future"),
        ("0001-01-01 00:00", None, "what came before it cannot be restored"),
        ("2026-11-26 12:01", None, "in the future"),
        ("2026-11-26 07:59", None, "what came before it cannot be restored"),
        (None, "L9", "none of this name. There are:\n  L8\n  L10"),
    ],
)
def test_what_no_backup_can_give_is_refused(to: str | None, label: str | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        aim(EVERY, to, label, NOW)
    assert said in str(caught.value)
    with pytest.raises(UsageError, match="no backup"):
        aim([], to, label, NOW)


def test_the_backup_is_the_last_one_before_the_moment() -> None:
    assert aim(EVERY, "2026-11-26 09:59", None, NOW).backup.label == "L8"
    assert aim(EVERY, "2026-11-26 10:01", None, NOW).backup.label == "L10"
    latest = aim(EVERY, None, None, NOW)
    assert latest.options() == ["--set=L10", "--target-timeline=current"]
    assert "--type=immediate" in aim(EVERY, None, "L8", NOW).options()
    timed = aim(EVERY, "2026-11-26 10:01", None, NOW).options()
    assert "--target=2026-11-26 10:01:00.000000+00" in timed


class Volume:
    """A volume with so much room, and so much of an earlier restore."""

    def __init__(self, free: int, beside: int) -> None:
        self.answer = f"{free}\n" + (f"{beside}\t/beside\n" if beside else "")

    def run(self, *_: Any) -> tuple[int, str, str]:
        return 0, self.answer, ""

    def folder(self, _: Any) -> str:
        return "/17"


@pytest.mark.parametrize(
    ("free", "beside", "enough"),
    [(1 << 30, 0, False), (2 << 30, 0, True), (1 << 29, 1 << 30, True), (1 << 28, 1 << 29, False)],
)
def test_a_volume_without_room_is_refused_before_anything_is_touched(
    free: int, beside: int, enough: bool
) -> None:
    volume, wanted = cast(Any, Volume(free, beside)), aim(EVERY, None, None, NOW + timedelta(1))
    if enough:
        _refuse_full(volume, cast(Any, None), wanted)
        return
    with pytest.raises(Failure, match="1280 MB are needed"):
        _refuse_full(volume, cast(Any, None), wanted)


class Steps:
    """A stack whose volume says what lies there; what is done to it is written down."""

    def __init__(self, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.repository = self
        self.engine = self
        self.server = self
        self.is_healthy = False
        for module, name, value in (
            (backups, "open_place", lambda *_, **__: self),
            (up, "toolchain_variables", dict),
            (up, "bring_up", lambda *_: self.done.append("up")),
            (point_in_time, "Stack", lambda name: self),
            (point_in_time, "alone", lambda stack: contextlib.nullcontext()),
            (exchange, "of_volume", lambda *_: exchange.parse(state)),
            (point_in_time, "_leave", lambda _: self.done.append("objects")),
            (point_in_time, "_stay", lambda _: self.done.append("objects back")),
            (point_in_time, "_exchange", lambda _, way: self.done.append(f"exchange {way}")),
        ):
            monkeypatch.setattr(module, name, value)


WHOLE = "objects", "exchange {way}", "up"


@pytest.mark.parametrize(
    ("state", "way", "done"),
    [
        ("restored", "switch", WHOLE),
        ("former", "undo", WHOLE),
        ("undone", "undo", WHOLE),
        # Killed before the exchange: the same goes on, the other one takes it back.
        ("restored left", "switch", WHOLE),
        ("restored left", "undo", ("objects back", "up")),
        ("former left", "undo", WHOLE),
        ("former left", "switch", ("objects back", "up")),
        # Killed after it.
        ("former switch", "switch", ("up",)),
        ("former switch", "undo", WHOLE),
        ("undone undo", "undo", ("up",)),
        ("restored undo", "undo", ("up",)),
        ("restored undo", "switch", WHOLE),
        # The way back from one that was killed, itself killed before its exchange.
        ("former switch left", "switch", ("objects back", "up")),
        ("former switch left", "undo", WHOLE),
    ],
)
def test_a_killed_exchange_goes_on_where_it_was(
    state: str, way: str, done: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(state, monkeypatch)
    point_in_time.run("dev", None, None, way, "text")
    assert steps.done == [one.format(way=way) for one in done]


@pytest.mark.parametrize(
    ("state", "way", "said"),
    [
        ("nothing", "switch", "no database that was restored"),
        ("unfinished", "switch", "found: unfinished"),
        ("former", "switch", "`pandom restore --undo"),
        ("nothing", "undo", "no former database"),
        ("restored", "undo", "no former database"),
        ("former switch", "discard", "`pandom restore --switch"),
        ("undone undo", "discard", "`pandom restore --undo"),
        # What an upgrade left is its own.
        ("former 18 17", "undo", "`pandom upgrade --undo --stack dev` serves it again"),
        ("undone 17 18", "undo", "Next: `pandom upgrade --discard --stack dev` removes it"),
        ("upgraded 17 18", "switch", "found: upgraded"),
        ("former upgrade 18 17", "undo", "`pandom upgrade --stack dev` goes on"),
        ("undone undo 17 18", "undo", "`pandom upgrade --undo --stack dev` goes on"),
        ("undone undo 17 18", "switch", "`pandom upgrade --undo --stack dev` goes on"),
        ("former upgrade 18 17", "discard", "`pandom upgrade --stack dev` goes on"),
        ("former 18 17", "discard", "pandom upgrade --discard"),
        ("restored left", "discard", "--undo takes it back"),
        ("former left", "discard", "--switch takes it back"),
        ("former", "discard", "the former database, the way back"),
        ("undone", "discard", "was restored, served and taken back"),
    ],
)
def test_what_cannot_follow_is_refused_with_what_can(
    state: str, way: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(state, monkeypatch)
    with pytest.raises(UsageError) as caught:
        point_in_time.run("dev", None, None, way, "text")
    assert said in str(caught.value)
    assert steps.done == []


def test_what_is_not_carried_to_its_end_is_said_until_it_is() -> None:
    for state in ("nothing", "restored", "former", "undone", "nothing 17", "former 18 17"):
        assert exchange.parse(state).lacking("dev") is None
    assert "`pandom up`" in str(exchange.parse("former switch").lacking("dev"))
    assert "another moment" in str(exchange.parse("restored left").lacking("dev"))
    assert "`upgrade` was not" in str(exchange.parse("former upgrade 18 17").lacking("dev"))
    # The program of an earlier version says one word, or nothing.
    assert exchange.parse("") == Beside()


def test_the_latest_is_not_restored_past_another_history() -> None:
    """Of a machine that was lost before its new history had a backup."""
    after, first = NOW.replace(hour=11), EVERY[-1].first_wal
    log = {first: NOW, f"00000002{first[8:]}": NOW.replace(hour=9)}
    repository = SimpleNamespace(segments=lambda _: log, holes=lambda _: [])
    place = cast(Any, SimpleNamespace(repository=repository))
    _refuse_gap(place, aim(EVERY, None, None, NOW))
    log[f"00000002{first[8:]}"] = after
    with pytest.raises(UsageError, match=r"log up to 2026-11-26 11:00:00 UTC and no backup"):
        _refuse_gap(place, aim(EVERY, None, None, NOW))
    # Whoever names what is to come back means it.
    _refuse_gap(place, aim(EVERY, None, "L10", NOW))


def test_nobody_is_told_to_drop_what_is_served() -> None:
    with pytest.raises(UsageError) as caught:
        restoring.refuse(["pandom_db"], "`up`")
    assert "db finish pandom_db" in str(caught.value)
    assert "drop" not in str(caught.value)
    with pytest.raises(UsageError, match="drop other as the superuser"):
        restoring.refuse(["other", "pandom_db"], "`up`")


@pytest.mark.parametrize(
    ("state", "marked", "done"),
    [
        ("former", ["pandom_db"], []),
        ("former switch", ["pandom_db"], ["passwords", "migration", "cluster"]),
        # It was closed: a second time would end sessions, and give contexts another key.
        ("former switch", [], ["passwords"]),
        ("undone undo", [], ["passwords"]),
        # A restore may be marked in a cluster that was upgraded: nobody closes it here.
        ("former upgrade 18 17", ["pandom_db"], ["passwords"]),
    ],
)
def test_up_does_what_an_exchange_lacks(
    state: str, marked: list[str], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    engine = cast(Any, SimpleNamespace(run=lambda *_: (0, f"{state}\n", "")))
    monkeypatch.setattr(superuser, "set_passwords", lambda _: found.append("passwords"))
    monkeypatch.setattr(superuser, "restores", lambda _: marked)
    monkeypatch.setattr(exchange, "run_in_job", lambda _, name, part, *__: found.append(part))
    begun = exchange.go_on(engine, cast(Any, None), "dev", {})
    assert (begun is not None) == bool(done)
    assert found == done
    if done:
        with pytest.raises(UsageError, match="goes on with it"):
            server = SimpleNamespace(is_healthy=True)
            engine.container = lambda _: server
            exchange.refuse_begun(engine, "dev")


def test_a_history_whose_number_the_store_has_is_not_served() -> None:
    pushed: list[tuple[str, ...]] = []

    @dataclass
    class Store:
        engine: Any
        server: Any = None

        def histories(self) -> set[str]:
            return {"00000002"}

        def run(self, *arguments: str) -> None:
            pushed.append((self.server, *arguments))

    def listing(newest: str) -> Any:
        said = f"00000001.history {newest}.history 000000030000000000000007"
        return cast(Any, SimpleNamespace(run=lambda *_: (0, said, ""), folder=lambda _: "/17"))

    made = cast(Any, "restored")
    _keep_history(cast(Any, SimpleNamespace(repository=Store(listing("00000003")))), made)
    assert [(one[0], one[2], one[3][-16:]) for one in pushed] == [
        ("restored", "archive-push", "00000003.history")
    ]
    with pytest.raises(Failure, match=r"began the history 00000002.history"):
        _keep_history(cast(Any, SimpleNamespace(repository=Store(listing("00000002")))), made)
    assert len(pushed) == 1
