"""Whose stack Docker has, whether it is protected, and what was lost. No I/O."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pandom.config.settings import load
from pandom.host import adopt, identity, repair
from pandom.host.identity import Thing
from pandom.host.stack import Stack
from pandom.host.state import STACK, State
from pandom.runtime.errors import UsageError
from pandom.runtime.naming import LABEL_IDENTITY, LABEL_OWNER, LABEL_PROTECTED, LABEL_STACK, PROJECT

MINE, OTHERS = "mine", "others"


def labels(who: str | None, protected: str = "false") -> dict[str, str]:
    found = {LABEL_STACK: "dev", LABEL_OWNER: PROJECT}
    if who is not None:
        found |= {LABEL_OWNER: f"{who}@host:/home", LABEL_IDENTITY: who, LABEL_PROTECTED: protected}
    return found


def thing(kind: str, id_: str, who: str | None, protected: str = "false") -> Thing:
    return Thing(kind, id_, id_, labels(who, protected))


def resource(kind: str, id_: str, who: str | None) -> dict[str, Any]:
    entries = [{"label": key, "value": value} for key, value in labels(who).items()]
    token = f"docker:index/{kind}:{kind.capitalize()}"
    inputs = {"name": id_, "labels": entries}
    return {"urn": f"u::{token}::{id_}", "type": token, "id": id_, "inputs": inputs, "outputs": {}}


def state(*resources: dict[str, Any], **rest: Any) -> State:
    return State({"deployment": {"resources": list(resources), **rest}})


KNOWN = state(resource("network", "n1", MINE), resource("volume", "data", MINE))
EARLIER = state(resource("network", "n1", None), resource("volume", "data", None))
# After an adoption the volume keeps the labels of its birth.
ADOPTED = state(resource("network", "n1", MINE), resource("volume", "data", OTHERS))


@pytest.mark.requirement("B1")
@pytest.mark.parametrize(
    ("there", "mine", "others"),
    [
        ([], KNOWN, []),
        ([thing("volume", "data", MINE), thing("container", "c1", MINE)], KNOWN, []),
        # A container that a killed run of this state left.
        ([thing("container", "unknown", MINE)], KNOWN, []),
        ([thing("container", "unknown", OTHERS)], KNOWN, ["unknown"]),
        # The names of volumes are the same in every state.
        ([thing("volume", "data", OTHERS)], KNOWN, ["data"]),
        ([thing("volume", "data", OTHERS)], ADOPTED, []),
        ([thing("network", "n2", OTHERS), thing("volume", "data", MINE)], KNOWN, ["n2"]),
        # A state that was lost, or that never was.
        ([thing("volume", "data", MINE)], State(), ["data"]),
        ([thing("volume", "data", None)], State(), ["data"]),
        # What an earlier release made, and its killed run.
        ([thing("network", "n1", None), thing("container", "x", None)], EARLIER, []),
        # Not made by this program at all.
        ([Thing("volume", "data", "data", {LABEL_STACK: "dev"})], State(), []),
    ],
)
def test_whose_it_is(there: list[Thing], mine: State, others: list[str]) -> None:
    assert [one.name for one in identity.foreign(there, mine)] == others
    if others:
        with pytest.raises(UsageError, match="Nothing was touched") as caught:
            identity.refuse("dev", there, mine)
        assert "CONFIRM=dev .venv/bin/pandom adopt --stack dev" in str(caught.value)
    else:
        identity.refuse("dev", there, mine)


def test_what_somebody_gave_a_name_of_the_stack_is_refused() -> None:
    """But a volume that was put back by hand has no labels, and is the stack's."""
    back = Thing("volume", "data", "data", {})
    identity.refuse_namesakes([back], KNOWN)
    for stranger in (back, Thing("container", "c9", "pandom-dev-postgres", {})):
        with pytest.raises(UsageError, match=f"{stranger.kind} {stranger.name}"):
            identity.refuse_namesakes([stranger], State())


def test_what_a_killed_run_had_begun_to_make_is_its_own() -> None:
    begun = {"resource": resource("network", "", MINE), "type": "creating"}
    killed = state(pending_operations=[begun])
    assert identity.foreign([thing("network", "n1", MINE)], killed) == []
    assert identity.foreign([thing("network", "n1", OTHERS)], killed)


def test_the_owner_is_read_where_the_identity_is() -> None:
    """A network of an earlier release keeps labels that say neither."""
    mixed = state(resource("network", "n1", None), resource("container", "c1", MINE))
    assert mixed.label(LABEL_IDENTITY) == MINE
    assert mixed.label(LABEL_OWNER, beside=LABEL_IDENTITY) == f"{MINE}@host:/home"


@pytest.mark.requirement("B1")
@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], False),
        ([thing("container", "c", MINE, "true")], True),
        # Volumes keep the labels of their birth: the containers know better.
        ([thing("container", "c", MINE), thing("volume", "data", MINE, "true")], False),
        ([thing("container", "c", MINE, "true"), thing("volume", "data", MINE)], True),
        ([thing("volume", "data", MINE, "true")], True),
        # Half of a change: some containers are not made anew yet.
        ([thing("container", "c", MINE, "true"), thing("container", "d", MINE)], True),
    ],
)
def test_protection_stands_in_docker(there: list[Thing], expected: bool) -> None:
    assert identity.protected(there) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("config:\n  pandom-stack:protect: true\n", True),
        ("config:\n  pandom-stack:protect: 'true'\n", True),
        ("config:\n  protect: true\n  : : no yaml", True),
        ("config:\n  pandom-stack:protect: false\n", False),
        ("config:\n  # pandom-stack:protect: true\n", False),
    ],
)
def test_protection_in_the_file_counts_unapplied(tmp_path: Path, text: str, expected: bool) -> None:
    place = tmp_path / "Pulumi.dev.yaml"
    place.write_text(text)
    assert identity.file_protects([tmp_path / "none", place]) == expected


@pytest.mark.requirement("B1")
def test_a_renamed_state_is_refused() -> None:
    identity.refuse_renamed("dev", KNOWN)
    identity.refuse_renamed("new", State())
    with pytest.raises(UsageError, match="pulumi stack rename dev "):
        identity.refuse_renamed("other", KNOWN)


def test_found_secrets_replace_made_ones_and_no_others() -> None:
    def made(name: str) -> dict[str, Any]:
        result = {"4dabf18193072939515e22adb298388d": "x", "plaintext": '"new"'}
        token = "random:index/randomPassword:RandomPassword"
        return {"urn": f"u::{token}::{name}-password", "type": token, "outputs": {"result": result}}

    exported = {"deployment": {"resources": [made("pandom-user"), made("pandom-app")]}}
    changed = adopt.with_secrets(exported, {"pandom_user": "old"})
    values = [one["outputs"]["result"]["plaintext"] for one in changed["deployment"]["resources"]]
    assert values == ['"old"', '"new"']
    assert json.dumps(exported).count('\\"new\\"') == 2


def test_a_damaged_state_is_a_message(tmp_path: Path) -> None:
    place = tmp_path / "dev.json"
    assert State.of_file(place).resources == []
    place.write_text("{ half")
    with pytest.raises(UsageError, match="no Pulumi state"):
        State.of_file(place)


class Volumes:
    """An engine that has these volumes."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def has_volume(self, name: str) -> bool:
        return name in list(self.names)


def test_lost_data_wants_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = {"type": STACK, "urn": "s", "outputs": {"stack": "dev"}}
    lost = repair.lost_for_good(Volumes("pandom-dev-data"), state(complete))  # type: ignore[arg-type]
    assert lost == ["pandom-dev-objects"]
    # Nothing was there before a first run was completed.
    assert repair.lost_for_good(Volumes(), KNOWN) == []  # type: ignore[arg-type]
    monkeypatch.delenv("CONFIRM", raising=False)
    durable, ephemeral = load("dev", {}), load("ci", {"profile": "ephemeral"})
    with pytest.raises(UsageError, match=r"the object store.*(?s:.)*CONFIRM=dev"):
        repair.refuse_lost(Stack("dev"), lost, durable)
    repair.refuse_lost(Stack("dev"), [], durable)
    repair.refuse_lost(Stack("ci"), lost, ephemeral)
    monkeypatch.setenv("CONFIRM", "dev")
    repair.refuse_lost(Stack("dev"), lost, durable)
