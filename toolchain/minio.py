"""The MinIO server's binary, which the image of the object store copies in.

MinIO's upstream is archived and publishes sources only. A release can come from
PATH; otherwise the one version that Go module proxies give everywhere is built.
There is no download: its checksum cannot be pinned without trusting the host.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pandom.runtime.paths import ROOT, cache_home
from toolchain import cache, golang, pins, process, search
from toolchain.report import Step

MODULE: Final = ROOT / "toolchain" / "go_modules" / "minio"
TARGET: Final = ROOT / "app_image" / "artifacts" / "minio"


def _built() -> Path:
    sources = ((MODULE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return cache_home() / "tools" / f"minio-{cache.key(*sources)}"


def release(text: str) -> str | None:
    """Read the release's time from what ``minio --version`` prints; times sort as text."""
    found = re.search(r"RELEASE\.(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ)", text)
    return found[1] if found else None


def find() -> tuple[Path, str] | None:
    """Return the binary and its source, or None if it is still to be built."""
    path = search.on_path("minio")
    found = release(process.output([path, "--version"]) or "") if path else None
    if path and found and found >= pins.MINIO_RELEASE:
        return path, f"PATH, RELEASE.{found}"
    built = _built()
    return (built / "minio", "built with Go") if cache.complete(built) else None


def provide(step: Step) -> None:
    """Provide the binary and put it into the clone."""

    def make(path: Path, lock: int) -> None:
        step.working("building with Go; some 2 minutes on two cores, once")
        golang.build("MinIO", MODULE, ".", path / "minio", lock)
        (path / "minio").chmod(0o755)

    found = find()
    if found is None:
        cache.entry(_built(), "MinIO", make)
        found = _built() / "minio", "built with Go"
    cache.place(found[0], TARGET)
    step.source = f"{found[1]}, {found[0]}"
