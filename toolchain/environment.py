"""Finds the tools that ``make tools`` provided; quick, and touches no network."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pandom.runtime import paths
from toolchain import pins, plugins, venv
from toolchain import pulumi_cli as pulumi
from toolchain.errors import ToolMissing


@dataclass(frozen=True)
class Origin:
    """One tool: what it is, which version, from which source, and where it lies."""

    name: str
    version: str
    origin: str
    path: Path


@dataclass(frozen=True)
class Environment:
    """What to lay over ``os.environ`` before Pulumi is started."""

    variables: dict[str, str]
    origins: tuple[Origin, ...]
    standins: bool

    def summary(self) -> str:
        """Return one line for people; `make tools` says where each tool came from."""
        pulumi_cli = self.origins[0]
        plugins = "stand-ins for the plugins (docs/adr/0001-stand-ins.md)"
        return (
            f"{pulumi_cli.name} {pulumi_cli.version}, "
            f"{plugins if self.standins else 'official plugins'}"
        )

    def exports(self) -> str:
        """Return shell lines for using ``pulumi`` by hand; PATH is put in front of the user's."""
        lines = [
            f"export {name}={shlex.quote(value)}"
            for name, value in self.variables.items()
            if name != "PATH"
        ]
        front = self.variables["PATH"].split(os.pathsep)[0]
        return "\n".join([f'export PATH={shlex.quote(front)}:"$PATH"', *lines])


def find() -> Environment:
    """Return the environment for Pulumi, or raise ToolMissing if a tool is not there."""
    cli = pulumi.find()
    if cli is None:
        raise ToolMissing(f"There is no Pulumi CLI {pins.pulumi()}.\nRun `make tools`.")
    if not (venv.LINK / "bin" / "pandom").is_file():
        raise ToolMissing("There is no Python environment in .venv.\nRun `make tools`.")
    if pulumi.find_exec() is None:
        raise ToolMissing(f"There is no {pulumi.EXEC}.\nRun `make tools`.")
    chosen = plugins.chosen()
    front = plugins.links(cli[0], chosen)
    rest = [part for part in os.environ.get("PATH", "").split(os.pathsep) if part != str(front)]
    variables = {
        "PATH": os.pathsep.join([str(front), *rest]),
        "PULUMI_BACKEND_URL": paths.backend_url(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(paths.passphrase_file()),
        # Both would wait for a network that may not be reachable.
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PANDOM_VENV": str(venv.LINK),
        "PYTHONUTF8": "1",  # the program and the stand-ins read files of this clone
    }
    return Environment(
        variables=variables,
        origins=(
            Origin("pulumi", pins.pulumi(), cli[1], cli[0]),
            *(Origin(each.name, each.version, each.origin, each.path) for each in chosen),
        ),
        standins=any(each.standin for each in chosen),
    )
