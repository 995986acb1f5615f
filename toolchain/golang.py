"""The host's Go, which builds what no registry has as a binary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolchain import pins, process, search
from toolchain.errors import ToolMissing

HINT: Final = "Is a Go module proxy reachable? Go's own settings (`go env GOPROXY`) apply."


@dataclass(frozen=True)
class Compiler:
    """A Go that is new enough, or that fetches one that is."""

    path: Path
    variables: dict[str, str]


def compiler() -> Compiler | None:
    """Return the Go on PATH if it can build, or None."""
    path = search.on_path("go")
    found = search.version(path, "version") if path else None
    if path is None or found is None or found < pins.GO_FETCHING:
        return None
    variables = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "CGO_ENABLED": "0"}
    if found < pins.GO:
        # Debian's Go does not download toolchains by default.
        variables["GOTOOLCHAIN"] = f"go{pins.format_version(pins.GO)}"
    return Compiler(path, variables)


def debian_package() -> str | None:
    """Return the Debian package of a Go that will do, if this Debian has one."""
    policy = process.output(["apt-cache", "policy", "golang-go"]) or ""
    candidate = re.search(r"Candidate: (?:\d+:)?([\d.]+)", policy)
    found = pins.version(candidate[1]) if candidate else None
    return "golang-go" if found and found >= pins.GO_FETCHING else None


def build(what: str, module: Path, package: str, target: Path, lock: int, stamp: str = "") -> None:
    """Build a program of a module folder of ours, whose go.sum pins all its sources."""
    go = _needed(what)
    process.run(
        what,
        [go.path, "build", "-trimpath", "-ldflags", f"-s -w {stamp}", "-o", target, package],
        hint=HINT,
        cwd=module,
        variables=go.variables,
        keep=[lock],
    )


def module_folder(what: str, module: Path, path: str, lock: int) -> Path:
    """Fetch one module that ``module`` pins and return the folder of its sources."""
    go = _needed(what)
    process.run(
        what,
        [go.path, "mod", "download", path],
        hint=HINT,
        cwd=module,
        variables=go.variables,
        keep=[lock],
    )
    folder = process.output(
        [go.path, "list", "-m", "-f={{.Dir}}", path], cwd=module, variables=go.variables
    )
    if not folder:
        raise ToolMissing(f"{what}: Go does not know the module {path}.\n{HINT}")
    return Path(folder)


def _needed(what: str) -> Compiler:
    go = compiler()
    if go is None:
        raise ToolMissing(f"{what} must be built with Go, which is not on PATH or too old.")
    return go
