"""The host's Go, which builds what no registry has as a binary."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from toolchain import pins, process, search
from toolchain.errors import ToolMissing

HINT: Final = "Is a Go module proxy reachable? Go's own settings (`go env GOPROXY`) apply."
_FLAGS: Final = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off", "CGO_ENABLED": "0"}


def compiler() -> Path | None:
    """Return a Go that is new enough, or None."""
    path = search.on_path("go")
    found = search.version(path, "version") if path else None
    return path if found and found >= pins.GO else None


def build(what: str, module: Path, package: str, target: Path, lock: int, stamp: str = "") -> None:
    """Build a program of a module folder of ours, whose go.sum pins all its sources."""
    process.run(
        what,
        [_needed(what), "build", "-trimpath", "-ldflags", f"-s -w {stamp}", "-o", target, package],
        hint=HINT,
        cwd=module,
        variables=_FLAGS,
        keep=[lock],
    )


def module_folder(what: str, module: Path, path: str, lock: int) -> Path:
    """Fetch one module that ``module`` pins and return the folder of its sources."""
    go = _needed(what)
    process.run(
        what, [go, "mod", "download", path], hint=HINT, cwd=module, variables=_FLAGS, keep=[lock]
    )
    folder = process.output([go, "-C", module, "list", "-mod=readonly", "-m", "-f={{.Dir}}", path])
    if not folder:
        raise ToolMissing(f"{what}: Go does not know the module {path}.\n{HINT}")
    return Path(folder)


def _needed(what: str) -> Path:
    go = compiler()
    if go is None:
        raise ToolMissing(f"{what} must be built, with Go {pins.spell(pins.GO)} or newer on PATH.")
    return go
