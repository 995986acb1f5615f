"""Where prepared clusters are kept: in the user's cache, one folder for everything that shapes one.

    environments/<key>/cluster.tar   the server's files
    environments/<key>/state.json    what Pulumi knows of them
    environments/<key>/note.json     digests of both; written last

The key changes with the code that makes a cluster, the revisions, the declaration, the settings,
the images, the tools and the month, for which there are partitions. Old keys go by age, and all by
`make clean`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pandom.host import lock
from pandom.runtime import paths
from pandom.runtime.progress import say
from toolchain import pins

_FOLDERS: Final = ("schema", "migrations", "app_image", "stacks", "toolchain", "pandom")
_FILES: Final = ("__main__.py", "Pulumi.yaml", "requirements.txt")
# What only the host runs shapes no cluster.
_NOT: Final = ("pandom/host", "pandom/ci", "pandom/commands", "app_image/artifacts")
# A prepared cluster that nobody used for so long is removed.
KEPT_S: Final = 14 * 86_400.0
_WAIT_S: Final = 300.0
_FORMAT: Final = "1"


def folder() -> Path:
    """Return where they are kept."""
    return paths.cache_home() / "environments"


@dataclass(frozen=True)
class Prepared:
    """One that is whole."""

    place: Path
    former: str  # the id of the environment that it was taken from
    resources: list[dict[str, Any]]

    @property
    def cluster(self) -> Path:
        """The server's files as a tar."""
        return self.place / "cluster.tar"


def key(settings: Mapping[str, str], base: str) -> str:
    """Return the digest of all that shapes a cluster; ``base`` is the base image's."""
    found = hashlib.sha256()

    def add(*parts: str) -> None:
        found.update("\0".join(parts).encode(errors="surrogateescape") + b"\0\0")

    add(_FORMAT, base, pins.pulumi(), f"{datetime.now(UTC):%Y-%m}", str(os.getuid()))
    add(*(f"{name}={settings[name]}" for name in sorted(settings)))
    for path in _sources(paths.ROOT):
        add(str(path.relative_to(paths.ROOT)), hashlib.sha256(path.read_bytes()).hexdigest())
    return found.hexdigest()[:24]


def _sources(root: Path) -> Iterator[Path]:
    yield from (root / name for name in _FILES)
    for name in _FOLDERS:
        for path in sorted((root / name).rglob("*")):
            inside = path.relative_to(root).as_posix()
            if paths.is_stack_file(path) or "__pycache__" in path.parts or inside.startswith(_NOT):
                continue
            if path.is_file():
                yield path


def find(name: str) -> Prepared | None:
    """Return a prepared cluster; one that is damaged, or was put there by another, is removed."""
    place = folder() / name
    try:
        note = json.loads((place / "note.json").read_text())
        ours = place.stat().st_uid == os.getuid() and place.stat().st_mode & 0o022 == 0
        whole = all(_digest(place / file) == note[file] for file in ("cluster.tar", "state.json"))
        if ours and whole:
            os.utime(place / "note.json")
            return Prepared(place, str(note["id"]), json.loads((place / "state.json").read_text()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if place.exists():
        say("  the prepared cluster in the cache is damaged, or another user's: it is made again")
    shutil.rmtree(place, ignore_errors=True)
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def held(name: str) -> Iterator[None]:
    """Hold a key, for whoever comes first; the others wait for what it makes."""
    with lock.held(paths.cache_home() / "locks" / f"environment-{name}", "The cache", _WAIT_S):
        yield


def keep(
    name: str,
    former: str,
    resources: list[dict[str, Any]],
    write: Callable[[IO[bytes]], None],
) -> None:
    """Put a prepared cluster into place, complete or not at all."""
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    new = Path(tempfile.mkdtemp(dir=folder(), prefix=".new-"))
    try:
        with (new / "cluster.tar").open("wb") as sink:
            write(sink)
        (new / "state.json").write_text(json.dumps(resources))
        note = {file: _digest(new / file) for file in ("cluster.tar", "state.json")}
        (new / "note.json").write_text(json.dumps({"id": former, **note}))
        shutil.rmtree(folder() / name, ignore_errors=True)
        new.rename(folder() / name)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def forget(found: Prepared) -> None:
    """Remove one; the next environment prepares another."""
    shutil.rmtree(found.place, ignore_errors=True)


def forget_old(now: float | None = None) -> list[str]:
    """Remove what nobody used for a while, and what a killed run left; the names."""
    gone = []
    now = time.time() if now is None else now
    for place in sorted(folder().glob("*")) + sorted(folder().glob(".new-*")):
        note = place / "note.json"
        with contextlib.suppress(OSError):
            used = (note if note.exists() else place).stat().st_mtime
            limit = KEPT_S if note.exists() else _WAIT_S * 2
            if now - used > limit:
                shutil.rmtree(place, ignore_errors=True)
                gone.append(place.name)
    return gone
