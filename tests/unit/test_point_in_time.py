"""What a restore is asked for, and what it is not given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from pandom.backups.repository import Backup
from pandom.host.point_in_time import _refuse_full, aim, moment
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
