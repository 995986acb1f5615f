"""What goes into a build: the files that ``.dockerignore`` lets through.

The digest is the official plugin's, byte by byte: a state that moves between the two must
not rebuild every image. It is taken at every run, so files that have not changed since they
were read for another image of the same run are not read again.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

# A context is kept in memory up to this size, then on disk; bytes.
_IN_MEMORY: Final = 8 * 1024 * 1024

_lock = threading.Lock()
_digests: dict[tuple[str, int, int, int], bytes] = {}


@dataclass(frozen=True)
class _Pattern:
    text: str
    keeps: bool
    expression: re.Pattern[str]


class Ignore:
    """The rules of one ``.dockerignore``: the last pattern that matches decides.

    A pattern matches a path if it matches the path itself or a folder above it.
    """

    def __init__(self, lines: list[str]) -> None:
        self._patterns = [pattern for line in lines if (pattern := _parse(line)) is not None]

    @classmethod
    def of(cls, root: Path, dockerfile: Path) -> Ignore:
        """``<Dockerfile>.dockerignore``, else ``.dockerignore`` at the context's root."""
        for path in (Path(f"{dockerfile}.dockerignore"), root / ".dockerignore"):
            if path.is_file():
                return cls(path.read_text(encoding="utf-8-sig").splitlines())
        return cls([])

    def leaves_out(self, path: str) -> bool:
        """Return whether the path, relative to the root, does not go into the context."""
        parts = path.split("/")
        ways = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        out = False
        for pattern in self._patterns:
            if pattern.keeps == out and any(pattern.expression.fullmatch(way) for way in ways):
                out = not pattern.keeps
        return out

    def may_keep_inside(self, folder: str) -> bool:
        """Return whether something inside a folder that is left out may be kept all the same."""
        inside = f"{folder}/"
        for pattern in self._patterns:
            # Up to its first wildcard a pattern says where it looks.
            plain = re.split(r"[*?\[\\]", pattern.text, maxsplit=1)[0]
            wild = plain != pattern.text
            if pattern.keeps and (plain.startswith(inside) or (wild and inside.startswith(plain))):
                return True
        return False


def _parse(line: str) -> _Pattern | None:
    if line.startswith("#") or not (text := line.strip()):
        return None
    keeps = text.startswith("!")
    if keeps:
        text = text[1:].strip()
    text = posixpath.normpath(text)
    if len(text) > 1:
        text = text.lstrip("/")
    return _Pattern(text, keeps, re.compile(_expression(text), re.DOTALL))


def _expression(text: str) -> str:
    """Translate a pattern: ``**`` crosses folders, ``*`` and ``?`` do not."""
    found = ""
    position = 0
    while position < len(text):
        rest = text[position:]
        if rest.startswith("**"):
            position += 3 if rest.startswith("**/") else 2
            found += ".*" if position >= len(text) else "(.*/)?"
            continue
        character = rest[0]
        position += 1
        if character == "*":
            found += "[^/]*"
        elif character == "?":
            found += "[^/]"
        elif character in "[]":
            found += character
        elif character == "\\" and position < len(text):
            found += re.escape(text[position])
            position += 1
        else:
            found += re.escape(character)
    return found


def _walk(root: Path, ignore: Ignore, folder: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything that is not left out, in the order of the names, folders first."""
    with os.scandir(root / folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        out = ignore.leaves_out(path)
        if not out:
            yield path, entry
        if entry.is_dir(follow_symlinks=False) and (not out or ignore.may_keep_inside(path)):
            yield from _walk(root, ignore, path)


def digest(root: Path, dockerfile: Path) -> str:
    """Return SHA-256 of names, modes and contents of the context, and of the Dockerfile first.

    Raises ``OSError`` if the Dockerfile or a file of the context cannot be read.
    """
    ignore = Ignore.of(root, dockerfile)
    whole = hashlib.sha256()
    # Its own name does not count, as it does not for the builder.
    whole.update(_entry("Dockerfile", "----------", _content(dockerfile, dockerfile.stat())))
    for path, entry in _walk(root, ignore):
        if entry.is_dir(follow_symlinks=False):
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.path.relpath(os.path.realpath(root / path), Path.cwd())
            content = hashlib.sha256(target.encode()).digest()
        elif stat.S_ISREG(status.st_mode):
            content = _content(root / path, status)
        else:
            content = hashlib.sha256().digest()
        whole.update(_entry(path, _go_mode(status.st_mode), content))
    return whole.hexdigest()


def _entry(name: str, mode: str, content: bytes) -> bytes:
    return name.encode() + mode.encode() + content + b"\0"


def _content(path: Path, status: os.stat_result) -> bytes:
    key = (os.path.realpath(path), status.st_ino, status.st_mtime_ns, status.st_size)
    with _lock:
        known = _digests.get(key)
    if known is None:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").digest()
        with _lock:
            _digests[key] = known
    return known


def _go_mode(mode: int) -> str:
    """Return the mode as Go prints it: one letter per kind, then the nine permissions."""
    kinds = (
        ("d", stat.S_ISDIR(mode)),
        ("L", stat.S_ISLNK(mode)),
        ("D", stat.S_ISBLK(mode) or stat.S_ISCHR(mode)),
        ("p", stat.S_ISFIFO(mode)),
        ("S", stat.S_ISSOCK(mode)),
        ("u", mode & stat.S_ISUID),
        ("g", mode & stat.S_ISGID),
        ("c", stat.S_ISCHR(mode)),
        ("t", mode & stat.S_ISVTX),
    )
    letters = "".join(letter for letter, is_so in kinds if is_so)
    return (letters or "-") + "".join(
        letter if mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")
    )


def archive(root: Path, dockerfile: Path) -> tuple[IO[bytes], str]:
    """Return the context as a tar file, and the Dockerfile's name in it.

    Everything belongs to root, so that the builder's cache does not depend on who builds.
    The Dockerfile and ``.dockerignore`` go in even if they are left out: the builder reads
    them. Raises ``OSError`` if the Dockerfile is not inside the context.
    """
    inside = os.path.relpath(dockerfile, root)
    if inside.startswith("../"):
        raise OSError(f"{dockerfile} is not inside the build context {root}")
    ignore = Ignore.of(root, dockerfile)
    paths = [path for path, _ in _walk(root, ignore)]
    needed = [name for name in (".dockerignore", inside) if (root / name).is_file()]
    # The caller closes it, after the build.
    file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for path in sorted({*paths, *needed}):
            packed.add(root / path, arcname=path, recursive=False, filter=_owned_by_root)
    file.seek(0)
    return file, inside


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
