"""Which versions are wanted, read from the files that pin them, and their comparison."""

from __future__ import annotations

import re
from typing import Final

from pandom.runtime.paths import ROOT

Version = tuple[int, ...]

REQUIREMENTS: Final = ROOT / "requirements.txt"
IMAGE_REQUIREMENTS: Final = ROOT / "app_image" / "operations" / "requirements.txt"

# go.mod of the Pulumi CLI says the same; a test compares them.
GO: Final[Version] = (1, 25, 11)
# An older Go from this version on fetches the wanted one through its module proxy.
GO_FETCHING: Final[Version] = (1, 21)
PYTHON: Final[Version] = (3, 11)
# The oldest engine that was tried (Debian bookworm's docker.io).
DOCKER: Final[Version] = (20, 10)
# Older MinIO releases have CVE-2025-62506; the one built from the Go module is
# older still and is taken only where nothing newer can be had.
MINIO_RELEASE: Final = "2025-10-15T17-29-55Z"


def version(text: str) -> Version | None:
    """Read the first version number in a text: "go version go1.25.11 linux" is (1, 25, 11)."""
    found = re.search(r"(?<![\d.])v?(\d+(?:\.\d+)+)", re.sub(r"\bgo(?=\d)", "", text))
    return tuple(int(part) for part in found[1].split(".")) if found else None


def format_version(parts: Version) -> str:
    """Write a version as people do."""
    return ".".join(str(part) for part in parts)


def pinned(package: str, requirements: str | None = None) -> str:
    """Read the version of a package from requirements.txt (``package==version``)."""
    text = REQUIREMENTS.read_text() if requirements is None else requirements
    found = re.search(rf"(?m)^{re.escape(package)}==([\w.]+)", text)
    if not found:
        raise LookupError(f"requirements.txt pins no {package}")
    return found[1]


def pulumi() -> str:
    """Return the version of the CLI: the SDK's, so that the two cannot part."""
    return pinned("pulumi")


def plugins() -> dict[str, str]:
    """Return the provider plugins that the program needs: name to exact version."""
    return {name: pinned(f"pulumi-{name}") for name in ("docker", "postgresql", "random")}


def satisfies(found: Version | None, wanted: str) -> bool:
    """Return whether a CLI of version ``found`` does what ``wanted`` does: newer, same major."""
    least = version(wanted)
    return found is not None and least is not None and found[0] == least[0] and found >= least
