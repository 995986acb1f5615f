"""Many rounds of up and down: grants on one object, made and destroyed in parallel.

`make soak`; with OFFICIAL=<folder of the official plugins> the same with those. An
interrupted soak goes on where it stopped, as long as the commit is the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures.soak import Progress
from tests.fixtures.stack import Pandom, left_in_docker, new_name, remove

ROUNDS = 20
CLASH = "tuple concurrently updated"


def variables(plugins: str) -> dict[str, str]:
    """What makes `pandom` use the plugins; those that it finds by itself need nothing."""
    if plugins == "found":
        return {}
    folder = os.environ.get("OFFICIAL", "")
    if not Path(folder, "pulumi-resource-postgresql").is_file():
        pytest.skip("OFFICIAL names no folder with the official plugins")
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("plugins", ["found", "official"])
def test_twenty_rounds_of_up_and_down(pytestconfig: pytest.Config, plugins: str) -> None:
    pandom = Pandom(variables=variables(plugins))
    progress = Progress.of(pytestconfig, plugins)
    for number in range(progress.done, ROUNDS):
        name = new_name()
        try:
            made = pandom("up", "--stack", name)
            gone = pandom("down", "--stack", name)
        except BaseException:
            remove(name, pandom)
            raise
        assert CLASH not in made.stderr + gone.stderr
        assert left_in_docker(name) == []
        progress.note(number + 1)
