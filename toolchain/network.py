"""Official downloads, where the network allows them.

Many networks reach package registries only. A refused download is noticed within
``PROBE_S`` seconds and remembered, so that a run waits for it once; ``make tools``
asks again, ``make up`` and ``make test`` do not.
"""

from __future__ import annotations

import hashlib
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from pandom.runtime.paths import cache_home
from toolchain.errors import ToolMissing

PROBE_S: Final = 4.0
_READ_S: Final = 60.0
_answering: set[str] = set()


def _record() -> Path:
    return cache_home() / "downloads-refused"


def forget_refusal() -> None:
    """Ask again: the network may be another one now."""
    _record().unlink(missing_ok=True)


def refused() -> str | None:
    """Return why downloads were refused, or None if they were not."""
    try:
        return _record().read_text().strip()
    except FileNotFoundError:
        return None


def allowed(url: str) -> bool:
    """Tell within PROBE_S whether a server answers for ``url``.

    In a thread, because looking up a name has no time limit of its own.
    """
    if refused():
        return False
    if url in _answering:
        return True
    answer: list[str] = []
    probe = threading.Thread(target=lambda: answer.append(_probe(url)), daemon=True)
    probe.start()
    probe.join(PROBE_S)
    reason = answer[0] if answer else f"no answer within {PROBE_S:.0f} s"
    if reason:
        _record().parent.mkdir(parents=True, exist_ok=True)
        _record().write_text(f"{url}: {reason}\n")
        return False
    _answering.add(url)
    return True


def _probe(url: str) -> str:
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - our own https URLs
        with urllib.request.urlopen(request, timeout=PROBE_S):  # noqa: S310 - as above
            return ""
    except urllib.error.HTTPError as error:
        # 401 means that the registry is reachable; a proxy that forbids answers otherwise.
        return "" if error.code == 401 else f"HTTP {error.code}"
    except OSError as error:
        return str(error)


def download(url: str, target: Path, sha256: str) -> None:
    """Fetch a file and check it; raises ToolMissing, and leaves nothing then."""
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=_READ_S) as source,  # noqa: S310 - as above
            target.open("wb") as sink,
        ):
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                sink.write(chunk)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise ToolMissing(f"{url} cannot be fetched: {error}") from None
    if digest.hexdigest() != sha256:
        target.unlink(missing_ok=True)
        raise ToolMissing(
            f"{url} is not the expected file:\n  SHA-256 {sha256} was expected,\n"
            f"  {digest.hexdigest()} came.\n"
            "Something on the way changes downloads; tell your network's owner."
        )


def text(url: str) -> str:
    """Fetch a small text; raises ToolMissing."""
    try:
        with urllib.request.urlopen(url, timeout=_READ_S) as source:  # noqa: S310 - as above
            return str(source.read(1 << 20).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise ToolMissing(f"{url} cannot be fetched: {error}") from None
