"""Starts one stand-in: ``start.py docker|postgresql|random|language|waiting [arguments]``.

A plugin is started for every ``pulumi`` command, so its start is paid again and again.
Importing ``pulumi`` takes 0.3 s and brings nothing that a plugin needs; only its protocol
modules do, and these get an empty parent package here.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Final

MODULES: Final = {
    "docker": "docker_provider",
    "language": "language",
    "postgresql": "postgresql_provider",
    "random": "random_provider",
    "waiting": "waiting",
}


def provide_protocol_only() -> None:
    """Make ``pulumi.runtime.proto`` importable without running ``pulumi/__init__.py``."""
    spec = importlib.util.find_spec("pulumi")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit(f"{sys.executable} has no package 'pulumi'; run 'make tools'")
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name, path in (("pulumi", folder), ("pulumi.runtime", folder / "runtime")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def main() -> None:
    """Serve the plugin named by the first argument."""
    root = Path(__file__).resolve().parents[2]
    sys.path[0] = str(root)
    which, *arguments = sys.argv[1:]
    if arguments == ["--version"]:
        versions = importlib.import_module("toolchain.standins")
        print(getattr(versions, f"{which.upper()}_VERSION"), "(stand-in)")
        return
    if which != "waiting":
        provide_protocol_only()
    importlib.import_module(f"toolchain.standins.{MODULES[which]}").main(arguments)


if __name__ == "__main__":
    main()
