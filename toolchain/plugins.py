"""The language host and the provider plugins: official ones, or the project's stand-ins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pandom.runtime.paths import ROOT, cache_home
from toolchain import cache, network, pins, search
from toolchain import pulumi_cli as pulumi
from toolchain.report import Step

STANDINS: Final = ROOT / "toolchain" / "standins" / "bin"


@dataclass(frozen=True)
class Plugin:
    """A plugin that Pulumi is going to use, and where it came from."""

    name: str
    version: str
    origin: str
    path: Path

    @property
    def standin(self) -> bool:
        """Tell whether this is the project's own and not the official one."""
        return self.path.parent == STANDINS

    @property
    def linked(self) -> bool:
        """Tell whether Pulumi would find another one, or none, without a link on PATH."""
        if self.standin:
            return True
        return self.origin != "PATH" and search.on_path(self.path.name) is not None


def provider(name: str, version: str) -> Plugin:
    """Choose a provider: exactly this version on PATH, or installed, or the stand-in."""
    program = f"pulumi-resource-{name}"
    path = search.on_path(program)
    if path and search.remembered(path, lambda: pulumi.plugin_version(path)) == version:
        return Plugin(name, version, "PATH", path)
    folder = pulumi.plugin_folder(name, version)
    installed = folder / program
    # The mark that Pulumi leaves while it unpacks a plugin.
    whole = not folder.with_name(f"{folder.name}.partial").exists()
    if whole and os.access(installed, os.X_OK) and installed.is_file():
        return Plugin(name, version, "installed", installed)
    return Plugin(name, version, "stand-in", STANDINS / program)


def providers() -> tuple[Plugin, ...]:
    """Choose all providers that the program needs."""
    return tuple(provider(name, version) for name, version in pins.plugins().items())


def language_host() -> Plugin:
    """Choose the language host: beside the CLI, on PATH, or the stand-in."""
    official = pulumi.find_host()
    if official:
        found = search.on_path(pulumi.HOST)
        origin = "PATH" if official == found else "beside the CLI"
        return Plugin("language host", pins.pulumi(), origin, official)
    return Plugin("language host", pins.pulumi(), "stand-in", STANDINS / pulumi.HOST)


def chosen() -> tuple[Plugin, ...]:
    """Choose the language host and the providers."""
    return (language_host(), *providers())


def provide(step: Step) -> None:
    """Download the official providers that are missing, where the network allows it."""
    source = pulumi.archive_url()
    for plugin in providers():
        if plugin.standin and source and network.allowed(source):
            pulumi.install_plugin(step, plugin.name, plugin.version)
    step.source = ", ".join(f"{each.name} {each.version}: {each.origin}" for each in chosen())


def links(cli: Path, plugins: tuple[Plugin, ...]) -> Path:
    """Return a folder for PATH that holds just what Pulumi would not find by itself."""
    wanted = {each.path.name: each.path for each in plugins if each.linked}
    if cli.is_relative_to(cache_home()):
        wanted["pulumi"] = cli
    script = pulumi.find_exec()
    if script and script != search.on_path(pulumi.EXEC):
        wanted[pulumi.EXEC] = script
    name = cache.key(*(f"{program}={path}" for program, path in sorted(wanted.items())))
    folder = cache_home() / "links" / name
    if not folder.is_dir():
        partial = folder.with_name(f"{name}.{os.getpid()}")
        partial.mkdir(parents=True, exist_ok=True)
        for program, path in wanted.items():
            (partial / program).symlink_to(path)
        try:
            partial.rename(folder)
        except OSError:  # another process was first, with the same links
            for link in partial.iterdir():
                link.unlink()
            partial.rmdir()
    return folder
