"""What `pandom upgrade` does, by what lies in the volume."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pandom.host import backup as backups
from pandom.host import exchange, superuser, up
from pandom.host import stack as files
from pandom.host import upgrade as upgrading
from pandom.runtime.errors import Failure, UsageError

pytestmark = pytest.mark.requirement("D5")


class Volume:
    """A stack's volume, its container and what the jobs were told; what is done is written down."""

    def __init__(
        self, state: str, container: int, applied: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.state, self.image, self.done = state, container, cast("list[str]", [])
        self.told = applied
        self.name, self.server = "dev", SimpleNamespace(id="x", status="exited", is_healthy=True)
        for module, name, value in (
            (up, "toolchain_variables", dict),
            (up, "verify", lambda *_: self.done.append("verify")),
            (up, "bring_up", lambda *_, **__: self.done.append(f"up {self.told}")),
            (superuser, "exported", lambda _: {}),
            (upgrading, "State", lambda _: SimpleNamespace(environment={}, outputs={})),
            (upgrading, "applied_version", lambda _: applied),
            (files, "settings", lambda _: SimpleNamespace(postgres_version=self.told)),
            (files, "set_values", self.tell),
            (exchange, "of_volume", lambda *_: exchange.parse(self.state)),
            (backups, "open_place", lambda *_: None),
            (upgrading, "ask", self.exchange),
            (upgrading._Upgrade, "_image", lambda _: "image"),
            (upgrading._Upgrade, "_check", lambda *_: None),
            (upgrading._Upgrade, "_make", lambda *_: self.make()),
            (upgrading._Upgrade, "_ready", lambda _: None),
        ):
            monkeypatch.setattr(module, name, value)

    def tell(self, _: object, values: dict[str, int]) -> None:
        self.told = values["postgresVersion"]

    def make(self) -> None:
        self.done.append("make")
        self.state = "upgraded 17 18"

    def exchange(self, _: object, __: object, word: str, way: str) -> None:
        self.done.append(f"{word} {way}")
        self.state = {"upgrade": "former upgrade 18 17", "undo": "undone undo 17 18"}[way]

    # As the engine.

    def container(self, _: str) -> object:
        return self.server if self.image else None

    def version(self, _: object) -> int:
        return self.image

    def stop(self, _: object) -> None:
        self.done.append("stop")

    def start(self, _: object) -> None:
        self.done.append("start")

    def wait_until_healthy(self, *_: object) -> object:
        return self.server

    def run(self, *_: object) -> tuple[int, str, str]:
        return 0, "pandom_db public.users\t+1\n", ""


def upgrade(volume: Volume) -> upgrading._Upgrade:
    return upgrading._Upgrade(cast(Any, volume), cast(Any, volume))


FORWARD = ["verify", "start", "make", "exchange upgrade", "up 18"]
BACK = ["start", "stop", "exchange undo", "up 17"]


@pytest.mark.parametrize(
    ("state", "container", "applied", "done"),
    [
        ("nothing 17", 17, 17, FORWARD),
        ("unfinished 17", 17, 17, FORWARD),
        # What was made and not served is made again: 17 went on.
        ("upgraded 17 18", 17, 17, FORWARD),
        # Killed after the exchange; after the old container, after the jobs.
        ("former upgrade 18 17", 17, 17, ["up 18"]),
        ("former upgrade 18 17", 18, 17, ["up 18"]),
        ("former upgrade 18 17", 18, 18, ["up 18"]),
        ("former 18 17", 18, 17, ["up 18"]),
        # The way back, killed.
        ("undone undo 17 18", 18, 18, ["up 17"]),
        ("undone undo 17 18", 17, 17, ["up 17"]),
        # It is done already.
        ("former 18 17", 18, 18, []),
    ],
)
def test_a_killed_upgrade_goes_on_where_it_was(
    state: str, container: int, applied: int, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(state, container, applied, monkeypatch)
    upgrade(volume).forward()
    assert [one for one in volume.done if one != "stop"] == done
    assert volume.told == (17 if "undo " in state else 18)


@pytest.mark.parametrize(
    ("state", "container", "applied", "done"),
    [
        ("former 18 17", 18, 18, BACK),
        ("former upgrade 18 17", 18, 18, BACK),
        # Nobody was let into 18: there is nothing to tell.
        ("former upgrade 18 17", 17, 17, ["stop", "exchange undo", "up 17"]),
        ("undone undo 17 18", 18, 18, ["up 17"]),
        ("undone undo 17 18", 17, 18, ["up 17"]),
        ("upgraded undo 17 18", 17, 17, ["up 17"]),
        ("undone 17 18", 17, 18, ["up 17"]),
    ],
)
def test_a_killed_way_back_goes_on_where_it_was(
    state: str, container: int, applied: int, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIRM", "dev")
    volume = Volume(state, container, applied, monkeypatch)
    upgrade(volume).back()
    assert volume.done == done
    assert volume.told == 17


@pytest.mark.parametrize(
    ("state", "container", "told", "applied", "going", "removed"),
    [
        # Killed before the exchange: `up` refuses the setting, and touches nothing.
        ("unfinished 17 18", 17, 18, 17, False, False),
        ("upgraded 17 18", 17, 18, 17, False, False),
        ("former 18 17", 18, 17, 18, False, False),
        # After it: before the container was replaced, before the jobs were told.
        ("former upgrade 18 17", 17, 18, 17, True, True),
        ("former upgrade 18 17", 18, 18, 17, True, False),
        ("undone undo 17 18", 18, 17, 18, True, True),
        ("undone undo 17 18", 17, 17, 18, True, False),
        ("upgraded undo 17 18", 18, 17, 17, True, True),
        # No upgrade; a setting that somebody edited, of an image that does not say its version.
        ("nothing 17", 17, 17, 17, False, False),
        ("nothing 17", 17, 18, 17, False, False),
        ("nothing", 17, 18, 17, False, False),
        ("nothing", 0, 18, 17, False, False),
    ],
)
def test_up_goes_on_after_the_exchange(
    state: str,
    container: int,
    told: int,
    applied: int,
    going: bool,
    removed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone: list[str] = []
    engine = SimpleNamespace(
        container=lambda _: SimpleNamespace(id="x") if container else None,
        version=lambda _: container,
        remove_container=gone.append,
    )
    monkeypatch.setattr(exchange, "of_volume", lambda *_: exchange.parse(state))
    monkeypatch.setattr(up, "applied_version", lambda _: applied)
    settings = SimpleNamespace(postgres_version=told)
    one = object.__new__(up._Up)
    assert one._goes_on(cast(Any, engine), cast(Any, settings), {}) == going
    assert gone == ["x"] * removed


def test_one_goes_back_from_a_server_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = Volume("former upgrade 18 17", 18, 18, monkeypatch)

    def fails(_: object) -> None:
        raise Failure("it does not start")

    monkeypatch.setattr(upgrading._Upgrade, "_start_server", fails)
    with pytest.raises(UsageError, match="`CONFIRM=dev pandom upgrade --undo"):
        upgrade(volume).back()
    assert volume.done == []
    assert "cannot be told" in capsys.readouterr().err
    monkeypatch.setenv("CONFIRM", "dev")
    upgrade(volume).back()
    assert volume.done == BACK[1:]


@pytest.mark.parametrize(
    ("state", "way", "said"),
    [
        ("former 17", "forward", "`pandom restore --undo --stack dev` serves it again"),
        ("undone 17 18", "forward", "Next: `pandom upgrade --discard --stack dev` removes it"),
        ("former switch 17", "forward", "`pandom restore --switch --stack dev` goes on"),
        ("former switch 17", "back", "`pandom restore --switch --stack dev` goes on"),
        ("restored left 17", "forward", "`restore --switch` was interrupted"),
        ("nothing", "forward", "brought up by an earlier version"),
        ("nothing 17", "back", "lies none of a former version"),
        ("former 17", "back", "lies none of a former version"),
        ("undone 17 18", "back", "lies none of a former version"),
    ],
)
def test_what_cannot_follow_is_refused_with_what_can(
    state: str, way: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(state, 17, 17, monkeypatch)
    with pytest.raises(UsageError) as caught:
        getattr(upgrade(volume), way)()
    assert said in str(caught.value)
    assert volume.done == []
